//! Boot gates: a host that has one starts no guest before its gate is opened, which takes a leader's word, carried over the
//! very messages the daemon uses.

use rekindle_proto::admin::{AdminReply, AdminRequest};

use super::*;

/// Between two questions of a closed gate.
const ASK_EVERY: Duration = Duration::from_secs(2);

impl World {
    /// Installs a gate on every host: from its next boot on it holds.
    pub fn install_gates(&mut self) {
        for host in self.hosts.values_mut() {
            host.gate = true;
        }
    }

    /// A booted host's guests: at once without a gate, else once it is opened.
    pub(super) fn guests_may_start(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get(name) else { return };
        if host.gate {
            self.schedule(ASK_EVERY, Happening::AskGate(name.clone(), host.boot));
        } else {
            self.nova.host_returned(name);
        }
    }

    /// The gate of that boot asks its own daemon, until it is opened or the boot is over.
    pub(super) fn ask_gate(&mut self, name: &HostName, boot: BootId) {
        if !self.waits(name, boot) {
            return;
        }
        self.sequence += 1;
        let call = CallId(self.sequence);
        self.input(name, Input::Query { call, request: AdminRequest::Gate { host: None, boot: None } });
        self.schedule(ASK_EVERY, Happening::AskGate(name.clone(), boot));
    }

    /// A daemon that does not lead carries the question on.
    pub(super) fn relay(&mut self, from: &HostName, to: SocketAddr, request: &AdminRequest) {
        let Some(target) = self.addresses.get(&to).cloned().filter(|target| self.connected(from, target)) else {
            return;
        };
        self.sequence += 1;
        let (call, delay) = (CallId(self.sequence), self.millis(1, 40));
        self.later(&target, delay, Input::Query { call, request: request.clone() });
    }

    /// The leader's word. It names host and boot: about another boot it opens nothing.
    pub(super) fn answer(&mut self, reply: &AdminReply) {
        let AdminReply::Gate { gate } = reply else { return };
        if gate.open && self.waits(&gate.host, gate.boot) {
            self.tell(format!("the gate of {} opens: {}", gate.host, gate.why));
            if let Some(host) = self.hosts.get_mut(&gate.host) {
                host.opened = Some(gate.boot);
            }
            self.nova.host_returned(&gate.host);
            let list = self.guest_list(&gate.host);
            self.later(&gate.host, Duration::from_millis(5), Input::Guests { list });
        }
    }

    fn waits(&self, name: &HostName, boot: BootId) -> bool {
        self.lives(name)
            && self.hosts.get(name).is_some_and(|host| host.gate && host.boot == boot && host.opened != Some(boot))
    }
}
