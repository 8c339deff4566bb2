//! Each server of a proven-off host: intent, call, record, fate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{MigrationKind, MigrationStatus, NovaServer, Text};
use rekindle_proto::id::{HostName, IncidentId, ServerId};
use rekindle_proto::status::Phase;

use super::Leader;
use super::evacuation::{Ask, Evacuation};
use super::hooks::hooks_at_the_end;
use super::proposals::Key;
use super::server_words::{blocked_text, stalled_text};
use crate::context::Context;
use crate::fencing::FenceProof;
use crate::io::NovaRead;
use crate::ledger::{Fate, Incident, LeaderCommand, ServerRecord};
use crate::mutant::{Guard, keeps};
use crate::recovery::{ServerStep, Urgency, act_before, hopeless, hosts_to_ask, in_order, next_step};
use crate::time::Moment;

/// A host's word that it does not run a guest, and Nova's of where a server is, while they are believed: until the intent.
pub(super) const WORD_AGE_MAX: Duration = Duration::from_secs(10);

/// What the list of a host's servers said of one, while it is believed at all.
const LISTED_AGE_MAX: Duration = Duration::from_secs(300);

/// How long after its commit an intent may still be called. What it rests on (denials, where Nova has the server) is at
/// most [`WORD_AGE_MAX`] older. An intent held longer, by a brake or a voided proof, is closed unsent and decided anew.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(10);

/// Between two questions to the same host about the same guests.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long a server waits for a host that may run a copy of it, or for Nova to end what it is doing with it, before it is
/// left behind with that reason. Long enough for that host to be fenced itself.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// An evacuation under way for this long no longer takes the place of another, and if nothing else is left to do, a
/// person is called: its destination may have died with it, and then Nova never ends it. Longer than any rebuild from a
/// large image.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(1_800);

/// Between two looks at a server at which Nova is still at work.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Servers read one by one at once, per incident.
const READS_AT_ONCE: usize = 8;

/// A server as Nova showed it.
#[derive(Debug)]
pub(super) struct ServerRead {
    /// After which attempt it was asked for.
    pub(super) attempt: u32,
    /// When.
    pub(super) asked: Moment,
    /// `None`: deleted.
    pub(super) server: Option<NovaServer>,
    /// It was asked for before we locked the server: it says nothing of that lock.
    pub(super) before_lock: bool,
}

impl Evacuation {
    /// What Nova says of a server, if it was said lately enough: since the last attempt, and within [`WORD_AGE_MAX`]. What the
    /// list said of a server that simply runs stands longer, while migrations that are as fresh show that nobody has begun to
    /// move it: on a host that is forced down nothing else can change where it is, and reading hundreds of servers again, one
    /// by one, would take what their evacuations need.
    pub(super) fn word_of(&self, server: ServerId, record: &ServerRecord, now: Moment) -> Option<&ServerRead> {
        let read = self.server_reads.get(&server).filter(|read| read.attempt == record.attempts)?;
        let is_fresh = |asked: Moment| now.since(asked) < WORD_AGE_MAX;
        if is_fresh(read.asked) {
            return Some(read);
        }
        let list = self.migrations.as_ref()?;
        let moved = list.of.get(&server).is_some_and(|records| {
            records.iter().any(|record| record.kind == MigrationKind::Evacuation || !record.status.is_final())
        });
        let followed = list.asked >= read.asked && is_fresh(list.asked.max(list.news.unwrap_or(list.asked)));
        let shown = read.server.as_ref()?;
        let simply_runs = shown.vm_state.as_str() == "active" && shown.task_state.is_none() && !shown.standing.locked;
        let stands = record.attempts == 0 && record.restore.acts == 0 && simply_runs && followed && !moved;
        (stands && now.since(read.asked) < LISTED_AGE_MAX).then_some(read)
    }
}

/// What one look at an incident's servers gathers.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Evacuations that may still begin.
    pub(super) room: usize,
    /// Acts on servers that have arrived that may still begin.
    pub(super) acts: usize,
    /// Servers of other incidents that are ready for their turn.
    pub(super) others: BTreeMap<Urgency, usize>,
    /// Whom to ask about which guests.
    pub(super) questions: BTreeMap<HostName, Vec<ServerId>>,
    /// Servers whose evacuation is stalled.
    pub(super) stalled: Vec<ServerId>,
    /// Servers for which a stuck incident has an open intent, and which.
    pub(super) blocked: BTreeMap<ServerId, IncidentId>,
    /// Hosts that the ledger lets be named for its servers, once one of them asks.
    pub(super) nameable: Option<BTreeSet<HostName>>,
}

impl Round {
    /// Whether an evacuation of this urgency may begin: places that more urgent servers of other incidents wait for are kept.
    pub(super) fn has_room(&self, urgency: Urgency) -> bool {
        self.room > self.others.range(..urgency).map(|(_, count)| count).sum()
    }
}

impl Leader {
    /// Takes every step that is due for the servers of one incident.
    pub(super) fn drive_servers(&mut self, cx: &mut Context<'_>, incident: &Incident, proof: &FenceProof) {
        let id = incident.id;
        let is_unsettled = |server: &ServerId| incident.servers.get(server).is_some_and(|record| record.fate.is_none());
        let unsettled: Vec<ServerId> = in_order(incident).into_iter().filter(is_unsettled).collect();
        if unsettled.is_empty() {
            self.finish(cx, incident);
            return;
        }
        if !self.poll_migrations(cx, incident) {
            return;
        }
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.recall(incident);
            let records = evacuation.migrations.iter().flat_map(|list| list.of.iter());
            let records = records.filter(|(server, _)| is_unsettled(server));
            evacuation.estimate.note(cx.now.mono, incident.servers.len() - unsettled.len());
            evacuation.queued.clear();
            evacuation.named = records.flat_map(|(_, migrations)| hosts_to_ask(&incident.host, migrations)).collect();
            let queues = unsettled.iter().filter_map(|server| incident.servers.get(server));
            evacuation.named.extend(queues.flat_map(|record| record.leg.queued_on.iter().cloned()));
        }
        self.ask_who_began(cx, incident);
        let room = self.room(cx);
        let mut round =
            Round { room: room.evacuations, acts: room.acts, others: self.ready_elsewhere(cx, id), ..Round::default() };
        for server in &unsettled {
            let Some(record) = incident.servers.get(server) else { continue };
            if self.is_proposing(&Key::Server(id, *server)) {
                continue;
            }
            if let Some(open) = record.restore.act {
                self.drive_act(cx, incident, proof, (*server, record), open);
                continue;
            }
            match &record.intent {
                Some(open) if keeps(Guard::OneIntent) || !self.is_called(id, *server) => {
                    self.drive_intent(cx, incident, proof, *server, open, &mut round);
                }
                Some(_) => self.drive_step(cx, incident, *server, record, &mut round),
                None => self.drive_step(cx, incident, *server, record, &mut round),
            }
        }
        self.ask_hosts(cx, id, round.questions);
        if round.stalled.len() + round.blocked.len() == unsettled.len() {
            let why = match round.blocked.first_key_value() {
                Some((server, other)) => blocked_text(incident, *server, *other),
                None => stalled_text(incident, &round.stalled),
            };
            self.command(cx, Key::Incident(id), LeaderCommand::Stick { incident: id, why });
        }
    }

    /// Every server is settled. The incident stays open while the proof of its host is the only answer that another
    /// incident can get about a copy that may have been built there.
    fn finish(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let id = incident.id;
        if !self.reserves_are_back(cx, incident) {
            return;
        }
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.named.clear();
        }
        let mut others = self.evacuations.iter().filter(|(other, _)| **other != id);
        if let Some((other, _)) = others.find(|(_, evacuation)| evacuation.named.contains(&incident.host)) {
            let why = format!("all its servers are settled; incident {other} still needs to know that it is off");
            self.hold(cx.now.mono, id, why);
            return;
        }
        if let Some(other) = self.undirected_elsewhere(cx, id) {
            let why =
                format!("all its servers are settled; Nova has not said where an evacuation of incident {other} went");
            self.hold(cx.now.mono, id, why);
            return;
        }
        // What another incident's servers may need is only known from their migration records.
        let unread = |other: &&Incident| {
            let listed = self.evacuations.get(&other.id).is_some_and(|evacuation| evacuation.migrations.is_some());
            let is_unsettled = other.servers.values().any(|record| record.fate.is_none());
            other.id != id && other.phase == Phase::Evacuating && !listed && is_unsettled
        };
        if let Some(other) = cx.ledger.open_incidents().find(unread).map(|other| other.id) {
            let why =
                format!("all its servers are settled; whether incident {other} needs to know that it is off is not");
            self.hold(cx.now.mono, id, why);
            return;
        }
        let owes_hooks = hooks_at_the_end(cx.setup);
        self.command(cx, Key::Incident(id), LeaderCommand::Close { incident: id, owes_hooks });
    }

    /// No open intent: what next?
    fn drive_step(
        &mut self,
        cx: &mut Context<'_>,
        incident: &Incident,
        server: ServerId,
        record: &ServerRecord,
        round: &mut Round,
    ) {
        let (id, now) = (incident.id, cx.now.mono);
        if self.is_undecided(cx, incident, server, record) {
            return;
        }
        let rests = self.rest_after_failure(cx, incident, server, record);
        // What arrives stopped waits there, and not here.
        let waits_here = !record.restore.plan.stop_on_arrival || self.stops_unknown;
        let turn = rests.or_else(|| self.group_wait(now, record).filter(|_| waits_here));
        let turn = turn.or_else(|| self.silent_wait(now, incident));
        let dead_ends = self.dead_ends_of(cx, id, server);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let none = Vec::new();
        let migrations = evacuation.migrations.as_ref().and_then(|list| list.of.get(&server)).unwrap_or(&none).clone();
        let read = evacuation.word_of(server, record, now);
        let read = read.map(|read| read.server.as_ref());
        let tries = cx.setup.policy.evacuate_tries;
        let step = next_step(&incident.host, record, &migrations, &dead_ends, read, tries);
        let before = read.flatten().and_then(|read| act_before(record, read));
        let Some(step) = self.by_method(cx, incident, (server, record), step) else { return };
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        match (step, turn) {
            (ServerStep::ReadServer { to_evacuate: true } | ServerStep::Evacuate { .. }, Some(why)) => {
                evacuation.waits.insert(server, (now, why));
            }
            (ServerStep::ReadServer { to_evacuate }, _) => {
                if to_evacuate && !round.has_room(Urgency::of(record)) {
                    evacuation.waits_for_turn(server, now);
                } else if self.server_reads_under_way(id) < READS_AT_ONCE {
                    round.room = round.room.saturating_sub(usize::from(to_evacuate));
                    let ask = Ask::Server(server, record.attempts, now);
                    self.ask_nova(cx, id, ask, NovaRead::Server(server));
                }
            }
            (ServerStep::Wait(why), _) => match self.wait(now, id, server, why, LOOK_AGAIN_AFTER) {
                Some(fate) => self.conclude(cx, incident, (server, record), fate, round),
                None => self.look_again_at(id, server),
            },
            (ServerStep::Settle(fate), _) => self.conclude(cx, incident, (server, record), fate, round),
            (ServerStep::GiveUp(why), _) => self.leave_behind(cx, incident, (server, record), &why, round),
            (ServerStep::Evacuate { newest_migration, to }, None) => {
                if let Some(fate) = hopeless(record) {
                    self.conclude(cx, incident, (server, record), fate, round);
                    return;
                }
                match (self.copies_denied(cx, incident, server, &migrations, round), before) {
                    (Ok(()), Some(act)) => self.intend_act(cx, incident, (server, record), act, round),
                    (Ok(()), None) => self.intend(cx, incident, (server, record), (newest_migration, to), round),
                    (Err(why), _) => {
                        if let Some(fate) = self.wait(now, id, server, why, ASK_AGAIN_AFTER) {
                            self.conclude(cx, incident, (server, record), fate, round);
                        }
                    }
                }
            }
        }
    }

    /// Notes why a server waits, and since when; beyond [`WAIT_MAX`] it is left behind with that reason.
    pub(super) fn wait(
        &mut self,
        now: Moment,
        id: IncidentId,
        server: ServerId,
        why: Text,
        look: Duration,
    ) -> Option<Fate> {
        let evacuation = self.evacuations.get_mut(&id)?;
        let since = evacuation.waits.get(&server).map_or(now, |(since, _)| *since);
        evacuation.waits.insert(server, (since, why.clone()));
        self.wake_at(now + look);
        (now.since(since) >= WAIT_MAX).then_some(Fate::LeftBehind { why })
    }

    fn look_again_at(&mut self, id: IncidentId, server: ServerId) {
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.server_reads.remove(&server);
        }
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>, id: IncidentId, server: ServerId, fate: Fate) {
        self.command(cx, Key::Server(id, server), LeaderCommand::Settle { incident: id, server, fate });
    }

    /// How long each of an incident's servers took since this leader sees to them; `None`: none was settled since.
    pub(crate) fn each_takes(&self, id: IncidentId) -> Option<Duration> {
        self.evacuations.get(&id)?.estimate.each
    }

    /// Whether Nova calls the server's newest evacuation from the dead host done, and something of ours is left to be done.
    pub(crate) fn has_arrived(&self, incident: &Incident, server: ServerId) -> bool {
        let list = self.evacuations.get(&incident.id).and_then(|evacuation| evacuation.migrations.as_ref());
        let newest = list.and_then(|list| list.of.get(&server)?.iter().max_by_key(|record| record.id));
        newest.is_some_and(|record| {
            let done = matches!(record.status, MigrationStatus::Done | MigrationStatus::Completed);
            record.kind == MigrationKind::Evacuation && done && record.source.as_ref() == Some(&incident.host)
        })
    }

    /// Why a server waits, for people.
    pub(crate) fn server_wait(&self, id: IncidentId, server: ServerId) -> Option<&Text> {
        self.evacuations.get(&id).and_then(|evacuation| evacuation.waits.get(&server)).map(|(_, why)| why)
    }
}
