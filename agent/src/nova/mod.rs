//! Keystone and Nova.
//!
//! The adapter sends what it is told and says honestly what became of it. The one distinction everything rests on is
//! between *certainly nothing happened* ([`NovaError::NotSent`], [`NovaError::Refused`]) and *it may have happened*
//! ([`NovaError::Unknown`]): Nova takes a second evacuate of the same server at any time, and then two copies run, so
//! whoever calls must never read the latter as the former.
//!
//! | file | does |
//! |---|---|
//! | `clouds` | reads an entry of `clouds.yaml` |
//! | `tls` | the HTTP clients: time-outs, trusted certificates |
//! | `aggregate` | a host added to an aggregate, or taken out |
//! | `lookup` | what rules of the selection need from Nova, Glance and Keystone, and one server |
//! | `groups` | server groups |
//! | `keystone` | one token, its catalog, and their renewal |
//! | `wire` | one HTTP request: permit, token, send, classify |
//! | `answer` | Nova's JSON, tolerantly, as our words |
//! | `listing` | pages |
//! | `masakari` | the segments of a Masakari in the same catalog |
//! | `service` | compute services: enabled, disabled with a reason, forced down, let back |
//! | `placement` | what each compute node has, and who holds it |

mod aggregate;
mod answer;
mod begun;
mod check;
mod clouds;
#[cfg(test)]
mod fake;
mod groups;
mod keystone;
mod listing;
mod lookup;
mod masakari;
mod placement;
mod reply;
mod service;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use osauth::ApiVersion;
use rekindle_coordinator::capacity::{CapacityQuestion, examine};
use rekindle_coordinator::io::{NovaAnswer, NovaRead};
use rekindle_coordinator::ledger::ServerAct;
use rekindle_coordinator::order::{EvacuateOrder, ForceDownOrder, GuestPower, GuestPowerOrder, ServerActOrder};
use rekindle_coordinator::recovery::SelectKeys;
use rekindle_coordinator::time::Moment;
use rekindle_proto::capacity::CapacityDoc;
use rekindle_proto::fact::{NovaError, NovaService, Text};
use rekindle_proto::id::{HostName, ServerId, ServiceId};
use reqwest::Method;
use serde_json::json;

pub use self::clouds::NovaSetupError;
pub use self::masakari::{MasakariHost, MasakariSegment};
pub(crate) use self::reply::chain;
pub(crate) use self::tls::acting_client;
use self::wire::{Act, Get, Wire};

/// Compute services. 2.53 is the first whose ids are UUIDs and in which a service is changed by its id, not by host and
/// binary; above 2.69 the list has half-empty rows for unreachable cells.
const SERVICES: ApiVersion = ApiVersion(2, 53);

/// Servers. From 2.69 a server of an unreachable cell is shown with what is known of it, instead of as if deleted; from 2.73
/// (Train) a lock is shown with its reason, by which we know our own.
const SERVERS: ApiVersion = ApiVersion(2, 73);

/// Migration records. 2.59 is the first that is paged (and names records by UUID, which paging needs).
const MIGRATIONS: ApiVersion = ApiVersion(2, 59);

/// Evacuate. 2.68 is the first without `force`, by which the scheduler could be passed over; up to 2.94 the server's
/// power state is restored at the destination, from 2.95 it is left stopped. The lowest of that range reaches the most
/// clouds (Stein and later).
const EVACUATE: ApiVersion = ApiVersion(2, 68);

/// The same for a server that is to be stopped where it arrives: 2.95 (Antelope) is the first that does so. An older Nova
/// answers 406, one with an older compute 400; then it is evacuated as any other, and stopped there.
const EVACUATE_STOPPED: ApiVersion = ApiVersion(2, 95);

/// `lock` and `unlock`. 2.73 is the first whose locks have a reason.
const LOCK: ApiVersion = ApiVersion(2, 73);

/// `os-resetState` has not changed since the first microversion.
const RESET: ApiVersion = ApiVersion(2, 1);

/// `os-stop` and `os-start` have not changed since the first microversion.
const GUEST_POWER: ApiVersion = ApiVersion(2, 1);

/// What the Nova adapter needs to know.
#[derive(Debug, Clone)]
pub struct NovaSettings {
    /// `clouds.yaml`.
    pub clouds_file: PathBuf,
    /// The entry in it.
    pub cloud: String,
    /// Total time-out of one call.
    pub timeout: Duration,
    /// Which metadata, extra specs and properties the selection looks at: no other is read out of an answer.
    pub keys: SelectKeys,
}

/// Compute services whose ids are remembered: a roster's worth of hosts, and room for those that left it.
const SERVICES_MAX: usize = 4_096;

/// One cloud's Nova. Cheap to clone; all clones share one token.
#[derive(Debug, Clone)]
pub struct Nova {
    wire: Arc<Wire>,
    /// The ids of compute services that were read. A force-down has a permit of half a second, and a busy Nova takes
    /// longer than that to answer who it is about: looked for each time, it would never be sent.
    services: Arc<Mutex<BTreeMap<HostName, ServiceId>>>,
    keys: Arc<SelectKeys>,
    /// The latest reading of Placement: questions that follow each other are answered from one.
    placement: Arc<placement::Latest>,
}

impl Nova {
    /// Reads the files. Nothing is sent: a cloud that is down does not keep the daemon from starting.
    ///
    /// # Errors
    /// [`NovaSetupError`] names the file, the entry, and the rule that is broken.
    pub fn open(settings: NovaSettings) -> Result<Self, NovaSetupError> {
        let cloud = clouds::read(&settings.clouds_file, &settings.cloud)?;
        let keys = Arc::new(settings.keys);
        let wire = Arc::new(Wire::new(cloud, settings.timeout)?);
        Ok(Self { wire, services: Arc::default(), keys, placement: Arc::default() })
    }

    /// Answers a question.
    ///
    /// # Errors
    /// [`NovaError`]; whichever it is, nothing was changed. A list that could not be read to its end is an error, never
    /// a shorter list.
    pub async fn read(&self, request: NovaRead) -> Result<NovaAnswer, NovaError> {
        match request {
            NovaRead::Service(host) => self.service(&host).await.map(NovaAnswer::Service),
            NovaRead::Servers(host) => listing::servers(&self.wire, &host, &self.keys).await.map(NovaAnswer::Servers),
            NovaRead::Migrations(host) => listing::migrations_at(&self.wire, &host).await.map(NovaAnswer::Migrations),
            NovaRead::NewestEvacuations { rows } => {
                listing::newest_evacuations(&self.wire, rows).await.map(NovaAnswer::Migrations)
            }
            NovaRead::MigrationsOf(server) => {
                listing::migrations_of(&self.wire, server).await.map(NovaAnswer::Migrations)
            }
            NovaRead::Begun { server, migration } => {
                begun::begun(&self.wire, server, migration).await.map(NovaAnswer::Begun)
            }
            NovaRead::Server(server) => lookup::server(&self.wire, server, &self.keys).await,
            NovaRead::Look { host, lookup } => lookup::look(&self.wire, &host, &lookup, &self.keys).await,
            NovaRead::Capacity(question) => self.capacity(question).await.map(NovaAnswer::Capacity),
        }
    }

    /// Marks the compute service of a host forced-down and answers that service, read again afterwards;
    /// `NovaAnswer::Service(None)`: Nova has none of that host, and nothing was sent.
    ///
    /// # Errors
    /// [`NovaError`], exact about whether the change may have been made. Repeating it does no harm.
    pub async fn force_down(&self, order: &ForceDownOrder) -> Result<NovaAnswer, NovaError> {
        self.mark_forced_down(order.host(), order.begin_before()).await
    }

    /// Asks Nova to rebuild a server elsewhere. Sent at most once: only a 401, by which Nova says that it did nothing, is
    /// answered with a new token and a second try, under the same permit.
    ///
    /// # Errors
    /// [`NovaError`], exact about whether the evacuation may have begun.
    pub async fn evacuate(&self, order: &EvacuateOrder) -> Result<NovaAnswer, NovaError> {
        self.send_evacuate(order.server(), order.dest(), order.stop_on_arrival(), order.begin_before()).await
    }

    /// Stops or starts a server where it is.
    ///
    /// # Errors
    /// [`NovaError`], exact about whether it may have been done.
    pub async fn guest_power(&self, order: &GuestPowerOrder) -> Result<NovaAnswer, NovaError> {
        self.send_guest_power(order.server(), order.power(), order.begin_before()).await
    }

    /// Locks, unlocks, resets, stops or starts a server that is being recovered.
    ///
    /// # Errors
    /// [`NovaError`], exact about whether it may have been done.
    pub async fn server_act(&self, order: &ServerActOrder) -> Result<NovaAnswer, NovaError> {
        self.send_server_act(order.server(), order.act(), order.reason(), order.begin_before()).await
    }

    /// For `rekindled --check`: tries what can be tried without changing anything, and says in words what came of it.
    ///
    /// # Errors
    /// The first failure, with what to mend.
    pub async fn check(&self) -> Result<String, NovaError> {
        check::check(&self.wire).await
    }

    async fn service(&self, host: &HostName) -> Result<Option<NovaService>, NovaError> {
        let query = [("binary", "nova-compute"), ("host", host.as_str())];
        let body = self.wire.get(Get { version: SERVICES, path: &["os-services"], query: &query }).await?;
        let service = answer::service_of(&body, host)?;
        self.remember(host, service.as_ref().map(|service| service.id));
        Ok(service)
    }

    /// What Nova said last of a host's service: its id, or that there is none.
    fn remember(&self, host: &HostName, service: Option<ServiceId>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        match service {
            Some(id) if services.len() < SERVICES_MAX || services.contains_key(host) => {
                services.insert(host.clone(), id);
            }
            Some(_) => {}
            None => {
                services.remove(host);
            }
        }
    }

    fn remembered(&self, host: &HostName) -> Option<ServiceId> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }

    /// Reads Placement, and has the coordinator judge it on a thread of its own: of a large site that takes seconds.
    async fn capacity(&self, question: CapacityQuestion) -> Result<Result<Box<CapacityDoc>, Text>, NovaError> {
        let reading = self.placement.reading(&self.wire).await?;
        tokio::task::spawn_blocking(move || examine(&reading, &question).map(Box::new))
            .await
            .map_err(|error| NovaError::Unknown(Text::new(format!("the estimate was not finished: {error}"))))
    }

    async fn send_evacuate(
        &self,
        server: ServerId,
        dest: Option<&HostName>,
        stop_on_arrival: bool,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let version = if stop_on_arrival { EVACUATE_STOPPED } else { EVACUATE };
        // A wish, which the scheduler examines like any other host (2.29 and later, without `force`).
        let evacuate = dest.map_or_else(|| json!({}), |dest| json!({ "host": dest }));
        self.server_action(server, version, json!({ "evacuate": evacuate }), begin_before).await
    }

    async fn send_server_act(
        &self,
        server: ServerId,
        act: ServerAct,
        reason: &Text,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let (version, body) = match act {
            ServerAct::Lock => (LOCK, json!({ "lock": { "locked_reason": reason.as_str() } })),
            ServerAct::Unlock => (LOCK, json!({ "unlock": null })),
            ServerAct::Reset | ServerAct::Mark => (RESET, json!({ "os-resetState": { "state": "error" } })),
            ServerAct::Stop => (GUEST_POWER, json!({ "os-stop": null })),
            ServerAct::Start => (GUEST_POWER, json!({ "os-start": null })),
        };
        self.server_action(server, version, body, begin_before).await
    }

    async fn send_guest_power(
        &self,
        server: ServerId,
        power: GuestPower,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let body = match power {
            GuestPower::Stop => json!({ "os-stop": null }),
            GuestPower::Start => json!({ "os-start": null }),
        };
        self.server_action(server, GUEST_POWER, body, begin_before).await
    }

    async fn server_action(
        &self,
        server: ServerId,
        version: ApiVersion,
        body: serde_json::Value,
        begin_before: Moment,
    ) -> Result<NovaAnswer, NovaError> {
        let id = server.to_string();
        let path = ["servers", id.as_str(), "action"];
        self.wire.act(Act { version, method: Method::POST, path: &path, body, begin_before }).await?;
        Ok(NovaAnswer::Accepted)
    }
}
