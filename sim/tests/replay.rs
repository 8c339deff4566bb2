//! What a member was told, told again: the same outputs, or the first one that differs, by name.

use std::time::Duration;

use rekindle_coordinator::recording::{Recording, RecordingError};
use rekindle_proto::id::{HostName, IncidentId};
use rekindle_proto::status::Phase;
use rekindle_sim::world::{Plan, Weather, World};

/// A cluster in which a host dies and is recovered, in weather; and who led at the end.
fn incident(seed: u64) -> (World, HostName) {
    println!("seed {seed}");
    let weather = Weather { loss_percent: 2, failed_rebuilds_percent: 20, ..Weather::CALM };
    let mut world = World::build(&Plan { seed, hosts: 5, records: true, weather, ..Plan::default() });
    let run = |world: &mut World, seconds: u64| {
        let until = world.now() + Duration::from_secs(seconds);
        world.run_until(until).unwrap_or_else(|broken| panic!("{broken}:\n{}", world.log().join("\n")));
    };
    run(&mut world, 30);
    let victim = HostName::new("cmp-05").expect("legal");
    world.kill_host(&victim, false);
    run(&mut world, 300);
    let leads = |host: &HostName| world.host(host).and_then(|host| host.coordinator()?.confirmed_term()).is_some();
    let leader = world.host_names().into_iter().find(leads).expect("somebody leads");
    (world, leader)
}

#[test]
fn a_whole_incident_replays_the_same_on_the_leader_and_on_every_other_member() {
    for seed in [3, 8] {
        let (world, leader) = incident(seed);
        for host in world.host_names() {
            let bytes = world.recording(&host).expect("recorded");
            let replay = Recording::open(bytes).expect("opened").replay().expect("whole");
            println!("{host}: {} bytes, {} inputs, {} outputs", bytes.len(), replay.inputs, replay.outputs);
            assert_eq!(replay.difference, None, "{host}");
            assert_eq!(replay.ends, None, "{host}");
            assert!(replay.inputs > 100 && replay.outputs > 100, "{host}");
            if host == leader {
                let story = replay.incident(IncidentId(1)).expect("the incident");
                assert_eq!(story.line.phase, Phase::Recovered);
                let ledger = world.host(&host).and_then(|host| host.coordinator()).expect("runs").ledger();
                assert_eq!(story.story, ledger.incidents[&IncidentId(1)].story);
                assert_eq!(replay.incidents(), [IncidentId(1)]);
                let lines: Vec<&str> = story.story.iter().map(|line| line.text.as_str()).collect();
                println!("{}", lines.join("\n"));
                for evidence in ["testimony: ", "guards: armed", "roll call 4 of 5 (need 3)", "readings of attempt"] {
                    assert!(lines.iter().any(|line| line.contains(evidence)), "{evidence} is not told");
                }
            }
        }
    }
}

#[test]
fn what_differs_is_named() {
    let (world, leader) = incident(3);
    let bytes = world.recording(&leader).expect("recorded");
    let mut recording = Recording::open(bytes).expect("opened");
    recording.setup.seed += 1 << 8;
    let replay = recording.replay().expect("whole");
    let difference = replay.difference.expect("another seed calls other numbers");
    println!("{difference:?}");
    assert!(difference.input > 0 && difference.output > 0);
    assert_ne!(difference.recorded, difference.replayed);
    assert_eq!(difference.at, replay.until, "nothing is gone through after it");

    let mut recording = Recording::open(bytes).expect("opened");
    recording.setup.policy.fence_tries += 1;
    recording.setup.policy.device_timeout *= 2;
    let replay = recording.replay().expect("whole");
    let difference = replay.difference.expect("another threshold decides otherwise");
    println!("{difference:?}");
}

#[test]
fn what_is_damaged_or_not_ours_is_refused_in_words() {
    let (world, leader) = incident(3);
    let bytes = world.recording(&leader).expect("recorded").to_vec();
    let refusal = |bytes: &[u8]| -> RecordingError {
        let replay = Recording::open(bytes).and_then(Recording::replay);
        replay.expect_err("refused")
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= byte;
        bytes
    };
    assert_eq!(refusal(b""), RecordingError::NoRecording);
    assert_eq!(refusal(b"[member]\n"), RecordingError::NoRecording);
    let magic = b"rekindle recording\n".len();
    assert_eq!(refusal(&with(magic, 2)), RecordingError::Format { found: 3 });
    // The first byte of the version's text: its sum must hold too, so a plain flip is damage.
    assert!(matches!(refusal(&with(magic + 18, 1)), RecordingError::Damaged { .. }));
    for part in 1..20 {
        // A length that is altered to reach beyond the end looks like a cut; everything else is damage.
        match Recording::open(&with(bytes.len() / 20 * part, 0x10)).and_then(Recording::replay) {
            Ok(replay) => assert!(replay.ends.is_some() && replay.difference.is_none()),
            Err(refused) => assert!(matches!(refused, RecordingError::Damaged { .. }), "{refused}"),
        }
    }
    // A frame that is missing in the middle is noticed by the next one's sum.
    let (mut at, mut starts) = (magic + 4, Vec::new());
    while at < bytes.len() {
        starts.push(at);
        let length: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
        at += 12 + usize::try_from(u32::from_le_bytes(length)).expect("small");
    }
    let (from, to) = (starts[starts.len() / 2], starts[starts.len() / 2 + 1]);
    assert!(matches!(refusal(&[&bytes[..from], &bytes[to..]].concat()), RecordingError::Damaged { .. }));
    // Killed in the middle of a write: what is whole is gone through.
    let cut = Recording::open(&bytes[..bytes.len() - 3]).and_then(Recording::replay).expect("gone through");
    assert_eq!(cut.difference, None);
    assert!(cut.ends.expect("said").contains("cut off"));
}
