//! Detection, measured: one part of `make bench-detect`, so many runs of it, a line of JSON each.
//!
//! ```text
//! detect death|quiet|slow [--hosts N] [--loss PERCENT] [--first SEED] [--runs R] [--stock]
//!        death: [--dead K] [--power]      quiet: [--seconds S]
//!        slow:  --slow C (--deaf MS --free MS | --starved) [--seconds S]
//! ```
//!
//! `--stock`: stock foca in a network alike, instead of ours.
#![expect(clippy::disallowed_methods, reason = "a command has arguments; what it calls has none")]

mod stock;

use std::time::Duration;

use rekindle_sim::detect::{self, Dying, Ill, Size};
use serde_json::{Value, json};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let number = |name: &str, default: u64| {
        let place = args.iter().position(|arg| arg == name);
        place.map_or(default, |place| {
            let value = args.get(place + 1).and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| fail(&format!("{name} wants a number")))
        })
    };
    let size = Size { hosts: number("--hosts", 5) as usize, loss_percent: number("--loss", 0) as u8 };
    let stock = has("--stock");
    let seconds = Duration::from_secs(number("--seconds", 120));
    let first = number("--first", 0);
    for seed in first..first + number("--runs", 1) {
        let line = match args.first().map(String::as_str) {
            Some("death") => {
                let dying = Dying { dead: number("--dead", 1) as usize, power: has("--power") };
                death(size, dying, stock, seed)
            }
            Some("quiet") => quiet(size, seconds, stock, seed),
            Some("slow") => {
                let millis = |name: &str, default: u64| Duration::from_millis(number(name, default));
                let deaf = Ill::Deaf { deaf: millis("--deaf", 16_384), free: millis("--free", 1_024) };
                let ill = if has("--starved") { Ill::Starved } else { deaf };
                slow(size, number("--slow", 1) as usize, ill, seconds, stock, seed)
            }
            Some(_) | None => fail("detect death|quiet|slow …: see examples/detect/main.rs"),
        };
        println!("{line}");
    }
}

fn death(size: Size, dying: Dying, stock: bool, seed: u64) -> Value {
    if !stock {
        return json!(detect::death(size, dying, seed));
    }
    let (first_down, all_told, false_downs) = stock::death(size, dying, seed);
    json!({ "seed": seed, "first_down": first_down, "all_told": all_told, "false_downs": false_downs })
}

fn quiet(size: Size, lasts: Duration, stock: bool, seed: u64) -> Value {
    if !stock {
        return json!(detect::quiet(size, lasts, seed));
    }
    let (false_downs, sent) = stock::quiet(size, lasts, seed);
    json!({ "seed": seed, "seconds": lasts.as_secs(), "false_downs": false_downs, "sent": sent })
}

fn slow(size: Size, members: usize, ill: Ill, lasts: Duration, stock: bool, seed: u64) -> Value {
    if !stock {
        return json!(detect::slow(size, members, ill, lasts, seed));
    }
    let (false_downs, at_healthy, sent) = stock::slow(size, members, ill, lasts, seed);
    json!({ "seed": seed, "false_downs": false_downs, "at_healthy": at_healthy, "sent": sent })
}

fn fail(what: &str) -> ! {
    eprintln!("detect: {what}");
    std::process::exit(2)
}
