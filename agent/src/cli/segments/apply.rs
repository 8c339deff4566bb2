//! `rekindle apply FILE`: shows what differs; with `--yes` orders it, one signed order a line, and stops at the first that is
//! refused. Run again it goes on where it stopped, and orders nothing where nothing differs.

use std::io::Write;

use rekindle_coordinator::ledger::OperatorCommand;

use super::super::run::{line, submit};
use super::super::segment_args::Apply;
use super::super::{Cli, Exit, Failure};
use super::{document, file};
use crate::telemetry::plain;

/// Shows the difference, and gives the orders if told to.
pub(in crate::cli) async fn run(cli: &Cli, apply: &Apply, out: &mut impl Write) -> Result<Exit, Failure> {
    let path = apply.file.display();
    let refused = |rule: String| Failure::new(Exit::Refused, format!("{path}: {rule}"));
    let text = std::fs::read_to_string(&apply.file).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let wanted = file::parse(&text).map_err(refused)?;
    let changes = file::difference(&wanted, &document(cli).await?);
    if changes.is_empty() {
        return line(out, "nothing differs");
    }
    for change in &changes {
        line(out, &plain(&change.text))?;
    }
    if !apply.yes {
        line(out, &format!("{} orders; nothing was changed: repeat with --yes", changes.len()))?;
        return Ok(Exit::Refused);
    }
    let all = changes.len();
    for (done, change) in changes.into_iter().enumerate() {
        submit(cli, OperatorCommand::Segment(change.order), &apply.reason, out).await.map_err(|failure| Failure {
            text: format!("{}: {} ({done} of {all} orders were carried out)", plain(&change.text), failure.text),
            ..failure
        })?;
    }
    Ok(Exit::Done)
}
