//! The configuration: whatever stands in the file, an answer, never a panic.

use std::path::Path;

use bolero::check;
use rekindle_agent::config::Config;

use super::{BYTES_MAX, Bruise, INPUTS, bruised};

/// The sample of the docs, which names every key.
const SAMPLE: &str = include_str!("../../../docs/rekindle.toml");

fn read(text: &str) -> bool {
    match Config::parse(text, Path::new("/etc/rekindle/rekindle.toml")) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

#[test]
fn a_damaged_configuration_is_refused_with_words() {
    let samples = [SAMPLE.as_bytes().to_vec()];
    check!().with_iterations(INPUTS / 4).with_type::<Bruise>().for_each(|bruise| {
        if let Ok(text) = std::str::from_utf8(&bruised(&samples, bruise)) {
            read(text);
        }
    });
    check!().with_iterations(INPUTS / 4).with_max_len(BYTES_MAX).for_each(|bytes: &[u8]| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert!(!read(text), "rubbish is no configuration: {text:?}");
        }
    });
}

/// Lines left out, doubled and put elsewhere: well-formed TOML that says something else.
#[test]
fn a_shuffled_configuration_is_refused_with_words() {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    check!().with_iterations(INPUTS / 4).with_type::<Vec<(u16, u16)>>().for_each(|moves| {
        let mut lines = lines.clone();
        for (from, to) in moves.iter().take(4) {
            let line = lines[usize::from(*from) % lines.len()];
            let at = usize::from(*to) % lines.len();
            if from % 2 == 0 { lines[at] = line } else { lines.insert(at, line) }
        }
        read(&lines.join("\n"));
    });
}
