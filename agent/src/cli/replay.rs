//! `rekindle incident ID --replay FILE`: a recorded daemon's decisions, gone through again. Asks no daemon.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rekindle_coordinator::recording::{Difference, RECORDING_BYTES_MAX, Recording, Replay};
use rekindle_proto::id::IncidentId;

use super::render::{self, Paint};
use super::run::{show, write};
use super::{Exit, Failure};
use crate::telemetry::plain;

pub(super) fn run(
    file: &Path,
    id: Option<IncidentId>,
    out: &mut impl Write,
    json: bool,
    paint: Paint,
) -> Result<Exit, Failure> {
    let refused = |text: String| Failure::new(Exit::Refused, format!("{}: {text}", file.display()));
    let mut bytes = Vec::new();
    // The head and the last frame come on top of the bound; what is larger than twice of it must not fill the memory.
    let opened = File::open(file).map(|opened| opened.take(2 * RECORDING_BYTES_MAX + 1));
    let read = opened.and_then(|mut opened| opened.read_to_end(&mut bytes));
    read.map_err(|error| refused(error.to_string()))?;
    if bytes.len() as u64 > 2 * RECORDING_BYTES_MAX {
        return Err(refused("this is larger than any recording".to_owned()));
    }
    let recording = Recording::open(&bytes).map_err(|error| refused(error.to_string()))?;
    let host = recording.setup.host.clone();
    let replay = recording.replay().map_err(|error| refused(error.to_string()))?;
    if let Some(difference) = &replay.difference {
        return Err(refused(differs(difference)));
    }
    let verdict = verdict(&replay);
    if !json {
        write(out, &format!("{host}: {verdict}\n"))?;
    }
    let Some(id) = id else {
        return Ok(Exit::Done);
    };
    let Some(story) = replay.incident(id) else {
        let known: Vec<String> = replay.incidents().iter().map(ToString::to_string).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(refused(format!("no incident {id} at the end of this recording; there: {known}")));
    };
    show(out, json, &story, || format!("\n{}", render::incident(&story, paint)))
}

fn verdict(replay: &Replay) -> String {
    let same = format!("{} inputs, {} outputs, all the same", replay.inputs, replay.outputs);
    match &replay.ends {
        None => same,
        Some(why) => format!("{same}; the recording ends there: {}", plain(why)),
    }
}

fn differs(difference: &Difference) -> String {
    let Difference { input, at, what, output, recorded, replayed } = difference;
    let say = |gist: &Option<String>| gist.as_ref().map_or_else(|| "nothing more".to_owned(), |gist| plain(gist));
    format!(
        "NOT the same at input {input} ({}, at {} of its clock): {}\n  output {output} as recorded: {}\n  output {output} as \
         replayed: {}",
        render::date_time(at.wall),
        at.mono,
        plain(what),
        say(recorded),
        say(replayed)
    )
}
