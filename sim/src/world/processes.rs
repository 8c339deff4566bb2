//! Processes of hosts that live: a nova-compute that fails, and is started again in vain, or comes back.

use std::collections::BTreeSet;

use rekindle_coordinator::order::{ServiceChange, ServiceOrder};
use rekindle_coordinator::process::{ProcessRule, ProcessSeen, RestartOrder};
use rekindle_proto::fact::NovaError;
use rekindle_proto::id::ProcessName;

use super::*;

/// How long Nova waits for a compute that it asks and that does not answer (`rpc_response_timeout`) is more than its caller
/// waits for Nova (`nova.timeout`): so long.
const CALLER_WAITS: Duration = Duration::from_secs(30);

/// How the reason begins that rekindle gives for it.
const DOWN_FOR_GOOD: &str = "rekindle: nova-compute is down for good";

/// nova-compute on every host, so far as it ever failed: of one that never did nothing is said.
#[derive(Debug, Default)]
pub(super) struct ProcessBook {
    told: BTreeSet<Ix>,
    failed: BTreeSet<Ix>,
    /// Counts its lives.
    runs: u64,
}

/// What every daemon is configured to watch.
pub(super) fn rules() -> Vec<ProcessRule> {
    let name = |name| ProcessName::new(name).ok();
    let rule = |name| ProcessRule { name, restarts: 2, delay: Duration::from_secs(5), disables: true };
    name("nova-compute").map(rule).into_iter().collect()
}

impl World {
    /// nova-compute fails, and no restart helps.
    pub fn fail_process(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("nova-compute of {host} fails"));
        self.count("process failed");
        self.processes.failed.insert(ix);
        self.nothing_is_finished(host);
        self.nova.compute_fails(host);
        self.tell_process(ix);
    }

    /// It is repaired, and runs.
    pub fn mend_process(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host).filter(|ix| self.processes.failed.contains(ix)) else { return };
        self.tell(format!("nova-compute of {host} is repaired"));
        self.process_runs(ix);
    }

    /// A person enables or disables a compute service.
    pub fn set_service_by_hand(&mut self, host: &HostName, change: &ServiceChange) {
        let now = self.now;
        let _ = self.nova.set_service(host, change, now);
    }

    /// nova-compute has been started, with its host or alone.
    pub(super) fn process_runs(&mut self, ix: Ix) {
        if self.processes.failed.remove(&ix) {
            self.processes.runs += 1;
            let host = self.hosts[ix].name.clone();
            let queue = self.nova.compute_runs(&host);
            self.replay(&host, queue);
            self.tell_process(ix);
        }
    }

    /// Whether anything was ever said of this host's processes.
    pub(super) fn watches_processes(&self, ix: Ix) -> bool {
        self.processes.told.contains(&ix)
    }

    fn tell_process(&mut self, ix: Ix) {
        self.processes.told.insert(ix);
        let start = self.hosts[ix].start;
        if let Some(input) = self.process_seen(ix) {
            self.later(ix, start, Duration::from_secs(1), input);
        }
    }

    /// What a daemon's adapter sees when it starts, or when something has changed.
    pub(super) fn process_seen(&self, ix: Ix) -> Option<Input> {
        let name = rules().into_iter().next()?.name;
        self.processes.told.contains(&ix).then(|| {
            let seen = if self.processes.failed.contains(&ix) {
                ProcessSeen::Failed("exit-code".into())
            } else {
                ProcessSeen::Running { run: self.processes.runs }
            };
            Input::Processes { seen: vec![(name, seen)] }
        })
    }

    /// It is started, and fails again: whoever is broken stays so.
    pub(super) fn restart_process(&mut self, ix: Ix, start: u32, order: &RestartOrder) {
        let name = self.hosts[ix].name.clone();
        self.tell(format!("[{name}] starts {} again", order.process()));
        self.count("processes started again");
        let done = Input::ProcessRestarted { call: order.call(), result: Ok(()) };
        self.later(ix, start, Duration::from_millis(100), done);
        if let Some(seen) = self.process_seen(ix) {
            self.later(ix, start, Duration::from_secs(1), seen);
        }
    }

    /// No compute service of a host that is well is disabled for a process that is long back.
    pub(super) fn all_enabled(&self) -> Result<(), Violation> {
        let ledger = self.raft.ledger();
        for (ix, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.has_kernel() && host.running) {
            let name = &host.name;
            let is_held =
                ledger.host(name).is_some_and(|record| record.quarantine.is_some() || record.absence.is_some());
            if is_held || ledger.open_incident(name).is_some() || ledger.brakes_of(name).is_some() {
                continue;
            }
            let reason = self.nova.disabled_reason(name).filter(|why| why.as_str().starts_with(DOWN_FOR_GOOD));
            if let Some(why) = reason.filter(|_| !self.processes.failed.contains(&ix)) {
                return Err(Violation::LeftDisabled { host: name.clone(), why: why.to_string() });
            }
        }
        Ok(())
    }

    pub(super) fn set_service(&mut self, ix: Ix, start: u32, order: &ServiceOrder) {
        if !self.in_time(ix, start, order.call(), order.begin_before()) {
            return;
        }
        if let Some(error) = self.nova_refuses(ix) {
            self.later(ix, start, Duration::from_millis(10), Input::Nova { call: order.call(), result: Err(error) });
            return;
        }
        let host = order.host().clone();
        let is_dead = self.is_dead(&host);
        let waits = self.nova.asks_the_dead(&host, order.change(), self.now);
        let result = self.nova.set_service(&host, order.change(), self.now);
        match order.change() {
            ServiceChange::LetBack if result.is_ok() => {
                self.tell(format!("Nova may use {host} again"));
                self.count("services let back");
            }
            ServiceChange::LetBack => {}
            change @ (ServiceChange::Enable | ServiceChange::Disable { .. }) => {
                self.tell(format!("the compute service of {host}: {change:?}"));
                self.count(if is_dead { "services set on dead hosts" } else { "services set" });
            }
        }
        let (after, result) = if waits {
            (CALLER_WAITS, Err(NovaError::Unknown("no answer in time".into())))
        } else {
            (Duration::from_millis(10), result)
        };
        self.later(ix, start, after, Input::Nova { call: order.call(), result });
    }
}
