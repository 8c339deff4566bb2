//! Where to: the tables.

use super::*;
use crate::ledger::{Leg, ServerRecord, Taken, TakenEnd};
use uuid::Uuid;

const US: ServerId = ServerId(Uuid::from_u128(1));
const ANOTHER: ServerId = ServerId(Uuid::from_u128(2));

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn taken(name: &str, server: ServerId, end: Option<TakenEnd>) -> Taken {
    let joins = Default::default();
    Taken { host: host(name), server, enables: true, shared: false, received: 0, excused: false, end, joins }
}

fn record(leg: Leg) -> ServerRecord {
    ServerRecord {
        name: "web-1".into(),
        vm_state: "active".into(),
        attempts: 0,
        attempts_excused: 0,
        intent: None,
        last_failure: None,
        fate: None,
        restore: Default::default(),
        priority: 50,
        marked: false,
        undecided: None,
        leg,
        unplaced: None,
    }
}

fn word(whither: &Whither) -> String {
    match whither {
        Whither::Anywhere => "anywhere".to_owned(),
        Whither::Reserved(position) => format!("reserved {position}"),
        Whither::Take => "take".to_owned(),
        Whither::Wait { bounded: false, .. } => "wait".to_owned(),
        Whither::Wait { bounded: true, .. } => "wait a while".to_owned(),
        Whither::Turn(_) => "turn".to_owned(),
        Whither::GiveUp(_) => "give up".to_owned(),
    }
}

/// Each method, in each of its halves, with every kind of answer about a spare host.
#[test]
fn the_order_of_methods() {
    use RecoveryMethod::{Auto, AutoPriority, ReservedHost, RhPriority};
    let free = || Spare::Free(host("r1"), true);
    let spares = [free(), Spare::Reading("".into()), Spare::Later("".into()), Spare::None("".into())];
    // (method, turned, no host found by the scheduler, tries used up) -> with a spare free, being read, later, none
    let rows = [
        (Auto, false, false, false, "anywhere anywhere anywhere anywhere"),
        (Auto, false, true, false, "anywhere anywhere anywhere anywhere"),
        (Auto, false, false, true, "give-up give-up give-up give-up"),
        (ReservedHost, false, false, false, "take wait wait-a-while give-up"),
        (ReservedHost, false, false, true, "give-up give-up give-up give-up"),
        (AutoPriority, false, false, false, "anywhere anywhere anywhere anywhere"),
        // At once, where there is a host to turn to; else it has its other tries first.
        (AutoPriority, false, true, false, "turn anywhere anywhere anywhere"),
        (AutoPriority, false, false, true, "turn turn turn turn"),
        (AutoPriority, true, true, false, "take wait wait-a-while give-up"),
        (AutoPriority, true, true, true, "give-up give-up give-up give-up"),
        (RhPriority, false, false, false, "take wait turn turn"),
        (RhPriority, false, false, true, "turn turn turn turn"),
        (RhPriority, true, false, false, "anywhere anywhere anywhere anywhere"),
        (RhPriority, true, true, false, "anywhere anywhere anywhere anywhere"),
        (RhPriority, true, false, true, "give-up give-up give-up give-up"),
    ];
    for (method, turned, no_host, tried, expected) in rows {
        let reserve = Reserve { method, taken: Vec::new() };
        let record = record(Leg { turned, no_host, ..Leg::default() });
        let why = Text::from("3 attempts failed");
        let exhausted = tried.then_some(&why);
        let said = spares.iter().map(|spare| word(&whither(&reserve, US, &record, spare, exhausted)).replace(' ', "-"));
        let said: Vec<String> = said.collect();
        assert_eq!(said.join(" "), expected, "{method} turned {turned}, no host {no_host}, tried {tried}");
    }
}

/// One server causes one reserved host to be taken. It may go to those that others caused.
#[test]
fn one_server_takes_one_reserved_host() {
    let returned = || Some(TakenEnd::Returned);
    let lost = || Some(TakenEnd::Lost("it died".into()));
    type Row = (&'static str, Vec<Taken>, Vec<u8>, &'static str);
    let rows: Vec<Row> = vec![
        ("none taken", vec![], vec![], "take"),
        ("another's serves it", vec![taken("r1", ANOTHER, None)], vec![], "reserved 0"),
        ("its own serves it", vec![taken("r1", US, None)], vec![], "reserved 0"),
        ("another's has no room", vec![taken("r1", ANOTHER, None)], vec![0], "take"),
        ("its own has no room", vec![taken("r1", US, None)], vec![0], "give up"),
        (
            "its own had none, another's may",
            vec![taken("r1", US, None), taken("r2", ANOTHER, None)],
            vec![0],
            "reserved 1",
        ),
        ("neither", vec![taken("r1", US, None), taken("r2", ANOTHER, None)], vec![0, 1], "give up"),
        ("its own went back", vec![taken("r1", US, returned())], vec![0], "give up"),
        ("its own died", vec![taken("r1", US, lost())], vec![], "take"),
        ("its own died, and the next", vec![taken("r1", US, lost()), taken("r2", US, None)], vec![], "reserved 1"),
        ("it shared another incident's", vec![Taken { shared: true, ..taken("r1", US, None) }], vec![0], "take"),
        ("resumed since", vec![Taken { excused: true, ..taken("r1", US, returned()) }], vec![], "take"),
    ];
    for (name, taken, refused_by, expected) in rows {
        let reserve = Reserve { method: RecoveryMethod::ReservedHost, taken };
        let record = record(Leg { refused_by, ..Leg::default() });
        let said = whither(&reserve, US, &record, &Spare::Free(host("r9"), true), None);
        assert_eq!(word(&said), expected, "{name}: {said:?}");
    }
}

/// Which of three: never one that is forbidden, silent, or whose compute service is down.
#[test]
fn the_choice_of_a_reserved_host() {
    let (up, disabled) = (Service::Up { enabled: true }, Service::Up { enabled: false });
    type Is = (Option<&'static str>, bool, Service);
    let fit: Is = (None, true, disabled);
    let rows: [(&str, Vec<Is>, &str); 11] = [
        ("the first by name", vec![fit, fit], "r0, to be enabled"),
        ("it is enabled already", vec![(None, true, up), fit], "r0"),
        ("the first is forbidden", vec![(Some("in maintenance"), true, up), fit], "r1, to be enabled"),
        ("the first is not heard", vec![(None, false, disabled), fit], "r1, to be enabled"),
        ("the first's service is down", vec![(None, true, Service::Down), fit], "r1, to be enabled"),
        ("the first's service is being read", vec![(None, true, Service::Unknown), fit], "reading"),
        ("the second's is, the first is fit", vec![fit, (None, true, Service::Unknown)], "r0, to be enabled"),
        ("who is forbidden is not read about", vec![(Some("fenced"), true, Service::Unknown)], "later"),
        ("who is not heard is not read about", vec![(None, false, Service::Unknown)], "later"),
        ("none fit", vec![(None, false, up), (None, true, Service::Down)], "later"),
        ("none at all", vec![], "none"),
    ];
    for (name, hosts, expected) in rows {
        let names: Vec<HostName> = (0..hosts.len()).map(|number| host(&format!("r{number}"))).collect();
        let candidates = names.iter().zip(&hosts).map(|(host, (forbidden, is_heard, service))| Candidate {
            host,
            forbidden: forbidden.map(Text::from),
            is_heard: *is_heard,
            service: *service,
        });
        let said = match spare(candidates) {
            Spare::Free(host, true) => format!("{host}, to be enabled"),
            Spare::Free(host, false) => host.to_string(),
            Spare::Reading(_) => "reading".to_owned(),
            Spare::Later(_) => "later".to_owned(),
            Spare::None(_) => "none".to_owned(),
        };
        assert_eq!(said, expected, "{name}");
    }
}
