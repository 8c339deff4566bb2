//! What a deed does to the world: the only place where the vocabulary meets it.

use rekindle_coordinator::ledger::{LEDGER_FORMAT, LiftTarget, OperatorCommand};
use rekindle_proto::fact::{MemberRole, RosterEntry, StopReason};
use rekindle_proto::id::{HostName, IncidentId};

use super::target::number;
use super::{BmcWord, Deed, DiskWord, OrderWord, Target, Targets, WeatherWords};
use crate::world::{Bmc, Disk, Weather, World};

/// How long a slow disk takes for a write, in milliseconds: longer than a heartbeat of Raft, shorter than an election.
const SLOW_DISK_MS: u16 = 400;
/// How long a slow BMC takes for an answer, in milliseconds: within the time-out of a device, five seconds.
const SLOW_BMC_MS: u16 = 3_000;
/// How late a late BMC does what it accepted, in seconds (the slow one of the red team's finding 12).
const LATE_BMC_S: u16 = 20;

impl Deed {
    /// Does it. `it` is the host whose incident an event waited for, if it waited for one. Returns how many hosts (or
    /// clouds, or orders) it befell: zero means that nobody was there to befall.
    pub fn act(&self, world: &mut World, it: Option<&HostName>) -> usize {
        match self {
            Self::Kill { hosts } => living(world, hosts, it, |world, host| world.kill_host(host, false)),
            Self::PowerLoss { hosts, standby: true } => {
                powered(world, hosts, it, |world, host| world.kill_host(host, true))
            }
            Self::PowerLoss { hosts, standby: false } => powered(world, hosts, it, World::cut_supply),
            Self::PowerOn { hosts } => each(world, hosts, it, |world, host| {
                world.restore_supply(host);
                world.press_power(host);
            }),
            Self::Reboot { hosts } => powered(world, hosts, it, World::reboot),
            Self::Freeze { hosts } => each(world, hosts, it, |world, host| world.freeze(host, true)),
            Self::Thaw { hosts } => each(world, hosts, it, |world, host| world.freeze(host, false)),
            Self::Suspend { hosts } => each(world, hosts, it, |world, host| world.suspend(host, true)),
            Self::Wake { hosts } => each(world, hosts, it, |world, host| world.suspend(host, false)),
            Self::Starve { hosts } => each(world, hosts, it, |world, host| world.starve(host, true)),
            Self::Feed { hosts } => each(world, hosts, it, |world, host| world.starve(host, false)),
            Self::Cut { hosts, path } => each(world, hosts, it, |world, host| cut(world, host, *path, true)),
            Self::Mend { hosts, path } => each(world, hosts, it, |world, host| cut(world, host, *path, false)),
            Self::CutServices { hosts } => each(world, hosts, it, |world, host| world.cut_services(host, true)),
            Self::MendServices { hosts } => each(world, hosts, it, |world, host| world.cut_services(host, false)),
            Self::Split { hosts, from, path, services } => {
                let side = resolve(world, hosts, it);
                let other = other_side(world, &side, from.as_ref(), it);
                let befallen = side.len();
                world.partition(&[other, side], path.map(super::PathWord::index), *services);
                befallen
            }
            Self::Block { hosts, to, path } => {
                let (side, other) = (resolve(world, hosts, it), resolve(world, to, it));
                for from in &side {
                    for to in other.iter().filter(|to| *to != from) {
                        world.block(from, to, path.map(super::PathWord::index));
                    }
                }
                side.len()
            }
            Self::BlockBmcs { hosts, to } => reach_bmcs(world, (hosts, to), it, true),
            Self::MendBmcs { hosts, to } => reach_bmcs(world, (hosts, to), it, false),
            Self::MendNetwork {} => once(world, World::mend_network),
            Self::Weather(words) => once(world, |world| words.apply(&mut world.weather)),
            Self::Bmc { hosts, behaves } => each(world, hosts, it, |world, host| world.set_bmc(host, bmc(*behaves))),
            Self::CrossBmcs { hosts, with } => pair(world, hosts, with, it, World::cross_bmcs),
            Self::NovaDown {} => once(world, |world| world.set_nova(true)),
            Self::NovaUp {} => once(world, |world| world.set_nova(false)),
            Self::ClearForcedDown { hosts } => each(world, hosts, it, World::clear_forced_down),
            Self::ResetState { hosts } => each(world, hosts, it, |world, host| world.nova.reset_states(host)),
            Self::Migrate { hosts, to } => pair(world, hosts, to, it, |world, from, to| {
                if let Some(server) = world.nova.guests_on(from).first().copied() {
                    world.migrate(server, to);
                }
            }),
            Self::GuestDies { hosts } => living(world, hosts, it, |world, host| {
                if let Some(guest) = world.nova.guests_on(host).first().copied() {
                    world.kill_guest(guest);
                }
            }),
            Self::Disk { hosts, is } => each(world, hosts, it, |world, host| match is {
                DiskWord::Good => world.set_disk(host, Disk::Good),
                DiskWord::Slow => world.set_disk(host, Disk::Slow(SLOW_DISK_MS)),
                DiskWord::Full => world.set_disk(host, Disk::Full),
                DiskWord::Torn => world.tear_next_write(host),
                DiskWord::Lost => world.lose_disk(host),
            }),
            Self::Drift { hosts, ppm } => each(world, hosts, it, |world, host| world.drift(host, *ppm)),
            Self::Jump { hosts, ms } => each(world, hosts, it, |world, host| world.jump_wall(host, *ms)),
            Self::DaemonCrash { hosts, stays: true } => living(world, hosts, it, World::crash_daemon),
            Self::DaemonCrash { hosts, stays: false } => living(world, hosts, it, World::restart_daemon),
            Self::DaemonStop { hosts } => living(world, hosts, it, World::stop_daemon),
            Self::DaemonStart { hosts } => living(world, hosts, it, World::start_again),
            Self::Depose {} => once(world, World::depose),
            Self::Elect { hosts } => each(world, hosts, it, World::elect),
            Self::Order { order, hosts } => give(world, *order, hosts.as_ref(), it),
            Self::Hang { hosts } => living(world, hosts, it, |world, host| world.hang(host, true)),
            Self::Unhang { hosts } => each(world, hosts, it, |world, host| world.hang(host, false)),
            Self::Dump { hosts, lasts } => living(world, hosts, it, |world, host| world.dump(host, lasts.duration())),
            Self::AnswerForTheDead {} => once(world, |world| world.answer_for_the_dead(true)),
            Self::NobodyAnswers {} => once(world, |world| world.answer_for_the_dead(false)),
            Self::ShutDown { hosts, power_off } => {
                let why = if *power_off { StopReason::PowerOff } else { StopReason::Reboot };
                living(world, hosts, it, |world, host| world.shut_down(host, why))
            }
            Self::BootEmpty { hosts } => {
                some(world, hosts, it, World::is_dead, |world, host| world.boot_without_guests(host))
            }
            Self::ComputeFails { hosts } => living(world, hosts, it, World::fail_process),
            Self::ComputeMends { hosts } => living(world, hosts, it, World::mend_process),
            Self::Heal {} => once(world, World::heal),
        }
    }
}

/// The hosts that targets mean at this moment, each once, in the order in which they are named.
#[must_use]
pub fn resolve(world: &World, targets: &Targets, it: Option<&HostName>) -> Vec<HostName> {
    let mut hosts: Vec<HostName> = Vec::new();
    for target in &targets.0 {
        for host in named(world, target, it) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }
    hosts
}

/// The host of that number, however many digits its name is written with.
#[must_use]
pub fn host_matching(world: &World, name: &str) -> Option<HostName> {
    world.host_names().into_iter().find(|host| host.as_str() == name || same(host.as_str(), name))
}

fn same(a: &str, b: &str) -> bool {
    ["cmp-", "wit-"].iter().any(|prefix| number(a, prefix).is_some_and(|a| number(b, prefix) == Some(a)))
}

fn is_witness(world: &World, host: &HostName) -> bool {
    world.ledger().roster.get(host).is_some_and(|entry| entry.role == MemberRole::Witness)
}

fn named(world: &World, target: &Target, it: Option<&HostName>) -> Vec<HostName> {
    let all = || world.host_names().into_iter();
    let leader = world.leader();
    let leads = |host: &HostName| leader.as_ref() == Some(host);
    match target {
        Target::Host(name) => host_matching(world, name).into_iter().collect(),
        Target::Range(first, last) => {
            let within = |host: &HostName, prefix: &str| {
                let (first, last) = (number(first, prefix)?, number(last, prefix)?);
                Some((first..=last).contains(&number(host.as_str(), prefix)?))
            };
            let inside = |host: &HostName| within(host, "cmp-").or_else(|| within(host, "wit-")).unwrap_or(false);
            all().filter(inside).collect()
        }
        Target::Domain(domain) => {
            let roster = &world.ledger().roster;
            let name = format!("rack-{domain}");
            let inside = |host: &HostName| {
                roster.get(host).and_then(|entry| entry.domain.as_ref()).is_some_and(|label| label.as_str() == name)
            };
            all().filter(inside).collect()
        }
        Target::Leader => leader.into_iter().collect(),
        Target::Follower => {
            world.voters().into_iter().find(|host| !leads(host) && !world.is_dead(host)).into_iter().collect()
        }
        Target::Followers => world.voters().into_iter().filter(|host| !leads(host)).collect(),
        Target::Voters => world.voters(),
        Target::Hosts => all().filter(|host| !is_witness(world, host)).collect(),
        Target::Witnesses => all().filter(|host| is_witness(world, host)).collect(),
        Target::All => all().collect(),
        Target::It => it.cloned().into_iter().collect(),
        Target::Destination => it.and_then(|host| destination(world, host)).into_iter().collect(),
        Target::Healthy => {
            let voters = world.voters();
            let fit = |host: &HostName| {
                !is_witness(world, host)
                    && !voters.contains(host)
                    && !world.is_dead(host)
                    && world.ledger().open_incident(host).is_none()
            };
            all().find(fit).into_iter().collect()
        }
    }
}

fn destination(world: &World, source: &HostName) -> Option<HostName> {
    world.nova.destination_of(source).cloned()
}

fn other_side(world: &World, side: &[HostName], from: Option<&Targets>, it: Option<&HostName>) -> Vec<HostName> {
    let all = from.map_or_else(|| world.host_names(), |from| resolve(world, from, it));
    all.into_iter().filter(|host| !side.contains(host)).collect()
}

fn each(world: &mut World, targets: &Targets, it: Option<&HostName>, deed: impl Fn(&mut World, &HostName)) -> usize {
    some(world, targets, it, |_, _| true, deed)
}

/// Of those only whose kernel runs.
fn living(world: &mut World, targets: &Targets, it: Option<&HostName>, deed: impl Fn(&mut World, &HostName)) -> usize {
    some(world, targets, it, |world, host| !world.is_dead(host), deed)
}

/// Of those only that have power.
fn powered(world: &mut World, targets: &Targets, it: Option<&HostName>, deed: impl Fn(&mut World, &HostName)) -> usize {
    some(world, targets, it, |world, host| world.host(host).is_some_and(|host| host.powered), deed)
}

fn some(
    world: &mut World,
    targets: &Targets,
    it: Option<&HostName>,
    which: impl Fn(&World, &HostName) -> bool,
    deed: impl Fn(&mut World, &HostName),
) -> usize {
    let hosts: Vec<HostName> = resolve(world, targets, it).into_iter().filter(|host| which(world, host)).collect();
    for host in &hosts {
        deed(world, host);
    }
    hosts.len()
}

fn once(world: &mut World, deed: impl FnOnce(&mut World)) -> usize {
    deed(world);
    1
}

fn pair(
    world: &mut World,
    a: &Targets,
    b: &Targets,
    it: Option<&HostName>,
    deed: impl FnOnce(&mut World, &HostName, &HostName),
) -> usize {
    let (a, b) = (resolve(world, a, it), resolve(world, b, it));
    let Some(a) = a.first() else { return 0 };
    let Some(b) = b.iter().find(|b| *b != a) else { return 0 };
    deed(world, a, b);
    1
}

fn cut(world: &mut World, host: &HostName, path: Option<super::PathWord>, on: bool) {
    match path {
        None => world.cut(host, on),
        Some(path) => world.cut_path(host, path.index(), on),
    }
}

fn give(world: &mut World, order: OrderWord, hosts: Option<&Targets>, it: Option<&HostName>) -> usize {
    let reason = "a scenario's order";
    match order {
        OrderWord::Arm => once(world, |world| world.order(&OperatorCommand::Arm(true), reason)),
        OrderWord::Disarm => once(world, |world| world.order(&OperatorCommand::Arm(false), reason)),
        OrderWord::RaiseFormat => {
            let raise = OperatorCommand::RaiseFormat { to: LEDGER_FORMAT };
            once(world, |world| world.order(&raise, reason))
        }
        OrderWord::MaintenanceOn
        | OrderWord::MaintenanceOff
        | OrderWord::Resume
        | OrderWord::Release
        | OrderWord::LiftBrake
        | OrderWord::ConfirmOff
        | OrderWord::Forget
        | OrderWord::Enroll
        | OrderWord::Rehearse => {
            let Some(hosts) = hosts else { return 0 };
            let hosts = resolve(world, hosts, it);
            let commands: Vec<OperatorCommand> =
                hosts.into_iter().filter_map(|host| command(world, order, host)).collect();
            for command in &commands {
                world.order(command, reason);
            }
            commands.len()
        }
    }
}

fn command(world: &World, order: OrderWord, host: HostName) -> Option<OperatorCommand> {
    let incident =
        |host: &HostName| -> Option<IncidentId> { world.ledger().open_incident(host).map(|incident| incident.id) };
    match order {
        OrderWord::Arm => Some(OperatorCommand::Arm(true)),
        OrderWord::Disarm => Some(OperatorCommand::Arm(false)),
        OrderWord::MaintenanceOn => Some(OperatorCommand::Maintenance { host, on: true }),
        OrderWord::MaintenanceOff => Some(OperatorCommand::Maintenance { host, on: false }),
        OrderWord::Resume => incident(&host).map(|incident| OperatorCommand::Resume { incident }),
        OrderWord::Release => Some(OperatorCommand::Release { host }),
        OrderWord::LiftBrake => {
            let target = incident(&host).map_or_else(|| LiftTarget::Host(host), LiftTarget::Incident);
            Some(OperatorCommand::LiftBrake { target })
        }
        OrderWord::ConfirmOff => {
            incident(&host).map(|incident| OperatorCommand::ConfirmOff { incident, checked: "its front panel".into() })
        }
        OrderWord::Forget => Some(OperatorCommand::Forget { host }),
        OrderWord::RaiseFormat => Some(OperatorCommand::RaiseFormat { to: LEDGER_FORMAT }),
        OrderWord::Rehearse => Some(OperatorCommand::Rehearse { host, level: None }),
        OrderWord::Enroll => {
            let entry = RosterEntry { host, role: MemberRole::Member, domain: None };
            Some(OperatorCommand::Enroll { entry })
        }
    }
}

fn bmc(word: BmcWord) -> Bmc {
    match word {
        BmcWord::Honest => Bmc::Honest,
        BmcWord::Silent => Bmc::Silent,
        BmcWord::StaysOn => Bmc::StaysOn,
        BmcWord::WrongPassword => Bmc::WrongPassword,
        BmcWord::SaysOff => Bmc::SaysOff,
        BmcWord::SaysOn => Bmc::SaysOn,
        BmcWord::Busy => Bmc::Busy,
        BmcWord::Slow => Bmc::Slow(SLOW_BMC_MS),
        BmcWord::Late => Bmc::Late(LATE_BMC_S),
        BmcWord::NoGuid => Bmc::NoGuid,
        BmcWord::NoStatus => Bmc::NoStatus,
        BmcWord::NoOrders => Bmc::NoOrders,
    }
}

impl WeatherWords {
    /// Changes what it names.
    pub fn apply(&self, weather: &mut Weather) {
        let set = |field: &mut u8, word: Option<u8>| *field = word.unwrap_or(*field);
        set(&mut weather.loss_percent, self.loss);
        set(&mut weather.burst_percent, self.bursts);
        set(&mut weather.duplicate_percent, self.duplicates);
        set(&mut weather.reorder_percent, self.reordered);
        set(&mut weather.nova_errors_percent, self.nova_errors);
        set(&mut weather.lost_answers_percent, self.lost_answers);
        set(&mut weather.slow_calls_percent, self.slow_calls);
        set(&mut weather.late_calls_percent, self.late_calls);
        set(&mut weather.doubled_calls_percent, self.doubled_calls);
        set(&mut weather.failed_rebuilds_percent, self.failed_rebuilds);
        set(&mut weather.leftover_percent, self.leftovers);
        set(&mut weather.lost_commits_percent, self.lost_commits);
        set(&mut weather.meddling_percent, self.meddling);
        weather.delay_ms = self.delay_ms.unwrap_or(weather.delay_ms);
        weather.dying_destination = self.dying_destination.unwrap_or(weather.dying_destination);
    }
}

fn reach_bmcs(world: &mut World, (hosts, to): (&Targets, &Targets), it: Option<&HostName>, cut: bool) -> usize {
    let (askers, owners) = (resolve(world, hosts, it), resolve(world, to, it));
    for asker in &askers {
        for owner in &owners {
            world.block_bmc(asker, owner, cut);
        }
    }
    askers.len()
}
