//! What Nova answers to an evacuation's questions and calls.

use std::collections::BTreeMap;

use rekindle_proto::fact::{NovaError, NovaMigration, Text};
use rekindle_proto::id::{IncidentId, ServerId};

use super::Leader;
use super::backoff::Backoff;
use super::begun::Begun;
use super::evacuation::{Ask, Evacuation, MigrationList};
use super::servers::ServerRead;
use crate::context::Context;
use crate::io::NovaAnswer;
use crate::time::Moment;

impl Leader {
    pub(super) fn take_nova(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        ask: Ask,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        if let Ask::Evacuate(server, attempt) = ask {
            self.take_evacuate_answer(cx, id, server, attempt, &result);
            return;
        }
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        evacuation.asking.remove(&ask);
        if let Ask::Look(lookup) = ask {
            self.take_lookup(cx, id, lookup, result);
            return;
        }
        if matches!(ask, Ask::Begun(..)) && result.is_err() {
            // Asked again by itself; nothing else has to wait for it.
            return;
        }
        match result {
            Ok(NovaAnswer::Begun(trail)) => {
                if let (Ask::Begun(server, migration), Some(trail)) = (ask, trail) {
                    self.take_trail(cx, id, (server, migration), trail);
                }
            }
            Ok(answer) => {
                evacuation.backoff = None;
                evacuation.nova_error = None;
                evacuation.note(&ask, answer);
                if ask == Ask::ForceDown && evacuation.service.is_none() {
                    evacuation.nova_error = Some("it does not show the service as forced down".into());
                    evacuation.backoff = Some(Backoff::after(None, now, cx.setup.seed ^ id.0));
                }
            }
            Err(error) => {
                let backoff = Backoff::after(evacuation.backoff, now, cx.setup.seed ^ id.0);
                evacuation.backoff = Some(backoff);
                if evacuation.nova_error.is_none() {
                    cx.out.warn(None, format!("incident {id} waits for Nova: {error}"));
                }
                evacuation.nova_error = Some(Text::new(error.to_string()));
                self.wake_at(backoff.until);
            }
        }
    }

    /// An evacuate call was answered. Overload and outages slow the next calls down; a refusal of one server does not.
    fn take_evacuate_answer(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        server: ServerId,
        attempt: u32,
        result: &Result<NovaAnswer, NovaError>,
    ) {
        let (now, seed) = (cx.now.mono, cx.setup.seed ^ id.0);
        let Some(state) = self.intents.get_mut(&(id, server)) else { return };
        // The next call is of the older kind; the server is stopped by us then.
        let is_too_old = is_too_old(result);
        self.stops_unknown |= is_too_old;
        let sent = state.sent;
        let taken = state.answered(attempt, result, now);
        if let Some(sent) = sent {
            self.pace_answered(cx, result, sent);
        }
        self.expect_moves();
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.pace_calls(taken, now, seed);
            if !is_too_old {
                evacuation.note_refusal(result);
            }
        }
    }
}

/// Whether Nova refuses to leave a server stopped where it arrives: it does not know microversion 2.95 (406), or one of its
/// computes is older than it (400, by its own check of their versions).
fn is_too_old(result: &Result<NovaAnswer, NovaError>) -> bool {
    match result {
        Err(NovaError::Refused { status: 406, .. }) => true,
        Err(NovaError::Refused { status: 400, text }) => tells_old_compute(text),
        Err(NovaError::Refused { .. } | NovaError::NotSent(_) | NovaError::Unknown(_) | NovaError::Malformed(_)) => {
            false
        }
        Ok(_) => false,
    }
}

/// Whether a 400 says that a compute is older than the call's microversion. Nova's exception for it has a text about
/// microversions, but Nova 34 gives it the two versions as if they were that text (nova/api/openstack/compute/evacuate.py), and
/// this is all it says: `{'currently': 61, 'expected': 62}`.
pub(super) fn tells_old_compute(text: &Text) -> bool {
    let text = text.as_str();
    text.contains("microversion") || (text.contains("'currently':") && text.contains("'expected':"))
}

impl Evacuation {
    /// A call was taken, or not: the next ones wait.
    pub(super) fn pace_calls(&mut self, taken: bool, now: Moment, seed: u64) {
        self.calls_pause = if taken { None } else { Some(Backoff::after(self.calls_pause, now, seed)) };
    }

    /// What a server waits for cannot end while Nova does not answer: that time is not the server's.
    pub(super) fn discount_outage(&mut self, now: Moment) {
        if let Some(before) = self.outage.take() {
            for (since, _) in self.waits.values_mut() {
                *since = now.min(*since + now.since(before));
            }
        }
        self.outage = (self.nova_error.is_some() || self.news_error.is_some()).then_some(now);
    }

    /// Whether nothing but the pace keeps its servers.
    pub(super) fn may_begin(&self, now: Moment) -> bool {
        let is_proven = self.unproven_since.is_none() && self.contradiction.is_none();
        is_proven && self.migrations.is_some() && self.nova_error.is_none() && !self.is_pausing(now)
    }

    /// Whether a call that was not taken keeps the next ones waiting. Not until the next is taken: there may be none, while
    /// all its servers wait for those of another incident.
    pub(super) fn is_pausing(&self, now: Moment) -> bool {
        self.calls_pause.is_some_and(|pause| now < pause.until)
    }

    /// A server could begin if there were room.
    pub(super) fn waits_for_turn(&mut self, server: ServerId, now: Moment) {
        self.queued.insert(server);
        self.waits.insert(server, (now, "waits for its turn".into()));
    }

    /// Nova answers 400 when somebody has cleared the mark: it is ordered again before any further call, lest every server
    /// use up its tries against it.
    fn note_refusal(&mut self, result: &Result<NovaAnswer, NovaError>) {
        if matches!(result, Err(NovaError::Refused { status: 400, .. })) {
            self.service = None;
        }
    }

    pub(super) fn note(&mut self, ask: &Ask, answer: NovaAnswer) {
        match (ask, answer) {
            (Ask::ForceDown | Ask::Service, NovaAnswer::Service(service)) => {
                // Somebody has cleared it: ordered again before the next step.
                let forced = service.as_ref().is_none_or(|service| service.forced_down);
                self.service = forced.then_some(service);
            }
            (Ask::Servers(asked), NovaAnswer::Servers(servers)) => {
                for server in &servers {
                    let read =
                        ServerRead { attempt: 0, asked: *asked, server: Some(server.clone()), before_lock: false };
                    self.server_reads.insert(server.id, read);
                }
                self.servers = Some((*asked, servers));
            }
            (Ask::Migrations(asked), NovaAnswer::Migrations(migrations)) => {
                let mut of: BTreeMap<ServerId, Vec<NovaMigration>> = BTreeMap::new();
                for migration in migrations {
                    of.entry(migration.server).or_default().push(migration);
                }
                let mut list = MigrationList { asked: *asked, news: None, of, begun: Begun::default() };
                if let Some(before) = self.migrations.take() {
                    list.keep_news_of(before);
                }
                self.migrations = Some(list);
                // It tells all that news would have told. They may not be asked for again for long: nothing may be under way.
                self.news_error = None;
            }
            (Ask::Server(server, attempt, asked), NovaAnswer::Server(read)) => {
                self.server_reads
                    .insert(*server, ServerRead { attempt: *attempt, asked: *asked, server: read, before_lock: false });
            }
            (Ask::ForceDown | Ask::Service, _)
            | (Ask::Servers(_), _)
            | (Ask::Migrations(_), _)
            | (Ask::Server(..), _)
            | (Ask::Evacuate(..) | Ask::Look(_) | Ask::Begun(..), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_that_a_compute_is_too_old() {
        for (text, expected) in [
            // Nova 34, word for word.
            ("{'currently': 61, 'expected': 62}", true),
            ("Starting with microversion 2.95, evacuate API will stop instance on destination.", true),
            ("Compute service of cmp1 is still in use.", false),
            ("Evacuate is not supported for instance with vTPM", false),
        ] {
            assert_eq!(tells_old_compute(&text.into()), expected, "{text}");
        }
    }

    /// Which answers to an evacuate call cast doubt on the mark of the compute service.
    #[test]
    fn the_mark_is_ordered_again_after_a_400_only() {
        let refused = |status| Err(NovaError::Refused { status, text: "Compute service is still in use.".into() });
        let table = [
            ("taken", Ok(NovaAnswer::Accepted), true),
            ("in use", refused(400), false),
            ("conflict", refused(409), true),
            ("too many", refused(429), true),
            ("no answer", Err(NovaError::Unknown("timed out".into())), true),
        ];
        for (name, result, stays) in table {
            let mut evacuation = Evacuation { service: Some(None), ..Evacuation::default() };
            evacuation.note_refusal(&result);
            assert_eq!(evacuation.service.is_some(), stays, "{name}");
        }
    }

    /// News are only asked for while something is under way: their last error would stop every clock for good.
    #[test]
    fn a_full_list_ends_an_outage_of_the_news() {
        let at = |seconds| Moment::ZERO + std::time::Duration::from_secs(seconds);
        let server = ServerId(uuid::Uuid::nil());
        let mut evacuation = Evacuation { news_error: Some("503".into()), ..Evacuation::default() };
        evacuation.waits.insert(server, (at(0), "for b".into()));
        evacuation.discount_outage(at(10));
        evacuation.note(&Ask::Migrations(at(15)), NovaAnswer::Migrations(Vec::new()));
        evacuation.discount_outage(at(15));
        evacuation.discount_outage(at(100));
        assert_eq!(at(100).since(evacuation.waits[&server].0).as_secs(), 95, "only ten to fifteen were an outage");
    }

    #[test]
    fn an_outage_is_not_a_servers_waiting_time() {
        let at = |seconds| Moment::ZERO + std::time::Duration::from_secs(seconds);
        let server = ServerId(uuid::Uuid::nil());
        let mut evacuation = Evacuation::default();
        evacuation.waits.insert(server, (at(100), "for b".into()));
        let waited = |evacuation: &Evacuation, now: u64| at(now).since(evacuation.waits[&server].0).as_secs();
        evacuation.discount_outage(at(150));
        assert_eq!(waited(&evacuation, 150), 50);
        evacuation.nova_error = Some("503".into());
        for now in (160..=3_760).step_by(10) {
            evacuation.discount_outage(at(now));
        }
        evacuation.nova_error = None;
        evacuation.discount_outage(at(3_765));
        assert_eq!(waited(&evacuation, 3_765), 60);
        evacuation.discount_outage(at(3_800));
        assert_eq!(waited(&evacuation, 3_800), 95);
    }
}
