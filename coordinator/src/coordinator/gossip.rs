//! What gossip says, on every path, and who is heard.

use rekindle_proto::id::{HostName, Incarnation, MemberId, PathName};
use rekindle_proto::message::{GONE_MAX, Message};

use super::Coordinator;
use crate::io::{Event, Output, Peer};
use crate::member::others_alive;
use crate::membership::{Errand, MemberState, Membership, MembershipOutput};
use crate::time::Now;

impl Coordinator {
    pub(super) fn drain_membership(&mut self, now: Now) {
        while let Some(output) = self.membership.poll_output() {
            match output {
                MembershipOutput::Datagram { to, member, bytes } => {
                    let path = self.membership.path().clone();
                    self.out.push(Output::Datagram { to, member, path, bytes });
                }
                MembershipOutput::PersistIncarnation(incarnation) => self.persist(incarnation),
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
                MembershipOutput::AskOnStream { member } => self.ask_on_stream(None, member),
                MembershipOutput::PushPull { member } => self.push_and_pull(None, member),
                MembershipOutput::Nack(errand) => self.nack(None, errand),
            }
        }
    }

    /// A probe's second try: on a stream of that path. `further`: which of the further paths; `None`: the first.
    fn ask_on_stream(&mut self, further: Option<usize>, member: MemberId) {
        let call = self.out.call();
        let gossip = match further {
            None => &mut self.membership,
            Some(index) => &mut self.further[index],
        };
        let Some(to) = gossip.member(member).map(|view| view.address) else { return };
        gossip.asked_on_stream(member, call);
        let path = gossip.path().clone();
        let message = Message::Probe { call, path: path.clone() };
        self.out.push(Output::Message { to, member: Some(member), path, message });
    }

    /// Who asked us to probe another is told that there was no answer, on a stream of that path.
    fn nack(&mut self, further: Option<usize>, errand: Errand) {
        let gossip = match further {
            None => &self.membership,
            Some(index) => &self.further[index],
        };
        let Some(to) = gossip.member(errand.origin).map(|view| view.address) else { return };
        let path = gossip.path().clone();
        let message = Message::ProbeNack { path: path.clone(), target: errand.target, number: errand.number };
        self.out.push(Output::Message { to, member: Some(errand.origin), path, message });
    }

    /// Everything about the members of a path, to one of them; it answers with its own. Streams of bulk use the first path.
    fn push_and_pull(&mut self, further: Option<usize>, member: MemberId) {
        let message = match further {
            None => Message::PushPull { answer: true, state: self.membership.full_state() },
            Some(index) => {
                let gossip = &self.further[index];
                Message::PathState { path: gossip.path().clone(), answer: true, state: gossip.full_state() }
            }
        };
        let Some(to) = self.membership.member(member).map(|view| view.address) else { return };
        let path = self.membership.path().clone();
        self.out.push(Output::Message { to, member: Some(member), path, message });
    }

    /// What the leader in this process has found is told to everybody, and to our own gossip.
    pub(super) fn tell_gone(&mut self, now: Now, gone: &[(MemberId, Incarnation)]) {
        let mut cx = self.context(now);
        for host in others_alive(&cx) {
            for members in gone.chunks(GONE_MAX) {
                cx.send(&host, Message::Gone { members: members.to_vec() });
            }
        }
        self.membership.learn_gone(now.mono, gone);
        self.drain_membership(now);
    }

    /// The same, told by another. Only the leader's word counts, as far as we know who leads.
    pub(super) fn take_gone(&mut self, now: Now, from: &HostName, members: &[(MemberId, Incarnation)]) {
        let is_leader = self.setup.keepers.contains(from) && self.member.leader(now.mono) == Some(from);
        if is_leader {
            self.membership.learn_gone(now.mono, &members[..members.len().min(GONE_MAX)]);
        }
    }

    /// What is silent on a further path is that path's matter: the leader looks at it with all others.
    pub(super) fn drain_further(&mut self) {
        for index in 0..self.further.len() {
            while let Some(output) = self.further[index].poll_output() {
                let path = self.further[index].path().clone();
                match output {
                    MembershipOutput::Datagram { to, member, bytes } => {
                        self.out.push(Output::Datagram { to, member, path, bytes });
                    }
                    MembershipOutput::PersistIncarnation(incarnation) => self.persist(incarnation),
                    MembershipOutput::Changed(_) => self.touch(),
                    MembershipOutput::ProbeFailed { .. } => {}
                    MembershipOutput::AskOnStream { member } => self.ask_on_stream(Some(index), member),
                    MembershipOutput::PushPull { member } => self.push_and_pull(Some(index), member),
                    MembershipOutput::Nack(errand) => self.nack(Some(index), errand),
                }
            }
        }
    }

    pub(super) fn persist(&mut self, incarnation: Incarnation) {
        if incarnation > self.persisted {
            self.persisted = incarnation;
            self.out.push(Output::PersistIncarnation(incarnation));
        }
    }

    pub(super) fn gossip(&mut self, path: &PathName) -> Option<&mut Membership> {
        std::iter::once(&mut self.membership).chain(&mut self.further).find(|gossip| gossip.path() == path)
    }

    /// First-hand: our own probe cycle of this member failed. The leader should know, whatever gossip does.
    pub(super) fn probe_failed(&mut self, now: Now, member: MemberId) {
        let Some(host) = self.heard.name(member).cloned() else { return };
        // One path of several: that is an alarm, not a suspicion.
        if self.context(now).is_heard_further(&host) {
            return;
        }
        if self.leader.is_some() {
            self.with_leader(now, |leader, cx| leader.suspect(cx, &host));
        } else if let Some(leader) = self.member.leader(now.mono).cloned() {
            self.context(now).send(&leader, Message::Suspicion { target: host });
        }
    }

    /// Members meet on the first path; a connection on another says where the peer listens there, and that it lives.
    pub(super) fn connected(&mut self, now: Now, peer: &Peer, path: &PathName) {
        let member = self.heard(now, peer, path);
        if let Some(gossip) = self.gossip(path) {
            gossip.connected(now.mono, member, peer.incarnation, peer.address);
        }
        if path == self.membership.path() {
            self.tell_generation(now, peer);
            self.with_member(now, |member, cx| member.exchange(cx, peer));
        }
    }

    pub(super) fn heard(&mut self, now: Now, peer: &Peer, path: &PathName) -> MemberId {
        let on_first = path == self.membership.path();
        let member = self.heard.note(peer, now.mono, on_first);
        self.with_leader(now, |leader, cx| leader.heard(cx, peer, path));
        member
    }
}
