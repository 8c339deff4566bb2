//! Fence devices.

use std::path::PathBuf;

use rekindle_coordinator::policy::DeviceRule;

/// How to reach the devices of one rule.
#[derive(Debug, Clone)]
pub struct DeviceAccess {
    /// Which hosts, which driver, which address.
    pub rule: DeviceRule,
    /// The user.
    pub username: String,
    /// A file with the password, mode 0600.
    pub password_file: PathBuf,
    /// RMCP+ cipher suite: 17 or 3.
    pub cipher_suite: u8,
}
