//! The leader's part in who votes: it looks at what Raft says of its members, and takes the next step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName};
use rekindle_proto::status::Phase;
use rekindle_proto::voters::{VoterLine, VotersDoc};

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::io::Output;
use crate::ledger::{LeaderCommand, Ledger, placement};
use crate::time::Moment;
use crate::voters::{
    CHANGE_WITHIN, ChangeVotersOrder, SeatView, Step, Surroundings, VoterAct, VotersView, death_of, fit_for,
    is_current, next_step,
};

/// After a failed change, before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A change whose answer has not come is asked for again after this: beyond the adapter's own time-out.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// Reasons remembered as told: there are fewer ways to be held, times the voters.
const REASONS_TOLD_MAX: usize = 32;

/// Incidents that make a storm: more than one host is in trouble.
const STORM: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Seating {
    view: VotersView,
    asked: Option<(CallId, Moment)>,
    not_before: Option<Moment>,
    hold: Option<Text>,
    /// Reasons that were told since something was first held.
    told: BTreeSet<Text>,
    /// Which ledger format each keeper said that it reads, and when.
    pub(super) formats: BTreeMap<HostName, (u32, Moment)>,
}

impl Leader {
    pub(crate) fn voters_view(&mut self, view: VotersView) {
        self.seating.view = view;
        self.touch();
    }

    pub(crate) fn voters_changed(&mut self, cx: &mut Context<'_>, call: CallId, result: Result<(), Text>) {
        if self.seating.asked.is_none_or(|(asked, _)| asked != call) {
            return;
        }
        self.seating.asked = None;
        if let Err(why) = result {
            cx.out.warn(None, Text::new(format!("the voters were not changed: {why}")));
            self.seating.not_before = Some(cx.now.mono + RETRY_AFTER);
        }
        // What it came to is what Raft says next.
        self.seating.view = VotersView::default();
        self.touch();
    }

    pub(super) fn drive_voters(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if let Some((_, asked)) = self.seating.asked {
            if now < asked + LOST_AFTER {
                self.wake_at(asked + LOST_AFTER);
                return;
            }
            self.seating.asked = None;
        }
        if let Some(not_before) = self.seating.not_before.filter(|not_before| now < *not_before) {
            self.wake_at(not_before);
            return;
        }
        if cx.ledger.roster.is_empty() || self.is_proposing(&Key::Voters) {
            return;
        }
        let step = {
            let alive = |host: &HostName| cx.is_alive(host);
            next_step(cx.ledger, &self.seating.view, &Surroundings { alive: &alive, storm: self.storm(cx.ledger) })
        };
        let hold = match step {
            Step::Rest => None,
            Step::Hold(why) => Some(why),
            Step::Write(command) => {
                self.command(cx, Key::Voters, LeaderCommand::Voters(command));
                None
            }
            Step::Act(act) => {
                self.change_voters(cx, act);
                None
            }
        };
        self.tell_hold(cx, hold.as_ref());
        self.seating.hold = hold;
    }

    /// Says why nothing is done: each reason once while something is held, however often they alternate.
    fn tell_hold(&mut self, cx: &mut Context<'_>, hold: Option<&Text>) {
        let Some(hold) = hold else {
            self.seating.told.clear();
            return;
        };
        if self.seating.told.len() >= REASONS_TOLD_MAX {
            self.seating.told.clear();
        }
        if self.seating.told.insert(hold.clone()) {
            cx.out.warn(None, hold.clone());
        }
    }

    /// Who votes: as Raft says, if it has said so. The ledger only mirrors it, and a leader that died between the change and
    /// its mirror leaves voters there that are gone; waited for, they would never answer.
    pub(super) fn electorate(&self, cx: &Context<'_>) -> BTreeSet<HostName> {
        let voters = &self.seating.view.voters;
        if voters.is_empty() {
            return cx.voters().into_iter().collect();
        }
        voters.iter().map(|voter| voter.seat.host.clone()).collect()
    }

    fn change_voters(&mut self, cx: &mut Context<'_>, act: VoterAct) {
        let call = cx.out.call();
        self.seating.asked = Some((call, cx.now.mono));
        self.wake_at(cx.now.mono + LOST_AFTER);
        cx.out.push(Output::ChangeVoters(ChangeVotersOrder::new(call, act)));
    }

    /// More than one host in trouble: nobody changes voters in the midst of what may be a partition.
    fn storm(&self, ledger: &Ledger) -> Option<Text> {
        let open = ledger.open_incidents().filter(|incident| incident.phase != Phase::Stuck).count();
        let troubled = open.max(self.suspects().count());
        // Not how many: what is said once is not to be said again with each number.
        (troubled >= STORM).then(|| "several hosts are suspect or being recovered: a storm".into())
    }

    pub(crate) fn voters_hold(&self) -> Option<&Text> {
        self.seating.hold.as_ref()
    }

    /// The document behind `rekindle voters`.
    pub(crate) fn voters_doc(&self, cx: &Context<'_>) -> VotersDoc {
        let book = &cx.ledger.voters;
        let alive = |host: &HostName| cx.is_alive(host);
        let around = Surroundings { alive: &alive, storm: self.storm(cx.ledger) };
        let view = &self.seating.view;
        let line = |seat: &SeatView, role: &str, text: Text| VoterLine {
            host: seat.seat.host.clone(),
            store: seat.seat.store,
            role: role.into(),
            domain: cx.ledger.roster.get(&seat.seat.host).and_then(|entry| entry.domain.clone()),
            lag: seat.lag,
            silent_ms: u64::try_from(seat.silent.as_millis()).ok(),
            text,
        };
        let voter = |seat: &SeatView| {
            let text = match death_of(cx.ledger, view, &around, seat) {
                Some(why) => Text::new(format!("lost: {why}")),
                None if is_current(seat) => "current".into(),
                None => Text::new(format!("late: silent for {} s", seat.silent.as_secs())),
            };
            line(seat, "voter", text)
        };
        let lost = view.voters.iter().find(|seat| death_of(cx.ledger, view, &around, seat).is_some());
        let standby = |seat: &SeatView| {
            // Whom it could replace: a lost voter if there is one, else any.
            let fits = |voter: &SeatView| fit_for(cx.ledger, &seat.seat, &voter.seat.host);
            let fit = match lost {
                Some(lost) => fits(lost),
                None if view.voters.iter().any(|voter| fits(voter).is_ok()) => Ok(()),
                None => view.voters.first().map_or(Ok(()), fits),
            };
            let text = match fit {
                Ok(()) if is_current(seat) => "ready".into(),
                Ok(()) => "not current".into(),
                Err(why) => why,
            };
            line(seat, "standby", text)
        };
        let mut voters: Vec<VoterLine> = view.voters.iter().map(voter).collect();
        voters.sort_by(|a, b| a.host.cmp(&b.host));
        let mut standbys: Vec<VoterLine> = view.standbys.iter().map(standby).collect();
        standbys.sort_by(|a, b| a.host.cmp(&b.host));
        voters.append(&mut standbys);
        let names: Vec<HostName> = book.voters.keys().cloned().collect();
        VotersDoc {
            told_by: cx.setup.host.clone(),
            generation: book.generation,
            wanted: book.wanted,
            voters,
            change: match (&book.changing, &self.seating.hold) {
                (Some(change), _) => Some(Text::new(format!("under way: {}", change.why))),
                (None, hold) => hold.clone(),
            },
            placement: (!names.is_empty()).then(|| placement(&cx.ledger.roster, &names).err()).flatten(),
            story: book.story.iter().cloned().collect(),
        }
    }
}

/// The adapter's time-out must be over before we ask again.
const _: () = assert!(CHANGE_WITHIN.as_secs() < LOST_AFTER.as_secs());
