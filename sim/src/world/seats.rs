//! Seats: who votes, who listens, who asks to be let in, and changes of that. What a leader's Raft says of its members is
//! told to its coordinator each second, as the daemon does it; what that wants changed is done in openraft's two steps.
//!
//! Nobody is told of any members in a world without standbys whose disks all live: nothing could come of it.

use rekindle_coordinator::ledger::Seat;
use rekindle_coordinator::voters::{CHANGE_WITHIN, SeatView, VoterAct, VotersView};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{StoreId, Term};

use super::*;
use crate::raft::{Change, ELECTION_MAX, Role, STORES};

/// Between two looks at Raft's members, as the daemon's.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two wishes to be let in: half of the longest election time, as the daemon's.
const ASK_EVERY: Duration = Duration::from_millis(1_500);
/// A wish that was not repeated for so long is none, as the daemon's.
const WISH_LASTS: Duration = Duration::from_secs(15);

/// A change that its leader has begun.
#[derive(Debug)]
struct Changing {
    call: CallId,
    change: Change,
    /// Where its present step stands.
    at: (usize, Term),
}

/// What is under way about seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    looks: bool,
    /// Who asked whom to be let in, with which store, and when.
    joining: BTreeMap<(Ix, Ix), (usize, Moment)>,
    changes: BTreeMap<Ix, Changing>,
    /// Which store was elected in each term.
    pub(super) elected: BTreeMap<Term, usize>,
    /// A voter that is to be replaced by the rules, and since when.
    pub(super) owed: Option<(usize, Moment)>,
}

impl Seats {
    pub(super) fn new(looks: bool) -> Self {
        Self { looks, ..Self::default() }
    }
}

/// A store as the coordinators know it.
fn store_of(number: usize) -> StoreId {
    StoreId(Uuid::from_u128(0x5eed_0000_0000_0000 + number as u128))
}

fn number_of(store: StoreId) -> usize {
    usize::try_from(store.0.as_u128() - 0x5eed_0000_0000_0000).unwrap_or(usize::MAX)
}

impl World {
    /// A keeper's process has started.
    pub(super) fn begin_looking(&mut self, ix: Ix) {
        self.seats.changes.remove(&ix);
        self.seats.joining.retain(|(to, _), _| *to != ix);
        if self.seats.looks && self.hosts[ix].node.is_some() {
            let (host, start) = (ix as u32, self.hosts[ix].start);
            let after = self.millis(0, 1_000);
            self.schedule(after, Happening::Look { host, start });
            self.schedule(ELECTION_MAX, Happening::AskToJoin { host, start });
        }
    }

    /// From now on there is something to be told of members.
    pub(super) fn stores_differ(&mut self) {
        if !std::mem::replace(&mut self.seats.looks, true) {
            let running: Vec<Ix> = self.keepers.iter().copied().filter(|ix| self.hosts[*ix].running).collect();
            for ix in running {
                self.begin_looking(ix);
            }
        }
    }

    pub(super) fn look_at_seats(&mut self, ix: Ix, start: u32) {
        if !self.is_current(ix, start) {
            return;
        }
        self.schedule(LOOK_EVERY, Happening::Look { host: ix as u32, start });
        if self.hosts[ix].frozen {
            return;
        }
        self.follow_owed();
        if let Some(view) = self.view_of(ix) {
            self.arrive(ix, start, false, Input::Voters { view });
        }
    }

    /// What its Raft says of its members, if it leads.
    fn view_of(&self, ix: Ix) -> Option<VotersView> {
        let node = self.hosts[ix].node.as_ref().filter(|node| node.role == Role::Leader && !node.is_broken)?;
        let config = node.config();
        let seen = |number: usize| {
            let (lag, silent) = node.progress_of(number, self.now);
            SeatView { seat: self.seat_of(number), lag: lag.map(|lag| lag as u64), silent }
        };
        let fresh = |(_, (_, at)): &(&(Ix, Ix), &(usize, Moment))| self.now.since(*at) < WISH_LASTS;
        let wishes = self.seats.joining.range((ix, 0)..=(ix, Ix::MAX)).filter(fresh);
        Some(VotersView {
            voters: config.voters().into_iter().map(seen).collect(),
            standbys: config.learners().iter().copied().map(seen).collect(),
            joining: wishes.map(|(_, (store, _))| self.seat_of(*store)).collect(),
            joint: config.joint().map(|target| target.iter().copied().map(store_of).collect()),
        })
    }

    fn seat_of(&self, number: usize) -> Seat {
        Seat { host: self.hosts[number % STORES].name.clone(), store: store_of(number) }
    }

    /// A store that has no seat asks all who keep the ledger for one.
    pub(super) fn ask_to_join(&mut self, ix: Ix, start: u32) {
        if !self.is_current(ix, start) {
            return;
        }
        self.schedule(ASK_EVERY, Happening::AskToJoin { host: ix as u32, start });
        let Some(node) = &self.hosts[ix].node else { return };
        let store = node.number();
        if self.hosts[ix].frozen || node.is_broken || node.config().knows(store) {
            return;
        }
        for to in self.keepers.clone() {
            if to != ix && self.net.carries(ix, to, 0) && self.net.carries(to, ix, 0) {
                let delay = self.delay();
                self.schedule(delay, Happening::Join { to: to as u32, from: ix as u32, store });
            }
        }
    }

    pub(super) fn joins(&mut self, to: Ix, from: Ix, store: usize) {
        if self.hosts[to].running && !self.hosts[to].frozen {
            self.seats.joining.insert((to, from), (store, self.now));
        }
    }

    /// A leader's coordinator wants the members changed.
    pub(super) fn change_voters(&mut self, ix: Ix, start: u32, order: &ChangeVotersOrder) {
        if !self.is_current(ix, start) {
            return;
        }
        let change = match order.act() {
            VoterAct::AddStandby(seat) => Change::Add(number_of(seat.store)),
            VoterAct::RemoveStandby(seat) => Change::Remove(number_of(seat.store)),
            VoterAct::SetVoters(stores) => Change::Set(stores.iter().copied().map(number_of).collect()),
        };
        let line = format!("[{}] changes the voters: {}", self.hosts[ix].name, self.words(&change));
        self.tell(line);
        self.count("changes of voters");
        let call = order.call();
        self.change_ends(ix, Err("another change was begun".into()));
        self.schedule(CHANGE_WITHIN, Happening::ChangeLate { host: ix as u32, start, call });
        self.seats.changes.insert(ix, Changing { call, change, at: (0, Term(0)) });
        self.change_step(ix, start);
    }

    /// One step of the change under way: the joint voters, or the new ones alone.
    pub(super) fn change_step(&mut self, ix: Ix, start: u32) {
        let Some(change) = self.seats.changes.get(&ix).map(|changing| changing.change.clone()) else { return };
        if !self.is_current(ix, start) {
            return;
        }
        let mut begun = Err("no ledger");
        self.raft(ix, |node, out| begun = node.change(&change, out).map(|index| (index, node.term)));
        match begun {
            Ok(at) => {
                if let Some(changing) = self.seats.changes.get_mut(&ix) {
                    changing.at = at;
                }
            }
            Err(why) => self.change_ends(ix, Err(why.into())),
        }
    }

    /// A leader has applied a configuration: the next step of its own change, or the end of it.
    pub(super) fn change_goes_on(&mut self, ix: Ix, index: usize, term: Term) {
        if self.seats.changes.get(&ix).is_none_or(|changing| changing.at != (index, term)) {
            return;
        }
        let start = self.hosts[ix].start;
        if self.hosts[ix].node.as_ref().is_some_and(|node| node.config().joint().is_some()) {
            let after = self.millis(0, 2);
            self.schedule(after, Happening::ChangeStep { host: ix as u32, start });
        } else if !self.percent(self.weather.lost_commits_percent) {
            self.change_ends(ix, Ok(()));
        }
    }

    pub(super) fn change_is_late(&mut self, ix: Ix, start: u32, call: CallId) {
        let is_it = self.seats.changes.get(&ix).is_some_and(|changing| changing.call == call);
        if is_it && self.is_current(ix, start) {
            self.change_ends(ix, Err(Text::new(format!("no answer within {} s", CHANGE_WITHIN.as_secs()))));
        }
    }

    pub(super) fn change_ends(&mut self, ix: Ix, result: Result<(), Text>) {
        if let Some(changing) = self.seats.changes.remove(&ix) {
            let start = self.hosts[ix].start;
            let answer = Input::VotersChanged { call: changing.call, result };
            self.later(ix, start, Duration::from_micros(10), answer);
        }
    }

    fn words(&self, change: &Change) -> String {
        let name = |number: &usize| match number / STORES {
            0 => self.hosts[number % STORES].name.to_string(),
            lost => format!("{} (store {})", self.hosts[number % STORES].name, lost + 1),
        };
        match change {
            Change::Add(number) => format!("{} listens", name(number)),
            Change::Remove(number) => format!("{} listens no more", name(number)),
            Change::Set(voters) => format!("{} vote", voters.iter().map(name).collect::<Vec<_>>().join(", ")),
        }
    }

    /// Whether a leader is in the middle of a change: both sets of voters vote.
    #[must_use]
    pub fn is_between_voters(&self) -> bool {
        let joint = |ix: &Ix| {
            let host = &self.hosts[*ix];
            let node = host.node.as_ref().filter(|node| host.running && node.role == Role::Leader);
            node.is_some_and(|node| node.config().joint().is_some())
        };
        self.keepers.iter().any(joint)
    }
}
