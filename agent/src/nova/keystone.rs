//! One Keystone token and the catalog that came with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use openstack::auth::AuthType;
use openstack::{EndpointFilters, Error, ErrorKind};
use rekindle_coordinator::time::Moment;
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::clouds::{Cloud, IdOrName, Login};
use super::reply::{chain, read_bounded};
use crate::clock;

/// A token is renewed this long before it ends, or at three quarters of its life if that is later: `OpenStack` calls
/// services on our behalf with our token, and a rebuild may take minutes.
const RENEW_BEFORE: Duration = Duration::from_secs(600);

/// After a renewal failed, the old token is used until its end, and the next try waits this long: a call during a
/// Keystone outage must not wait for a time-out each time.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// Life assumed of a token whose times cannot be read: Keystone's own default is an hour.
const LIFE_ASSUMED: Duration = Duration::from_secs(900);

/// Credentials and the token they fetched. osauth's own types know no `user_domain_id` and print their secrets, so this
/// is ours, behind its [`AuthType`].
///
/// However many callers ask at once, one token request is under way, and all of them share its outcome.
/// Clones share the token.
#[derive(Clone)]
pub(super) struct Keystone {
    token_url: Url,
    login: Login,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    token: Option<Arc<Token>>,
    /// The last failure and when it ended: callers who were already waiting then share it.
    failed: Option<(Moment, Error)>,
}

/// A token. The header value is marked sensitive: it prints as such.
pub(super) struct Token {
    header: HeaderValue,
    renew_after: Moment,
    dead_after: Moment,
    endpoints: Vec<Endpoint>,
    /// Whose it is, for people.
    pub(super) owner: String,
}

struct Endpoint {
    service: String,
    interface: String,
    region: Option<String>,
    url: String,
}

impl Keystone {
    pub(super) fn new(cloud: &Cloud) -> Self {
        Self { token_url: token_url(&cloud.auth_url), login: cloud.login.clone(), held: Arc::default() }
    }

    /// The token, fetched or renewed if need be.
    pub(super) async fn token(&self, client: &Client) -> Result<Arc<Token>, Error> {
        let asked = clock::moment();
        let mut held = self.held.lock().await;
        let now = clock::moment();
        if let Some(token) = held.token.as_ref().filter(|token| now < token.renew_after) {
            return Ok(Arc::clone(token));
        }
        let old = held.token.clone().filter(|token| now < token.dead_after);
        if let Some((ended, error)) = &held.failed {
            match old {
                Some(old) if now < *ended + RENEWAL_PAUSE => return Ok(old),
                Some(_) => {}
                None if *ended >= asked => return Err(error.clone()),
                None => {}
            }
        }
        match self.fetch(client).await {
            Ok(token) => {
                let token = Arc::new(token);
                *held = Held { token: Some(Arc::clone(&token)), failed: None };
                Ok(token)
            }
            Err(error) => {
                held.failed = Some((clock::moment(), error.clone()));
                match old {
                    Some(old) => {
                        tracing::warn!(%error, "token not renewed; going on with the old one until it ends");
                        Ok(old)
                    }
                    None => Err(error),
                }
            }
        }
    }

    async fn fetch(&self, client: &Client) -> Result<Token, Error> {
        let url = &self.token_url;
        let wrong = |kind, text: String| Error::new(kind, format!("Keystone at {url}: {text}"));
        let response = client
            .post(url.clone())
            .json(&login_body(&self.login))
            .send()
            .await
            .map_err(|error| wrong(ErrorKind::ProtocolError, chain(&error.without_url())))?;
        let status = response.status();
        let header = response.headers().get("x-subject-token").cloned();
        let body = read_bounded(response).await.map_err(|why| wrong(ErrorKind::ProtocolError, why))?;
        if status != StatusCode::CREATED && status != StatusCode::OK {
            let hint = if status == StatusCode::UNAUTHORIZED { " (check the credentials in clouds.yaml)" } else { "" };
            let said = super::answer::words(&body);
            return Err(wrong(ErrorKind::AuthenticationFailed, format!("HTTP {}{hint}: {said}", status.as_u16())));
        }
        let mut header = header.ok_or_else(|| wrong(ErrorKind::InvalidResponse, "no X-Subject-Token".to_owned()))?;
        header.set_sensitive(true);
        let body: TokenBody = serde_json::from_slice(&body)
            .map_err(|error| wrong(ErrorKind::InvalidResponse, format!("not a token: {error}")))?;
        tracing::debug!(keystone = %url, "token fetched");
        Ok(body.token.kept(header))
    }
}

impl AuthType for Keystone {
    fn authenticate<'a, 'b, 'c>(
        &'a self,
        client: &'b Client,
        request: RequestBuilder,
    ) -> BoxFuture<'c, Result<RequestBuilder, Error>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move {
            let token = self.token(client).await?;
            Ok(request.header("x-auth-token", token.header.clone()))
        })
    }

    fn get_endpoint<'a, 'b, 'c, 'd, 'e>(
        &'a self,
        client: &'b Client,
        service_type: &'c str,
        filters: &'d EndpointFilters,
    ) -> BoxFuture<'e, Result<Url, Error>>
    where
        'a: 'e,
        'b: 'e,
        'c: 'e,
        'd: 'e,
        Self: 'e,
    {
        Box::pin(async move { self.token(client).await?.endpoint(service_type, filters) })
    }

    fn refresh<'a, 'b, 'c>(&'a self, client: &'b Client) -> BoxFuture<'c, Result<(), Error>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move { self.token(client).await.map(drop) })
    }
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone").field("token_url", &self.token_url.as_str()).finish_non_exhaustive()
    }
}

impl Token {
    /// The one endpoint of that service, interface and region. Two different ones are an error: to act in the region
    /// that happens to come first would be to act in another cloud.
    fn endpoint(&self, service: &str, filters: &EndpointFilters) -> Result<Url, Error> {
        let of_service = || self.endpoints.iter().filter(|endpoint| endpoint.service == service);
        let wanted: Vec<String> = filters.interfaces.iter().map(ToString::to_string).collect();
        let mut urls: Vec<&str> = of_service()
            .filter(|endpoint| wanted.contains(&endpoint.interface))
            .filter(|endpoint| filters.region.is_none() || filters.region == endpoint.region)
            .map(|endpoint| endpoint.url.as_str())
            .collect();
        urls.sort_unstable();
        urls.dedup();
        let known = || {
            let all: Vec<String> = of_service()
                .map(|endpoint| format!("{} in {}", endpoint.interface, endpoint.region.as_deref().unwrap_or("-")))
                .collect();
            if all.is_empty() { "no endpoint of it".to_owned() } else { all.join(", ") }
        };
        let region = filters.region.as_deref().unwrap_or("any");
        let wrong = |text: String| Error::new(ErrorKind::EndpointNotFound, text);
        match urls.as_slice() {
            [] => Err(wrong(format!(
                "the catalog has no {service} endpoint {} in region {region}; it has: {} (set region_name and interface in clouds.yaml)",
                wanted.join("/"),
                known()
            ))),
            [url] => {
                Url::parse(url).map_err(|error| wrong(format!("the catalog's {service} endpoint {url:?}: {error}")))
            }
            [_, _, ..] => Err(wrong(format!(
                "the catalog has several {service} endpoints that fit: {} (set region_name in clouds.yaml)",
                known()
            ))),
        }
    }

    /// How long it will yet be used.
    pub(super) fn left(&self) -> Duration {
        self.dead_after.since(clock::moment())
    }
}

/// `/v3/auth/tokens` under an `auth_url` written with or without `/v3`, with or without a slash.
fn token_url(auth_url: &Url) -> Url {
    let mut url = auth_url.clone();
    let versioned = url.path().trim_end_matches('/').ends_with("/v3");
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        if !versioned {
            path.push("v3");
        }
        path.extend(["auth", "tokens"]);
    }
    url
}

fn login_body(login: &Login) -> Value {
    match login {
        Login::Password { user, user_domain, password, scope } => {
            let mut account = named(user, user_domain.as_ref());
            account["password"] = json!(password.expose_secret());
            let mut auth = json!({ "identity": { "methods": ["password"], "password": { "user": account } } });
            if let Some(scope) = scope {
                auth["scope"] = json!({ "project": named(&scope.project, scope.domain.as_ref()) });
            }
            json!({ "auth": auth })
        }
        Login::ApplicationCredential { credential, secret, user } => {
            let mut body = named(credential, None);
            body["secret"] = json!(secret.expose_secret());
            if let Some((user, domain)) = user {
                body["user"] = named(user, domain.as_ref());
            }
            json!({ "auth": { "identity": { "methods": ["application_credential"], "application_credential": body } } })
        }
    }
}

/// An id says all; a name goes with its domain.
fn named(what: &IdOrName, domain: Option<&IdOrName>) -> Value {
    match (what, domain) {
        (IdOrName::Id(id), _) => json!({ "id": id }),
        (IdOrName::Name(name), None) => json!({ "name": name }),
        (IdOrName::Name(name), Some(domain)) => json!({ "name": name, "domain": named(domain, None) }),
    }
}

#[derive(Deserialize)]
struct TokenBody {
    token: TokenAnswer,
}

#[derive(Deserialize)]
struct TokenAnswer {
    expires_at: Option<String>,
    issued_at: Option<String>,
    #[serde(default)]
    catalog: Vec<ServiceAnswer>,
    #[serde(default)]
    roles: Vec<NamedAnswer>,
    user: Option<NamedAnswer>,
    project: Option<NamedAnswer>,
}

#[derive(Deserialize)]
struct ServiceAnswer {
    #[serde(rename = "type")]
    service: String,
    #[serde(default)]
    endpoints: Vec<EndpointAnswer>,
}

#[derive(Deserialize)]
struct EndpointAnswer {
    interface: String,
    region: Option<String>,
    region_id: Option<String>,
    url: String,
}

#[derive(Deserialize)]
struct NamedAnswer {
    name: Option<String>,
}

impl TokenAnswer {
    fn kept(self, header: HeaderValue) -> Token {
        let now = clock::moment();
        let life = self.life();
        let owner = self.owner();
        let endpoints = self.catalog.into_iter().flat_map(|service| {
            let name = service.service;
            service.endpoints.into_iter().map(move |endpoint| Endpoint {
                service: name.clone(),
                interface: endpoint.interface,
                region: endpoint.region.or(endpoint.region_id),
                url: endpoint.url,
            })
        });
        Token {
            header,
            renew_after: now + life.saturating_sub(RENEW_BEFORE.min(life / 4)),
            dead_after: now + life,
            endpoints: endpoints.collect(),
            owner,
        }
    }

    /// Both times are Keystone's, so that our own wall clock need not agree with it.
    fn life(&self) -> Duration {
        let parse = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        match (parse(&self.issued_at), parse(&self.expires_at)) {
            (Some(issued), Some(expires)) => Duration::try_from(expires.duration_since(issued)).unwrap_or(LIFE_ASSUMED),
            (None, _) | (_, None) => LIFE_ASSUMED,
        }
    }

    fn owner(&self) -> String {
        let name =
            |of: &Option<NamedAnswer>| of.as_ref().and_then(|of| of.name.clone()).unwrap_or_else(|| "?".to_owned());
        let roles: Vec<&str> = self.roles.iter().filter_map(|role| role.name.as_deref()).collect();
        let roles = if roles.is_empty() { "none named".to_owned() } else { roles.join(", ") };
        format!("user {} in project {} with roles: {roles}", name(&self.user), name(&self.project))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_url_is_found_however_auth_url_is_written() {
        for (auth_url, is) in [
            ("http://k:5000", "http://k:5000/v3/auth/tokens"),
            ("http://k:5000/", "http://k:5000/v3/auth/tokens"),
            ("http://k:5000/v3", "http://k:5000/v3/auth/tokens"),
            ("http://k/identity/v3/", "http://k/identity/v3/auth/tokens"),
            ("http://k/identity", "http://k/identity/v3/auth/tokens"),
        ] {
            assert_eq!(token_url(&Url::parse(auth_url).expect("url")).as_str(), is, "{auth_url}");
        }
    }

    #[test]
    fn the_life_of_a_token_does_not_depend_on_our_clock() {
        let answer = |issued: Option<&str>, expires: Option<&str>| {
            serde_json::from_value::<TokenAnswer>(json!({ "issued_at": issued, "expires_at": expires }))
                .expect("tolerant")
                .life()
        };
        let old = answer(Some("2013-02-27T16:30:59.999999Z"), Some("2013-02-27T18:30:59.999999Z"));
        assert_eq!(old, Duration::from_secs(7200));
        assert_eq!(answer(None, Some("2013-02-27T18:30:59Z")), LIFE_ASSUMED);
        assert_eq!(answer(Some("x"), Some("2013-02-27T18:30:59Z")), LIFE_ASSUMED);
    }
}
