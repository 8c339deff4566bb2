//! Silent hosts: who is asked about them, and when there is a verdict.

use std::net::SocketAddr;
use std::time::Duration;

use rekindle_proto::fact::{LifeSign, PathFinding, Text};
use rekindle_proto::id::{BootId, CallId, HostName, PathName};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use super::life::Ending;
use super::proposals::Key;
use super::suspect_case::SuspectCase;
use super::words::{CROWD, ROUND_EVERY};
use super::{HOLD_RETRY, Leader};
use crate::brake::{self, Brake};
use crate::context::Context;
use crate::io::{Event, Output, Peer};
use crate::ledger::LeaderCommand;
use crate::life::{KERNEL_WITNESSES, Life, LifeBook};
use crate::membership::MemberState;
use crate::mutant::{Guard, keeps};
use crate::time::Moment;
use crate::verdict::{NoVerdict, Suspicion, Verdict, confirmers_in_order};

/// Members asked at once. Three suffice; two more, so that one slow confirmer does not cost a round.
const ASKED_AT_ONCE: usize = 5;

/// A testimony that has not come in this time is absent; the next members are asked.
const TESTIMONY_WAIT: Duration = Duration::from_secs(2);

/// After a refutation, before the same host can be suspected again: gossip needs a moment to follow.
const COOL_DOWN: Duration = Duration::from_secs(1);

/// How long a leader waits to hear of a host that gossip does not know: joining takes seconds.
const MISSING_AFTER: Duration = Duration::from_secs(60);

/// More refutations than this within [`REFUTED_WINDOW`] are an alarm.
const REFUTED_MAX: usize = 3;
/// See [`REFUTED_MAX`].
const REFUTED_WINDOW: Duration = Duration::from_secs(600);

/// The leader is a member too: it examines its suspects itself.
#[derive(Debug)]
pub(crate) struct OwnExamination {
    pub(crate) question: CallId,
    pub(crate) target: HostName,
    pub(crate) addresses: Vec<(PathName, SocketAddr)>,
}

/// A suspicion, for people.
#[derive(Debug)]
pub(crate) struct SuspectView<'a> {
    pub(crate) host: &'a HostName,
    pub(crate) began: Moment,
    pub(crate) hold: Option<&'a Text>,
    pub(crate) life: Life,
    pub(crate) book: &'a LifeBook,
}

impl Leader {
    pub(crate) fn suspects(&self) -> impl Iterator<Item = SuspectView<'_>> {
        self.suspects.iter().map(|(host, case)| SuspectView {
            host,
            began: case.suspicion.began,
            hold: case.hold.as_ref(),
            life: case.life,
            book: &case.book,
        })
    }

    /// First-hand or by gossip: somebody's probe of this host failed.
    pub(crate) fn suspect(&mut self, cx: &mut Context<'_>, host: &HostName) {
        // Where one path of several still carries, that is an alarm.
        if !cx.is_heard_further(host) {
            self.begin_suspicion(cx, host, None);
        }
    }

    /// `path`: the one that counts, if the operator's matrix lets it suffice.
    pub(super) fn begin_suspicion(&mut self, cx: &mut Context<'_>, host: &HostName, path: Option<PathName>) {
        if self.suspects.contains_key(host) || !cx.ledger.roster.contains_key(host) || *host == cx.setup.host {
            return;
        }
        if self.is_explained(cx, host) {
            return;
        }
        let record = cx.ledger.host(host);
        let open = cx.ledger.open_incident(host);
        let is_quarantined = record.is_some_and(|host| host.quarantine.is_some());
        let is_known = open.map_or(is_quarantined, |incident| !incident.awaits_signs);
        let cooling = self.refutations.get(host).and_then(|times| times.last());
        if is_known && keeps(Guard::OneIncident) || cooling.is_some_and(|last| cx.now.mono < *last + COOL_DOWN) {
            return;
        }
        let boot = cx.heard.get(host).map(|heard| heard.boot);
        let boot = boot.or_else(|| record.and_then(|host| host.pulse.as_ref()).map(|pulse| pulse.boot));
        let mut suspicion = Suspicion::new(host.clone(), boot, cx.now.mono, cx.now.wall, &cx.setup.host);
        if open.is_none() {
            let text = path.as_ref().map(|path| Text::new(format!("no answer to a probe on {path}")));
            cx.out.push(Output::Event(Event::Phase {
                incident: None,
                number: 0,
                host: host.clone(),
                phase: Phase::Suspect,
                text: text.unwrap_or_else(|| "no answer to a probe".into()),
            }));
        }
        suspicion.path = path;
        self.suspects.insert(host.clone(), SuspectCase::new(suspicion));
        self.touch();
    }

    pub(super) fn heard_by_suspects(&mut self, cx: &mut Context<'_>, peer: &Peer, path: &PathName) {
        if self.suspects.is_empty() {
            return;
        }
        // Where one path decides, only a voice on that path says anything.
        let counts = |case: &SuspectCase| case.suspicion.path.as_ref().is_none_or(|lost| lost == path);
        if cx.ledger.roster.contains_key(&peer.host) {
            for case in self.suspects.values_mut().filter(|case| counts(case)) {
                case.suspicion.heard.insert(peer.host.clone());
            }
        }
        if self.suspects.get(&peer.host).is_some_and(counts) {
            self.refute(cx, &peer.host, peer.boot, "it was heard here");
        }
    }

    pub(super) fn take_testimony(
        &mut self,
        cx: &mut Context<'_>,
        accuser: &HostName,
        target: &HostName,
        question: CallId,
        findings: Vec<PathFinding>,
        signs: &[LifeSign],
    ) {
        let Some(case) = self.suspects.get_mut(target) else { return };
        if case.asked.get(accuser) != Some(&question) {
            return;
        }
        let lost = case.suspicion.path.clone();
        let mut counting = findings.iter().filter(|finding| lost.as_ref().is_none_or(|lost| finding.path == *lost));
        let Some(first) = counting.next() else { return };
        match std::iter::once(first).chain(counting).find_map(|finding| finding.heard) {
            Some(boot) if keeps(Guard::Testimony) => self.refute(cx, target, boot, &format!("{accuser} hears it")),
            Some(_) | None => {
                case.given.insert(accuser.clone(), cx.now.mono);
                case.book.note(accuser, signs, cx.now.mono);
                case.suspicion.signs.insert(accuser.clone(), signs.to_vec());
                case.suspicion.testimonies.insert(accuser.clone(), findings);
            }
        }
    }

    /// The host lives. With another boot than before, its guests died nevertheless: its first statement in the new boot opens
    /// the reboot that starts them in place.
    fn refute(&mut self, cx: &mut Context<'_>, host: &HostName, boot: BootId, why: &str) {
        let Some(case) = self.suspects.remove(host) else { return };
        let now = cx.now.mono;
        if case.suspicion.boot.is_some_and(|known| known != boot) {
            cx.out.warn(Some(host), "it rebooted by itself: its guests are started in place");
        }
        cx.out.push(Output::Event(Event::Phase {
            incident: None,
            number: 0,
            host: host.clone(),
            phase: Phase::Refuted,
            text: Text::new(why),
        }));
        let times = self.refutations.entry(host.clone()).or_default();
        times.retain(|time| now.since(*time) < REFUTED_WINDOW);
        times.push(now);
        if times.len() > REFUTED_MAX {
            cx.out.warn(Some(host), format!("refuted {} times within 10 minutes: look at its network", times.len()));
            times.drain(..times.len() - REFUTED_MAX);
        }
        self.wake_at(now + COOL_DOWN);
        self.touch();
    }

    pub(super) fn drive_suspects(&mut self, cx: &mut Context<'_>) {
        let next = self.last_round.filter(|_| self.suspects.len() >= CROWD).map(|last| last + ROUND_EVERY);
        if let Some(next) = next.filter(|next| cx.now.mono < *next) {
            self.wake_at(next);
            return;
        }
        self.last_round = Some(cx.now.mono);
        let silent: Vec<HostName> = cx
            .ledger
            .roster
            .keys()
            .filter(|host| is_silent_in_gossip(cx, host) || is_overdue(cx, host) || self.is_missing(cx, host))
            .filter(|_| keeps(Guard::NobodyForgotten))
            .cloned()
            .collect();
        for host in &silent {
            self.suspect(cx, host);
        }
        let missing_due = self.began + MISSING_AFTER;
        if cx.now.mono < missing_due {
            self.wake_at(missing_due);
        }
        let hosts: Vec<HostName> = self.suspects.keys().cloned().collect();
        for host in hosts {
            let is_dealt_with = cx.ledger.open_incident(&host).is_some_and(|incident| !incident.awaits_signs);
            if is_dealt_with && keeps(Guard::OneIncident) || self.is_explained(cx, &host) {
                self.suspects.remove(&host);
                continue;
            }
            self.ask_confirmers(cx, &host);
            self.read_early(cx, &host);
            match self.judge(cx, &host) {
                Ok(()) => {}
                Err(hold) => {
                    if let Some(case) = self.suspects.get_mut(&host) {
                        case.hold = Some(hold);
                    }
                    self.wake_at(cx.now.mono + HOLD_RETRY);
                }
            }
        }
    }

    /// Gossip knows nothing of it any more: it forgets its dead, and for as long as that takes there was no leader. Nor has
    /// it been heard for a while, in which we would have met it.
    fn is_missing(&self, cx: &Context<'_>, host: &HostName) -> bool {
        let now = cx.now.mono;
        let heard = cx.heard.get(host).map_or(Moment::ZERO, |heard| heard.at);
        *host != cx.setup.host && cx.member(host).is_none() && now.since(heard.max(self.began)) >= MISSING_AFTER
    }

    /// Asks members to probe the host, ourselves first; and the next ones if those asked do not answer.
    fn ask_confirmers(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let Some(case) = self.suspects.get_mut(host) else { return };
        case.forget_old_testimony(cx.now.mono);
        let due = case.last_asked.map(|asked| asked + TESTIMONY_WAIT);
        if let Some(due) = due.filter(|due| cx.now.mono < *due) {
            self.wake_at(due);
            return;
        }
        let addresses = cx.addresses(host);
        if addresses.is_empty() {
            return;
        }
        let lost = case.suspicion.path.as_ref();
        let is_fit = |member: &HostName| lost.map_or_else(|| cx.is_alive(member), |path| cx.is_alive_on(member, path));
        let answered = |member: &HostName| case.suspicion.testimonies.contains_key(member);
        let unasked = |member: &&HostName| {
            is_fit(member) && !case.asked.contains_key(*member) && !answered(member) && **member != cx.setup.host
        };
        let candidates: Vec<&HostName> = cx.ledger.roster.keys().filter(unasked).collect();
        let order = confirmers_in_order(host, &candidates, &cx.ledger.roster);
        let mut chosen: Vec<HostName> = order.iter().take(ASKED_AT_ONCE).copied().cloned().collect();
        // A kernel's signs need witnesses on its own network: two of them are always among those asked.
        let neighbours = chosen.iter().filter(|member| cx.are_neighbours(member, host)).count();
        let further = order.iter().skip(ASKED_AT_ONCE).filter(|member| cx.are_neighbours(member, host));
        chosen.extend(further.take(KERNEL_WITNESSES.saturating_sub(neighbours)).copied().cloned());
        if !case.asked.contains_key(&cx.setup.host) {
            chosen.insert(0, cx.setup.host.clone());
        } else if chosen.is_empty() {
            // Everybody was asked: ask those again who did not answer. The network may have healed meanwhile.
            chosen = case.asked.keys().filter(|member| !answered(member)).take(ASKED_AT_ONCE).cloned().collect();
        }
        let knows_goodbye = cx.goodbye(host).is_some();
        for member in chosen {
            let call = cx.out.call();
            let addresses = addresses.clone();
            if member == cx.setup.host {
                self.own_examinations.push(OwnExamination { question: call, target: host.clone(), addresses });
            } else {
                cx.send(&member, Message::AskTestimony { call, target: host.clone(), addresses, knows_goodbye });
            }
            if let Some(case) = self.suspects.get_mut(host) {
                case.asked.insert(member, call);
            }
        }
        if let Some(case) = self.suspects.get_mut(host) {
            case.last_asked = Some(cx.now.mono);
        }
        self.wake_at(cx.now.mono + TESTIMONY_WAIT);
    }

    /// Opens an incident if everything is there for it; else says what is missing.
    fn judge(&mut self, cx: &mut Context<'_>, host: &HostName) -> Result<(), Text> {
        self.release_brakes(host);
        let Some(case) = self.suspects.get_mut(host) else { return Ok(()) };
        case.suspicion.lifted = cx.ledger.lift_of(host).is_some();
        let path = case.suspicion.path.clone();
        if let Some(until) = self.may_refute(cx, host) {
            self.wake_at(until);
            return Err("it may still refute".into());
        }
        if !cx.ledger.is_hypervisor(host) {
            return Err("a witness runs no guests: nothing to recover".into());
        }
        self.cold_start(cx, host)?;
        let ending = match &path {
            None => self.signs_of_life(cx, host)?,
            Some(path) => {
                self.path_holds(cx, host, path)?;
                Ending::Fence
            }
        };
        // Testimony first: while it is not enough, the roll need not be called.
        let Some(case) = self.suspects.get(host) else { return Ok(()) };
        if let Err(missing @ (NoVerdict::TooFewTestimonies { .. } | NoVerdict::TooFewEligible { .. })) =
            case.suspicion.judge(&cx.ledger.roster, &case.suspicion.heard)
        {
            return Err(Text::new(missing.to_string()));
        }
        self.neighbours_asked(cx, host)?;
        let verdict = match self.verdict(cx, host, path.as_ref())? {
            Ok(verdict) => verdict,
            Err(NoVerdict::TooFewPresent { present, roster, needed }) => {
                return self.obey(cx, host, Some(Brake::MassFailure { present, roster, needed }));
            }
            Err(missing) => return Err(Text::new(missing.to_string())),
        };
        self.tell_gone(cx, host);
        self.unsettled_others(cx, host)?;
        let needed_by = self.needed_by(host);
        self.brakes_at_verdict(cx, host, needed_by)?;
        let (host, boot, suspected_at) = (verdict.host().clone(), verdict.boot(), verdict.suspected_at());
        let mut verdict = verdict.record().clone();
        if let Some(case) = self.suspects.get(&host) {
            case.note_times(&mut verdict);
        }
        match (cx.ledger.open_incident(&host).filter(|_| keeps(Guard::OneIncident)), ending) {
            (None, Ending::Fence) => {
                let command =
                    LeaderCommand::OpenIncident { host: host.clone(), boot, suspected_at, verdict, needed_by };
                self.command(cx, Key::Open(host), command);
            }
            (None, Ending::Stuck(why)) => {
                let command = LeaderCommand::OpenStuck { host: host.clone(), boot, suspected_at, verdict, why };
                self.command(cx, Key::Open(host), command);
            }
            (Some(open), Ending::Fence) => {
                let who: Vec<&str> = verdict.testimonies.iter().map(|record| record.accuser.as_str()).collect();
                let why = Text::new(format!("its signs of life have ended; silent to {}", who.join(", ")));
                let incident = open.id;
                self.command(cx, Key::Incident(incident), LeaderCommand::EndSigns { incident, heard: false, why });
            }
            (Some(_), Ending::Stuck(why)) => return Err(why),
        }
        Ok(())
    }

    /// The roll is called, on the one path that counts if there is one, and everything is counted.
    fn verdict(
        &mut self,
        cx: &mut Context<'_>,
        host: &HostName,
        path: Option<&PathName>,
    ) -> Result<Result<Verdict, NoVerdict>, Text> {
        let began = self.suspects.get(host).map_or(cx.now.mono, |case| case.suspicion.began);
        let roll = match path {
            Some(path) => self.path_roll(cx, path).cloned()?,
            None => {
                if self.roll_since(began).is_none_or(|roll| cx.now.mono.since(roll.called) > 2 * HOLD_RETRY) {
                    self.want_roll(cx);
                }
                self.roll_since(began).cloned().ok_or_else(|| Text::from("calling the roll"))?
            }
        };
        let Some(case) = self.suspects.get(host) else { return Err("no longer suspect".into()) };
        Ok(case.suspicion.judge(&cx.ledger.roster, &roll.present))
    }

    /// Two members of its own network must have been asked whether something lives there, and more if one saw something.
    fn neighbours_asked(&mut self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        let Some(case) = self.suspects.get(host).filter(|case| case.suspicion.path.is_none()) else { return Ok(()) };
        let Some(until) = case.last_asked.map(|asked| asked + TESTIMONY_WAIT).filter(|until| cx.now.mono < *until)
        else {
            return Ok(());
        };
        let neighbours = || case.asked.keys().filter(|member| cx.are_neighbours(member, host));
        let has_answered = |member: &&HostName| case.suspicion.testimonies.contains_key(*member);
        let answered = neighbours().filter(has_answered).count();
        let enough = answered >= KERNEL_WITNESSES && !case.book.any(cx.now.mono);
        if enough || answered == neighbours().count() {
            return Ok(());
        }
        self.wake_at(until);
        Err("its neighbours are being asked whether something lives there".into())
    }
}

/// It did not come back from a loss of power, and gossip never heard of it since.
fn is_overdue(cx: &Context<'_>, host: &HostName) -> bool {
    cx.member(host).is_none() && cx.heard.get(host).is_none() && brake::is_overdue(cx.ledger, host)
}

/// Down or suspect in gossip, and the ledger does not yet deal with it.
fn is_silent_in_gossip(cx: &Context<'_>, host: &HostName) -> bool {
    cx.member(host).is_some_and(|view| match view.state {
        MemberState::Alive => false,
        MemberState::Suspect | MemberState::Down => true,
    })
}
