//! A client of Nova as thin as can be: it shows what came over the wire.

use std::time::{Duration, Instant};

use rekindle_proto::id::{HostName, ServerId};
use rekindle_tests::fake::cloud::Cloud;
use serde_json::{Value, json};

/// A deadline no honest run comes near.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) token: String,
}

pub(crate) fn field(yaml: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    let line = yaml.lines().find_map(|line| line.trim().strip_prefix(&prefix).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {yaml}")).trim_matches('"').to_owned()
}

pub(crate) fn credential(cloud: &Cloud) -> Value {
    let yaml = cloud.clouds_yaml(true);
    json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": {
        "id": field(&yaml, "application_credential_id"), "secret": field(&yaml, "application_credential_secret"),
    }}}})
}

impl Client {
    pub(crate) async fn new(cloud: &Cloud) -> Self {
        let http = reqwest::Client::new();
        let url = format!("{}/auth/tokens", cloud.auth_url());
        let reply = http.post(url).json(&credential(cloud)).send().await.expect("answers");
        assert_eq!(reply.status(), 201);
        let token = reply.headers()["x-subject-token"].to_str().expect("text").to_owned();
        let document: Value = reply.json().await.expect("JSON");
        let catalog = document["token"]["catalog"].as_array().expect("catalog");
        let compute = catalog.iter().find(|service| service["type"] == "compute").expect("compute");
        let internal = compute["endpoints"].as_array().expect("list").iter().find(|it| it["interface"] == "internal");
        let url = internal.expect("internal")["url"].as_str().expect("text").to_owned();
        Self { http, url, token }
    }

    pub(crate) async fn try_call(
        &self,
        method: &str,
        path: &str,
        version: &str,
        body: Value,
    ) -> reqwest::Result<(u16, Value)> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let request = self.http.request(method.parse().expect("method"), url).header("X-Auth-Token", &self.token);
        let request = request.header("X-OpenStack-Nova-API-Version", version).timeout(DEADLINE);
        let reply = if body.is_null() { request } else { request.json(&body) }.send().await?;
        Ok((reply.status().as_u16(), serde_json::from_slice(&reply.bytes().await?).unwrap_or(Value::Null)))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, version: &str, body: Value) -> (u16, Value) {
        self.try_call(method, path, version, body).await.expect("answers")
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, "2.94", Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    pub(crate) async fn service(&self, host: &str) -> Value {
        let body = self.get(&format!("/os-services?binary=nova-compute&host={host}")).await;
        assert_eq!(body["services"].as_array().expect("list").len(), 1, "{body}");
        body["services"][0].clone()
    }

    /// Waits until this host's heartbeat moves.
    pub(crate) async fn heartbeat(&self, host: &str) {
        let (before, began) = (self.service(host).await["updated_at"].clone(), Instant::now());
        while self.service(host).await["updated_at"] == before {
            assert!(began.elapsed() < DEADLINE, "{host}'s heartbeat stands still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn put_service(&self, host: &str, change: Value) -> (u16, Value) {
        let id = self.service(host).await["id"].as_str().expect("a UUID").to_owned();
        self.call("PUT", &format!("/os-services/{id}"), "2.53", change).await
    }

    pub(crate) async fn act(&self, server: ServerId, action: Value) -> (u16, Value) {
        self.call("POST", &format!("/servers/{server}/action"), "2.94", action).await
    }

    pub(crate) async fn server(&self, server: ServerId) -> Value {
        self.get(&format!("/servers/{server}")).await["server"].clone()
    }

    /// The host is dead, and Nova told so.
    pub(crate) async fn kill(&self, cloud: &Cloud, name: &str) -> Vec<ServerId> {
        cloud.host_died(&host(name));
        assert_eq!(self.put_service(name, json!({"forced_down": true})).await.0, 200);
        cloud.servers_of(&host(name))
    }
}
