//! From a proof to recovered servers: the lease, force-down, the lists, and the pace at which Nova is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, NovaMigration, NovaServer, NovaService, Text};
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{CallId, HostName, IncidentId, MigrationId, ServerId};
use rekindle_proto::status::Phase;

use super::backoff::Backoff;
use super::begun::Begun;
use super::denials::Denials;
use super::fence::VOIDED_MAX;
use super::lookups::Lookups;
use super::proposals::Key;
use super::server_groups::GroupWords;
use super::servers::ServerRead;
use super::turns::Estimate;
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::fencing::{FenceProof, OffRead};
use crate::io::{NovaRead, Output};
use crate::ledger::{Incident, LeaderCommand};
use crate::mutant::{Guard, keeps};
use crate::order::ForceDownOrder;
use crate::recovery::{Lists, Lookup, plan};
use crate::time::Moment;

/// Between two full lists of a host's migrations: news of evacuations come by another way meanwhile.
const MIGRATIONS_EVERY: Duration = Duration::from_secs(15);

/// Between two readings of the compute service's heartbeat.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// Oldest lists that a plan may rest on.
const LISTS_AGE_MAX: Duration = Duration::from_secs(30);

/// One incident's recovery, as this leader follows it. Everything here is read anew by a new leader.
#[derive(Debug, Default)]
pub(super) struct Evacuation {
    pub(super) reads: BTreeMap<DeviceName, OffRead>,
    pub(super) next_read: Option<Moment>,
    /// When the host was certainly silent for good: its voice after this, and [`LAST_WORDS`], contradicts the proof.
    pub(super) silent_since: Option<Moment>,
    /// The service as last read after our force-down.
    pub(super) service: Option<Option<NovaService>>,
    pub(super) service_due: Option<Moment>,
    pub(super) asking: BTreeSet<Ask>,
    /// When they were asked for, and what came.
    pub(super) servers: Option<(Moment, Vec<NovaServer>)>,
    pub(super) migrations: Option<MigrationList>,
    pub(super) backoff: Option<Backoff>,
    /// After an evacuate call that Nova did not take: the next intents wait.
    pub(super) calls_pause: Option<Backoff>,
    pub(super) server_reads: BTreeMap<ServerId, ServerRead>,
    pub(super) denials: Denials,
    /// Hosts that may run a copy of a server not yet settled: as long as they are off, their own incidents stay open.
    pub(super) named: BTreeSet<HostName>,
    pub(super) waits: BTreeMap<ServerId, (Moment, Text)>,
    /// After how many failures each server rests, and until when.
    pub(super) rests: BTreeMap<ServerId, (u32, Moment)>,
    pub(super) nova_error: Option<Text>,
    /// While Nova does not answer: until when that was taken into account.
    pub(super) outage: Option<Moment>,
    /// Why there is no news of the evacuations under way.
    pub(super) news_error: Option<Text>,
    /// Since when there has been no valid proof.
    pub(super) unproven_since: Option<Moment>,
    /// Whose turn it is to read for the lease.
    pub(super) reader: usize,
    /// What contradicts the proof. It counts no more here, whether or not the ledger has taken notice yet.
    pub(super) contradiction: Option<Text>,
    /// What was read beyond the lists.
    pub(super) lookups: Lookups,
    /// What is said of server groups.
    pub(super) group_words: GroupWords,
    /// Servers that wait for nothing but their turn.
    pub(super) queued: BTreeSet<ServerId>,
    /// What remains is estimated from it.
    pub(super) estimate: Estimate,
}

/// Migration records of the host, by server.
#[derive(Debug)]
pub(super) struct MigrationList {
    /// When they were asked for.
    pub(super) asked: Moment,
    /// When the last news that were merged into them were asked for.
    pub(super) news: Option<Moment>,
    pub(super) of: BTreeMap<ServerId, Vec<NovaMigration>>,
    /// Of those that name no destination.
    pub(super) begun: Begun,
}

/// What is asked of Nova for an incident.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    ForceDown,
    Service,
    Servers(Moment),
    Migrations(Moment),
    Server(ServerId, u32, Moment),
    Evacuate(ServerId, u32),
    Look(Lookup),
    Begun(ServerId, MigrationId),
}

impl Ask {
    /// Of each kind one at a time.
    fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Migrations(_), Self::Migrations(_)) | (Self::Servers(_), Self::Servers(_)) => true,
            (Self::Server(a, ..), Self::Server(b, ..)) => a == b,
            (Self::Begun(..), Self::Begun(..)) => true,
            (a, b) => a == b,
        }
    }
}

impl Leader {
    pub(super) fn drive_evacuation(&mut self, cx: &mut Context<'_>, id: IncidentId) {
        let Some(incident) = cx.ledger.incidents.get(&id) else { return };
        if !self.evacuations.contains_key(&id) {
            let run = self.proven_run(id);
            let reads = run.map(crate::fencing::FenceRun::last_offs).unwrap_or_default();
            let silent_since = reads.values().map(|read| read.at()).max();
            let mut evacuation = Evacuation { reads, silent_since, ..Evacuation::default() };
            self.listed_ahead(incident, &mut evacuation);
            self.evacuations.insert(id, evacuation);
        }
        if incident.host == cx.setup.host {
            // Powered on, joined, elected: nobody's voice is nearer than our own.
            let why = format!("{} leads: it runs, though it was read off", incident.host);
            self.void_proof(cx, id, Text::new(why), false);
        }
        if let Some(why) = self.evacuations.get(&id).and_then(|evacuation| evacuation.contradiction.clone()) {
            // Said again until the ledger has taken it in: a later reading or silence does not mend a broken proof.
            self.hold(cx.now.mono, id, format!("the proof is contradicted: {why}"));
            self.command(cx, Key::Incident(id), LeaderCommand::VoidProof { incident: id, why });
            return;
        }
        if incident.phase == Phase::Fenced && incident.voided >= VOIDED_MAX {
            let why = format!("off now, but its proof was voided {} times: find out who powers it on", incident.voided);
            self.command(cx, Key::Incident(id), LeaderCommand::Stick { incident: id, why: Text::new(why) });
            return;
        }
        self.renew_lease(cx, incident);
        let Some(proof) = self.proof(cx, incident) else {
            self.wait_for_proof(cx, incident);
            return;
        };
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.unproven_since = None;
        }
        if self.is_backing_off(cx, id) {
            return;
        }
        if !self.force_down(cx, incident, &proof) {
            return;
        }
        match incident.phase {
            Phase::Fenced if !self.after_fence_lets(cx, incident) => {}
            Phase::Fenced if !self.hooks_let(cx, incident, HookPoint::BeforeEvacuate) => {}
            Phase::Fenced => self.begin(cx, incident),
            Phase::Evacuating => {
                self.watch_heartbeat(cx, incident);
                self.drive_servers(cx, incident, &proof);
            }
            Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Recovered | Phase::Refuted | Phase::Stuck => {}
        }
    }

    /// Whether Nova is known to have the service forced down, by this leader's own order; else orders it.
    fn force_down(&mut self, cx: &mut Context<'_>, incident: &Incident, proof: &FenceProof) -> bool {
        let id = incident.id;
        let Some(evacuation) = self.evacuations.get(&id) else { return false };
        if evacuation.service.is_some() {
            return true;
        }
        if evacuation.asking.contains(&Ask::ForceDown) {
            return false;
        }
        let evacuation_is_new = evacuation.migrations.is_none();
        match self.permit(cx, &incident.host) {
            Ok(permit) => {
                let call = cx.out.call();
                cx.out.push(Output::ForceDown(ForceDownOrder::new(call, permit, proof)));
                self.expect(id, call, Ask::ForceDown);
                // A read beside it: nobody has to wait for it afterwards.
                if evacuation_is_new {
                    let read = NovaRead::Migrations(incident.host.clone());
                    self.ask_nova(cx, id, Ask::Migrations(cx.now.mono), read);
                }
            }
            Err(hold) => self.hold(cx.now.mono, id, hold.to_string()),
        }
        false
    }

    /// The evacuation begins anew, or not at all. Answers still on their way belong to the old one, but for those to
    /// evacuate calls, which are their intents'.
    pub(super) fn drop_evacuation(&mut self, id: IncidentId) {
        if self.evacuations.remove(&id).is_some() {
            self.nova.retain(|_, call| match call {
                NovaCall::Evacuation(of, ask) => *of != id || matches!(ask, Ask::Evacuate(..)),
                NovaCall::Guest(..)
                | NovaCall::Reboot(_)
                | NovaCall::Life(_)
                | NovaCall::Service(_)
                | NovaCall::Capacity
                | NovaCall::Lost(..)
                | NovaCall::Moves
                | NovaCall::Ahead(..)
                | NovaCall::Rehearsal(_)
                | NovaCall::QueuedServer(_)
                | NovaCall::QueueReader(_)
                | NovaCall::Return(_)
                | NovaCall::Reserve(_)
                | NovaCall::Aggregate(..)
                | NovaCall::Forecast(_)
                | NovaCall::Act(..)
                | NovaCall::Lock(..) => true,
            });
        }
    }

    fn expect(&mut self, id: IncidentId, call: CallId, ask: Ask) {
        self.nova.insert(call, NovaCall::Evacuation(id, ask.clone()));
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.asking.insert(ask);
        }
    }

    /// Asks Nova, unless the same is being asked. Gives back whether it did.
    pub(super) fn ask_nova(&mut self, cx: &mut Context<'_>, id: IncidentId, ask: Ask, request: NovaRead) -> bool {
        let Some(evacuation) = self.evacuations.get(&id) else { return false };
        if evacuation.asking.iter().any(|other| other.same_kind(&ask)) {
            return false;
        }
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request });
        self.expect(id, call, ask);
        true
    }

    /// How many servers are being read one by one.
    pub(super) fn server_reads_under_way(&self, id: IncidentId) -> usize {
        let asking = self.evacuations.get(&id).map(|evacuation| &evacuation.asking);
        asking.map_or(0, |asking| asking.iter().filter(|ask| matches!(ask, Ask::Server(..))).count())
    }

    /// Lists servers and migrations after the force-down, and commits the plan.
    fn begin(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let id = incident.id;
        let host: HostName = incident.host.clone();
        let Some(evacuation) = self.evacuations.get(&id) else { return };
        // A plan rests on fresh lists: a brake may have held it since they were read.
        let now = cx.now.mono;
        let servers = evacuation.servers.as_ref().filter(|(asked, _)| now.since(*asked) < LISTS_AGE_MAX);
        let migrations = evacuation.migrations.as_ref().filter(|list| now.since(list.asked) < LISTS_AGE_MAX);
        let (Some((_, servers)), Some(migrations)) = (servers, migrations) else {
            let (no_servers, no_migrations) = (servers.is_none(), migrations.is_none());
            if no_servers {
                self.ask_nova(cx, id, Ask::Servers(cx.now.mono), NovaRead::Servers(host.clone()));
            }
            if no_migrations {
                self.ask_nova(cx, id, Ask::Migrations(cx.now.mono), NovaRead::Migrations(host));
            }
            return;
        };
        let migrations: Vec<NovaMigration> = migrations.of.values().flatten().cloned().collect();
        let guests = cx.ledger.host(&host).and_then(|record| record.pulse.as_ref()).map(|pulse| &pulse.guests);
        let lists = Lists { host: &host, servers, migrations: &migrations, guests };
        let (servers, mut remarks) = plan(&lists, &cx.setup.policy, &evacuation.lookups.looked);
        let service = evacuation.service.clone().flatten();
        if service.is_none() {
            remarks.push(Text::new(format!("Nova has no compute service of {host}")));
        }
        let heartbeat = service.and_then(|service| service.heartbeat);
        let command = LeaderCommand::BeginEvacuation { incident: id, heartbeat, servers, remarks };
        self.command(cx, Key::Incident(id), command);
    }

    fn watch_heartbeat(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let now = cx.now.mono;
        let Some(evacuation) = self.evacuations.get_mut(&incident.id) else { return };
        let heartbeat =
            evacuation.service.as_ref().and_then(Option::as_ref).and_then(|service| service.heartbeat.as_ref());
        // A service that had never reported, and reports now, has been started too.
        if keeps(Guard::VoidByHeartbeat) && heartbeat.is_some() && heartbeat != incident.heartbeat.as_ref() {
            let why = "Nova's heartbeat of its compute service moved after the force-down: it runs somewhere".into();
            self.void_proof(cx, incident.id, why, false);
            return;
        }
        let mut due = *evacuation.service_due.get_or_insert(now + HEARTBEAT_EVERY);
        if due <= now {
            due = now + HEARTBEAT_EVERY;
            evacuation.service_due = Some(due);
            self.ask_nova(cx, incident.id, Ask::Service, NovaRead::Service(incident.host.clone()));
        }
        self.wake_at(due);
    }

    /// Lists migrations again if the last list is older than the pace allows. Gives back whether there is any list.
    pub(super) fn poll_migrations(&mut self, cx: &mut Context<'_>, incident: &Incident) -> bool {
        let now = cx.now.mono;
        let Some(evacuation) = self.evacuations.get(&incident.id) else { return false };
        let due = evacuation.migrations.as_ref().map_or(now, |list| list.asked + MIGRATIONS_EVERY);
        let listed = evacuation.migrations.is_some();
        if due <= now {
            let read = NovaRead::Migrations(incident.host.clone());
            self.ask_nova(cx, incident.id, Ask::Migrations(now), read);
        } else {
            self.wake_at(due);
        }
        listed
    }

    fn is_backing_off(&mut self, cx: &Context<'_>, id: IncidentId) -> bool {
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return false };
        evacuation.discount_outage(cx.now.mono);
        let evacuation = &*evacuation;
        let Some(backoff) = evacuation.backoff.filter(|backoff| cx.now.mono < backoff.until) else {
            match (&evacuation.nova_error, &evacuation.news_error) {
                (None, None) => drop(self.holds.remove(&id)),
                (None, Some(error)) => drop(self.holds.insert(id, Text::new(format!("waiting for Nova: {error}")))),
                (Some(_), _) => {}
            }
            return false;
        };
        if let Some(error) = evacuation.nova_error.clone() {
            self.holds.insert(id, Text::new(format!("waiting for Nova: {error}")));
        }
        self.wake_at(backoff.until);
        true
    }
}
