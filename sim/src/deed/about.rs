//! What is so of each deed: its word, what takes it back, whom it names.

use super::{BmcWord, Deed, DiskWord, OrderWord, PathWord, Targets};

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
            Self::BlockBmcs { .. } => "block-bmcs",
            Self::MendBmcs { .. } => "mend-bmcs",
            Self::NovaDown {} => "nova-down",
            Self::NovaUp {} => "nova-up",
            Self::ClearForcedDown { .. } => "clear-forced-down",
            Self::ResetState { .. } => "reset-state",
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
            Self::Hang { .. } => "hang",
            Self::Unhang { .. } => "unhang",
            Self::Dump { .. } => "dump",
            Self::AnswerForTheDead {} => "answer-for-the-dead",
            Self::NobodyAnswers {} => "nobody-answers",
            Self::ShutDown { .. } => "shut-down",
            Self::BootEmpty { .. } => "boot-empty",
            Self::ComputeFails { .. } => "compute-fails",
            Self::ComputeMends { .. } => "compute-mends",
            Self::Heal {} => "heal",
        }
    }

    /// The deed that takes it back, if one does. `None`: it cannot be given `for`.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        match self {
            Self::Freeze { hosts } => Some(Self::Thaw { hosts: hosts.clone() }),
            Self::Suspend { hosts } => Some(Self::Wake { hosts: hosts.clone() }),
            Self::BlockBmcs { hosts, to } => Some(Self::MendBmcs { hosts: hosts.clone(), to: to.clone() }),
            Self::CutServices { hosts } => Some(Self::MendServices { hosts: hosts.clone() }),
            Self::Starve { hosts } => Some(Self::Feed { hosts: hosts.clone() }),
            Self::Cut { hosts, path } => Some(Self::Mend { hosts: hosts.clone(), path: *path }),
            Self::Split { .. } | Self::Block { .. } => Some(Self::MendNetwork {}),
            Self::Bmc { hosts, behaves } if *behaves != BmcWord::Honest => {
                Some(Self::Bmc { hosts: hosts.clone(), behaves: BmcWord::Honest })
            }
            Self::NovaDown {} => Some(Self::NovaUp {}),
            Self::Hang { hosts } => Some(Self::Unhang { hosts: hosts.clone() }),
            Self::ComputeFails { hosts } => Some(Self::ComputeMends { hosts: hosts.clone() }),
            Self::AnswerForTheDead {} => Some(Self::NobodyAnswers {}),
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
                OrderWord::MaintenanceOff
                | OrderWord::Resume
                | OrderWord::Release
                | OrderWord::LiftBrake
                | OrderWord::ConfirmOff
                | OrderWord::Forget
                | OrderWord::Enroll
                | OrderWord::Rehearse
                | OrderWord::RaiseFormat => None,
            },
            Self::Weather(words) => words.inverse().map(Self::Weather),
            Self::Kill { .. }
            | Self::PowerOn { .. }
            | Self::Reboot { .. }
            | Self::Thaw { .. }
            | Self::Wake { .. }
            | Self::MendServices { .. }
            | Self::ClearForcedDown { .. }
            | Self::ResetState { .. }
            | Self::Feed { .. }
            | Self::Mend { .. }
            | Self::MendNetwork {}
            | Self::Bmc { .. }
            | Self::CrossBmcs { .. }
            | Self::MendBmcs { .. }
            | Self::NovaUp {}
            | Self::Migrate { .. }
            | Self::GuestDies { .. }
            | Self::Disk { .. }
            | Self::Jump { .. }
            | Self::DaemonCrash { .. }
            | Self::DaemonStart { .. }
            | Self::Depose {}
            | Self::Elect { .. }
            | Self::Unhang { .. }
            | Self::Dump { .. }
            | Self::NobodyAnswers {}
            | Self::ShutDown { .. }
            | Self::BootEmpty { .. }
            | Self::ComputeMends { .. }
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
            | Self::ResetState { hosts }
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
            | Self::Elect { hosts }
            | Self::Hang { hosts }
            | Self::Unhang { hosts }
            | Self::Dump { hosts, .. }
            | Self::ShutDown { hosts, .. }
            | Self::BootEmpty { hosts }
            | Self::ComputeFails { hosts }
            | Self::ComputeMends { hosts } => vec![("hosts", hosts)],
            Self::CrossBmcs { hosts, with } => vec![("hosts", hosts), ("with", with)],
            Self::Migrate { hosts, to }
            | Self::BlockBmcs { hosts, to }
            | Self::MendBmcs { hosts, to }
            | Self::Block { hosts, to, .. } => vec![("hosts", hosts), ("to", to)],
            Self::Split { hosts, from, .. } => {
                std::iter::once(("hosts", hosts)).chain(from.as_ref().map(|from| ("from", from))).collect()
            }
            Self::Order { hosts, .. } => hosts.iter().map(|hosts| ("hosts", hosts)).collect(),
            Self::MendNetwork {}
            | Self::Weather(_)
            | Self::NovaDown {}
            | Self::NovaUp {}
            | Self::Depose {}
            | Self::AnswerForTheDead {}
            | Self::NobodyAnswers {}
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
            | Self::ResetState { hosts }
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
            | Self::Elect { hosts }
            | Self::Hang { hosts }
            | Self::Unhang { hosts }
            | Self::Dump { hosts, .. }
            | Self::ShutDown { hosts, .. }
            | Self::BootEmpty { hosts }
            | Self::ComputeFails { hosts }
            | Self::ComputeMends { hosts } => vec![hosts],
            Self::CrossBmcs { hosts, with } => vec![hosts, with],
            Self::Migrate { hosts, to }
            | Self::BlockBmcs { hosts, to }
            | Self::MendBmcs { hosts, to }
            | Self::Block { hosts, to, .. } => vec![hosts, to],
            Self::Split { hosts, from, .. } => std::iter::once(hosts).chain(from.as_mut()).collect(),
            Self::Order { hosts, .. } => hosts.iter_mut().collect(),
            Self::MendNetwork {}
            | Self::Weather(_)
            | Self::NovaDown {}
            | Self::NovaUp {}
            | Self::Depose {}
            | Self::AnswerForTheDead {}
            | Self::NobodyAnswers {}
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
            | Self::ResetState { .. }
            | Self::Starve { .. }
            | Self::Suspend { .. }
            | Self::CutServices { .. }
            | Self::Feed { .. }
            | Self::MendNetwork {}
            | Self::Weather(_)
            | Self::Bmc { .. }
            | Self::CrossBmcs { .. }
            | Self::BlockBmcs { .. }
            | Self::MendBmcs { .. }
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
            | Self::Hang { .. }
            | Self::Unhang { .. }
            | Self::Dump { .. }
            | Self::AnswerForTheDead {}
            | Self::NobodyAnswers {}
            | Self::ShutDown { .. }
            | Self::BootEmpty { .. }
            | Self::ComputeFails { .. }
            | Self::ComputeMends { .. }
            | Self::Heal {} => None,
        }
    }
}
