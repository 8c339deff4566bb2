//! A host whose daemon was stopped in order is absent, and nobody protects it. Does its kernel still answer?
//!
//! It is looked at now and then, on each of its networks, by members of its own. Only a host that was once seen to answer
//! behind its goodbye can be seen to fall silent: one that a firewall hides says nothing either way. That it answered is
//! committed, for the next leader. When it has fallen silent on all networks it is suspect like any other, with everything
//! that a verdict takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rekindle_proto::fact::{LifeGrade, LifeSign, PathFinding, StopReason};
use rekindle_proto::id::{CallId, HostName, Incarnation, PathName};
use rekindle_proto::message::Message;

use super::Leader;
use super::proposals::Key;
use super::suspects::OwnExamination;
use crate::context::Context;
use crate::ledger::{KernelLife, LeaderCommand};
use crate::life::{KERNEL_WITNESSES, Life, LifeBook};
use crate::time::Moment;

/// Between two looks at an absent host: it is not protected meanwhile, and each look is a few packets.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// A look is over then, whoever has not answered.
const LOOK_WAIT: Duration = Duration::from_secs(3);

/// Looks under way at once. All daemons may be stopped together, and members examine only so many hosts for one asker; the
/// suspects need most of those places.
const LOOKS_AT_ONCE: usize = 4;

/// Members that look: one more than must see a kernel, should one be slow.
const WITNESSES: usize = KERNEL_WITNESSES + 1;

/// Looks in a row, each by two members at least, in which nothing was seen on any network, before the life of a kernel has
/// ended. A switch that restarts, or a moment of load, is over within three.
const QUIET_LOOKS: u32 = 3;

/// One absent host, as this leader sees it.
#[derive(Debug)]
pub(super) struct AbsentWatch {
    life: Incarnation,
    next: Moment,
    look: Option<Look>,
    quiet: u32,
    answers: bool,
    books: BTreeMap<PathName, LifeBook>,
}

/// One look under way.
#[derive(Debug)]
struct Look {
    until: Moment,
    asked: BTreeMap<CallId, (HostName, PathName)>,
    /// How many have answered, per network.
    answered: BTreeMap<PathName, usize>,
    seen: bool,
}

impl AbsentWatch {
    fn new(life: Incarnation, now: Moment) -> Self {
        Self { life, next: now, look: None, quiet: 0, answers: false, books: BTreeMap::new() }
    }

    /// Takes in a look that is over; gives back whether it was.
    fn conclude(&mut self, now: Moment) -> bool {
        let Some(look) = self.look.take_if(|look| now >= look.until || look.asked.is_empty()) else { return false };
        if look.seen {
            self.quiet = 0;
        } else if look.answered.values().all(|witnesses| *witnesses >= KERNEL_WITNESSES) {
            self.quiet = self.quiet.saturating_add(1);
        }
        true
    }
}

impl Leader {
    /// Looks at those hosts whose look is due.
    pub(super) fn drive_absent(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let is_free = |host: &HostName| {
            let quarantine = cx.ledger.host(host).and_then(|record| record.quarantine);
            cx.ledger.is_hypervisor(host) && cx.ledger.open_incident(host).is_none() && quarantine.is_none()
        };
        let mut absent = BTreeMap::new();
        for host in cx.ledger.roster.keys() {
            let Some((StopReason::Daemon, life)) = cx.goodbye(host) else { continue };
            // Not yet in the ledger: there is nothing to write to.
            if cx.ledger.absence(host).is_some_and(|absence| absence.life == life) && is_free(host) {
                absent.insert(host.clone(), life);
            }
        }
        self.absent.retain(|host, watch| absent.get(host) == Some(&watch.life));
        for (host, life) in absent {
            let watch = self.absent.entry(host.clone()).or_insert_with(|| AbsentWatch::new(life, now));
            if watch.conclude(now) {
                watch.next = now + LOOK_EVERY;
            }
            let due = watch.look.as_ref().map_or(watch.next, |look| look.until);
            if watch.look.is_none() && due <= now {
                self.look_at(cx, &host);
            } else {
                self.wake_at(due);
            }
            let is_noted = cx.ledger.absence(&host).is_some_and(|absence| absence.answered);
            if !is_noted && self.absent.get(&host).is_some_and(|watch| watch.answers) {
                self.command(cx, Key::Absence(host.clone()), LeaderCommand::AbsentAnswers { host: host.clone(), life });
            }
            if self.kernel_life(cx, &host) == Some(KernelLife::Ended) {
                self.suspect(cx, &host);
            }
        }
    }

    fn look_at(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let under_way = self.absent.values().filter(|watch| watch.look.is_some()).count();
        let until = cx.now.mono + LOOK_WAIT;
        self.wake_at(until);
        let addresses = cx.addresses(host);
        if under_way >= LOOKS_AT_ONCE || addresses.is_empty() {
            return;
        }
        let fit = |member: &&HostName| *member != host && (**member == cx.setup.host || cx.is_alive(member));
        let (near, far): (Vec<&HostName>, Vec<&HostName>) =
            cx.ledger.roster.keys().filter(fit).partition(|member| cx.are_neighbours(member, host));
        let witnesses: Vec<HostName> = near.into_iter().chain(far).take(WITNESSES).cloned().collect();
        let answered = addresses.iter().map(|(path, _)| (path.clone(), 0)).collect();
        let mut look = Look { until, asked: BTreeMap::new(), answered, seen: false };
        for member in witnesses {
            // A question a network: each looks for life at the first address it is given.
            for (path, address) in &addresses {
                let call = self.ask_witness(cx, &member, host, (path.clone(), *address));
                look.asked.insert(call, (member.clone(), path.clone()));
            }
        }
        if let Some(watch) = self.absent.get_mut(host) {
            watch.look = Some(look);
        }
    }

    fn ask_witness(
        &mut self,
        cx: &mut Context<'_>,
        member: &HostName,
        target: &HostName,
        address: (PathName, SocketAddr),
    ) -> CallId {
        let call = cx.out.call();
        let (target, addresses) = (target.clone(), vec![address]);
        if *member == cx.setup.host {
            self.own_examinations.push(OwnExamination { question: call, target, addresses });
        } else {
            cx.send(member, Message::AskTestimony { call, target, addresses, knows_goodbye: true });
        }
        call
    }

    /// What a member found at an absent host.
    pub(super) fn take_absent(
        &mut self,
        cx: &Context<'_>,
        witness: &HostName,
        target: &HostName,
        question: CallId,
        findings: &[PathFinding],
        signs: &[LifeSign],
    ) {
        let now = cx.now.mono;
        let dead_are_silent = self.answers_for_the_dead(cx, target).is_none();
        let Some(watch) = self.absent.get_mut(target) else { return };
        let Some(look) = watch.look.as_mut() else { return };
        let is_asked = look.asked.get(&question).is_some_and(|(member, _)| member == witness);
        let Some((_, path)) = is_asked.then(|| look.asked.remove(&question)).flatten() else { return };
        look.seen |= !signs.is_empty() || findings.iter().any(|finding| finding.heard.is_some());
        *look.answered.entry(path.clone()).or_default() += 1;
        let book = watch.books.entry(path).or_default();
        book.note(witness, signs, now);
        match book.judge(now, |member| cx.are_neighbours(member, target), dead_are_silent) {
            Life::Alive(LifeGrade::Userland | LifeGrade::Kernel) | Life::Lapsed => watch.answers = true,
            Life::None => {}
        }
    }

    /// Whether an absent host's kernel still answers, on any network; `None`: it was never seen to, behind this goodbye.
    pub(super) fn kernel_life(&self, cx: &Context<'_>, host: &HostName) -> Option<KernelLife> {
        let watch = self.absent.get(host)?;
        let absence = cx.ledger.absence(host).filter(|absence| absence.life == watch.life)?;
        let has_ended = watch.quiet >= QUIET_LOOKS;
        absence.answered.then_some(if has_ended { KernelLife::Ended } else { KernelLife::Answers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look a row: how many witnesses answered on each of two networks, whether anything was seen, and how many quiet
    /// looks that makes.
    #[test]
    fn the_table_of_looks() {
        let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
        let path = |name: &str| PathName::new(name).expect("legal");
        let mut watch = AbsentWatch::new(Incarnation(1), at(0));
        let rows = [
            ("nothing anywhere", 3, 3, false, 1),
            ("two witnesses suffice", 2, 2, false, 2),
            ("one network was not looked at", 3, 1, false, 2),
            ("nobody answered", 0, 0, false, 2),
            ("something lives on one network", 3, 3, true, 0),
            ("nothing again", 3, 3, false, 1),
        ];
        for (second, (name, first, second_path, seen, quiet)) in (10..).zip(rows) {
            let answered = [(path("management"), first), (path("storage"), second_path)].into();
            watch.look = Some(Look { until: at(second), asked: BTreeMap::new(), answered, seen });
            assert!(watch.conclude(at(second)), "{name}");
            assert_eq!(watch.quiet, quiet, "{name}");
        }
    }
}
