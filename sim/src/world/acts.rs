//! What a coordinator's outputs do in the world, and what the story tells of them.

use super::*;

impl World {
    pub(super) fn output(&mut self, ix: Ix, output: Output) {
        let (host, start) = (ix as u32, self.hosts[ix].start);
        match output {
            Output::Datagram { to, member, path: _, bytes } => self.send_datagram(ix, to, member, bytes),
            Output::Message { to, member, path: _, message } => self.send_message(ix, to, member, message),
            Output::Dial { seed } => self.dial(ix, &seed),
            Output::PersistIncarnation(incarnation) => {
                self.hosts[ix].incarnation = incarnation;
                self.introduce(ix);
            }
            Output::Propose { call, entry } => {
                let delay = self.millis(1, 3);
                self.schedule(delay, Happening::Propose { host, start, call, entry });
            }
            Output::CheckLinearizable { call } => {
                let delay = self.millis(1, 2);
                self.schedule(delay, Happening::Check { host, start, call });
            }
            Output::ReadDevice { call, host: target, guid, .. } => {
                let delay = self.millis(20, 80);
                self.schedule(delay, Happening::ReadDevice { asker: host, start, call, host: target, guid });
            }
            Output::PowerOff(order) => {
                self.oracle_off_ordered(ix, &order);
                let delay = self.millis(30, 60);
                self.schedule(delay, Happening::PowerOff { asker: host, start, order: Box::new(order) });
            }
            Output::PowerOn(order) => {
                self.oracle_on_ordered(ix, &order);
                let delay = self.millis(30, 60);
                self.schedule(delay, Happening::PowerOn { asker: host, start, order: Box::new(order) });
            }
            Output::Nova { call, request } => {
                let delay = self.millis(10, 60);
                self.schedule(delay, Happening::NovaRead { asker: host, start, call, request: Box::new(request) });
            }
            // Its answer, if it was under way, comes all the same: that is allowed.
            Output::StopCapacity { .. } => self.count("capacity readings stopped"),
            Output::ForceDown(order) => {
                self.oracle_acts(ix, order.host());
                let delay = self.millis(12, 36);
                self.schedule(delay, Happening::ForceDown { asker: host, start, order: Box::new(order) });
            }
            Output::SetService(order) => {
                let delay = self.millis(12, 36);
                self.schedule(delay, Happening::SetService { asker: host, start, order: Box::new(order) });
            }
            Output::SetAggregate(order) => {
                let delay = self.millis(12, 36);
                self.schedule(delay, Happening::SetAggregate { asker: host, start, order: Box::new(order) });
            }
            Output::RestartProcess(order) => self.restart_process(ix, start, &order),
            Output::Evacuate(order) => {
                let delay = self.millis(5, 30);
                self.schedule(delay, Happening::Evacuate { asker: host, start, order: Box::new(order) });
            }
            Output::GuestPower(order) => {
                let delay = self.millis(5, 30);
                self.schedule(delay, Happening::GuestPower { asker: host, start, order: Box::new(order) });
            }
            Output::ServerAct(order) => {
                let delay = self.millis(5, 30);
                self.schedule(delay, Happening::ServerAct { asker: host, start, order: Box::new(order) });
            }
            Output::ListGuests => {
                let list = self.guest_list(ix);
                self.later(ix, start, Duration::from_millis(10), Input::Guests { list });
            }
            Output::CheckGuests { call, servers } => {
                let guests = self.nova.guests_on(&self.hosts[ix].name);
                let running = Some(servers.into_iter().filter(|server| guests.contains(server)).collect());
                self.later(ix, start, Duration::from_millis(10), Input::GuestsChecked { call, running });
            }
            Output::LookForLife { call, host: target, address, ports, within } => {
                let (after, signs) = self.look_for_life(ix, &target, address, &ports, within);
                self.later(ix, start, after, Input::LifeFound { call, signs });
            }
            Output::DestroyGuest(order) => self.destroy_guest(ix, start, &order),
            Output::Answer { reply, .. } if matches!(*reply, rekindle_proto::admin::AdminReply::Gate { .. }) => {
                self.gate_answers(&reply);
            }
            Output::ChangeVoters(order) => {
                let delay = self.millis(1, 2);
                self.schedule(delay, Happening::ChangeVoters { host, start, order: Box::new(order) });
            }
            // An operator's recovery of a lost quorum is not modelled here.
            Output::Generation { .. } => {}
            Output::Answer { call, reply } => self.tell(format!("[{}] answer {call}: {reply:?}", self.hosts[ix].name)),
            Output::Relay { call, to, member, request } => {
                let target =
                    self.hosts.iter().position(|other| other.member == member && other.addresses.contains(&to));
                if let Some(target) = target.filter(|target| self.connected(ix, *target)) {
                    let (delay, start) = (self.delay(), self.hosts[target].start);
                    let query = Happening::Query { host: target as u32, start, call, request: Box::new(request) };
                    self.schedule(delay, query);
                }
            }
            Output::Candidacy(stands) => self.stands(ix, stands),
            // A site's hooks succeed here, and do nothing.
            Output::RunHook(order) => {
                let lasts = order.timeout() / 2;
                let by = (&self.hosts[ix].name, start);
                let verdict = self.oracle.hook_run(self.now, by, &order, self.now + lasts);
                self.judge(verdict);
                let (name, told) = (&self.hosts[ix].name, order.document());
                let line = format!("[{name}] {} hook for {} ({})", told.on, told.host, told.phase);
                self.tell(line);
                let result = Input::HookDone { call: order.call(), result: Ok("".into()) };
                self.later(ix, start, lasts, result);
            }
            // A reader of the socket changes nothing.
            Output::Notice(_) => {}
            // A receiver takes what it is told, sooner or later, also from one that leads no more.
            Output::Post(order) => {
                let told = order.notification();
                let line = format!("[{}] posts {} {} -> {}", self.hosts[ix].name, told.id, told.from, told.phase);
                self.tell(line);
                let after = self.millis(10, 20_000);
                self.later(ix, start, after, Input::Posted { call: order.call(), result: Ok(()) });
            }
            Output::StopPosts => {}
            Output::Watchdog(order) => self.watchdog(ix, order),
            Output::Event(event) => self.tell_event(ix, &event),
        }
    }

    fn tell_event(&mut self, ix: Ix, event: &Event) {
        // The story is the leader's; what others believe is in their own logs.
        let leads = self.hosts[ix].node.as_ref().is_some_and(|node| node.role == crate::raft::Role::Leader);
        let name = &self.hosts[ix].name;
        match event {
            Event::Phase { host, phase, text, incident, .. } if leads => {
                let line = format!("[{name}] {host} {phase}: {text}");
                if incident.is_none() {
                    self.suspicions.push((self.now, host.clone(), *phase));
                }
                self.tell(line);
            }
            Event::Server { server, text, .. } if leads => {
                let line = format!("[{name}] {server} {text}");
                self.tell(line);
            }
            Event::Warning { text, .. } if leads => {
                let line = format!("[{name}] warning: {text}");
                self.tell(line);
            }
            Event::Process { host, process, phase, text, .. } if leads => {
                let line = format!("[{name}] {process} of {host} {phase}: {text}");
                self.tell(line);
            }
            Event::Phase { .. } | Event::Process { .. } | Event::Server { .. } | Event::Warning { .. } => {}
            Event::Member { member, state, .. } => self.note_belief(ix, *member, state),
            Event::Leader { .. } => {}
        }
    }
}
