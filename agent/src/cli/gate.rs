//! `rekindle gate`: the boot gate, on its own host. It asks the local daemon and decides nothing: whether guests may start
//! is the leader's answer (`rekindle-coordinator`, `ledger::gate_of`), or a person's word.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::fact::{GateState, Text};
use rekindle_proto::id::BootId;
use rekindle_proto::status::GateDoc;

use super::args::GateCommand;
use super::run::line;
use super::{Exit, Failure};
use crate::admin::ask;
use crate::clock;
use crate::gate::Gate;
use crate::telemetry::{plain, systemd};

/// Between two questions. A booting host waits for this; a closed gate asks for days.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// An answer is of use for so long from its question: what the leader said before is history.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(10);
/// A closed gate says so again, unasked, this often: whoever comes to the console sees why nothing starts.
const SAY_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn run(socket: &Path, command: &GateCommand, out: &mut impl Write) -> Result<Exit, Failure> {
    let boot = crate::machine::boot_id().map_err(|error| Failure::here(&error))?;
    match command {
        GateCommand::Wait { state } => wait(socket, &Gate::at(state), boot, out).await,
        GateCommand::Open { state, why } => open(socket, &Gate::at(state), boot, &why.reason, out).await,
        GateCommand::Status { state } => status(socket, &Gate::at(state), boot, out).await,
    }
}

/// Returns when guests may start. Fail-closed: without an answer it waits, for ever, and says why.
async fn wait(socket: &Path, gate: &Gate, boot: BootId, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut said: Option<(Text, rekindle_coordinator::time::Moment)> = None;
    loop {
        if let GateState::OpenedByHand { by, reason } = gate.state(boot) {
            systemd::status(&format!("opened by {by}: {reason}"));
            let text = format!("boot gate: OPENED BY HAND by {by}: {reason}. What the ledger says was not heeded");
            return line(out, &plain(&text));
        }
        let answer = asked(socket, boot).await;
        let why = match answer {
            Ok(GateDoc { open: true, why, .. }) => {
                keep(gate, boot, &GateState::OpenedByLedger, out);
                systemd::status(&format!("open: {why}"));
                return line(out, &plain(&format!("boot gate: open: {why}")));
            }
            Ok(GateDoc { open: false, why, .. }) | Err(why) => why,
        };
        let now = clock::moment();
        if said.as_ref().is_none_or(|(last, at)| *last != why || now.since(*at) >= SAY_EVERY) {
            keep(gate, boot, &GateState::Closed { why: why.clone() }, out);
            systemd::status(&format!("closed: {why}"));
            line(out, &plain(&format!("boot gate: CLOSED, no guest starts on this host: {why}")))?;
            said = Some((why, now));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The leader's answer about this very boot; or why there is none.
async fn asked(socket: &Path, boot: BootId) -> Result<GateDoc, Text> {
    let began = clock::moment();
    let request = AdminRequest::Gate { host: None, boot: None };
    let reply = ask(socket, &request, ANSWER_AGE_MAX).await.map_err(|error| Text::new(error.to_string()))?;
    let gate = match reply {
        AdminReply::Gate { gate } => gate,
        AdminReply::Error { text, .. } => return Err(Text::new(format!("no quorate ledger: {text}"))),
        AdminReply::Status { .. }
        | AdminReply::Members { .. }
        | AdminReply::Incidents { .. }
        | AdminReply::Incident { .. }
        | AdminReply::Why { .. }
        | AdminReply::FenceTest { .. }
        | AdminReply::Brakes { .. }
        | AdminReply::Capacity { .. }
        | AdminReply::Voters { .. }
        | AdminReply::Segments { .. }
        | AdminReply::Committed { .. } => return Err("the daemon answered another question".into()),
    };
    if gate.boot != boot {
        return Err(Text::new(format!("the answer is about boot {}; this is boot {boot}", gate.boot)));
    }
    if clock::moment().since(began) > ANSWER_AGE_MAX {
        return Err("the answer came too late".into());
    }
    Ok(gate)
}

/// A gate that cannot write its note does its work all the same: the note is for people.
fn keep(gate: &Gate, boot: BootId, state: &GateState, out: &mut impl Write) {
    if let Err(error) = gate.note(boot, state) {
        // Nobody to tell it to if this fails, too.
        drop(line(out, &format!("boot gate: its state could not be written: {error}")));
    }
}

async fn open(socket: &Path, gate: &Gate, boot: BootId, reason: &str, out: &mut impl Write) -> Result<Exit, Failure> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(Failure::new(Exit::Refused, "--reason must not be empty: it is what the next operator reads"));
    }
    match gate.state(boot) {
        GateState::OpenedByLedger => {
            return line(out, "the gate is open already, by the ledger's word: nothing was done");
        }
        GateState::OpenedByHand { .. } => return line(out, "the gate was opened by hand already: nothing was done"),
        GateState::NotRun | GateState::Closed { .. } => {}
    }
    gate.open_by_hand(boot, Text::new(who()), reason.into()).map_err(|error| {
        Failure::new(Exit::Refused, format!("the gate cannot be opened: {error}; be root on this very host"))
    })?;
    let said = match asked(socket, boot).await {
        Ok(GateDoc { open: true, why, .. }) => format!("The ledger would have opened it: {why}."),
        Ok(GateDoc { open: false, why, .. }) => {
            format!("THE LEDGER WOULD NOT HAVE: {why}. If that still goes on, servers may run twice.")
        }
        Err(why) => format!("The ledger could not be asked: {why}."),
    };
    line(out, &plain(&format!("The boot gate is opened by hand, for this boot alone. {said}")))
}

async fn status(socket: &Path, gate: &Gate, boot: BootId, out: &mut impl Write) -> Result<Exit, Failure> {
    let report = gate.report(boot);
    let installed = if report.installed { "installed" } else { "not installed: no compute service here requires it" };
    line(out, installed)?;
    let (did, exit) = match report.state {
        GateState::NotRun => ("it has not run in this boot".to_owned(), Exit::Refused),
        GateState::Closed { why } => (format!("closed: {why}"), Exit::Refused),
        GateState::OpenedByLedger => ("open, by the ledger's word".to_owned(), Exit::Done),
        GateState::OpenedByHand { by, reason } => (format!("opened by hand by {by}: {reason}"), Exit::Done),
    };
    line(out, &plain(&did))?;
    let says = match asked(socket, boot).await {
        Ok(GateDoc { open, why, .. }) => format!("{}: {why}", if open { "open" } else { "closed" }),
        Err(why) => format!("nothing: {why}"),
    };
    line(out, &plain(&format!("the ledger says now: {says}")))?;
    Ok(exit)
}

/// Who it is, as far as this host can tell.
fn who() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (named("SUDO_USER"), named("USER").or_else(|| named("LOGNAME"))) {
        (Some(user), _) => format!("{user} (sudo)"),
        (None, Some(user)) => user,
        (None, None) => format!("uid {}", nix::unistd::getuid()),
    }
}
