//! Hosts that go, with or without a word, and come back in another boot with none of their guests.

use rekindle_proto::fact::StopReason;

use super::*;

impl World {
    /// A host is told to reboot or to power off: its daemon says so, then everything on it ends.
    pub fn shut_down(&mut self, host: &HostName, why: StopReason) {
        self.tell(format!("{host} shuts down: {why}"));
        self.input(host, Input::Stopping { why });
        self.kill_host(host, why == StopReason::PowerOff);
    }

    /// A host's hypervisor lists its guests, as it does every minute.
    pub fn list_guests(&mut self, host: &HostName) {
        let list = self.guest_list(host);
        self.input(host, Input::Guests { list });
    }

    /// A host that has power runs again, in a new boot, without its guests: nobody starts them by himself.
    pub fn boot_without_guests(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.powered = true;
        host.starts += 1;
        host.boot = BootId(Uuid::from_u128(host.boot.0.as_u128() + (1 << 64)));
        self.tell(format!("{name} has booted, without its guests"));
        self.nova.host_returned_empty(name);
        self.start_daemon(name);
    }
}
