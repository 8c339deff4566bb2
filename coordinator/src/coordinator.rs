//! The one entrance and the one exit.

mod acquaint;
mod dumps;
mod duties;
mod executing;
mod generation;
mod gossip;
mod messages;
mod queries;
mod tell;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rekindle_proto::admin::{AdminReply, SignedOrder};
use rekindle_proto::id::{HostName, Incarnation, IncidentId, MemberId, PathName, Term};

use crate::context::{Context, HeardBook, Outbox};
use crate::executor::Executor;
use crate::io::{Event, Input, Output, Peer};
use crate::leader::Leader;
use crate::ledger::{Entry, Ledger, Position, Statement};
use crate::member::{Member, Testimony, Yield};
use crate::membership::{Membership, MembershipSettings};
use crate::notice::subjects;
use crate::policy::Setup;
use crate::time::{Moment, Now};
use crate::voter::Voter;

pub use acquaint::Acquaintance;
pub use generation::proven_generation;
use queries::order_reply;

/// An entry older than this, by the wall clock, is history to whoever applies it now: shown, not logged as an event.
const NEWS_AGE_MAX_MS: u64 = 30_000;

/// Every decision of one member.
#[derive(Debug)]
pub struct Coordinator {
    setup: Setup,
    ledger: Ledger,
    membership: Membership,
    /// Gossip of the further paths; mostly there are none.
    further: Vec<Membership>,
    /// One number for all paths: the highest life of any. Each path begins its lives above it.
    persisted: Incarnation,
    heard: HeardBook,
    member: Member,
    leader: Option<Leader>,
    voter: Voter,
    executor: Executor,
    out: Outbox,
    /// The latest generation of voters known here, and the order that proves it.
    generation: Option<(u64, SignedOrder)>,
}

impl Coordinator {
    /// A member at its start.
    #[must_use]
    pub fn new(setup: Setup, now: Now) -> Self {
        let gossip = |(path, address): &(PathName, SocketAddr)| {
            let settings = MembershipSettings {
                member: MemberId::of(&setup.host),
                incarnation: setup.incarnation,
                address: *address,
                path: path.clone(),
                probe_period: setup.policy.probe_period,
                probe_ack: setup.policy.probe_ack,
                indirect_probes: setup.policy.indirect_probes,
                suspicion_factor: setup.policy.suspicion_factor,
                seed: setup.seed,
            };
            Membership::new(settings, now.mono)
        };
        Self {
            ledger: Ledger::new(setup.cluster.clone()),
            membership: gossip(&setup.listen[0]),
            further: setup.listen[1..].iter().map(gossip).collect(),
            persisted: setup.incarnation,
            heard: HeardBook::default(),
            member: Member::new(now.mono),
            leader: None,
            voter: Voter::new(now.mono),
            executor: Executor::default(),
            out: Outbox::new(setup.seed),
            generation: setup.generation.clone(),
            setup,
        }
    }

    /// The ledger as applied here.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The term in which this member leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> Option<Term> {
        self.leader.as_ref().map(Leader::term)
    }

    /// The same, once a quorum has confirmed it: only then does it answer as leader.
    #[must_use]
    pub fn confirmed_term(&self) -> Option<Term> {
        self.leader.as_ref().filter(|leader| leader.is_confirmed()).map(Leader::term)
    }

    /// The only exit, strictly ordered. Poll until `None` after every [`Self::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let leader = self.leader.as_ref().and_then(Leader::next_deadline);
        let further = self.further.iter().filter_map(Membership::next_deadline).min();
        [self.duties_deadline(), leader, further].into_iter().flatten().min()
    }

    /// The only entrance.
    pub fn handle(&mut self, now: Now, input: Input) {
        // How late a voter is decides whether it is fit to lead; nobody asks it of others.
        if self.is_voter()
            && let Some(due) = self.duties_deadline()
        {
            self.voter.was_late(now.mono, now.mono.since(due));
        }
        match input {
            Input::Tick => {}
            Input::Connected { peer, path } => self.connected(now, &peer, &path),
            Input::Datagram { from, path, bytes } => {
                let member = self.heard(now, &from, &path);
                self.member.testifier.heard(&from.host, &path, from.boot);
                if let Some(gossip) = self.gossip(&path)
                    && let Err(error) = gossip.datagram(now.mono, member, &bytes)
                {
                    self.out.warn(Some(&from.host), format!("its gossip packet was dropped: {error}"));
                }
            }
            Input::Message { from, path, message } => {
                self.heard(now, &from, &path);
                self.member.testifier.heard(&from.host, &path, from.boot);
                self.message(now, &from, message);
            }
            Input::Restored { ledger } => {
                self.ledger = *ledger;
                self.heard.learn_names(self.ledger.enrolled().map(|entry| &entry.host));
                self.take_ledgers_generation();
                self.touch();
            }
            Input::Committed { index, term, entry } => self.committed(now, Position { index, term }, &entry),
            Input::Leadership { term, leader } => self.leadership(now, term, leader),
            Input::Proposed { call, result } => {
                let answer = self.with_leader(now, |leader, cx| leader.proposed(cx, call, result)).flatten();
                if let Some((query, result)) = answer {
                    self.answer(query, order_reply(result));
                }
            }
            Input::Linearizable { call, result, finished } => {
                let before = self.confirmed_term();
                self.with_leader(now, |leader, cx| leader.linearizable(cx, call, result, finished));
                if before != self.confirmed_term() {
                    self.member.announce_now(now.mono);
                }
            }
            Input::DeviceRead { call, reading, .. } if self.voter.take_reading(now.mono, call, &reading) => {}
            Input::DeviceRead { call, reading, .. } if self.executed_reading(now, call, &reading) => {}
            Input::DeviceRead { call, reading, finished } => {
                self.with_leader(now, |leader, cx| leader.device_read(cx, call, &reading, finished));
            }
            Input::PowerOffDone { call, result } if self.executed_order(now, call, &result) => {}
            Input::PowerOffDone { call, result } => {
                self.with_leader(now, |leader, _| leader.power_off_done(call, result));
            }
            Input::PowerOnDone { call, result } => {
                self.with_leader(now, |leader, _| leader.power_on_done(call, result));
            }
            Input::Nova { call, result } if self.voter.take_nova(now.mono, call, &result) => {}
            Input::Nova { call, result } => {
                self.with_leader(now, |leader, cx| leader.nova(cx, call, result));
            }
            Input::Guests { list } => {
                self.with_member(now, |member, cx| member.take_guests(cx, list));
            }
            Input::GuestsChecked { call, running } => {
                let yields = self.with_member(now, |member, cx| member.guests_checked(cx, call, running));
                self.take_yields(now, yields);
            }
            Input::GuestDestroyed { call: _, server, result } => {
                let text = match result {
                    Ok(()) => format!("{server} was destroyed here: it runs elsewhere"),
                    Err(error) => format!("{server} runs elsewhere, and could not be destroyed here: {error}"),
                };
                self.out.warn(Some(&self.setup.host), text);
                self.out.push(Output::ListGuests);
            }
            Input::Gate { report } => self.member.take_gate(now.mono, report),
            Input::Processes { seen } => self.with_member(now, |member, cx| member.take_processes(cx, seen)),
            Input::ProcessRestarted { call, result } => {
                self.with_member(now, |member, cx| member.process_restarted(cx, call, result));
            }
            Input::Guest { server, event } => {
                self.with_member(now, |member, cx| member.take_guest_event(cx, server, event));
            }
            Input::Watchdog { device } => {
                self.with_member(now, |member, cx| member.self_fence.take_device(cx, device));
            }
            Input::LeaveWatchdog => self.member.self_fence.leave(now.mono),
            // Its watchdog stays armed: guests may run on, and the next daemon takes it over.
            Input::Stopping { why } => {
                self.member.processes.stop();
                self.with_member(now, |member, cx| member.say_goodbye(cx, why));
            }
            Input::LifeFound { call, signs } => self.member.testifier.life_found(call, signs, now.mono),
            Input::KdumpWord { from } => self.kdump_word(now, from),
            Input::Voters { view } => {
                self.with_leader(now, |leader, _| leader.voters_view(view));
            }
            Input::VotersChanged { call, result } => {
                self.with_leader(now, |leader, cx| leader.voters_changed(cx, call, result));
            }
            Input::HookDone { call, result } => {
                self.with_leader(now, |leader, _| leader.hook_done(call, result));
            }
            Input::Posted { call, result } => {
                self.with_leader(now, |leader, cx| leader.posted(cx, call, result));
            }
            Input::Query { call, request } => self.query(now, call, request),
        }
        self.settle(now);
    }

    /// Everything that is due at the end of an input: timers of gossip, of the member, of the leader.
    fn settle(&mut self, now: Now) {
        if self.membership.next_deadline().is_some_and(|due| due <= now.mono) {
            self.membership.tick(now.mono);
        }
        for gossip in self.further.iter_mut().filter(|gossip| gossip.next_deadline().is_some_and(|due| due <= now.mono))
        {
            gossip.tick(now.mono);
        }
        self.drain_membership(now);
        self.drain_further();
        if self.member.next_deadline().is_some_and(|due| due <= now.mono) {
            let confirmed = self.leader.as_ref().filter(|leader| leader.is_confirmed_lately(now.mono));
            let leads = confirmed.map(Leader::term);
            let yields = self.with_member(now, |member, cx| member.tick(cx, leads));
            self.take_yields(now, yields);
        }
        self.drive_voter(now);
        let ill = self.voter.bars_acts().cloned();
        let tests = self.with_leader(now, |leader, cx| {
            leader.note_health(ill);
            leader.drive(cx);
            leader.finished_fence_tests(cx.now.mono)
        });
        let gone = self.leader.as_mut().map(Leader::take_gone).unwrap_or_default();
        if !gone.is_empty() {
            self.tell_gone(now, &gone);
        }
        for (query, devices) in tests.unwrap_or_default() {
            self.answer(query, AdminReply::FenceTest { devices });
        }
        self.take_own_questions(now);
    }

    fn committed(&mut self, now: Now, position: Position, entry: &Entry) {
        let open = subjects(&self.ledger).filter(|subject| subject.ended.is_none());
        let before: BTreeMap<IncidentId, u32> = open.map(|subject| (subject.id, subject.last())).collect();
        let last = self.ledger.last_incident;
        let outcome = self.ledger.apply(position, entry);
        for incident in self.ledger.incidents.values().filter(|incident| incident.id > last) {
            self.heard.note_incident(&incident.host, now.mono);
        }
        // What a voter only catches up with is told by the ledger, not as news.
        let is_news = now.wall.millis_since(entry.at) < NEWS_AGE_MAX_MS;
        if outcome.is_applied() && is_news {
            self.tell_phases(&before, last);
            self.tell_servers(entry);
        }
        if matches!(entry.statement, Statement::Operator(_)) {
            self.heard.learn_names(self.ledger.enrolled().map(|entry| &entry.host));
        }
        self.touch();
    }

    fn leadership(&mut self, now: Now, term: Term, leader: Option<HostName>) {
        self.voter.take_hint(term, leader.clone());
        // Who has given leadership up does not lead, whatever Raft still believes.
        let leader = leader.filter(|leader| *leader != self.setup.host || self.voter.stands());
        let superseded = self.ledger.voters.generation < self.generation();
        let leader = leader.filter(|_| !superseded);
        let us = leader.as_ref() == Some(&self.setup.host);
        if self.leader.is_some() && self.setup.policy.webhook && (!us || self.leads() != Some(term)) {
            self.out.push(Output::StopPosts);
        }
        if us && self.leads() != Some(term) {
            let mut cx =
                context(&self.setup, &self.ledger, (&self.membership, &self.further), &self.heard, &mut self.out, now);
            self.leader = Some(Leader::new(term, &mut cx));
        } else if !us {
            self.leader = None;
        }
        match &leader {
            // Told by the tick that follows the quorum's confirmation.
            Some(_) if us => self.member.announce_now(now.mono),
            Some(leader) => self.member.learn_leader(leader.clone(), term, now.mono),
            // Questions must not be carried for long to one that is gone.
            None => self.member.forget_leader(term),
        }
        self.out.push(Output::Event(Event::Leader { term, leader, us }));
    }

    fn take_yields(&mut self, now: Now, yields: Vec<Yield>) {
        let us = self.as_peer();
        for word in yields {
            self.with_leader(now, |leader, cx| match word {
                Yield::Testimony(testimony) => {
                    let Testimony { question, target, findings, signs, .. } = testimony;
                    leader.testimony(cx, &us.host, &target, question, findings, &signs);
                }
                Yield::GuestsAnswer(call, running) => leader.guests_answer(cx, &us.host, call, running.as_deref()),
                Yield::Pulse(guests) => leader.pulse(cx, &us.host, us.boot, cx.setup.system_uuid, guests),
                Yield::PathsLost(paths) => leader.paths_lost(cx, &us.host, &paths),
                Yield::Gate(report) => leader.gate_word(&us.host, us.boot, report),
                Yield::Processes(report) => leader.process_word(&us.host, us.boot, report),
                Yield::GuestFailed(server, event) => leader.guest_failed(cx, &us, server, event),
                Yield::Lease(call, watchdog) => leader.lease_question(cx, &us, call, watchdog),
            });
        }
    }

    /// The leader is a member too: what it asks of all, it asks of itself here.
    fn take_own_questions(&mut self, now: Now) {
        let Some(leader) = &mut self.leader else { return };
        let examinations = leader.take_own_examinations();
        let questions = leader.take_own_guest_questions();
        let leases = leader.take_own_leases();
        for server in leader.take_own_guest_notes() {
            self.member.guest_noted(server);
        }
        for examination in examinations {
            let call = self.out.call();
            let crate::leader::OwnExamination { question, target, addresses } = examination;
            self.member.testifier.begin(call, None, question, target, addresses, now.mono);
        }
        for answer in &leases {
            self.take_lease(now, answer);
        }
        for (call, servers) in questions {
            self.with_member(now, |member, cx| member.ask_guests(cx, None, call, servers));
        }
    }

    fn as_peer(&self) -> Peer {
        Peer {
            host: self.setup.host.clone(),
            boot: self.setup.boot,
            incarnation: self.membership.incarnation(),
            address: self.setup.listen[0].1,
        }
    }

    fn touch(&mut self) {
        if let Some(leader) = &mut self.leader {
            leader.touch();
        }
    }

    fn context(&mut self, now: Now) -> Context<'_> {
        context(&self.setup, &self.ledger, (&self.membership, &self.further), &self.heard, &mut self.out, now)
    }

    fn with_leader<T>(&mut self, now: Now, act: impl FnOnce(&mut Leader, &mut Context<'_>) -> T) -> Option<T> {
        let Self { setup, ledger, membership, further, heard, out, leader, .. } = self;
        let leader = leader.as_mut()?;
        Some(act(leader, &mut context(setup, ledger, (membership, further), heard, out, now)))
    }

    fn with_member<T>(&mut self, now: Now, act: impl FnOnce(&mut Member, &mut Context<'_>) -> T) -> T {
        let Self { setup, ledger, membership, further, heard, out, member, .. } = self;
        act(member, &mut context(setup, ledger, (membership, further), heard, out, now))
    }
}

fn context<'a>(
    setup: &'a Setup,
    ledger: &'a Ledger,
    (membership, further): (&'a Membership, &'a [Membership]),
    heard: &'a HeardBook,
    out: &'a mut Outbox,
    now: Now,
) -> Context<'a> {
    Context { now, setup, ledger, membership, further, heard, out }
}

#[cfg(test)]
mod path_tests;
