//! Seeds of the size that the ordinary tests run: `cargo run -p rekindle-sim --example speed -- FIRST SEEDS MINUTES [HOSTS]`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command measures; what it measures has no clock"
)]

use std::time::{Duration, Instant};

use rekindle_coordinator::time::Moment;
use rekindle_sim::world::{Plan, World};

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(0));
    let (first, seeds, minutes) = (args.next().unwrap_or(0), args.next().unwrap_or(5), args.next().unwrap_or(30));
    let only = args.next();
    let began = Instant::now();
    let mut host_hours = 0.0;
    for seed in first..first + seeds {
        let hosts = only.unwrap_or(5 + seed * 7 % 60) as usize;
        let voters = if hosts >= 5 { 5 } else { 3 };
        let mut world = World::build(&Plan { seed, hosts, voters, servers: 3, ..Plan::default() });
        let one = Instant::now();
        let mut until = Moment::ZERO;
        for minute in 0..minutes {
            until = until + Duration::from_secs(60);
            world.run_until(until).expect("no promise is broken");
            if minute % 10 == 1 {
                let names = world.host_names();
                let victim = names[world.random(names.len())].clone();
                world.kill_host(&victim, false);
            }
        }
        println!("seed {seed} hosts {hosts}: {:.2} s {:?}", one.elapsed().as_secs_f64(), world.counters());
        host_hours += hosts as f64 * minutes as f64 / 60.0;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {seconds:.2} s, {:.0} host-hours a second", host_hours / seconds);
}
