//! Truth tables of every brake.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::id::{ClusterName, WallTime};

use super::*;
use crate::ledger::{FenceRate, Incident, VerdictRecord};
use crate::time::Moment;

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn named(number: usize) -> HostName {
    host(&format!("h{number:03}"))
}

/// An armed ledger of `size` hypervisors, the first `labelled` of them in rack r1.
fn ledger(size: usize, labelled: usize) -> Ledger {
    let mut ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
    ledger.arming.armed = true;
    for number in 0..size {
        let domain = (number < labelled).then(|| DomainName::new("r1").expect("legal"));
        ledger.roster.insert(named(number), RosterEntry { host: named(number), role: MemberRole::Member, domain });
        ledger.hosts.insert(named(number), Default::default());
    }
    ledger
}

fn open(ledger: &mut Ledger, number: usize, phase: Phase, roster: u32) -> IncidentId {
    let id = IncidentId(u64::try_from(number).expect("small") + 1);
    let verdict =
        VerdictRecord { eligible: 3, needed: 3, testimonies: Vec::new(), present: roster, roster, path: None };
    let begun = Incident { phase, ..Incident::begun(id, named(number), WallTime(0), verdict) };
    ledger.incidents.insert(id, begun);
    id
}

fn said(brake: Option<Brake>) -> String {
    brake.map_or_else(|| "free".to_owned(), |brake| format!("{}: {brake}", brake.name()))
}

#[test]
fn the_cold_start_table() {
    // Seconds of the epoch, roster members seen of ten, whether the host is among them.
    let rows = [
        (0, 1, true, "cold-start: cold start: 0 s of 300 s have passed, and 1 members were seen alive; 8 end it early"),
        (
            299,
            7,
            true,
            "cold-start: cold start: 299 s of 300 s have passed, and 7 members were seen alive; 8 end it early",
        ),
        (
            299,
            7,
            false,
            "cold-start: cold start: 299 s of 300 s have passed, and 7 members were seen alive; 8 end it early",
        ),
        (10, 8, true, "free"),
        (10, 8, false, "cold-start: cold start: h000 was not yet seen alive since; 10 s of 600 s have passed"),
        (300, 1, true, "free"),
        (300, 9, false, "cold-start: cold start: h000 was not yet seen alive since; 300 s of 600 s have passed"),
        (599, 0, false, "cold-start: cold start: h000 was not yet seen alive since; 599 s of 600 s have passed"),
        (600, 0, false, "free"),
    ];
    for (elapsed_s, seen, own, expected) in rows {
        let mut ledger = ledger(10, 0);
        ledger.epoch.number = 1;
        ledger.epoch.elapsed_ms = elapsed_s * 1_000;
        let others = if own { 0..seen } else { 1..seen + 1 };
        ledger.epoch.seen = others.map(named).collect();
        // Those who are not enrolled do not count.
        ledger.epoch.seen.insert(host("stranger"));
        assert_eq!(said(cold_start(&ledger, &named(0))), expected, "{elapsed_s} s, {seen} seen, itself {own}");
        ledger.epoch.number = 0;
        assert_eq!(cold_start(&ledger, &named(0)), None, "before the first epoch");
    }
}

#[test]
fn the_mass_failure_table() {
    let rows = [
        (5, 3, "free"),
        (5, 2, "mass-failure: mass-failure stop: 2 of 5 answered the roll call; 3 are needed"),
        (4, 2, "mass-failure: mass-failure stop: 2 of 4 answered the roll call; 3 are needed"),
        (100, 51, "free"),
        (100, 50, "mass-failure: mass-failure stop: 50 of 100 answered the roll call; 51 are needed"),
    ];
    for (roster, present, expected) in rows {
        assert_eq!(said(mass_failure(present, roster)), expected, "{present} of {roster}");
    }
}

#[test]
fn an_incident_counts_against_the_larger_roster() {
    for (now, at_opening, expected) in [(10, 10, 10), (10, 14, 14), (14, 10, 14)] {
        let mut ledger = ledger(now, 0);
        open(&mut ledger, 0, Phase::Fencing, at_opening);
        assert_eq!(roster_base(&ledger, &named(0)), expected);
        assert_eq!(roster_base(&ledger, &named(1)), now, "no incident of it");
    }
}

#[test]
fn the_cap_table() {
    // Hosts in the rack, phases of open incidents in it, whether an evacuation waits for the host.
    let rows: &[(usize, &[Phase], bool, &str)] = &[
        (0, &[Phase::Fencing], false, "free"),
        (4, &[], false, "free"),
        (4, &[Phase::Fencing], false, "1 of 1"),
        (4, &[Phase::Evacuating], false, "1 of 1"),
        (4, &[Phase::Evacuating], true, "free"),
        (4, &[Phase::Fencing], true, "1 of 1"),
        (4, &[Phase::Stuck], false, "free"),
        (4, &[Phase::Recovered], false, "free"),
        (4, &[Phase::Refuted], false, "free"),
        (19, &[Phase::Fenced], false, "1 of 1"),
        (20, &[Phase::Fenced], false, "free"),
        (20, &[Phase::Fenced, Phase::Unclean], false, "2 of 2"),
        (40, &[Phase::Fenced, Phase::Unclean, Phase::Evacuating], false, "free"),
        (40, &[Phase::Fenced, Phase::Unclean, Phase::Evacuating, Phase::Fencing], false, "4 of 4"),
    ];
    for (size, phases, needed, expected) in rows {
        let mut ledger = ledger(*size + 10, *size);
        let ids: Vec<IncidentId> =
            phases.iter().enumerate().map(|(number, phase)| open(&mut ledger, number + 1, *phase, 50)).collect();
        let needed_by = if *needed { ids.first().copied() } else { None };
        let said = match domain_cap(&ledger, &named(0), needed_by) {
            None => "free".to_owned(),
            Some(Brake::DomainCap { open, cap, .. }) => format!("{open} of {cap}"),
            Some(other) => panic!("{other}"),
        };
        assert_eq!(said, *expected, "{size} hosts, {phases:?}, needed {needed}");
    }
}

fn silences(began_s: &[u64]) -> BTreeMap<HostName, Silence> {
    let silence = |(number, began): (usize, &u64)| {
        (named(number), Silence { since: Moment::from_micros(began * 1_000_000), in_event: false })
    };
    began_s.iter().enumerate().map(silence).collect()
}

#[test]
fn the_event_table() {
    // When hosts fell silent, in a roster of how many, of which so many are labelled as one rack; which of them did together.
    let rows: &[(&[u64], usize, usize, &[usize])] = &[
        (&[0], 10, 0, &[]),
        (&[0, 0], 10, 0, &[]),
        (&[0, 0, 0], 10, 0, &[0, 1, 2]),
        (&[0, 0, 0], 30, 0, &[0, 1, 2]),
        (&[0, 0, 0], 31, 0, &[]),
        (&[0, 7, 15], 10, 0, &[0, 1, 2]),
        (&[0, 7, 16], 10, 0, &[]),
        (&[0, 15, 30], 10, 0, &[]),
        (&[0, 10, 15, 20, 25], 10, 0, &[0, 1, 2, 3, 4]),
        (&[0, 100, 101, 102], 10, 0, &[1, 2, 3]),
        // A rack of a large cluster: a tenth of the rack.
        (&[0, 0, 0], 2_000, 30, &[0, 1, 2]),
        (&[0, 0, 0], 2_000, 31, &[]),
        (&[0, 0, 0, 0], 2_000, 40, &[0, 1, 2, 3]),
        (&[0, 7, 16], 2_000, 30, &[]),
        (&[0, 0, 0, 0], 2_000, 2, &[]),
        (&[0, 0, 0, 100, 0], 2_000, 4, &[0, 1, 2]),
        (&[0, 0], 2_000, 2, &[]),
    ];
    for (began, size, labelled, expected) in rows {
        let expected: BTreeSet<HostName> = expected.iter().copied().map(named).collect();
        let roster = ledger(*size, *labelled).roster;
        assert_eq!(events(&silences(began), &roster), expected, "{began:?} of {size}, {labelled} in one rack");
    }
}

#[test]
fn the_hold_table() {
    // Silent together for how long, how many of three read off; how much longer. Afterwards nothing holds.
    let rows =
        [(0, 0, Some(120)), (60, 1, Some(60)), (59, 2, Some(1)), (60, 2, None), (119, 0, Some(1)), (120, 0, None)];
    for (now_s, off, expected) in rows {
        let mut silent = silences(&[0, 1, 2]);
        for silence in silent.values_mut() {
            silence.in_event = true;
        }
        let off: BTreeSet<HostName> = (0..off).map(named).collect();
        let left = match event_hold(&silent, &off, &named(0), 20, Moment::from_micros(now_s * 1_000_000)) {
            None => None,
            Some(Brake::DomainEvent { left, hosts: 3, .. }) => Some(left.as_secs()),
            Some(other) => panic!("{other:?}"),
        };
        assert_eq!(left, expected, "{now_s} s, {} off", off.len());
    }
    assert_eq!(event_hold(&silences(&[0]), &BTreeSet::new(), &named(0), 20, Moment::ZERO), None, "a single host");
}

#[test]
fn the_rate_counts_incidents_not_attempts() {
    let mut ledger = ledger(10, 0);
    let id = open(&mut ledger, 0, Phase::Fencing, 10);
    ledger.rate = FenceRate { counted: 3, in_storm: 3, storm_ms: 0, incidents: BTreeSet::new() };
    let claim = |after, waited_ms| RateClaim { after, waited_ms };
    assert_eq!(
        said(fence_rate(&ledger, id, claim(3, 1_000))),
        "fence-rate: fence rate: 3 hosts were fenced in this storm; the next in 69 s"
    );
    assert_eq!(fence_rate(&ledger, id, claim(3, 70_000)), None);
    assert!(fence_rate(&ledger, id, claim(2, 70_000)).is_some(), "waited since another fence");
    ledger.rate.incidents.insert(id);
    assert_eq!(fence_rate(&ledger, id, claim(3, 0)), None, "a retry");
}

#[test]
fn only_an_order_of_its_own_ends_disarmed_and_maintenance() {
    let mut ledger = ledger(3, 0);
    assert_eq!(standing(&ledger, &named(0)), None);
    ledger.hosts.entry(named(0)).or_default().maintenance = Some("alice: new fan".into());
    let maintenance = standing(&ledger, &named(0)).expect("held");
    assert_eq!(standing(&ledger, &named(1)), None);
    ledger.arming.armed = false;
    let disarmed = standing(&ledger, &named(1)).expect("held");
    assert!(!maintenance.is_liftable() && !disarmed.is_liftable());
}
