//! How far Nova's evacuations are: one question for all incidents.
//!
//! The newest evacuation records of the whole cloud tell what has become of every evacuation under way, in one call, however
//! many hosts died. The question is asked fast while things change, and ever more slowly while they do not. It only brings
//! news: that a record does *not* exist is concluded from the full list of a host alone, which is read more seldom.

use std::time::Duration;

use rekindle_proto::fact::{NovaError, NovaMigration, Text};
use rekindle_proto::id::{HostName, IncidentId};
use rekindle_proto::status::Phase;

use super::backoff::Backoff;
use super::evacuation::MigrationList;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::time::Moment;

/// Between two questions while evacuations begin and end. Most of the time it is the calls whose claim we have not seen
/// (`recovery::UNCLAIMED_MAX`) that keep the next one waiting, as a log of a recovery of 50 servers showed (`docs/benchmarks.md`).
const NEWS_FAST: Duration = Duration::from_millis(500);

/// The longest between two while nothing changes: so late is the end of a rebuild noticed at worst, and its place given to
/// the next server.
const NEWS_SLOW: Duration = Duration::from_secs(2);

/// Records asked for, of each evacuation under way: itself, and those that began or ended since, or before it.
const ROWS_EACH: usize = 4;
/// Records asked for at least.
const ROWS_MIN: usize = 32;
/// Records asked for at most: about 100 KB. What is older than so many newer ones is found by the full list.
const ROWS_MAX: usize = 256;

/// The one question.
#[derive(Debug, Default)]
pub(super) struct MovesDesk {
    asked: Option<Moment>,
    asking: bool,
    /// The present pause.
    every: Option<Duration>,
    backoff: Option<Backoff>,
}

impl Leader {
    /// Asks for news when they are due.
    pub(super) fn drive_moves(&mut self, cx: &mut Context<'_>) {
        let evacuates = |id: &IncidentId| {
            cx.ledger.incidents.get(id).is_some_and(|incident| {
                incident.phase == Phase::Evacuating
                    && incident.servers.values().any(|record| record.intent.is_some() && record.fate.is_none())
            })
        };
        // The full list comes first: news are merged into it.
        let is_listed = |leader: &Self| {
            leader.evacuations.iter().any(|(id, evacuation)| evacuation.migrations.is_some() && evacuates(id))
        };
        if self.moves.asking || !is_listed(self) {
            return;
        }
        let now = cx.now.mono;
        let every = *self.moves.every.get_or_insert(NEWS_FAST);
        let due = self.moves.asked.map_or(now, |asked| asked + every);
        let due = self.moves.backoff.map_or(due, |backoff| due.max(backoff.until));
        if now < due {
            self.wake_at(due);
            return;
        }
        let rows = self.pace_under_way().saturating_mul(ROWS_EACH).clamp(ROWS_MIN, ROWS_MAX);
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::NewestEvacuations { rows } });
        self.nova.insert(call, NovaCall::Moves);
        (self.moves.asked, self.moves.asking) = (Some(now), true);
    }

    /// An evacuation was begun: its record is looked for soon.
    pub(super) fn expect_moves(&mut self) {
        self.moves.every = Some(NEWS_FAST);
    }

    pub(super) fn take_moves(&mut self, cx: &mut Context<'_>, result: Result<NovaAnswer, NovaError>) {
        let now = cx.now.mono;
        self.moves.asking = false;
        let records = match result {
            Ok(NovaAnswer::Migrations(records)) => records,
            Ok(_) => return,
            Err(error) => {
                let backoff = Backoff::after(self.moves.backoff, now, cx.setup.seed);
                self.moves.backoff = Some(backoff);
                self.wake_at(backoff.until);
                for evacuation in self.evacuations.values_mut().filter(|evacuation| evacuation.nova_error.is_none()) {
                    evacuation.news_error = Some(Text::new(error.to_string()));
                }
                return;
            }
        };
        self.moves.backoff = None;
        let mut changed = false;
        for (id, evacuation) in &mut self.evacuations {
            evacuation.news_error = None;
            let Some(incident) = cx.ledger.incidents.get(id) else { continue };
            let Some(list) = &mut evacuation.migrations else { continue };
            list.news = self.moves.asked;
            for record in &records {
                changed |= list.merge(&incident.host, record);
            }
        }
        let slower = self.moves.every.map_or(NEWS_FAST, |every| (every * 2).min(NEWS_SLOW));
        self.moves.every = Some(if changed { NEWS_FAST } else { slower });
    }
}

impl MigrationList {
    /// Takes in a record that names the host at either end. Gives back whether it says anything new.
    fn merge(&mut self, host: &HostName, record: &NovaMigration) -> bool {
        if record.source.as_ref() != Some(host) && record.dest.as_ref() != Some(host) {
            return false;
        }
        let mut record = record.clone();
        self.begun.complete(&mut record);
        let known = self.of.entry(record.server).or_default();
        match known.iter_mut().find(|known| known.id == record.id) {
            // An answer that was overtaken by the full list does not bring back what is over.
            Some(known) if known.status.is_final() && !record.status.is_final() => false,
            Some(known) if *known == record => false,
            Some(known) => {
                *known = record;
                true
            }
            None => {
                known.push(record);
                true
            }
        }
    }
}

impl MigrationList {
    /// News may have overtaken this list while it was read: what they told stays told.
    pub(super) fn keep_news_of(&mut self, before: Self) {
        self.news = before.news;
        self.begun = before.begun;
        for record in self.of.values_mut().flatten() {
            self.begun.complete(record);
        }
        for (server, records) in before.of {
            let listed = self.of.entry(server).or_default();
            let newest = listed.iter().map(|record| record.id).max();
            for record in records {
                match listed.iter_mut().find(|listed| listed.id == record.id) {
                    Some(listed) if record.status.is_final() && !listed.status.is_final() => *listed = record,
                    Some(_) => {}
                    None if Some(record.id) > newest => listed.push(record),
                    None => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_proto::fact::{MigrationKind, MigrationStatus};
    use rekindle_proto::id::{MigrationId, ServerId};
    use uuid::Uuid;

    use super::*;
    use crate::leader::begun::Begun;

    #[test]
    fn news_are_merged_and_never_older_than_what_is_known() {
        let host = |name: &str| HostName::new(name).expect("legal");
        let record = |id: u64, from: &str, to: &str, status| NovaMigration {
            id: MigrationId(id),
            server: ServerId(Uuid::nil()),
            kind: MigrationKind::Evacuation,
            status,
            status_text: "".into(),
            source: Some(host(from)),
            dest: Some(host(to)),
        };
        use MigrationStatus::{Done, Failed, UnderWay};
        let mut list = MigrationList { asked: Moment::ZERO, news: None, of: BTreeMap::new(), begun: Begun::default() };
        for (news, is_new, known) in [
            (record(4, "a", "b", UnderWay), true, vec![UnderWay]),
            (record(4, "a", "b", UnderWay), false, vec![UnderWay]),
            (record(3, "x", "y", UnderWay), false, vec![UnderWay]),
            (record(4, "a", "b", Done), true, vec![Done]),
            (record(4, "a", "b", UnderWay), false, vec![Done]),
            (record(5, "x", "a", Failed), true, vec![Done, Failed]),
        ] {
            assert_eq!(list.merge(&host("a"), &news), is_new, "{news:?}");
            let statuses: Vec<_> = list.of.values().flatten().map(|record| record.status).collect();
            assert_eq!(statuses, known, "{news:?}");
        }
        // A full list that was asked for before, and is answered after.
        let of = BTreeMap::from([(ServerId(Uuid::nil()), vec![record(4, "a", "b", UnderWay)])]);
        let mut late = MigrationList { asked: Moment::ZERO, news: None, of, begun: Begun::default() };
        late.keep_news_of(list);
        let statuses: Vec<_> = late.of.values().flatten().map(|record| record.status).collect();
        assert_eq!(statuses, [Done, Failed]);
    }
}
