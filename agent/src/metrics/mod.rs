//! What Prometheus is told: counters and gauges, fed by the shell through plain methods. No decision rests on any of them.
//!
//! Labels are words of our own or of the configuration, never a text from elsewhere: the number of time series is bounded.

mod capacity;
mod paths;
mod processes;
mod server;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rekindle_coordinator::io::Event;
use rekindle_proto::fact::{DeviceError, DeviceReading, NovaError, OrderError};
use rekindle_proto::status::{MembersDoc, Phase, StatusDoc};

pub use server::{MetricsServeError, MetricsServer};

use crate::config::Member;
use capacity::CapacityMetrics;
use paths::PathMetrics;
use processes::ProcessMetrics;

/// The shell's loop turns at least that often, or `/healthz` says that it does not: ten of its idle ticks.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(10);

/// Host states that are counted by name; any other word is counted as `other`.
const STATES: [&str; 12] = [
    "alive",
    "suspect",
    "down",
    "absent",
    "unseen",
    "unclean",
    "fencing",
    "fenced",
    "evacuating",
    "stuck",
    "quarantined",
    "other",
];

/// Phases in which an incident is open.
const OPEN: [Phase; 6] =
    [Phase::Suspect, Phase::Unclean, Phase::Fencing, Phase::Fenced, Phase::Evacuating, Phase::Stuck];

/// One label, by a word of ours.
type ByWord = Vec<(&'static str, &'static str)>;

/// All metrics of a daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    hosts: Family<ByWord, Gauge>,
    members: Family<ByWord, Gauge>,
    leads: Gauge,
    term: Gauge,
    armed: Gauge,
    roster: Gauge,
    roster_alive: Gauge,
    roster_needed: Gauge,
    alarms: Gauge,
    unfenceable: Gauge,
    open: Family<ByWord, Gauge>,
    phases: Family<ByWord, Counter>,
    warnings: Counter,
    power_offs: Family<ByWord, Counter>,
    device_errors: Family<ByWord, Counter>,
    evacuates: Family<ByWord, Counter>,
    servers_bad: Counter,
    nova_errors: Family<ByWord, Counter>,
    dropped: Family<ByWord, Counter>,
    turns: Histogram,
    last_turn: Mutex<Option<Instant>>,
    capacity: CapacityMetrics,
    processes: ProcessMetrics,
    paths: PathMetrics,
}

impl Metrics {
    /// The metrics of this member, all at zero.
    #[must_use]
    pub fn new(member: &Member) -> Self {
        let mut registry = Registry::with_prefix("rekindle");
        let mut labels: BTreeMap<String, String> = member.labels.clone();
        labels.insert("host".to_owned(), member.host.as_str().to_owned());
        labels.insert("role".to_owned(), member.role.to_string());
        labels.insert("domain".to_owned(), member.domain.as_ref().map_or_else(String::new, ToString::to_string));
        labels.insert("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let labels: Vec<(String, String)> = labels.into_iter().collect();
        registry.register("member", "Who this member is", Info::new(labels));
        // Ten microseconds to about five seconds: the watchdog bites at ten.
        let turns = Histogram::new(exponential_buckets(0.000_01, 4.0, 11));
        let histogram = turns.clone();
        registry.register_with_unit("loop_turn", "One turn of the shell's loop", Unit::Seconds, histogram);
        let metrics = Self {
            hosts: Family::default(),
            members: Family::default(),
            leads: Gauge::default(),
            term: Gauge::default(),
            armed: Gauge::default(),
            roster: Gauge::default(),
            roster_alive: Gauge::default(),
            roster_needed: Gauge::default(),
            alarms: Gauge::default(),
            unfenceable: Gauge::default(),
            open: Family::default(),
            phases: Family::default(),
            warnings: Counter::default(),
            power_offs: Family::default(),
            device_errors: Family::default(),
            evacuates: Family::default(),
            servers_bad: Counter::default(),
            nova_errors: Family::default(),
            dropped: Family::default(),
            turns,
            last_turn: Mutex::new(None),
            capacity: CapacityMetrics::default(),
            processes: ProcessMetrics::default(),
            paths: PathMetrics::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let to = &mut self.registry;
        to.register("hosts", "Roster by state, as the leader sees it", self.hosts.clone());
        to.register("members", "Members by state, as this member's gossip has them", self.members.clone());
        to.register("leads", "1 on the member that leads", self.leads.clone());
        to.register("term", "The ledger's term", self.term.clone());
        to.register("armed", "1: acting; 0: watching only, or no roster yet", self.armed.clone());
        to.register("roster", "Hosts and witnesses in the roster", self.roster.clone());
        to.register("roster_alive", "Those heard from lately", self.roster_alive.clone());
        to.register("roster_needed", "Those that must answer before anything is done", self.roster_needed.clone());
        to.register("alarms", "Alarms in rekindle status", self.alarms.clone());
        let help = "Hypervisors that none of their fence devices could prove off now, as the leader last read them";
        to.register("unfenceable", help, self.unfenceable.clone());
        to.register("incidents_open", "Open incidents by phase", self.open.clone());
        to.register("phase_changes", "Phases entered, as seen by this member", self.phases.clone());
        to.register("warnings", "Warnings of the coordinator", self.warnings.clone());
        to.register("power_offs", "Power-off commands by result", self.power_offs.clone());
        to.register("device_errors", "Failed readings and commands of fence devices", self.device_errors.clone());
        to.register("evacuates", "Evacuate calls by result", self.evacuates.clone());
        to.register("servers_bad", "Attempts failed and servers left behind", self.servers_bad.clone());
        to.register("nova_errors", "Failed calls of Keystone and Nova", self.nova_errors.clone());
        to.register("dropped", "Messages dropped because a bound was reached", self.dropped.clone());
        self.capacity.register(to);
        self.processes.register(to);
        self.paths.register(to);
        self
    }

    /// Counts what the coordinator says happened.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Phase { phase, .. } => {
                self.phases.get_or_create(&vec![("phase", phase_word(*phase))]).inc();
            }
            Event::Leader { term, us, .. } => {
                self.term.set(i64::try_from(term.0).unwrap_or(i64::MAX));
                self.leads.set(i64::from(*us));
                if !us {
                    self.capacity.forget();
                }
            }
            Event::Server { bad, .. } => {
                if *bad {
                    self.servers_bad.inc();
                }
            }
            Event::Warning { .. } => {
                self.warnings.inc();
            }
            Event::Member { .. } | Event::Process { .. } => {}
        }
    }

    /// Takes over the picture as of now.
    pub fn status(&self, status: &StatusDoc) {
        let mut hosts: BTreeMap<&'static str, i64> = BTreeMap::new();
        for host in &status.hosts {
            *hosts.entry(state_word(host.state.as_str())).or_default() += 1;
        }
        for state in STATES {
            self.hosts.get_or_create(&vec![("state", state)]).set(hosts.get(state).copied().unwrap_or(0));
        }
        for phase in OPEN {
            let count = status.incidents.iter().filter(|incident| incident.line.phase == phase).count();
            self.open.get_or_create(&vec![("phase", phase_word(phase))]).set(gauge(count));
        }
        self.term.set(i64::try_from(status.term.0).unwrap_or(i64::MAX));
        self.armed.set(i64::from(status.armed == Some(true)));
        self.roster.set(i64::from(status.roster));
        self.roster_alive.set(i64::from(status.alive));
        self.roster_needed.set(i64::from(status.needed));
        self.alarms.set(gauge(status.alarms.len()));
        self.unfenceable.set(gauge(status.unfenceable.len()));
        self.capacity.show(status.capacity.as_ref());
        self.processes.show(status);
        self.paths.show(status);
    }

    /// Takes over gossip as of now.
    pub fn gossip(&self, members: &MembersDoc) {
        for state in ["alive", "suspect", "down"] {
            let count = members.members.iter().filter(|member| member.state.as_str() == state).count();
            self.members.get_or_create(&vec![("state", state)]).set(gauge(count));
        }
    }

    /// A power-off command came back.
    pub fn power_off(&self, result: Result<(), &OrderError>) {
        let word = result.map_or_else(order_word, |()| "accepted");
        self.power_offs.get_or_create(&vec![("result", word)]).inc();
        if let Err(error) = result {
            let kind = error.told().map_or("too-late", device_word);
            self.device_errors.get_or_create(&vec![("kind", kind)]).inc();
        }
    }

    /// A device was read.
    pub fn device_read(&self, reading: &DeviceReading) {
        if let Err(error) = &reading.power {
            self.device_error(error);
        }
    }

    fn device_error(&self, error: &DeviceError) {
        self.device_errors.get_or_create(&vec![("kind", device_word(error))]).inc();
    }

    /// An evacuate call came back.
    pub fn evacuate(&self, result: Result<(), &NovaError>) {
        let word = result.map_or_else(nova_word, |()| "accepted");
        self.evacuates.get_or_create(&vec![("result", word)]).inc();
        if let Err(error) = result {
            self.nova_error(error);
        }
    }

    /// Any other call to Nova failed.
    pub fn nova_error(&self, error: &NovaError) {
        self.nova_errors.get_or_create(&vec![("kind", nova_word(error))]).inc();
    }

    /// Something was dropped because a bound was reached: `datagram`, `message`, `event`, ….
    pub fn dropped(&self, what: &'static str) {
        self.dropped.get_or_create(&vec![("what", what)]).inc();
    }

    /// The loop has turned, and took so long. To be called from the loop itself.
    pub fn loop_turn(&self, took: Duration) {
        self.turns.observe(took.as_secs_f64());
        if let Ok(mut last) = self.last_turn.lock() {
            *last = Some(Instant::now());
        }
    }

    /// Whether the loop turned within [`HEALTHY_WITHIN`].
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.last_turn.lock().is_ok_and(|last| last.is_some_and(|at| at.elapsed() < HEALTHY_WITHIN))
    }

    /// All of it, in OpenMetrics' text form.
    #[must_use]
    pub fn encoded(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail; if an encoder did, a cut text lacks its end mark and is refused.
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            tracing::warn!("metrics could not be encoded");
        }
        text
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn state_word(state: &str) -> &'static str {
    STATES.into_iter().find(|known| *known == state).unwrap_or("other")
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Suspect => "suspect",
        Phase::Unclean => "unclean",
        Phase::Fencing => "fencing",
        Phase::Fenced => "fenced",
        Phase::Evacuating => "evacuating",
        Phase::Recovered => "recovered",
        Phase::Refuted => "refuted",
        Phase::Stuck => "stuck",
    }
}

fn device_word(error: &DeviceError) -> &'static str {
    match error {
        DeviceError::Silent(_) => "silent",
        DeviceError::Credentials(_) => "credentials",
        DeviceError::Refused(_) => "refused",
        DeviceError::Unusable(_) => "unusable",
        DeviceError::Foreign(_) => "foreign",
    }
}

fn order_word(error: &OrderError) -> &'static str {
    match error {
        OrderError::TooLate => "too-late",
        OrderError::NotSent(_) => "not-sent",
        OrderError::MaybeSent(error) => device_word(error),
    }
}

fn nova_word(error: &NovaError) -> &'static str {
    match error {
        NovaError::NotSent(_) => "not-sent",
        NovaError::Refused { .. } => "refused",
        NovaError::Unknown(_) => "unknown",
        NovaError::Malformed(_) => "malformed",
    }
}

#[cfg(test)]
mod tests;
