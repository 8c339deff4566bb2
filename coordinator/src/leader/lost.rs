//! Guests that run on a returned host although an incident moved them elsewhere (casts replay, design section 5): destroyed
//! there, for a while after its return; afterwards, or while anything is not certain, told.
//!
//! A guest is destroyed only if all of this holds: the ledger says that this host lost it, in an earlier boot; Nova has it on
//! another host, without a task and without a migration under way; the host's own hypervisor says, freshly, that it runs; and
//! the leader may act on the host (I3, I4). A server that was moved back in the meantime fails the second.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{GuestList, NovaError, Text};
use rekindle_proto::id::{BootId, CallId, HostName, ServerId};
use rekindle_proto::message::Message;

use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::LostGuest;
use crate::order::DestroyOrder;
use crate::time::Moment;

/// How long after a host's return (to us, and out of quarantine) its stale guests are destroyed. Nova's own clean-up and
/// the casts in its queue are done by then.
const RETURN_WINDOW: Duration = Duration::from_secs(300);
/// Between two looks at a guest that is not certain yet.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long a permit is waited for once the host has spoken: well below the time for which it heeds us (5 s).
const HOLD_WAIT: Duration = Duration::from_secs(2);
/// An answer that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Guests followed at once: more stale guests at once are no accident, and the first are told.
const CASES_MAX: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Lost {
    cases: BTreeMap<(HostName, ServerId), Case>,
    /// When each host was last seen to be new in its boot, or in quarantine.
    returns: BTreeMap<HostName, (BootId, Moment)>,
}

#[derive(Debug)]
struct Case {
    boot: BootId,
    step: Step,
    asked: Option<Moment>,
    /// Until when a permit is waited for.
    held: Option<Moment>,
    next: Moment,
    /// What is waited for, for people. Empty while all goes its way.
    text: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    AskServer,
    AskMigrations,
    AskHost(Option<CallId>),
    Destroy(CallId),
    /// Not stale after all: Nova has it here.
    AtHome,
}

impl Leader {
    /// What a host says that it runs.
    pub(super) fn note_running(&mut self, cx: &Context<'_>, host: &HostName, boot: BootId, guests: &GuestList) {
        let now = cx.now.mono;
        if self.lost.returns.get(host).is_none_or(|(known, _)| *known != boot) {
            self.lost.returns.insert(host.clone(), (boot, now));
        }
        let runs = |server: ServerId| guests.guests.iter().any(|guest| guest.server == server && guest.running);
        self.lost.cases.retain(|(of, server), case| of != host || (case.boot == boot && runs(*server)));
        for guest in guests.guests.iter().filter(|guest| guest.running) {
            let key = (host.clone(), guest.server);
            let is_lost = LostGuest::of(cx.ledger, host, boot, guest.server).is_some();
            if is_lost && !self.lost.cases.contains_key(&key) && self.lost.cases.len() < CASES_MAX {
                let case =
                    Case { boot, step: Step::AskServer, asked: None, held: None, next: now, text: Text::default() };
                self.lost.cases.insert(key, case);
            }
        }
    }

    pub(super) fn drive_lost(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        for (host, (_, at)) in &mut self.lost.returns {
            if cx.ledger.host(host).is_some_and(|record| record.quarantine.is_some()) {
                *at = now;
            }
        }
        let keys: Vec<(HostName, ServerId)> = self.lost.cases.keys().cloned().collect();
        for (host, server) in keys {
            self.drive_lost_guest(cx, &host, server);
        }
    }

    fn drive_lost_guest(&mut self, cx: &mut Context<'_>, host: &HostName, server: ServerId) {
        let now = cx.now.mono;
        let key = (host.clone(), server);
        let Some(case) = self.lost.cases.get_mut(&key) else { return };
        let Some(lost) = LostGuest::of(cx.ledger, host, case.boot, server) else {
            self.lost.cases.remove(&key);
            return;
        };
        if case.step == Step::AtHome {
            return;
        }
        if let Some(asked) = case.asked {
            if now < asked + ANSWER_WAIT {
                let until = asked + ANSWER_WAIT;
                self.wake_at(until);
                return;
            }
            case.asked = None;
            case.step = Step::AskServer;
        }
        if now < case.next {
            let next = case.next;
            self.wake_at(next);
            return;
        }
        let returned = self.lost.returns.get(host).map(|(_, at)| *at);
        if returned.is_none_or(|at| now.since(at) >= RETURN_WINDOW) {
            case.text = "it is too late to destroy it by ourselves: look at it".into();
            return;
        }
        if self.suspects.contains_key(host) || !cx.is_alive(host) {
            self.wait_for_lost(now, &key, "waiting until it is settled whether the host lives");
            return;
        }
        match case.step {
            Step::AtHome => {}
            Step::AskServer => self.ask_about_lost(cx, key, NovaRead::Server(server)),
            Step::AskMigrations => self.ask_about_lost(cx, key, NovaRead::MigrationsOf(server)),
            Step::AskHost(_) => {
                let call = cx.out.call();
                case.step = Step::AskHost(Some(call));
                case.asked = Some(now);
                if *host == cx.setup.host {
                    self.own_guest_questions.push((call, vec![server]));
                } else {
                    cx.send(host, Message::AskGuests { call, servers: vec![server] });
                }
                self.wake_at(now + ANSWER_WAIT);
            }
            Step::Destroy(question) => self.destroy_lost(cx, &lost, question),
        }
    }

    fn destroy_lost(&mut self, cx: &mut Context<'_>, lost: &LostGuest, question: CallId) {
        let (host, now) = (lost.host(), cx.now.mono);
        let key = (host.clone(), lost.server());
        let permit = match self.permit(cx, host) {
            Ok(permit) => permit,
            Err(hold) => {
                let Some(case) = self.lost.cases.get_mut(&key) else { return };
                case.text = Text::new(hold.to_string());
                // What is missing has been asked for, and comes within this time, or is a brake. The host's word grows old
                // meanwhile: then everything is asked again.
                let until = *case.held.get_or_insert(now + HOLD_WAIT);
                if now < until {
                    self.wake_at(until);
                } else {
                    self.wait_for_lost(now, &key, hold.to_string());
                }
                return;
            }
        };
        let to = lost.to().map_or_else(|| "another host".to_owned(), ToString::to_string);
        let text = format!("runs {}, which incident {} moved to {to}: destroyed here", lost.server(), lost.incident());
        cx.out.warn(Some(host), text);
        if *host == cx.setup.host {
            let call = cx.out.call();
            cx.out.push(Output::DestroyGuest(DestroyOrder::new(call, permit, lost)));
        } else {
            let (incident, server) = (lost.incident(), lost.server());
            cx.send(host, Message::DestroyGuest { question, incident, server });
        }
        // If it runs on, everything is asked again.
        self.wait_for_lost(now, &key, "its end is waited for");
    }

    fn ask_about_lost(&mut self, cx: &mut Context<'_>, key: (HostName, ServerId), request: NovaRead) {
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request });
        if let Some(case) = self.lost.cases.get_mut(&key) {
            case.asked = Some(cx.now.mono);
        }
        self.wake_at(cx.now.mono + ANSWER_WAIT);
        self.nova.insert(call, NovaCall::Lost(key.0, key.1));
    }

    pub(super) fn take_lost_nova(
        &mut self,
        cx: &mut Context<'_>,
        key: &(HostName, ServerId),
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(case) = self.lost.cases.get_mut(key) else { return };
        case.asked = None;
        match (case.step, result) {
            (Step::AskServer, Ok(NovaAnswer::Server(Some(server)))) => match &server.host {
                Some(at) if *at == key.0 => case.step = Step::AtHome,
                Some(_) if server.task_state.is_none() => case.step = Step::AskMigrations,
                Some(_) | None => self.wait_for_lost(now, key, "Nova is at work on it"),
            },
            (Step::AskServer, Ok(NovaAnswer::Server(None))) => {
                self.wait_for_lost(now, key, "Nova does not know it any more: look at it");
            }
            (Step::AskMigrations, Ok(NovaAnswer::Migrations(records))) => {
                if records.iter().all(|record| record.status.is_final()) {
                    case.step = Step::AskHost(None);
                } else {
                    self.wait_for_lost(now, key, "a migration of it is under way");
                }
            }
            (_, Err(error)) => self.wait_for_lost(now, key, format!("Nova cannot be asked: {error}")),
            (Step::AskServer | Step::AskMigrations | Step::AskHost(_) | Step::Destroy(_) | Step::AtHome, Ok(_)) => {}
        }
    }

    /// The host's own word. Whether the question was ours.
    pub(super) fn take_lost_word(
        &mut self,
        now: Moment,
        host: &HostName,
        call: CallId,
        running: Option<&[ServerId]>,
    ) -> bool {
        let ours =
            |((of, _), case): &(&(HostName, ServerId), &mut Case)| of == host && case.step == Step::AskHost(Some(call));
        let Some(((_, server), case)) = self.lost.cases.iter_mut().find(ours) else { return false };
        let key = (host.clone(), *server);
        case.asked = None;
        match running {
            Some(running) if running.contains(server) => case.step = Step::Destroy(call),
            Some(_) => {
                self.lost.cases.remove(&key);
            }
            None => self.wait_for_lost(now, &key, "its hypervisor does not answer"),
        }
        self.touch();
        true
    }

    fn wait_for_lost(&mut self, now: Moment, key: &(HostName, ServerId), text: impl Into<Text>) {
        if let Some(case) = self.lost.cases.get_mut(key) {
            case.step = Step::AskServer;
            case.held = None;
            case.next = now + LOOK_EVERY;
            case.text = text.into();
        }
        self.wake_at(now + LOOK_EVERY);
    }

    /// Stale guests that still run, for people.
    pub(crate) fn lost_alarms(&self) -> impl Iterator<Item = Text> {
        let stale = self.lost.cases.iter().filter(|(_, case)| case.step != Step::AtHome);
        stale.map(|((host, server), case)| {
            Text::new(format!("{host} runs {server}, which an incident moved away: it may run twice. {}", case.text))
        })
    }
}
