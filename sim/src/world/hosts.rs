//! Hosts: their power, their kernels, their daemons.

use rekindle_coordinator::Acquaintance;
use rekindle_proto::fact::{MigrationStatus, StopReason};

use super::*;

/// How a BMC behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bmc {
    /// As it should.
    Honest,
    /// It never answers.
    Silent,
    /// It says ok, and the machine stays on.
    StaysOn,
    /// It refuses our password.
    WrongPassword,
    /// It says off, always, and does nothing.
    SaysOff,
    /// It switches off, and says on, always.
    SaysOn,
    /// It refuses two commands of three: node busy.
    Busy,
    /// It takes that many milliseconds for every answer.
    Slow(u16),
    /// It accepts, and executes that many seconds later.
    Late(u16),
    /// As it should, but it tells no GUID.
    NoGuid,
    /// As it should, but nothing can be read of it.
    NoStatus,
    /// It can be read, and has no place for a session in which it would be given an order.
    NoOrders,
}

/// One simulated host.
#[derive(Debug)]
pub struct Host {
    pub(super) name: HostName,
    pub(super) member: MemberId,
    pub(super) role: MemberRole,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) boot: BootId,
    /// When that boot began, on the host's own clock; `None`: before the world did.
    pub(super) booted: Option<Moment>,
    pub(super) incarnation: Incarnation,
    pub(super) uuid: SystemUuid,
    /// It has power.
    pub powered: bool,
    pub(super) has_supply: bool,
    /// Its kernel runs: its guests may be running.
    pub(super) kernel: bool,
    /// Its daemon does not run for now; what is sent to it waits in a buffer.
    pub frozen: bool,
    /// Since when its daemon is stopped and its clock too.
    pub(super) suspended: Option<Moment>,
    pub(super) starved: bool,
    /// How its BMC behaves.
    pub bmc: Bmc,
    /// Which machine the address of its BMC leads to.
    pub(super) bmc_leads_to: Ix,
    /// In which term its coordinator believed to lead when it last said anything.
    pub(super) leads: Option<rekindle_proto::id::Term>,
    /// Its daemon has been started and has not ended.
    pub(super) running: bool,
    pub(super) coordinator: Option<Box<Coordinator>>,
    /// Counts its daemon's lives, and the ends of them.
    pub(super) start: u32,
    pub(super) tick: Option<Moment>,
    pub(super) clock: Clock,
    pub(super) backlog: VecDeque<Input>,
    pub(super) card: Arc<Peer>,
    pub(super) node: Option<Node>,
    pub(super) raft_tick: Option<Moment>,
    pub(super) disk: Disk,
    pub(super) tears_next: bool,
    /// It has a boot gate: from its next boot on it holds.
    pub gate: bool,
    /// The boot in which its gate was opened.
    pub(super) opened: Option<BootId>,
    /// When its watchdog was last fed, if it is armed.
    pub(super) fed: Option<Moment>,
    /// The life of its daemon that has the watchdog open.
    pub(super) opened_by: Option<u32>,
    /// Something else on the host holds the watchdog: it cannot be opened.
    pub watchdog_held: bool,
    /// What its present daemon was told since it began, if that is recorded.
    pub(super) tape: Option<Tape>,
}

impl Host {
    /// Whether it has power and its kernel runs.
    #[must_use]
    pub fn has_kernel(&self) -> bool {
        self.powered && self.kernel
    }

    /// Its daemon's mind.
    #[must_use]
    pub fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinator.as_deref()
    }

    /// Its daemon is gone, and everything that was under way in it.
    pub(super) fn end_process(&mut self) {
        self.running = false;
        self.coordinator = None;
        self.leads = None;
        self.start += 1;
        self.tick = None;
        self.raft_tick = None;
        self.backlog.clear();
        self.frozen = false;
        self.suspended = None;
    }
}

impl World {
    /// All hosts and witnesses, in order.
    #[must_use]
    pub fn host_names(&self) -> Vec<HostName> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// All hypervisors, in order.
    #[must_use]
    pub fn hypervisors(&self) -> Vec<HostName> {
        let hypervisors = self.hosts.iter().filter(|host| host.role == MemberRole::Member);
        hypervisors.map(|host| host.name.clone()).collect()
    }

    /// A host.
    #[must_use]
    pub fn host(&self, host: &HostName) -> Option<&Host> {
        self.ix(host).map(|ix| &self.hosts[ix])
    }

    /// A host, to be tampered with.
    pub fn host_mut(&mut self, host: &HostName) -> Option<&mut Host> {
        self.ix(host).map(|ix| &mut self.hosts[ix])
    }

    /// The kernel or the power of a host died. `power`: its BMC says off, too.
    pub fn kill_host(&mut self, host: &HostName, power: bool) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("{host} dies ({})", if power { "power" } else { "kernel" }));
        self.count(if power { "power lost" } else { "kernel died" });
        self.stop_machine(ix);
        self.hosts[ix].powered = !power && self.hosts[ix].powered;
    }

    /// Whatever ran there runs no more.
    pub(super) fn stop_machine(&mut self, ix: Ix) {
        let now = self.now;
        let host = &mut self.hosts[ix];
        host.kernel = false;
        host.end_process();
        let name = host.name.clone();
        self.nothing_is_finished(&name);
        self.nova.host_died(&name, now);
        self.recount();
    }

    /// What is being built there is never finished, as its nova-compute is gone: whoever waits for it is stuck for this.
    pub(super) fn nothing_is_finished(&mut self, name: &HostName) {
        for source in self.nova.coming_to(name).filter_map(|record| record.source.as_ref()) {
            self.oracle.cause(source, "a destination of its servers died");
        }
        let records = self.nova.read(&NovaRead::Migrations(name.clone()), self.now);
        if let Ok(NovaAnswer::Migrations(records)) = records {
            let open = records.into_iter().filter(|record| record.status == MigrationStatus::UnderWay);
            for source in open.filter(|record| record.dest.as_ref() == Some(name)).filter_map(|record| record.source) {
                self.oracle.cause(&source, "a destination of its servers died");
            }
        }
    }

    /// The daemon of a living host is told to stop, and says goodbye; its guests run on.
    pub fn stop_daemon(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host).filter(|ix| self.speaks(*ix)) else { return };
        self.tell(format!("rekindled of {host} stops"));
        self.count("daemon stopped");
        self.input(ix, Input::Stopping { why: StopReason::Daemon });
        self.watchdog_closes(ix);
        self.hosts[ix].end_process();
        self.recount();
    }

    /// A stopped daemon is started again.
    pub fn start_again(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host).filter(|ix| self.hosts[*ix].has_kernel()) else { return };
        self.tell(format!("rekindled of {host} starts again"));
        self.start_daemon(ix);
    }

    /// The daemon of a living host is killed; systemd starts it again within a second.
    pub fn restart_daemon(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host).filter(|ix| self.hosts[*ix].has_kernel()) else { return };
        self.tell(format!("rekindled of {host} restarts"));
        self.count("daemon restarted");
        self.crash(ix, true);
    }

    pub(super) fn crash(&mut self, ix: Ix, comes_back: bool) {
        self.watchdog_closes(ix);
        self.hosts[ix].end_process();
        self.recount();
        if comes_back {
            let after = self.millis(200, 1_500);
            let start = self.hosts[ix].start;
            self.schedule(after, Happening::StartDaemon { host: ix as u32, start });
        }
    }

    pub(super) fn start_daemon(&mut self, ix: Ix) {
        self.begin_daemon(ix, None);
        self.recount();
    }

    /// `known`: whom it knows from the hours before the world began.
    pub(super) fn begin_daemon(&mut self, ix: Ix, known: Option<&Acquaintance>) {
        let world_now = self.now;
        self.hosts[ix].end_process();
        let now = self.clock(ix);
        let setup = {
            let host = &mut self.hosts[ix];
            // Life numbers are milliseconds since 1970, or one more than the last.
            host.incarnation = Incarnation(host.incarnation.0.max(world_now.as_micros() / 1_000) + 1);
            self.introduce(ix);
            self.setup(ix)
        };
        let records = self.records;
        let host = &mut self.hosts[ix];
        host.tape = if records && known.is_none() { Tape::begin(&setup, now) } else { None };
        let mut coordinator = Box::new(Coordinator::new(setup, now));
        if let Some(known) = known {
            coordinator.acquaint(now.mono + formed::phase(ix, self.policy.probe_period), known);
        }
        host.coordinator = Some(coordinator);
        host.running = true;
        self.net.forget(ix);
        self.start_raft(ix);
        let list = self.guest_list(ix);
        self.input(ix, Input::Guests { list });
        if self.hosts[ix].gate {
            self.input(ix, Input::Gate { report: self.gate_report(ix) });
        }
        if let Some(seen) = self.process_seen(ix) {
            self.input(ix, seen);
        }
        if let Some(device) = self.watchdog_device(false) {
            self.input(ix, Input::Watchdog { device: Some(device) });
        }
        self.input(ix, Input::Tick);
        if self.hosts[ix].starved {
            let start = self.hosts[ix].start;
            self.schedule(Duration::from_secs(1), Happening::Starved { host: ix as u32, start });
        }
    }

    /// How it introduces itself from now on.
    pub(super) fn introduce(&mut self, ix: Ix) {
        let host = &mut self.hosts[ix];
        host.card = Arc::new(Peer {
            host: host.name.clone(),
            boot: host.boot,
            incarnation: host.incarnation,
            address: host.addresses[0],
        });
    }

    pub(super) fn is_current(&self, ix: Ix, start: u32) -> bool {
        self.hosts[ix].start == start && self.hosts[ix].running
    }
}
