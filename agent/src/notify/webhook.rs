//! The webhook: one post after the other, each until it is taken. What waits, waits in the ledger.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rekindle_coordinator::io::Input;
use rekindle_coordinator::notice::PostOrder;
use rekindle_proto::fact::Text;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{Client, StatusCode};
use ring::hmac;
use tokio::sync::{mpsc, watch};

use super::WebhookSettings;
use crate::nova::{NovaSetupError, acting_client};

/// Least bytes of the secret: what HMAC-SHA256 needs to be worth its name.
pub const SECRET_BYTES_MIN: usize = 16;
/// Most bytes of it: anything longer is another file.
pub const SECRET_BYTES_MAX: usize = 1_024;

/// Orders that may wait here: more than the coordinator hands out at once, twice, across a change of leader.
const ORDERS_MAX: usize = 64;
/// Before the second try; doubled for each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest between two tries: a receiver that is back is told within a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often a receiver may refuse a post that it has understood (4xx, or a redirect), before it is given up.
const REFUSALS_MAX: u32 = 5;
/// Every how many failures in a row there is a line in the log.
const WARN_EVERY: u32 = 10;

const ID: HeaderName = HeaderName::from_static("x-rekindle-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-rekindle-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-rekindle-signature");

/// The task that posts.
#[derive(Debug)]
pub struct Webhook {
    orders: mpsc::Sender<(u64, PostOrder)>,
    generation: watch::Sender<u64>,
}

/// How one try ended.
enum Tried {
    Taken,
    /// It has understood, and does not want it.
    Refused(String),
    /// It may want it later.
    Failed(String),
}

impl Webhook {
    /// Starts the task. Answers go to `inputs`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NovaSetupError`] if the CA file cannot be used, or no certificate is trusted.
    pub fn start(settings: WebhookSettings, inputs: mpsc::Sender<Input>) -> Result<Self, NovaSetupError> {
        let client = acting_client(settings.ca_file.as_deref(), settings.timeout)?;
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let (generation, current) = watch::channel(0);
        tokio::spawn(work(Poster { client, settings }, waiting, current, inputs));
        Ok(Self { orders, generation })
    }

    /// Posts, after what was ordered before.
    ///
    /// # Errors
    /// The order, if too many wait.
    pub fn post(&self, order: PostOrder) -> Result<(), PostOrder> {
        let generation = *self.generation.borrow();
        self.orders.try_send((generation, order)).map_err(|error| error.into_inner().1)
    }

    /// Forgets what was ordered so far, also what is being tried.
    pub fn stop(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// The secret, without the line's end.
///
/// # Errors
/// In words, with the file's name and never its content.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let secret = bytes.trim_ascii_end();
    if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Ok(secret.to_vec());
    }
    let (path, found) = (path.display(), secret.len());
    Err(format!("{path}: must hold {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; it has {found}"))
}

async fn work(
    poster: Poster,
    mut waiting: mpsc::Receiver<(u64, PostOrder)>,
    mut current: watch::Receiver<u64>,
    inputs: mpsc::Sender<Input>,
) {
    while let Some((generation, order)) = waiting.recv().await {
        if generation != *current.borrow_and_update() {
            continue;
        }
        let result = tokio::select! {
            result = poster.deliver(&order) => result,
            // Ordered by a leadership that is over: its successor posts it.
            _ = current.changed() => continue,
        };
        if inputs.send(Input::Posted { call: order.call(), result }).await.is_err() {
            return;
        }
    }
}

struct Poster {
    client: Client,
    settings: WebhookSettings,
}

impl Poster {
    /// Until it is taken, or refused for good.
    async fn deliver(&self, order: &PostOrder) -> Result<(), Text> {
        let notification = order.notification();
        let body = serde_json::to_vec(notification).map_err(|error| Text::new(error.to_string()))?;
        let (mut failures, mut refusals, mut pause) = (0, 0, RETRY_FIRST);
        loop {
            let why = match self.try_once(notification.id.as_str(), &body).await {
                Tried::Taken => return Ok(()),
                Tried::Refused(why) => {
                    refusals += 1;
                    if refusals >= REFUSALS_MAX {
                        return Err(Text::new(format!("refused {refusals} times, the last with {why}")));
                    }
                    why
                }
                Tried::Failed(why) => why,
            };
            if failures % WARN_EVERY == 0 {
                let id = notification.id.as_str();
                tracing::warn!(target: "rekindle::event::webhook", id, failures, %why, "the webhook was not told, and is tried again");
            }
            failures += 1;
            // Half of it by chance: receivers that were down are not met by all clusters at once.
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn try_once(&self, id: &str, body: &[u8]) -> Tried {
        let secret = match read_secret(&self.settings.secret_file) {
            Ok(secret) => secret,
            Err(why) => return Tried::Failed(why),
        };
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let post = self
            .client
            .post(&self.settings.url)
            .header(CONTENT_TYPE, "application/json")
            .header(ID, id)
            .header(SIGNATURE, signature(&secret, &timestamp, body))
            .header(TIMESTAMP, timestamp)
            .body(body.to_vec());
        match post.send().await {
            Ok(answer) => judge(answer.status()),
            // Without the address: it may hold a token.
            Err(error) => Tried::Failed(causes(&error.without_url())),
        }
    }
}

fn judge(status: StatusCode) -> Tried {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_success() {
        Tried::Taken
    } else if (status.is_client_error() || status.is_redirection()) && !later.contains(&status) {
        Tried::Refused(status.to_string())
    } else {
        Tried::Failed(status.to_string())
    }
}

/// Over the time too: what was overheard cannot be sent again later.
fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in [timestamp.as_bytes(), b".", body] {
        context.update(part);
    }
    context.sign().as_ref().iter().fold("v1=".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_of_time_and_body() {
        // By: printf '1795143120.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let told = signature(b"0123456789abcdef", "1795143120", br#"{"a":1}"#);
        assert_eq!(told, "v1=9dcb1636566e7695794f905043096117c719675991825b1412282d0b2b0469f3");
    }

    #[test]
    fn who_may_be_asked_again() {
        for (status, kind) in [
            (200, "taken"),
            (204, "taken"),
            (301, "refused"),
            (400, "refused"),
            (401, "refused"),
            (408, "failed"),
            (425, "failed"),
            (429, "failed"),
            (500, "failed"),
            (503, "failed"),
        ] {
            let found = match judge(StatusCode::from_u16(status).expect("a status")) {
                Tried::Taken => "taken",
                Tried::Refused(_) => "refused",
                Tried::Failed(_) => "failed",
            };
            assert_eq!(found, kind, "{status}");
        }
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        assert!(read_secret(&path).expect_err("missing").contains("secret: No such file"));
        std::fs::write(&path, "hunter2\n").expect("written");
        let why = read_secret(&path).expect_err("short");
        assert!(why.contains("must hold 16 to 1024 bytes; it has 7") && !why.contains("hunter2"), "{why}");
        std::fs::write(&path, "0123456789abcdef\r\n").expect("written");
        assert_eq!(read_secret(&path).expect("taken"), b"0123456789abcdef");
    }
}
