//! A host added to an aggregate, or taken out of it.

use rekindle_coordinator::io::NovaAnswer;
use rekindle_coordinator::order::{AggregateChange, AggregateOrder};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::{NovaError, Text};
use rekindle_proto::id::{AggregateId, HostName};
use reqwest::Method;
use serde_json::json;

use super::Nova;
use super::lookup::{AGGREGATES, has_host};
use super::wire::{Act, Get};

impl Nova {
    /// Adds a host to an aggregate or takes it out, and answers [`NovaAnswer::Membership`].
    ///
    /// Nova says 409 of a host that is in the aggregate already, and of one that is in another availability zone: after a 409
    /// the aggregate is read, and only a host that is not in it was refused. A 404 to taking it out is either: it is not in it,
    /// or there is no such aggregate any more.
    ///
    /// # Errors
    /// [`NovaError`], exact about whether the change may have been made.
    pub async fn set_aggregate(&self, order: &AggregateOrder) -> Result<NovaAnswer, NovaError> {
        self.change_membership(order.aggregate(), order.host(), order.change(), order.begin_before()).await
    }

    pub(super) async fn change_membership(
        &self,
        aggregate: AggregateId,
        host: &HostName,
        change: AggregateChange,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let id = aggregate.to_string();
        let action = match change {
            AggregateChange::Join => "add_host",
            AggregateChange::Leave => "remove_host",
        };
        let path = ["os-aggregates", id.as_str(), "action"];
        let body = json!({ action: { "host": host } });
        let act = Act { version: AGGREGATES, method: Method::POST, path: &path, body, begin_before };
        match (self.wire.act(act).await, change) {
            (Ok(()), _) => Ok(NovaAnswer::Membership { changed: true }),
            (Err(NovaError::Refused { status: 404, .. }), AggregateChange::Leave) => {
                Ok(NovaAnswer::Membership { changed: false })
            }
            (Err(NovaError::Refused { status: 409, text }), AggregateChange::Join) => {
                match self.is_in(&id, host).await {
                    Ok(true) => Ok(NovaAnswer::Membership { changed: false }),
                    Ok(false) => Err(NovaError::Refused { status: 409, text }),
                    Err(error) => Err(NovaError::Unknown(Text::new(format!(
                        "{text}; and aggregate {id} could not be read: {error}"
                    )))),
                }
            }
            (Err(error), AggregateChange::Join | AggregateChange::Leave) => Err(error),
        }
    }

    async fn is_in(&self, aggregate: &str, host: &HostName) -> Result<bool, NovaError> {
        let body = self.wire.get(Get { version: AGGREGATES, path: &["os-aggregates", aggregate], query: &[] }).await?;
        let found = body.get("aggregate").and_then(|aggregate| has_host(aggregate, host));
        found.ok_or_else(|| NovaError::Malformed("an aggregate without hosts".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Act as FakeAct, Fake};
    use super::*;
    use serde_json::Value;
    use std::time::Duration;

    const HOURS: Duration = Duration::from_secs(3_600);

    fn fault(status: u16, kind: &str, text: &str) -> &'static str {
        Box::leak(json!({ kind: { "code": status, "message": text } }).to_string().into_boxed_str())
    }

    /// What goes over the wire, and what each answer of Nova means. A 409 means two things, and Nova is asked which.
    #[tokio::test]
    async fn a_host_joins_and_leaves_and_a_409_is_looked_into() {
        let fake = Fake::start().await;
        let nova = fake.nova(Duration::from_secs(5), "");
        let host = HostName::new("cmp-9").expect("legal");
        let soon = || crate::clock::moment() + HOURS;
        for (change, action) in [(AggregateChange::Join, "add_host"), (AggregateChange::Leave, "remove_host")] {
            let done = nova.change_membership(AggregateId(7), &host, change, soon()).await;
            assert_eq!(done, Ok(NovaAnswer::Membership { changed: true }));
            let (headers, body) = fake.last("POST /compute/v2.1/os-aggregates/7/action");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body, json!({ action: { "host": "cmp-9" } }));
            assert_eq!(headers["openstack-api-version"].as_bytes(), b"compute 2.1");
        }
        let (join, leave) = (AggregateChange::Join, AggregateChange::Leave);
        let conflict = fault(409, "conflictingRequest", "Aggregate 7 already has host, or another zone");
        let gone = fault(404, "itemNotFound", "Aggregate 7 could not be found.");
        let forbidden = fault(403, "forbidden", "Policy does not allow it");
        let has = |hosts: &[&str]| Some((200, json!({ "aggregate": { "id": 7, "hosts": hosts } })));
        let refused = |status: u16| Err(Some(status));
        // The act's answer, the aggregate as it is read then, and what is made of it; `Err(None)`: nobody knows.
        let rows = [
            (join, 409, conflict, has(&["cmp-9"]), Ok(false)),
            (join, 409, conflict, has(&["cmp-1"]), refused(409)),
            (join, 409, conflict, Some((503, json!({}))), Err(None)),
            (join, 404, gone, None, refused(404)),
            (join, 403, forbidden, None, refused(403)),
            (leave, 404, gone, None, Ok(false)),
            (leave, 409, conflict, None, refused(409)),
            (leave, 403, forbidden, None, refused(403)),
            (join, 503, "", None, Err(None)),
            (leave, 404, "<html>no such page</html>", None, Err(None)),
        ];
        for (change, status, text, read, expected) in rows {
            fake.set_act(FakeAct::Answer(status, "application/json", text));
            let path = "/compute/v2.1/os-aggregates/7".to_owned();
            *fake.others.lock().expect("lock") = read.map(|read| (path, read)).into_iter().collect();
            let said = match nova.change_membership(AggregateId(7), &host, change, soon()).await {
                Ok(NovaAnswer::Membership { changed }) => Ok(changed),
                Err(NovaError::Refused { status, .. }) => Err(Some(status)),
                Err(NovaError::Unknown(_)) => Err(None),
                other => panic!("{change:?} {status}: {other:?}"),
            };
            assert_eq!(said, expected, "{change:?} {status} {text}");
        }
        let posts = fake.count("POST /compute");
        let late = nova.change_membership(AggregateId(7), &host, join, crate::clock::moment()).await;
        assert!(matches!(late, Err(NovaError::NotSent(_))), "{late:?}");
        assert_eq!(fake.count("POST /compute"), posts, "nothing is sent when the permit has passed");
    }
}
