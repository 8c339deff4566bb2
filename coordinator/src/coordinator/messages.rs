//! What another member says, and who of us takes it.

use rekindle_proto::id::{HostName, MemberId, PathName};
use rekindle_proto::message::Message;

use super::Coordinator;
use crate::io::{Output, Peer};
use crate::leader::LeaseAnswer;
use crate::time::Now;

impl Coordinator {
    pub(super) fn message(&mut self, now: Now, from: &Peer, message: Message) {
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
                self.with_leader(now, |leader, cx| leader.accused(cx, &from.host, &target));
            }
            // Its silence is explained: who knows that is no witness of a failure, unless the leader knows it too.
            Message::AskTestimony { target, knows_goodbye: false, .. } if self.heard.is_absent(&target) => {}
            Message::AskTestimony { call, target, mut addresses, knows_goodbye: _ } => {
                // Of a network that we are not on we have nothing to say: no answer there is no silence.
                addresses.retain(|(path, _)| self.gossip(path).is_some());
                let own = self.out.call();
                self.member.testifier.begin(own, Some(from.host.clone()), call, target, addresses, now.mono);
            }
            Message::Testimony { call, target, findings, signs } => {
                self.with_leader(now, |leader, cx| leader.testimony(cx, &from.host, &target, call, findings, &signs));
            }
            Message::Probe { call, path } => {
                let boot = self.setup.boot;
                let member = self.heard.member(&from.host);
                let known = self.gossip(&path).and_then(|gossip| gossip.member(member)).map(|view| view.address);
                let to = known.unwrap_or(from.address);
                let message = Message::ProbeAck { call, path: path.clone(), boot };
                self.out.push(Output::Message { to, member: Some(member), path, message });
            }
            Message::ProbeAck { call, path, boot } => {
                self.member.testifier.heard(&from.host, &path, boot);
                let member = self.heard.member(&from.host);
                if let Some(gossip) = self.gossip(&path) {
                    gossip.answered_on_stream(now.mono, member, call);
                }
                self.with_leader(now, |leader, cx| leader.present_on(cx, &from.host, &path, call));
            }
            Message::ProbeNack { path, target, number } => {
                let member = self.heard.member(&from.host);
                if let Some(gossip) = self.gossip(&path) {
                    gossip.nacked(now.mono, member, target, number);
                }
            }
            Message::RollCall { call } => {
                let age = self.setup.boot_age(now.mono);
                let boot_age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                self.context(now).send(&from.host, Message::Present { call, boot_age_ms });
            }
            Message::Present { call, boot_age_ms } => {
                self.with_leader(now, |leader, cx| leader.note_boot(cx, from, boot_age_ms));
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
                self.with_leader(now, |leader, cx| leader.pulse(cx, &from.host, from.boot, system_uuid, guests));
            }
            Message::GuestChanged { server, event } => {
                self.with_leader(now, |leader, cx| leader.guest_failed(cx, from, server, event));
            }
            Message::GuestChangeNoted { server } => self.member.guest_noted(server),
            Message::PathState { path, answer, state } => self.path_state(now, &from.host, path, answer, &state),
            Message::PathsLost { paths } => {
                self.with_leader(now, |leader, cx| leader.paths_lost(cx, &from.host, &paths));
            }
            Message::Goodbye { why } => {
                self.heard.said_goodbye(from, why);
                self.touch();
            }
            Message::DestroyGuest { question, incident, server } => {
                self.with_member(now, |member, cx| member.destroy(cx, &from.host, question, incident, server));
            }
            Message::Gate { report } => {
                self.with_leader(now, |leader, _| leader.gate_word(&from.host, from.boot, report));
            }
            Message::Processes { report } => {
                self.with_leader(now, |leader, _| leader.process_word(&from.host, from.boot, report));
            }
            Message::Fitness { fit } => {
                if self.setup.keepers.contains(&from.host) {
                    self.voter.take_word(&from.host, fit, now.mono);
                }
            }
            Message::LedgerFormat { reads } => {
                if self.setup.keepers.contains(&from.host) {
                    self.with_leader(now, |leader, cx| leader.format_word(cx.now.mono, &from.host, reads));
                }
            }
            Message::LeaseAsk { call, watchdog } => {
                self.with_leader(now, |leader, cx| leader.lease_question(cx, from, call, Some(watchdog)));
            }
            Message::LeaseWithdraw { call } => {
                self.with_leader(now, |leader, cx| leader.lease_question(cx, from, call, None));
            }
            Message::LeaseGrant { call } => self.take_lease(now, &LeaseAnswer::Granted(call)),
            Message::LeaseWithdrawn { call } => self.take_lease(now, &LeaseAnswer::Withdrawn(call)),
            Message::Generation { order } => self.learn_generation(from, *order),
            Message::Dumping { target } => self.told_of_dump(now, &from.host, &target),
            Message::Gone { members } => self.take_gone(now, &from.host, &members),
            Message::Executor(word) => self.executor_word(now, &from.host, word),
            Message::Leading { term } => {
                // Only voters lead, or standbys in their place; whoever else says so is not believed.
                if self.setup.keepers.contains(&from.host) {
                    self.member.learn_leader(from.host.clone(), term, now.mono);
                }
            }
        }
    }

    fn path_state(&mut self, now: Now, from: &HostName, path: PathName, answer: bool, state: &[u8]) {
        let Some(gossip) = self.gossip(&path) else { return };
        if let Err(error) = gossip.merge_state(now.mono, MemberId::of(from), state) {
            self.out.warn(Some(from), format!("its membership state of {path} was dropped: {error}"));
        } else if answer {
            let state = gossip.full_state();
            self.context(now).send(from, Message::PathState { path, answer: false, state });
        }
    }
}
