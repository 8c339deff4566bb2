//! What every member does, leader or not: it answers probes, roll calls and questions, testifies, says what runs on it, and
//! joins by its seeds.

mod own_paths;
mod processes;
mod testify;
mod watchdog;

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{GUESTS_MAX, GateReport, GuestEvent, GuestList, StopReason, Watchdog};
use rekindle_proto::id::{CallId, HostName, Incarnation, IncidentId, PathName, ServerId, Term};
use rekindle_proto::message::Message;
use rekindle_proto::process::ProcessReport;

use crate::context::Context;
use crate::io::{Output, Peer};
use crate::membership::MemberState;
use crate::order::{DestroyOrder, LeadersWord};
use crate::time::Moment;

use own_paths::OwnPaths;
use processes::Processes;
use testify::Testifier;
pub(crate) use testify::Testimony;
use watchdog::SelfFence;

/// Between two statements to the leader that say nothing new.
const PULSE_EVERY: Duration = Duration::from_secs(60);

/// Between two reports of a failed guest, until the leader has noted it.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Failed guests remembered for the leader: more at once is the host's own failure.
const REPORTS_MAX: usize = 256;

/// How long our answer about a guest may be acted upon.
const WORD_AGE_MAX: Duration = Duration::from_secs(5);

/// Between two rounds of dialling the seeds while we are alone.
const DIAL_EVERY: Duration = Duration::from_secs(1);

/// Between two rounds while we are not: a seed that came back is found by gossip anyhow.
const DIAL_SELDOM: Duration = Duration::from_secs(60);

/// Between two announcements of a leader to those who do not vote.
const LEADING_EVERY: Duration = Duration::from_secs(5);

/// How long a leader's announcement is believed.
const LEADING_BELIEVED: Duration = Duration::from_secs(20);

/// Members known, above which we no longer tell everybody we meet all we know: of N members each would do so N times, at N
/// words each. Who is new asks by itself, and knows few; the rest is gossip's.
const EXCHANGE_KNOWN_MAX: usize = 256;

/// Questions about our guests waiting for the hypervisor's answer, one a questioner.
const QUESTIONS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) testifier: Testifier,
    guests: Option<GuestList>,
    gate: Option<GateReport>,
    reports: BTreeMap<ServerId, (GuestEvent, Moment)>,
    /// By our own call: who asked which guests run here, under which number; `None`: ourselves, as leader.
    questions: BTreeMap<CallId, (Option<HostName>, CallId)>,
    /// Our last answer about our guests: who asked, under which number, when.
    answered: Option<(HostName, CallId, Moment)>,
    leader: Option<LeaderHint>,
    told: Option<HostName>,
    next_pulse: Moment,
    next_dial: Moment,
    next_leading: Moment,
    exchanged: BTreeMap<HostName, Incarnation>,
    pub(crate) self_fence: SelfFence,
    own_paths: OwnPaths,
    pub(crate) processes: Processes,
    next_process: Option<Moment>,
}

#[derive(Debug, Clone)]
struct LeaderHint {
    host: HostName,
    term: Term,
    at: Moment,
}

/// What a member's duties yield for the leader in the same process.
#[derive(Debug)]
pub(crate) enum Yield {
    Testimony(Testimony),
    GuestsAnswer(CallId, Option<Vec<ServerId>>),
    Pulse(GuestList),
    GuestFailed(ServerId, GuestEvent),
    Gate(GateReport),
    Processes(ProcessReport),
    /// A question about our own watchdog.
    Lease(CallId, Option<Watchdog>),
    PathsLost(Vec<PathName>),
}

impl Member {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            testifier: Testifier::default(),
            guests: None,
            gate: None,
            reports: BTreeMap::new(),
            questions: BTreeMap::new(),
            answered: None,
            leader: None,
            told: None,
            next_pulse: now,
            next_dial: now,
            next_leading: now,
            exchanged: BTreeMap::new(),
            self_fence: SelfFence::default(),
            own_paths: OwnPaths::default(),
            processes: Processes::default(),
            next_process: None,
        }
    }

    /// Who leads, as far as we know.
    pub(crate) fn leader(&self, now: Moment) -> Option<&HostName> {
        self.leader.as_ref().filter(|hint| now.since(hint.at) < LEADING_BELIEVED).map(|hint| &hint.host)
    }

    /// The highest term we have heard of.
    pub(crate) fn term(&self) -> Term {
        self.leader.as_ref().map_or(Term(0), |hint| hint.term)
    }

    /// Raft knows of no leader of that term: an older hint is void.
    pub(crate) fn forget_leader(&mut self, term: Term) {
        if self.leader.as_ref().is_some_and(|hint| hint.term <= term) {
            self.leader = None;
        }
    }

    /// Somebody leads, by its own word or by Raft's.
    pub(crate) fn learn_leader(&mut self, host: HostName, term: Term, now: Moment) {
        // A word that nobody has repeated for a while is no ground to disbelieve another.
        let believed = |hint: &LeaderHint| now.since(hint.at) < LEADING_BELIEVED;
        if self.leader.as_ref().is_none_or(|hint| hint.term <= term || !believed(hint)) {
            if self.leader.as_ref().is_none_or(|hint| hint.host != host) {
                self.next_pulse = now;
            }
            self.leader = Some(LeaderHint { host, term, at: now });
        }
    }

    /// First words with a member: both sides tell all they know of the others, once per life of that member.
    pub(crate) fn exchange(&mut self, cx: &mut Context<'_>, peer: &Peer) {
        if self.exchanged.insert(peer.host.clone(), peer.incarnation) == Some(peer.incarnation)
            || cx.membership.known() > EXCHANGE_KNOWN_MAX
        {
            return;
        }
        let message = Message::PushPull { answer: true, state: cx.membership.full_state() };
        cx.send(&peer.host, message);
        own_paths::introduce(cx, &peer.host);
    }

    pub(crate) fn take_guests(&mut self, cx: &Context<'_>, list: GuestList) {
        if self.guests.as_ref() != Some(&list) {
            self.next_pulse = cx.now.mono;
        }
        self.guests = Some(list);
    }

    /// Our boot gate, as it is now.
    pub(crate) fn take_gate(&mut self, now: Moment, report: GateReport) {
        if self.gate.as_ref() != Some(&report) {
            self.next_pulse = now;
            // What it held or lets start now is judged anew.
            self.next_process = Some(now);
        }
        self.gate = Some(report);
    }

    /// The hypervisor's answer to a question about guests: to whoever asked.
    pub(crate) fn guests_checked(
        &mut self,
        cx: &mut Context<'_>,
        call: CallId,
        running: Option<Vec<ServerId>>,
    ) -> Vec<Yield> {
        match self.questions.remove(&call) {
            None => Vec::new(),
            Some((None, question)) => vec![Yield::GuestsAnswer(question, running)],
            Some((Some(host), question)) => {
                cx.send(&host, Message::GuestsAnswer { call: question, running });
                self.answered = Some((host, question, cx.now.mono));
                Vec::new()
            }
        }
    }

    pub(crate) fn take_guest_event(&mut self, cx: &mut Context<'_>, server: ServerId, event: GuestEvent) {
        match event {
            GuestEvent::Failed => {
                if self.reports.len() < REPORTS_MAX {
                    self.reports.insert(server, (event, cx.now.mono));
                } else {
                    cx.out
                        .warn(None, format!("{REPORTS_MAX} failed guests wait for a leader; {server} is not reported"));
                }
            }
            GuestEvent::Running | GuestEvent::Stopped | GuestEvent::Undefined => {
                self.reports.remove(&server);
            }
        }
        cx.out.push(Output::ListGuests);
    }

    /// The leader says that a guest of ours runs elsewhere. Heeded only as the answer to what we said a moment ago: a word
    /// that was long on its way may be about another day.
    pub(crate) fn destroy(
        &mut self,
        cx: &mut Context<'_>,
        from: &HostName,
        question: CallId,
        incident: IncidentId,
        server: ServerId,
    ) {
        let now = cx.now.mono;
        let fresh = |(asker, call, at): &&(HostName, CallId, Moment)| {
            asker == from && *call == question && now.since(*at) < WORD_AGE_MAX
        };
        let Some((_, _, at)) = self.answered.as_ref().filter(fresh) else { return };
        if self.leader(now) != Some(from) {
            return;
        }
        let call = cx.out.call();
        let order = DestroyOrder::told(call, LeadersWord { incident, server }, *at + WORD_AGE_MAX);
        cx.out.push(Output::DestroyGuest(order));
    }

    pub(crate) fn guest_noted(&mut self, server: ServerId) {
        self.reports.remove(&server);
    }

    /// Asks the hypervisor afresh which of these guests run.
    pub(crate) fn ask_guests(
        &mut self,
        cx: &mut Context<'_>,
        asker: Option<HostName>,
        call: CallId,
        servers: Vec<ServerId>,
    ) {
        if servers.len() > GUESTS_MAX {
            return;
        }
        self.questions.retain(|_, (other, _)| *other != asker);
        if self.questions.len() < QUESTIONS_MAX {
            let own = cx.out.call();
            self.questions.insert(own, (asker, call));
            cx.out.push(Output::CheckGuests { call: own, servers });
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let reports = self.reports.values().map(|(_, due)| *due).min();
        let fixed = self.next_pulse.min(self.next_dial).min(self.next_leading);
        let (paths, watchdog) = (self.own_paths.next_deadline(), self.watchdog_deadline());
        [reports, self.testifier.next_deadline(), watchdog, Some(fixed), paths, self.next_process]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due. `leads`: the term in which this very member leads.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>, leads: Option<Term>) -> Vec<Yield> {
        let now = cx.now.mono;
        let mut yields = Vec::new();
        for testimony in self.testifier.tick(now, &cx.setup.policy.life_ports, cx.out) {
            match &testimony.to {
                None => yields.push(Yield::Testimony(testimony)),
                Some(asker) => {
                    let message = Message::Testimony {
                        call: testimony.question,
                        target: testimony.target.clone(),
                        findings: testimony.findings.clone(),
                        signs: testimony.signs.clone(),
                    };
                    cx.send(asker, message);
                }
            }
        }
        if self.next_dial <= now {
            self.dial(cx);
        }
        if self.next_leading <= now {
            self.next_leading = now + LEADING_EVERY;
            if let Some(term) = leads {
                self.learn_leader(cx.setup.host.clone(), term, now);
                self.announce(cx, term);
            }
        }
        if self.next_process.is_some_and(|due| due <= now) {
            self.judge_processes(cx);
        }
        let leader = self.leader(now).cloned();
        if self.next_pulse <= now || leader != self.told {
            self.next_pulse = now + PULSE_EVERY;
            self.say_pulse(cx, leads.is_some(), leader, &mut yields);
        }
        self.report(cx, leads.is_some(), &mut yields);
        self.drive_watchdog(cx, leads.is_some(), &mut yields);
        let leader = self.leader(now).cloned();
        yields.extend(self.own_paths.tick(cx, leads.is_some(), leader.as_ref()).map(Yield::PathsLost));
        yields
    }

    fn dial(&mut self, cx: &mut Context<'_>) {
        let alone = !cx.membership.members().any(|view| view.state == MemberState::Alive);
        self.next_dial = cx.now.mono + if alone { DIAL_EVERY } else { DIAL_SELDOM };
        if alone {
            for seed in &cx.setup.seeds {
                cx.out.push(Output::Dial { seed: seed.clone() });
            }
        }
    }

    /// To everybody alive: the silence to come is no failure.
    pub(crate) fn say_goodbye(&self, cx: &mut Context<'_>, why: StopReason) {
        for host in others_alive(cx) {
            cx.send(&host, Message::Goodbye { why });
        }
    }

    fn announce(&self, cx: &mut Context<'_>, term: Term) {
        for host in others_alive(cx) {
            cx.send(&host, Message::Leading { term });
        }
    }

    /// At election at once, so that nobody's report waits.
    pub(crate) fn announce_now(&mut self, now: Moment) {
        self.next_leading = now;
    }

    fn say_pulse(&mut self, cx: &mut Context<'_>, leads: bool, leader: Option<HostName>, yields: &mut Vec<Yield>) {
        let guests = self.guests.clone().unwrap_or_default();
        if leads {
            yields.push(Yield::Pulse(guests));
            yields.extend(self.gate.clone().map(Yield::Gate));
            yields.extend(self.processes.report().map(Yield::Processes));
        } else if let Some(leader) = &leader {
            let system_uuid = cx.setup.system_uuid;
            cx.send(leader, Message::Statement { system_uuid, guests });
            if let Some(report) = self.gate.clone() {
                cx.send(leader, Message::Gate { report });
            }
            if let Some(report) = self.processes.report() {
                cx.send(leader, Message::Processes { report });
            }
        }
        self.told = leader;
    }

    fn report(&mut self, cx: &mut Context<'_>, leads: bool, yields: &mut Vec<Yield>) {
        let now = cx.now.mono;
        let leader = self.leader(now).cloned();
        for (server, (event, due)) in self.reports.iter_mut().filter(|(_, (_, due))| *due <= now) {
            *due = now + REPORT_EVERY;
            if leads {
                yields.push(Yield::GuestFailed(*server, *event));
            } else if let Some(leader) = &leader {
                cx.send(leader, Message::GuestChanged { server: *server, event: *event });
            }
        }
    }
}

/// Members alive in gossip whose names are known, without ourselves.
pub(crate) fn others_alive(cx: &Context<'_>) -> Vec<HostName> {
    let alive = cx.membership.members().filter(|view| view.state == MemberState::Alive);
    alive.filter_map(|view| cx.heard.name(view.member).cloned()).collect()
}
