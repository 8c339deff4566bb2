//! How long it takes from the order until *off* is first read: `tests/bench/fence/redfish.py` runs it and shows it. The
//! services answer at once, so this is what the clients themselves cost. A client that fails is counted, in its own words: that
//! one does, many at once, is a finding too.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rekindle_proto::fact::PowerState;
use rekindle_tests::fake::bmc::Power;
use serde_json::json;

use crate::reference::fence_redfish;
use crate::rig::{PASSWORD, Rig, open};

/// What a call may take: the machine is busy.
const WITHIN: Duration = Duration::from_secs(60);
/// Rounds of each kind with one service.
const ROUNDS: usize = 10;
/// Services that are fenced at once.
const SERVICES: usize = 64;

/// How long one fence took, or why it failed.
type Took = Result<Duration, String>;

/// By a driver that has never seen its device, or by one that has just read it.
async fn native(rig: &Rig, ahead: bool) -> Took {
    let device = open(&rig.settings);
    if ahead {
        device.read(true, WITHIN).await.power.map_err(|error| error.to_string())?;
    }
    let began = Instant::now();
    device.power_off(WITHIN, WITHIN).await.map_err(|error| error.to_string())?;
    match device.read(false, WITHIN).await.power {
        Ok(PowerState::Off) => taken(rig, began),
        Ok(PowerState::On) => Err("it reads on after its order".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `fence_redfish -o off` reads by itself until it reads off.
async fn agent(rig: &Rig) -> Took {
    let began = Instant::now();
    let (code, said) = fence_redfish(&rig.fake, "off", PASSWORD).await;
    match code {
        Some(0) => taken(rig, began),
        Some(code) => Err(format!("exit code {code}: {}", said.trim())),
        None => Err(said),
    }
}

/// Whoever says *off* of a machine that has power has not fenced it.
fn taken(rig: &Rig, began: Instant) -> Took {
    let took = began.elapsed();
    if rig.fake.power() == Power::Off { Ok(took) } else { Err("it says off, and the power is on".to_owned()) }
}

/// One line for the script; the times are of those that succeeded.
fn show(client: &str, services: usize, fences: Vec<Took>) {
    let (took, failures): (Vec<Took>, Vec<Took>) = fences.into_iter().partition(Result::is_ok);
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort_unstable();
    let ms = |at: usize| took.get(at).map(|time| time.as_secs_f64() * 1_000.0);
    let row = json!({
        "client": client, "services": services, "succeeded": took.len(), "failed": failures.len(),
        "first_failure": failures.into_iter().find_map(Result::err),
        "median_ms": ms(took.len() / 2), "longest_ms": ms(took.len().saturating_sub(1)),
    });
    println!("{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn measure() {
    let rig = Rig::new().await;
    let (mut cold, mut ahead, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (took, kind) in [(&mut cold, false), (&mut ahead, true)] {
            rig.fake.set_power(Power::On);
            rig.fake.restart();
            took.push(native(&rig, kind).await);
        }
        rig.fake.set_power(Power::On);
        theirs.push(agent(&rig).await);
    }
    show("native, cold", 1, cold);
    show("native, read before", 1, ahead);
    show("fence_redfish", 1, theirs);
    let mut rigs = Vec::new();
    for _ in 0..SERVICES {
        rigs.push(Rig::new().await);
    }
    let on = || rigs.iter().for_each(|rig| rig.fake.set_power(Power::On));
    show("native, cold", SERVICES, join_all(rigs.iter().map(|rig| native(rig, false))).await);
    on();
    show("native, read before", SERVICES, join_all(rigs.iter().map(|rig| native(rig, true))).await);
    on();
    show("fence_redfish", SERVICES, join_all(rigs.iter().map(agent)).await);
}
