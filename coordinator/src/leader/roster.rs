//! New hosts on probation, and who counts without being there.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::ledger::{ABSENT_ALARM_MS, LeaderCommand, PROBATION_MS};
use crate::membership::MemberState;
use crate::time::Moment;

/// A host on probation that was not heard for this long begins anew: two of its minutely statements were missed.
const GAP_MAX: Duration = Duration::from_secs(150);

/// Who is on probation, and since when it is heard without a gap, by this leader's monotonic clock.
#[derive(Debug)]
pub(super) struct RosterWatch {
    began: Moment,
    heard: BTreeMap<HostName, (Moment, Moment)>,
}

impl RosterWatch {
    pub(super) fn new(now: Moment) -> Self {
        Self { began: now, heard: BTreeMap::new() }
    }

    fn note(&mut self, host: &HostName, now: Moment) {
        match self.heard.get_mut(host) {
            Some((_, last)) if now.since(*last) <= GAP_MAX => *last = now,
            Some(_) | None => {
                self.heard.insert(host.clone(), (now, now));
            }
        }
    }

    /// Whether its probation is over; else when it will be, if it goes on being heard.
    fn is_over(&self, host: &HostName, now: Moment) -> Result<(), Option<Moment>> {
        let Some((since, last)) = self.heard.get(host).copied() else { return Err(None) };
        if now.since(last) > GAP_MAX {
            return Err(None);
        }
        let end = since + Duration::from_millis(PROBATION_MS);
        if last < end { Err(Some(end)) } else { Ok(()) }
    }
}

impl Leader {
    pub(super) fn heard_on_probation(&mut self, cx: &Context<'_>, host: &HostName) {
        if !cx.ledger.probation.is_empty() && cx.ledger.probation.contains_key(host) {
            self.roster.note(host, cx.now.mono);
        }
    }

    pub(super) fn drive_probation(&mut self, cx: &mut Context<'_>) {
        if cx.ledger.probation.is_empty() {
            self.roster.heard.clear();
            return;
        }
        self.roster.heard.retain(|host, _| cx.ledger.probation.contains_key(host));
        let now = cx.now.mono;
        let hosts: Vec<HostName> = cx.ledger.probation.keys().cloned().collect();
        for host in hosts {
            match self.roster.is_over(&host, now) {
                // The count under way must not change.
                Ok(()) if cx.ledger.forbids_roster_change().is_some() => {}
                Ok(()) => self.command(cx, Key::Probation(host.clone()), LeaderCommand::EndProbation { host }),
                Err(Some(end)) if now < end => self.wake_at(end),
                // Over by the clock: its next word ends it.
                Err(Some(_)) => self.wake_at(now + super::HOLD_RETRY),
                Err(None) => {}
            }
        }
    }

    /// How long a new host's probation lasts yet; `None`: it is not heard.
    pub(crate) fn probation_left(&self, host: &HostName, now: Moment) -> Option<Duration> {
        match self.roster.is_over(host, now) {
            Ok(()) => Some(Duration::ZERO),
            Err(Some(end)) => Some(end.since(now)),
            Err(None) => None,
        }
    }

    /// Hosts that were not there for a day, and still count against the 51 %.
    pub(crate) fn long_gone(&self, cx: &Context<'_>) -> Vec<Text> {
        let limit = Duration::from_millis(ABSENT_ALARM_MS);
        let now = cx.now.mono;
        let is_gone = |host: &HostName| {
            let silent = match cx.member(host) {
                Some(view) if view.state == MemberState::Alive => false,
                Some(view) => now.since(view.since) >= limit,
                None => *host != cx.setup.host && now.since(self.roster.began) >= limit,
            };
            let absent = cx.ledger.absence(host).is_some_and(|absence| {
                cx.goodbye(host).is_some() && cx.now.wall.millis_since(absence.at) >= ABSENT_ALARM_MS
            });
            silent || absent
        };
        let gone = cx.ledger.counted().filter(|host| is_gone(host));
        gone.map(|host| {
            Text::new(format!(
                "{host} has been absent for more than a day and counts against the brake (51 % of {}): start it, or \
                 `rekindle host forget {host}`",
                cx.ledger.roster.len()
            ))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probation_table() {
        let host = HostName::new("new").expect("legal");
        let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
        let every = |from: u64, to: u64| (from..=to).step_by(60).collect::<Vec<u64>>();
        let rows: [(Vec<u64>, u64, &str); 6] = [
            (vec![], 700, "not heard"),
            (every(0, 540), 599, "until 600"),
            (every(0, 600), 600, "over"),
            // The time is up, but it has said nothing since: its next word counts.
            (every(0, 540), 601, "until 600"),
            // Silent for three minutes in between: from the beginning.
            ([every(0, 240), every(420, 660)].concat(), 661, "until 1020"),
            (every(0, 540), 800, "not heard"),
        ];
        for (words, now, expected) in rows {
            let mut watch = RosterWatch::new(at(0));
            for word in &words {
                watch.note(&host, at(*word));
            }
            let said = match watch.is_over(&host, at(now)) {
                Ok(()) => "over".to_owned(),
                Err(Some(end)) => format!("until {}", end.as_micros() / 1_000_000),
                Err(None) => "not heard".to_owned(),
            };
            assert_eq!(said, expected, "{words:?} {now}");
        }
    }
}
