//! What gossip says, on every path, and who is heard.

use rekindle_proto::id::{Incarnation, MemberId, PathName};
use rekindle_proto::message::Message;

use super::Coordinator;
use crate::io::{Event, Output, Peer};
use crate::membership::{MemberState, Membership, MembershipOutput};
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
            }
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

    pub(super) fn connected(&mut self, now: Now, peer: &Peer) {
        self.heard(now, peer, None);
        self.tell_generation(now, peer);
        self.membership.connected(now.mono, MemberId::of(&peer.host), peer.incarnation, peer.address);
        self.with_member(now, |member, cx| member.exchange(cx, peer));
    }

    /// `path`: on which network, if that is known.
    pub(super) fn heard(&mut self, now: Now, peer: &Peer, path: Option<&PathName>) -> MemberId {
        let on_first = path.is_none_or(|path| path == self.membership.path());
        let member = self.heard.note(peer, now.mono, on_first);
        self.with_leader(now, |leader, cx| leader.heard(cx, peer, path));
        member
    }
}
