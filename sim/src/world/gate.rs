//! Boot gates: a host that has one starts no compute service before its gate is opened, which takes a leader's word, carried
//! by the very questions and answers the daemon uses.

use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::fact::{GateReport, GateState};

use super::*;

/// Between two questions of a closed gate.
const ASK_EVERY: Duration = Duration::from_secs(2);

impl World {
    /// The compute service of a host that has booted: at once without a gate, else once it is opened.
    pub(super) fn guests_may_start(&mut self, ix: Ix) {
        if self.hosts[ix].gate {
            let boot = self.hosts[ix].boot;
            self.schedule(ASK_EVERY, Happening::AskGate { host: ix as u32, boot });
        } else {
            self.start_compute(ix);
        }
    }

    /// The gate of that boot asks its own daemon, until it is opened or the boot is over.
    pub(super) fn ask_gate(&mut self, ix: Ix, boot: BootId) {
        if !self.waits(ix, boot) {
            return;
        }
        self.queries += 1;
        let (call, start) = (CallId(self.queries), self.hosts[ix].start);
        let request = Box::new(AdminRequest::Gate { host: None, boot: None });
        self.schedule(Duration::ZERO, Happening::Query { host: ix as u32, start, call, request });
        self.schedule(ASK_EVERY, Happening::AskGate { host: ix as u32, boot });
    }

    /// The leader's word. It names host and boot: about another boot it opens nothing.
    pub(super) fn gate_answers(&mut self, reply: &AdminReply) {
        let AdminReply::Gate { gate } = reply else { return };
        let Some(ix) = self.ix(&gate.host).filter(|ix| gate.open && self.waits(*ix, gate.boot)) else { return };
        self.tell(format!("the gate of {} opens: {}", gate.host, gate.why));
        self.count("gates opened");
        self.hosts[ix].opened = Some(gate.boot);
        if self.watches_processes(ix) {
            // Whoever watches processes must know when the gate holds them no more.
            let (start, report) = (self.hosts[ix].start, self.gate_report(ix));
            self.later(ix, start, Duration::from_secs(1), Input::Gate { report });
        }
        self.start_compute(ix);
        self.relist(&gate.host);
    }

    /// What a daemon that starts says of its host's gate.
    pub(super) fn gate_report(&self, ix: Ix) -> GateReport {
        let host = &self.hosts[ix];
        let is_open = host.opened == Some(host.boot);
        let state = match (host.gate, is_open) {
            (true, true) => GateState::OpenedByLedger,
            (true, false) => GateState::Closed { why: "it asks".into() },
            (false, _) => GateState::NotRun,
        };
        GateReport { installed: host.gate, state }
    }

    fn waits(&self, ix: Ix, boot: BootId) -> bool {
        let host = &self.hosts[ix];
        host.gate && host.has_kernel() && host.boot == boot && host.opened != Some(boot)
    }
}
