//! Who is bound, by which word, and what takes it back.

use super::*;
use crate::policy::Unverified;
use uuid::Uuid;

fn book() -> (DeviceBook, HostName, DeviceName) {
    let host = HostName::new("cmp-1").expect("legal");
    let rule = DeviceRule {
        hosts: "cmp-*".to_owned(),
        level: 1,
        driver: "ipmi-tool".to_owned(),
        address: "{host}-bmc".to_owned(),
        unverified: Unverified::Refuse,
    };
    let mut book = DeviceBook::default();
    book.enroll([&host].into_iter(), std::slice::from_ref(&rule));
    let device = rule.device(&host);
    (book, host, device)
}

/// What a rehearsal has shown counts for the device that was rehearsed, and for no other.
#[test]
fn the_table_of_rehearsed_devices() {
    use rekindle_proto::id::{ClusterName, IncidentId, OperatorName, WallTime};
    let machine = SystemUuid(Uuid::from_u128(7));
    let own = DeviceGuid(*machine.0.as_bytes());
    let odd = DeviceGuid([9; 16]);
    let none = || Err(DeviceError::Refused("it has no GUID".into()));
    let mates = |names: &[&DeviceName]| names.iter().map(|name| (*name).clone()).collect::<Vec<_>>();
    let other = DeviceName("sim@other".to_owned());
    type Row = (Option<Option<DeviceGuid>>, bool, bool, Result<DeviceGuid, DeviceError>, &'static str);
    // (the mark's GUID, whether it passed, whether its level is the same, what the device tells now, what it counts)
    let rows: [Row; 10] = [
        (None, true, true, none(), "unknown"),
        (Some(None), true, true, none(), "rehearsed"),
        (Some(None), true, false, none(), "unknown"),
        (Some(None), false, true, none(), "refused"),
        (Some(None), true, true, Ok(odd), "refused"),
        (Some(Some(odd)), true, true, Ok(odd), "rehearsed"),
        (Some(Some(odd)), true, true, none(), "rehearsed"),
        (None, true, true, Ok(odd), "refused"),
        (Some(None), true, true, Ok(own), "bound"),
        (Some(None), false, true, Ok(own), "refused"),
    ];
    for (mark, passed, same_level, told, expected) in rows {
        let (mut book, host, device) = book();
        let mut ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
        if let Some(guid) = mark {
            let with = if same_level { mates(&[&device]) } else { mates(&[&device, &other]) };
            let mark = RehearsalMark {
                rehearsal: IncidentId(3),
                by: OperatorName::new("alice").expect("legal"),
                at: WallTime(0),
                with,
                guid,
                lies: (!passed).then(|| "it was heard".into()),
            };
            ledger.hosts.entry(host.clone()).or_default().rehearsed.insert(device.clone(), mark);
            ledger.rehearsed_changes = 1;
        }
        book.take_rehearsals(&ledger);
        let reading = DeviceReading { power: Ok(PowerState::On), guid: Some(told.clone()) };
        book.note(&device, &reading, Moment::ZERO, Some(machine), None);
        let was = match &book.get(&device).expect("enrolled").binding {
            Binding::Bound => "bound",
            Binding::Rehearsed(_) => "rehearsed",
            Binding::Unverified => "unverified",
            Binding::Unknown(_) => "unknown",
            Binding::Refused(_) => "refused",
        };
        assert_eq!(was, expected, "{mark:?} {passed} {same_level} {told:?}");
    }
}

#[test]
fn a_rehearsed_device_that_reads_off_of_a_living_host_is_not_mended_by_reading_on() {
    use rekindle_proto::id::{ClusterName, IncidentId, OperatorName, WallTime};
    let (mut book, host, device) = book();
    let mut ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
    let mark = RehearsalMark {
        rehearsal: IncidentId(3),
        by: OperatorName::new("alice").expect("legal"),
        at: WallTime(0),
        with: vec![device.clone()],
        guid: None,
        lies: None,
    };
    ledger.hosts.entry(host.clone()).or_default().rehearsed.insert(device.clone(), mark);
    book.take_rehearsals(&ledger);
    let boot = BootId(Uuid::from_u128(1));
    let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
    let reading = |power| DeviceReading { power: Ok(power), guid: None };
    book.note(&device, &reading(PowerState::Off), at(10), None, Some(boot));
    assert!(book.get(&device).expect("enrolled").binding.counts());
    assert!(book.heard(&host, boot, at(13)), "caught");
    assert_eq!(book.caught_after_rehearsal().count(), 1);
    book.note(&device, &reading(PowerState::On), at(20), None, Some(boot));
    assert!(!book.get(&device).expect("enrolled").binding.counts(), "a reading on mends no rehearsal");
}

/// Asked at every step, with more hosts now and then; a device named twice is the first host's.
#[test]
fn new_hosts_are_enrolled_and_known_ones_kept() {
    let host = |name: &str| HostName::new(name).expect("legal");
    let rule = |hosts: &str, level: u8, address: &str| DeviceRule {
        hosts: hosts.to_owned(),
        level,
        driver: "ipmi-tool".to_owned(),
        address: address.to_owned(),
        unverified: Unverified::Refuse,
    };
    let rules = [rule("*", 1, "{host}-bmc"), rule("cmp-*", 2, "pdu-1")];
    let mut book = DeviceBook::default();
    let (a, b, c, w) = (host("cmp-1"), host("cmp-2"), host("cmp-3"), host("wit-1"));
    let levels = |book: &DeviceBook, host: &HostName| book.of(host).iter().map(|e| e.plan.level).collect::<Vec<_>>();
    book.enroll([&b, &w].into_iter(), &rules);
    let device = book.of(&b)[0].plan.name.clone();
    let reading = DeviceReading { power: Ok(PowerState::On), guid: None };
    book.note(&device, &reading, Moment::ZERO, None, None);
    book.enroll([&a, &b, &c, &w].into_iter(), &rules);
    book.enroll([&a, &c].into_iter(), &rules);
    assert_eq!([&a, &b, &c, &w].map(|host| levels(&book, host)), [vec![1], vec![1, 2], vec![1], vec![1]]);
    assert!(book.of(&b)[0].last.is_some(), "what was read is kept");
    assert_eq!(book.iter().count(), 5);
}

#[test]
fn a_device_is_bound_by_its_guid_and_unbound_by_a_contradiction() {
    let (mut book, _, device) = book();
    let machine = SystemUuid(Uuid::from_u128(7));
    let guid = DeviceGuid(*machine.0.as_bytes());
    let reading = |power: PowerState, guid: DeviceGuid| DeviceReading { power: Ok(power), guid: Some(Ok(guid)) };
    let binding = |book: &DeviceBook| book.get(&device).expect("enrolled").binding.clone();

    book.note(&device, &reading(PowerState::On, guid), Moment::ZERO, None, None);
    assert!(matches!(binding(&book), Binding::Unknown(_)), "the host has not said its UUID");
    book.note(&device, &reading(PowerState::On, guid), Moment::ZERO, Some(machine), None);
    assert_eq!(binding(&book), Binding::Bound);
    let silent = DeviceReading {
        power: Err(DeviceError::Silent("timed out".into())),
        guid: Some(Err(DeviceError::Silent("timed out".into()))),
    };
    book.note(&device, &silent, Moment::ZERO, Some(machine), None);
    assert_eq!(binding(&book), Binding::Bound, "silence does not unbind");
    book.note(&device, &reading(PowerState::On, DeviceGuid([9; 16])), Moment::ZERO, Some(machine), None);
    assert!(matches!(binding(&book), Binding::Refused(_)), "another machine's");
}

#[test]
fn a_device_that_says_off_of_a_speaking_host_is_refused_until_it_says_on() {
    let (mut book, host, device) = book();
    let (machine, at) = (SystemUuid(Uuid::from_u128(7)), |ms: u64| Moment::from_micros(ms * 1_000));
    let (boot, next_boot) = (BootId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)));
    let guid = Some(Ok(DeviceGuid(*machine.0.as_bytes())));
    let off = DeviceReading { power: Ok(PowerState::Off), guid: guid.clone() };
    let on = DeviceReading { power: Ok(PowerState::On), guid };
    let bound = |book: &DeviceBook| book.get(&device).expect("enrolled").binding == Binding::Bound;

    book.note(&device, &off, at(1_000), Some(machine), Some(boot));
    assert!(!book.heard(&host, boot, at(2_900)), "last words of a host that has just lost its power");
    assert!(!book.heard(&host, next_boot, at(9_000)), "it was off, and somebody started it");
    assert!(bound(&book));
    assert!(book.heard(&host, boot, at(3_001)));
    assert!(!bound(&book));
    book.note(&device, &off, at(20_000), Some(machine), Some(boot));
    assert!(!bound(&book), "its GUID does not excuse it");
    book.note(&device, &on, at(40_000), Some(machine), Some(boot));
    assert!(bound(&book));
    assert!(!book.heard(&host, boot, at(50_000)));
}

/// Two supplies on level 1, another way on level 2. What ends the wait for a suspect's own word is a whole level that reads off,
/// each device of it known to be the host's, and read since it fell silent.
#[test]
fn what_reads_off_since_a_suspicion() {
    let host = HostName::new("cmp-1").expect("legal");
    let rule = |level: u8, address: &str| DeviceRule {
        hosts: "cmp-*".to_owned(),
        level,
        driver: "ipmi-tool".to_owned(),
        address: address.to_owned(),
        unverified: Unverified::Refuse,
    };
    let rules = [rule(1, "{host}-a"), rule(1, "{host}-b"), rule(2, "{host}-c")];
    let machine = SystemUuid(Uuid::from_u128(7));
    let (own, odd) = (DeviceGuid(*machine.0.as_bytes()), DeviceGuid([9; 16]));
    let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
    let silent = || Err(DeviceError::Silent("timed out".into()));
    let (off, on) = (|| Ok(PowerState::Off), || Ok(PowerState::On));
    // (what each device read, whose it says to be, and when), the suspicion begins at 10 s
    type Read = Option<(Result<PowerState, DeviceError>, DeviceGuid, u64)>;
    let rows: Vec<([Read; 3], bool)> = vec![
        ([None, None, None], false),
        ([Some((off(), own, 10)), Some((off(), own, 11)), None], true),
        ([Some((off(), own, 10)), Some((on(), own, 11)), None], false),
        ([Some((off(), own, 10)), Some((silent(), own, 11)), None], false),
        ([Some((off(), own, 10)), None, None], false),
        ([Some((off(), own, 9)), Some((off(), own, 11)), None], false),
        ([Some((off(), own, 10)), Some((off(), odd, 11)), None], false),
        ([Some((on(), own, 10)), Some((on(), own, 11)), Some((off(), own, 12))], true),
        ([None, None, Some((off(), own, 9))], false),
        ([None, None, Some((off(), odd, 12))], false),
    ];
    for (read, ends) in rows {
        let mut book = DeviceBook::default();
        book.enroll([&host].into_iter(), &rules);
        for (rule, read) in rules.iter().zip(&read) {
            let Some((power, guid, seconds)) = read else { continue };
            let reading = DeviceReading { power: power.clone(), guid: Some(Ok(*guid)) };
            book.note(&rule.device(&host), &reading, at(*seconds), Some(machine), None);
        }
        assert_eq!(book.reads_off_since(&host, at(10)), ends, "{read:?}");
    }
}
