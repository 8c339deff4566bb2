//! A member in the midst of its life. Models of running clusters begin with it: how 2,000 members met is another story,
//! and a long one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rekindle_proto::id::{HostName, Incarnation, MemberId};

use super::Coordinator;
use crate::time::Moment;

/// What every member of a formed cluster has long known of all: who there is, in which life, and where each listens.
#[derive(Debug, Clone, Default)]
pub struct Acquaintance {
    members: Vec<Known>,
    names: BTreeMap<MemberId, HostName>,
}

#[derive(Debug, Clone)]
struct Known {
    member: MemberId,
    life: Incarnation,
    /// One for each path, in the order of [`crate::policy::Setup::listen`].
    addresses: Vec<SocketAddr>,
}

impl Acquaintance {
    /// A member more. `addresses`: where it listens on each path, in the order of [`crate::policy::Setup::listen`].
    pub fn add(&mut self, host: &HostName, life: Incarnation, addresses: &[SocketAddr]) {
        let member = MemberId::of(host);
        self.names.insert(member, host.clone());
        self.members.push(Known { member, life, addresses: addresses.to_vec() });
    }
}

impl Coordinator {
    /// As after hours among these members: gossip holds each of them to be alive on every path, and has nothing new to say of
    /// anybody; the names are known. Nobody was heard by this process yet. Only at its start, before its first input. A daemon
    /// meets the others one by one; this is for models of running clusters.
    pub fn acquaint(&mut self, now: Moment, with: &Acquaintance) {
        for (path, gossip) in std::iter::once(&mut self.membership).chain(&mut self.further).enumerate() {
            let there = with.members.iter().filter_map(|known| Some((known, known.addresses.get(path)?)));
            gossip.acquaint(now, there.map(|(known, address)| (known.member, known.life, *address)));
        }
        self.heard.take_names(&with.names);
    }
}
