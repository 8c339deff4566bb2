//! From a proof to recovered servers: the lease, force-down, the lists, and the pace at which Nova is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{
    DeviceName, DeviceReading, NovaError, NovaMigration, NovaServer, NovaService, PowerState, Text,
};
use rekindle_proto::id::{CallId, HostName, IncidentId, ServerId};
use rekindle_proto::status::Phase;

use super::devices::ReadFor;
use super::proposals::Key;
use super::servers::{Denials, IntentState};
use super::{Leader, NovaCall};
use crate::context::Context;
use crate::fencing::{FenceProof, OffRead, READ_CLOSELY_FOR};
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Incident, LeaderCommand};
use crate::order::ForceDownOrder;
use crate::recovery::{Lists, plan};
use crate::time::Moment;

/// Between two readings that renew a lease: three may fail before it runs out.
const RENEW_EVERY: Duration = Duration::from_secs(8);

/// Between two readings of a host that we did not ourselves see going off.
const READ_CLOSELY_EVERY: Duration = Duration::from_secs(1);

/// A word of the host this long after the second off reading cannot have been sent before the power went (I2).
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Between two lists of migrations while evacuations are under way.
const MIGRATIONS_EVERY: Duration = Duration::from_secs(1);

/// Between two readings of the compute service's heartbeat.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// First pause after a Nova error; doubled up to [`NOVA_BACKOFF_MAX`].
const NOVA_BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause: an incident goes on soon after Nova is back, however long it was away (I10).
const NOVA_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// One incident's recovery, as this leader follows it. Everything here is read anew by a new leader.
#[derive(Debug, Default)]
pub(super) struct Evacuation {
    pub(super) reads: BTreeMap<DeviceName, OffRead>,
    next_read: Option<Moment>,
    /// When the host was certainly silent for good: its voice after this, and [`LAST_WORDS`], contradicts the proof.
    silent_since: Option<Moment>,
    /// The service as last read after our force-down.
    service: Option<Option<NovaService>>,
    service_due: Option<Moment>,
    asking: BTreeSet<Ask>,
    servers: Option<Vec<NovaServer>>,
    pub(super) migrations: Option<MigrationList>,
    backoff: Option<Backoff>,
    pub(super) intents: BTreeMap<ServerId, IntentState>,
    pub(super) server_reads: BTreeMap<ServerId, (u32, Option<NovaServer>)>,
    pub(super) denials: Denials,
    pub(super) waits: BTreeMap<ServerId, (Moment, Text)>,
    pub(super) nova_error: Option<Text>,
}

/// Migration records of the host, by server.
#[derive(Debug)]
pub(super) struct MigrationList {
    /// When they were asked for.
    pub(super) asked: Moment,
    pub(super) of: BTreeMap<ServerId, Vec<NovaMigration>>,
}

#[derive(Debug, Clone, Copy)]
struct Backoff {
    until: Moment,
    pause: Duration,
}

/// What is asked of Nova for an incident.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    ForceDown,
    Service,
    Servers,
    Migrations(Moment),
    Server(ServerId, u32),
    Evacuate(ServerId, u32),
}

impl Ask {
    /// Of each kind one at a time.
    fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Migrations(_), Self::Migrations(_)) => true,
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
            self.evacuations.insert(id, Evacuation { reads, silent_since, ..Evacuation::default() });
        }
        self.renew_lease(cx, incident);
        let Some(proof) = self.proof(cx, incident) else {
            self.hold(cx.now.mono, id, "waiting to read the host off again: the proof's lease is over");
            return;
        };
        if self.is_backing_off(cx, id) {
            return;
        }
        if !self.force_down(cx, incident, &proof) {
            return;
        }
        match incident.phase {
            Phase::Fenced => self.begin(cx, incident),
            Phase::Evacuating => {
                self.watch_heartbeat(cx, incident);
                self.drive_servers(cx, incident, &proof);
            }
            Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Recovered | Phase::Refuted | Phase::Stuck => {}
        }
    }

    pub(super) fn proof(&self, cx: &Context<'_>, incident: &Incident) -> Option<FenceProof> {
        let evacuation = self.evacuations.get(&incident.id)?;
        FenceProof::of(cx.ledger, incident.id, &evacuation.reads, cx.now.mono)
    }

    fn renew_lease(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let now = cx.now.mono;
        let id = incident.id;
        let Some(proof) = &incident.proof else { return };
        let devices: Vec<DeviceName> = proof.record.devices.iter().map(|device| device.device.clone()).collect();
        let seen_going_off = proof.record.devices.iter().all(|device| device.seen_going_off);
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        let closely =
            !seen_going_off && evacuation.silent_since.is_none_or(|since| now.since(since) < READ_CLOSELY_FOR);
        let every = if closely { READ_CLOSELY_EVERY } else { RENEW_EVERY };
        let all_read = devices.iter().all(|device| evacuation.reads.contains_key(device));
        // A new leader has read nothing yet: at once.
        let first = if all_read { now + every } else { now };
        let due = *evacuation.next_read.get_or_insert(first);
        if due > now {
            self.wake_at(due);
            return;
        }
        evacuation.next_read = Some(now + every);
        self.wake_at(now + every);
        for device in devices {
            if !self.is_reading(&device) {
                self.read_device(cx, &incident.host, &device, false, ReadFor::Lease(id));
            }
        }
    }

    pub(super) fn lease_read(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        device: &DeviceName,
        reading: &DeviceReading,
        finished: Moment,
    ) {
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        if let Some(read) = OffRead::of(reading, finished) {
            evacuation.reads.insert(device.clone(), read);
            evacuation.silent_since.get_or_insert(finished);
        }
        if reading.power == Ok(PowerState::On) {
            evacuation.reads.remove(device);
            self.void_proof(cx, id, Text::new(format!("{device} reads on")), false);
        }
    }

    pub(super) fn heard_after_proof(&mut self, cx: &mut Context<'_>, incident: &Incident, same_boot: bool) {
        let silent_since = self.evacuations.get(&incident.id).and_then(|evacuation| evacuation.silent_since);
        if silent_since.is_none_or(|since| cx.now.mono <= since + LAST_WORDS) {
            return;
        }
        let host = &incident.host;
        let (why, lied) = if same_boot {
            let why = format!(
                "{host} speaks, in the same boot, though it was read off: the BMC lies, or is another machine's"
            );
            (why, true)
        } else {
            (format!("{host} speaks in a new boot: somebody powered it on"), false)
        };
        self.void_proof(cx, incident.id, Text::new(why), lied);
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
        match self.permit(cx, &incident.host) {
            Ok(permit) => {
                let call = cx.out.call();
                cx.out.push(Output::ForceDown(ForceDownOrder::new(call, permit, proof)));
                self.expect(id, call, Ask::ForceDown);
            }
            Err(hold) => self.hold(cx.now.mono, id, hold.to_string()),
        }
        false
    }

    fn expect(&mut self, id: IncidentId, call: CallId, ask: Ask) {
        self.nova.insert(call, NovaCall::Evacuation(id, ask.clone()));
        if let Some(evacuation) = self.evacuations.get_mut(&id) {
            evacuation.asking.insert(ask);
        }
    }

    /// Asks Nova, unless the same is being asked.
    pub(super) fn ask_nova(&mut self, cx: &mut Context<'_>, id: IncidentId, ask: Ask, request: NovaRead) {
        let Some(evacuation) = self.evacuations.get(&id) else { return };
        if evacuation.asking.iter().any(|other| other.same_kind(&ask)) {
            return;
        }
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request });
        self.expect(id, call, ask);
    }

    pub(super) fn order_evacuate(&mut self, id: IncidentId, call: CallId, server: ServerId, attempt: u32) {
        self.expect(id, call, Ask::Evacuate(server, attempt));
    }

    /// Lists servers and migrations after the force-down, and commits the plan.
    fn begin(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let id = incident.id;
        let host: HostName = incident.host.clone();
        let Some(evacuation) = self.evacuations.get(&id) else { return };
        let (Some(servers), Some(migrations)) = (&evacuation.servers, &evacuation.migrations) else {
            let (no_servers, no_migrations) = (evacuation.servers.is_none(), evacuation.migrations.is_none());
            if no_servers {
                self.ask_nova(cx, id, Ask::Servers, NovaRead::Servers(host.clone()));
            }
            if no_migrations {
                self.ask_nova(cx, id, Ask::Migrations(cx.now.mono), NovaRead::Migrations(host));
            }
            return;
        };
        let migrations: Vec<NovaMigration> = migrations.of.values().flatten().cloned().collect();
        let guests = cx.ledger.host(&host).and_then(|record| record.pulse.as_ref()).map(|pulse| &pulse.guests);
        let lists = Lists { host: &host, servers, migrations: &migrations, guests };
        let (servers, mut remarks) = plan(&lists, cx.setup.policy.local_disk);
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
        let changed = match (&incident.heartbeat, evacuation.service.as_ref().and_then(Option::as_ref)) {
            (Some(then), Some(service)) => service.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat != then),
            (None, _) | (Some(_), None) => false,
        };
        if changed {
            evacuation.service = None;
            let why = "Nova's heartbeat of its compute service moved after the force-down: it runs somewhere".into();
            self.void_proof(cx, incident.id, why, false);
            return;
        }
        let due = *evacuation.service_due.get_or_insert(now + HEARTBEAT_EVERY);
        if due <= now {
            evacuation.service_due = Some(now + HEARTBEAT_EVERY);
            self.ask_nova(cx, incident.id, Ask::Service, NovaRead::Service(incident.host.clone()));
        }
        self.wake_at(due.max(now + Duration::from_millis(1)));
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
        let Some(evacuation) = self.evacuations.get(&id) else { return false };
        let Some(backoff) = evacuation.backoff.filter(|backoff| cx.now.mono < backoff.until) else {
            if evacuation.nova_error.is_none() {
                self.holds.remove(&id);
            }
            return false;
        };
        if let Some(error) = evacuation.nova_error.clone() {
            self.holds.insert(id, Text::new(format!("waiting for Nova: {error}")));
        }
        self.wake_at(backoff.until);
        true
    }

    pub(super) fn take_nova(
        &mut self,
        cx: &mut Context<'_>,
        id: IncidentId,
        ask: Ask,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(evacuation) = self.evacuations.get_mut(&id) else { return };
        evacuation.asking.remove(&ask);
        if let Ask::Evacuate(server, attempt) = ask {
            evacuation.intents.entry(server).or_default().answered(attempt, &result, now);
            // Overload and outages slow everything down; a refusal of one server does not.
            if !matches!(result, Err(NovaError::Unknown(_))) {
                return;
            }
        }
        match result {
            Ok(answer) => {
                evacuation.backoff = None;
                evacuation.nova_error = None;
                evacuation.note(&ask, answer);
            }
            Err(error) => {
                let pause = evacuation.backoff.map_or(NOVA_BACKOFF_MIN, |last| (last.pause * 2).min(NOVA_BACKOFF_MAX));
                evacuation.backoff = Some(Backoff { until: now + pause, pause });
                if evacuation.nova_error.is_none() {
                    cx.out.warn(None, format!("incident {id} waits for Nova: {error}"));
                }
                evacuation.nova_error = Some(Text::new(error.to_string()));
                self.wake_at(now + pause);
            }
        }
    }
}

impl Evacuation {
    fn note(&mut self, ask: &Ask, answer: NovaAnswer) {
        match (ask, answer) {
            (Ask::ForceDown | Ask::Service, NovaAnswer::Service(service)) => self.service = Some(service),
            (Ask::Servers, NovaAnswer::Servers(servers)) => self.servers = Some(servers),
            (Ask::Migrations(asked), NovaAnswer::Migrations(migrations)) => {
                let mut of: BTreeMap<ServerId, Vec<NovaMigration>> = BTreeMap::new();
                for migration in migrations {
                    of.entry(migration.server).or_default().push(migration);
                }
                self.migrations = Some(MigrationList { asked: *asked, of });
            }
            (Ask::Server(server, attempt), NovaAnswer::Server(read)) => {
                self.server_reads.insert(*server, (*attempt, read));
            }
            (Ask::ForceDown | Ask::Service, _)
            | (Ask::Servers, _)
            | (Ask::Migrations(_), _)
            | (Ask::Server(..), _)
            | (Ask::Evacuate(..), _) => {}
        }
    }
}
