//! `[notifications]`.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;

use super::checker::Checker;
use super::file::NotificationsTable;
use super::rules::SOCKET_PATH_BYTES_MAX;
use crate::notify::{NotificationSettings, WebhookSettings};

/// For one try, if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn check(on: &mut Checker, table: &NotificationsTable, admin_socket: &Path) -> NotificationSettings {
    let socket = table.socket.as_deref().map(|given| on.path("notifications.socket", given));
    if let Some(socket) = &socket {
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let rule = format!("must have at most {SOCKET_PATH_BYTES_MAX} bytes as an absolute path");
            let why = "the kernel takes no longer path for a Unix socket (unix(7))";
            on.refuse("notifications.socket", rule, why);
        }
        if socket == admin_socket {
            let why = "one is read, the other asked";
            on.refuse("notifications.socket", "must not be member.admin_socket", why);
        }
    }
    NotificationSettings { socket, webhook: webhook(on, table) }
}

fn webhook(on: &mut Checker, table: &NotificationsTable) -> Option<WebhookSettings> {
    let Some(given) = table.webhook.as_deref() else {
        for (key, is_given) in [
            ("notifications.webhook_secret_file", table.webhook_secret_file.is_some()),
            ("notifications.webhook_ca_file", table.webhook_ca_file.is_some()),
            ("notifications.webhook_timeout", table.webhook_timeout.is_some()),
        ] {
            if is_given {
                on.refuse(key, "needs notifications.webhook", "without an address nothing is posted");
            }
        }
        return None;
    };
    address(on, given);
    let bounds = (Duration::from_secs(1), Duration::from_secs(60));
    let why = "a slow receiver holds up all that comes after; a longer wait is a retry";
    let timeout = on.duration("notifications.webhook_timeout", table.webhook_timeout.as_deref(), TIMEOUT, bounds, why);
    let ca_file = table.webhook_ca_file.as_deref().map(|given| on.path("notifications.webhook_ca_file", given));
    let Some(secret) = table.webhook_secret_file.as_deref() else {
        let why = "by its signature a receiver knows that a post is ours";
        on.refuse("notifications.webhook_secret_file", "must be given with notifications.webhook", why);
        return None;
    };
    let secret_file = on.path("notifications.webhook_secret_file", secret);
    Some(WebhookSettings { url: given.to_owned(), secret_file, ca_file, timeout })
}

/// None of it is shown: senders' tokens are often part of such addresses.
fn address(on: &mut Checker, given: &str) {
    const KEY: &str = "notifications.webhook";
    let Ok(url) = Url::parse(given) else {
        return on.refuse_unshown(KEY, "must be a URL", "\"https://hooks.example.org/rekindle\"");
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        on.refuse_unshown(KEY, "must be http:// or https:// and a host", "\"https://hooks.example.org/rekindle\"");
    }
    if !url.username().is_empty() || url.password().is_some() {
        on.refuse_unshown(KEY, "must hold no user and password", "secrets lie in files; the signature says who posts");
    }
    if url.fragment().is_some() {
        on.refuse_unshown(KEY, "must have no #fragment", "it is not sent");
    }
}
