//! When a server is tried again: after a growing pause, and after the death of the host it was being built on.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rekindle_proto::fact::{MigrationKind, NovaMigration, Text};
use rekindle_proto::id::{HostName, IncidentId, MigrationId, ServerId};

use super::Leader;
use super::begun::Begun;
use crate::context::Context;
use crate::ledger::{Incident, ServerRecord};

/// Pause after a server's first failed attempt. Compute services report every 10 s: what Nova says of its hosts right after
/// an outage is soon no longer so.
const REST_FIRST: Duration = Duration::from_secs(5);
/// Each further pause is so many times longer: with three tries the last one comes 25 s after the first.
const REST_FACTOR: u32 = 4;
/// Longest pause, however many tries are configured.
const REST_MAX: Duration = Duration::from_secs(120);
/// Part of a pause by which it varies, up or down, in percent: a host's servers fail together, and are not tried together.
const REST_JITTER_PERCENT: u32 = 20;

/// Nova's word for an evacuation whose order the destination has taken out of its queue (nova/compute/manager.py,
/// `rebuild_instance`, by its claim). Before that it may lie there, and be carried out when the destination returns.
const TAKEN: &str = "pre-migrating";

/// The pause after so many failures, varied by `dice`, 0 to 1.
fn rest(failures: u32, dice: f64) -> Duration {
    let factor = REST_FACTOR.saturating_pow(failures.saturating_sub(1));
    let pause = REST_FIRST.saturating_mul(factor).min(REST_MAX);
    let part = f64::from(REST_JITTER_PERCENT) / 100.0;
    pause.mul_f64(1.0 - part + 2.0 * part * dice.clamp(0.0, 1.0))
}

impl Leader {
    /// Why a server rests after a failed attempt; `None`: it may be tried, or will not be. The pause begins when this leader
    /// first sees that the attempt is over. Of one whose last attempt was done it says nothing of use: that one is not tried.
    pub(super) fn rest_after_failure(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        record: &ServerRecord,
    ) -> Option<Text> {
        let now = cx.now.mono;
        let failures = record.attempts.saturating_sub(record.attempts_excused);
        if failures == 0 || failures >= cx.setup.policy.evacuate_tries {
            return None;
        }
        let rests = &mut self.evacuations.get_mut(&incident.id)?.rests;
        let until = match rests.get(&server) {
            Some((known, until)) if *known == failures => *until,
            Some(_) | None => {
                let (high, low) = server.0.as_u64_pair();
                let mut dice = StdRng::seed_from_u64(cx.setup.seed ^ high ^ low.rotate_left(failures));
                let until = now + rest(failures, dice.random_range(0.0..1.0));
                rests.insert(server, (failures, until));
                until
            }
        };
        if now >= until {
            return None;
        }
        let why = record.last_failure.as_ref().map_or("it failed", Text::as_str);
        self.wake_at(until);
        let why = Text::new(format!("attempt {} failed ({why}); the next one after a pause", record.attempts));
        Some(self.with_group_word(cx, incident, (server, record), &why))
    }

    pub(super) fn dead_ends_of(&self, cx: &Context<'_>, id: IncidentId, server: ServerId) -> BTreeSet<MigrationId> {
        let list = self.evacuations.get(&id).and_then(|evacuation| evacuation.migrations.as_ref());
        let migrations = self.migrations_of(id, server);
        let ends = list.zip(migrations).map(|(list, migrations)| self.dead_ends(cx, &list.begun, migrations));
        ends.unwrap_or_default()
    }

    fn migrations_of(&self, id: IncidentId, server: ServerId) -> Option<&Vec<NovaMigration>> {
        self.evacuations.get(&id)?.migrations.as_ref()?.of.get(&server)
    }

    fn has_begun(&self, id: IncidentId, migration: MigrationId) -> bool {
        let list = self.evacuations.get(&id).and_then(|evacuation| evacuation.migrations.as_ref());
        list.is_some_and(|list| list.begun.has(migration))
    }

    /// Of an evacuation whose order may lie in the queue of a host that is off, and that nothing would keep from reading it.
    pub(super) fn queued_text(&self, cx: &Context<'_>, id: IncidentId, server: ServerId) -> Option<Text> {
        let newest = self.migrations_of(id, server)?.iter().max_by_key(|migration| migration.id)?;
        let dest = newest.dest.as_ref().filter(|dest| self.is_proven_off(cx, dest) && !has_gate(cx, dest))?;
        let is_taken = newest.status_text.as_str() == TAKEN || self.has_begun(id, newest.id);
        let is_queued = !newest.status.is_final() && !is_taken;
        is_queued.then(|| {
            Text::new(format!(
                "migration {} to {dest} is {}, and {dest} is off: without a boot gate it would build it when powered on",
                newest.id, newest.status_text
            ))
        })
    }

    /// Evacuations that will never end, though Nova calls them under way: their destination is proven off now. Nova's order
    /// must be out of its queue, or a boot gate keep that queue unread until its own incident is settled: else the rebuild
    /// would be carried out when somebody powers it on.
    fn dead_ends(&self, cx: &Context<'_>, begun: &Begun, migrations: &[NovaMigration]) -> BTreeSet<MigrationId> {
        let is_over = |migration: &&NovaMigration| {
            let Some(dest) = &migration.dest else { return false };
            migration.kind == MigrationKind::Evacuation
                && !migration.status.is_final()
                && (migration.status_text.as_str() == TAKEN || begun.has(migration.id) || has_gate(cx, dest))
                && self.is_proven_off(cx, dest)
        };
        migrations.iter().filter(is_over).map(|migration| migration.id).collect()
    }
}

fn has_gate(cx: &Context<'_>, host: &HostName) -> bool {
    cx.ledger.host(host).and_then(|record| record.gate.as_ref()).is_some_and(|word| word.report.installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_pauses() {
        for (failures, dice, expected_ms) in [
            (1, 0.5, 5_000),
            (1, 0.0, 4_000),
            (1, 1.0, 6_000),
            (2, 0.5, 20_000),
            (3, 0.5, 80_000),
            (4, 0.5, 120_000),
            (u32::MAX, 0.5, 120_000),
        ] {
            assert_eq!(rest(failures, dice).as_millis(), expected_ms, "{failures} {dice}");
        }
    }
}
