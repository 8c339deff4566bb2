//! Notifications to the outside: a local socket for any reader, and the site's webhook. What is told, and when, the
//! coordinator says; here it is only carried.

mod socket;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

pub use socket::EventSocket;
pub use webhook::{SECRET_BYTES_MAX, SECRET_BYTES_MIN, Webhook, read_secret};

/// `[notifications]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotificationSettings {
    /// Where readers connect, if anywhere.
    pub socket: Option<PathBuf>,
    /// Whither the leader posts, if anywhere.
    pub webhook: Option<WebhookSettings>,
}

/// The site's webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// `http` or `https`, without credentials.
    pub url: String,
    /// The key of the signature: read anew for each try, so that it can be changed under us.
    pub secret_file: PathBuf,
    /// Certificates trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// For one try, in total.
    pub timeout: Duration,
}
