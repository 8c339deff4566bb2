//! Rehearsals of fencing: an empty host in maintenance is switched off, found silent, and switched on again.
//!
//! Nothing here is an incident: the host's silence is what is looked for, and nobody is recovered. What it shows is written
//! down at once, so that whoever leads next goes on from there: to give the host its power back.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{DeviceName, DeviceReading, NovaError, OrderError, Text};
use rekindle_proto::id::{CallId, HostName, IncidentId, WallTime};
use rekindle_proto::message::Message;

use super::devices::ReadFor;
use super::fence::attempt_lasts;
use super::proposals::Key;
use super::rehearsal_ready::Readiness;
use super::{HOLD_RETRY, Leader, NovaCall};
use crate::context::Context;
use crate::fencing::{FenceRun, Given, ReadSpan, RunStep};
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Finding, LeaderCommand, ProofRecord, Rehearsal, RehearsalStage, RehearseCommand, SILENT_MS};
use crate::mutant::{Guard, keeps};
use crate::order::PowerOffOrder;
use crate::time::Moment;

/// Between two questions to the host whether it is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A word of the host this long after the second off reading cannot have been sent before the power went (I2).
const LAST_WORDS: Duration = Duration::from_secs(2);

/// See [`SILENT_MS`].
const SILENT_FOR: Duration = Duration::from_millis(SILENT_MS);

/// Gossip that calls a host alive so long after it read off is right: others hear it. A silent member is found out within six
/// seconds.
const GOSSIP_MAX: Duration = Duration::from_secs(60);

/// What the leader knows of the rehearsal under way.
#[derive(Debug, Default)]
pub(super) struct RehearsalDesk {
    pub(super) case: Option<Case>,
    /// What is waited for, for people.
    text: Text,
}

/// One rehearsal, as this leader follows it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) id: IncidentId,
    stage: RehearsalStage,
    /// Since when this leader sees that stage.
    pub(super) since: Moment,
    /// Since when it sees the off order: nobody's wall clock says when that is over (I5).
    pub(super) off_seen: Option<Moment>,
    probed: Option<Moment>,
    pub(super) read: Option<Moment>,
    pub(super) nova: Empty,
    run: Option<FenceRun>,
    offs: BTreeMap<CallId, DeviceName>,
    /// Every device has said *off* twice since, and none has taken it back.
    dark_since: Option<Moment>,
    /// The last order to power on, and since when this leader sees it.
    pub(super) on_seen: Option<(u32, Moment)>,
    pub(super) ons: BTreeMap<CallId, DeviceName>,
    pub(super) on_given: BTreeMap<DeviceName, Given>,
    /// What devices answered to it, for people.
    pub(super) on_errors: BTreeMap<DeviceName, OrderError>,
}

/// Whether Nova has servers there.
#[derive(Debug)]
pub(super) enum Empty {
    NotAsked,
    Asked,
    Yes,
    No(Text),
}

impl Case {
    fn new(rehearsal: &Rehearsal, now: Moment) -> Self {
        Self {
            id: rehearsal.id,
            stage: rehearsal.stage,
            since: now,
            off_seen: None,
            probed: None,
            read: None,
            nova: Empty::NotAsked,
            run: None,
            offs: BTreeMap::new(),
            dark_since: None,
            on_seen: None,
            ons: BTreeMap::new(),
            on_given: BTreeMap::new(),
            on_errors: BTreeMap::new(),
        }
    }

    /// Follows the ledger.
    fn follow(&mut self, rehearsal: &Rehearsal, now: Moment) {
        if self.stage != rehearsal.stage {
            (self.stage, self.since, self.read) = (rehearsal.stage, now, None);
        }
        if rehearsal.off.is_some() {
            self.off_seen.get_or_insert(now);
        }
        let attempt = rehearsal.on.map(|on| on.attempt);
        if let Some(attempt) = attempt.filter(|attempt| self.on_seen.is_none_or(|(known, _)| known != *attempt)) {
            self.on_seen = Some((attempt, now));
            self.on_given.clear();
            self.on_errors.clear();
        }
    }
}

impl Leader {
    pub(super) fn drive_rehearsal(&mut self, cx: &mut Context<'_>) {
        self.tell_of_contradictions(cx);
        let Some(rehearsal) = cx.ledger.open_rehearsal() else {
            self.rehearsal = RehearsalDesk::default();
            return;
        };
        let now = cx.now.mono;
        let desk = &mut self.rehearsal;
        if desk.case.as_ref().is_none_or(|case| case.id != rehearsal.id) {
            desk.case = Some(Case::new(rehearsal, now));
        }
        if let Some(case) = desk.case.as_mut() {
            case.follow(rehearsal, now);
        }
        self.probe_rehearsed(cx, &rehearsal.host);
        match rehearsal.stage {
            RehearsalStage::Asked => self.rehearsal_asked(cx, rehearsal),
            RehearsalStage::Off => self.rehearsal_off(cx, rehearsal),
            RehearsalStage::On => self.rehearsal_on(cx, rehearsal),
            RehearsalStage::Over => {}
        }
    }

    /// What the rehearsal under way waits for, if it is that one.
    pub(crate) fn rehearsal_text(&self, id: IncidentId) -> Option<&Text> {
        let is_it = self.rehearsal.case.as_ref().is_some_and(|case| case.id == id);
        Some(&self.rehearsal.text).filter(|text| is_it && !text.as_str().is_empty())
    }

    pub(super) fn rehearse_command(&mut self, cx: &mut Context<'_>, host: &HostName, command: RehearseCommand) {
        self.command(cx, Key::Rehearsal(host.clone()), LeaderCommand::Rehearse(command));
    }

    /// What is waited for, for people; looked at again after a second.
    pub(super) fn rehearsal_waits(&mut self, now: Moment, text: impl Into<Text>) {
        self.rehearsal.text = text.into();
        self.wake_at(now + HOLD_RETRY);
    }

    /// A device that counted by a rehearsal was caught in a contradiction: the next leader must know.
    fn tell_of_contradictions(&mut self, cx: &mut Context<'_>) {
        let caught = self.devices.caught_after_rehearsal();
        let caught: Vec<(HostName, DeviceName, Text)> =
            caught.map(|(entry, why)| (entry.host.clone(), entry.plan.name.clone(), why.clone())).collect();
        for (host, device, why) in caught {
            self.rehearse_command(cx, &host.clone(), RehearseCommand::Unbind { host, device, why });
        }
    }

    /// Asks the host itself whether it is there: its silence is to be heard, not to be inferred.
    fn probe_rehearsed(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let now = cx.now.mono;
        let Some(case) = self.rehearsal.case.as_mut() else { return };
        if case.probed.is_none_or(|probed| now >= probed + PROBE_EVERY) {
            case.probed = Some(now);
            let (call, path) = (cx.out.call(), cx.main_path());
            cx.send(host, Message::Probe { call, path });
        }
        let due = case.probed.map_or(now, |probed| probed + PROBE_EVERY);
        self.wake_at(due);
    }

    fn rehearsal_asked(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let (id, now, host) = (rehearsal.id, cx.now.mono, &rehearsal.host);
        match self.readiness(cx, rehearsal) {
            Readiness::Ready { boot, level, devices } => {
                let lasts = i64::try_from(attempt_lasts(cx).as_millis()).unwrap_or(i64::MAX);
                let not_after = WallTime(cx.now.wall.0.saturating_add(lasts));
                let command = RehearseCommand::Off { id, author: self.author, boot, level, devices, not_after };
                self.rehearse_command(cx, host, command);
            }
            Readiness::Waits(text) => self.rehearsal_waits(now, text),
            Readiness::No(why) => {
                self.rehearse_command(cx, host, RehearseCommand::Refuse { id, why });
            }
        }
    }

    /// Asks Nova for its servers there, once.
    pub(super) fn ask_if_empty(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let call = cx.out.call();
        cx.out.push(Output::Nova { call, request: NovaRead::Servers(rehearsal.host.clone()) });
        self.nova.insert(call, NovaCall::Rehearsal(rehearsal.id));
        if let Some(case) = self.rehearsal.case.as_mut() {
            case.nova = Empty::Asked;
        }
    }

    pub(super) fn take_rehearsal_nova(&mut self, id: IncidentId, result: Result<NovaAnswer, NovaError>) {
        let Some(case) = self.rehearsal.case.as_mut().filter(|case| case.id == id) else { return };
        case.nova = match result {
            Ok(NovaAnswer::Servers(servers)) if servers.is_empty() => Empty::Yes,
            Ok(NovaAnswer::Servers(servers)) => {
                let first = servers.first().map(|server| server.name.to_string()).unwrap_or_default();
                Empty::No(Text::new(format!("Nova has {} servers there, {first} among them", servers.len())))
            }
            Ok(_) => Empty::No("Nova answered another question".into()),
            Err(error) => Empty::No(Text::new(format!("Nova does not say whether it is empty: {error}"))),
        };
    }

    fn rehearsal_off(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal) {
        let (now, host) = (cx.now.mono, &rehearsal.host);
        let Some(off) = &rehearsal.off else { return };
        if off.author != self.author {
            // Its orders may still be under way; they only ever switch off, and power comes back after them.
            let why = "the leader that ordered it is gone".into();
            return self.found(cx, rehearsal, Finding::Nothing { why });
        }
        let deadline = now + attempt_lasts(cx);
        if let Some(case) = self.rehearsal.case.as_mut() {
            let whose = |device: &DeviceName| rehearsal.identity(device).unwrap_or_default();
            // Each of them has just read on: that was asked before the order was committed.
            case.run.get_or_insert_with(|| FenceRun::new(off, now, deadline, |_| true).held_to(whose));
        }
        loop {
            let case = self.rehearsal.case.as_ref();
            let Some(run) = case.and_then(|case| case.run.as_ref()) else { return };
            let deadline = run.deadline();
            match run.next_step(now) {
                RunStep::Order(device) => {
                    let permit = match self.rehearsal_permit(cx, host) {
                        Ok(permit) => permit,
                        Err(hold) => return self.rehearsal_waits(now, hold.to_string()),
                    };
                    let (call, author) = (cx.out.call(), self.author);
                    let order = PowerOffOrder::rehearsed(call, permit, rehearsal, author, device.clone(), deadline);
                    let Some(order) = order else { return };
                    cx.out.push(Output::PowerOff(order));
                    self.with_rehearsal_run(|run, offs| {
                        offs.insert(call, device.clone());
                        run.ordered(&device, now);
                    });
                }
                RunStep::Read(device) => {
                    self.with_rehearsal_run(|run, _| run.reading(&device));
                    self.read_device(cx, host, &device, ReadFor::Rehearsal(rehearsal.id));
                }
                RunStep::Wait(until) => {
                    if let Some(case) = self.rehearsal.case.as_mut() {
                        case.dark_since = None;
                    }
                    self.rehearsal_waits(now, "waiting until it reads off twice");
                    return self.wake_at(until.max(now + Duration::from_millis(1)));
                }
                RunStep::Proven(proof) => return self.watch_dark(cx, rehearsal, proof),
                RunStep::Failed(why) => return self.found(cx, rehearsal, Finding::Nothing { why }),
            }
        }
    }

    fn with_rehearsal_run(&mut self, act: impl FnOnce(&mut FenceRun, &mut BTreeMap<CallId, DeviceName>)) {
        if let Some(case) = self.rehearsal.case.as_mut()
            && let Some(run) = case.run.as_mut()
        {
            act(run, &mut case.offs);
        }
    }

    /// Every device has read off twice. Does the host fall silent?
    fn watch_dark(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal, proof: ProofRecord) {
        let (now, host) = (cx.now.mono, &rehearsal.host);
        let Some(case) = self.rehearsal.case.as_mut() else { return };
        let last = case.run.as_ref().and_then(|run| run.last_offs().values().map(|read| read.at()).max());
        let since = *case.dark_since.get_or_insert(last.unwrap_or(now));
        let silent_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        if !keeps(Guard::RehearsedSilence) {
            return self.found(cx, rehearsal, Finding::Dark { proof, silent_ms });
        }
        if let Some(heard) = cx.heard.get(host).filter(|heard| heard.at > since + LAST_WORDS) {
            let finding = if Some(heard.boot) == rehearsal.boot {
                let why = format!("they read off, and {host} was heard {} ms later", heard.at.since(since).as_millis());
                Finding::Lies { why: Text::new(why) }
            } else {
                Finding::Nothing { why: "it was heard in another boot: somebody has powered it on".into() }
            };
            return self.found(cx, rehearsal, finding);
        }
        if now >= since + SILENT_FOR && !cx.is_alive(host) {
            return self.found(cx, rehearsal, Finding::Dark { proof, silent_ms });
        }
        if now >= since + GOSSIP_MAX {
            let why = format!("they read off, and members have heard {host} for {} s since", GOSSIP_MAX.as_secs());
            return self.found(cx, rehearsal, Finding::Lies { why: Text::new(why) });
        }
        // Somebody may switch it on meanwhile: they are read on.
        self.read_rehearsed(cx, rehearsal, PROBE_EVERY);
        let left = (since + SILENT_FOR).since(now).as_secs();
        self.rehearsal_waits(now, format!("it reads off: listening whether it is silent, for {left} s more"));
    }

    fn found(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal, finding: Finding) {
        if let Finding::Lies { why } = &finding {
            let text = format!("its fence devices are not its own, or lie, and are not used: {why}");
            self.warn_of_rehearsal(cx, rehearsal, text);
        }
        self.rehearse_command(cx, &rehearsal.host, RehearseCommand::Found { id: rehearsal.id, finding });
    }

    /// Once, though what is said of it is proposed again.
    pub(super) fn warn_of_rehearsal(&self, cx: &mut Context<'_>, rehearsal: &Rehearsal, text: impl Into<Text>) {
        if !self.is_proposing(&Key::Rehearsal(rehearsal.host.clone())) {
            cx.out.warn(Some(&rehearsal.host), text);
        }
    }

    /// Reads its devices, so often.
    pub(super) fn read_rehearsed(&mut self, cx: &mut Context<'_>, rehearsal: &Rehearsal, every: Duration) {
        let now = cx.now.mono;
        let Some(case) = self.rehearsal.case.as_mut() else { return };
        if case.read.is_some_and(|read| now < read + every) {
            return;
        }
        case.read = Some(now);
        let devices: Vec<DeviceName> = rehearsal.devices.iter().map(|device| device.name.clone()).collect();
        for device in devices {
            if !self.is_reading(cx, &device) {
                self.read_device(cx, &rehearsal.host, &device, ReadFor::Rehearsal(rehearsal.id));
            }
        }
    }

    pub(super) fn rehearsal_read(
        &mut self,
        id: IncidentId,
        device: &DeviceName,
        reading: &DeviceReading,
        span: ReadSpan,
    ) {
        let case = self.rehearsal.case.as_mut().filter(|case| case.id == id);
        if let Some(run) = case.and_then(|case| case.run.as_mut()) {
            run.read(device, reading, span);
        }
    }

    /// A device answered an off order of a rehearsal. Gives back whether it was one.
    pub(super) fn rehearsal_off_done(&mut self, call: CallId, result: &Result<(), OrderError>) -> bool {
        let Some(case) = self.rehearsal.case.as_mut() else { return false };
        let Some(device) = case.offs.remove(&call) else { return false };
        if let Some(run) = case.run.as_mut() {
            run.answered(&device, result.clone());
        }
        true
    }
}
