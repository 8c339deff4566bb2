//! After foca has spoken: what it asked for is done, and what it now believes is compared with what it believed.

use foca::Header;

use super::*;

/// How often a due `Down` is put off by a period while we doubt ourselves: as often as our health can fail, so that doubt
/// delays a truth but cannot suppress it.
const HOLDS_MAX: u32 = SCORE_MAX;

impl Membership {
    /// Carries out foca's wishes, and compares its state with the last. `told_by` is whose words foca has just heard.
    pub(super) fn settle(&mut self, now: Moment, told_by: Option<Identity>) {
        self.carry_out(now, told_by, Concerned::All);
    }

    /// The same after what can have changed these members only, and those whom foca itself now suspects: the others of 2,000
    /// need not be looked at, one by one.
    pub(super) fn settle_of(&mut self, now: Moment, told_by: Option<Identity>, members: Vec<MemberId>) {
        self.carry_out(now, told_by, Concerned::Only(members));
    }

    /// The same after what cannot have changed foca's members.
    pub(super) fn settle_unchanged(&mut self, now: Moment, told_by: Option<Identity>) {
        self.carry_out(now, told_by, Concerned::Nobody);
    }

    fn carry_out(&mut self, now: Moment, told_by: Option<Identity>, mut concerned: Concerned) {
        if self.wishes.renewed {
            concerned = Concerned::All;
            self.begin_new_life(now, told_by);
        }
        if let Concerned::Only(members) = &mut concerned {
            members.extend(self.wishes.timers.iter().filter_map(|(timer, _)| suspect_of(timer)));
        }
        let mut wishes = std::mem::take(&mut self.wishes);
        for (timer, delay) in wishes.timers.drain(..) {
            let delay = self.stretched(&timer, delay);
            self.timers.set(now + delay, Task::Swim { timer, holds: 0 });
        }
        let incarnation = self.incarnation();
        if incarnation != self.persisted {
            self.persisted = incarnation;
            self.swim_incarnation = 0;
            self.outputs.push_back(MembershipOutput::PersistIncarnation(incarnation));
        }
        if let Some(raised) = wishes.swim_incarnation.take() {
            if raised > self.swim_incarnation {
                self.health.worse();
            }
            self.swim_incarnation = raised;
        }
        for (to, bytes) in wishes.packets.drain(..) {
            self.send(to, bytes);
        }
        for failed in wishes.probe_failed.drain(..) {
            self.probe_failed(&failed);
        }
        match concerned {
            Concerned::Nobody => {}
            Concerned::Only(members) => {
                let changed = self.changed_of(now, &members).unwrap_or_else(|| self.changed_members(now));
                self.take_over(changed);
            }
            Concerned::All => {
                let changed = self.changed_members(now);
                self.take_over(changed);
            }
        }
        for (pinged, number) in wishes.pinged.drain(..) {
            self.probing = Some(Probing::new(pinged, number));
            self.tell_suspect(&pinged);
        }
        for (target, number, helper) in wishes.helpers.drain(..) {
            if let Some(probe) = self.probing.as_mut().filter(|probe| probe.is(target, number)) {
                probe.helped_by(helper);
            }
        }
        // Nothing above makes foca speak; the room is used again.
        wishes.renewed = false;
        self.wishes = wishes;
    }

    /// Whether a packet of this member, without news of others, tells foca nothing new: it knows it to be alive in this very
    /// life and SWIM incarnation.
    pub(super) fn is_old_news(&self, packet: &Packet) -> bool {
        let header = &packet.header;
        packet.updates.is_empty()
            && header.message != Message::TurnUndead
            && self.is_known(&Member::new(header.src, header.src_incarnation, State::Alive))
    }

    /// Whether foca holds exactly this of a member already.
    pub(super) fn is_known(&self, member: &Member<Identity>) -> bool {
        let place = self.seen_at.get(&member.id().member);
        place.and_then(|place| self.seen.get(*place)).is_some_and(|known| known == member)
    }

    /// Runs one of foca's timers.
    pub(super) fn run(&mut self, now: Moment, timer: Timer<Identity>, holds: u32) {
        let mut probed = false;
        let mut only_sends = false;
        let downed = suspect_of(&timer);
        match &timer {
            // Its suspect may be as well as we are ill. This does not count as put off: what is heard then decides.
            Timer::ChangeSuspectToDown { .. } if self.is_deaf(now) => {
                self.timers.set(now + self.rules.probe_period, Task::Swim { timer, holds });
                return;
            }
            Timer::ChangeSuspectToDown { .. } if self.health.doubtful() && holds < HOLDS_MAX => {
                self.timers.set(now + self.rules.probe_period, Task::Swim { timer, holds: holds + 1 });
                return;
            }
            Timer::RemoveDown(identity) if self.disowned.get(&identity.member) == Some(identity) => {
                self.disowned.remove(&identity.member);
            }
            Timer::ProbeRandomMember(_) => {
                self.stall_forgiven = false;
                probed = true;
            }
            Timer::SendIndirectProbe { probed_id, .. } => {
                self.ask_on_stream(*probed_id);
                only_sends = true;
            }
            Timer::PeriodicAnnounce(_) | Timer::PeriodicAnnounceDown(_) | Timer::PeriodicGossip(_) => only_sends = true,
            Timer::ChangeSuspectToDown { .. } | Timer::RemoveDown(_) => {}
        }
        // Its errors are about the order of timers, which is ours, and it goes on by itself after each.
        let _ = self.foca.handle_timer(timer, &mut self.wishes);
        if probed && self.wishes.probe_failed.is_empty() {
            self.health.better();
        }
        if only_sends {
            self.settle_unchanged(now, None);
        } else if probed || downed.is_some() {
            let failed = self.wishes.probe_failed.iter().map(|failed| failed.member);
            let concerned = failed.chain(downed).collect();
            self.settle_of(now, None, concerned);
        } else {
            self.settle(now, None);
        }
    }

    /// If we slept, the answers to our probes may be waiting unread: everything an accusation rests on is put off by the
    /// time we slept and the time of an answer, as if our clock had stood still.
    pub(super) fn forgive_stall(&mut self, now: Moment) {
        let late = self.timers.probing_late_by(now);
        if late <= self.rules.probe_ack / 2 || self.stall_forgiven {
            return;
        }
        self.stall_forgiven = true;
        self.health.worse();
        self.timers.put_off_probing(late + self.rules.probe_ack);
    }

    pub(super) fn announce_to_down(&mut self, now: Moment) {
        self.timers.set(now + REJOIN_PERIOD, Task::AnnounceToDown);
        let down = |view: &&MemberView| view.state == MemberState::Down;
        let after = self.views.values().filter(down).filter(|view| view.member > self.rejoin_cursor);
        let before = self.views.values().filter(down).filter(|view| view.member <= self.rejoin_cursor);
        let chosen: Vec<_> = after.chain(before).take(REJOIN_MEMBERS).map(identity_of).collect();
        for down in chosen {
            self.rejoin_cursor = down.member;
            // Fails only for what cannot be encoded, and all our identities can.
            let _ = self.foca.announce(down, &mut self.wishes);
        }
        self.settle(now, None);
    }

    /// Others believe in a life of ours that wins against this one (our disk was wiped and our clock set back, or somebody
    /// lies): the next begins after it.
    pub(super) fn outlive(&mut self, now: Moment, claim: Incarnation) {
        let Some(next) = claim.0.checked_add(1) else { return };
        if self.may_renew(now) {
            let identity = Identity { incarnation: Incarnation(next), ..*self.foca.identity() };
            self.wishes.renewed |= self.foca.change_identity(identity, &mut self.wishes).is_ok();
        }
    }

    /// We were declared down, so it may have been we who were cut off: whom we believe down we believe so with no right.
    fn begin_new_life(&mut self, now: Moment, told_by: Option<Identity>) {
        self.renewed_at = Some(now);
        self.health.worse();
        self.disown_down();
        // Foca waits for a packet before it probes again, and if its farewell was lost none would come: this only makes it
        // look at its members.
        let _ = self.foca.apply_many(std::iter::empty(), false, &mut self.wishes);
        if let Some(teller) = told_by {
            let _ = self.foca.announce(teller, &mut self.wishes);
        }
        self.wishes.renewed = false;
    }

    /// Foca forgets whom it believes down, so that they need not begin new lives for our sake, and what we said of them is
    /// not said again. Until they or others speak they are still shown as down.
    pub(super) fn disown_down(&mut self) {
        let down = self.foca.iter_membership_state().filter(|member| member.state() == State::Down);
        let down: Vec<_> = down.map(|member| *member.id()).collect();
        for identity in down {
            let _ = self.foca.handle_timer(Timer::RemoveDown(identity), &mut self.wishes);
            self.disowned.insert(identity.member, identity);
        }
    }

    /// The delay of a timer, longer the less we trust ourselves. Probe and indirect probe by the same factor, so that their
    /// order stays.
    fn stretched(&self, timer: &Timer<Identity>, delay: Duration) -> Duration {
        match timer {
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } | Timer::ChangeSuspectToDown { .. } => {
                self.health.stretch(delay)
            }
            Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_) => delay,
        }
    }

    fn send(&mut self, to: Identity, bytes: Vec<u8>) {
        if to.member == self.me {
            return;
        }
        let bytes = if self.disowned.is_empty() { bytes } else { self.without_disowned(bytes) };
        self.outputs.push_back(MembershipOutput::Datagram { to: to.address, member: to.member, bytes });
    }

    fn without_disowned(&self, bytes: Vec<u8>) -> Vec<u8> {
        let Ok(mut packet) = Packet::open(&bytes) else { return bytes };
        let before = packet.updates.len();
        packet.updates.retain(|update| {
            update.state() != State::Down || self.disowned.get(&update.id().member) != Some(update.id())
        });
        if packet.updates.len() == before {
            return bytes;
        }
        packet.close().unwrap_or(bytes)
    }

    fn probe_failed(&mut self, failed: &Identity) {
        // It may have begun a new life while we waited for the old one's answer.
        let Some(view) = self.views.get(&failed.member).filter(|view| view.incarnation == failed.incarnation) else {
            return;
        };
        // If others complain of it too, our failure says more of it than of us.
        if view.state == MemberState::Alive && self.doubts(failed) {
            self.health.worse();
        }
        self.outputs.push_back(MembershipOutput::ProbeFailed { member: failed.member });
    }

    /// A suspect that we probe is told of the suspicion: gossip about it may have died out before it reached it, and an
    /// answer alone does not clear it.
    fn tell_suspect(&mut self, pinged: &Identity) {
        let known = self.seen_at.get(&pinged.member).and_then(|at| self.seen.get(*at));
        let suspicion = known.filter(|member| member.id() == pinged && member.state() == State::Suspect);
        let Some(suspicion) = suspicion.cloned() else { return };
        let src = *self.foca.identity();
        let header = Header { src, src_incarnation: self.swim_incarnation, dst: *pinged, message: Message::Gossip };
        if let Ok(bytes) = (Packet { header, updates: vec![suspicion] }).close() {
            self.send(*pinged, bytes);
        }
    }

    /// Goes through foca's members place by place, takes over what differs from the last time, and gives back whose view
    /// changed. Foca moves one member to let in another, and all of them once a round: elsewhere a place differs seldom.
    fn changed_members(&mut self, now: Moment) -> BTreeMap<MemberId, MemberView> {
        let Self { foca, seen, seen_at, views, disowned, .. } = self;
        let mut changed = BTreeMap::new();
        let mut places = 0;
        for (place, member) in foca.iter_membership_state().enumerate() {
            places += 1;
            let is_disowned = !disowned.is_empty() && disowned.contains_key(&member.id().member);
            match seen.get_mut(place) {
                Some(known) if known == member && !is_disowned => continue,
                Some(known) => known.clone_from(member),
                None => seen.push(member.clone()),
            }
            disowned.remove(&member.id().member);
            seen_at.insert(member.id().member, place);
            let view = view_of(member, now);
            let same = views.get(&view.member).is_some_and(|old| MemberView { since: now, ..*old } == view);
            if !same {
                changed.insert(view.member, view);
            }
        }
        if places < seen.len() {
            seen.truncate(places);
            *seen_at = seen.iter().enumerate().map(|(at, member)| (member.id().member, at)).collect();
        }
        changed
    }

    /// The same for these members alone, each at the place where it was last seen. `None`: one of them is not there, or foca
    /// has more members or fewer. (Where others stand is found out when they are looked for.)
    fn changed_of(&mut self, now: Moment, members: &[MemberId]) -> Option<BTreeMap<MemberId, MemberView>> {
        let Self { foca, seen, seen_at, views, disowned, .. } = self;
        if foca.iter_membership_state().len() != seen.len() {
            return None;
        }
        let mut found = Vec::with_capacity(members.len());
        for id in members.iter().filter(|id| **id != self.me) {
            let place = *seen_at.get(id)?;
            let member = foca.iter_membership_state().nth(place).filter(|member| member.id().member == *id)?;
            found.push((place, member));
        }
        let mut changed = BTreeMap::new();
        for (place, member) in found {
            let id = member.id().member;
            if disowned.remove(&id).is_none() && seen[place] == *member {
                continue;
            }
            seen[place].clone_from(member);
            let view = view_of(member, now);
            let same = views.get(&id).is_some_and(|old| MemberView { since: now, ..*old } == view);
            if !same {
                changed.insert(id, view);
            }
        }
        Some(changed)
    }

    /// Says what changed, and fits foca's configuration to the number of members.
    fn take_over(&mut self, changed: BTreeMap<MemberId, MemberView>) {
        for (member, view) in changed {
            self.outputs.push_back(MembershipOutput::Changed(view.clone()));
            self.views.insert(member, view);
        }
        if self.views.len() > self.seen.len() + self.disowned.len() {
            let known: std::collections::BTreeSet<_> = self.seen.iter().map(|member| member.id().member).collect();
            self.views.retain(|member, _| known.contains(member) || self.disowned.contains_key(member));
        }
        let cluster_size = self.foca.num_members() + 1;
        // Refused only for a change of what is fixed, and we change nothing fixed.
        if cluster_size != self.cluster_size && self.foca.set_config(self.rules.config(cluster_size)).is_ok() {
            self.cluster_size = cluster_size;
        }
    }
}

#[cfg(test)]
impl Membership {
    /// Whether everything that foca says now has been taken over.
    pub(super) fn is_in_step(&self) -> bool {
        let is_taken = |member: &Member<Identity>| {
            let view = self.views.get(&member.id().member);
            self.is_known(member) && view.is_some_and(|view| *view == view_of(member, view.since))
        };
        let members = self.foca.iter_membership_state();
        members.len() == self.seen.len() && self.foca.iter_membership_state().all(is_taken)
    }
}

/// Whose state may have changed.
enum Concerned {
    Nobody,
    Only(Vec<MemberId>),
    All,
}

/// Whom a timer of foca's speaks of as suspect: its state has changed when it is set, or will when it is due.
fn suspect_of(timer: &Timer<Identity>) -> Option<MemberId> {
    match timer {
        Timer::ChangeSuspectToDown { member_id, .. } => Some(member_id.member),
        Timer::ProbeRandomMember(_)
        | Timer::SendIndirectProbe { .. }
        | Timer::PeriodicAnnounce(_)
        | Timer::PeriodicAnnounceDown(_)
        | Timer::PeriodicGossip(_)
        | Timer::RemoveDown(_) => None,
    }
}

fn identity_of(view: &MemberView) -> Identity {
    Identity { member: view.member, incarnation: view.incarnation, address: view.address }
}

fn view_of(member: &Member<Identity>, since: Moment) -> MemberView {
    let state = match member.state() {
        State::Alive => MemberState::Alive,
        State::Suspect => MemberState::Suspect,
        State::Down => MemberState::Down,
    };
    let Identity { member, incarnation, address } = *member.id();
    MemberView { member, address, incarnation, state, since }
}
