//! Words of crash kernels: whose they are, and how they get to the leader.

use std::net::IpAddr;

use rekindle_proto::id::HostName;
use rekindle_proto::message::Message;

use super::Coordinator;
use crate::time::Now;

impl Coordinator {
    /// A word of a crash kernel came from that address.
    pub(super) fn kdump_word(&mut self, now: Now, from: IpAddr) {
        let cx = self.context(now);
        let is_there = |host: &&HostName| cx.address(host).is_some_and(|address| address.ip() == from);
        let Some(host) = cx.ledger.roster.keys().find(is_there).cloned() else { return };
        if self.leader.is_some() {
            self.with_leader(now, |leader, cx| leader.dumping(cx, &host));
        } else if let Some(leader) = self.member.leader(now.mono).cloned() {
            self.context(now).send(&leader, Message::Dumping { target: host });
        }
    }

    /// A member says that it heard one. Only voters listen.
    pub(super) fn told_of_dump(&mut self, now: Now, from: &HostName, target: &HostName) {
        if self.context(now).voters().contains(from) {
            self.with_leader(now, |leader, cx| leader.dumping(cx, target));
        }
    }
}
