//! Keystone and Nova.

use std::path::PathBuf;
use std::time::Duration;

/// What the Nova adapter needs to know.
#[derive(Debug, Clone)]
pub struct NovaSettings {
    /// `clouds.yaml`.
    pub clouds_file: PathBuf,
    /// The entry in it.
    pub cloud: String,
    /// Total time-out of one call.
    pub timeout: Duration,
}
