//! Within which bounds Nova is asked: evacuations at once over all incidents, and on each destination.

use std::collections::BTreeMap;

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaError};
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::status::Phase;

use super::Leader;
use crate::context::Context;
use crate::io::NovaAnswer;
use crate::ledger::{Destination, IntentEnd, OpenIntent};
use crate::mutant::{Guard, keeps};
use crate::recovery::{Pace, free_places, sign_of};
use crate::time::Moment;

/// The pace of this leadership, while anything is being evacuated.
#[derive(Debug, Default)]
pub(super) struct PaceDesk {
    pace: Option<Pace>,
    /// As last counted.
    under_way: usize,
}

/// What may begin now.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Evacuations.
    pub(super) evacuations: usize,
    /// Acts on servers that have arrived.
    pub(super) acts: usize,
}

/// What is under way, over all incidents.
#[derive(Debug, Default)]
struct Load {
    under_way: usize,
    acts: usize,
    /// Servers that could be evacuated, and are not yet.
    waiting: usize,
    /// Rebuilds by destination.
    rebuilding: BTreeMap<HostName, usize>,
    /// Evacuations whose destination is not known yet.
    unplaced: usize,
}

impl Load {
    fn count_rebuild(&mut self, dest: Option<&HostName>) {
        match dest {
            Some(dest) => *self.rebuilding.entry(dest.clone()).or_default() += 1,
            None => self.unplaced += 1,
        }
    }
}

/// The host that was named for it: there it goes, or nowhere.
fn named(open: &OpenIntent) -> Option<&HostName> {
    match &open.to {
        Destination::Named(host) => Some(host),
        Destination::Anywhere | Destination::Reserved(_) => None,
    }
}

impl Leader {
    /// How many evacuations, and how many acts on servers that have arrived, may begin now, over all incidents.
    pub(super) fn room(&mut self, cx: &Context<'_>) -> Room {
        let load = self.load(cx);
        let most = cx.setup.policy.evacuations_at_once;
        let pace = self.pace.pace.get_or_insert_with(|| Pace::resumed(load.under_way, load.waiting, most));
        self.pace.under_way = load.under_way;
        if !keeps(Guard::Pace) {
            return Room { evacuations: usize::MAX, acts: usize::MAX };
        }
        let at_once = pace.at_once();
        let dead = |host: &HostName| cx.ledger.open_incident(host).is_some();
        let usable = cx.ledger.targets().filter(|host| cx.is_alive(host) && !dead(host));
        let places = free_places(usable, &load.rebuilding, load.unplaced);
        // Nova may have hosts that nobody here knows of: when nothing is under way, one is always tried.
        let places = places.max(usize::from(load.under_way == 0));
        let evacuations = at_once.saturating_sub(load.under_way).min(places);
        Room { evacuations, acts: at_once.saturating_sub(load.acts) }
    }

    /// Nothing is evacuated any more: the next failure begins anew.
    pub(super) fn forget_pace(&mut self, cx: &Context<'_>) {
        let evacuates = |phase: Phase| matches!(phase, Phase::Fenced | Phase::Evacuating);
        if !cx.ledger.open_incidents().any(|incident| evacuates(incident.phase)) {
            self.pace = PaceDesk::default();
        }
    }

    /// The answer to an evacuate call that was sent then.
    pub(super) fn pace_answered(&mut self, cx: &mut Context<'_>, result: &Result<NovaAnswer, NovaError>, sent: Moment) {
        let under_way = self.pace.under_way;
        let Some(pace) = &mut self.pace.pace else { return };
        if let Some(halved) = pace.answered(sign_of(result), under_way, sent, cx.now.mono) {
            cx.out.warn(None, halved.to_string());
        }
    }

    /// An evacuation has ended.
    pub(super) fn pace_ended(&mut self, end: &IntentEnd) {
        let IntentEnd::Migration { status, .. } = end else { return };
        let under_way = self.pace.under_way;
        if let Some(pace) =
            self.pace.pace.as_mut().filter(|_| matches!(status, MigrationStatus::Done | MigrationStatus::Completed))
        {
            pace.succeeded(under_way);
        }
    }

    /// How many were under way when they were last counted.
    pub(super) fn pace_under_way(&self) -> usize {
        self.pace.under_way
    }

    /// How many evacuations may be under way at once, for people; `None`: nothing is evacuated.
    pub(crate) fn at_once(&self) -> Option<usize> {
        self.pace.pace.as_ref().map(Pace::at_once)
    }

    /// Rebuilds under way, by destination, as far as that is known.
    pub(super) fn rebuilding(&self, cx: &Context<'_>) -> BTreeMap<HostName, usize> {
        self.load(cx).rebuilding
    }

    fn load(&self, cx: &Context<'_>) -> Load {
        let now = cx.now.mono;
        let stalled = |key: &(IncidentId, ServerId)| self.intents.get(key).is_some_and(|state| state.is_stalled(now));
        let mut load = Load { under_way: self.intending.len(), ..Load::default() };
        for named in self.intending.values() {
            load.count_rebuild(named.as_ref());
        }
        for incident in cx.ledger.open_incidents().filter(|incident| incident.phase != Phase::Stuck) {
            for (server, record) in &incident.servers {
                let before = record.restore.act.is_some_and(|open| open.act.is_before());
                let moves = record.intent.as_ref().filter(|_| !stalled(&(incident.id, *server)));
                load.under_way += usize::from(before || moves.is_some());
                load.acts += usize::from(record.restore.act.is_some() && !before);
                load.waiting += usize::from(record.fate.is_none() && record.intent.is_none());
                if let Some(open) = moves {
                    load.count_rebuild(self.destination(incident.id, *server).or_else(|| named(open)));
                }
            }
        }
        load
    }

    /// Where Nova rebuilds a server, as far as it has been seen.
    fn destination(&self, id: IncidentId, server: ServerId) -> Option<&HostName> {
        let migrations = self.evacuations.get(&id)?.migrations.as_ref()?.of.get(&server)?;
        let newest = migrations.iter().max_by_key(|migration| migration.id)?;
        let runs = newest.kind == MigrationKind::Evacuation && !newest.status.is_final();
        newest.dest.as_ref().filter(|_| runs)
    }
}
