//! Hosts that go, with or without a word, and come back in another boot with none of their guests.

use rekindle_proto::fact::StopReason;

use super::*;

impl World {
    /// A host is told to reboot or to power off: its daemon says so, then everything on it ends.
    pub fn shut_down(&mut self, host: &HostName, why: StopReason) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("{host} shuts down: {why}"));
        self.input(ix, Input::Stopping { why });
        self.kill_host(host, why == StopReason::PowerOff);
    }

    /// A host runs again, in a new boot, without its guests: nobody starts them by himself.
    pub fn boot_without_guests(&mut self, name: &HostName) {
        let Some(ix) = self.ix(name) else { return };
        let host = &mut self.hosts[ix];
        host.powered = true;
        host.kernel = true;
        host.start += 1;
        host.boot = BootId(Uuid::from_u128(host.boot.0.as_u128() + (1 << 64)));
        self.tell(format!("{name} has booted, without its guests"));
        let now = self.now;
        self.nova.host_returned_empty(name, now);
        self.start_daemon(ix);
    }
}
