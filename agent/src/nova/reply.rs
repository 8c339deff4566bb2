//! What came of a request: the answer read, bounded, and judged.

use rekindle_proto::fact::{NovaError, Text};
use reqwest::{Client, Request, Response, StatusCode};
use serde_json::Value;

use super::answer;
use super::wire::Service;

/// Longest answer read. A page of 1,000 servers with full metadata is under 40 MB, and ordinarily 3.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Statuses by which Nova itself says that it did nothing. Not 408 and 499 (somebody stopped waiting), not 5xx.
const REFUSALS: [u16; 7] = [400, 403, 404, 406, 409, 413, 429];

/// An answer as it came.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    request_id: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Sends, and reads what comes back.
pub(super) async fn send(client: &Client, request: Request) -> Result<Answer, reqwest::Error> {
    let response = client.execute(request).await?;
    let status = response.status();
    let request_id = response
        .headers()
        .get("x-openstack-request-id")
        .and_then(|id| id.to_str().ok())
        .map(|id| id.chars().take(64).collect());
    match read_bounded(response).await {
        Ok(body) => Ok(Answer { status, request_id, body }),
        // A cut or oversized answer is judged by what there is of it: not JSON, hence unknown.
        Err(why) => Ok(Answer { status, request_id, body: format!("({why})").into_bytes() }),
    }
}

/// Reads an answer up to [`BODY_BYTES_MAX`].
pub(super) async fn read_bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_BYTES_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(format!("the answer is longer than {BODY_BYTES_MAX} bytes")),
            Err(error) => return Err(format!("the answer broke off: {}", chain(&error.without_url()))),
        }
    }
}

impl Answer {
    /// What it says. `None`: success without a body.
    pub(super) fn judged(self, service: Service) -> Result<Option<Value>, NovaError> {
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        let status = self.status.as_u16();
        if self.status.is_success() {
            return match json {
                Some(json) => Ok(Some(json)),
                None if self.body.is_empty() => Ok(None),
                None => Err(NovaError::Unknown(self.told("an answer that is not the service's"))),
            };
        }
        let is_own = json.as_ref().is_some_and(|json| match service {
            Service::Nova | Service::Masakari => answer::is_fault(json, status),
            Service::Placement => json.get("errors").is_some_and(Value::is_array),
        });
        if self.status == StatusCode::UNAUTHORIZED || (is_own && REFUSALS.contains(&status)) {
            return Err(NovaError::Refused { status, text: self.told("") });
        }
        Err(NovaError::Unknown(self.told("")))
    }

    fn told(&self, what: &str) -> Text {
        let words = answer::words(&self.body);
        let id = self.request_id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
        let what = if what.is_empty() { String::new() } else { format!("{what}, ") };
        Text::new(format!("{what}HTTP {}: {words}{id}", self.status.as_u16()))
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
