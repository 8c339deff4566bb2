//! From a verdict to a committed proof: which level, which attempt, orders and readings.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, Text};
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{CallId, IncidentId, LeadershipId, PathName, WallTime};
use rekindle_proto::status::Phase;

use super::Leader;
use super::delegate::Delegation;
use super::levels::Choice;
use super::neighbours::Look;
use super::proposals::Key;
use super::silence::Silence;
use super::watchdog::ByWatchdog;
use crate::context::Context;
use crate::fencing::{Before, FenceRun, Reach};
use crate::io::Peer;
use crate::ledger::{Incident, LeaderCommand};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// Between two attempts: a BMC that has just failed needs a moment.
pub(super) const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(2);

/// A reading of a device this old still says whether it was on before our order, and whose it is.
pub(super) const PREREAD_AGE_MAX: Duration = Duration::from_secs(10);

/// Voided proofs of one incident; then it is switched off once more, and a person must find out who powers it on.
pub(super) const VOIDED_MAX: u32 = 3;

/// One incident's fencing, as this leader follows it.
#[derive(Debug, Default)]
pub(super) struct Fence {
    pub(super) run: Option<FenceRun>,
    /// Orders not yet answered: of which attempt, to which device.
    pub(super) orders: BTreeMap<CallId, (u32, DeviceName)>,
    /// An order of this leader may have left: from then on the host's voice no longer cancels the incident (I6).
    pub(super) ordered: bool,
    /// The host was heard while an order was under way, and why that cancels the incident if nothing was sent.
    pub(super) heard_meanwhile: Option<Text>,
    /// The host was heard before any off order: the incident is off, whatever is still being committed.
    pub(super) cancelled: Option<Text>,
    pub(super) prereads: BTreeMap<DeviceName, u32>,
    pub(super) preread_due: Option<Moment>,
    pub(super) last_failed: Option<(u32, Moment)>,
    pub(super) silence: Silence,
    /// The proof was contradicted by the host's own voice: no further attempt, a person.
    pub(super) lied: Option<Text>,
    /// Whether its neighbours' devices are silent too.
    pub(super) neighbours: Option<Look>,
    /// What is being agreed with the voter that executes the attempt under way.
    pub(super) delegation: Delegation,
    /// Who reaches its devices, by what was read beside the attempts.
    pub(super) reach: Reach,
    /// The last attempt of this leadership that failed, and how.
    pub(super) before: Option<(u32, Before)>,
}

impl Leader {
    pub(super) fn drive_fence(&mut self, cx: &mut Context<'_>, id: IncidentId) {
        let Some(incident) = cx.ledger.incidents.get(&id) else { return };
        self.give_up_delegated(cx, id);
        let fence = self.fences.entry(id).or_default();
        if incident.phase == Phase::Unclean && incident.host == cx.setup.host {
            fence.cancelled.get_or_insert_with(|| "it leads: it was alive before any off order".into());
        }
        // An earlier leader may have heard it, or this process before it led: the word counts all the same (I6).
        let heard = cx.heard.heard_since_accused(&incident.host);
        let is_open = incident.phase == Phase::Unclean && incident.attempts.is_empty() && keeps(Guard::VoiceCancels);
        if is_open && incident.verdict.path.is_none() && heard.is_some() && heard == incident.boot {
            fence.cancelled.get_or_insert_with(|| "it was heard, in the same boot, before any off order".into());
        }
        if !fence.ordered && fence.orders.is_empty() && fence.cancelled.is_none() {
            fence.cancelled = fence.heard_meanwhile.take();
        }
        // What another leader had committed may reach us only now: its order may have been given, and the fence is finished.
        fence.cancelled.take_if(|_| !is_ours_to_cancel(incident, self.author));
        if let Some(why) = fence.cancelled.clone() {
            self.hold(cx.now.mono, id, why.clone());
            self.command(cx, Key::Incident(id), LeaderCommand::Refute { incident: id, why });
            return;
        }
        if let Some(why) = fence.lied.clone().filter(|_| incident.phase == Phase::Fencing) {
            self.command(cx, Key::Incident(id), LeaderCommand::Stick { incident: id, why });
            return;
        }
        match incident.last_attempt() {
            Some(attempt)
                if attempt.failed.is_none() && (attempt.author == self.author || !keeps(Guard::IntentAuthor)) =>
            {
                let attempt = attempt.clone();
                self.follow_attempt(cx, incident, &attempt);
                self.look_ahead(cx, incident);
            }
            Some(attempt) if attempt.failed.is_none() => {
                // Its orders may still be under way; they only ever switch off.
                let why = "the leader that ordered it is gone".into();
                let command = LeaderCommand::FenceFailed { incident: id, attempt: attempt.attempt, why };
                self.command(cx, Key::Incident(id), command);
            }
            Some(_) | None => self.next_attempt(cx, incident),
        }
    }

    /// Chooses the level of the next attempt and commits its intent.
    fn next_attempt(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let id = incident.id;
        let now = cx.now.mono;
        self.fences.entry(id).or_default().run = None;
        let last = incident.last_attempt().map(|attempt| attempt.attempt);
        let fence = self.fences.entry(id).or_default();
        if let Some(last) = last {
            let failed_at = match fence.last_failed {
                Some((attempt, at)) if attempt == last => at,
                Some(_) | None => {
                    fence.last_failed = Some((last, now));
                    now
                }
            };
            if now < failed_at + BETWEEN_ATTEMPTS {
                self.wake_at(failed_at + BETWEEN_ATTEMPTS);
                return;
            }
        }
        if let Err(brake) = self.brakes_at_fence(cx, id, &incident.host) {
            self.hold(now, id, brake);
            return;
        }
        if let Some(path) = &incident.verdict.path
            && let Err(hold) = self.path_holds(cx, &incident.host, path)
        {
            self.hold(now, id, hold);
            return;
        }
        match self.choose_level(cx, incident) {
            Choice::Level(level, devices) => {
                if let Err(hold) = self.neighbours_hold(cx, incident) {
                    self.hold(now, id, hold);
                    return;
                }
                if let Some(hold) = self.dump_holds(cx, incident, &devices) {
                    self.hold(now, id, hold);
                    return;
                }
                // An attempt that could not order anything would be a try wasted: first see that nothing holds.
                if let Err(hold) = self.permit(cx, &incident.host) {
                    self.hold(now, id, hold.to_string());
                    return;
                }
                // Before the intent, whose time runs: a hook is never on the way of an order that was committed.
                if !self.hooks_let(cx, incident, HookPoint::BeforeFence) {
                    return;
                }
                let lasts = attempt_lasts(cx);
                let not_after =
                    WallTime(cx.now.wall.0.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX)));
                let (attempt, author) = (last.unwrap_or(0) + 1, self.author);
                let rate = self.rate_claim(cx);
                let command = match self.next_executor(cx, incident, level, &devices) {
                    None => {
                        LeaderCommand::FenceIntent { incident: id, attempt, author, level, devices, not_after, rate }
                    }
                    Some(executor) => LeaderCommand::FenceIntentBy {
                        executor,
                        incident: id,
                        attempt,
                        author,
                        level,
                        devices,
                        not_after,
                        rate,
                    },
                };
                self.command(cx, Key::Incident(id), command);
            }
            Choice::Reading => {}
            Choice::None(why) => self.last_level(cx, incident, &why),
        }
    }

    /// No device can prove it off: its own watchdog, where that is allowed; else a person.
    fn last_level(&mut self, cx: &mut Context<'_>, incident: &Incident, why: &Text) {
        let id = incident.id;
        match self.by_watchdog(cx, incident) {
            ByWatchdog::No(_) if self.waits_for_device(cx, incident, why) => {}
            ByWatchdog::No(not) => {
                let not = if cx.setup.policy.self_fence {
                    format!("; no proof by its watchdog: {not}")
                } else {
                    String::new()
                };
                let why = Text::new(format!("{why}{not}"));
                self.command(cx, Key::Incident(id), LeaderCommand::Stick { incident: id, why });
            }
            ByWatchdog::Wait(until) => {
                let left = until.since(cx.now.mono).as_secs();
                self.hold(cx.now.mono, id, format!("waiting {left} s more for its watchdog to have run out; {why}"));
            }
            ByWatchdog::Proven(command) => match self.permit(cx, &incident.host) {
                Ok(_permit) => self.command(cx, Key::Incident(id), command),
                Err(hold) => self.hold(cx.now.mono, id, hold.to_string()),
            },
        }
    }

    /// The host of an open incident was heard (I6).
    pub(super) fn heard_by_incident(&mut self, cx: &mut Context<'_>, id: IncidentId, peer: &Peer, path: &PathName) {
        let Some(incident) = cx.ledger.incidents.get(&id) else { return };
        let is_early = matches!(incident.phase, Phase::Unclean | Phase::Fencing);
        // It is known to speak elsewhere: only a word on the lost path, or its own about that path, cancels.
        if is_early && incident.verdict.path.as_ref().is_some_and(|lost| lost != path) {
            return;
        }
        let same_boot = incident.boot.is_none_or(|boot| boot == peer.boot);
        match incident.phase {
            Phase::Unclean | Phase::Fencing => {
                let first = is_ours_to_cancel(incident, self.author);
                let fence = self.fences.entry(id).or_default();
                let guard = if same_boot { Guard::VoiceCancels } else { Guard::RebootCancels };
                let is_news = fence.cancelled.is_none() && fence.heard_meanwhile.is_none();
                if first && !fence.ordered && is_news && keeps(guard) {
                    let why = if same_boot {
                        "it was heard, in the same boot, before any off order"
                    } else {
                        "it rebooted by itself before any off order: no fence; its guests are started in place"
                    };
                    if !same_boot {
                        cx.out.warn(Some(&peer.host), why);
                    }
                    // What is under way may turn out not to have been sent.
                    if fence.orders.is_empty() {
                        fence.cancelled = Some(why.into());
                    } else {
                        fence.heard_meanwhile = Some(why.into());
                    }
                    self.touch();
                }
            }
            Phase::Fenced | Phase::Evacuating => self.heard_after_proof(cx, incident, same_boot),
            Phase::Stuck if incident.awaits_signs => {
                let why = if same_boot { "its daemon is heard again" } else { "it rebooted, and its daemon is heard" };
                let command = LeaderCommand::EndSigns { incident: id, heard: true, why: why.into() };
                self.command(cx, Key::Incident(id), command);
            }
            Phase::Suspect | Phase::Recovered | Phase::Refuted | Phase::Stuck => {}
        }
    }

    /// The host says itself that the path for which it was to be fenced carries again.
    pub(super) fn cancel_for_path(&mut self, incident: &Incident) {
        let fence = self.fences.entry(incident.id).or_default();
        if !fence.ordered && incident.attempts.is_empty() {
            fence.cancelled.get_or_insert_with(|| "it says itself that the path carries again".into());
            self.touch();
        }
    }

    /// The host's own voice, in the same boot, contradicts a proof: no further attempt by these devices, a person.
    pub(super) fn note_lie(&mut self, id: IncidentId, why: Text) {
        self.fences.entry(id).or_default().lied = Some(why);
    }
}

/// Whether no off order can have been given but by this leadership, which knows what it did (I6).
fn is_ours_to_cancel(incident: &Incident, author: LeadershipId) -> bool {
    match incident.attempts.as_slice() {
        [] => true,
        [only] => only.author == author,
        [_, _, ..] => false,
    }
}

/// How long one attempt may take: its polls, and one command that hangs.
pub(super) fn attempt_lasts(cx: &Context<'_>) -> Duration {
    Duration::from_secs(u64::from(cx.setup.policy.off_polls)) + cx.setup.policy.device_timeout
}
