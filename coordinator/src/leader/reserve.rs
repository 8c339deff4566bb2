//! Reserved hosts: chosen, taken in the ledger, put into aggregates and enabled in Nova, and given back if nothing came to them.
//!
//! The choice is [`crate::recovery::whither`]'s and [`crate::recovery::spare`]'s; it is in the ledger before anything is done
//! about it, so that a new leader goes on with the same host. Nothing but the ledger's word and Nova's is needed for that:
//! a host that was disabled when it was taken is enabled by whoever leads, and disabled again by whoever gives it back.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{NovaError, NovaService, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};
use rekindle_proto::segment::RecoveryMethod;

use super::proposals::Key;
use super::{HOLD_RETRY, Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Incident, LeaderCommand, ReserveCommand, ServerRecord, Taken};
use crate::order::{ServiceChange, ServiceOrder};
use crate::recovery::{Candidate, ServerStep, Service, Spare, Whither, next_leave, spare, whither};
use crate::time::Moment;

/// How old Nova's word on a compute service may be when a host is taken, used or given back by it.
const WORD_AGE_MAX: Duration = Duration::from_secs(10);

/// An answer of Nova that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Pause after a call that Nova did not take, or did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// What this leader knows of reserved hosts.
#[derive(Debug, Default)]
pub(super) struct ReserveDesk {
    cases: BTreeMap<HostName, ReserveCase>,
}

/// Why no server is sent to a taken host yet.
#[derive(Debug)]
enum Unready {
    /// Nova is at work on it, or will be.
    Soon(Text),
    /// Its daemon is not heard: it may have said goodbye, and not come back.
    Silent(Text),
}

#[derive(Debug, Default)]
struct ReserveCase {
    asked: Option<(CallId, Moment)>,
    word: Option<(Moment, Option<NovaService>)>,
    /// Nova is not asked before.
    next: Option<Moment>,
    error: Option<Text>,
    /// Since it was taken, Nova has said that its service is up and enabled.
    ready: bool,
}

impl ReserveCase {
    fn young(&self, now: Moment) -> Option<&Option<NovaService>> {
        self.word.as_ref().filter(|(at, _)| now.since(*at) < WORD_AGE_MAX).map(|(_, word)| word)
    }

    fn service(&self, now: Moment) -> Service {
        match self.young(now) {
            None => Service::Unknown,
            Some(Some(service)) if service.up && !service.forced_down => Service::Up { enabled: service.enabled },
            Some(Some(_) | None) => Service::Down,
        }
    }
}

impl Leader {
    /// Hosts that have died are used no more; hosts of ended incidents that have received nothing go back.
    pub(super) fn drive_reserves(&mut self, cx: &mut Context<'_>) {
        let ledger = cx.ledger;
        let holds = |incident: &&Incident| incident.is_open() || incident.holds_reserved();
        let mut held = std::collections::BTreeSet::new();
        for incident in ledger.incidents.values().filter(holds) {
            for (position, taken) in incident.reserve.active() {
                held.insert(&taken.host);
                if let Err(why) = ledger.is_usable(&taken.host) {
                    self.lose_reserved(cx, incident.id, &taken.host, why);
                } else if !incident.is_open() && !incident.is_used(position) {
                    self.give_back(cx, incident, taken);
                }
            }
        }
        self.aggregates.keep_held(ledger);
        let now = cx.now.mono;
        let is_recent = |case: &ReserveCase| case.asked.is_some() || case.young(now).is_some() || case.error.is_some();
        self.reserves.cases.retain(|host, case| held.contains(host) || is_recent(case));
    }

    /// Whether every host taken for an incident whose servers are all settled has received some, or is back in the pool.
    pub(super) fn reserves_are_back(&mut self, cx: &mut Context<'_>, incident: &Incident) -> bool {
        let unused = incident.reserve.active().filter(|(position, _)| !incident.is_used(*position));
        let unused: Vec<&Taken> = unused.map(|(_, taken)| taken).collect();
        for taken in &unused {
            let why = format!("all its servers are settled; reserved host {} is given back", taken.host);
            self.hold(cx.now.mono, incident.id, why);
            self.give_back(cx, incident, taken);
        }
        unused.is_empty()
    }

    /// The next step of a server, by the method of its incident: where to, or why nowhere yet (`None`).
    pub(super) fn by_method(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        (server, record): (ServerId, &ServerRecord),
        step: ServerStep,
    ) -> Option<ServerStep> {
        let exhausted = match &step {
            ServerStep::GiveUp(why) => Some(why),
            ServerStep::ReadServer { to_evacuate: true } | ServerStep::Evacuate { .. } => None,
            ServerStep::ReadServer { to_evacuate: false } | ServerStep::Wait(_) | ServerStep::Settle(_) => {
                return Some(step);
            }
        };
        let reserve = &incident.reserve;
        let unasked = Spare::Reading(Text::default());
        let mut where_to = whither(reserve, server, record, &unasked, exhausted);
        let depends = matches!(where_to, Whither::Wait { .. }) || record.leg.no_host;
        if depends && reserve.method != RecoveryMethod::Auto {
            let spare = self.spare_of(cx, incident);
            where_to = whither(reserve, server, record, &spare, exhausted);
        }
        match (where_to, step) {
            (Whither::Anywhere, step) => Some(step),
            (Whither::Reserved(position), step) => match self.reserve_is_ready(cx, incident, position) {
                Ok(()) => Some(step.at_reserved(position)),
                Err(Unready::Soon(why)) => self.wait_for_reserve(cx, incident.id, server, why),
                Err(Unready::Silent(why)) => {
                    let fate = self.wait(cx.now.mono, incident.id, server, why, HOLD_RETRY);
                    fate.map(ServerStep::Settle)
                }
            },
            (Whither::Wait { why, bounded: false }, _) => self.wait_for_reserve(cx, incident.id, server, why),
            (Whither::Wait { why, bounded: true }, _) => {
                let fate = self.wait(cx.now.mono, incident.id, server, why, HOLD_RETRY);
                fate.map(ServerStep::Settle)
            }
            // It may have been moved on, or deleted, by somebody: it is looked at before anything is done for it.
            (_, step @ ServerStep::ReadServer { .. }) => Some(step),
            (Whither::Take, _) => {
                self.take_reserved(cx, incident, server);
                None
            }
            (Whither::Turn(why), _) => {
                let turn = ReserveCommand::Turn { incident: incident.id, server, why };
                self.command(cx, Key::Server(incident.id, server), LeaderCommand::Reserve(turn));
                None
            }
            (Whither::GiveUp(why), _) => Some(ServerStep::GiveUp(why)),
        }
    }

    /// Which reserved host would be taken for the servers of a host, by what this leader knows. Asks nobody.
    pub(crate) fn would_take(&self, cx: &Context<'_>, dead: &HostName) -> Spare {
        let now = cx.now.mono;
        let service = |host: &HostName| match self.reserves.cases.get(host).map(|case| case.service(now)) {
            // Only read when a host has died.
            None | Some(Service::Unknown) => Service::Up { enabled: true },
            Some(known) => known,
        };
        spare(self.candidates(cx, dead, service))
    }

    fn candidates<'a>(
        &'a self,
        cx: &'a Context<'_>,
        dead: &'a HostName,
        service: impl Fn(&HostName) -> Service + 'a,
    ) -> impl Iterator<Item = Candidate<'a>> {
        cx.ledger.reserved_for(dead).map(move |(host, allowed)| Candidate {
            host,
            forbidden: allowed.err(),
            is_heard: cx.is_alive(host) && !self.suspects.contains_key(host),
            service: service(host),
        })
    }

    fn spare_of(&mut self, cx: &mut Context<'_>, incident: &Incident) -> Spare {
        let now = cx.now.mono;
        let words: BTreeMap<HostName, Service> = cx
            .ledger
            .reserved_for(&incident.host)
            .filter(|(_, allowed)| allowed.is_ok())
            .map(|(host, _)| {
                (host.clone(), self.reserves.cases.get(host).map_or(Service::Unknown, |of| of.service(now)))
            })
            .collect();
        let word = |host: &HostName| words.get(host).copied().unwrap_or(Service::Unknown);
        let found = spare(self.candidates(cx, &incident.host, word));
        for (host, _) in words.iter().filter(|(_, word)| **word == Service::Unknown) {
            self.ask_about_reserve(cx, host);
        }
        if matches!(found, Spare::Later(_)) {
            self.wake_at(now + HOLD_RETRY);
        }
        found
    }

    fn take_reserved(&mut self, cx: &mut Context<'_>, incident: &Incident, server: ServerId) {
        let Spare::Free(host, enables) = self.spare_of(cx, incident) else { return };
        let id = incident.id;
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            let why = Text::new(format!("reserved host {host} is taken"));
            evacuation.waits.insert(server, (cx.now.mono, why));
        }
        if let Some(case) = self.reserves.cases.get_mut(&host) {
            case.ready = false;
        }
        let take = ReserveCommand::Take { incident: id, host, server, enables };
        self.command(cx, Key::Reserve(id), LeaderCommand::Reserve(take));
    }

    fn lose_reserved(&mut self, cx: &mut Context<'_>, id: IncidentId, host: &HostName, why: impl Into<Text>) {
        let lose = ReserveCommand::Lose { incident: id, host: host.clone(), why: why.into() };
        self.command(cx, Key::Reserve(id), LeaderCommand::Reserve(lose));
    }

    fn wait_for_reserve(
        &mut self,
        cx: &Context<'_>,
        id: IncidentId,
        server: ServerId,
        why: Text,
    ) -> Option<ServerStep> {
        let evacuation = self.evacuations.get_mut(&id)?;
        evacuation.waits.insert(server, (cx.now.mono, why));
        self.wake_at(cx.now.mono + HOLD_RETRY);
        None
    }

    /// Whether servers may be sent to a taken host: it lives, it is in the dead host's aggregates if it is to be, and Nova has
    /// said that its service is up and enabled. Has it join them, and enables it, if it was disabled when it was taken.
    fn reserve_is_ready(&mut self, cx: &mut Context<'_>, incident: &Incident, position: u8) -> Result<(), Unready> {
        let Some(taken) = incident.reserve.at(position) else { return Err(Unready::Soon(Text::default())) };
        let host = &taken.host;
        if !cx.is_alive(host) || self.suspects.contains_key(host) {
            return Err(Unready::Silent(Text::new(format!("reserved host {host} is not heard"))));
        }
        let has_joined = self.has_joined(cx, incident, taken);
        let case = self.reserves.cases.entry(host.clone()).or_default();
        if case.ready && has_joined {
            return Ok(());
        }
        let service = case.service(cx.now.mono);
        if matches!(service, Service::Up { enabled } if enabled || taken.enables) {
            let joined = self.join_aggregates(cx, incident, taken);
            joined.map_err(|what| Unready::Soon(self.reserve_text(host, what.as_str())))?;
        }
        match service {
            Service::Up { enabled: true } => {
                self.reserves.cases.entry(host.clone()).or_default().ready = true;
                Ok(())
            }
            Service::Unknown => {
                self.ask_about_reserve(cx, host);
                Err(Unready::Soon(self.reserve_text(host, "Nova is asked about it")))
            }
            Service::Up { enabled: false } if taken.enables => {
                self.change_service(cx, incident, host, ServiceChange::Enable);
                Err(Unready::Soon(self.reserve_text(host, "it is enabled in Nova")))
            }
            Service::Up { enabled: false } => {
                self.lose_reserved(cx, incident.id, host, "somebody has disabled its compute service");
                Err(Unready::Soon(self.reserve_text(host, "somebody has disabled its compute service")))
            }
            Service::Down => {
                self.lose_reserved(cx, incident.id, host, "Nova has its compute service down");
                Err(Unready::Soon(self.reserve_text(host, "Nova has its compute service down")))
            }
        }
    }

    fn reserve_text(&self, host: &HostName, what: &str) -> Text {
        let error = self.reserves.cases.get(host).and_then(|case| case.error.as_ref());
        match error {
            None => Text::new(format!("waits for reserved host {host}: {what}")),
            Some(error) => Text::new(format!("waits for reserved host {host}, and for Nova: {error}")),
        }
    }

    /// One step of giving a host back that has received nothing: out of what it joined, its service as it was, then the ledger.
    fn give_back(&mut self, cx: &mut Context<'_>, incident: &Incident, taken: &Taken) {
        let host = &taken.host;
        if let Err(why) = cx.ledger.is_usable(host) {
            return self.lose_reserved(cx, incident.id, host, why);
        }
        let back = ReserveCommand::Return { incident: incident.id, host: host.clone() };
        let is_as_it_was = !taken.enables && next_leave(&taken.joins).is_none();
        if is_as_it_was || cx.ledger.held_elsewhere(host, incident.id).is_some() {
            return self.command(cx, Key::Reserve(incident.id), LeaderCommand::Reserve(back));
        }
        // One that is silent is soon heard, or has an incident of its own: Nova would ask it, and wait for a minute.
        // One that said goodbye may stay away for good, and is not dead.
        let is_gone = cx.ledger.host(host).is_some_and(|record| record.absence.is_some());
        if (!cx.is_alive(host) && !is_gone) || self.suspects.contains_key(host) {
            return self.wake_at(cx.now.mono + HOLD_RETRY);
        }
        let case = self.reserves.cases.entry(host.clone()).or_default();
        case.ready = false;
        let word = case.young(cx.now.mono).cloned();
        if word.is_some() && !self.leave_aggregates(cx, incident, taken) {
            return;
        }
        match word {
            None => self.ask_about_reserve(cx, host),
            Some(_) if !taken.enables => self.command(cx, Key::Reserve(incident.id), LeaderCommand::Reserve(back)),
            Some(Some(service)) if service.enabled && (!service.up || service.forced_down) => {
                self.lose_reserved(cx, incident.id, host, "Nova has its compute service down");
            }
            Some(Some(service)) if service.enabled => {
                let text = format!("rekindle: reserved, taken for incident {} and not needed", incident.id);
                self.change_service(cx, incident, host, ServiceChange::Disable { reason: Text::new(text) });
            }
            Some(Some(_) | None) => self.command(cx, Key::Reserve(incident.id), LeaderCommand::Reserve(back)),
        }
    }

    fn change_service(&mut self, cx: &mut Context<'_>, incident: &Incident, host: &HostName, change: ServiceChange) {
        if !self.may_ask_reserve(cx.now.mono, host) {
            return;
        }
        match self.permit(cx, &incident.host) {
            Ok(permit) => {
                let call = cx.out.call();
                cx.out.push(Output::SetService(ServiceOrder::new(call, permit, host.clone(), change)));
                self.expect_of_reserve(cx, host, call);
            }
            Err(hold) => self.hold(cx.now.mono, incident.id, hold.to_string()),
        }
    }

    fn ask_about_reserve(&mut self, cx: &mut Context<'_>, host: &HostName) {
        if self.may_ask_reserve(cx.now.mono, host) {
            let call = cx.out.call();
            cx.out.push(Output::Nova { call, request: NovaRead::Service(host.clone()) });
            self.expect_of_reserve(cx, host, call);
        }
    }

    fn may_ask_reserve(&mut self, now: Moment, host: &HostName) -> bool {
        let Some(case) = self.reserves.cases.get(host) else { return true };
        let until = [case.asked.map(|(_, asked)| asked + ANSWER_WAIT), case.next];
        let until = until.into_iter().flatten().filter(|until| now < *until).max();
        if let Some(until) = until {
            self.wake_at(until);
        }
        until.is_none()
    }

    fn expect_of_reserve(&mut self, cx: &Context<'_>, host: &HostName, call: CallId) {
        self.reserves.cases.entry(host.clone()).or_default().asked = Some((call, cx.now.mono));
        self.nova.insert(call, NovaCall::Reserve(host.clone()));
        self.wake_at(cx.now.mono + ANSWER_WAIT);
    }

    pub(super) fn take_reserve_nova(
        &mut self,
        cx: &Context<'_>,
        host: &HostName,
        call: CallId,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(case) = self.reserves.cases.get_mut(host) else { return };
        let Some((_, asked)) = case.asked.take_if(|(expected, _)| *expected == call) else { return };
        match result {
            Ok(NovaAnswer::Service(service)) => {
                (case.word, case.error, case.next) = (Some((asked, service)), None, None);
            }
            Ok(_) => case.next = Some(now + PAUSE),
            Err(error) => {
                // What was true before a change that may have been made is not known any more.
                (case.word, case.next) = (None, Some(now + PAUSE));
                case.error = Some(Text::new(error.to_string()));
                self.wake_at(now + PAUSE);
            }
        }
    }
}
