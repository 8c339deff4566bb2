//! The one entrance and the one exit.

mod generation;
mod queries;
mod tell;

use std::collections::BTreeMap;

use rekindle_proto::admin::{AdminReply, SignedOrder};
use rekindle_proto::id::{HostName, IncidentId, MemberId, Term};
use rekindle_proto::message::Message;
use rekindle_proto::status::Phase;

use crate::context::{Context, HeardBook, Outbox};
use crate::io::{Event, Input, Output, Peer};
use crate::leader::Leader;
use crate::ledger::{Entry, Ledger, Position, Statement};
use crate::member::{Member, Yield};
use crate::membership::{MemberState, Membership, MembershipOutput, MembershipSettings};
use crate::policy::Setup;
use crate::time::{Moment, Now};

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
    heard: HeardBook,
    member: Member,
    leader: Option<Leader>,
    out: Outbox,
    /// The latest generation of voters known here, and the order that proves it.
    generation: Option<(u64, SignedOrder)>,
}

impl Coordinator {
    /// A member at its start.
    #[must_use]
    pub fn new(setup: Setup, now: Now) -> Self {
        let (path, address) = setup.listen[0].clone();
        let membership = Membership::new(
            MembershipSettings {
                member: MemberId::of(&setup.host),
                incarnation: setup.incarnation,
                address,
                path,
                probe_period: setup.policy.probe_period,
                probe_ack: setup.policy.probe_ack,
                indirect_probes: setup.policy.indirect_probes,
                suspicion_factor: setup.policy.suspicion_factor,
                seed: setup.seed,
            },
            now.mono,
        );
        Self {
            ledger: Ledger::new(setup.cluster.clone()),
            membership,
            heard: HeardBook::default(),
            member: Member::new(now.mono),
            leader: None,
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
        [self.membership.next_deadline(), self.member.next_deadline(), leader].into_iter().flatten().min()
    }

    /// The only entrance.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Tick => {}
            Input::Connected { peer } => self.connected(now, &peer),
            Input::Datagram { from, path, bytes } => {
                let member = self.heard(now, &from);
                self.member.testifier.heard(&from.host, &path, from.boot);
                if path == *self.membership.path()
                    && let Err(error) = self.membership.datagram(now.mono, member, &bytes)
                {
                    self.out.warn(Some(&from.host), format!("its gossip packet was dropped: {error}"));
                }
            }
            Input::Message { from, message } => {
                self.heard(now, &from);
                self.message(now, &from, message);
            }
            Input::Restored { ledger } => {
                self.ledger = *ledger;
                self.heard.learn_names(self.ledger.roster.keys());
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
            Input::DeviceRead { call, reading, finished } => {
                self.with_leader(now, |leader, cx| leader.device_read(cx, call, &reading, finished));
            }
            Input::PowerOffDone { call, result } => {
                self.with_leader(now, |leader, _| leader.power_off_done(call, result));
            }
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
            Input::Guest { server, event } => {
                self.with_member(now, |member, cx| member.take_guest_event(cx, server, event));
            }
            Input::Stopping => self.with_member(now, |member, cx| member.say_goodbye(cx)),
            Input::Voters { view } => {
                self.with_leader(now, |leader, _| leader.voters_view(view));
            }
            Input::VotersChanged { call, result } => {
                self.with_leader(now, |leader, cx| leader.voters_changed(cx, call, result));
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
        self.drain_membership(now);
        if self.member.next_deadline().is_some_and(|due| due <= now.mono) {
            let leads = self.confirmed_term();
            let yields = self.with_member(now, |member, cx| member.tick(cx, leads));
            self.take_yields(now, yields);
        }
        let tests = self.with_leader(now, |leader, cx| {
            leader.drive(cx);
            leader.finished_fence_tests(cx.now.mono)
        });
        for (query, devices) in tests.unwrap_or_default() {
            self.answer(query, AdminReply::FenceTest { devices });
        }
        self.take_own_questions(now);
    }

    fn drain_membership(&mut self, now: Now) {
        while let Some(output) = self.membership.poll_output() {
            match output {
                MembershipOutput::Datagram { to, member, bytes } => {
                    let path = self.membership.path().clone();
                    self.out.push(Output::Datagram { to, member, path, bytes });
                }
                MembershipOutput::PersistIncarnation(incarnation) => {
                    self.out.push(Output::PersistIncarnation(incarnation));
                }
                MembershipOutput::Changed(view) => {
                    let state = match view.state {
                        MemberState::Alive => "alive",
                        MemberState::Suspect => "suspect",
                        MemberState::Down => "down",
                    };
                    let host = self.heard.name(view.member).cloned();
                    self.out.push(Output::Event(Event::Member { host, member: view.member, state }));
                    self.touch();
                }
                MembershipOutput::ProbeFailed { member } => self.probe_failed(now, member),
            }
        }
    }

    /// First-hand: our own probe cycle of this member failed. The leader should know, whatever gossip does.
    fn probe_failed(&mut self, now: Now, member: MemberId) {
        let Some(host) = self.heard.name(member).cloned() else { return };
        if self.leader.is_some() {
            self.with_leader(now, |leader, cx| leader.suspect(cx, &host));
        } else if let Some(leader) = self.member.leader(now.mono).cloned() {
            self.context(now).send(&leader, Message::Suspicion { target: host });
        }
    }

    fn connected(&mut self, now: Now, peer: &Peer) {
        self.heard(now, peer);
        self.tell_generation(now, peer);
        self.membership.connected(now.mono, MemberId::of(&peer.host), peer.incarnation, peer.address);
        self.with_member(now, |member, cx| member.exchange(cx, peer));
    }

    fn heard(&mut self, now: Now, peer: &Peer) -> MemberId {
        let member = self.heard.note(peer, now.mono);
        self.with_leader(now, |leader, cx| leader.heard(cx, peer));
        member
    }

    fn message(&mut self, now: Now, from: &Peer, message: Message) {
        let path = self.setup.main_path();
        self.member.testifier.heard(&from.host, &path, from.boot);
        match message {
            Message::PushPull { answer, state } => {
                let member = self.heard.member(&from.host);
                if let Err(error) = self.membership.merge_state(now.mono, member, &state) {
                    self.out.warn(Some(&from.host), format!("its membership state was dropped: {error}"));
                }
                if answer {
                    let state = self.membership.full_state();
                    self.context(now).send(&from.host, Message::PushPull { answer: false, state });
                }
            }
            Message::Suspicion { target } => {
                self.with_leader(now, |leader, cx| leader.suspect(cx, &target));
            }
            // Its silence is explained: who knows that is no witness of a failure, whatever the leader has not heard.
            Message::AskTestimony { target, .. } if self.heard.is_absent(&target) => {}
            Message::AskTestimony { call, target, addresses } => {
                let own = self.out.call();
                self.member.testifier.begin(own, Some(from.host.clone()), call, target, addresses, now.mono);
            }
            Message::Testimony { call, target, findings } => {
                self.with_leader(now, |leader, cx| leader.testimony(cx, &from.host, &target, call, findings));
            }
            Message::Probe { call, path } => {
                let boot = self.setup.boot;
                let member = Some(self.heard.member(&from.host));
                let message = Message::ProbeAck { call, path: path.clone(), boot };
                self.out.push(Output::Message { to: from.address, member, path, message });
            }
            Message::ProbeAck { call: _, path, boot } => self.member.testifier.heard(&from.host, &path, boot),
            Message::RollCall { call } => self.context(now).send(&from.host, Message::Present { call }),
            Message::Present { call } => {
                self.with_leader(now, |leader, cx| leader.present(cx, &from.host, call));
            }
            Message::AskGuests { call, servers } => {
                let asker = Some(from.host.clone());
                self.with_member(now, |member, cx| member.ask_guests(cx, asker, call, servers));
            }
            Message::GuestsAnswer { call, running } => {
                self.with_leader(now, |leader, cx| leader.guests_answer(cx, &from.host, call, running.as_deref()));
            }
            Message::Statement { system_uuid, guests } => {
                self.with_leader(now, |leader, _| leader.pulse(&from.host, from.boot, system_uuid, guests));
            }
            Message::GuestChanged { server, event } => {
                self.with_leader(now, |leader, cx| leader.guest_failed(cx, from, server, event));
            }
            Message::GuestChangeNoted { server } => self.member.guest_noted(server),
            Message::Goodbye => {
                self.heard.said_goodbye(from);
                self.touch();
            }
            Message::Generation { order } => self.learn_generation(from, *order),
            Message::Leading { term } => {
                // Only voters lead, or standbys in their place; whoever else says so is not believed.
                if self.setup.keepers.contains(&from.host) {
                    self.member.learn_leader(from.host.clone(), term, now.mono);
                }
            }
        }
    }

    fn committed(&mut self, now: Now, position: Position, entry: &Entry) {
        let before: BTreeMap<IncidentId, Phase> =
            self.ledger.open_incidents().map(|incident| (incident.id, incident.phase)).collect();
        let last = self.ledger.last_incident;
        let outcome = self.ledger.apply(position, entry);
        // What a voter only catches up with is told by the ledger, not as news.
        let is_news = now.wall.millis_since(entry.at) < NEWS_AGE_MAX_MS;
        if outcome.is_applied() && is_news {
            self.tell_phases(&before, last);
            self.tell_servers(entry);
        }
        if matches!(entry.statement, Statement::Operator(_)) {
            self.heard.learn_names(self.ledger.roster.keys());
        }
        self.touch();
    }

    fn leadership(&mut self, now: Now, term: Term, leader: Option<HostName>) {
        let superseded = self.ledger.voters.generation < self.generation();
        let leader = leader.filter(|_| !superseded);
        let us = leader.as_ref() == Some(&self.setup.host);
        if us && self.leads() != Some(term) {
            let mut cx = context(&self.setup, &self.ledger, &self.membership, &self.heard, &mut self.out, now);
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
                    leader.testimony(cx, &us.host, &testimony.target, testimony.question, testimony.findings);
                }
                Yield::GuestsAnswer(call, running) => leader.guests_answer(cx, &us.host, call, running.as_deref()),
                Yield::Pulse(guests) => leader.pulse(&us.host, us.boot, cx.setup.system_uuid, guests),
                Yield::GuestFailed(server, event) => leader.guest_failed(cx, &us, server, event),
            });
        }
    }

    /// The leader is a member too: what it asks of all, it asks of itself here.
    fn take_own_questions(&mut self, now: Now) {
        let Some(leader) = &mut self.leader else { return };
        let examinations = leader.take_own_examinations();
        let questions = leader.take_own_guest_questions();
        for server in leader.take_own_guest_notes() {
            self.member.guest_noted(server);
        }
        for examination in examinations {
            let call = self.out.call();
            let crate::leader::OwnExamination { question, target, addresses } = examination;
            self.member.testifier.begin(call, None, question, target, addresses, now.mono);
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
        context(&self.setup, &self.ledger, &self.membership, &self.heard, &mut self.out, now)
    }

    fn with_leader<T>(&mut self, now: Now, act: impl FnOnce(&mut Leader, &mut Context<'_>) -> T) -> Option<T> {
        let Self { setup, ledger, membership, heard, out, leader, .. } = self;
        let leader = leader.as_mut()?;
        Some(act(leader, &mut context(setup, ledger, membership, heard, out, now)))
    }

    fn with_member<T>(&mut self, now: Now, act: impl FnOnce(&mut Member, &mut Context<'_>) -> T) -> T {
        let Self { setup, ledger, membership, heard, out, member, .. } = self;
        act(member, &mut context(setup, ledger, membership, heard, out, now))
    }
}

fn context<'a>(
    setup: &'a Setup,
    ledger: &'a Ledger,
    membership: &'a Membership,
    heard: &'a HeardBook,
    out: &'a mut Outbox,
    now: Now,
) -> Context<'a> {
    Context { now, setup, ledger, membership, heard, out }
}
