//! `rekindle fence-rehearse`: gives the order, and tells what comes of it until it is over.

use std::io::Write;
use std::time::Duration;

use rekindle_coordinator::ledger::OperatorCommand;
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::id::{HostName, IncidentId};
use rekindle_proto::status::{IncidentDoc, Phase};
use tokio::time::Instant;

use super::args::Cli;
use super::render::{self, Paint};
use super::run::{ASK_WITHIN, question, show, submit, unexpected, write};
use super::{Exit, Failure};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longer than any rehearsal: the waits before it, its orders, and the twenty minutes that a host may take to come back.
const OVER_WITHIN: Duration = Duration::from_secs(40 * 60);

/// How long nobody need answer: an election may come between.
const UNANSWERED_MAX: Duration = Duration::from_secs(120);

/// Orders it, follows it, and exits by what it has shown: 0 passed, 1 not, 2 the host has not come back.
pub(super) async fn run(
    cli: &Cli,
    host: &HostName,
    level: Option<u8>,
    reason: &str,
    json: bool,
    out: &mut (impl Write + Send),
    paint: Paint,
) -> Result<Exit, Failure> {
    let command = OperatorCommand::Rehearse { host: host.clone(), level };
    if json {
        submit(cli, command, reason, &mut std::io::sink()).await?;
    } else {
        submit(cli, command, reason, out).await?;
        write(out, "it goes on without this command; `rekindle incident` tells of it\n")?;
    }
    let id = latest(cli, host).await?;
    let mut told = 0;
    let mut waits = None;
    let mut answered = Instant::now();
    let until = answered + OVER_WITHIN;
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        let document = match look(cli, id).await {
            Ok(document) => document,
            Err(failure) if failure.exit == Exit::NoDaemon && answered.elapsed() < UNANSWERED_MAX => continue,
            Err(failure) => return Err(failure),
        };
        answered = Instant::now();
        if !json {
            write(out, &render::story_from(&document, told, paint))?;
            let waiting = document.held_by.first().map(ToString::to_string);
            // What only counts down is said once.
            if waiting.as_deref().map(without_figures) != waits.as_deref().map(without_figures) {
                if let Some(waiting) = &waiting {
                    write(out, &format!("  … {}\n", crate::telemetry::plain(waiting)))?;
                }
                waits = waiting;
            }
            told = document.story.len();
        }
        if document.line.ended.is_some() {
            if json {
                show(out, true, &document, String::new)?;
            }
            return Ok(exit_of(document.line.phase));
        }
        if Instant::now() >= until {
            let text = format!("rehearsal {id} of {host} is not over; look at `rekindle incident {id}`");
            return Err(Failure::new(Exit::Unknown, text));
        }
    }
}

fn exit_of(phase: Phase) -> Exit {
    match phase {
        Phase::Recovered => Exit::Done,
        Phase::Stuck => Exit::Usage,
        Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Fenced | Phase::Evacuating | Phase::Refuted => {
            Exit::Refused
        }
    }
}

fn without_figures(text: &str) -> String {
    text.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// The number of the host's latest rehearsal: the one that was just ordered, as there is one at a time.
async fn latest(cli: &Cli, host: &HostName) -> Result<IncidentId, Failure> {
    let AdminReply::Incidents { incidents } = question(&cli.socket, &AdminRequest::Incidents, ASK_WITHIN).await? else {
        return Err(unexpected());
    };
    let found = incidents.iter().filter(|line| line.rehearsal && line.host == *host).map(|line| line.id).max();
    found.ok_or_else(|| Failure::new(Exit::Unknown, format!("there is no rehearsal of {host} to be seen")))
}

async fn look(cli: &Cli, id: IncidentId) -> Result<Box<IncidentDoc>, Failure> {
    let AdminReply::Incident { incident } = question(&cli.socket, &AdminRequest::Incident { id }, ASK_WITHIN).await?
    else {
        return Err(unexpected());
    };
    Ok(incident)
}
