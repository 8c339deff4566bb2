//! What may be done to a world from outside: every fault, every mending, every operator.

use rekindle_coordinator::ledger::OperatorCommand;

use super::*;

/// How a voter's ledger disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disk {
    /// As it should.
    #[default]
    Good,
    /// Every write takes that many milliseconds.
    Slow(u16),
    /// No write succeeds.
    Full,
}

impl World {
    // Power and devices.

    /// The supply of a host fails: the machine is off, and its BMC is silent.
    pub fn cut_supply(&mut self, host: &HostName) {
        self.kill_host(host, true);
        self.set_bmc(host, Bmc::Silent);
    }

    /// From now on its BMC behaves so.
    pub fn set_bmc(&mut self, host: &HostName, bmc: Bmc) {
        self.tell(format!("the BMC of {host} is {bmc:?}"));
        if let Some(host) = self.host_mut(host) {
            host.bmc = bmc;
        }
    }

    /// Somebody has swapped the cables of two BMCs: each is the other machine's.
    pub fn cross_bmcs(&mut self, a: &HostName, b: &HostName) {
        self.tell(format!("the BMCs of {a} and {b} are crossed"));
    }

    // Processes.

    /// The daemon of a living host is killed and stays down; its guests run on.
    pub fn crash_daemon(&mut self, host: &HostName) {
        self.tell(format!("rekindled of {host} is killed"));
        if let Some(host) = self.hosts.get_mut(host) {
            host.coordinator = None;
            host.starts += 1;
        }
        self.check_leader();
    }

    /// Its processes are stopped (`SIGSTOP`), or go on.
    pub fn freeze(&mut self, host: &HostName, on: bool) {
        self.tell(format!("{host} {}", if on { "freezes" } else { "goes on" }));
        if let Some(host) = self.host_mut(host) {
            host.frozen = on;
        }
    }

    /// Its timers run, and what it hears and reads comes late, in bursts.
    pub fn starve(&mut self, host: &HostName, on: bool) {
        self.tell(format!("{host} {}", if on { "is starved" } else { "is no longer starved" }));
    }

    // Network.

    /// A host is cut from everybody's network, also from Nova and the BMCs; or no more.
    pub fn cut(&mut self, host: &HostName, on: bool) {
        self.tell(format!("{host} is {}", if on { "cut off" } else { "no longer cut off" }));
        if let Some(host) = self.host_mut(host) {
            host.cut = on;
        }
        self.check_leader();
    }

    /// Nothing gets from one host to the other, on one path (its number) or on all; the way back is not touched.
    pub fn block(&mut self, from: &HostName, to: &HostName, path: Option<usize>) {
        self.tell(format!("nothing gets from {from} to {to} on {path:?}"));
    }

    /// Members of different groups do not reach each other, on one path (its number) or on all. Who is in no group reaches
    /// all. Nova and the BMCs are reached by the first group only if `takes_services`, else by all.
    pub fn partition(&mut self, groups: &[Vec<HostName>], path: Option<usize>, takes_services: bool) {
        let _ = (groups, path, takes_services);
    }

    /// A host loses one path.
    pub fn cut_path(&mut self, host: &HostName, path: usize, on: bool) {
        let _ = (host, path, on);
    }

    /// Every cut, block and partition ends.
    pub fn mend_network(&mut self) {
        self.tell("the network is whole");
        for host in self.host_names() {
            if let Some(host) = self.host_mut(&host) {
                host.cut = false;
            }
        }
    }

    // Cloud.

    /// Nova (or Keystone, which comes to the same) answers nothing; or answers again.
    pub fn set_nova(&mut self, down: bool) {
        self.tell(if down { "Nova is away" } else { "Nova is back" });
        self.nova_down = down;
    }

    /// A user or operator lets a server migrate to another host.
    pub fn migrate(&mut self, server: ServerId, dest: &HostName) {
        let _ = (server, dest);
    }

    // Clocks.

    /// Its monotonic clock runs fast (or slow) by that many parts in a million.
    pub fn drift(&mut self, host: &HostName, ppm: i32) {
        let _ = (host, ppm);
    }

    /// Its wall clock jumps.
    pub fn jump_wall(&mut self, host: &HostName, millis: i64) {
        let _ = (host, millis);
    }

    // Ledger.

    /// From now on the disk of its ledger behaves so.
    pub fn set_disk(&mut self, host: &HostName, disk: Disk) {
        let _ = (host, disk);
    }

    /// Its daemon crashes in the middle of a write: the last entry on its disk is torn, and gone.
    pub fn tear_last_write(&mut self, host: &HostName) {
        self.restart_daemon(host);
    }

    /// Its ledger's disk is lost. It comes back with an empty one.
    pub fn lose_disk(&mut self, host: &HostName) {
        self.restart_daemon(host);
    }

    /// The leader gives leadership up; somebody else is elected.
    pub fn depose(&mut self) {
        self.raft.elect(None);
        self.check_leader();
    }

    // Operators.

    /// An operator signs an order and gives it to whoever leads now. Nothing comes of it if nobody does.
    pub fn order(&mut self, command: &OperatorCommand, reason: &str) {
        let _ = (command, reason);
    }

    // Healing.

    /// Everything that can mend without a person mends: networks, frozen and starved processes, disks, clocks, Nova, the
    /// weather, the BMCs. What is dead stays dead.
    pub fn heal(&mut self) {
        self.tell("everything heals");
        self.nova_down = false;
        self.weather = Weather::CALM;
        for host in self.host_names() {
            if let Some(host) = self.host_mut(&host) {
                host.frozen = false;
                host.cut = false;
                host.bmc = Bmc::Honest;
            }
        }
    }

    // What is so.

    /// Who votes.
    #[must_use]
    pub fn voters(&self) -> Vec<HostName> {
        self.raft.voters().iter().cloned().collect()
    }

    /// Who leads, by the majority's mind.
    #[must_use]
    pub fn leader(&self) -> Option<HostName> {
        self.raft.leader().cloned()
    }

    /// Whether nobody has power there, or its kernel is dead.
    #[must_use]
    pub fn is_dead(&self, host: &HostName) -> bool {
        !self.lives(host)
    }

    /// The agreed ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.raft.ledger()
    }

    /// What was counted so far, by kind: events handled, datagrams, elections, commits, and so on.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }
}
