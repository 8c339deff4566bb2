//! One command, from its arguments to its exit code.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use rekindle_coordinator::ledger::{LEDGER_FORMAT, OperatorCommand};
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::id::HostName;
use rekindle_proto::status::{HostLine, StatusDoc};
use serde::Serialize;

use super::args::{BrakeCommand, Cli, Command, HostCommand, PkiCommand, RosterRole, Switch, VotersCommand};
use super::render::{self, Paint};
use super::{Exit, Failure, order, pki, rehearse, replay, roster, segments, sim, voters};
use crate::admin::ask;

/// A question is answered at once, or by the leader within its time-outs.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(15);
/// Fence devices are read with time-outs and repetitions of their own, a whole site of them.
const FENCE_TEST_WITHIN: Duration = Duration::from_secs(120);
/// Placement is asked twice about every host, a whole site of them.
const CAPACITY_WITHIN: Duration = Duration::from_secs(130);
/// An order waits for the ledger: an election may come between.
const ORDER_WITHIN: Duration = Duration::from_secs(30);
/// `--watch` draws that often.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Cursor home, and clear to the end of the screen: no flicker, and the scroll-back stays whole.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// Does what the arguments say, and writes to `out` (which is standard output, but in tests).
///
/// # Errors
/// [`Failure`] with the exit code and the words for standard error.
pub async fn run(cli: &Cli, out: &mut (impl Write + Send)) -> Result<Exit, Failure> {
    let paint = Paint { colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    let socket = cli.socket.as_path();
    match &cli.command {
        Command::Status { json, watch: false } => status(socket, out, *json, paint).await,
        Command::Status { json, watch: true } => watch(socket, out, *json, paint).await,
        Command::Members { json } => {
            let AdminReply::Members { members } = question(socket, &AdminRequest::Members, ASK_WITHIN).await? else {
                return Err(unexpected());
            };
            show(out, *json, &members, || render::members(&members, paint))
        }
        Command::Incident { id, json, replay: Some(file) } => replay::run(file, *id, out, *json, paint),
        Command::Incident { id, json, replay: None } => incident(socket, out, *id, *json, paint).await,
        Command::Why { host, json } => {
            let request = AdminRequest::Why { host: host.clone() };
            let AdminReply::Why { why } = question(socket, &request, ASK_WITHIN).await? else {
                return Err(unexpected());
            };
            show(out, *json, &why, || render::why(&why, paint))?;
            Ok(if why.protected { Exit::Done } else { Exit::Refused })
        }
        Command::FenceTest { host, json } => {
            let request = AdminRequest::FenceTest { host: host.clone() };
            let AdminReply::FenceTest { devices } = question(socket, &request, FENCE_TEST_WITHIN).await? else {
                return Err(unexpected());
            };
            show(out, *json, &devices, || render::fence_test(&devices, paint))?;
            let all = !devices.is_empty() && devices.iter().all(|device| device.bound && device.power.is_some());
            Ok(if all { Exit::Done } else { Exit::Refused })
        }
        Command::FenceRehearse { host, level, json, why } => {
            rehearse::run(cli, host, *level, &why.reason, *json, out, paint).await
        }
        Command::Capacity { lose, host, json } => {
            let request = AdminRequest::Capacity { lose: *lose, host: host.clone() };
            let AdminReply::Capacity { capacity } = question(socket, &request, CAPACITY_WITHIN).await? else {
                return Err(unexpected());
            };
            show(out, *json, &capacity, || render::capacity(&capacity, paint))?;
            Ok(if capacity.survives { Exit::Done } else { Exit::Refused })
        }
        Command::Brake { json, command: None } => {
            let AdminReply::Brakes { brakes } = question(socket, &AdminRequest::Brakes, ASK_WITHIN).await? else {
                return Err(unexpected());
            };
            show(out, *json, &brakes, || render::brakes(&brakes, paint))
        }
        Command::Host(HostCommand::List { json }) => host_list(socket, out, *json, paint).await,
        Command::Host(HostCommand::Show { host, json }) => segments::show_host(cli, host, *json, out, paint).await,
        Command::Host(HostCommand::Set(set)) => segments::set_host(cli, set, out).await,
        Command::Segment(command) => segments::segment(cli, command, out, paint).await,
        Command::Apply(apply) => segments::apply::run(cli, apply, out).await,
        Command::Voters { json, command: None } => {
            let AdminReply::Voters { voters } = question(socket, &AdminRequest::Voters, ASK_WITHIN).await? else {
                return Err(unexpected());
            };
            show(out, *json, &voters, || render::voters(&voters, paint))?;
            Ok(if voters.change.is_some() || voters.placement.is_some() { Exit::Refused } else { Exit::Done })
        }
        Command::RecoverQuorum { config, off, dry_run, why } => {
            let text = voters::recover_quorum(cli, config, off, *dry_run, &why.reason).await?;
            write(out, &text)
        }
        Command::Pki(command) => pki_command(command, out),
        Command::Gate(command) => super::gate::run(socket, command, out).await,
        Command::Sim(command) => sim::run(socket, command, out).await,
        Command::Init { .. }
        | Command::Arm(_)
        | Command::Disarm { .. }
        | Command::Host(HostCommand::Enroll { .. } | HostCommand::Forget { .. })
        | Command::Maintenance { .. }
        | Command::Resume { .. }
        | Command::Release { .. }
        | Command::Voters { command: Some(_), .. }
        | Command::Brake { command: Some(_), .. } => {
            let Some((command, reason)) = ordered(&cli.command)? else { return Err(unexpected()) };
            submit(cli, command, reason, out).await
        }
        Command::FenceConfirm { host, i_checked_that, why } => {
            // The word is about this incident, and about no later one.
            let status = picture(socket).await?;
            let Some(open) = status.incidents.iter().find(|incident| incident.line.host == *host) else {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("{host} has no open incident: there is nothing to confirm"),
                ));
            };
            let command = OperatorCommand::ConfirmOff { incident: open.line.id, checked: i_checked_that.trim().into() };
            submit(cli, command, &why.reason, out).await
        }
    }
}

pub(super) async fn submit(
    cli: &Cli,
    command: OperatorCommand,
    reason: &str,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let order = order::signed(&cli.operator_cert, &cli.operator_key, command, reason)?;
    let reply = ask(&cli.socket, &AdminRequest::Submit { order }, ORDER_WITHIN)
        .await
        .map_err(|error| Failure::client(&error, true))?;
    match reply {
        AdminReply::Committed { text } => line(out, &crate::telemetry::plain(text.as_str())),
        AdminReply::Error { kind, text } => Err(Failure::reply(kind, text.as_str())),
        AdminReply::Status { .. }
        | AdminReply::Members { .. }
        | AdminReply::Incidents { .. }
        | AdminReply::Incident { .. }
        | AdminReply::Why { .. }
        | AdminReply::Gate { .. }
        | AdminReply::FenceTest { .. }
        | AdminReply::Voters { .. }
        | AdminReply::Capacity { .. }
        | AdminReply::Segments { .. }
        | AdminReply::Brakes { .. } => Err(Failure { exit: Exit::Unknown, ..unexpected() }),
    }
}

/// The ledger command that a verb means, and its reason; `None` for verbs that change nothing.
fn ordered(command: &Command) -> Result<Option<(OperatorCommand, &str)>, Failure> {
    Ok(Some(match command {
        Command::Init { roster, ca, reason } => {
            (OperatorCommand::Init { roster: roster::read(roster)?, ca: pki::certificate(ca)? }, reason)
        }
        Command::Arm(why) => (OperatorCommand::Arm(true), &why.reason),
        Command::Disarm { lasts: None, why } => (OperatorCommand::Arm(false), &why.reason),
        Command::Disarm { lasts: Some(lasts), why } => {
            (OperatorCommand::DisarmFor { ms: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) }, &why.reason)
        }
        Command::Host(HostCommand::Enroll { host, role, domain, why }) => {
            let role = match role {
                RosterRole::Member => MemberRole::Member,
                RosterRole::Witness => MemberRole::Witness,
            };
            let entry = RosterEntry { host: host.clone(), role, domain: domain.clone() };
            (OperatorCommand::Enroll { entry }, &why.reason)
        }
        Command::Host(HostCommand::Forget { host, why }) => {
            (OperatorCommand::Forget { host: host.clone() }, &why.reason)
        }
        Command::Maintenance { switch, host, why } => {
            (OperatorCommand::Maintenance { host: host.clone(), on: *switch == Switch::On }, &why.reason)
        }
        Command::Resume { incident, why } => (OperatorCommand::Resume { incident: *incident }, &why.reason),
        Command::Release { host, why } => (OperatorCommand::Release { host: host.clone() }, &why.reason),
        Command::Voters { command: Some(VotersCommand::Replace { old, new, why }), .. } => {
            (OperatorCommand::ReplaceVoter { old: old.clone(), new: new.clone() }, &why.reason)
        }
        Command::Voters { command: Some(VotersCommand::RaiseFormat { why }), .. } => {
            (OperatorCommand::RaiseFormat { to: LEDGER_FORMAT }, &why.reason)
        }
        Command::Brake { command: Some(BrakeCommand::Lift { target, why }), .. } => {
            (OperatorCommand::LiftBrake { target: target.clone() }, &why.reason)
        }
        Command::Status { .. }
        | Command::Brake { command: None, .. }
        | Command::Members { .. }
        | Command::Incident { .. }
        | Command::Why { .. }
        | Command::FenceTest { .. }
        | Command::Capacity { .. }
        | Command::Gate(_)
        | Command::Host(HostCommand::List { .. } | HostCommand::Show { .. } | HostCommand::Set(_))
        | Command::Segment(_)
        | Command::Apply(_)
        | Command::FenceConfirm { .. }
        | Command::FenceRehearse { .. }
        | Command::Voters { command: None, .. }
        | Command::RecoverQuorum { .. }
        | Command::Pki(_)
        | Command::Sim(_) => return Ok(None),
    }))
}

pub(super) async fn picture(socket: &Path) -> Result<Box<StatusDoc>, Failure> {
    let AdminReply::Status { status } = question(socket, &AdminRequest::Status, ASK_WITHIN).await? else {
        return Err(unexpected());
    };
    Ok(status)
}

async fn status(socket: &Path, out: &mut impl Write, json: bool, paint: Paint) -> Result<Exit, Failure> {
    let status = picture(socket).await?;
    show(out, json, &status, || render::status(&status, paint))?;
    Ok(Exit::of_status(&status))
}

async fn host_list(socket: &Path, out: &mut impl Write, json: bool, paint: Paint) -> Result<Exit, Failure> {
    let status = picture(socket).await?;
    let list = HostList { hosts: &status.hosts, strangers: &status.strangers };
    show(out, json, &list, || render::hosts(&status, paint))
}

/// What `rekindle host list --json` prints: the part of the status that is the roster.
#[derive(Serialize)]
struct HostList<'a> {
    hosts: &'a [HostLine],
    strangers: &'a [HostName],
}

/// Draws until Ctrl-C, also while there is no daemon: that is when one watches.
async fn watch(socket: &Path, out: &mut impl Write, json: bool, paint: Paint) -> Result<Exit, Failure> {
    let clear = if std::io::stdout().is_terminal() && !json { REDRAW } else { "" };
    let mut every = tokio::time::interval(WATCH_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Ok(Exit::NoDaemon);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            _ = &mut interrupted => return last,
            _ = every.tick() => {}
        }
        let asked = tokio::select! {
            _ = &mut interrupted => return last,
            asked = picture(socket) => asked,
        };
        let (text, end) = match asked {
            Ok(status) if json => (compact(&status)?, Ok(Exit::of_status(&status))),
            Ok(status) => (render::status(&status, paint), Ok(Exit::of_status(&status))),
            Err(failure) if json => {
                (format!("{}\n", serde_json::json!({ "error": failure.text.clone() })), Err(failure))
            }
            Err(failure) => (format!("{}\n", failure.text), Err(failure)),
        };
        last = end;
        write(out, &format!("{clear}{text}"))?;
    }
}

async fn incident(
    socket: &Path,
    out: &mut impl Write,
    id: Option<rekindle_proto::id::IncidentId>,
    json: bool,
    paint: Paint,
) -> Result<Exit, Failure> {
    let request = id.map_or(AdminRequest::Incidents, |id| AdminRequest::Incident { id });
    let reply = question(socket, &request, ASK_WITHIN).await?;
    if let AdminReply::Incidents { incidents } = reply {
        show(out, json, &incidents, || render::incidents(&incidents, paint))
    } else if let AdminReply::Incident { incident } = reply {
        show(out, json, &incident, || render::incident(&incident, paint))
    } else {
        Err(unexpected())
    }
}

fn pki_command(command: &PkiCommand, out: &mut impl Write) -> Result<Exit, Failure> {
    match command {
        PkiCommand::Init { cluster, dir } => {
            let files = pki::init(dir, cluster)?;
            let (ca, key) = (files.certificate.display(), files.key.display());
            line(out, &format!("{ca}, {key}: the CA of {cluster}; keep the key off the hypervisors"))
        }
        PkiCommand::Issue { role, name, dir, out: to } => {
            let files = pki::issue(dir, name, *role, to.as_ref().unwrap_or(dir))?;
            line(out, &format!("{}, {} (mode 0600)", files.certificate.display(), files.key.display()))
        }
    }
}

/// Asks; a refusal is a failure.
pub(super) async fn question(socket: &Path, request: &AdminRequest, within: Duration) -> Result<AdminReply, Failure> {
    let reply = ask(socket, request, within).await.map_err(|error| Failure::client(&error, false))?;
    if let AdminReply::Error { kind, text } = &reply {
        return Err(Failure::reply(*kind, text.as_str()));
    }
    Ok(reply)
}

pub(super) fn show(
    out: &mut impl Write,
    json: bool,
    document: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<Exit, Failure> {
    let text = if json { pretty(document)? } else { text() };
    write(out, &text)
}

fn pretty(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| Failure::here(&error))?;
    Ok(text + "\n")
}

fn compact(document: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(document).map_err(|error| Failure::here(&error))?;
    Ok(text + "\n")
}

pub(super) fn line(out: &mut impl Write, text: &str) -> Result<Exit, Failure> {
    write(out, &format!("{text}\n"))
}

pub(super) fn write(out: &mut impl Write, text: &str) -> Result<Exit, Failure> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::here(&error))?;
    Ok(Exit::Done)
}

pub(super) fn unexpected() -> Failure {
    Failure::new(Exit::NoDaemon, "the daemon answered another question; are daemon and command of one version?")
}
