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
        let Some(ix) = self.ix(host) else { return };
        self.count("supply lost");
        self.oracle.cause(host, "its supply failed");
        self.hosts[ix].has_supply = false;
        self.kill_host(host, true);
    }

    /// The supply is back; the machine stays off until somebody presses its button.
    pub fn restore_supply(&mut self, host: &HostName) {
        self.tell(format!("{host} has supply again"));
        if let Some(host) = self.host_mut(host) {
            host.has_supply = true;
        }
    }

    /// From now on its BMC behaves so.
    pub fn set_bmc(&mut self, host: &HostName, bmc: Bmc) {
        self.tell(format!("the BMC of {host} is {bmc:?}"));
        self.count(match bmc {
            Bmc::Honest => "BMC mended",
            Bmc::Silent => "BMC silent",
            Bmc::StaysOn => "BMC does nothing",
            Bmc::WrongPassword => "BMC refuses us",
            Bmc::SaysOff => "BMC lies off",
            Bmc::SaysOn => "BMC lies on",
            Bmc::Busy => "BMC busy",
            Bmc::Slow(_) => "BMC slow",
            Bmc::Late(_) => "BMC late",
            Bmc::NoGuid => "BMC tells no GUID",
            Bmc::NoStatus => "BMC has no status",
            Bmc::NoOrders => "BMC has no place for orders",
        });
        if bmc != Bmc::Honest {
            self.oracle.cause(host, "its BMC misbehaved");
        }
        if let Some(host) = self.host_mut(host) {
            host.bmc = bmc;
        }
    }

    /// Somebody has swapped the cables of two BMCs: each is the other machine's. Done again, it is undone.
    pub fn cross_bmcs(&mut self, a: &HostName, b: &HostName) {
        let (Some(a_ix), Some(b_ix)) = (self.ix(a), self.ix(b)) else { return };
        self.tell(format!("the BMCs of {a} and {b} are crossed"));
        self.count("BMCs crossed");
        for host in [a, b] {
            self.oracle.cause(host, "its BMC is another machine's");
        }
        let leads_to = self.hosts[a_ix].bmc_leads_to;
        self.hosts[a_ix].bmc_leads_to = self.hosts[b_ix].bmc_leads_to;
        self.hosts[b_ix].bmc_leads_to = leads_to;
    }

    // Processes.

    /// The daemon of a living host is killed and stays down; its guests run on.
    pub fn crash_daemon(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("rekindled of {host} is killed"));
        self.count("daemon killed");
        self.crash(ix, false);
    }

    /// Its daemon is stopped (`SIGSTOP`), or goes on. Its clock goes on meanwhile, and its sockets fill.
    pub fn freeze(&mut self, host: &HostName, on: bool) {
        let Some(ix) = self.ix(host).filter(|ix| self.hosts[*ix].running && self.hosts[*ix].frozen != on) else {
            return;
        };
        self.tell(format!("{host} {}", if on { "freezes" } else { "goes on" }));
        self.count(if on { "frozen" } else { "thawed" });
        self.hosts[ix].frozen = on;
        if !on {
            self.go_on(ix);
        }
        self.recount();
    }

    /// The whole machine stands still, its clock too (a paused virtual machine, a long interruption by firmware); or goes on.
    pub fn suspend(&mut self, host: &HostName, on: bool) {
        let now = self.now;
        let Some(ix) = self.ix(host).filter(|ix| self.hosts[*ix].running) else { return };
        if on && self.hosts[ix].suspended.is_none() {
            self.hosts[ix].suspended = Some(now);
            self.freeze(host, true);
        } else if let (false, Some(since)) = (on, self.hosts[ix].suspended.take()) {
            self.hosts[ix].clock.lose(now, now.since(since));
            self.freeze(host, false);
        }
    }

    fn go_on(&mut self, ix: Ix) {
        let start = self.hosts[ix].start;
        // Who comes first, timers or sockets, is nobody's promise.
        if self.percent(50) {
            self.input(ix, Input::Tick);
        }
        if self.is_current(ix, start) {
            self.empty_backlog(ix);
        }
        if self.is_current(ix, start) {
            self.input(ix, Input::Tick);
            self.wake_raft(ix);
        }
    }

    /// Its timers run, and what it hears and reads comes late, in bursts; or no more.
    pub fn starve(&mut self, host: &HostName, on: bool) {
        let Some(ix) = self.ix(host).filter(|ix| self.hosts[*ix].starved != on) else { return };
        self.tell(format!("{host} {}", if on { "is starved" } else { "is no longer starved" }));
        self.count(if on { "starved" } else { "fed" });
        self.hosts[ix].starved = on;
        let start = self.hosts[ix].start;
        if on {
            self.schedule(Duration::from_secs(1), Happening::Starved { host: ix as u32, start });
        } else if !self.hosts[ix].frozen {
            self.empty_backlog(ix);
        }
    }

    // Network.

    /// A host is cut from everybody's network, also from Nova and the BMCs; or no more.
    pub fn cut(&mut self, host: &HostName, on: bool) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("{host} is {}", if on { "cut off" } else { "no longer cut off" }));
        self.count(if on { "cut off" } else { "mended" });
        self.net.lose(ix, u8::MAX, on);
        self.recount();
    }

    /// Nothing gets from one host to the other, on one path (its number) or on all; the way back is not touched.
    pub fn block(&mut self, from: &HostName, to: &HostName, path: Option<usize>) {
        let (Some(a), Some(b)) = (self.ix(from), self.ix(to)) else { return };
        self.tell(format!("nothing gets from {from} to {to}{}", on_path(path)));
        self.count("one-way cuts");
        self.net.block(a, b, bits(path), true);
        self.recount();
    }

    /// Members of different groups do not reach each other, on one path (its number) or on all. Who is in no group reaches
    /// all. Nova and the BMCs are reached by the first group only if `takes_services`, else by all.
    pub fn partition(&mut self, groups: &[Vec<HostName>], path: Option<usize>, takes_services: bool) {
        self.count("partitions");
        let groups: Vec<Vec<Ix>> =
            groups.iter().map(|group| group.iter().filter_map(|host| self.ix(host)).collect()).collect();
        for (number, group) in groups.iter().enumerate() {
            let names: Vec<&str> = group.iter().map(|ix| self.hosts[*ix].name.as_str()).collect();
            let line = format!("partition{}: {}", on_path(path), names.join(" "));
            self.tell(line);
            for a in group {
                self.net.alone[*a] = takes_services && number > 0;
                for b in groups.iter().enumerate().filter(|(other, _)| *other != number).flat_map(|(_, group)| group) {
                    self.net.block(*a, *b, bits(path), true);
                }
            }
        }
        self.recount();
    }

    /// A host loses one path, or gets it back. Nova and the BMCs are reached over the first.
    pub fn cut_path(&mut self, host: &HostName, path: usize, on: bool) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("{host} {}{}", if on { "is cut off" } else { "is no longer cut off" }, on_path(Some(path))));
        self.count(if on { "path lost" } else { "path mended" });
        self.net.lose(ix, bits(Some(path)), on);
        self.recount();
    }

    /// A host (or witness) reaches neither Nova nor the BMCs; or does again.
    pub fn cut_services(&mut self, host: &HostName, on: bool) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("{host} {} Nova and the BMCs", if on { "does not reach" } else { "reaches" }));
        self.count(if on { "services lost" } else { "services mended" });
        self.net.alone[ix] = on;
        self.recount();
    }

    /// A member says something to another that its daemon would not: it was captured.
    pub fn say(&mut self, from: &HostName, to: &HostName, message: Message) {
        let (Some(from), Some(to)) = (self.ix(from), self.ix(to)) else { return };
        let (address, member) = (self.hosts[to].addresses[0], self.hosts[to].member);
        self.send_message(from, address, Some(member), message);
    }

    /// Every cut, block and partition ends.
    pub fn mend_network(&mut self) {
        self.tell("the network is whole");
        self.net.mend();
        self.recount();
    }

    // Cloud: `migrate` and `kill_guest` are beside Nova's other ways.

    /// Nova (or Keystone, which comes to the same) answers nothing; or answers again.
    pub fn set_nova(&mut self, down: bool) {
        self.tell(if down { "Nova is away" } else { "Nova is back" });
        self.count(if down { "Nova away" } else { "Nova back" });
        self.nova_down = down;
    }

    /// Nova's own messages and database are away too: no compute service can report, and after a minute each is down in Nova's
    /// eyes.
    pub fn set_nova_inside(&mut self, down: bool) {
        self.count(if down { "Nova's inside away" } else { "Nova's inside back" });
        self.set_nova(down);
        self.nova_inside_down = down;
    }

    /// An operator clears Nova's forced-down mark of a host.
    pub fn clear_forced_down(&mut self, host: &HostName) {
        self.tell(format!("the compute service of {host} is no longer forced down"));
        self.nova.clear_forced_down(host, self.now);
    }

    // Clocks.

    /// Its monotonic clock runs fast (or slow) by that many parts in a million.
    pub fn drift(&mut self, host: &HostName, ppm: i32) {
        let now = self.now;
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("the clock of {host} runs {ppm} parts in a million fast"));
        self.count("clock drifts");
        self.hosts[ix].clock.set_drift(now, ppm);
        if self.speaks(ix) {
            self.input(ix, Input::Tick);
        }
    }

    /// Its wall clock jumps.
    pub fn jump_wall(&mut self, host: &HostName, millis: i64) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("the wall clock of {host} jumps by {millis} ms"));
        self.count("wall clock jumps");
        self.hosts[ix].clock.wall_ahead += millis;
    }

    // Ledger.

    /// From now on the disk of its ledger behaves so. A voter that stopped for a full disk starts anew when it has room.
    pub fn set_disk(&mut self, host: &HostName, disk: Disk) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("the ledger's disk of {host} is {disk:?}"));
        self.count(match disk {
            Disk::Good => "disk mended",
            Disk::Slow(_) => "disk slow",
            Disk::Full => "disk full",
        });
        self.hosts[ix].disk = disk;
        let is_broken = self.hosts[ix].node.as_ref().is_some_and(|node| node.is_broken);
        if disk != Disk::Full && is_broken && self.hosts[ix].has_kernel() {
            self.crash(ix, true);
        }
    }

    /// Its daemon crashes in the middle of its next write: what it was writing is torn, and gone.
    pub fn tear_next_write(&mut self, host: &HostName) {
        if let Some(host) = self.host_mut(host) {
            host.tears_next = true;
        }
    }

    /// The same, under its first name.
    pub fn tear_last_write(&mut self, host: &HostName) {
        self.tear_next_write(host);
    }

    /// Its ledger's disk is lost. It comes back with an empty store, which belongs to no quorum and asks to be let in.
    pub fn lose_disk(&mut self, host: &HostName) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("the ledger of {host} is lost"));
        self.count("disk lost");
        let mut is_new = false;
        if let Some(node) = self.hosts[ix].node.as_mut() {
            let before = node.number();
            node.lose();
            is_new = node.number() != before;
        }
        if is_new {
            self.stores_differ();
        }
        let lives = self.hosts[ix].has_kernel();
        self.crash(ix, lives);
    }

    // Operators.

    /// An operator signs an order and gives it to a living daemon, which carries it to whoever leads. Its answer is in the
    /// story.
    pub fn order(&mut self, command: &OperatorCommand, reason: &str) {
        let mut able: Vec<Ix> = (0..self.hosts.len()).filter(|ix| self.speaks(*ix)).collect();
        if able.is_empty() {
            return;
        }
        let chosen = able.swap_remove(self.random(able.len()));
        let wall = self.clock(chosen).wall;
        let Some(authority) = self.operator.as_mut() else { return };
        let order = authority.sign(wall, command.clone(), reason);
        self.tell(format!("an operator orders, on {}: {command:?}: {reason}", self.hosts[chosen].name));
        self.count("operator orders");
        self.query(chosen, AdminRequest::Submit { order });
    }

    /// An operator asks a daemon; the answer is in the story.
    pub fn ask(&mut self, host: &HostName, request: AdminRequest) {
        if let Some(ix) = self.ix(host).filter(|ix| self.speaks(*ix)) {
            self.query(ix, request);
        }
    }

    fn query(&mut self, ix: Ix, request: AdminRequest) {
        self.queries += 1;
        let (call, start) = (CallId(self.queries), self.hosts[ix].start);
        let request = Box::new(request);
        self.schedule(Duration::from_millis(1), Happening::Query { host: ix as u32, start, call, request });
    }

    // Healing.

    /// Everything that can mend without a person mends: networks, frozen and starved processes, dead daemons, disks, clocks,
    /// Nova, the weather, the BMCs of hosts with supply. What is dead stays dead.
    pub fn heal(&mut self) {
        self.tell("everything heals");
        self.nova_down = false;
        self.nova_inside_down = false;
        self.weather = Weather::CALM;
        self.net.mend();
        for ix in 0..self.hosts.len() {
            let name = self.hosts[ix].name.clone();
            if self.hosts[ix].suspended.is_some() {
                self.suspend(&name, false);
            }
            self.freeze(&name, false);
            self.starve(&name, false);
            self.hosts[ix].bmc = Bmc::Honest;
            self.hosts[ix].bmc_leads_to = ix;
            self.hosts[ix].tears_next = false;
            self.hosts[ix].clock.set_drift(self.now, 0);
            self.hosts[ix].clock.wall_ahead = 0;
            if self.hosts[ix].disk != Disk::Good {
                self.set_disk(&name, Disk::Good);
            }
            if self.hosts[ix].has_kernel() {
                self.mend_process(&name);
            }
            if self.hosts[ix].has_kernel() && !self.hosts[ix].running {
                self.start_daemon(ix);
            }
        }
        self.recount();
    }

    // What is so.

    /// Who votes.
    #[must_use]
    pub fn voters(&self) -> Vec<HostName> {
        self.voters.iter().map(|ix| self.hosts[*ix].name.clone()).collect()
    }

    /// Whether it has no power, or its kernel is dead.
    #[must_use]
    pub fn is_dead(&self, host: &HostName) -> bool {
        self.host(host).is_none_or(|host| !host.has_kernel())
    }

    /// The agreed ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.raft.ledger()
    }
}

fn bits(path: Option<usize>) -> u8 {
    path.map_or(u8::MAX, |path| 1 << path)
}

fn on_path(path: Option<usize>) -> String {
    path.map(|path| format!(" on path {path}")).unwrap_or_default()
}
