//! Asking the leader, as an operator would, with the answer at hand.

use rekindle_proto::admin::{AdminReply, AdminRequest};

use super::*;

/// The number of a question asked from outside: no coordinator's own call comes so far.
const QUESTION: CallId = CallId(u64::MAX);

impl World {
    /// Asks a daemon that runs. `None`: it does not, or it would have to ask somebody else first.
    pub fn inquire(&mut self, host: &HostName, request: AdminRequest) -> Option<AdminReply> {
        let ix = self.ix(host).filter(|ix| self.speaks(*ix))?;
        let now = self.clock(ix);
        let coordinator = self.hosts[ix].coordinator.as_mut()?;
        coordinator.handle(now, Input::Query { call: QUESTION, request });
        let mut outputs = Vec::new();
        while let Some(output) = coordinator.poll_output() {
            outputs.push(output);
        }
        let mut answer = None;
        for output in outputs {
            if let Output::Answer { call: QUESTION, reply } = output {
                answer = Some(*reply);
            } else {
                self.output(ix, output);
            }
        }
        answer
    }

    /// What the leader holds back, and why: suspects that are no incident yet, and open incidents.
    pub fn holds(&mut self) -> Vec<(HostName, String)> {
        let Some(leader) = self.leader() else { return Vec::new() };
        let Some(AdminReply::Status { status }) = self.inquire(&leader, AdminRequest::Status) else {
            return Vec::new();
        };
        let hosts = status.hosts.iter().flat_map(|line| {
            line.notes.iter().filter(|note| note.as_str() != "leader").map(|note| (line.host.clone(), note.to_string()))
        });
        let incidents = status
            .incidents
            .iter()
            .flat_map(|incident| incident.held_by.iter().map(|why| (incident.line.host.clone(), why.to_string())));
        hosts.chain(incidents).collect()
    }
}
