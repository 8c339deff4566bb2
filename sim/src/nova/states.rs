//! States of servers: which of them Nova evacuates, what it makes of them, locks, resets, stops and starts.
//!
//! Source: nova/compute/api.py and nova/compute/manager.py, `_do_rebuild_instance`: whatever it builds runs, but a server that
//! was stopped, and one that is to be stopped where it arrives (microversion 2.95).

use super::*;
use rekindle_coordinator::ledger::ServerAct;
use rekindle_proto::fact::ServerStanding;

/// States in which servers are found when their host dies: Nova's `vm_state`, its task, and whether a guest runs.
const FOUND: [(&str, &str, bool); 14] = [
    // Nova's sync has written it, and it runs.
    ("stopped", "", true),
    ("stopped", "", false),
    ("stopped", "powering-on", false),
    ("paused", "", true),
    ("suspended", "", false),
    ("rescued", "", true),
    ("shelved", "", false),
    ("resized", "", true),
    ("resized", "", false),
    ("error", "", false),
    ("error", "", true),
    ("error", "powering-off", false),
    ("active", "rebooting", true),
    ("building", "spawning", false),
];

/// The reason of an owner's lock.
pub const OWNERS_REASON: &str = "mine, leave it";

/// Which of these a server is in, by a number; `None`: it is active, as most are.
#[must_use]
pub fn found(number: usize) -> (&'static str, Option<&'static str>, bool) {
    let (state, task, runs) = FOUND[number % FOUND.len()];
    (state, (!task.is_empty()).then_some(task), runs)
}

/// What a server's owner finds in the end, by the state in which its host's death found it; `None`: it is left behind.
#[must_use]
pub fn wanted(state: &str, runs: bool) -> Option<(&'static str, bool)> {
    match (state, runs) {
        ("active", _) | ("resized" | "stopped", true) => Some(("active", true)),
        ("error", runs) => Some(("error", runs)),
        ("building", _) => None,
        _ => Some(("stopped", false)),
    }
}

impl Nova {
    /// Puts a server in one of the states in which servers are found.
    pub fn put(&mut self, server: ServerId, (state, task, runs): (&str, Option<&str>, bool), locked: bool) {
        let Some(record) = self.servers.get_mut(&server) else { return };
        record.vm_state = state.into();
        record.task_state = task.map(Text::from);
        record.standing.locked = locked;
        record.standing.lock_reason = locked.then(|| OWNERS_REASON.into());
        let host = record.host.clone();
        if let (Some(host), false) = (host, runs) {
            self.ends(server, &host);
        }
        self.found.insert(server, (state.to_owned(), runs, locked));
    }

    /// In which state a server was put, whether it ran, and whether its owner had locked it.
    #[must_use]
    pub fn found(&self, server: ServerId) -> Option<&(String, bool, bool)> {
        self.found.get(&server)
    }

    /// Guests that a host's hypervisor knows, and that do not run.
    pub fn idle_on(&self, host: &HostName) -> impl Iterator<Item = ServerId> {
        let is_idle = |server: &&NovaServer| {
            server.host.as_ref() == Some(host) && server.vm_state.as_str() != "active" && self.copies(server.id) == 0
        };
        self.servers.values().filter(is_idle).map(|server| server.id)
    }

    /// A server as the API shows it.
    pub(super) fn shown(&self, server: &NovaServer) -> NovaServer {
        let runs = server.host.as_ref().is_some_and(|host| self.copies_on(server.id).any(|on| on == host));
        let power_state = Some(if runs { 1 } else { 4 });
        NovaServer { standing: ServerStanding { power_state, ..server.standing.clone() }, ..server.clone() }
    }

    /// An act on a server. Gives back the cast to its host, if there is one.
    ///
    /// # Errors
    /// Nova's own refusals.
    pub fn act(
        &mut self,
        server: ServerId,
        act: ServerAct,
        reason: &Text,
    ) -> Result<Option<(HostName, Cast)>, NovaError> {
        let refused = |status: u16, text: &str| Err(NovaError::Refused { status, text: text.into() });
        let Some(record) = self.servers.get_mut(&server) else { return refused(404, "no such server") };
        let state = record.vm_state.as_str();
        match act {
            ServerAct::Lock => {
                record.standing.locked = true;
                record.standing.lock_reason = Some(reason.clone());
                Ok(None)
            }
            ServerAct::Unlock => {
                record.standing.locked = false;
                record.standing.lock_reason = None;
                Ok(None)
            }
            ServerAct::Reset | ServerAct::Mark => {
                record.vm_state = "error".into();
                record.task_state = None;
                Ok(None)
            }
            ServerAct::Stop if !matches!(state, "active" | "error") => refused(409, "Cannot 'stop' in this vm_state"),
            ServerAct::Start if state != "stopped" => refused(409, "Cannot 'start' in this vm_state"),
            ServerAct::Stop | ServerAct::Start => Ok(self.power(server, act == ServerAct::Start)),
        }
    }
}
