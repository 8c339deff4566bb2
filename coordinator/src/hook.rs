//! Commands of the site, run at certain points of an incident: the rules, and the order to run one.

use std::time::Duration;

use rekindle_proto::hook::{HOOK_SERVERS_MAX, HOOK_VERSION, HookDoc, HookPoint, HookServer};
use rekindle_proto::id::CallId;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::ledger::{Fate, Incident, ServerRecord};

/// Most hooks of a configuration: each may delay a recovery by its time-out.
pub const HOOKS_MAX: usize = 16;

/// One hook, as far as it is decided about. Which program it is, the adapter knows by its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRule {
    /// When.
    pub on: HookPoint,
    /// The program, for the story.
    pub program: String,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether the incident goes no further without its success.
    pub hold: bool,
}

/// A hook to be run: its begin is committed by this leadership.
#[derive(Debug)]
pub struct HookOrder {
    call: CallId,
    hook: u8,
    timeout: Duration,
    document: Box<HookDoc>,
}

impl HookOrder {
    pub(crate) fn new(call: CallId, hook: u8, rule: &HookRule, document: HookDoc) -> Self {
        Self { call, hook, timeout: rule.timeout, document: Box::new(document) }
    }

    /// To be repeated in the answer.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// Its position in the configuration.
    #[must_use]
    pub fn hook(&self) -> usize {
        usize::from(self.hook)
    }

    /// After which it is killed.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// For its standard input.
    #[must_use]
    pub fn document(&self) -> &HookDoc {
        &self.document
    }
}

/// What a hook is told of an incident.
pub(crate) fn document(cx: &Context<'_>, incident: &Incident, on: HookPoint) -> HookDoc {
    let mut servers: Vec<HookServer> = incident.servers.iter().map(|(id, record)| server(*id, record)).collect();
    if servers.is_empty() {
        let pulse = cx.ledger.host(&incident.host).and_then(|record| record.pulse.as_ref());
        let running = pulse.into_iter().flat_map(|pulse| &pulse.guests.guests).filter(|guest| guest.running);
        let waiting = |guest: &rekindle_proto::fact::Guest| HookServer {
            id: guest.server,
            name: "".into(),
            state: "waiting".into(),
            to: None,
            reason: None,
        };
        servers = running.map(waiting).collect();
    }
    let left_out = servers.len().saturating_sub(HOOK_SERVERS_MAX);
    servers.truncate(HOOK_SERVERS_MAX);
    HookDoc {
        version: HOOK_VERSION,
        on,
        cluster: cx.setup.cluster.clone(),
        leader: cx.setup.host.clone(),
        incident: incident.id,
        host: incident.host.clone(),
        phase: incident.phase,
        began: incident.began,
        text: incident.story.last().map(|line| line.text.clone()).unwrap_or_default(),
        servers,
        servers_left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
    }
}

fn server(id: rekindle_proto::id::ServerId, record: &ServerRecord) -> HookServer {
    let (state, to, reason) = match &record.fate {
        None => ("waiting", None, None),
        Some(Fate::Recovered { to }) => ("recovered", Some(to.clone()), None),
        Some(Fate::LeftBehind { why }) => ("left-behind", None, Some(why.clone())),
        Some(Fate::Deleted) => ("deleted", None, None),
    };
    HookServer { id, name: record.name.clone(), state: state.into(), to, reason }
}
