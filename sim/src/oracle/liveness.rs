//! Judged when everything has healed.

use rekindle_coordinator::ledger::Ledger;
use rekindle_proto::status::Phase;

use super::{Oracle, Violation};
use crate::raft::History;

/// Liveness: every rehearsal ends, and every incident ends in recovered, refuted, or stuck with a reason.
///
/// # Errors
/// [`Violation::NeverEnds`].
pub fn all_end(history: &History) -> Result<(), Violation> {
    let open = history.ledger().open_incidents().find(|incident| incident.phase != Phase::Stuck);
    match (open, history.ledger().open_rehearsal()) {
        (None, None) => Ok(()),
        (Some(incident), _) => Err(Violation::NeverEnds { host: incident.host.clone(), phase: incident.phase }),
        (None, Some(open)) => Err(Violation::NeverEnds { host: open.host.clone(), phase: open.shown() }),
    }
}

/// Liveness: a stuck incident has a reason that was really there.
///
/// # Errors
/// [`Violation::StuckWithoutCause`].
pub fn stuck_for_a_cause(oracle: &Oracle, ledger: &Ledger) -> Result<(), Violation> {
    let stuck = ledger.open_incidents().filter(|incident| incident.phase == Phase::Stuck);
    for incident in stuck {
        let cut = oracle.stuck.get(&incident.id).is_none_or(|cut| *cut);
        // It waits for another that is stuck, and is judged itself.
        let waits = incident.servers.iter().filter(|(_, record)| record.fate.is_none()).any(|(server, _)| {
            ledger.open_intent_elsewhere(incident.id, *server).is_some_and(|other| other.phase == Phase::Stuck)
        });
        if oracle.causes_of_all.is_empty() && !oracle.causes.contains_key(&incident.host) && !cut && !waits {
            let why = incident.story.last().map(|line| line.text.to_string()).unwrap_or_default();
            return Err(Violation::StuckWithoutCause { host: incident.host.clone(), why });
        }
    }
    Ok(())
}
