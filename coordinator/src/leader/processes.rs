//! Processes that are down for good on a host that lives: its compute service is disabled in Nova, so that nothing new is
//! scheduled there, and enabled again once they are back. Only what we disabled we enable; a person's word stands.
//!
//! A host that may itself be failing is left alone: its servers are recovered with it, whatever its processes do, and Nova
//! waits a minute for whoever is asked to disable a dead host that is not forced down.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::{NovaError, NovaService, Text};
use rekindle_proto::id::{BootId, CallId, HostName, IncidentId, ProcessName};
use rekindle_proto::process::ProcessReport;

use super::proposals::Key;
use super::{HOLD_RETRY, Leader, NovaCall};
use crate::context::Context;
use crate::io::{NovaAnswer, NovaRead, Output};
use crate::ledger::{Entry, LeaderCommand, MemberStatement, ProcessIncident, ROSTER_MAX, Statement};
use crate::order::{ServiceChange, ServiceOrder};
use crate::time::Moment;

/// Between two looks at a compute service that Nova does not tell of, or whose host is in doubt.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Between two looks at one that waits for something else.
const LOOK_SELDOM: Duration = Duration::from_secs(20);

/// How old Nova's word may be when a step is taken on it.
const WORD_AGE_MAX: Duration = Duration::from_secs(10);

/// An answer of Nova that has not come in this time is asked for again.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// How long a call that disables may have an effect after it was sent: every HTTP, proxy and RPC time-out on the way, as with
/// an evacuate call (I11). Nothing is enabled while one of ours, or of a leader before us, may yet be carried out.
const LATE_CALLS: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct ProcessDesk {
    /// Words that the ledger does not hold yet.
    words: BTreeMap<HostName, (BootId, ProcessReport)>,
    cases: BTreeMap<HostName, ServiceCase>,
}

/// One compute service, as this leader follows it.
#[derive(Debug, Default)]
struct ServiceCase {
    /// And whether it is a call that disables.
    asked: Option<(CallId, Moment, bool)>,
    next: Option<Moment>,
    service: Option<(Moment, Option<NovaService>)>,
    /// Until when a call of ours that disables may have an effect.
    late: Option<Moment>,
    /// What is waited for, for people.
    text: Text,
}

/// What is known of a host's processes.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    /// The first that is down for good.
    down: Option<&'a ProcessName>,
    /// All are well.
    well: bool,
    /// A person has taken the service over.
    overruled: bool,
    /// A call that disables may yet have an effect.
    late: bool,
}

/// What is to be done about a compute service.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Wait(Text),
    Open(ProcessName),
    Disable,
    NoteDisabled,
    Enable,
    End { recovered: bool, why: Text },
}

impl Leader {
    /// A host's word about its processes.
    pub(crate) fn process_word(&mut self, host: &HostName, boot: BootId, report: ProcessReport) {
        let desk = &mut self.processes;
        if desk.words.len() < ROSTER_MAX || desk.words.contains_key(host) {
            desk.words.insert(host.clone(), (boot, report));
            self.touch();
        }
    }

    /// What a compute service waits for, for people.
    pub(crate) fn service_text(&self, host: &HostName) -> Option<&Text> {
        self.processes.cases.get(host).map(|case| &case.text).filter(|text| !text.as_str().is_empty())
    }

    pub(super) fn drive_processes(&mut self, cx: &mut Context<'_>) {
        self.commit_process_words(cx);
        let ledger = cx.ledger;
        let mut hosts: Vec<HostName> =
            ledger.processes.values().filter(|it| it.is_open()).map(|it| it.host.clone()).collect();
        let is_down = |host: &HostName| ledger.process_word(host).is_some_and(|word| word.down().is_some());
        hosts.extend(ledger.hosts.keys().filter(|host| is_down(host)).cloned());
        hosts.sort();
        hosts.dedup();
        self.processes.cases.retain(|host, _| hosts.contains(host));
        for host in hosts {
            self.drive_service(cx, &host);
        }
    }

    fn commit_process_words(&mut self, cx: &mut Context<'_>) {
        let known = |host: &HostName, (boot, report): &(BootId, ProcessReport)| {
            let word = cx.ledger.host(host).and_then(|record| record.processes.word.as_ref());
            word.is_some_and(|word| word.boot == *boot && word.report == *report)
        };
        self.processes.words.retain(|host, word| !known(host, word));
        let enrolled = |(host, _): &(&HostName, &(BootId, ProcessReport))| cx.ledger.host(host).is_some();
        let due = self.processes.words.iter().filter(enrolled);
        let due: Vec<_> = due.map(|(host, (boot, report))| (host.clone(), *boot, report.clone())).collect();
        for (host, boot, report) in due {
            let statement = MemberStatement::Processes { report };
            let statement = Statement::Member { host: host.clone(), boot, statement };
            self.propose(cx, Key::Processes(host), Entry::new(cx.now.wall, statement));
        }
    }

    fn drive_service(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let now = cx.now.mono;
        if let Err(why) = self.may_look_at_service(cx, host) {
            let case = self.processes.cases.entry(host.clone()).or_default();
            // What was read before says nothing of the service after the hold. A call that is under way stays so.
            (case.service, case.next, case.text) = (None, None, why);
            self.wake_at(now + LOOK_EVERY);
            return;
        }
        let case = self.processes.cases.entry(host.clone()).or_default();
        if let Some((_, asked, _)) = case.asked.filter(|(_, asked, _)| now < *asked + ANSWER_WAIT) {
            self.wake_at(asked + ANSWER_WAIT);
            return;
        }
        case.asked = None;
        if let Some(next) = case.next.filter(|next| now < *next) {
            self.wake_at(next);
            return;
        }
        let incident = cx.ledger.open_process(host);
        let word = cx.ledger.process_word(host);
        let well = word.is_some_and(ProcessReport::is_well);
        if incident.is_some_and(|incident| incident.disabled) && !well {
            // Nothing can follow before the host says so.
            case.text = "its compute service is disabled by us until its processes are back".into();
            return;
        }
        let Some((_, service)) = case.service.clone().filter(|(at, _)| now.since(*at) < WORD_AGE_MAX) else {
            let call = cx.out.call();
            cx.out.push(Output::Nova { call, request: NovaRead::Service(host.clone()) });
            self.expect_of_service(cx, host, call, false);
            return;
        };
        let late = case.late.is_some_and(|until| now < until) || now < self.began + LATE_CALLS;
        let known = Known {
            down: word.and_then(ProcessReport::down).map(|process| &process.name),
            well,
            overruled: cx.ledger.host(host).is_some_and(|record| record.processes.overruled),
            late,
        };
        let step = step(incident, known, service.as_ref());
        let id = incident.map(|incident| incident.id);
        self.take_service_step(cx, host, id, step);
    }

    /// Whether anything may be done about a host's compute service: only while nobody doubts that the host lives.
    fn may_look_at_service(&self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        cx.ledger.may_touch_service(host)?;
        if !cx.is_alive(host) || self.suspects.contains_key(host) {
            return Err("waiting until it is settled whether the host lives".into());
        }
        if cx.goodbye(host).is_some() {
            return Err("the host said goodbye: its return is waited for".into());
        }
        if cx.ledger.open_reboots().any(|reboot| reboot.host == *host) {
            return Err("its guests are being started after a reboot".into());
        }
        Ok(())
    }

    fn take_service_step(&mut self, cx: &mut Context<'_>, host: &HostName, id: Option<IncidentId>, step: Step) {
        let key = || Key::Service(host.clone());
        match (step, id) {
            (Step::Wait(text), _) => {
                let case = self.processes.cases.entry(host.clone()).or_default();
                (case.service, case.next, case.text) = (None, Some(cx.now.mono + LOOK_SELDOM), text);
                self.wake_at(cx.now.mono + LOOK_SELDOM);
            }
            (Step::Open(process), _) => {
                self.command(cx, key(), LeaderCommand::OpenProcess { host: host.clone(), process });
            }
            (Step::NoteDisabled, Some(incident)) => {
                self.command(cx, key(), LeaderCommand::ServiceDisabled { incident });
            }
            (Step::End { recovered, why }, Some(incident)) => {
                self.command(cx, key(), LeaderCommand::EndProcess { incident, recovered, why });
            }
            (Step::Disable, Some(incident)) => {
                let reason = cx.ledger.processes.get(&incident).map(ProcessIncident::reason).unwrap_or_default();
                self.set_service(cx, host, ServiceChange::Disable { reason });
            }
            (Step::Enable, Some(_)) => self.set_service(cx, host, ServiceChange::Enable),
            (Step::NoteDisabled | Step::End { .. } | Step::Disable | Step::Enable, None) => {}
        }
    }

    /// Sent only with a permit, and only if the host itself has answered the roll.
    fn set_service(&mut self, cx: &mut Context<'_>, host: &HostName, change: ServiceChange) {
        let permit = match self.permit(cx, host) {
            Ok(permit) => permit,
            Err(hold) => {
                self.hold_service(cx.now.mono, host, Text::new(hold.to_string()));
                return;
            }
        };
        if !self.roll_since(Moment::ZERO).is_some_and(|roll| roll.present.contains(host)) {
            self.want_roll(cx);
            self.hold_service(cx.now.mono, host, "the host has not answered the roll call".into());
            return;
        }
        let call = cx.out.call();
        let disables = change != ServiceChange::Enable;
        cx.out.push(Output::SetService(ServiceOrder::new(call, permit, host.clone(), change)));
        self.expect_of_service(cx, host, call, disables);
    }

    fn hold_service(&mut self, now: Moment, host: &HostName, why: Text) {
        if let Some(case) = self.processes.cases.get_mut(host) {
            case.text = why;
        }
        self.wake_at(now + HOLD_RETRY);
    }

    fn expect_of_service(&mut self, cx: &Context<'_>, host: &HostName, call: CallId, disables: bool) {
        if let Some(case) = self.processes.cases.get_mut(host) {
            (case.asked, case.service) = (Some((call, cx.now.mono, disables)), None);
            if disables {
                case.late = Some(cx.now.mono + LATE_CALLS);
            }
        }
        self.nova.insert(call, NovaCall::Service(host.clone()));
        self.wake_at(cx.now.mono + ANSWER_WAIT);
    }

    pub(super) fn take_service_nova(
        &mut self,
        cx: &Context<'_>,
        host: &HostName,
        call: CallId,
        result: Result<NovaAnswer, NovaError>,
    ) {
        let now = cx.now.mono;
        let Some(case) = self.processes.cases.get_mut(host) else { return };
        let Some((_, asked, disables)) = case.asked.take_if(|(expected, ..)| *expected == call) else { return };
        let is_settled = matches!(result, Ok(_) | Err(NovaError::Refused { .. } | NovaError::NotSent(_)));
        if disables && is_settled {
            case.late = None;
        }
        match result {
            // As old as the question: whatever happened since may not be in it.
            Ok(NovaAnswer::Service(service)) => case.service = Some((asked, service)),
            Ok(_) => case.next = Some(now + LOOK_EVERY),
            Err(error) => {
                case.text = Text::new(format!("waiting for Nova: {error}"));
                case.next = Some(now + LOOK_EVERY);
            }
        }
    }
}

/// What is to be done, by what the ledger has, what the host says, and what Nova shows.
fn step(incident: Option<&ProcessIncident>, known: Known<'_>, service: Option<&NovaService>) -> Step {
    let Known { down, well, overruled, late } = known;
    let wait = |text: &str| Step::Wait(text.into());
    let Some(service) = service else {
        let why = "Nova has no compute service of this host";
        return match incident {
            None => wait(why),
            Some(_) => Step::End { recovered: well, why: why.into() },
        };
    };
    let Some(incident) = incident else {
        return match down {
            None => wait(""),
            Some(_) if overruled => {
                wait("its compute service was enabled or disabled by somebody else meanwhile: left alone")
            }
            Some(_) if service.forced_down => wait("its compute service is forced down, not by us"),
            Some(_) if !service.enabled => {
                let why = service.disabled_reason.as_ref().map_or("no reason given", Text::as_str);
                Step::Wait(Text::new(format!("its compute service is disabled already, not by us: {why}")))
            }
            Some(process) => Step::Open(process.clone()),
        };
    };
    let is_ours = !service.enabled && service.disabled_reason.as_ref() == Some(&incident.reason());
    match (incident.disabled, service.enabled, is_ours) {
        (false, true, _) if well && late => wait("it is back; a call that disables its service may yet be under way"),
        (false, true, _) if well => {
            Step::End { recovered: true, why: "it is back before its service was disabled".into() }
        }
        (false, true, _) if down.is_some() => Step::Disable,
        (false, true, _) => wait("whether it stays is waited for"),
        (false, false, true) => Step::NoteDisabled,
        (true, false, true) if well && late => {
            wait("it is back; a call that disables its service may yet be under way")
        }
        (true, false, true) if well => Step::Enable,
        (true, false, true) => wait("its compute service is disabled by us until it is back"),
        (true, true, _) if well => {
            Step::End { recovered: true, why: "it is back: its compute service is enabled again".into() }
        }
        (true, true, _) => {
            Step::End { recovered: false, why: "somebody has enabled its compute service: left alone".into() }
        }
        (false | true, false, false) => {
            let why = service.disabled_reason.as_ref().map_or("no reason given", Text::as_str);
            Step::End {
                recovered: false,
                why: Text::new(format!("somebody has disabled its compute service ({why}): it stays so")),
            }
        }
    }
}

#[cfg(test)]
mod tests;
