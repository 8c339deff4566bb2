//! Where a guest's disks lie: whether another host could open them. Read from its domain XML.
//!
//! Source: libvirt's `formatdomain` (elements `disk`, `source`, `backingStore`).

use std::path::{Path, PathBuf};

use rekindle_proto::fact::DiskPlacement;
use roxmltree::{Document, Node, ParsingOptions};

use super::{block, mounts::MountTable};

/// Longest domain XML we read, in bytes: libvirt's own bound on one string over its protocol is 4 MiB
/// (`REMOTE_STRING_MAX`); a guest with a hundred disks has about 100 KiB.
const XML_BYTES_MAX: usize = 1 << 20;

/// Most elements and texts in it: far more than any guest has, few enough to parse in milliseconds.
const XML_NODES_MAX: u32 = 50_000;

/// This host's storage, as far as a path can be judged by it.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) mounts: MountTable,
    /// `/sys`.
    pub(super) sys: PathBuf,
}

impl Storage {
    /// Reads the mount table. Without it (no `/proc`), every file counts as local.
    pub(super) fn read() -> Self {
        let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self { mounts: MountTable::parse(&String::from_utf8_lossy(&mountinfo)), sys: PathBuf::from("/sys") }
    }
}

/// Where the disks of this domain lie. One local disk makes the guest local; else one unknown makes it unknown.
/// CD-ROMs, floppies, empty drives and Nova's own configuration disk do not count: Nova makes them anew.
pub(super) fn placement(xml: &str, storage: &Storage) -> DiskPlacement {
    if xml.len() > XML_BYTES_MAX {
        return DiskPlacement::Unknown;
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: XML_NODES_MAX, ..ParsingOptions::default() };
    let Ok(document) = Document::parse_with_options(xml, options) else { return DiskPlacement::Unknown };
    let Some(devices) = child(document.root_element(), "devices") else { return DiskPlacement::Shared };
    let disks = devices.children().filter(|node| node.has_tag_name("disk") && is_kept(*node));
    disks.map(|disk| with_backing(disk, storage)).fold(DiskPlacement::Shared, worse)
}

/// Whether losing it would lose data.
fn is_kept(disk: Node<'_, '_>) -> bool {
    if matches!(disk.attribute("device"), Some("cdrom" | "floppy")) {
        return false;
    }
    let Some(source) = child(disk, "source") else { return false };
    // Nova writes its configuration disk anew wherever it spawns a guest (nova/virt/libvirt/driver.py).
    !source.attribute("file").is_some_and(|file| file.ends_with("/disk.config"))
}

/// The disk itself and every image below it: a copy-on-write disk is worth nothing without its base.
fn with_backing(disk: Node<'_, '_>, storage: &Storage) -> DiskPlacement {
    let layers = std::iter::successors(Some(disk), |layer| child(*layer, "backingStore"));
    layers
        .filter_map(|layer| child(layer, "source").map(|source| of_source(layer.attribute("type"), source, storage)))
        .fold(DiskPlacement::Shared, worse)
}

fn of_source(kind: Option<&str>, source: Node<'_, '_>, storage: &Storage) -> DiskPlacement {
    let path = |name| source.attribute(name).map(Path::new).filter(|path| path.is_absolute());
    match kind {
        Some("network") => {
            // A Unix socket leads to something on this host, whatever that is.
            let hosts = source.children().filter(|node| node.has_tag_name("host"));
            let here = hosts.filter(|host| host.attribute("transport") == Some("unix")).count() > 0;
            if here { DiskPlacement::Unknown } else { DiskPlacement::Shared }
        }
        // Only pools of network kinds can be opened directly; of others, the domain does not say what they are.
        Some("volume") if source.attribute("mode") == Some("direct") => DiskPlacement::Shared,
        Some("file") => path("file").map_or(DiskPlacement::Unknown, |path| storage.mounts.placement(path)),
        Some("dir") => path("dir").map_or(DiskPlacement::Unknown, |path| storage.mounts.placement(path)),
        Some("block") => path("dev").map_or(DiskPlacement::Unknown, |path| block::placement(&storage.sys, path)),
        // A PCI device of this host.
        Some("nvme") => DiskPlacement::Local,
        Some(_) | None => DiskPlacement::Unknown,
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn worse(a: DiskPlacement, b: DiskPlacement) -> DiskPlacement {
    use DiskPlacement::{Local, Shared, Unknown};
    match (a, b) {
        (Local, _) | (_, Local) => Local,
        (Unknown, _) | (_, Unknown) => Unknown,
        (Shared, Shared) => Shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DiskPlacement::{Local, Shared, Unknown};

    fn storage(root: &Path) -> Storage {
        let nfs = root.join("nfs");
        let mountinfo =
            format!("1 0 1:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {} rw - nfs4 filer:/ rw\n", nfs.display());
        Storage { mounts: MountTable::parse(&mountinfo), sys: root.join("sys") }
    }

    #[test]
    fn one_local_disk_makes_a_guest_local() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().canonicalize().expect("path");
        std::fs::write(root.join("disk"), "").expect("file");
        std::fs::write(root.join("disk.config"), "").expect("file");
        let storage = storage(&root);
        let rbd = "<disk type='network' device='disk'><source protocol='rbd' name='v/1'><host name='mon' port='6789'/></source></disk>";
        let local = format!("<disk type='file' device='disk'><source file='{}/disk'/></disk>", root.display());
        let config = format!("<disk type='file' device='disk'><source file='{}/disk.config'/></disk>", root.display());
        let nfs = format!("<disk type='file'><source file='{}/nfs/x/disk'/></disk>", root.display());
        let overlay = format!(
            "<disk type='file'><source file='{0}/nfs/x/disk'/><backingStore type='file'><source file='{0}/disk'/><backingStore/></backingStore></disk>",
            root.display()
        );
        let vanished = format!("<disk type='file'><source file='{}/vanished'/></disk>", root.display());
        let cdrom = format!("<disk type='file' device='cdrom'><source file='{}/disk'/></disk>", root.display());
        let block = "<disk type='block'><source dev='/dev/vanished'/></disk>";
        let nbd =
            "<disk type='network'><source protocol='nbd'><host transport='unix' socket='/run/nbd'/></source></disk>";
        let table: Vec<(&str, Vec<&str>, DiskPlacement)> = vec![
            ("none", vec![], Shared),
            ("rbd", vec![rbd], Shared),
            ("nfs", vec![&nfs, rbd], Shared),
            ("local", vec![rbd, &local], Local),
            ("local before unknown", vec![&vanished, &local, rbd], Local),
            ("unknown before shared", vec![rbd, block], Unknown),
            ("vanished", vec![&vanished], Unknown),
            ("overlay on a local base", vec![&overlay], Local),
            ("cdrom, config and empty", vec![&cdrom, &config, "<disk type='file' device='disk'/>"], Shared),
            ("nbd over a Unix socket", vec![nbd], Unknown),
            ("pool", vec!["<disk type='volume'><source pool='p' volume='v'/></disk>"], Unknown),
            ("pool, direct", vec!["<disk type='volume'><source pool='p' volume='v' mode='direct'/></disk>"], Shared),
            ("nvme", vec!["<disk type='nvme'><source type='pci' namespace='1'/></disk>"], Local),
            ("vhost-user", vec!["<disk type='vhostuser'><source type='unix' path='/x'/></disk>"], Unknown),
            ("relative path", vec!["<disk type='file'><source file='disk'/></disk>"], Unknown),
        ];
        for (case, disks, expected) in table {
            let xml = format!("<domain type='kvm'><name>x</name><devices>{}</devices></domain>", disks.concat());
            assert_eq!(placement(&xml, &storage), expected, "{case}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let storage = storage(Path::new("/nonexistent"));
        assert_eq!(placement("<domain", &storage), Unknown);
        assert_eq!(placement("<!DOCTYPE x [<!ENTITY a 'b'>]><domain/>", &storage), Unknown);
        let long = format!("<domain>{}</domain>", " ".repeat(XML_BYTES_MAX));
        assert_eq!(placement(&long, &storage), Unknown);
        let many = format!("<domain><devices>{}</devices></domain>", "<a/>".repeat(60_000));
        assert_eq!(placement(&many, &storage), Unknown);
        assert_eq!(placement("<domain/>", &storage), Shared);
    }
}
