//! Block devices: whether one comes over a network that other hosts can reach too, as far as the kernel can tell.
//!
//! Sources: sysfs(5); the SCSI transport classes (`session…` = iSCSI, `rport-…` = Fibre Channel in a device's path); `dm/uuid`
//! prefixes (`mpath-`, `CRYPT-`, as multipath-tools and cryptsetup write them); NVMe's `transport` attribute.

use std::fs;
use std::path::Path;

use rekindle_proto::fact::DiskPlacement;

/// Deepest stack of device-mapper layers followed: multipath under encryption is two.
const LAYERS_MAX: usize = 4;

/// Where a block device lies. [`DiskPlacement::Shared`] is only said when the kernel names a network transport; nothing
/// here says [`DiskPlacement::Local`], as a SAS disk may well be cabled to two hosts. DRBD and LVM are unknown: whether
/// another host may open them is a matter of their own configuration.
///
/// `sys` is `/sys`; `device` a path such as `/dev/disk/by-path/…`, whose links lie on the local `/dev`.
pub(super) fn placement(sys: &Path, device: &Path) -> DiskPlacement {
    let Ok(real) = fs::canonicalize(device) else { return DiskPlacement::Unknown };
    match real.file_name().and_then(|name| name.to_str()) {
        Some(name) if is_networked(sys, name, 0) => DiskPlacement::Shared,
        Some(_) | None => DiskPlacement::Unknown,
    }
}

fn is_networked(sys: &Path, name: &str, layer: usize) -> bool {
    if layer > LAYERS_MAX {
        return false;
    }
    let Ok(device) = fs::canonicalize(sys.join("class/block").join(name)) else { return false };
    if name.starts_with("rbd") {
        return true;
    }
    if name.starts_with("dm-") {
        let layered = fs::read_to_string(device.join("dm/uuid"))
            .is_ok_and(|uuid| uuid.starts_with("mpath-") || uuid.starts_with("CRYPT-"));
        return layered && every(&device.join("slaves"), |slave| is_networked(sys, slave, layer + 1));
    }
    if name.starts_with("nvme") {
        return is_nvme_fabric(&device.join("device"));
    }
    let below = |prefix: &str| device.iter().any(|part| part.to_str().is_some_and(|part| part.starts_with(prefix)));
    below("session") || below("rport-")
}

/// With native multipath, the device is a subsystem with a directory per controller; without, it is the controller.
fn is_nvme_fabric(controller: &Path) -> bool {
    let over_network = |dir: &Path| {
        fs::read_to_string(dir.join("transport")).is_ok_and(|kind| matches!(kind.trim(), "tcp" | "rdma" | "fc"))
    };
    over_network(controller) || every_where(controller, is_controller, |name| over_network(&controller.join(name)))
}

/// `nvme0`, but not `nvme0n1` or `nvme0c0n1`.
fn is_controller(name: &str) -> bool {
    name.strip_prefix("nvme")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether there is an entry, and all of them satisfy `holds`.
fn every(dir: &Path, holds: impl Fn(&str) -> bool) -> bool {
    every_where(dir, |_| true, holds)
}

fn every_where(dir: &Path, counts: impl Fn(&str) -> bool, holds: impl Fn(&str) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| counts(name))
        .collect();
    !names.is_empty() && names.iter().all(|name| holds(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Its name, its directory below `devices`, files in it.
    type Device<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    /// A `/sys` with the given devices.
    fn sys(devices: &[Device<'_>]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir_all(dir.path().join("class/block")).expect("dir");
        fs::create_dir_all(dir.path().join("dev")).expect("dir");
        for (name, place, files) in devices {
            let place = dir.path().join("devices").join(place);
            for (file, text) in *files {
                let file = place.join(file);
                fs::create_dir_all(file.parent().expect("parent")).expect("dir");
                fs::write(file, text).expect("file");
            }
            fs::create_dir_all(&place).expect("dir");
            symlink(&place, dir.path().join("class/block").join(name)).expect("link");
            fs::write(dir.path().join("dev").join(name), "").expect("file");
        }
        dir
    }

    #[test]
    fn only_a_network_transport_is_shared() {
        let dir = sys(&[
            ("sda", "pci0/ata1/host0/target0:0:0/0:0:0:0/block/sda", &[]),
            ("sdb", "platform/host2/session1/target2:0:0/2:0:0:1/block/sdb", &[]),
            ("sdc", "pci0/host3/rport-3:0-1/target3:0:0/3:0:0:0/block/sdc", &[]),
            ("dm-0", "virtual/block/dm-0", &[("dm/uuid", "mpath-36001405\n"), ("slaves/sdb", ""), ("slaves/sdc", "")]),
            ("dm-1", "virtual/block/dm-1", &[("dm/uuid", "CRYPT-LUKS2-x"), ("slaves/dm-0", "")]),
            ("dm-2", "virtual/block/dm-2", &[("dm/uuid", "mpath-local"), ("slaves/sda", ""), ("slaves/sdb", "")]),
            ("dm-3", "virtual/block/dm-3", &[("dm/uuid", "LVM-abc"), ("slaves/sdb", "")]),
            ("dm-4", "virtual/block/dm-4", &[("dm/uuid", "mpath-empty")]),
            ("rbd0", "rbd/0/block/rbd0", &[]),
            ("nvme0n1", "pci1/nvme/nvme0/nvme0n1", &[("device/transport", "pcie\n")]),
            ("nvme1n1", "virtual/nvme-fabrics/nvme1/nvme1n1", &[("device/transport", "tcp\n")]),
            (
                "nvme2n1",
                "virtual/nvme-subsystem/s/nvme2n1",
                &[("device/nvme2/transport", "rdma"), ("device/nvme2n1/x", "")],
            ),
            ("nvme3n1", "virtual/nvme-subsystem/t/nvme3n1", &[("device/nvme3/transport", "pcie")]),
            ("drbd1", "virtual/block/drbd1", &[]),
        ]);
        let shared = ["sdb", "sdc", "dm-0", "dm-1", "rbd0", "nvme1n1", "nvme2n1"];
        let all = [
            "sda", "sdb", "sdc", "dm-0", "dm-1", "dm-2", "dm-3", "dm-4", "rbd0", "nvme0n1", "nvme1n1", "nvme2n1",
            "nvme3n1", "drbd1",
        ];
        for name in all {
            let expected = if shared.contains(&name) { DiskPlacement::Shared } else { DiskPlacement::Unknown };
            assert_eq!(placement(dir.path(), &dir.path().join("dev").join(name)), expected, "{name}");
        }
        symlink("sdb", dir.path().join("dev/by-path")).expect("link");
        assert_eq!(placement(dir.path(), &dir.path().join("dev/by-path")), DiskPlacement::Shared);
        assert_eq!(placement(dir.path(), &dir.path().join("dev/vanished")), DiskPlacement::Unknown);
    }
}
