//! Segments of a running Masakari: read once, by whoever moves from it to us. Nothing is ever written to it.

use std::collections::BTreeSet;

use osauth::ApiVersion;
use rekindle_coordinator::ledger::{ROSTER_MAX, SEGMENTS_MAX};
use rekindle_proto::fact::{NovaError, Text};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Nova;
use super::wire::{Get, Service};

/// 1.2 is the first that takes `enabled`; every version shows it.
const SEGMENTS: ApiVersion = ApiVersion(1, 2);

/// Rows asked for at once: Masakari's own default bound. It gives fewer where its `osapi_max_limit` is lower, and never says
/// that there are more.
const PAGE: &str = "1000";

/// A failover segment, as Masakari shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MasakariSegment {
    uuid: String,
    /// Its name.
    pub name: String,
    /// `auto`, `reserved_host`, `auto_priority`, `rh_priority`.
    pub recovery_method: String,
    /// Nothing reads it.
    pub service_type: String,
    /// For people.
    pub description: Option<String>,
    /// Whether its hosts are recovered.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its hosts.
    #[serde(skip)]
    pub hosts: Vec<MasakariHost>,
}

/// A host in a segment, as Masakari shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MasakariHost {
    /// Nova's service host.
    pub name: String,
    /// Kept free for the servers of others.
    #[serde(default)]
    pub reserved: bool,
    /// Nothing reads it.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Nothing reads it.
    pub control_attributes: Option<String>,
    /// Masakari does nothing about it. It sets this itself after every failure.
    #[serde(default)]
    pub on_maintenance: bool,
}

fn yes() -> bool {
    true
}

impl Nova {
    /// All segments of the Masakari in the same catalog (`instance-ha`), with their hosts.
    ///
    /// # Errors
    /// [`NovaError`]; a list that could not be read to its end is an error, never a shorter list.
    pub async fn masakari_segments(&self) -> Result<Vec<MasakariSegment>, NovaError> {
        let mut segments: Vec<MasakariSegment> = self.masakari_list(&["segments"], "segments", SEGMENTS_MAX).await?;
        for segment in &mut segments {
            let uuid = segment.uuid.clone();
            segment.hosts = self.masakari_list(&["segments", &uuid, "hosts"], "hosts", ROSTER_MAX).await?;
        }
        Ok(segments)
    }

    /// Every row of a collection. Masakari's marker is the number `id` of the last row; it has no `next` link.
    async fn masakari_list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        key: &str,
        most: usize,
    ) -> Result<Vec<T>, NovaError> {
        let wrong = |what: String| NovaError::Malformed(Text::new(format!("Masakari's {key}: {what}")));
        let (mut found, mut ids, mut marker) = (Vec::new(), BTreeSet::new(), String::new());
        loop {
            let mut query = vec![("limit", PAGE), ("sort_key", "id"), ("sort_dir", "asc")];
            if !marker.is_empty() {
                query.push(("marker", marker.as_str()));
            }
            let body = self.wire.get_from(Service::Masakari, Get { version: SEGMENTS, path, query: &query }).await?;
            let rows = body.get(key).and_then(Value::as_array).ok_or_else(|| wrong("no such list".to_owned()))?;
            let (before, mut last) = (found.len(), String::new());
            for row in rows {
                last = row.get("id").map(Value::to_string).ok_or_else(|| wrong("a row without an id".to_owned()))?;
                if ids.insert(last.clone()) {
                    found.push(serde_json::from_value(row.clone()).map_err(|error| wrong(error.to_string()))?);
                }
            }
            if found.len() > most {
                return Err(wrong(format!("more than {most} are not kept here")));
            }
            // The last page is empty; a page of nothing but known rows is one that does not heed the marker.
            if found.len() == before {
                return Ok(found);
            }
            marker = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    const UUID: &str = "5fd9f925-0379-40db-a7f8-786a0b655b2a";

    /// As Masakari 22 answers: every field of a segment and of a host, the segment embedded in the host.
    fn answers(fake: &Fake) {
        let times = json!({"created_at": "2026-11-20T11:00:00.000000", "updated_at": null, "deleted_at": null, "deleted": false});
        let with = |mut row: Value| {
            row.as_object_mut().expect("a row").extend(times.as_object().expect("times").clone());
            row
        };
        let segment = with(json!({"id": 1, "uuid": UUID, "name": "rack-1", "service_type": "COMPUTE", "enabled": true,
            "description": null, "recovery_method": "rh_priority"}));
        let host = |id: u32, name: &str, reserved: bool, on_maintenance: bool| {
            with(json!({"id": id, "uuid": UUID, "name": name, "failover_segment_id": UUID, "failover_segment": segment,
                "type": "COMPUTE", "reserved": reserved, "control_attributes": "SSH", "on_maintenance": on_maintenance}))
        };
        let hosts = json!({"hosts": [host(1, "cmp-1", false, true), host(2, "cmp-2", true, false)]});
        let mut others = fake.others.lock().expect("lock");
        others.insert("/instance-ha/v1/segments".to_owned(), (200, json!({"segments": [segment]})));
        others.insert(format!("/instance-ha/v1/segments/{UUID}/hosts"), (200, hosts));
    }

    #[tokio::test]
    async fn segments_and_hosts_are_read_over_http() {
        let fake = Fake::start().await;
        answers(&fake);
        let nova = fake.nova(Duration::from_secs(10), "");
        let segments = nova.masakari_segments().await.expect("read");
        let [rack] = segments.as_slice() else { panic!("one segment: {segments:?}") };
        assert_eq!((rack.name.as_str(), rack.recovery_method.as_str(), rack.enabled), ("rack-1", "rh_priority", true));
        let hosts: Vec<_> =
            rack.hosts.iter().map(|host| (host.name.as_str(), host.reserved, host.on_maintenance)).collect();
        assert_eq!(hosts, [("cmp-1", false, true), ("cmp-2", true, false)]);
        let (headers, _) = fake.last("GET /instance-ha/v1/segments");
        assert_eq!(headers["openstack-api-version"], "instance-ha 1.2");
        assert_eq!(fake.count("POST /v3/auth/tokens"), 1);
    }

    #[tokio::test]
    async fn what_masakari_refuses_is_told() {
        let fake = Fake::start().await;
        let text = "Policy doesn't allow os_masakari_api:segments:index to be performed.";
        let fault = json!({"forbidden": {"code": 403, "message": text}});
        fake.others.lock().expect("lock").insert("/instance-ha/v1/segments".to_owned(), (403, fault));
        let error = fake.nova(Duration::from_secs(10), "").masakari_segments().await.expect_err("refused");
        assert!(matches!(&error, NovaError::Refused { status: 403, .. }), "{error:?}");
        assert!(error.to_string().contains("segments:index"), "{error}");
    }
}
