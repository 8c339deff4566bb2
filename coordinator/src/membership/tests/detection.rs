use std::time::Duration;

use super::super::MemberState::{Alive, Down, Suspect};
use super::net::Net;
use crate::time::Moment;

/// What the survivors saw of one death.
struct Told {
    first_suspect: Duration,
    first_down: Duration,
    all_down: Duration,
}

/// Kills the last of `count` members and watches until all others are told, for at most a minute.
fn death(count: usize, seed: u64, loss: f64) -> Told {
    let mut net = Net::formed(count, seed);
    net.loss = loss;
    let (victim, died) = (count - 1, net.now);
    net.kill(victim);
    let told = net.run_until(Duration::from_secs(60), |net| (0..victim).all(|us| net.state(us, victim) == Some(Down)));
    assert!(told.is_some(), "seed {seed}: of {count}, some were not told in a minute");
    let mut suspects = Vec::new();
    let mut downs = Vec::new();
    for us in 0..victim {
        let changes = net.changes(us, victim, died);
        let states: Vec<_> = changes.iter().map(|(_, state)| *state).collect();
        assert_eq!(states, [Suspect, Down], "seed {seed}: member {us} of {count}");
        suspects.push(changes[0].0);
        downs.push(changes[1].0);
        for other in (0..victim).filter(|other| *other != us && loss == 0.0) {
            assert_eq!(net.state(us, other), Some(Alive), "seed {seed}: member {us} of {other}");
        }
    }
    let since = |moment: Option<&Moment>| moment.expect("somebody").since(died);
    Told {
        first_suspect: since(suspects.iter().min()),
        first_down: since(downs.iter().min()),
        all_down: since(downs.iter().max()),
    }
}

fn percentiles(count: usize, seeds: std::ops::Range<u64>, loss: f64) {
    let told: Vec<_> = seeds.map(|seed| death(count, seed, loss)).collect();
    let mut line = format!("N={count} loss={loss}:");
    for (what, of) in [
        ("first suspect", Told::first_suspect as fn(&Told) -> Duration),
        ("first down", Told::first_down),
        ("all down", Told::all_down),
    ] {
        let mut times: Vec<_> = told.iter().map(of).collect();
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64();
        line += &format!("  {what} p50 {:.2} p99 {:.2} max {:.2}", at(50), at(99), at(100));
    }
    println!("{line}");
}

impl Told {
    fn first_suspect(&self) -> Duration {
        self.first_suspect
    }
    fn first_down(&self) -> Duration {
        self.first_down
    }
    fn all_down(&self) -> Duration {
        self.all_down
    }
}

#[test]
fn figures() {
    for (count, seeds) in [(3, 100), (5, 100), (16, 100), (64, 50), (128, 20)] {
        let start = std::time::Instant::now();
        percentiles(count, 0..seeds, 0.0);
        println!("{:?}", start.elapsed());
    }
}
