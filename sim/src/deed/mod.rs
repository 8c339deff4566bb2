//! The vocabulary of faults, mendings and operators: everything that can be done to a simulated cloud, each with one word.
//!
//! One word is one variant, one row in [`Deed::kind`], one arm in `act.rs`, and one line in docs/simulator.md. A deed that
//! can be taken back names the deed that does so in [`Deed::inverse`]; only such a deed may be given `for` in a scenario.

use serde::{Deserialize, Serialize};

mod about;
mod act;
mod span;
mod target;
mod weather;
mod words;

pub use act::{host_matching, resolve};
pub use span::{SPAN_MAX_MS, Span, SpanError};
pub(crate) use target::number as host_number;
pub use target::{Target, TargetError, Targets};
pub use weather::WeatherWords;
pub use words::{BmcWord, DiskWord, OrderWord, PathWord};

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
    /// Those do not reach the BMCs of these; everything else they do (BMC networks differ).
    BlockBmcs {
        /// Who does not reach them.
        hosts: Targets,
        /// Whose.
        to: Targets,
    },
    /// They reach them again.
    MendBmcs {
        /// Who.
        hosts: Targets,
        /// Whose.
        to: Targets,
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
    /// Somebody sets servers of the host back to active that Nova shows as being rebuilt there, and that run.
    ResetState {
        /// On which.
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
    /// All processes of the host hang, its guests' and its daemon too; its kernel still answers.
    Hang {
        /// Whose.
        hosts: Targets,
    },
    /// They go on.
    Unhang {
        /// Whose.
        hosts: Targets,
    },
    /// Its kernel crashes. From a while later on its crash kernel says so to the voters, until the dump is written.
    Dump {
        /// Whose.
        hosts: Targets,
        /// How long it takes, from the crash.
        lasts: Span,
    },
    /// A firewall or proxy answers for every host, dead or alive: port unreachable, reset.
    AnswerForTheDead {},
    /// It does so no more.
    NobodyAnswers {},
    /// The host is told to reboot, or to power off: its daemon says goodbye, then all of it ends.
    ShutDown {
        /// Whose.
        hosts: Targets,
        /// It powers off, and does not mean to be back.
        #[serde(default, skip_serializing_if = "is_false")]
        power_off: bool,
    },
    /// A host that is down has booted; none of its guests runs, nor is started by anybody on it.
    BootEmpty {
        /// Whose.
        hosts: Targets,
    },
    /// nova-compute fails on a host that lives, and no restart helps.
    ComputeFails {
        /// On which.
        hosts: Targets,
    },
    /// It is repaired, and runs.
    ComputeMends {
        /// On which.
        hosts: Targets,
    },
    /// Everything mends that can mend without a person. What is dead stays dead.
    Heal {},
}

// serde asks by reference.
fn is_false(flag: &bool) -> bool {
    !flag
}
