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
fn a_death_is_told_to_all_in_time() {
    // Beside the suspicion: half of all deaths within 4 periods, each within 9 (a survivor probes each of 5 once in 2·5 − 1
    // periods at worst, and four of them probe).
    let suspicion = Net::formed(5, 0).nodes[0].membership.suspicion_time();
    let period = Duration::from_millis(500);
    let mut times: Vec<_> = (0..60).map(|seed| death(5, seed, 0.0).all_down).collect();
    times.sort();
    assert!(times[30] <= suspicion + 4 * period, "median {:?}", times[30]);
    assert!(times[59] <= suspicion + 9 * period, "worst {:?}", times[59]);
    for (count, seeds) in [(2, 20), (3, 60), (32, 20)] {
        for seed in 0..seeds {
            let told = death(count, seed, 0.0);
            assert!(told.all_down < Duration::from_secs(10), "seed {seed}: {count} members: {:?}", told.all_down);
            assert!(told.first_down >= told.first_suspect + period, "seed {seed}: no time to refute");
        }
    }
}

#[test]
fn a_death_is_told_under_loss() {
    for seed in 0..20 {
        let told = death(5, seed, 0.02);
        assert!(told.all_down < Duration::from_secs(15), "seed {seed}: {:?}", told.all_down);
    }
}

#[test]
fn who_lives_is_never_called_dead() {
    let all = [0, 1, 2, 3, 4];
    for (loss, seeds) in [(0.0, 4), (0.01, 20)] {
        for seed in 0..seeds {
            let mut net = Net::formed(5, seed);
            net.loss = loss;
            let start = net.now;
            net.run(Duration::from_secs(600));
            assert_eq!(net.downs(&all, &all, start), 0, "seed {seed}, loss {loss}");
            if loss == 0.0 {
                let failed: usize = all.iter().map(|us| net.failed_probes(*us, start)).sum();
                assert_eq!(failed, 0, "seed {seed}: a probe failed without loss");
            }
        }
    }
}

#[test]
fn a_rack_dies_at_once() {
    for seed in 0..5 {
        let mut net = Net::formed(32, seed);
        let (dead, living): (Vec<_>, Vec<_>) = (0..32).partition(|index| *index < 10);
        let died = net.now;
        dead.iter().for_each(|index| net.kill(*index));
        let told = net.run_until(Duration::from_secs(30), |net| {
            living.iter().all(|us| dead.iter().all(|them| net.state(*us, *them) == Some(Down)))
        });
        let told = told.expect("within half a minute").since(died);
        assert!(told < Duration::from_secs(15), "seed {seed}: {told:?}");
        assert_eq!(net.downs(&living, &living, died), 0, "seed {seed}");
    }
}

/// The table of the module's report: `cargo test -p rekindle-coordinator detection_figures -- --nocapture`.
#[test]
fn detection_figures() {
    for (count, seeds) in [(5, 50), (16, 30), (64, 10), (128, 3)] {
        percentiles(count, 0..seeds, 0.0);
    }
}

/// Where one datagram in twenty is lost, every third probe of three members goes wrong somewhere; asked again on a stream
/// they answer.
#[test]
fn a_question_on_a_stream_spares_small_lossy_clusters() {
    let mut failed = [0, 0];
    for seed in 0..10 {
        for (streams_cut, failed) in [false, true].into_iter().zip(&mut failed) {
            let mut net = Net::formed(3, seed);
            net.loss = 0.05;
            net.streams_cut = streams_cut;
            let start = net.now;
            net.run(Duration::from_secs(600));
            *failed += (0..3).map(|us| net.failed_probes(us, start)).sum::<usize>();
            assert!(net.asked.iter().all(|asked| *asked > 0), "seed {seed}: nobody was asked on a stream");
        }
    }
    println!("failed probes of living members in 5 h: {} with streams, {} without", failed[0], failed[1]);
    assert!(failed[1] >= 50, "the loss does not tell: {failed:?}");
    assert!(failed[0] * 20 <= failed[1], "{failed:?}");
}

#[test]
fn nobody_is_asked_on_a_stream_who_answers() {
    let mut net = Net::formed(5, 1);
    let before = net.asked.clone();
    net.run(Duration::from_secs(120));
    assert_eq!(net.asked, before);
    net.kill(4);
    net.run(Duration::from_secs(1));
    assert!(net.asked.iter().zip(&before).any(|(now, before)| now > before), "a dead one was asked by nobody");
}

/// That all others fall silent is believed too, only later: of four it is more likely that we are deaf.
#[test]
fn who_hears_nobody_waits_before_it_calls_all_others_dead() {
    for (count, patience) in [(5, true), (4, false)] {
        let mut net = Net::formed(count, 2);
        let died = net.now;
        (1..count).for_each(|index| net.kill(index));
        let alone = |net: &Net| (1..count).all(|them| net.state(0, them) == Some(Down));
        let told = net.run_until(Duration::from_secs(60), alone).expect("within a minute").since(died);
        assert_eq!(told >= Duration::from_secs(20), patience, "{count} members: {told:?}");
        assert!(told < Duration::from_secs(40), "{count} members: {told:?}");
    }
}

/// And only with those that are alive to us: what we know is not lost on the dead.
#[test]
fn all_that_is_known_is_exchanged_every_half_minute() {
    let mut net = Net::formed(5, 3);
    net.kill(4);
    net.run(Duration::from_secs(10));
    let (before, start) = (net.exchanges, net.now);
    net.run(2 * super::super::PUSH_PULL_EVERY);
    assert_eq!(net.exchanges - before, 8, "four living members, twice each");
    let named = |us: usize| {
        let outputs = net.nodes[us].outputs.iter().filter(move |(at, _)| *at >= start);
        outputs.filter(|(_, output)| matches!(output, super::super::MembershipOutput::PushPull { .. })).count()
    };
    assert_eq!((0..4).map(named).sum::<usize>(), 8, "a dead one was chosen");
}

/// Half of the wait where that is long enough for a busy host, never longer than the whole; and all of it by who doubts itself.
#[test]
fn a_confirmed_suspicion_is_shorter_but_not_too_short() {
    let table = [(2, 500, 500), (5, 1_048, 1_000), (16, 1_806, 1_000), (64, 2_709, 1_354)];
    for (count, full, confirmed) in table {
        let mut net = Net::formed(count, 3);
        let times = |net: &Net| {
            let membership = &net.nodes[0].membership;
            [membership.suspicion_time(), membership.confirmed_suspicion_time()].map(|time| time.as_millis())
        };
        assert_eq!(times(&net), [full, confirmed], "{count} members");
        if count > 5 {
            net.isolate(&[0]);
            let doubts = |net: &Net| net.nodes[0].membership.local_health() > 1;
            assert!(net.run_until(Duration::from_secs(10), doubts).is_some(), "cut off, it does not doubt itself");
            let [full, confirmed] = times(&net);
            assert_eq!(confirmed, full, "{count} members, in doubt of itself");
        }
    }
}
