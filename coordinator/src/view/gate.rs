//! Boot gates, in words.

use rekindle_proto::fact::{GateReport, GateState, Text};
use rekindle_proto::id::HostName;
use rekindle_proto::status::GuardLine;

use crate::ledger::Ledger;

/// What a host without a gate means to whoever reads of it.
const NO_GATE: &str = "no gate: left off after a fence; readmitted by a person";

pub(super) fn report<'a>(ledger: &'a Ledger, host: &HostName) -> Option<&'a GateReport> {
    ledger.host(host).and_then(|record| record.gate.as_ref()).map(|word| &word.report)
}

/// A line of `why`. It never keeps a recovery from passing: it says what becomes of the host afterwards.
pub(super) fn guard(ledger: &Ledger, host: &HostName) -> GuardLine {
    let text = match report(ledger, host) {
        Some(GateReport { installed: true, state }) => match state {
            GateState::NotRun => "a gate is installed, and holds from the next boot on".into(),
            GateState::Closed { why } => Text::new(format!("its gate is closed: {why}")),
            GateState::OpenedByLedger => "its gate holds its guests after a fence, until it is released".into(),
            GateState::OpenedByHand { by, reason } => Text::new(format!("its gate was opened by {by}: {reason}")),
        },
        Some(GateReport { installed: false, .. }) | None => NO_GATE.into(),
    };
    GuardLine { guard: "gate".into(), passes: true, text }
}

/// A note of `status`: where it matters now.
pub(super) fn note(ledger: &Ledger, host: &HostName) -> Option<Text> {
    let failed =
        ledger.open_incident(host).is_some() || ledger.host(host).is_some_and(|record| record.quarantine.is_some());
    match report(ledger, host) {
        Some(GateReport { state: GateState::Closed { .. }, .. }) => Some("gate closed".into()),
        Some(GateReport { state: GateState::OpenedByHand { by, .. }, .. }) => {
            Some(Text::new(format!("gate opened by {by}")))
        }
        Some(GateReport { installed: true, state: GateState::NotRun | GateState::OpenedByLedger }) => None,
        Some(GateReport { installed: false, .. }) | None => failed.then(|| NO_GATE.into()),
    }
}

/// Gates that a person opened in the present boot although the ledger would not have: for as long as it would not.
pub(super) fn alarms(ledger: &Ledger) -> impl Iterator<Item = Text> {
    ledger.hosts.iter().filter_map(|(host, record)| {
        let word = record.gate.as_ref()?;
        let GateState::OpenedByHand { by, reason } = &word.report.state else { return None };
        let failed = ledger.open_incident(host).is_some() || record.quarantine.is_some();
        failed.then(|| {
            Text::new(format!(
                "{host}: its boot gate was opened by {by} ({reason}) although its failure is not settled: its guests may \
                 run twice"
            ))
        })
    })
}
