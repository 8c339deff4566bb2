//! The mount table: whether a path lies on storage that other hosts see too.
//!
//! Source: `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rekindle_proto::fact::DiskPlacement;

/// File systems that several hosts mount at once.
const SHARED: [&str; 22] = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.beegfs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.lizardfs",
    "fuse.mfs",
    "fuse.moosefs",
    "fuse.quobyte",
    "fuse.seaweedfs",
    "fuse.vstorage",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ocfs2",
    "smb3",
    "wekafs",
];

/// Most symbolic links followed in one path: the kernel's own bound (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
}

/// All mounts as this process sees them.
#[derive(Debug, Clone, Default)]
pub(super) struct MountTable(Vec<Mount>);

impl MountTable {
    /// Reads a `mountinfo` text. Lines that are not understood are left out.
    pub(super) fn parse(mountinfo: &str) -> Self {
        Self(mountinfo.lines().filter_map(parse_line).collect())
    }

    /// Whether the file system of this path, taken literally, is one that other hosts mount too. A later mount on the
    /// same point covers an earlier one.
    fn is_shared(&self, path: &Path) -> bool {
        self.0
            .iter()
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())
            .is_some_and(|mount| is_shared_kind(&mount.kind))
    }

    /// Where a file or directory lies: [`DiskPlacement::Unknown`] if it is not there, or not to be seen by this user.
    ///
    /// Symbolic links are followed one by one, and nothing on shared storage is ever touched: a look at an NFS mount
    /// whose server is gone would block this thread for ever, just when the answer matters.
    pub(super) fn placement(&self, path: &Path) -> DiskPlacement {
        let mut links = 0;
        let mut done = PathBuf::from("/");
        let mut todo: Vec<OsString> = reversed(path);
        while let Some(name) = todo.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            if self.is_shared(&next) {
                return DiskPlacement::Shared;
            }
            match std::fs::symlink_metadata(&next) {
                Ok(found) if found.file_type().is_symlink() => {
                    links += 1;
                    let Ok(target) = std::fs::read_link(&next) else { return DiskPlacement::Unknown };
                    if links > LINKS_MAX {
                        return DiskPlacement::Unknown;
                    }
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    todo.extend(reversed(&target));
                }
                Ok(_) => done = next,
                Err(_) => return DiskPlacement::Unknown,
            }
        }
        DiskPlacement::Local
    }
}

/// The names of a path, last first, without `/` and `.`.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect::<Vec<_>>().into_iter().rev().collect()
}

fn is_shared_kind(kind: &str) -> bool {
    matches!(kind, "nfs" | "nfs4") || SHARED.contains(&kind)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let point = head.split(' ').nth(4)?;
    let kind = tail.split(' ').next()?;
    Some(Mount { point: unescape(point), kind: kind.to_owned() })
}

/// The kernel writes space, tab, newline and backslash as `\040`, `\011`, `\012` and `\134`.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let octal = (*byte == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(*byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_longest_mount_decides_and_the_last_covers() {
        let table = MountTable::parse(
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
             40 27 0:40 / /srv rw shared:1 master:2 - nfs4 filer:/srv rw,vers=4.2\n\
             41 40 254:1 / /srv/fast rw - xfs /dev/vdb rw\n\
             42 27 0:42 / /srv\\040two rw - ceph mon:/ rw\n\
             43 27 0:43 / /over rw - nfs filer:/o rw\n\
             44 43 0:44 / /over rw - tmpfs tmpfs rw\n\
             nonsense\n",
        );
        let table_of = [
            ("/srv/a", true),
            ("/srv", true),
            ("/srvice/a", false),
            ("/srv/fast/a", false),
            ("/srv two/a", true),
            ("/over/a", false),
            ("/a", false),
        ];
        for (path, shared) in table_of {
            assert_eq!(table.is_shared(Path::new(path)), shared, "{path}");
        }
        for (kind, shared) in
            [("nfs4", true), ("fuse.glusterfs", true), ("fuse.sshfs", false), ("ext4", false), ("overlay", false)]
        {
            assert_eq!(is_shared_kind(kind), shared, "{kind}");
        }
    }

    #[test]
    fn links_are_followed_up_to_shared_storage_and_no_further() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().canonicalize().expect("path");
        std::fs::create_dir_all(root.join("local")).expect("dir");
        std::fs::write(root.join("local/disk"), "").expect("file");
        symlink(root.join("nfs/instances"), root.join("instances")).expect("link");
        symlink("local", root.join("relative")).expect("link");
        symlink("../local/../loop", root.join("loop")).expect("link");
        let table = MountTable::parse(&format!(
            "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {}/nfs rw - nfs4 filer:/ rw\n",
            root.display()
        ));
        let placed = |path: &str| table.placement(&root.join(path));
        // The mount point does not even exist here: it is not touched.
        assert_eq!(placed("nfs/instances/x/disk"), DiskPlacement::Shared);
        assert_eq!(placed("instances/x/disk"), DiskPlacement::Shared);
        assert_eq!(placed("local/disk"), DiskPlacement::Local);
        assert_eq!(placed("relative/disk"), DiskPlacement::Local);
        assert_eq!(placed("local/../relative/./disk"), DiskPlacement::Local);
        assert_eq!(placed("local/vanished"), DiskPlacement::Unknown);
        assert_eq!(placed("loop/disk"), DiskPlacement::Unknown);
    }
}
