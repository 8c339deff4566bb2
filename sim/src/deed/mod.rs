//! The vocabulary of faults, mendings and operators: everything that can be done to a simulated cloud, each with one word.
//!
//! One word is one variant, one row in [`Deed::kind`], one arm in `act.rs`, and one line in docs/simulator.md. A deed that
//! can be taken back names the deed that does so in [`Deed::inverse`]; only such a deed may be given `for` in a scenario.

use serde::{Deserialize, Serialize};

mod act;
mod span;
mod target;

pub use act::{host_matching, resolve};
pub use span::{SPAN_MAX_MS, Span, SpanError};
pub(crate) use target::number as host_number;
pub use target::{Target, TargetError, Targets};

/// Something done to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// The kernel stops; the machine keeps its power, and its BMC says on.
    Kill {
        /// Whose.
        hosts: Targets,
    },
    /// The machine loses its power, and its BMC with it, unless that has standby power.
    PowerLoss {
        /// Whose.
        hosts: Targets,
        /// The BMC lives on, and says off.
        #[serde(default, skip_serializing_if = "is_false")]
        standby: bool,
    },
    /// The power button, or mains power that returns: a machine that is off starts, its BMC is there again.
    PowerOn {
        /// Whose.
        hosts: Targets,
    },
    /// The machine restarts by itself: gone at once, back in a new boot after a minute or so.
    Reboot {
        /// Whose.
        hosts: Targets,
    },
    /// The daemon stops for a while (`SIGSTOP`, a host that swaps): its guests run on, its clock too.
    Freeze {
        /// Whose.
        hosts: Targets,
    },
    /// A frozen daemon goes on as if nothing had been.
    Thaw {
        /// Whose.
        hosts: Targets,
    },
    /// The whole machine stands still, its clock too: a paused virtual machine, firmware that takes its time.
    Suspend {
        /// Whose.
        hosts: Targets,
    },
    /// A suspended machine goes on.
    Wake {
        /// Whose.
        hosts: Targets,
    },
    /// I/O is starved while timers run: what it hears comes late, in bursts.
    Starve {
        /// Whose.
        hosts: Targets,
    },
    /// No longer starved.
    Feed {
        /// Whose.
        hosts: Targets,
    },
    /// The host is cut from everybody, from Nova and the BMCs too; or only on one path, and then only from members.
    Cut {
        /// Which.
        hosts: Targets,
        /// On this path only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathWord>,
    },
    /// The host is no longer cut.
    Mend {
        /// Which.
        hosts: Targets,
        /// On this path only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathWord>,
    },
    /// The host reaches neither Nova nor the BMCs; the members it does.
    CutServices {
        /// Which.
        hosts: Targets,
    },
    /// It reaches them again.
    MendServices {
        /// Which.
        hosts: Targets,
    },
    /// Two sets no longer reach each other. Each still reaches itself; whoever is in neither reaches both.
    Split {
        /// One side.
        hosts: Targets,
        /// The other side. Left out: everybody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Targets>,
        /// On this path only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathWord>,
        /// `hosts` loses Nova and the BMCs too.
        #[serde(default, skip_serializing_if = "is_false")]
        services: bool,
    },
    /// Nothing gets from one set to the other; the way back is open.
    Block {
        /// Who is not heard.
        hosts: Targets,
        /// By whom.
        to: Targets,
        /// On this path only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathWord>,
    },
    /// Every cut, split and block ends.
    MendNetwork {},
    /// The weather changes: what is named, and nothing else.
    Weather(WeatherWords),
    /// A BMC behaves so from now on.
    Bmc {
        /// Whose.
        hosts: Targets,
        /// How.
        behaves: BmcWord,
    },
    /// Somebody swaps the cables of two BMCs.
    CrossBmcs {
        /// Of the first.
        hosts: Targets,
        /// And of the second.
        with: Targets,
    },
    /// Nova (or Keystone) answers nothing.
    NovaDown {},
    /// Nova answers again.
    NovaUp {},
    /// Somebody clears the forced-down mark of a compute service.
    ClearForcedDown {
        /// Whose.
        hosts: Targets,
    },
    /// A server of the host is live-migrated away, by a user or an operator.
    Migrate {
        /// From.
        hosts: Targets,
        /// To.
        to: Targets,
    },
    /// A guest's process dies on a healthy host.
    GuestDies {
        /// On which: one guest each.
        hosts: Targets,
    },
    /// The disk under a voter's ledger.
    Disk {
        /// Whose.
        hosts: Targets,
        /// What becomes of it.
        is: DiskWord,
    },
    /// The monotonic clock runs fast, or slow.
    Drift {
        /// Whose.
        hosts: Targets,
        /// By that many parts in a million; negative: slow.
        ppm: i32,
    },
    /// The wall clock jumps.
    Jump {
        /// Whose.
        hosts: Targets,
        /// By that many milliseconds; negative: back.
        ms: i64,
    },
    /// The daemon is killed. systemd starts it again at once, unless `stays`.
    DaemonCrash {
        /// Whose.
        hosts: Targets,
        /// It stays down.
        #[serde(default, skip_serializing_if = "is_false")]
        stays: bool,
    },
    /// The daemon is stopped by its operator, and says goodbye.
    DaemonStop {
        /// Whose.
        hosts: Targets,
    },
    /// The daemon is started again.
    DaemonStart {
        /// Whose.
        hosts: Targets,
    },
    /// The leader gives leadership up; somebody is elected, perhaps itself.
    Depose {},
    /// That voter is elected, if it can be.
    Elect {
        /// Who.
        hosts: Targets,
    },
    /// An operator's order.
    Order {
        /// Which.
        order: OrderWord,
        /// About whom; for orders about a host or its incident.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hosts: Option<Targets>,
    },
    /// Everything mends that can mend without a person. What is dead stays dead.
    Heal {},
}

/// A network path by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathWord {
    /// The first.
    Management,
    /// The second.
    Storage,
    /// The third.
    Tenant,
}

impl PathWord {
    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Management => 0,
            Self::Storage => 1,
            Self::Tenant => 2,
        }
    }
}

/// How a BMC behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BmcWord {
    /// As it should.
    Honest,
    /// It never answers.
    Silent,
    /// It says ok to off, and the machine stays on.
    StaysOn,
    /// It refuses our password.
    WrongPassword,
    /// It says off, always, and does nothing.
    SaysOff,
    /// It switches off, and says on, always.
    SaysOn,
    /// It refuses two commands of three: node busy.
    Busy,
    /// It takes three seconds for every answer.
    Slow,
    /// It accepts at once, and does it twenty seconds later.
    Late,
}

/// What an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderWord {
    /// Act.
    Arm,
    /// Only watch.
    Disarm,
    /// Put a host into maintenance.
    MaintenanceOn,
    /// Take it out.
    MaintenanceOff,
    /// Try its stuck incident again.
    Resume,
    /// Let it back.
    Release,
}

impl OrderWord {
    /// Whether it is about a host.
    #[must_use]
    pub fn is_about_a_host(self) -> bool {
        match self {
            Self::Arm | Self::Disarm => false,
            Self::MaintenanceOn | Self::MaintenanceOff | Self::Resume | Self::Release => true,
        }
    }
}

/// What becomes of the disk under a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskWord {
    /// As it should be.
    Good,
    /// Every write takes 400 ms.
    Slow,
    /// No write succeeds.
    Full,
    /// The daemon dies in the middle of its next write; what it wrote is gone.
    Torn,
    /// All of it is gone; the daemon comes back with an empty one.
    Lost,
}

/// Changes of the weather; what is left out stays as it is. All in percent, but `delay-ms` and `dying-destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WeatherWords {
    /// Datagrams that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<u8>,
    /// Part of the time a pair of hosts spends in a burst, in which half of its datagrams are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bursts: Option<u8>,
    /// Datagrams that arrive twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<u8>,
    /// Datagrams that are overtaken by later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reordered: Option<u8>,
    /// Added to everything on the network at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u16>,
    /// Nova calls that are answered 503 and not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nova_errors: Option<u8>,
    /// Evacuate calls whose answer is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_answers: Option<u8>,
    /// Evacuate calls that take up to ten seconds to arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_calls: Option<u8>,
    /// Evacuate calls that are answered 504 at once and arrive up to two minutes later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_calls: Option<u8>,
    /// Evacuate calls that a proxy repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubled_calls: Option<u8>,
    /// Rebuilds that fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_rebuilds: Option<u8>,
    /// Failed rebuilds that leave their guest running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<u8>,
    /// Proposals that are committed and whose answer is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_commits: Option<u8>,
    /// Fenced hosts that somebody powers on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meddling: Option<u8>,
    /// The next host on which something is rebuilt dies meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dying_destination: Option<bool>,
}

impl Deed {
    /// The word for it, as in a scenario: the key under which reports count it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::PowerLoss { .. } => "power-loss",
            Self::PowerOn { .. } => "power-on",
            Self::Reboot { .. } => "reboot",
            Self::Freeze { .. } => "freeze",
            Self::Thaw { .. } => "thaw",
            Self::Suspend { .. } => "suspend",
            Self::Wake { .. } => "wake",
            Self::Starve { .. } => "starve",
            Self::Feed { .. } => "feed",
            Self::Cut { .. } => "cut",
            Self::Mend { .. } => "mend",
            Self::CutServices { .. } => "cut-services",
            Self::MendServices { .. } => "mend-services",
            Self::Split { .. } => "split",
            Self::Block { .. } => "block",
            Self::MendNetwork {} => "mend-network",
            Self::Weather(_) => "weather",
            Self::Bmc { .. } => "bmc",
            Self::CrossBmcs { .. } => "cross-bmcs",
            Self::NovaDown {} => "nova-down",
            Self::NovaUp {} => "nova-up",
            Self::ClearForcedDown { .. } => "clear-forced-down",
            Self::Migrate { .. } => "migrate",
            Self::GuestDies { .. } => "guest-dies",
            Self::Disk { .. } => "disk",
            Self::Drift { .. } => "drift",
            Self::Jump { .. } => "jump",
            Self::DaemonCrash { .. } => "daemon-crash",
            Self::DaemonStop { .. } => "daemon-stop",
            Self::DaemonStart { .. } => "daemon-start",
            Self::Depose {} => "depose",
            Self::Elect { .. } => "elect",
            Self::Order { .. } => "order",
            Self::Heal {} => "heal",
        }
    }

    /// The deed that takes it back, if one does. `None`: it cannot be given `for`.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        match self {
            Self::Freeze { hosts } => Some(Self::Thaw { hosts: hosts.clone() }),
            Self::Suspend { hosts } => Some(Self::Wake { hosts: hosts.clone() }),
            Self::CutServices { hosts } => Some(Self::MendServices { hosts: hosts.clone() }),
            Self::Starve { hosts } => Some(Self::Feed { hosts: hosts.clone() }),
            Self::Cut { hosts, path } => Some(Self::Mend { hosts: hosts.clone(), path: *path }),
            Self::Split { .. } | Self::Block { .. } => Some(Self::MendNetwork {}),
            Self::Bmc { hosts, behaves } if *behaves != BmcWord::Honest => {
                Some(Self::Bmc { hosts: hosts.clone(), behaves: BmcWord::Honest })
            }
            Self::NovaDown {} => Some(Self::NovaUp {}),
            Self::Disk { hosts, is: DiskWord::Slow | DiskWord::Full } => {
                Some(Self::Disk { hosts: hosts.clone(), is: DiskWord::Good })
            }
            Self::Drift { hosts, .. } => Some(Self::Drift { hosts: hosts.clone(), ppm: 0 }),
            Self::DaemonStop { hosts } | Self::DaemonCrash { hosts, stays: true } => {
                Some(Self::DaemonStart { hosts: hosts.clone() })
            }
            Self::PowerLoss { hosts, .. } => Some(Self::PowerOn { hosts: hosts.clone() }),
            Self::Order { order, hosts } => match order {
                OrderWord::Arm => Some(Self::Order { order: OrderWord::Disarm, hosts: None }),
                OrderWord::Disarm => Some(Self::Order { order: OrderWord::Arm, hosts: None }),
                OrderWord::MaintenanceOn => {
                    Some(Self::Order { order: OrderWord::MaintenanceOff, hosts: hosts.clone() })
                }
                OrderWord::MaintenanceOff | OrderWord::Resume | OrderWord::Release => None,
            },
            Self::Weather(words) => words.inverse().map(Self::Weather),
            Self::Kill { .. }
            | Self::PowerOn { .. }
            | Self::Reboot { .. }
            | Self::Thaw { .. }
            | Self::Wake { .. }
            | Self::MendServices { .. }
            | Self::ClearForcedDown { .. }
            | Self::Feed { .. }
            | Self::Mend { .. }
            | Self::MendNetwork {}
            | Self::Bmc { .. }
            | Self::CrossBmcs { .. }
            | Self::NovaUp {}
            | Self::Migrate { .. }
            | Self::GuestDies { .. }
            | Self::Disk { .. }
            | Self::Jump { .. }
            | Self::DaemonCrash { .. }
            | Self::DaemonStart { .. }
            | Self::Depose {}
            | Self::Elect { .. }
            | Self::Heal {} => None,
        }
    }

    /// All targets it names, with the key each stands under.
    #[must_use]
    pub fn targets(&self) -> Vec<(&'static str, &Targets)> {
        match self {
            Self::Kill { hosts }
            | Self::PowerLoss { hosts, .. }
            | Self::PowerOn { hosts }
            | Self::Reboot { hosts }
            | Self::Freeze { hosts }
            | Self::Thaw { hosts }
            | Self::Suspend { hosts }
            | Self::Wake { hosts }
            | Self::CutServices { hosts }
            | Self::MendServices { hosts }
            | Self::ClearForcedDown { hosts }
            | Self::Starve { hosts }
            | Self::Feed { hosts }
            | Self::Cut { hosts, .. }
            | Self::Mend { hosts, .. }
            | Self::Bmc { hosts, .. }
            | Self::GuestDies { hosts }
            | Self::Disk { hosts, .. }
            | Self::Drift { hosts, .. }
            | Self::Jump { hosts, .. }
            | Self::DaemonCrash { hosts, .. }
            | Self::DaemonStop { hosts }
            | Self::DaemonStart { hosts }
            | Self::Elect { hosts } => vec![("hosts", hosts)],
            Self::CrossBmcs { hosts, with } => vec![("hosts", hosts), ("with", with)],
            Self::Migrate { hosts, to } | Self::Block { hosts, to, .. } => vec![("hosts", hosts), ("to", to)],
            Self::Split { hosts, from, .. } => {
                std::iter::once(("hosts", hosts)).chain(from.as_ref().map(|from| ("from", from))).collect()
            }
            Self::Order { hosts, .. } => hosts.iter().map(|hosts| ("hosts", hosts)).collect(),
            Self::MendNetwork {}
            | Self::Weather(_)
            | Self::NovaDown {}
            | Self::NovaUp {}
            | Self::Depose {}
            | Self::Heal {} => Vec::new(),
        }
    }

    /// The same, to be changed.
    pub(crate) fn targets_mut(&mut self) -> Vec<&mut Targets> {
        match self {
            Self::Kill { hosts }
            | Self::PowerLoss { hosts, .. }
            | Self::PowerOn { hosts }
            | Self::Reboot { hosts }
            | Self::Freeze { hosts }
            | Self::Thaw { hosts }
            | Self::Suspend { hosts }
            | Self::Wake { hosts }
            | Self::CutServices { hosts }
            | Self::MendServices { hosts }
            | Self::ClearForcedDown { hosts }
            | Self::Starve { hosts }
            | Self::Feed { hosts }
            | Self::Cut { hosts, .. }
            | Self::Mend { hosts, .. }
            | Self::Bmc { hosts, .. }
            | Self::GuestDies { hosts }
            | Self::Disk { hosts, .. }
            | Self::Drift { hosts, .. }
            | Self::Jump { hosts, .. }
            | Self::DaemonCrash { hosts, .. }
            | Self::DaemonStop { hosts }
            | Self::DaemonStart { hosts }
            | Self::Elect { hosts } => vec![hosts],
            Self::CrossBmcs { hosts, with } => vec![hosts, with],
            Self::Migrate { hosts, to } | Self::Block { hosts, to, .. } => vec![hosts, to],
            Self::Split { hosts, from, .. } => std::iter::once(hosts).chain(from.as_mut()).collect(),
            Self::Order { hosts, .. } => hosts.iter_mut().collect(),
            Self::MendNetwork {}
            | Self::Weather(_)
            | Self::NovaDown {}
            | Self::NovaUp {}
            | Self::Depose {}
            | Self::Heal {} => Vec::new(),
        }
    }

    /// Changes all targets it names.
    pub(crate) fn map_targets(&mut self, change: impl Fn(&mut Targets)) {
        self.targets_mut().into_iter().for_each(change);
    }

    /// The path it names, if any.
    #[must_use]
    pub fn path(&self) -> Option<PathWord> {
        match self {
            Self::Cut { path, .. } | Self::Mend { path, .. } | Self::Split { path, .. } | Self::Block { path, .. } => {
                *path
            }
            Self::Kill { .. }
            | Self::PowerLoss { .. }
            | Self::PowerOn { .. }
            | Self::Reboot { .. }
            | Self::Freeze { .. }
            | Self::Thaw { .. }
            | Self::Wake { .. }
            | Self::MendServices { .. }
            | Self::ClearForcedDown { .. }
            | Self::Starve { .. }
            | Self::Suspend { .. }
            | Self::CutServices { .. }
            | Self::Feed { .. }
            | Self::MendNetwork {}
            | Self::Weather(_)
            | Self::Bmc { .. }
            | Self::CrossBmcs { .. }
            | Self::NovaDown {}
            | Self::NovaUp {}
            | Self::Migrate { .. }
            | Self::GuestDies { .. }
            | Self::Disk { .. }
            | Self::Drift { .. }
            | Self::Jump { .. }
            | Self::DaemonCrash { .. }
            | Self::DaemonStop { .. }
            | Self::DaemonStart { .. }
            | Self::Depose {}
            | Self::Elect { .. }
            | Self::Order { .. }
            | Self::Heal {} => None,
        }
    }
}

impl WeatherWords {
    /// Its percentages, by name.
    #[must_use]
    pub fn percentages(&self) -> [(&'static str, Option<u8>); 13] {
        [
            ("loss", self.loss),
            ("bursts", self.bursts),
            ("duplicates", self.duplicates),
            ("reordered", self.reordered),
            ("nova-errors", self.nova_errors),
            ("lost-answers", self.lost_answers),
            ("slow-calls", self.slow_calls),
            ("late-calls", self.late_calls),
            ("doubled-calls", self.doubled_calls),
            ("failed-rebuilds", self.failed_rebuilds),
            ("leftovers", self.leftovers),
            ("lost-commits", self.lost_commits),
            ("meddling", self.meddling),
        ]
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        *self == Self::default()
    }

    /// The same words, all of them calm.
    fn inverse(&self) -> Option<Self> {
        let calm = |word: Option<u8>| word.map(|_| 0);
        Some(Self {
            loss: calm(self.loss),
            bursts: calm(self.bursts),
            duplicates: calm(self.duplicates),
            reordered: calm(self.reordered),
            delay_ms: self.delay_ms.map(|_| 0),
            nova_errors: calm(self.nova_errors),
            lost_answers: calm(self.lost_answers),
            slow_calls: calm(self.slow_calls),
            late_calls: calm(self.late_calls),
            doubled_calls: calm(self.doubled_calls),
            failed_rebuilds: calm(self.failed_rebuilds),
            leftovers: calm(self.leftovers),
            lost_commits: calm(self.lost_commits),
            meddling: calm(self.meddling),
            dying_destination: self.dying_destination.map(|_| false),
        })
    }
}

// serde asks by reference.
fn is_false(flag: &bool) -> bool {
    !flag
}
