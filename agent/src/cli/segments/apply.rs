//! `rekindle apply FILE`, or `--from-masakari`: shows what differs; with `--yes` orders it, one signed order a line, and stops at the first that is
//! refused. Run again it goes on where it stopped, and orders nothing where nothing differs.

use std::io::Write;

use rekindle_coordinator::ledger::OperatorCommand;

use super::super::run::{line, submit, write};
use super::super::segment_args::Apply;
use super::super::{Cli, Exit, Failure};
use super::{document, file, masakari};
use crate::telemetry::plain;

/// Shows the difference, and gives the orders if told to.
pub(in crate::cli) async fn run(cli: &Cli, apply: &Apply, out: &mut impl Write) -> Result<Exit, Failure> {
    let (whence, text, reason) = match &apply.file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(Exit::Refused, format!("{}: cannot be read: {error}", path.display())))?;
            (path.display().to_string(), text, "applied from a file")
        }
        None => ("Masakari".to_owned(), masakari::read(&apply.config).await?, "applied from Masakari"),
    };
    if apply.print {
        return write(out, &text);
    }
    let reason = apply.reason.as_deref().unwrap_or(reason);
    let wanted = file::parse(&text).map_err(|rule| Failure::new(Exit::Refused, format!("{whence}: {rule}")))?;
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
        submit(cli, OperatorCommand::Segment(change.order), reason, out).await.map_err(|failure| Failure {
            text: format!("{}: {} ({done} of {all} orders were carried out)", plain(&change.text), failure.text),
            ..failure
        })?;
    }
    Ok(Exit::Done)
}
