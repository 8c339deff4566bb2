//! How long it takes from the order until *off* is first read: `tests/bench/fence/redfish.py` runs it and shows it. The
//! services answer at once, so this is what the clients themselves cost.

use std::time::{Duration, Instant};

use futures::future::join_all;
use rekindle_proto::fact::PowerState;
use rekindle_tests::fake::bmc::Power;

use crate::reference::fence_redfish;
use crate::rig::{PASSWORD, Rig, open};

/// What a call may take: the machine is busy.
const WITHIN: Duration = Duration::from_secs(60);
/// Rounds of each kind with one service.
const ROUNDS: usize = 10;
/// Services that are fenced at once.
const SERVICES: usize = 64;

/// By a driver that has never seen its device, or by one that has just read it.
async fn native(rig: &Rig, ahead: bool) -> Duration {
    let device = open(&rig.settings);
    if ahead {
        assert_eq!(device.read(true, WITHIN).await.power, Ok(PowerState::On));
    }
    let began = Instant::now();
    device.power_off(WITHIN, WITHIN).await.expect("accepted");
    assert_eq!(device.read(false, WITHIN).await.power, Ok(PowerState::Off));
    began.elapsed()
}

/// `fence_redfish -o off` reads by itself until it reads off.
async fn agent(rig: &Rig) -> Duration {
    let began = Instant::now();
    let (code, said) = fence_redfish(&rig.fake, "off", PASSWORD).await;
    assert_eq!(code, Some(0), "{said}");
    began.elapsed()
}

fn show(client: &str, services: usize, mut took: Vec<Duration>) {
    took.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    println!(
        "{{\"client\": \"{client}\", \"services\": {services}, \"median_ms\": {:.2}, \"longest_ms\": {:.2}}}",
        ms(took[took.len() / 2]),
        ms(took[took.len() - 1])
    );
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
