//! What a coordinator's outputs do in the world, and what the story tells of them.

use super::*;

impl World {
    pub(super) fn output(&mut self, name: &HostName, start: u64, output: Output) {
        match output {
            Output::Datagram { to, member, path, bytes } => {
                self.deliver(name, to, Some(member), true, |from| Input::Datagram {
                    from,
                    path: path.clone(),
                    bytes: bytes.clone(),
                });
            }
            Output::Message { to, member, path: _, message } => {
                self.deliver(name, to, member, false, |from| Input::Message { from, message: message.clone() });
            }
            Output::Dial { seed } => {
                let target = seed.parse().ok().and_then(|address: SocketAddr| self.addresses.get(&address).cloned());
                if let Some(target) = target.filter(|target| target != name && self.connected(name, target)) {
                    self.meet(name, &target);
                }
            }
            Output::PersistIncarnation(incarnation) => {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.incarnation = incarnation;
                }
            }
            Output::Propose { call, entry } => {
                let delay = self.millis(2, 12);
                self.schedule(delay, Happening::Commit(name.clone(), start, call, entry));
            }
            Output::CheckLinearizable { call } => {
                let delay = self.millis(1, 5);
                self.schedule(delay, Happening::Check(name.clone(), start, call));
            }
            Output::ReadDevice { call, host, guid, .. } => {
                let delay = self.millis(20, 80);
                self.schedule(delay, Happening::ReadDevice(name.clone(), start, call, host, guid));
            }
            Output::PowerOff(order) => {
                let delay = self.millis(30, 60);
                let (call, host) = (order.call(), order.host().clone());
                self.schedule(delay, Happening::PowerOff(name.clone(), start, call, host));
            }
            Output::Nova { call, request } => self.nova_read(name, call, &request),
            Output::ForceDown(order) => {
                let delay = self.millis(12, 36);
                let reaches = self.reaches_nova(name);
                let result = if reaches { Ok(self.nova.force_down(order.host())) } else { Err(outage()) };
                self.later(name, delay, Input::Nova { call: order.call(), result });
            }
            Output::Evacuate(order) => {
                let slow = self.percent(self.weather.slow_calls_percent);
                let delay = if slow { self.millis(200, 10_000) } else { self.millis(10, 200) };
                let (call, server) = (order.call(), order.server());
                self.schedule(delay, Happening::Evacuate(name.clone(), start, call, server));
            }
            Output::GuestPower(order) => {
                let reaches = self.reaches_nova(name);
                if reaches {
                    self.nova.power(order.server(), order.power() == GuestPower::Start);
                }
                let result = if reaches { Ok(NovaAnswer::Accepted) } else { Err(outage()) };
                self.later(name, Duration::from_millis(30), Input::Nova { call: order.call(), result });
            }
            Output::ListGuests => {
                let list = self.guest_list(name);
                self.later(name, Duration::from_millis(10), Input::Guests { list });
            }
            Output::CheckGuests { call, servers } => {
                let guests = self.nova.guests_on(name);
                let running = Some(servers.into_iter().filter(|server| guests.contains(server)).collect());
                self.later(name, Duration::from_millis(10), Input::GuestsChecked { call, running });
            }
            // Raft's membership is not modelled here: nobody is told of one, so nobody asks for a change.
            Output::ChangeVoters(_) | Output::Generation { .. } => {}
            Output::Answer { .. } | Output::Relay { .. } => {}
            Output::Event(event) => self.tell_event(name, &event),
        }
    }

    fn tell_event(&mut self, name: &HostName, event: &Event) {
        match event {
            _ if self.raft.leader() != Some(name) => {}
            Event::Phase { host, phase, text, .. } => self.tell(format!("[{name}] {host} {phase}: {text}")),
            Event::Server { server, text, .. } => self.tell(format!("[{name}] {server} {text}")),
            Event::Warning { text, .. } => self.tell(format!("[{name}] warning: {text}")),
            Event::Member { .. } | Event::Leader { .. } => {}
        }
    }
}
