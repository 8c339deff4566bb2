//! One suspicion: what was asked and found, and what that amounts to.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName, LogIndex};

use super::life::Heartbeat;
use crate::context::Context;
use crate::ledger::{Ledger, VerdictRecord};
use crate::life::{Life, LifeBook};
use crate::time::Moment;
use crate::verdict::{ELIGIBLE_MIN, Suspicion, TESTIMONIES_NEEDED_MAX};

/// How long a testimony counts. A verdict may be held for hours by a brake; it never rests on what was found before.
const TESTIMONY_AGE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct SuspectCase {
    pub(super) suspicion: Suspicion,
    pub(super) asked: BTreeMap<HostName, CallId>,
    /// When each testimony came: an old one says nothing of now.
    pub(super) given: BTreeMap<HostName, Moment>,
    pub(super) last_asked: Option<Moment>,
    pub(super) hold: Option<Text>,
    /// What was seen to live there, and what that amounts to.
    pub(super) book: LifeBook,
    pub(super) life: Life,
    pub(super) heartbeat: Heartbeat,
    /// Its devices were read for this suspicion.
    pub(super) read_early: bool,
    /// All members were told that it is gone.
    pub(super) told: bool,
    /// Whether it is settled that it is gone, and on what that was judged: in a storm every suspect asks it of every other.
    settled: Option<(Grounds, bool)>,
}

/// What changes whenever something changes that a judgement rests on: the ledger's last entry, how many were heard, how many
/// testified and when the last did, and whether the stop was lifted.
type Grounds = (LogIndex, usize, usize, Option<Moment>, bool);

impl SuspectCase {
    pub(super) fn new(suspicion: Suspicion) -> Self {
        Self {
            suspicion,
            asked: BTreeMap::new(),
            given: BTreeMap::new(),
            last_asked: None,
            hold: None,
            book: LifeBook::default(),
            life: Life::None,
            heartbeat: Heartbeat::default(),
            read_early: false,
            told: false,
            settled: None,
        }
    }

    /// Whether the testimony, as it is, suffices to say that it is gone.
    pub(super) fn is_settled(&mut self, ledger: &Ledger) -> bool {
        let Suspicion { heard, testimonies, lifted, .. } = &self.suspicion;
        let newest = self.given.values().max().copied();
        let grounds = (ledger.applied, heard.len(), testimonies.len(), newest, *lifted);
        match self.settled {
            Some((known, settled)) if known == grounds => settled,
            Some(_) | None => {
                let settled = self.suspicion.judge(&ledger.roster, heard).is_ok();
                self.settled = Some((grounds, settled));
                settled
            }
        }
    }

    /// Whether as many have testified, each for itself, as a verdict may ever need in a roster of so many: the others' doubt
    /// is answered, and the wait for a refutation may be shorter.
    pub(super) fn is_confirmed(&self, roster: usize) -> bool {
        let needed = TESTIMONIES_NEEDED_MAX.min(roster.saturating_sub(1)).max(ELIGIBLE_MIN);
        self.suspicion.path.is_none() && self.suspicion.testimonies.len() >= needed
    }

    /// Writes down when each testimony came.
    pub(super) fn note_times(&self, verdict: &mut VerdictRecord) {
        for record in &mut verdict.testimonies {
            let after = self.given.get(&record.accuser).map_or(Duration::ZERO, |at| at.since(self.suspicion.began));
            record.after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// From now on it is suspect like any other: nothing found before counts.
    pub(super) fn begin_anew(&mut self, cx: &Context<'_>) {
        let boot = self.suspicion.boot;
        let host = self.suspicion.host.clone();
        let suspicion = Suspicion::new(host, boot, cx.now.mono, cx.now.wall, &cx.setup.host);
        *self = Self { heartbeat: std::mem::take(&mut self.heartbeat), ..Self::new(suspicion) };
    }

    /// Testimony that has grown old counts no more, and its giver is asked again.
    pub(super) fn forget_old_testimony(&mut self, now: Moment) {
        let old: Vec<HostName> = self
            .given
            .iter()
            .filter(|(_, at)| now.since(**at) >= TESTIMONY_AGE_MAX)
            .map(|(host, _)| host.clone())
            .collect();
        for accuser in old {
            self.given.remove(&accuser);
            self.asked.remove(&accuser);
            self.suspicion.testimonies.remove(&accuser);
            self.suspicion.signs.remove(&accuser);
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_proto::id::{PathName, WallTime};

    use super::*;

    fn host(number: usize) -> HostName {
        HostName::new(&format!("cmp-{number}")).expect("legal")
    }

    /// As many as a verdict may ever need: one accuser shortens nothing, however large or small the cluster.
    #[test]
    fn a_suspicion_is_confirmed_by_as_many_as_a_verdict_needs() {
        for (roster, needed) in [(2, 2), (3, 2), (4, 3), (5, 3), (2_000, 3)] {
            for (given, path) in [(0, false), (1, false), (2, false), (3, false), (4, false), (4, true)] {
                let mut suspicion = Suspicion::new(host(0), None, Moment::ZERO, WallTime(0), &host(1));
                suspicion.path = path.then(|| PathName::new("storage").expect("legal"));
                suspicion.testimonies = (1..=given).map(|number| (host(number), Vec::new())).collect();
                let is_confirmed = SuspectCase::new(suspicion).is_confirmed(roster);
                assert_eq!(is_confirmed, given >= needed && !path, "{given} of {roster}, one path: {path}");
            }
        }
    }
}
