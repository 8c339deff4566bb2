//! Changes of compute services: enabled, disabled with a reason, forced down, let back.

use rekindle_coordinator::io::NovaAnswer;
use rekindle_coordinator::order::{ServiceChange, ServiceOrder};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{HostName, ServiceId};
use reqwest::Method;
use serde_json::{Value, json};

use super::wire::{self, Act};
use super::{Nova, SERVICES};

impl Nova {
    /// Enables or disables the compute service of a host, or takes its forced-down mark away, and answers that service, read
    /// again afterwards; `NovaAnswer::Service(None)`: Nova has none of that host, and nothing was sent. Nova refuses (400) to
    /// let a host back while evacuations from it are `done` and not cleaned up (nova/api/openstack/compute/services.py).
    ///
    /// # Errors
    /// [`NovaError`], exact about whether the change may have been made. Repeating it does no harm.
    pub async fn set_service(&self, order: &ServiceOrder) -> Result<NovaAnswer, NovaError> {
        self.change_service(order.host(), order.change(), order.begin_before()).await
    }

    pub(super) async fn change_service(
        &self,
        host: &HostName,
        change: &ServiceChange,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let (body, done) = match change {
            ServiceChange::Enable => (json!({ "status": "enabled" }), "enabled"),
            ServiceChange::Disable { reason } => {
                (json!({ "status": "disabled", "disabled_reason": reason.as_str() }), "disabled")
            }
            ServiceChange::LetBack => (json!({ "forced_down": false }), "let back"),
        };
        self.put_service(host, body, done, begin_before).await
    }

    pub(super) async fn mark_forced_down(
        &self,
        host: &HostName,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        self.put_service(host, json!({ "forced_down": true }), "forced down", begin_before).await
    }

    /// Changes the record of a host's service, and reads it again. `done`: what the change was, for people.
    async fn put_service(
        &self,
        host: &HostName,
        body: Value,
        done: &str,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        wire::still_permitted(begin_before)?;
        let id = match self.remembered(host) {
            Some(id) => id,
            None => match self.find(host).await? {
                Some(id) => id,
                None => return Ok(NovaAnswer::Service(None)),
            },
        };
        let (version, id) = (SERVICES, id.to_string());
        let path = ["os-services", id.as_str()];
        let put = self.wire.act(Act { version, method: Method::PUT, path: &path, body, begin_before }).await;
        if matches!(put, Err(NovaError::Refused { status: 404, .. })) {
            // The record is another one by now: the next try looks for it.
            self.remember(host, None);
        }
        put?;
        // The change is made. Whatever the second reading says, nobody may conclude that it was not.
        self.service(host).await.map(NovaAnswer::Service).map_err(|error| {
            NovaError::Unknown(Text::new(format!("{host} was {done}, but could not be read again: {error}")))
        })
    }

    async fn find(&self, host: &HostName) -> Result<Option<ServiceId>, NovaError> {
        let found = self.service(host).await.map_err(|error| match error {
            NovaError::Refused { .. } | NovaError::NotSent(_) => error,
            NovaError::Unknown(why) | NovaError::Malformed(why) => {
                NovaError::NotSent(Text::new(format!("the compute service of {host} could not be found: {why}")))
            }
        })?;
        Ok(found.map(|service| service.id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use std::time::Duration;

    /// What goes over the wire, and that a host which Nova does not know costs no change.
    #[tokio::test]
    async fn a_service_is_enabled_and_disabled_with_a_reason() {
        let fake = Fake::start().await;
        let nova = fake.nova(Duration::from_secs(5), "");
        let (host, stranger) = ("cmp-1", "cmp-9");
        let [host, stranger] = [host, stranger].map(|name| HostName::new(name).expect("legal"));
        let soon = || crate::clock::moment() + Duration::from_secs(5);
        let enabled = nova.change_service(&host, &ServiceChange::Enable, soon()).await;
        assert!(matches!(enabled, Ok(NovaAnswer::Service(Some(_)))), "{enabled:?}");
        let (headers, body) = fake.last("PUT /compute/v2.1/os-services/");
        assert_eq!(
            (&body[..], headers["openstack-api-version"].as_bytes()),
            (&br#"{"status":"enabled"}"#[..], &b"compute 2.53"[..])
        );
        let change = ServiceChange::Disable { reason: "rekindle: incident 7".into() };
        nova.change_service(&host, &change, soon()).await.expect("disabled");
        let (_, body) = fake.last("PUT /compute/v2.1/os-services/");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, json!({"status": "disabled", "disabled_reason": "rekindle: incident 7"}));
        assert_eq!(nova.change_service(&stranger, &change, soon()).await, Ok(NovaAnswer::Service(None)));
        assert_eq!(fake.count("PUT"), 2);
    }
}
