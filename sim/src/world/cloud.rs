//! Cloud calls: what the coordinators ask of Nova, and what becomes of it.

use super::*;
use crate::nova::{Cast, Openness, Rebuild};
use rekindle_coordinator::order::DestroyOrder;
use rekindle_coordinator::recovery::Lookup;

/// What an evacuate call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct How {
    stops: bool,
    wish: Option<HostName>,
}

/// How late a call may arrive whose caller was told 504: every HTTP, proxy and RPC time-out on the way (I11).
const LATE_CALL_MS: (u64, u64) = (1_000, 115_000);

/// How long a reading of a large site's capacity takes: hundreds of calls, few at once.
const CAPACITY_TAKES: Duration = Duration::from_secs(60);

impl World {
    pub(super) fn guest_list(&self, ix: Ix) -> GuestList {
        let name = &self.hosts[ix].name;
        let guest = |server, running| Guest { server, running, disks: DiskPlacement::Shared, died: !running };
        let running = self.nova.guests_on(name).into_iter().map(|server| guest(server, true));
        let died = self.nova.died_on(name).map(|server| guest(server, false));
        let mut guests: Vec<Guest> = running.chain(died).collect();
        let known: BTreeSet<ServerId> = guests.iter().map(|guest| guest.server).collect();
        let idle = self.nova.idle_on(name).filter(|server| !known.contains(server));
        guests.extend(idle.map(|server| Guest { server, running: false, disks: DiskPlacement::Shared, died: false }));
        guests.sort();
        GuestList { complete: true, guests }
    }

    fn reaches_nova(&self, ix: Ix) -> bool {
        !self.nova_down && self.reaches_services(ix)
    }

    /// What a call meets instead of Nova, if anything: no way there, or a 503.
    pub(super) fn nova_refuses(&mut self, ix: Ix) -> Option<NovaError> {
        if !self.reaches_nova(ix) {
            return Some(outage());
        }
        if self.percent(self.weather.nova_errors_percent) {
            self.count("nova errors");
            return Some(NovaError::Unknown("503".into()));
        }
        None
    }

    pub(super) fn nova_read(&mut self, ix: Ix, start: u32, call: CallId, request: &NovaRead) {
        if !self.is_current(ix, start) {
            return;
        }
        match request {
            NovaRead::Look { lookup: Lookup::Group(_), .. } => self.count("server groups asked for"),
            NovaRead::Look { lookup: Lookup::Member(_), .. } => self.count("members of server groups asked for"),
            NovaRead::Look { lookup: Lookup::Image(_) | Lookup::Project(_) | Lookup::Aggregates, .. } => {}
            NovaRead::Server(_) => self.count("servers asked for one by one"),
            NovaRead::Service(_) | NovaRead::Servers(_) | NovaRead::Migrations(_) | NovaRead::MigrationsOf(_) => {}
            NovaRead::Begun { .. } => self.count("asked who has begun an evacuation"),
            NovaRead::NewestEvacuations { .. } => {}
            NovaRead::Capacity(_) => self.count("capacity readings"),
        }
        let is_about_groups = matches!(request, NovaRead::Look { lookup: Lookup::Group(_), .. });
        if is_about_groups && self.nova.about_groups == Openness::Hangs {
            return;
        }
        let result = match self.nova_refuses(ix) {
            Some(error) => Err(error),
            None => self.nova.read(request, self.now),
        };
        let takes = match request {
            NovaRead::Servers(_) => self.nova.lists_in,
            NovaRead::Capacity(_) => Some(CAPACITY_TAKES),
            NovaRead::Service(_)
            | NovaRead::Migrations(_)
            | NovaRead::NewestEvacuations { .. }
            | NovaRead::MigrationsOf(_)
            | NovaRead::Begun { .. }
            | NovaRead::Server(_)
            | NovaRead::Look { .. } => None,
        };
        self.later(ix, start, takes.unwrap_or(Duration::from_millis(5)), Input::Nova { call, result });
    }

    /// Whether an order may still be sent; else its caller is told that it was not.
    pub(super) fn in_time(&mut self, ix: Ix, start: u32, call: CallId, begin_before: Moment) -> bool {
        if !self.is_current(ix, start) {
            return false;
        }
        let in_time = self.clock(ix).mono < begin_before && !self.hosts[ix].frozen;
        if !in_time {
            let result = Err(NovaError::NotSent("too late".into()));
            self.later(ix, start, Duration::ZERO, Input::Nova { call, result });
        }
        in_time
    }

    /// Its process is stopped, and what its coordinator has said is still in it. The clock of a suspended machine stands still
    /// with it (assumption 5 of docs/safety.md): what it had handed out goes on its way.
    pub(super) fn adapter_sleeps(&self, ix: Ix, start: u32) -> bool {
        self.is_current(ix, start) && self.hosts[ix].frozen && self.hosts[ix].suspended.is_none()
    }

    pub(super) fn force_down(&mut self, ix: Ix, start: u32, order: &ForceDownOrder) {
        if !self.in_time(ix, start, order.call(), order.begin_before()) {
            return;
        }
        let result = match self.nova_refuses(ix) {
            Some(error) => Err(error),
            None => Ok(self.nova.force_down(order.host(), self.now)),
        };
        self.later(ix, start, Duration::from_millis(10), Input::Nova { call: order.call(), result });
    }

    pub(super) fn guest_power(&mut self, ix: Ix, start: u32, order: &GuestPowerOrder) {
        if !self.in_time(ix, start, order.call(), order.begin_before()) {
            return;
        }
        let result = match self.nova_refuses(ix) {
            Some(error) => Err(error),
            None => {
                if let Some((host, cast)) = self.nova.power(order.server(), order.power() == GuestPower::Start) {
                    let after = self.millis(10, 40);
                    self.schedule(after, Happening::Nova(Box::new(Stage::Cast(host, cast))));
                }
                Ok(NovaAnswer::Accepted)
            }
        };
        self.later(ix, start, Duration::from_millis(30), Input::Nova { call: order.call(), result });
    }

    /// An evacuate call leaves its caller: it arrives soon, slowly, twice, or long after its caller has given it up.
    pub(super) fn evacuate(&mut self, ix: Ix, start: u32, order: Box<EvacuateOrder>) {
        if self.adapter_sleeps(ix, start) {
            self.schedule(ASLEEP, Happening::Evacuate { asker: ix as u32, start, order });
            return;
        }
        let (call, server) = (order.call(), order.server());
        let how = How { stops: order.stop_on_arrival(), wish: order.dest().cloned() };
        if !self.in_time(ix, start, call, order.begin_before()) {
            return;
        }
        self.oracle_evacuate_sent(ix, &order);
        if let Some(error) = self.nova_refuses(ix) {
            self.later(ix, start, Duration::from_secs(2), Input::Nova { call, result: Err(error) });
            return;
        }
        if self.percent(self.weather.late_calls_percent) {
            self.count("late evacuate calls");
            let late = self.millis(LATE_CALL_MS.0, LATE_CALL_MS.1);
            self.schedule(late, Happening::LateEvacuate { server, how: Box::new(how), answer: None });
            let result = Err(NovaError::Unknown("504".into()));
            self.later(ix, start, Duration::from_millis(900), Input::Nova { call, result });
            return;
        }
        if self.percent(self.weather.slow_calls_percent) {
            self.count("slow evacuate calls");
            let late = self.millis(200, 10_000);
            let answer = Some((ix as u32, start, call));
            self.schedule(late, Happening::LateEvacuate { server, how: Box::new(how), answer });
            return;
        }
        self.evacuate_arrives(server, &how, Some((ix as u32, start, call)));
    }

    /// A call has reached Nova; whoever still waits for it is answered, unless the answer is lost.
    pub(super) fn evacuate_arrives(&mut self, server: ServerId, how: &How, answer: Option<(u32, u32, CallId)>) {
        let bears = self.nova.bear(self.now);
        let takes = bears.as_ref().map_or(Duration::from_millis(30), |takes| *takes);
        let result = bears.and_then(|_| self.nova_evacuates(server, how)).map(|()| NovaAnswer::Accepted);
        let Some((host, start, call)) = answer else { return };
        if self.percent(self.weather.lost_answers_percent) {
            self.count("lost answers");
            let result = Err(NovaError::Unknown("the answer was lost".into()));
            self.later(host as Ix, start, Duration::from_secs(1), Input::Nova { call, result });
            return;
        }
        self.later(host as Ix, start, takes, Input::Nova { call, result });
    }

    fn nova_evacuates(&mut self, server: ServerId, how: &How) -> Result<(), NovaError> {
        let choice = self.rng.random_range(0..1_000_000usize);
        let rebuild =
            self.nova.evacuate(server, self.now, how.stops, how.wish.as_ref(), |candidates| choice % candidates)?;
        self.count("evacuations");
        let Some(rebuild) = rebuild else {
            let wish = how.wish.as_ref().map_or("no host", HostName::as_str);
            self.tell(format!("Nova's scheduler finds no room for {server} ({wish})"));
            self.count("no valid host");
            return Ok(());
        };
        // Nova takes a host for alive for a minute after its death.
        if let Some((_, source)) = self.nova.accepted.last().filter(|_| self.is_dead(&rebuild.dest)) {
            self.oracle.cause(&source.clone(), "a destination of its servers was dead");
        }
        if self.weather.dying_destination {
            self.weather.dying_destination = false;
            if let Some(dest) = self.ix(&rebuild.dest) {
                let soon = self.millis(50, 2_000);
                self.schedule(soon, Happening::Die(dest as u32));
            }
        }
        let after = self.millis(100, 600);
        let cast = Stage::Cast(rebuild.dest.clone(), Cast::Rebuild(rebuild));
        if self.percent(self.weather.doubled_calls_percent) {
            self.count("casts delivered twice");
            let again = after + self.millis(10, 6_000);
            self.schedule(again, Happening::Nova(Box::new(cast.clone())));
        }
        self.schedule(after, Happening::Nova(Box::new(cast)));
        Ok(())
    }

    /// Nova's own next step.
    pub(super) fn nova_stage(&mut self, stage: Stage) {
        match stage {
            Stage::Cast(host, cast) => {
                let started = match &cast {
                    Cast::Power(server, true) => Some(*server),
                    Cast::Power(_, false) | Cast::Rebuild(_) => None,
                };
                if let Some(stage) = self.nova.cast(&host, cast) {
                    if std::mem::take(&mut self.dies_claiming)
                        && let Some(dest) = self.ix(&host)
                    {
                        self.schedule(Duration::from_millis(10), Happening::Die(dest as u32));
                    }
                    let after = self.millis(20, 500);
                    self.schedule(after, Happening::Nova(Box::new(stage)));
                }
                self.list_guests(&host);
                if let Some(server) = started.filter(|server| self.nova.copies_on(*server).any(|on| *on == host)) {
                    self.guest_event(&host, server, GuestEvent::Running, Duration::from_millis(5));
                }
            }
            Stage::Claim(rebuild) => {
                if let Some(stage) = self.nova.claim(rebuild) {
                    let after = self.millis(400, 3_000);
                    self.schedule(after, Happening::Nova(Box::new(stage)));
                }
            }
            Stage::Finish(rebuild) => self.rebuilt(&rebuild),
            Stage::SwitchOver(migration) => {
                if self.nova.switch_over(migration) {
                    let after = self.millis(500, 4_000);
                    self.schedule(after, Happening::Nova(Box::new(Stage::Complete(migration))));
                }
            }
            Stage::Complete(migration) => self.nova.complete(migration),
        }
    }

    fn rebuilt(&mut self, rebuild: &Rebuild) {
        let fails = self.percent(self.weather.failed_rebuilds_percent)
            || self.nova.is_broken(rebuild.server)
            || self.nova.is_failing(&rebuild.dest);
        let leaves_copy = fails && self.percent(self.weather.leftover_percent);
        self.count(if fails { "failed rebuilds" } else { "rebuilds" });
        if leaves_copy {
            self.count("leftover copies");
        }
        let text = if fails { "fails" } else { "runs" };
        self.tell(format!("{} {text} on {}", rebuild.server, rebuild.dest));
        self.nova.finish(rebuild, fails, leaves_copy);
        self.list_guests(&rebuild.dest.clone());
    }

    /// libvirt tells the host's daemon that something has changed.
    pub fn list_guests(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host) else { return };
        let (list, start) = (self.guest_list(ix), self.hosts[ix].start);
        self.later(ix, start, Duration::from_millis(5), Input::Guests { list });
    }

    /// The compute service of a host that has booted.
    pub(super) fn start_compute(&mut self, ix: Ix) {
        let name = self.hosts[ix].name.clone();
        let queue = self.nova.host_returned(&name, self.now);
        self.replay(&name, queue);
        self.process_runs(ix);
        if self.hosts[ix].gate {
            self.oracle_guests_start(ix);
        }
    }

    /// What a compute service finds in its queue when it starts.
    pub(super) fn replay(&mut self, host: &HostName, queue: Vec<Cast>) {
        for cast in queue {
            self.count("casts replayed");
            let after = self.millis(100, 2_000);
            self.schedule(after, Happening::Nova(Box::new(Stage::Cast(host.clone(), cast))));
        }
    }

    pub(super) fn nova_heartbeats(&mut self) {
        let (nova_down, index, hosts, net, life) =
            (self.nova_inside_down, &self.index, &self.hosts, &self.net, &self.life);
        let reaches = |host: &HostName| {
            let reports =
                |ix: Ix| hosts[ix].has_kernel() && net.carries(ix, ix, 0) && !net.alone[ix] && !life.is_hung(ix);
            index.get(host).is_some_and(|ix| !nova_down && reports(*ix))
        };
        self.nova.heartbeat(self.now, reaches);
        self.schedule(NOVA_HEARTBEAT, Happening::Heartbeat);
    }

    /// What runs on a host has changed behind everybody's back; its libvirt says so.
    pub fn relist(&mut self, host: &HostName) {
        self.list_guests(host);
    }

    /// libvirt ends a guest's process, if the order has come in time.
    pub(super) fn destroy_guest(&mut self, ix: Ix, start: u32, order: &DestroyOrder) {
        let (call, server, name) = (order.call(), order.server(), self.hosts[ix].name.clone());
        if self.clock(ix).mono >= order.begin_before() {
            let result = Err("too late".into());
            self.later(ix, start, Duration::ZERO, Input::GuestDestroyed { call, server, result });
            return;
        }
        self.tell(format!("{server} is destroyed on {name}"));
        self.count("stale guests destroyed");
        self.nova.copy_ends(server, &name);
        self.list_guests(&name);
        self.later(ix, start, Duration::from_millis(20), Input::GuestDestroyed { call, server, result: Ok(()) });
    }

    /// A guest's process dies on a healthy host; libvirt says so.
    pub fn kill_guest(&mut self, server: ServerId) {
        let Some(host) = self.nova.server(server).and_then(|record| record.host.clone()) else { return };
        if self.ix(&host).is_none() {
            return;
        }
        self.tell(format!("guest {server} dies on {host}"));
        self.count("guest died");
        self.nova.guest_died(server);
        self.guest_event(&host, server, GuestEvent::Failed, Duration::from_millis(90));
    }

    /// libvirt tells the host's daemon of a guest's new state.
    fn guest_event(&mut self, host: &HostName, server: ServerId, event: GuestEvent, after: Duration) {
        let Some(ix) = self.ix(host) else { return };
        let start = self.hosts[ix].start;
        self.later(ix, start, after, Input::Guest { server, event });
    }

    /// A user or operator lets a server migrate, live, to another host.
    pub fn migrate(&mut self, server: ServerId, dest: &HostName) {
        let Some(migration) = self.nova.migrate(server, dest) else { return };
        self.tell(format!("{server} migrates to {dest}"));
        self.count("live migrations");
        let after = self.millis(2_000, 20_000);
        self.schedule(after, Happening::Nova(Box::new(Stage::SwitchOver(migration))));
    }
}
