//! Who this machine is, by its kernel's word.

use std::fs;
use std::path::Path;

use rekindle_proto::id::{BootId, SystemUuid};
use tracing::warn;

/// This boot of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The SMBIOS system UUID (System Management BIOS specification, section 7.2.1), readable by root.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";

/// Why the machine could not be told.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The kernel does not say.
    #[error("cannot read {path}, which every Linux has: is /proc mounted?")]
    Unreadable {
        /// Which file.
        path: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Not a UUID.
    #[error("{path} holds {text:?}, which is not a UUID")]
    NotAUuid {
        /// Which file.
        path: &'static str,
        /// What it holds.
        text: String,
    },
}

/// This boot.
///
/// # Errors
/// [`MachineError`] if `/proc` does not say.
pub fn boot_id() -> Result<BootId, MachineError> {
    let text = fs::read_to_string(BOOT_ID).map_err(|source| MachineError::Unreadable { path: BOOT_ID, source })?;
    let text = text.trim();
    text.parse().map_err(|_| MachineError::NotAUuid { path: BOOT_ID, text: text.to_owned() })
}

/// This machine's SMBIOS system UUID: the configured one, or the one the kernel shows; `None` if neither is known or the
/// firmware left it blank.
#[must_use]
pub fn system_uuid(configured: Option<SystemUuid>) -> Option<SystemUuid> {
    configured.or_else(|| read_system_uuid(Path::new(PRODUCT_UUID)))
}

fn read_system_uuid(path: &Path) -> Option<SystemUuid> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            warn!(path = %path.display(), %error, "the system UUID cannot be read: fence devices cannot be bound by it");
            return None;
        }
    };
    let uuid: SystemUuid = text.trim().parse().ok()?;
    // All zeros and all ones mean "not set": many boards share them, so they identify nothing.
    (!uuid.0.is_nil() && !uuid.0.is_max()).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_the_same_until_the_next() {
        let boot = boot_id().expect("Linux says");
        assert_eq!(boot, boot_id().expect("Linux says"));
        assert!(!boot.0.is_nil());
    }

    #[test]
    fn the_configured_uuid_wins_and_blanks_count_as_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("product_uuid");
        let read = |text: &str| {
            fs::write(&file, text).expect("writes");
            read_system_uuid(&file)
        };
        let uuid: SystemUuid = "4c4c4544-0042-3510-8054-b4c04f5a3732".parse().expect("a UUID");
        assert_eq!(read("4C4C4544-0042-3510-8054-B4C04F5A3732\n"), Some(uuid));
        for blank in
            ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "Not Settable", ""]
        {
            assert_eq!(read(blank), None, "{blank}");
        }
        assert_eq!(read_system_uuid(&dir.path().join("none")), None);
        assert_eq!(system_uuid(Some(uuid)), Some(uuid));
    }
}
