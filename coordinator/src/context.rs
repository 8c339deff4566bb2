//! What every part of the coordinator sees while it handles one input.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use rekindle_proto::fact::{StopReason, Text};
use rekindle_proto::id::{BootId, CallId, HostName, Incarnation, MemberId, PathName};
use rekindle_proto::message::Message;

use crate::io::{Event, Output, Peer};
use crate::ledger::Ledger;
use crate::membership::{MemberState, MemberView, Membership};
use crate::policy::Setup;
use crate::time::{Moment, Now};

/// Outputs waiting to be polled, and the numbers of the calls among them.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Output>,
    last_call: u64,
}

impl Outbox {
    /// Call numbers begin anywhere, so that a late answer to an earlier process' call meets no call of ours.
    pub(crate) fn new(seed: u64) -> Self {
        Self { queue: VecDeque::new(), last_call: seed >> 8 }
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    pub(crate) fn call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    pub(crate) fn warn(&mut self, host: Option<&HostName>, text: impl Into<Text>) {
        self.push(Output::Event(Event::Warning { host: host.cloned(), text: text.into() }));
    }
}

/// When, from where and in which boot each host was last heard, authenticated.
#[derive(Debug, Default)]
pub(crate) struct HeardBook {
    hosts: BTreeMap<HostName, Heard>,
    names: BTreeMap<MemberId, HostName>,
    /// When we learned of each host's last incident. At most one a host of the roster.
    accused: BTreeMap<HostName, Moment>,
}

/// One host's last word.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Its id: a hash of its name, and every datagram asks for it.
    pub(crate) member: MemberId,
    /// When.
    pub(crate) at: Moment,
    /// In which boot.
    pub(crate) boot: BootId,
    /// Where it listens on the first path, once it was heard there: messages go there.
    pub(crate) address: Option<SocketAddr>,
    /// In which life, the latest heard.
    pub(crate) life: Incarnation,
    /// The life in which it said goodbye, and why. A later life takes it back.
    goodbye: Option<(Incarnation, StopReason)>,
}

impl Heard {
    /// The life in which it said goodbye, and why, unless it was heard in a later one.
    pub(crate) fn goodbye(&self) -> Option<(Incarnation, StopReason)> {
        self.goodbye
    }
}

impl HeardBook {
    /// A peer was heard. Gives back its id. `on_first`: on the first path; only then its address is where it listens for
    /// messages.
    pub(crate) fn note(&mut self, peer: &Peer, now: Moment, on_first: bool) -> MemberId {
        let address = on_first.then_some(peer.address);
        match self.hosts.get_mut(&peer.host) {
            Some(heard) => {
                heard.at = now;
                heard.boot = peer.boot;
                heard.address = address.or(heard.address);
                heard.life = heard.life.max(peer.incarnation);
                if heard.goodbye.is_some_and(|(life, _)| peer.incarnation > life) {
                    heard.goodbye = None;
                }
                heard.member
            }
            None => {
                let member = MemberId::of(&peer.host);
                let heard = Heard { member, at: now, boot: peer.boot, address, life: peer.incarnation, goodbye: None };
                self.names.insert(member, peer.host.clone());
                self.hosts.insert(peer.host.clone(), heard);
                member
            }
        }
    }

    /// The id of a host.
    pub(crate) fn member(&self, host: &HostName) -> MemberId {
        self.hosts.get(host).map_or_else(|| MemberId::of(host), |heard| heard.member)
    }

    /// Its daemon stops because it was told to: heard on its own connection.
    pub(crate) fn said_goodbye(&mut self, peer: &Peer, why: StopReason) {
        if let Some(heard) = self.hosts.get_mut(&peer.host).filter(|heard| heard.life <= peer.incarnation) {
            heard.goodbye = Some((peer.incarnation, why));
        }
    }

    /// We have learned of an incident of this host: what was heard of it before says nothing against that.
    pub(crate) fn note_incident(&mut self, host: &HostName, now: Moment) {
        self.accused.insert(host.clone(), now);
    }

    /// In which boot it was heard since we learned of its last incident, if it was. Who leads now may not have led then.
    pub(crate) fn heard_since_accused(&self, host: &HostName) -> Option<BootId> {
        let heard = self.hosts.get(host)?;
        // What was restored at our start was so before anything was heard.
        let since = self.accused.get(host).copied().unwrap_or(Moment::ZERO);
        (heard.at > since).then_some(heard.boot)
    }

    /// It said goodbye to us, and has not come back. The ledger may know more: [`Context::goodbye`].
    pub(crate) fn is_absent(&self, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|heard| heard.goodbye.is_some())
    }

    /// Names that are known without having been heard: those of the roster.
    pub(crate) fn learn_names<'a>(&mut self, hosts: impl Iterator<Item = &'a HostName>) {
        for host in hosts {
            self.names.entry(MemberId::of(host)).or_insert_with(|| host.clone());
        }
    }

    /// All these names at once.
    pub(crate) fn take_names(&mut self, names: &BTreeMap<MemberId, HostName>) {
        self.names.clone_from(names);
    }

    pub(crate) fn get(&self, host: &HostName) -> Option<&Heard> {
        self.hosts.get(host)
    }

    pub(crate) fn name(&self, member: MemberId) -> Option<&HostName> {
        self.names.get(&member)
    }
}

/// The surroundings of one `handle`.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) setup: &'a Setup,
    pub(crate) ledger: &'a Ledger,
    pub(crate) membership: &'a Membership,
    /// Gossip of the further paths; mostly there are none.
    pub(crate) further: &'a [Membership],
    pub(crate) heard: &'a HeardBook,
    pub(crate) out: &'a mut Outbox,
}

impl Context<'_> {
    /// A host in gossip; `None`: never seen there.
    pub(crate) fn member(&self, host: &HostName) -> Option<&MemberView> {
        self.membership.member(self.heard.member(host))
    }

    /// Alive in gossip (or ourselves).
    pub(crate) fn is_alive(&self, host: &HostName) -> bool {
        *host == self.setup.host || self.member(host).is_some_and(|view| view.state == MemberState::Alive)
    }

    /// A host's goodbye that holds, by its word to us or by the ledger: why, and in which life. A word of a later life takes
    /// it back.
    pub(crate) fn goodbye(&self, host: &HostName) -> Option<(StopReason, Incarnation)> {
        if *host == self.setup.host {
            return None;
        }
        let heard = self.heard.get(host);
        let to_us = heard.and_then(Heard::goodbye).map(|(life, why)| (why, life));
        let is_past = |life: Incarnation| heard.is_some_and(|heard| heard.life > life);
        let in_ledger = self.ledger.absence(host).filter(|absence| !is_past(absence.life));
        to_us.or_else(|| in_ledger.map(|absence| (absence.why, absence.life)))
    }

    /// Where a host listens, by gossip or by its own last word.
    pub(crate) fn address(&self, host: &HostName) -> Option<SocketAddr> {
        let gossip = self.member(host).map(|view| view.address);
        let heard = || self.heard.get(host).and_then(|heard| heard.address);
        gossip.or_else(heard).or_else(|| self.ledger.addresses.get(host).copied())
    }

    /// Who votes, as agreed; before the first leader has written it down, and on members that keep no ledger, as configured.
    pub(crate) fn voters(&self) -> Vec<HostName> {
        let agreed = &self.ledger.voters.voters;
        if agreed.is_empty() { self.setup.voters.clone() } else { agreed.keys().cloned().collect() }
    }

    /// The path of everything that is not a probe.
    pub(crate) fn main_path(&self) -> PathName {
        self.setup.main_path()
    }

    /// Where a host listens on each path on which it was seen, the first one first.
    pub(crate) fn addresses(&self, host: &HostName) -> Vec<(PathName, SocketAddr)> {
        let member = self.heard.member(host);
        let first = self.address(host).map(|address| (self.main_path(), address));
        let further =
            self.further.iter().filter_map(|gossip| Some((gossip.path().clone(), gossip.member(member)?.address)));
        first.into_iter().chain(further).collect()
    }

    /// Sends a message, if we know where the host listens.
    pub(crate) fn send(&mut self, host: &HostName, message: Message) {
        if let Some(to) = self.address(host) {
            let path = self.main_path();
            let member = Some(self.heard.member(host));
            self.out.push(Output::Message { to, member, path, message });
        }
    }
}
