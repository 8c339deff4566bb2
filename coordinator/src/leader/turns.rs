//! Whose turn it is: the most urgent servers first, over all incidents, and groups that wait for the group before.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::IncidentId;
use rekindle_proto::status::Phase;

use super::Leader;
use crate::context::Context;
use crate::ledger::ServerRecord;
use crate::recovery::Urgency;
use crate::time::Moment;

/// Servers of one priority and incident.
type GroupKey = (Reverse<u8>, IncidentId);

/// Which servers keep less urgent ones waiting.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Since when nothing more urgent is left than these.
    since: BTreeMap<GroupKey, Moment>,
    /// Those that have had their time, which was told.
    over: BTreeSet<GroupKey>,
    front: Option<Front>,
}

/// The priority below which everything waits.
#[derive(Debug)]
struct Front {
    priority: u8,
    unsettled: usize,
    /// One of them.
    name: Text,
    until: Moment,
}

/// The servers of one priority that are not settled.
#[derive(Debug, Default)]
struct Unsettled {
    count: usize,
    name: Text,
}

/// How fast an incident's servers are settled. For people: nothing rests on it.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    /// When this leader first saw them, and how many were settled then.
    began: Option<(Moment, usize)>,
    /// How long each took since; `None`: none was settled.
    pub(super) each: Option<Duration>,
}

impl Estimate {
    /// So many are settled now.
    pub(super) fn note(&mut self, now: Moment, settled: usize) {
        let (at, before) = *self.began.get_or_insert((now, settled));
        let since = u32::try_from(settled.saturating_sub(before)).unwrap_or(u32::MAX);
        self.each = (since > 0).then(|| now.since(at) / since);
    }
}

impl Leader {
    /// Looks which group is at the front, if groups wait for each other.
    pub(super) fn watch_groups(&mut self, cx: &mut Context<'_>) {
        let (now, order) = (cx.now.mono, &cx.setup.policy.order);
        self.groups.front = None;
        if !order.wait_for_previous {
            return;
        }
        let mut groups: BTreeMap<GroupKey, Unsettled> = BTreeMap::new();
        for incident in cx.ledger.open_incidents().filter(|incident| incident.phase == Phase::Evacuating) {
            for record in incident.servers.values().filter(|record| record.fate.is_none()) {
                let group = groups.entry((Reverse(record.priority), incident.id)).or_default();
                group.count += 1;
                group.name = record.name.clone();
            }
        }
        self.groups.since.retain(|key, _| groups.contains_key(key));
        self.groups.over.retain(|key| groups.contains_key(key));
        let mut front: Option<Front> = None;
        for (key, group) in &groups {
            let priority = key.0.0;
            if front.as_ref().is_some_and(|front| front.priority > priority) {
                break;
            }
            let since = self.groups.since.entry(*key).or_insert(now);
            let evacuation = self.evacuations.get(&key.1);
            // While Nova does not answer nothing can be settled: that is not the group's time.
            if evacuation.is_some_and(|of| of.nova_error.is_some() || of.news_error.is_some() || of.is_pausing(now)) {
                *since = now;
            }
            let until = *since + order.group_timeout;
            if now >= until {
                if self.groups.over.insert(*key) {
                    let count = group.count;
                    let seconds = order.group_timeout.as_secs();
                    let text = format!(
                        "incident {}: {count} servers of priority {priority} ({} is one) are not settled after {seconds} s; \
                         less urgent ones wait no longer",
                        key.1, group.name
                    );
                    cx.out.warn(None, text);
                }
                continue;
            }
            let so_far = front.take();
            let unsettled = so_far.as_ref().map_or(0, |front| front.unsettled) + group.count;
            let until = so_far.map_or(until, |front| front.until.max(until));
            front = Some(Front { priority, unsettled, name: group.name.clone(), until });
        }
        if let Some(until) = front.as_ref().map(|front| front.until) {
            self.wake_at(until);
        }
        self.groups.front = front;
    }

    /// Why a server has to wait for more urgent ones; `None`: it may begin.
    ///
    /// Whoever lets servers arrive stopped and starts them in order asks this before the start instead of before the call.
    pub(super) fn group_wait(&self, now: Moment, record: &ServerRecord) -> Option<Text> {
        let front = self.groups.front.as_ref().filter(|front| front.priority > record.priority)?;
        let others = match front.unsettled {
            0 | 1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        let left = front.until.since(now).as_secs();
        Some(Text::new(format!(
            "waits until the servers of priority {} are settled ({}{others}; at most {left} s more)",
            front.priority, front.name
        )))
    }

    /// More urgent servers of other incidents that are ready for their turn, by urgency: their places are kept for them.
    pub(super) fn ready_elsewhere(&self, cx: &Context<'_>, id: IncidentId) -> BTreeMap<Urgency, usize> {
        let mut ready = BTreeMap::new();
        for incident in cx.ledger.open_incidents().filter(|other| other.id != id && other.phase == Phase::Evacuating) {
            let Some(evacuation) = self.evacuations.get(&incident.id) else { continue };
            // Nobody waits for an incident that cannot go on itself.
            if !evacuation.may_begin(cx.now.mono) || cx.ledger.brakes_of(&incident.host).is_some() {
                continue;
            }
            for (server, record) in &incident.servers {
                let is_waiting = record.fate.is_none() && record.intent.is_none() && record.restore.act.is_none();
                let has_turn = self.intending.contains_key(&(incident.id, *server));
                let is_ready = evacuation.queued.contains(server) || !evacuation.waits.contains_key(server);
                if is_waiting && !has_turn && is_ready && self.group_wait(cx.now.mono, record).is_none() {
                    *ready.entry(Urgency::of(record)).or_default() += 1;
                }
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_estimates() {
        // Settled at the start; ten seconds later; how long each took.
        for (before, now, expected) in [(0, 0, None), (0, 10, Some(1)), (5, 10, Some(2)), (5, 6, Some(10))] {
            let mut estimate = Estimate::default();
            estimate.note(Moment::ZERO, before);
            estimate.note(Moment::ZERO + Duration::from_secs(10), now);
            assert_eq!(estimate.each.map(|time| time.as_secs()), expected, "{before:?} {now:?}");
        }
    }
}
