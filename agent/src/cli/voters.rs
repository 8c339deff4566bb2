//! `rekindle recover-quorum`: on a survivor's host, without its daemon.

use std::fmt::Write as _;
use std::path::Path;

use rekindle_coordinator::ledger::{OperatorCommand, QuorumRecovery};
use rekindle_proto::id::HostName;

use super::{Cli, Exit, Failure, order};
use crate::clock;
use crate::config::Config;
use crate::ledger::{Remains, recover_quorum as recover, remains};
use crate::state_dir::StateDir;

/// Shows what is left of the ledger here and, unless it is a dry run, lets it go on alone.
///
/// # Errors
/// [`Failure`]: the daemon runs, there is no ledger, an operator's certificate is missing, or the ledger refuses. Nothing was
/// changed then.
pub(super) async fn recover_quorum(
    cli: &Cli,
    config: &Path,
    off: &[HostName],
    dry_run: bool,
    reason: &str,
) -> Result<String, Failure> {
    let config = Config::load(config).map_err(|error| Failure::here(&error))?;
    // Held to the end: a daemon that is started meanwhile finds the directory in use.
    let state = StateDir::open(&config.member.state_dir).map_err(|error| Failure::here(&error))?;
    let known = state.generation().map_err(|error| Failure::here(&error))?;
    let Some(settings) = config.ledger(0) else {
        return Err(Failure::new(
            Exit::Refused,
            "this host keeps no ledger: it is neither in cluster.voters nor in standbys",
        ));
    };
    let left =
        remains(&settings.dir, &settings.host, &settings.cluster).await.map_err(|error| Failure::here(&error))?;
    let mut text = describe(&left, off);
    if let Some(known) = known {
        let ca = crate::pki::certificate_der(&config.cluster.tls.ca).map_err(|error| Failure::here(&error))?;
        let recovery = rekindle_coordinator::proven_generation(&known, &settings.cluster, &ca)
            .map_err(|why| Failure::new(Exit::Refused, why))?;
        if recovery.generation > left.generation {
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "generation {} of the voters was begun on {}: this ledger, of generation {}, is of the past and must not \
                     go on",
                    recovery.generation, recovery.survivor.host, left.generation
                ),
            ));
        }
    }
    if dry_run {
        text.push_str("nothing was changed\n");
        return Ok(text);
    }
    let command = OperatorCommand::RecoverQuorum(QuorumRecovery {
        generation: left.generation + 1,
        survivor: left.seat,
        stated_off: off.to_vec(),
    });
    let signed = order::signed(&cli.operator_cert, &cli.operator_key, command, reason)?;
    let done = recover(&settings.dir, &settings.host, &settings.cluster, &signed, clock::now().wall)
        .await
        .map_err(|error| Failure::here(&error))?;
    // The ledger has the order too: should this fail, the daemon writes it at its next start.
    state.persist_generation(&signed).map_err(|error| Failure::here(&error))?;
    let _ = writeln!(text, "{}", crate::telemetry::plain(done.as_str()));
    text.push_str("start rekindled here, and the standbys; then look at `rekindle voters`\n");
    Ok(text)
}

fn describe(left: &Remains, off: &[HostName]) -> String {
    let (term, index) = left.last;
    let mut text =
        format!("{}: ledger of generation {}, last entry {index} of term {term}\n", left.seat.host, left.generation);
    for voter in left.ledger.voters.voters.keys().filter(|voter| **voter != left.seat.host) {
        let state = match (left.ledger.is_proven_off(voter), off.contains(voter)) {
            (true, _) => "fenced, by this ledger",
            (false, true) => "off, by your word",
            (false, false) => "neither fenced nor stated to be off",
        };
        let _ = writeln!(text, "  voter {voter}: {state}");
    }
    text
}
