//! Who is alive, by SWIM gossip: one foca instance for each network path, driven by the caller's clock.
//!
//! What comes out is suspicion and rumour, never a verdict: one member's failed probes suffice for `Down` here. The stages
//! after this one ask witnesses. Beyond SWIM as foca has it (direct and indirect probes, suspicion, gossip) this module adds
//!
//! - screening: every packet is taken apart before foca sees it, must come from the member whose certificate the connection
//!   bears, and loses whatever a single liar could use to grow our memory or to exhaust another's life numbers;
//! - local health (Lifeguard): who misses many answers stretches its own probes and holds its accusations;
//! - the word of helpers (Lifeguard): who was asked to probe and got no answer says so; who hears all its helpers does not
//!   doubt itself for a failed probe;
//! - deafness: who hears nobody declares nobody down, for a while;
//! - the buddy rule (Lifeguard): a suspect is told so with every probe, lest it stay suspect for want of having heard;
//! - forgiveness for our own stalls: answers that wait in the socket while we slept are read before anybody is accused;
//! - streams where one lost datagram would decide: a second question to whom a probe did not reach, and all we know exchanged
//!   with one member after the other ([`PUSH_PULL_EVERY`]);
//! - announcing to down members, see [`REJOIN_PERIOD`], also while we believe to be alone;
//! - modesty after isolation: a member that learns that it was declared down, or that hears one it believes dead while
//!   hardly anybody answers it, forgets whom it believes down. The healthy majority need not begin new lives.
//!
//! Sources: Das, Gupta, Motivala, "SWIM" (DSN 2002); Dadgar, Phillips, Currey, "Lifeguard" (arXiv 1707.00788).

mod guard;
mod health;
mod helpers;
mod identity;
mod settle;
mod streams;
mod swim;
#[cfg(test)]
mod tests;
mod timers;
mod types;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Foca, Member, Message, NoCustomBroadcast, PostcardCodec, State, Timer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::id::{Incarnation, MemberId, PathName};

use self::health::{Health, SCORE_MAX};
use self::identity::Identity;
use self::streams::Probing;
use self::swim::{Rules, Wishes};
use self::timers::{Task, Timers};
use self::wire::Packet;
use crate::time::Moment;

pub use self::helpers::Errand;
pub use self::streams::PUSH_PULL_EVERY;
pub use self::types::{MemberState, MemberView, MembershipError, MembershipOutput, MembershipSettings};

/// Most members we remember, ourselves not counted: twice the 2,000 hosts we are built for. Of more we hear nothing, so that
/// a lying member cannot fill our memory with invented ones.
pub const MEMBERS_MAX: usize = 4096;

/// Every so often each member announces itself to [`REJOIN_MEMBERS`] members it believes down, in turn, the first time within
/// one such period of its start. So with `d` down members each of them is tried by everybody within `⌈d / 2⌉` periods, and a
/// healed partition, where one announcement that arrives suffices for the pair, is whole again within two periods and the time
/// of gossip while `d` is small. Seldom enough that a dead host of a large cluster hears some ten packets a second.
pub const REJOIN_PERIOD: Duration = Duration::from_secs(5);

/// See [`REJOIN_PERIOD`].
pub const REJOIN_MEMBERS: usize = 2;

/// Shortest probe period: below, timers of the operating system would decide who is alive.
const PROBE_PERIOD_MIN: Duration = Duration::from_millis(10);

/// The members of one path.
pub struct Membership {
    me: MemberId,
    path: PathName,
    rules: Rules,
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    wishes: Wishes,
    timers: Timers,
    health: Health,
    /// Foca's state as it was after the last interaction, in its own order.
    seen: Vec<Member<Identity>>,
    /// Where each stands in it.
    seen_at: BTreeMap<MemberId, usize>,
    views: BTreeMap<MemberId, MemberView>,
    /// Down in `views`, and no longer known to foca: whom we declared down, or were told is down, before we learned that it
    /// was we who had been cut off.
    disowned: BTreeMap<MemberId, Identity>,
    outputs: VecDeque<MembershipOutput>,
    persisted: Incarnation,
    renewed_at: Option<Moment>,
    swim_incarnation: foca::Incarnation,
    cluster_size: usize,
    /// The last down member announced to.
    rejoin_cursor: MemberId,
    /// When anybody was last heard.
    last_heard: Moment,
    /// Our probe that is not answered yet.
    probing: Option<Probing>,
    /// Of our own choices; foca has its own.
    rng: StdRng,
    /// A stall was forgiven since the last probe: the next is not, or a host that is always late would never probe.
    stall_forgiven: bool,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { me, path, views, health, .. } = self;
        f.debug_struct("Membership")
            .field("me", me)
            .field("path", path)
            .field("views", views)
            .field("health", health)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// Alone, until [`Self::connected`] or a packet brings another member.
    #[must_use]
    pub fn new(settings: MembershipSettings, now: Moment) -> Self {
        let MembershipSettings { member, incarnation, address, path, indirect_probes, suspicion_factor, .. } = settings;
        let probe_period = settings.probe_period.max(PROBE_PERIOD_MIN);
        let probe_ack = settings.probe_ack.clamp(PROBE_PERIOD_MIN / 4, probe_period / 2);
        let rules = Rules { probe_period, probe_ack, indirect_probes, suspicion_factor };
        let mut rng = StdRng::seed_from_u64(mixed_seed(settings.seed, member, &path));
        let first_rejoin = REJOIN_PERIOD.mul_f64(rng.random_range(0.0..1.0));
        let mut own_rng = StdRng::seed_from_u64(mixed_seed(!settings.seed, member, &path));
        let first_exchange = PUSH_PULL_EVERY.mul_f64(own_rng.random_range(0.0..1.0));
        let identity = Identity { member, incarnation, address };
        let mut timers = Timers::default();
        timers.set(now + first_rejoin, Task::AnnounceToDown);
        timers.set(now + first_exchange, Task::PushPull);
        Self {
            me: member,
            path,
            rules,
            foca: Foca::new(identity, rules.config(1), rng, PostcardCodec),
            wishes: Wishes::default(),
            timers,
            health: Health::default(),
            seen: Vec::new(),
            seen_at: BTreeMap::new(),
            views: BTreeMap::new(),
            disowned: BTreeMap::new(),
            outputs: VecDeque::new(),
            persisted: incarnation,
            renewed_at: None,
            swim_incarnation: 0,
            cluster_size: 1,
            rejoin_cursor: member,
            last_heard: now,
            probing: None,
            rng: own_rng,
            stall_forgiven: false,
        }
    }

    /// A SWIM packet from an authenticated peer; `from` is the id of the host in its certificate.
    ///
    /// # Errors
    /// [`MembershipError`] when the packet is not well formed, not `from`'s own, or not for us. Counting and logging it is
    /// all that is left to do.
    pub fn datagram(&mut self, now: Moment, from: MemberId, bytes: &[u8]) -> Result<(), MembershipError> {
        let mut packet = Packet::open(bytes)?;
        self.check_header(from, &packet.header)?;
        self.last_heard = now;
        let source = packet.header.src;
        let screened = self.screen(now, packet.updates);
        packet.updates = screened.kept;
        let (destination, ours) = (packet.header.dst, *self.foca.identity());
        let claim = screened.claim.max(self.claim(&destination));
        if let Some(claim) = claim {
            self.outlive(now, claim);
        }
        // Meant for a life of ours that is over, or for a false one. Foca would be silent, and the sender would hold our
        // silence against us: it is told who we are instead. An announcement is answered whatever life it is meant for.
        if destination != ours && packet.header.message != Message::Announce {
            let told = self.foca.announce(source, &mut self.wishes);
            self.settle(now, Some(source));
            return told.map_err(MembershipError::Swim);
        }
        if packet.header.message == Message::TurnUndead && !self.may_renew(now) {
            self.settle(now, Some(source));
            return Ok(());
        }
        // Foca would answer one it holds to be down that it is dead. But if we may be cut off, its voice says that we
        // were, and are no more.
        if self.holds_down(&source) && self.may_be_cut_off() {
            self.disown_down();
        }
        self.note_answer(&packet.header);
        self.note_errand(now, &packet.header);
        let is_old = self.is_old_news(&packet);
        let concerned = packet.updates.iter().map(|update| update.id().member).chain([source.member]).collect();
        let cleaned = if screened.dropped { Some(packet.close()?) } else { None };
        let result = self.foca.handle_data(cleaned.as_deref().unwrap_or(bytes), &mut self.wishes);
        if is_old {
            self.settle_unchanged(now, Some(source));
        } else {
            self.settle_of(now, Some(source), concerned);
        }
        result.map_err(MembershipError::Swim)
    }

    /// Runs every timer due at `now`, in the order of their deadlines.
    pub fn tick(&mut self, now: Moment) {
        self.forgive_stall(now);
        while let Some((_, task)) = self.timers.pop_due(now) {
            match task {
                Task::AnnounceToDown => self.announce_to_down(now),
                Task::PushPull => self.push_and_pull(now),
                Task::Nack(errand) => self.outputs.push_back(MembershipOutput::Nack(errand)),
                Task::Swim { timer, holds } => self.run(now, timer, holds),
            }
        }
    }

    /// When [`Self::tick`] is due next, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.next_deadline()
    }

    /// A connection with this member was accepted by both sides; life number and address are from its hello. It is announced
    /// to, unless it is already an active member in that life.
    pub fn connected(&mut self, now: Moment, member: MemberId, incarnation: Incarnation, address: SocketAddr) {
        let active =
            self.foca.iter_members().any(|known| known.id().member == member && known.id().incarnation >= incarnation);
        if member == self.me || active {
            return;
        }
        // Fails only for what cannot be encoded, and all our identities can.
        let _ = self.foca.announce(Identity { member, incarnation, address }, &mut self.wishes);
        self.settle(now, None);
    }

    /// As after hours of life among them: each of these is alive in that life, at that address, and it is no news. Nothing is
    /// said, and no [`MembershipOutput::Changed`] comes of it. For a member that knows nobody yet.
    pub fn acquaint(&mut self, now: Moment, others: impl Iterator<Item = (MemberId, Incarnation, SocketAddr)>) {
        let others = others.filter(|(member, ..)| *member != self.me);
        let alive = others
            .map(|(member, incarnation, address)| Member::alive(Identity { member, incarnation, address }))
            .collect::<Vec<_>>();
        // Fails only for news of ourselves, of which there is none.
        let _ = self.foca.apply_many(alive.into_iter(), false, &mut self.wishes);
        self.settle(now, None);
        self.outputs.retain(|output| !matches!(output, MembershipOutput::Changed(_)));
    }

    /// Everybody we know, ourselves included, for [`Self::merge_state`] of another member. At most some 200 KiB. While we
    /// may be cut off ourselves (at most half of the members alive in our eyes) it leaves out whom we believe down.
    #[must_use]
    pub fn full_state(&self) -> Vec<u8> {
        let ourselves = Member::alive(*self.foca.identity());
        let modest = self.may_be_cut_off();
        let told = |member: &&Member<Identity>| !modest || member.state() != State::Down;
        let mut members: Vec<_> = self.foca.iter_membership_state().filter(told).cloned().chain([ourselves]).collect();
        members.sort_by_key(|member| member.id().member);
        wire::close_state(&members)
    }

    /// Takes over what another member knows, as if it had gossiped it all at once. `from` is the id of the host in its
    /// certificate.
    ///
    /// # Errors
    /// [`MembershipError`] when it is too long or not well formed.
    pub fn merge_state(&mut self, now: Moment, from: MemberId, state: &[u8]) -> Result<(), MembershipError> {
        let members = wire::open_state(state)?;
        let source = members.iter().map(Member::id).find(|identity| identity.member == from).copied();
        let mut screened = self.screen(now, members);
        // Two that meet know nearly all the same, and foca would search its whole list for each of them.
        screened.kept.retain(|member| !self.is_known(member));
        // As foca does with packets: what the dead say of others is old.
        if source.is_some_and(|source| self.holds_down(&source)) {
            screened.kept.retain(|member| member.state() == State::Alive);
        }
        if let Some(claim) = screened.claim {
            self.outlive(now, claim);
        }
        let result = self.foca.apply_many(screened.kept.into_iter(), true, &mut self.wishes);
        self.settle(now, source.filter(|source| source.member != self.me));
        result.map_err(MembershipError::Swim)
    }

    /// What is to be done next. Poll until `None` after every call that takes a time.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// Everybody we know but ourselves, ordered by id.
    pub fn members(&self) -> impl Iterator<Item = &MemberView> {
        self.views.values()
    }

    /// How many members we know, ourselves not counted.
    #[must_use]
    pub fn known(&self) -> usize {
        self.views.len()
    }

    /// What we know of that member; `None` of ourselves.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&MemberView> {
        self.views.get(&id)
    }

    /// How much we doubt ourselves, from 0 (healthy) to 8: Lifeguard's local health.
    #[must_use]
    pub fn local_health(&self) -> u32 {
        self.health.score()
    }

    /// Our own life number. It rises when we learn that we were declared down, or of a later life of ours than this.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.foca.identity().incarnation
    }

    /// How long a suspect may refute, at the present number of active members: `factor · log10(N) · period`, at least one
    /// period.
    #[must_use]
    pub fn suspicion_time(&self) -> Duration {
        self.rules.suspicion(self.cluster_size)
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &PathName {
        &self.path
    }
}

/// FNV-1a over the seed, ourselves and the path: equal seeds must not make two members choose alike.
fn mixed_seed(seed: u64, member: MemberId, path: &PathName) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(member.0).chain(path.as_str().bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
