//! The leader's words about the servers of a proven-off host: plan, intents, fates.

use rekindle_proto::fact::{MigrationStatus, TEXT_BYTES_MAX, Text};
use rekindle_proto::id::{HostName, IncidentId, LeadershipId, MigrationId, ServerId, WallTime};
use rekindle_proto::status::Phase;

use super::super::INCIDENT_SERVERS_MAX;
use super::super::destination::Destination;
use super::super::entry::{Fate, IntentEnd, PlannedServer};
use super::super::incident::{Incident, OpenIntent, ServerRecord, Unplaced};
use super::super::restoration::{EndState, Restoration};
use super::super::state::Ledger;
use super::{Applied, Outcome};
use crate::mutant::{Guard, keeps};
use crate::recovery::PRIORITY_MAX;

impl Ledger {
    pub(super) fn begin_evacuation(
        &mut self,
        at: WallTime,
        id: IncidentId,
        heartbeat: Option<&Text>,
        servers: &[PlannedServer],
        remarks: &[Text],
    ) -> Applied {
        self.may_act_on(id)?;
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Fenced)?;
        let new = servers.iter().filter(|planned| !incident.servers.contains_key(&planned.server)).count();
        let all = incident.servers.len().saturating_add(new);
        if all > INCIDENT_SERVERS_MAX {
            return Err(Outcome::refused(format!("{all} servers; at most {INCIDENT_SERVERS_MAX}")));
        }
        let text = format!("{} servers; Nova has the host forced down", servers.len());
        // The remarks belong to what is told of this change, to people and to the site; where they are too long for that,
        // the story has them line by line.
        let all = remarks.iter().fold(text.clone(), |all, remark| all + "; " + remark.as_str());
        let fits = all.len() <= TEXT_BYTES_MAX;
        incident.turn(Phase::Evacuating, at, if fits { all } else { text })?;
        incident.heartbeat = heartbeat.cloned();
        for remark in remarks.iter().filter(|_| !fits) {
            incident.tell(at, remark.clone(), None);
        }
        for planned in servers {
            incident.plan(at, planned);
        }
        let host = incident.host.clone();
        let method = self.method_of(&host);
        self.incident_mut(id)?.reserve.method = method;
        self.hosts.entry(host).or_default().forced_down = Some(id);
        Ok(Outcome::done("evacuation begun"))
    }

    pub(super) fn evacuate_intent(
        &mut self,
        at: WallTime,
        (id, server): (IncidentId, ServerId),
        attempt: u32,
        author: LeadershipId,
        (newest_migration, to): (Option<MigrationId>, &Destination),
    ) -> Applied {
        self.may_act_on(id)?;
        if let Some(other) = self.open_intent_elsewhere(id, server) {
            return Err(Outcome::refused(format!("incident {} has an open intent for that server (I11)", other.id)));
        }
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Evacuating)?;
        if incident.proof.is_none() {
            return Err(Outcome::refused("no valid proof that the host is off (I1)"));
        }
        if let Some(reader) = self.reader_of(server) {
            return Err(Outcome::refused(format!("{reader} may be reading an order to build it (I11)")));
        }
        self.may_go_to(id, to)?;
        let incident = self.incident_mut(id)?;
        let record = incident.unsettled_mut(server)?;
        if let Some(open) = record.intent.as_ref().filter(|_| keeps(Guard::OneIntent)) {
            return Err(Outcome::refused(format!("attempt {} of that server is open (I11)", open.attempt)));
        }
        if let Some(open) = record.restore.act {
            return Err(Outcome::refused(format!("act {} on that server is open", open.number)));
        }
        if record.attempts.checked_add(1) != Some(attempt) {
            return Err(Outcome::refused(format!("attempt {attempt} does not follow {}", record.attempts)));
        }
        record.attempts = attempt;
        record.intent = Some(OpenIntent { attempt, author, newest_migration, to: to.clone() });
        if let Destination::Named(host) = to {
            let text = format!("{} ({server}), attempt {attempt}: to {host}, if Nova's scheduler lets it", record.name);
            incident.tell(at, text, None);
        }
        Ok(Outcome::done(format!("evacuate attempt {attempt} committed")))
    }

    /// Whether a server of that incident may be sent there.
    fn may_go_to(&self, id: IncidentId, to: &Destination) -> Result<(), Outcome> {
        let Some(incident) = self.incidents.get(&id) else { return Ok(()) };
        match to {
            Destination::Anywhere => Ok(()),
            Destination::Reserved(position) => match incident.reserve.at(*position).filter(|taken| taken.end.is_none())
            {
                Some(_) => Ok(()),
                None => Err(Outcome::refused("no reserved host of this incident")),
            },
            Destination::Named(host) => self
                .may_be_named(&incident.host, host)
                .map_err(|why| Outcome::refused(format!("{host} cannot be named: {why}"))),
        }
    }

    pub(super) fn close_intent(
        &mut self,
        at: WallTime,
        id: IncidentId,
        server: ServerId,
        attempt: u32,
        end: &IntentEnd,
    ) -> Applied {
        if let IntentEnd::DestinationOff { dest, .. } = end
            && self.open_incident(dest).is_none_or(|other| other.id == id || other.proof.is_none())
        {
            return Err(Outcome::refused(format!("{dest} is not proven off: the intent stays open (I11)")));
        }
        if let IntentEnd::DestinationOff { dest, .. } = end {
            self.may_note_unread(dest)?;
        }
        let incident = self.incident_mut(id)?;
        let record = incident.unsettled_mut(server)?;
        let Some(open) = record.intent.clone().filter(|open| open.attempt == attempt) else {
            return Err(Outcome::refused(format!("attempt {attempt} of that server is not open")));
        };
        if let IntentEnd::Migration { status: MigrationStatus::UnderWay, id, .. } = end {
            return Err(Outcome::refused(format!("migration {id} is under way: the intent stays open")));
        }
        record.intent = None;
        record.unplaced = unplaced(end);
        if let IntentEnd::Refused(why) = end {
            record.restore.refused(why);
        }
        // What was certainly not sent is no try: an outage of Nova must not use them up (I10). Nor is the death of a
        // destination, of which there are no more than hosts; nor a place of our own choice that was not to be had.
        let no_place = record.leg.closed(&open, end);
        let is_excused = no_place || matches!(end, IntentEnd::NotSent(_) | IntentEnd::DestinationOff { .. });
        record.attempts_excused = record.attempts_excused.saturating_add(u32::from(is_excused));
        if let Some(why) = intent_end_text(end) {
            let is_news = !is_excused || record.last_failure.as_ref() != Some(&why);
            let mut text = format!("{} ({server}), attempt {attempt}: {why}", record.name);
            if no_place && matches!(open.to, Destination::Named(_)) {
                text.push_str("; next it goes where the scheduler wants");
            }
            record.last_failure = Some(why);
            if is_news {
                incident.tell(at, text, None);
            }
        }
        incident.count_arrival(&open, end);
        if let IntentEnd::DestinationOff { dest, .. } = end {
            self.note_unread(server, dest);
        }
        Ok(Outcome::done("intent closed"))
    }

    pub(super) fn settle(&mut self, at: WallTime, id: IncidentId, server: ServerId, fate: &Fate) -> Applied {
        let incident = self.incident_mut(id)?;
        incident.must_be(Phase::Evacuating)?;
        let record = incident.unsettled_mut(server)?;
        if record.intent.is_some() {
            return Err(Outcome::refused("its evacuate intent is still open"));
        }
        if let Some(open) = record.restore.act {
            return Err(Outcome::refused(format!("act {} on that server is open", open.number)));
        }
        if *fate == Fate::Deleted {
            record.restore.unlocked();
        }
        if record.restore.locked_by_us && keeps(Guard::Unlocks) {
            return Err(Outcome::refused("it is locked by us: to be unlocked first"));
        }
        record.fate = Some(fate.clone());
        let stays_off = !record.restore.plan.end.runs();
        let text = match fate {
            Fate::Recovered { to } => arrival_text(record, server, to),
            Fate::LeftBehind { why } if record.restore.reset => {
                let was = &record.vm_state;
                format!("{} ({server}) left behind, in error (it was {was}): {why}", record.name)
            }
            Fate::LeftBehind { why } => format!("{} ({server}) left behind: {why}", record.name),
            Fate::Deleted => format!("{} ({server}) was deleted meanwhile", record.name),
        };
        incident.tell(at, text, None);
        self.index_lock(id, server);
        if let Fate::Recovered { to } = fate
            && stays_off
        {
            self.mark_stopped(to, server);
        }
        Ok(Outcome::done("server settled"))
    }

    pub(super) fn close(&mut self, at: WallTime, id: IncidentId, owes_hooks: bool) -> Applied {
        let incident = self.incident_mut(id)?;
        if let Some((server, _)) = incident.servers.iter().find(|(_, record)| record.fate.is_none()) {
            return Err(Outcome::refused(format!("server {server} is not settled")));
        }
        let recovered = incident.servers.values().filter(|record| matches!(record.fate, Some(Fate::Recovered { .. })));
        let text = format!("{} of {} servers run elsewhere", recovered.count(), incident.servers.len());
        incident.turn(Phase::Recovered, at, text)?;
        incident.ended = Some(at);
        incident.owes_hooks = owes_hooks;
        incident.proof = None;
        let host = incident.host.clone();
        let record = self.hosts.entry(host.clone()).or_default();
        (record.quarantine, record.admitted) = (Some(id), None);
        self.account_for(&host);
        self.came_up(&host);
        Ok(Outcome::done(format!("{host} recovered; it is quarantined")))
    }
}

impl Incident {
    /// Adds a server. One that is known already (the proof was voided, or the incident resumed) keeps its intents and fate.
    fn plan(&mut self, at: WallTime, planned: &PlannedServer) {
        if self.servers.contains_key(&planned.server) {
            return;
        }
        let fate = planned.left_behind.clone().map(|why| Fate::LeftBehind { why });
        if let Some(why) = &planned.left_behind {
            self.tell(at, format!("{} ({}) left behind: {why}", planned.name, planned.server), None);
        }
        self.servers.insert(
            planned.server,
            ServerRecord {
                name: planned.name.clone(),
                vm_state: planned.vm_state.clone(),
                attempts: 0,
                attempts_excused: 0,
                intent: None,
                last_failure: None,
                fate,
                restore: Restoration::of(planned.restore.clone()),
                priority: planned.priority.min(PRIORITY_MAX),
                marked: planned.marked,
                undecided: planned.undecided.clone(),
                leg: Default::default(),
                unplaced: None,
            },
        );
    }
}

/// Of a server that has arrived: in which state, and what of it could not be brought back.
fn arrival_text(record: &ServerRecord, server: ServerId, to: &HostName) -> String {
    let restore = &record.restore;
    let name = &record.name;
    let mut text = match (&restore.shortfall, restore.plan.end) {
        (Some(why), _) => format!("{name} ({server}) is on {to}: {why}"),
        (None, EndState::Running) => format!("{name} ({server}) runs on {to}"),
        (None, EndState::Stopped) => format!("{name} ({server}) is on {to}, stopped"),
        (None, EndState::Error { running: true }) => format!("{name} ({server}) runs on {to}, in error as before"),
        (None, EndState::Error { running: false }) => format!("{name} ({server}) is on {to}, in error as before"),
    };
    if let Some(lost) = &restore.plan.lost {
        text = format!("{text} ({lost})");
    }
    text
}

/// What kept a closed intent from a place, if it was that.
fn unplaced(end: &IntentEnd) -> Option<Unplaced> {
    match end {
        // As the scheduler words it (nova/exception.py, `NoValidHost`), where the API passes it on.
        IntentEnd::Refused(why) => why.as_str().contains("No valid host").then_some(Unplaced::NoHost),
        IntentEnd::Migration { no_host: true, .. } => Some(Unplaced::NoHost),
        IntentEnd::Migration { status: MigrationStatus::Failed, .. } => Some(Unplaced::AtDestination),
        IntentEnd::Migration { .. } | IntentEnd::NotSent(_) => None,
        IntentEnd::NoneAppeared | IntentEnd::DestinationOff { .. } => None,
    }
}

/// Why a closed intent did not bring its server back; `None` if it did.
fn intent_end_text(end: &IntentEnd) -> Option<Text> {
    match end {
        IntentEnd::NotSent(why) => Some(Text::new(format!("not sent: {why}"))),
        IntentEnd::Refused(why) => Some(Text::new(format!("refused: {why}"))),
        IntentEnd::Migration { id, dest: Some(dest), no_host: true, .. } => {
            Some(Text::new(format!("migration {id}: Nova's scheduler found no room on {dest}")))
        }
        IntentEnd::Migration { id, no_host: true, .. } => {
            Some(Text::new(format!("migration {id}: Nova's scheduler found no host")))
        }
        IntentEnd::Migration { id, status, dest, no_host: false } => match status {
            MigrationStatus::Done | MigrationStatus::Completed => None,
            MigrationStatus::Failed | MigrationStatus::UnderWay => {
                let dest = dest.as_ref().map_or("no host", HostName::as_str);
                Some(Text::new(format!("migration {id} to {dest} failed")))
            }
        },
        IntentEnd::NoneAppeared => Some("Nova shows no migration for it".into()),
        IntentEnd::DestinationOff { id, dest } => {
            Some(Text::new(format!("migration {id} to {dest} will never end: {dest} is proven off")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After which ends of an attempt its server group is looked at.
    #[test]
    fn the_table_of_what_was_no_place() {
        let migration = |status, no_host| IntentEnd::Migration { id: MigrationId(4), status, dest: None, no_host };
        let dest = HostName::new("b").expect("legal");
        let rows = [
            (migration(MigrationStatus::Failed, true), Some(Unplaced::NoHost)),
            (migration(MigrationStatus::Failed, false), Some(Unplaced::AtDestination)),
            (migration(MigrationStatus::Done, false), None),
            (migration(MigrationStatus::Completed, false), None),
            (IntentEnd::Refused("400: No valid host was found.".into()), Some(Unplaced::NoHost)),
            (IntentEnd::Refused("409: it is in vm_state paused".into()), None),
            (IntentEnd::NotSent("No valid host has been asked".into()), None),
            (IntentEnd::NoneAppeared, None),
            (IntentEnd::DestinationOff { id: MigrationId(4), dest }, None),
        ];
        for (end, expected) in rows {
            assert_eq!(unplaced(&end), expected, "{end:?}");
        }
    }
}
