//! Cloud calls: what the coordinators ask of Nova, and what becomes of it.

use super::*;

impl World {
    pub(super) fn guest_list(&self, host: &HostName) -> GuestList {
        let guest = |server| Guest { server, running: true, disks: DiskPlacement::Shared };
        GuestList { complete: true, guests: self.nova.guests_on(host).into_iter().map(guest).collect() }
    }

    pub(super) fn reaches_nova(&self, host: &HostName) -> bool {
        !self.nova_down && self.hosts.get(host).is_some_and(|host| !host.cut)
    }

    pub(super) fn nova_read(&mut self, name: &HostName, call: CallId, request: &NovaRead) {
        let delay = self.millis(10, 60);
        let result = if self.reaches_nova(name) { self.nova.read(request) } else { Err(outage()) };
        self.later(name, delay, Input::Nova { call, result });
    }

    pub(super) fn evacuate(&mut self, asker: &HostName, start: u64, call: CallId, server: ServerId) {
        if !self.reaches_nova(asker) {
            self.later(asker, Duration::from_secs(2), Input::Nova { call, result: Err(outage()) });
            return;
        }
        let choice = self.rng.random_range(0..1_000_000usize);
        let result = self.nova.evacuate(server, |candidates| choice % candidates);
        if let Ok(rebuild) = &result {
            let source = self.nova.accepted.last().map(|(_, source)| source.clone());
            if let Some(source) =
                source.filter(|source| self.hosts.get(source).is_some_and(|host| host.powered && self.lives(source)))
            {
                self.violation = Some(Violation::EvacuatedFromPowered { server, host: source });
            }
            let after = self.millis(500, 4_000);
            if self.weather.dying_destination {
                self.weather.dying_destination = false;
                let soon = self.millis(50, 2_000);
                self.schedule(soon, Happening::Die(rebuild.dest.clone()));
            }
            self.schedule(after, Happening::Finish(rebuild.clone()));
        }
        if self.percent(self.weather.lost_answers_percent) {
            let result = Err(NovaError::Unknown("the answer was lost".into()));
            self.later(asker, Duration::from_secs(1), Input::Nova { call, result });
            return;
        }
        if self.is_current(asker, start) {
            let result = result.map(|_| NovaAnswer::Accepted);
            self.later(asker, Duration::from_millis(10), Input::Nova { call, result });
        }
    }

    /// What runs on a host has changed behind everybody's back; its libvirt says so.
    pub fn relist(&mut self, host: &HostName) {
        let list = self.guest_list(host);
        self.later(host, Duration::from_millis(20), Input::Guests { list });
    }

    /// A guest's process dies on a healthy host; libvirt says so.
    pub fn kill_guest(&mut self, server: ServerId) {
        let Some(host) = self.nova.servers().find(|record| record.id == server).and_then(|record| record.host.clone())
        else {
            return;
        };
        self.tell(format!("guest {server} dies on {host}"));
        self.nova.guest_died(server);
        self.later(&host, Duration::from_millis(90), Input::Guest { server, event: GuestEvent::Failed });
    }
}
