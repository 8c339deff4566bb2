//! Detection does not grow worse: the figures of `make bench-detect`, in small, with bounds in virtual time. Medians and
//! worst cases of fixed seeds; the bounds leave room for another order of the same dice, not for another mechanism.

use std::time::Duration;

use rekindle_proto::id::{Incarnation, MemberId};
use rekindle_proto::message::Message;
use rekindle_sim::detect::{Death, Dying, Ill, Size, death, quiet, slow};
use rekindle_sim::world::{Believed, Plan, World};

const ONE: Dying = Dying { dead: 1, power: false };
const POWER: Dying = Dying { dead: 1, power: true };

fn deaths(hosts: usize, loss_percent: u8, dying: Dying, seeds: std::ops::Range<u64>) -> Vec<Death> {
    seeds.map(|seed| death(Size { hosts, loss_percent }, dying, seed)).collect()
}

/// Median and worst, in milliseconds. What never was is worst.
fn spread(times: impl Iterator<Item = Option<u64>>) -> (u64, u64) {
    let mut times: Vec<u64> = times.map(|time| time.unwrap_or(u64::MAX)).collect();
    times.sort_unstable();
    (times[(times.len() - 1) / 2], times[times.len() - 1])
}

fn nobody_else(deaths: &[Death]) {
    for death in deaths {
        assert_eq!((death.false_downs, death.false_verdicts), (0, 0), "{death:?}");
    }
}

#[test]
fn a_small_cluster_knows_of_a_death_in_time() {
    let deaths = deaths(5, 0, ONE, 0..60);
    nobody_else(&deaths);
    let (told, worst_told) = spread(deaths.iter().map(|death| death.all_told));
    let (verdict, worst) = spread(deaths.iter().filter(|death| !death.led).map(|death| death.verdict));
    println!("told {told} / {worst_told}, verdict {verdict} / {worst}");
    assert!(told <= 2_500 && worst_told <= 5_000, "told {told} / {worst_told} ms");
    assert!(verdict <= 2_500 && worst <= 3_500, "verdict {verdict} / {worst} ms");
    assert!(deaths.iter().any(|death| death.led), "no leader was among the dead");
}

#[test]
fn a_large_cluster_knows_of_a_death_in_time() {
    for loss in [0, 5] {
        let deaths = deaths(128, loss, ONE, 0..6);
        nobody_else(&deaths);
        let (told, worst) = spread(deaths.iter().map(|death| death.all_told));
        println!("{loss} % loss: told {told} / {worst}");
        assert!(told <= 4_000 && worst <= 6_000, "{loss} % loss: told {told} / {worst} ms");
    }
}

/// What reads off need not be waited for: the proof comes sooner than where the kernel died under power.
#[test]
fn a_host_without_power_is_not_waited_for() {
    let seeds = 0..8;
    let (dark, hung) = (deaths(64, 0, POWER, seeds.clone()), deaths(64, 0, ONE, seeds));
    nobody_else(&dark);
    let (proof, worst) = spread(dark.iter().map(|death| death.proof));
    println!("proof {proof} / {worst}; under power {:?}", spread(hung.iter().map(|death| death.proof)));
    assert!(proof <= 3_300, "proof in hand after {proof} ms");
    for (dark, hung) in dark.iter().zip(&hung).filter(|(dark, _)| !dark.led) {
        assert!(dark.proof < hung.proof, "the device was not read early: {dark:?} {hung:?}");
    }
}

#[test]
fn a_rack_is_known_to_everybody() {
    let deaths = deaths(32, 1, Dying { dead: 10, power: false }, 0..3);
    nobody_else(&deaths);
    let (_, worst) = spread(deaths.iter().map(|death| death.all_told));
    assert!(worst <= 12_000, "told {worst} ms");
}

#[test]
fn watching_is_cheap_and_cries_no_wolf() {
    for (hosts, loss_percent, seconds, most) in
        [(3, 5, 1_800, 10.0), (16, 0, 120, 5.0), (16, 5, 600, 10.0), (128, 5, 30, 10.0)]
    {
        let seen = quiet(Size { hosts, loss_percent }, Duration::from_secs(seconds), 1);
        let rate = seen.sent.datagrams as f64 / (hosts as u64 * seconds) as f64;
        println!("{hosts} hosts, {loss_percent} %: {rate:.2} datagrams a second, {seen:?}");
        assert_eq!((seen.false_downs, seen.false_verdicts), (0, 0), "{hosts} hosts, {loss_percent} % loss: {seen:?}");
        assert!(rate <= most, "{hosts} hosts, {loss_percent} % loss: {rate:.2} datagrams a second and member");
    }
}

#[test]
fn the_slow_accuse_nobody_who_is_healthy() {
    let deaf = Ill::Deaf { deaf: Duration::from_millis(16_384), free: Duration::from_millis(1_024) };
    for ill in [deaf, Ill::Starved] {
        let seen = slow(Size { hosts: 32, loss_percent: 0 }, 4, ill, Duration::from_secs(60), 2);
        assert_eq!((seen.false_downs, seen.at_healthy), (0, 0), "{ill:?}: {seen:?}");
    }
}

/// That a member is gone is the leader's to say. Whom even the leader calls gone falsely is doubted for that, no more, and
/// says that it lives.
#[test]
fn nobody_but_the_leader_is_believed_that_another_is_gone() {
    let mut world = World::build(&Plan { seed: 3, hosts: 7, voters: 5, formed: true, ..Plan::default() });
    let run = |world: &mut World, seconds: u64| {
        let until = world.now() + Duration::from_secs(seconds);
        world.run_until(until).expect("no promise is broken");
        let beliefs = world.take_beliefs();
        [Believed::Suspect, Believed::Down].map(|state| beliefs.iter().filter(|belief| belief.state == state).count())
    };
    run(&mut world, 10);
    world.watch_beliefs();
    let names = world.host_names();
    let leader = world.leader().expect("elected");
    let victim = names.iter().rfind(|name| **name != leader).expect("seven").clone();
    let lie = || Message::Gone { members: vec![(MemberId::of(&victim), Incarnation(1))] };
    for liar in names.iter().filter(|name| **name != leader && **name != victim) {
        names.iter().filter(|name| **name != victim).for_each(|to| world.say(liar, to, lie()));
    }
    assert_eq!(run(&mut world, 10), [0, 0], "who does not lead was believed");
    names.iter().filter(|name| **name != victim).for_each(|to| world.say(&leader, to, lie()));
    let [suspected, down] = run(&mut world, 10);
    assert!(suspected >= 4, "the leader was not believed");
    assert_eq!(down, 0, "a member that answers everybody was called down");
    run(&mut world, 20);
    assert!(world.ledger().incidents.is_empty() && world.fenced.is_empty(), "{}", world.log().join("\n"));
    let again = death(Size { hosts: 7, loss_percent: 0 }, ONE, 3);
    assert!(again.all_told.is_some());
}
