//! The mark beside a store: which store was here last, how often it was opened, and in which term it last voted. A copy of
//! the file from before (a restored backup, a snapshot of the machine, a torn write) lacks what the mark has: it may have
//! forgotten an oath, and its id never votes again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rekindle_proto::id::StoreId;
use serde::{Deserialize, Serialize};

/// Longest mark read, in bytes: an id and two numbers.
const MARK_BYTES_MAX: u64 = 4_096;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) store: StoreId,
    pub(super) life: u64,
    pub(super) term: u64,
}

impl Mark {
    /// Where the mark of a store in `dir` lies: beside the directory, so that whoever restores or removes the directory
    /// leaves it.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.with_extension("mark")
    }

    /// What is there. A mark that cannot be understood is an error: to guess would be to trust an older store.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(found) if found.len() > MARK_BYTES_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no mark: it is too long"));
            }
            Ok(_) => {}
        }
        let mark = serde_json::from_slice(&fs::read(path)?);
        mark.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Puts it on disk: the old one or the new one is there after a crash, never half of one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("mark.new");
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let mut file = File::create(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}
