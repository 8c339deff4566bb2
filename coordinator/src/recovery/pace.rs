//! How many evacuations Nova is given at once: more while it answers well, half as many when it does not.
//!
//! Additive increase, multiplicative decrease, as TCP finds the capacity of a path (Jacobson 1988; RFC 5681): nobody can
//! say beforehand what a control plane bears, and it changes while it is used. The window counts servers whose evacuation
//! is under way, over all incidents, from the intent to its end. It starts at [`AT_ONCE_START`]. Until overload was met once,
//! each call that found it full and was answered fast adds a place, up to [`AT_ONCE_OPENED`], and each success that found it
//! full adds one; from then on a full window of successes adds one. Each of these signs halves it, at most once per round
//! trip (calls that were on their way when it was halved say nothing new):
//!
//! - Nova says that it is too much (429, 413), or its front that it is overloaded (5xx);
//! - a call is not answered in time, or its connection breaks;
//! - the smoothed answer time of evacuate calls has grown to [`LATENCY_RISE`] times its own floor.
//!
//! Nothing here is kept: a new leader begins from what the ledger shows under way ([`Pace::resumed`]).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rekindle_proto::fact::NovaError;
use rekindle_proto::id::HostName;

use crate::time::Moment;

/// Evacuations at once before anything is known: above Masakari's 3 per host, and what a small control plane bears.
pub const AT_ONCE_START: usize = 8;

/// How far fast answers alone open the window. An answer says that the API, its database and its message queue keep up; how
/// the schedulers and computes behind the queue fare only a server that runs again says. Half of [`AT_ONCE_MAX`], and what
/// four destinations take by Nova's own bound.
pub const AT_ONCE_OPENED: usize = 32;

/// The window is never smaller: the next success has to come from somewhere.
pub const AT_ONCE_MIN: usize = 1;

/// Default of the largest window. Beyond it the bottleneck is no longer the API: each destination rebuilds a few servers at
/// a time, and everything else waits in queues that a dead destination takes with it.
pub const AT_ONCE_MAX: usize = 64;

/// Rebuilds under way on one destination: Nova's own bound on its builds at once (`max_concurrent_builds`, 10), which
/// rebuilds do not obey.
pub const PER_DESTINATION_MAX: usize = 10;

/// Answer time that counts as risen, against the fastest answers seen. Nova answers an evacuate call in 46 ms when idle and
/// in 200 ms while it works well with many on a small one: between the two is no overload.
pub const LATENCY_RISE: u32 = 8;

/// While answers take no longer, they open the window.
pub const LATENCY_CALM: Duration = Duration::from_millis(750);

/// While answers take no longer, nothing is overloaded, however fast the first ones were. Twice [`LATENCY_CALM`]: between the two
/// the window stays as it is, so that it is not opened and halved by turns.
pub const LATENCY_HIGH: Duration = Duration::from_millis(1_500);

/// Evacuate calls on their way to Nova at once. Its API has some workers, by default as many as cores, and what is sent beyond
/// them waits there: more at once are answered no sooner, and their answer times tell of our own queue instead of Nova's load.
pub const UNANSWERED_MAX: usize = 4;

/// Weight of the newest answer in the smoothed time: one in so many (RFC 6298's alpha).
const SMOOTHING: u32 = 8;

/// The window moves in thousandths of a place.
const PLACE: u64 = 1_000;

/// What the answer to a call says about Nova's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It answered, whatever it said of that server.
    Answered,
    /// It is overloaded, or was not reached.
    Overloaded,
    /// Nothing: the call was not sent, or met a closed door that load does not close.
    None,
}

/// What an answer says about load.
#[must_use]
pub fn sign_of<T>(result: &Result<T, NovaError>) -> Sign {
    match result {
        Ok(_) => Sign::Answered,
        Err(NovaError::Refused { status: 408 | 413 | 429, .. }) => Sign::Overloaded,
        // Expired tokens and unknown microversions say nothing of load.
        Err(NovaError::Refused { status: 401 | 406, .. }) => Sign::None,
        Err(NovaError::Refused { .. }) => Sign::Answered,
        // 5xx, time-outs and broken connections: nobody knows what became of the call.
        Err(NovaError::Unknown(_) | NovaError::Malformed(_)) => Sign::Overloaded,
        Err(NovaError::NotSent(_)) => Sign::None,
    }
}

/// The window was halved, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halved {
    /// Evacuations at once before.
    pub from: usize,
    /// And now.
    pub to: usize,
    /// The smoothed answer time and its floor, if that had risen; `None`: Nova said that it is too much, or did not answer.
    pub risen: Option<(Duration, Duration)>,
}

impl fmt::Display for Halved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, risen } = self;
        write!(f, "Nova is given {to} evacuations at once instead of {from}: ")?;
        match risen {
            Some((now, floor)) => {
                write!(f, "its answers take {} ms, {} ms at their fastest", now.as_millis(), floor.as_millis())
            }
            None => f.write_str("it is overloaded, or does not answer"),
        }
    }
}

/// How many evacuations may be under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// In thousandths.
    window: u64,
    most: usize,
    /// Overload was met: the window grows slowly from then on.
    is_wary: bool,
    /// When it was last halved: calls sent before that say nothing new.
    halved: Option<Moment>,
    /// Fastest answer so far.
    floor: Option<Duration>,
    smoothed: Option<Duration>,
}

impl Pace {
    /// Before the first call. `most`: the configured maximum, at least [`AT_ONCE_MIN`].
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self::of(AT_ONCE_START, most)
    }

    /// As a new leader finds it: while servers wait, what is under way is what the last leader's window allowed. `under_way`:
    /// open intents of the ledger; `waiting`: servers without one and without a fate.
    #[must_use]
    pub fn resumed(under_way: usize, waiting: usize, most: usize) -> Self {
        if under_way == 0 || waiting == 0 { Self::new(most) } else { Self::of(under_way, most) }
    }

    fn of(window: usize, most: usize) -> Self {
        let most = most.max(AT_ONCE_MIN);
        let window = places(window.clamp(AT_ONCE_MIN, most));
        Self { window, most, is_wary: false, halved: None, floor: None, smoothed: None }
    }

    /// How many evacuations may be under way at once.
    #[must_use]
    pub fn at_once(&self) -> usize {
        usize::try_from(self.window / PLACE).unwrap_or(usize::MAX).clamp(AT_ONCE_MIN, self.most)
    }

    /// An evacuation has ended well. `under_way`: how many were, with this one: a window that was not full has not been tried.
    pub fn succeeded(&mut self, under_way: usize) {
        if under_way < self.at_once() {
            return;
        }
        let more = if self.is_wary { PLACE * PLACE / self.window.max(PLACE) } else { PLACE };
        self.window = self.window.saturating_add(more.max(1)).min(places(self.most));
    }

    /// An evacuate call was answered, or given up. `under_way`: as in [`Pace::succeeded`]. Gives back what has to be said.
    pub fn answered(&mut self, sign: Sign, under_way: usize, sent: Moment, now: Moment) -> Option<Halved> {
        match sign {
            Sign::None => None,
            Sign::Overloaded => self.halve(sent, now, None),
            Sign::Answered => {
                let halved = self.took(now.since(sent), sent, now);
                self.open(under_way);
                halved
            }
        }
    }

    /// For people: the smoothed answer time of evacuate calls, if any was answered.
    #[must_use]
    pub fn answer_time(&self) -> Option<Duration> {
        self.smoothed
    }

    fn took(&mut self, time: Duration, sent: Moment, now: Moment) -> Option<Halved> {
        let floor = self.floor.map_or(time, |floor| floor.min(time));
        let smoothed = self.smoothed.map_or(time, |old| (old * (SMOOTHING - 1) + time) / SMOOTHING);
        (self.floor, self.smoothed) = (Some(floor), Some(smoothed));
        let is_risen = smoothed > LATENCY_HIGH && smoothed > floor.saturating_mul(LATENCY_RISE);
        if is_risen { self.halve(sent, now, Some((smoothed, floor))) } else { None }
    }

    fn open(&mut self, under_way: usize) {
        let is_calm = self.smoothed.is_some_and(|smoothed| smoothed <= LATENCY_CALM);
        let is_tried = under_way >= self.at_once();
        if is_calm && is_tried && !self.is_wary && self.window < places(AT_ONCE_OPENED.min(self.most)) {
            self.window += PLACE;
        }
    }

    fn halve(&mut self, sent: Moment, now: Moment, risen: Option<(Duration, Duration)>) -> Option<Halved> {
        self.is_wary = true;
        if self.halved.is_some_and(|halved| sent <= halved) {
            return None;
        }
        let from = self.at_once();
        self.window = (self.window / 2).max(places(AT_ONCE_MIN));
        self.halved = Some(now);
        // The answers to come are those of the smaller window.
        self.smoothed = None;
        let to = self.at_once();
        (to < from).then_some(Halved { from, to, risen })
    }
}

/// How long a call that nobody has claimed may still be waiting for the very host that others sent with it go to. Later, wherever
/// it is, it does not mislead the scheduler.
pub const CLAIMED_WITHIN: Duration = Duration::from_secs(10);

/// Calls at once that may still be waiting for one and the same host ([`Unplaced::young`]). Without a bound the first 18 of 50
/// servers went to one host of ten (`docs/benchmarks.md`). With fewer, computes would stand idle until our own news of a claim,
/// which come twice a second at best.
pub const UNCLAIMED_MAX: usize = 6;

/// Calls of which no host is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unplaced {
    /// All of them: each takes a place somewhere.
    pub all: usize,
    /// Those that were sent within [`CLAIMED_WITHIN`], or will be sent. They may all be one host's: the scheduler goes by what
    /// computes have claimed, so calls that are sent together, before the first of them has claimed anything, get the same host
    /// (26 of 50 servers, measured), which rebuilds them one beside the other while the rest stand idle.
    pub young: usize,
}

/// How many more evacuations the destinations have places for. Where the scheduler chooses, nobody can keep one host from
/// being chosen: what is seen there counts, and while all are full, nothing begins; nor while [`UNCLAIMED_MAX`] calls are on
/// their way to nobody knows where. `usable`: hosts that may be chosen. Rebuilds on others hold no place of theirs.
#[must_use]
pub fn free_places<'a>(
    usable: impl Iterator<Item = &'a HostName>,
    rebuilding: &BTreeMap<HostName, usize>,
    unplaced: Unplaced,
) -> usize {
    let free = |host: &HostName| PER_DESTINATION_MAX.saturating_sub(rebuilding.get(host).copied().unwrap_or(0));
    let all = usable.map(free).fold(0, usize::saturating_add).saturating_sub(unplaced.all);
    all.min(UNCLAIMED_MAX.saturating_sub(unplaced.young))
}

fn places(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX / PLACE).saturating_mul(PLACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Duration = Duration::from_millis(50);

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn it_starts_at_eight_grows_by_successes_and_stops_at_the_maximum() {
        for (most, successes, expected) in [(64, 0, 8), (64, 1, 9), (64, 20, 28), (64, 500, 64), (4, 0, 4), (0, 9, 1)] {
            let mut pace = Pace::new(most);
            for _ in 0..successes {
                pace.succeeded(pace.at_once());
            }
            assert_eq!(pace.at_once(), expected, "{most} {successes}");
        }
    }

    #[test]
    fn a_window_that_was_not_full_does_not_grow() {
        let mut pace = Pace::new(64);
        pace.succeeded(7);
        assert_eq!(pace.at_once(), 8);
    }

    #[test]
    fn fast_answers_open_a_full_window_half_way() {
        let slow = LATENCY_CALM * 2;
        for (most, answers, time, full, expected) in [
            (64, 1, CALM, true, 9),
            (64, 100, CALM, true, AT_ONCE_OPENED),
            (12, 100, CALM, true, 12),
            (4, 100, CALM, true, 4),
            (64, 100, CALM, false, 8),
            (64, 100, slow, true, 8),
        ] {
            let mut pace = Pace::new(most);
            for _ in 0..answers {
                let under_way = if full { pace.at_once() } else { pace.at_once() - 1 };
                pace.answered(Sign::Answered, under_way, at(0), at(0) + time);
            }
            assert_eq!(pace.at_once(), expected, "{most} {answers} {time:?} {full}");
        }
        // Successes carry it on, and after an overload answers alone open nothing.
        let mut pace = Pace::new(64);
        pace.answered(Sign::Overloaded, 8, at(0), at(1));
        pace.answered(Sign::Answered, 4, at(2), at(3));
        assert_eq!(pace.at_once(), 4);
    }

    #[test]
    fn overload_halves_it_once_per_round_trip() {
        let mut pace = Pace::new(64);
        // Eight calls that were sent together fail one after the other: one sign.
        for ms in 0..8 {
            pace.answered(Sign::Overloaded, 8, at(0), at(100 + ms));
        }
        assert_eq!(pace.at_once(), 4);
        pace.answered(Sign::Overloaded, 8, at(200), at(300));
        assert_eq!(pace.at_once(), 2);
        for round in 2..9 {
            pace.answered(Sign::Overloaded, 8, at(round * 200), at(round * 200 + 100));
        }
        assert_eq!(pace.at_once(), AT_ONCE_MIN);
        // Wary now: a whole window of successes for one place more.
        pace.succeeded(1);
        assert_eq!(pace.at_once(), 2);
        pace.succeeded(2);
        assert_eq!(pace.at_once(), 2);
        pace.succeeded(2);
        pace.succeeded(2);
        assert_eq!(pace.at_once(), 3);
    }

    #[test]
    fn rising_answer_times_halve_it_and_slow_clouds_do_not() {
        let run = |times: &[(Duration, usize)]| {
            let mut pace = Pace::new(64);
            let mut ms = 1;
            for (time, calls) in times {
                for _ in 0..*calls {
                    pace.answered(Sign::Answered, 0, at(ms), at(ms) + *time);
                    ms += 2_000;
                }
            }
            pace.at_once()
        };
        let slow = Duration::from_secs(2);
        assert_eq!(run(&[(CALM, 30)]), 8, "calm");
        assert_eq!(run(&[(slow, 30)]), 8, "slow from the beginning");
        assert_eq!(run(&[(CALM, 5), (Duration::from_millis(700), 30)]), 8, "risen, and still fast");
        assert_eq!(run(&[(CALM, 5), (slow, 1)]), 8, "one slow answer");
        assert_eq!(run(&[(CALM, 5), (slow, 4)]), 8, "some slow answers");
        assert_eq!(run(&[(CALM, 5), (slow * 2, 4)]), 4, "risen");
    }

    #[test]
    fn a_window_that_shrinks_says_from_what_to_what_and_why() {
        let slow = Duration::from_secs(2);
        let mut pace = Pace::new(64);
        let said = pace.answered(Sign::Overloaded, 8, at(10), at(20)).expect("halved").to_string();
        assert_eq!(said, "Nova is given 4 evacuations at once instead of 8: it is overloaded, or does not answer");
        assert_eq!(pace.answered(Sign::Overloaded, 8, at(15), at(30)), None, "the same round trip");
        assert_eq!(pace.answered(Sign::Answered, 4, at(30), at(30) + CALM), None);
        let halved = (0..20).find_map(|_| pace.answered(Sign::Answered, 4, at(100), at(100) + slow)).expect("risen");
        assert_eq!((halved.from, halved.to), (4, 2));
        let (risen, floor) = halved.risen.expect("by its answers");
        assert!(risen > LATENCY_HIGH && floor == CALM, "{halved}");
        // At its least there is nothing to say.
        for ms in [20_000, 40_000, 60_000] {
            let halved = pace.answered(Sign::Overloaded, 1, at(ms), at(ms + 1));
            assert_eq!(halved.is_some(), ms == 20_000, "{halved:?}");
        }
    }

    #[test]
    fn the_table_of_signs() {
        let refused = |status| Err(NovaError::Refused { status, text: "".into() });
        for (result, expected) in [
            (Ok(()), Sign::Answered),
            (refused(400), Sign::Answered),
            (refused(409), Sign::Answered),
            (refused(401), Sign::None),
            (refused(406), Sign::None),
            (refused(429), Sign::Overloaded),
            (refused(413), Sign::Overloaded),
            (Err(NovaError::Unknown("HTTP 503".into())), Sign::Overloaded),
            (Err(NovaError::Malformed("".into())), Sign::Overloaded),
            (Err(NovaError::NotSent("the permit had passed".into())), Sign::None),
        ] {
            assert_eq!(sign_of(&result), expected, "{result:?}");
        }
    }

    #[test]
    fn a_new_leader_goes_on_at_the_pace_of_the_last() {
        for (under_way, waiting, most, expected) in
            [(0, 30, 64, 8), (20, 30, 64, 20), (2, 30, 64, 2), (2, 0, 64, 8), (90, 30, 64, 64)]
        {
            assert_eq!(Pace::resumed(under_way, waiting, most).at_once(), expected, "{under_way} {waiting}");
        }
    }

    #[test]
    fn places_of_destinations() {
        let host = |name: &str| HostName::new(name).expect("legal");
        let (a, b) = (host("a"), host("b"));
        let rebuilding = |on_a: usize, on_b: usize| BTreeMap::from([(a.clone(), on_a), (b.clone(), on_b)]);
        // On a, on b, unplaced, of these young; how many more.
        for (on_a, on_b, all, young, expected) in [
            (0, 0, 0, 0, 6),
            (10, 6, 0, 0, 4),
            (14, 10, 0, 0, 0),
            (10, 3, 4, 0, 3),
            (0, 0, 40, 0, 0),
            // All that are young may be on one host, whichever has places.
            (0, 0, 4, 4, 2),
            (0, 0, 6, 6, 0),
            (0, 0, 10, 3, 3),
            (10, 0, 8, 5, 1),
        ] {
            let unplaced = Unplaced { all, young };
            let found = free_places([&a, &b].into_iter(), &rebuilding(on_a, on_b), unplaced);
            assert_eq!(found, expected, "{on_a} {on_b} {unplaced:?}");
        }
        // What runs on a host that may not be chosen takes nobody's place.
        assert_eq!(free_places([&a].into_iter(), &rebuilding(5, 9), Unplaced::default()), 5);
    }
}
