//! Proof that the oracle sees: each guard is switched off once, and a broken promise (or a missed expectation of the scenario
//! that aims at it) must be seen within a bounded number of seeds, by which nothing is seen with the guard on. And the other
//! way about: each kind of violation that the oracle knows must be tripped by some loss, or it guards nothing.
//!
//! `cargo test -p rekindle-sim --features mutants --test mutants -- --nocapture` prints the table.

mod by_hand;
mod stories;

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::mutant::{Guard, Without};
use rekindle_sim::oracle::Violation;

use stories::{COVERED, Seen, Story, aimed};

/// Seeds of each story that aims at a guard.
const SEEDS: u64 = 6;

/// Kinds of violation that no switched guard can trip, and why they are there.
const NO_GUARD: [(&str, &str); 5] = [
    ("two-elected", RAFT),
    ("voters-worse", VOTERS),
    ("not-replaced", VOTERS),
    ("left-disabled", "the rules about processes have no guard to be switched off; broken by hand, the oracle saw it"),
    (
        "panicked",
        "nothing of ours stands between a panic and its process: the lints do (no unwrap, no index), and the fuzz targets. That \
     the simulator sees one is tested beside it",
    ),
];

const RAFT: &str = "openraft keeps it, not we: that both halves of a change are needed is tested in sim/src/raft";
const VOTERS: &str = "the rules about voters have no guard to be switched off; broken by hand, the oracle saw it";

/// One guard, or two, switched off in one story.
struct Loss {
    story: String,
    seed: u64,
    tried: u64,
    seen: Seen,
}

/// Stories with a seed that show nothing while every guard is on: only these prove anything.
#[derive(Default)]
struct Sound(BTreeMap<(String, u64), Option<String>>);

impl Sound {
    fn check(&mut self, story: &Story, seed: u64) -> bool {
        let known = self.0.entry((story.name().to_owned(), seed));
        known.or_insert_with(|| story.seen(seed).map(|seen| seen.text)).is_none()
    }
}

#[test]
fn the_loss_of_each_guard_is_seen_and_each_violation_is_tripped() {
    let (mut sound, mut defects) = (Sound::default(), Vec::new());
    let mut tripped: BTreeMap<String, Guard> = BTreeMap::new();
    println!("{:16} {:14} {:>5}  what is seen", "guard off", "rule", "seeds");
    for guard in Guard::ALL {
        for story in aimed(guard) {
            match told(&mut sound, &story, guard) {
                Ok((row, seen)) => {
                    println!("{:16} {:14} {row}", format!("{guard:?}"), guard.rule());
                    if let Some(kind) = seen.kind {
                        tripped.entry(kind).or_insert(guard);
                    }
                }
                Err(defect) => {
                    println!("{:16} {:14}    --  NOT PROVEN: {defect}", format!("{guard:?}"), guard.rule());
                    defects.push(format!("{guard:?}, {}: {defect}", story.name()));
                }
            }
        }
    }
    for (story, seed) in sound.0.iter().filter_map(|(key, seen)| seen.as_ref().map(|_| key)) {
        println!("with every guard on, {story} shows something with seed {seed}: not counted");
    }
    defects.extend(untripped(&tripped));
    println!("{} guards, {} defects", Guard::ALL.len(), defects.len());
    assert!(defects.is_empty(), "{} defects:\n{}", defects.len(), defects.join("\n"));
}

/// What the loss of a guard shows in a story that aims at it: alone, or with the one that covers it.
fn told(sound: &mut Sound, story: &Story, guard: Guard) -> Result<(String, Seen), String> {
    let cover = COVERED.iter().find(|(covered, ..)| *covered == guard);
    match (loss(sound, story, &[guard]), cover) {
        (Some(loss), None) => Ok((loss.row(""), loss.seen)),
        (None, None) => Err(format!("its loss is not seen in {} within {SEEDS} seeds", story.name())),
        (Some(loss), Some((_, other, _))) => {
            Err(format!("it is said to be covered by {other:?}, and its loss alone is seen: {}", loss.seen.text))
        }
        (None, Some((_, other, why))) => match loss(sound, story, &[guard, *other]) {
            Some(loss) => {
                let row = loss.row(&format!("covered by {other:?} ({why}); both off: "));
                Ok((row, loss.seen))
            }
            None => Err(format!("covered by {other:?}, and the loss of both is not seen either")),
        },
    }
}

fn loss(sound: &mut Sound, story: &Story, off: &[Guard]) -> Option<Loss> {
    let seeds = (1..=SEEDS).filter(|seed| sound.check(story, *seed));
    let mut tried = 0;
    seeds.into_iter().find_map(|seed| {
        tried += 1;
        let _off = Without::all(off);
        let seen = story.seen(seed)?;
        Some(Loss { story: story.name().to_owned(), seed, tried, seen })
    })
}

impl Loss {
    fn row(&self, by: &str) -> String {
        format!("{:>5}  {by}{}, seed {}: {}", self.tried, self.story, self.seed, self.seen.text)
    }
}

/// Kinds of violation that nothing has tripped, or that are excused though something does.
fn untripped(tripped: &BTreeMap<String, Guard>) -> Vec<String> {
    let excused = BTreeMap::from(NO_GUARD);
    let known: BTreeSet<&str> = Violation::KINDS.iter().map(|(_, kind)| *kind).collect();
    let mut defects = Vec::new();
    println!("\n{:24} tripped by", "violation");
    for (rule, kind) in Violation::KINDS {
        let name = format!("{rule} {kind}");
        match (tripped.get(kind), excused.get(kind)) {
            (Some(guard), None) => println!("{name:34} {guard:?}"),
            (None, Some(why)) => println!("{name:34} no guard: {why}"),
            (None, None) => {
                println!("{name:34} NOTHING");
                defects.push(format!("no loss of a guard trips {name}: it guards nothing, or nothing aims at it"));
            }
            (Some(guard), Some(_)) => defects.push(format!("{name} is excused, and {guard:?} trips it")),
        }
    }
    defects.extend(excused.keys().filter(|kind| !known.contains(*kind)).map(|kind| format!("{kind} is no violation")));
    defects
}
