//! Hosts: their power, their daemons, and what befalls them.

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
}

/// One simulated host.
#[derive(Debug)]
pub struct Host {
    pub(super) coordinator: Option<Coordinator>,
    pub(super) address: SocketAddr,
    pub(super) boot: BootId,
    pub(super) incarnation: Incarnation,
    pub(super) uuid: SystemUuid,
    /// It has power: its guests may be running.
    pub powered: bool,
    /// Its processes do not run for now; what is sent to it waits in nobody's buffer.
    pub frozen: bool,
    /// Its network is cut from everybody's.
    pub cut: bool,
    /// How its BMC behaves.
    pub bmc: Bmc,
    pub(super) starts: u64,
    pub(super) tick: Option<Moment>,
    pub(super) met: BTreeSet<(HostName, u64)>,
}

impl World {
    /// All hosts, by name.
    #[must_use]
    pub fn host_names(&self) -> Vec<HostName> {
        self.hosts.keys().cloned().collect()
    }

    /// A host.
    #[must_use]
    pub fn host(&self, host: &HostName) -> Option<&Host> {
        self.hosts.get(host)
    }

    /// A host, to be tampered with.
    pub fn host_mut(&mut self, host: &HostName) -> Option<&mut Host> {
        self.hosts.get_mut(host)
    }

    /// The kernel or the power of a host died. `power`: its BMC says off, too.
    pub fn kill_host(&mut self, host: &HostName, power: bool) {
        self.tell(format!("{host} dies ({})", if power { "power" } else { "kernel" }));
        self.nova.host_died(host);
        if let Some(host) = self.hosts.get_mut(host) {
            host.coordinator = None;
            host.starts += 1;
            host.powered = !power;
        }
        self.check_leader();
    }

    /// The daemon of a living host is told to stop, and says goodbye; its guests run on.
    pub fn stop_daemon(&mut self, host: &HostName) {
        self.tell(format!("rekindled of {host} stops"));
        self.input(host, Input::Stopping);
        if let Some(host) = self.hosts.get_mut(host) {
            host.coordinator = None;
            host.starts += 1;
        }
        self.check_leader();
    }

    /// A stopped daemon is started again.
    pub fn start_again(&mut self, host: &HostName) {
        self.tell(format!("rekindled of {host} starts again"));
        self.start_daemon(host);
    }

    /// The daemon of a living host is killed; systemd starts it again. A leader resumes its term from disk, or has lost
    /// it by then.
    pub fn restart_daemon(&mut self, host: &HostName) {
        if !self.lives(host) {
            return;
        }
        self.tell(format!("rekindled of {host} restarts"));
        if self.raft.leader() == Some(host) && self.percent(50) {
            self.raft.elect(None);
        }
        self.start_daemon(host);
        self.check_leader();
    }

    pub(super) fn start_daemon(&mut self, name: &HostName) {
        let seeds: Vec<String> = self.hosts.values().map(|host| host.address.to_string()).collect();
        let voters: Vec<HostName> = self.raft.voters().iter().cloned().collect();
        let seed = self.rng.random();
        let now = self.clock();
        let (cluster, path, policy) = (self.cluster.clone(), self.path.clone(), self.policy.clone());
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.starts += 1;
        host.incarnation = Incarnation(host.incarnation.0.max(now.mono.as_micros()) + 1);
        host.tick = None;
        host.met.clear();
        let devices = vec![DeviceRule {
            hosts: "*".to_owned(),
            level: 1,
            driver: "sim".to_owned(),
            address: "{host}-bmc".to_owned(),
        }];
        let setup = Setup {
            cluster,
            host: name.clone(),
            role: MemberRole::Member,
            boot: host.boot,
            incarnation: host.incarnation,
            listen: vec![(path, host.address)],
            system_uuid: Some(host.uuid),
            seeds,
            keepers: voters.clone(),
            generation: None,
            voters: voters.clone(),
            operator_ca: Vec::new(),
            devices,
            policy,
            seed,
        };
        host.coordinator = Some(Coordinator::new(setup, now));
        if voters.contains(name) {
            self.raft.forget(name);
            let ledger = self.first_ledger();
            self.input(name, Input::Restored { ledger: Box::new(ledger) });
            self.replicate(name);
        }
        let list = self.guest_list(name);
        self.input(name, Input::Guests { list });
        self.input(name, Input::Tick);
    }

    /// What the log began with: the roster, armed.
    pub(super) fn first_ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(self.cluster.clone());
        ledger.arming.clone_from(&self.raft.ledger().arming);
        ledger.roster.clone_from(&self.raft.ledger().roster);
        ledger.hosts = ledger.roster.keys().map(|host| (host.clone(), Default::default())).collect();
        ledger
    }

    pub(super) fn is_current(&self, host: &HostName, start: u64) -> bool {
        self.hosts.get(host).is_some_and(|host| host.starts == start && host.coordinator.is_some())
    }

    /// Whether guests can run there: it has power and its kernel runs.
    pub(super) fn lives(&self, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|host| host.powered && host.coordinator.is_some())
    }

    pub(super) fn is_up(&self, host: &HostName) -> bool {
        self.connected(host, host)
    }
}
