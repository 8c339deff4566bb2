//! The truth table of a replacement.

use std::collections::BTreeMap;

use rekindle_proto::fact::RosterEntry;
use rekindle_proto::id::{ClusterName, WallTime};
use rekindle_proto::voters::VotersDoc;
use uuid::Uuid;

use super::*;
use crate::ledger::{HostRecord, LedgerTime, REPLACE_EVERY_MS, VoterChange};

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn seat(name: &str) -> Seat {
    Seat { host: host(name), store: StoreId(Uuid::new_v5(&Uuid::nil(), name.as_bytes())) }
}

fn fresh(name: &str) -> SeatView {
    SeatView { seat: seat(name), lag: Some(0), silent: Duration::ZERO }
}

fn silent(name: &str, seconds: u64) -> SeatView {
    SeatView { lag: None, silent: Duration::from_secs(seconds), ..fresh(name) }
}

/// Three voters a, b, c in racks 1, 2, 3; standbys d (rack 3) and e (rack 4); armed; f is a host of rack 5.
struct Case {
    ledger: Ledger,
    view: VotersView,
    down: Vec<HostName>,
    storm: Option<Text>,
}

impl Case {
    fn new() -> Self {
        let mut ledger = Ledger::new(ClusterName::new("test").expect("legal"));
        ledger.arming.armed = true;
        for (name, rack) in [("a", 1), ("b", 2), ("c", 3), ("d", 3), ("e", 4), ("f", 5)] {
            let domain = Some(format!("rack-{rack}").parse().expect("legal"));
            let entry = RosterEntry { host: host(name), role: MemberRole::Member, domain };
            ledger.roster.insert(host(name), entry);
            ledger.hosts.insert(host(name), HostRecord::default());
        }
        let view = VotersView {
            voters: ["a", "b", "c"].map(fresh).to_vec(),
            standbys: ["d", "e"].map(fresh).to_vec(),
            joining: vec![],
            joint: None,
        };
        let mut case = Self { ledger, view, down: vec![], storm: None };
        case.mirror();
        case
    }

    /// The ledger's mirror is what Raft shows.
    fn mirror(&mut self) {
        let map = |seats: &[SeatView]| -> BTreeMap<HostName, StoreId> {
            seats.iter().map(|view| (view.seat.host.clone(), view.seat.store)).collect()
        };
        self.ledger.voters.voters = map(&self.view.voters);
        self.ledger.voters.standbys = map(&self.view.standbys);
        self.ledger.voters.wanted = self.ledger.voters.wanted.max(3);
    }

    /// c died: nobody hears it, and Raft has not for 61 s.
    fn c_dies(mut self) -> Self {
        self.view.voters[2] = silent("c", 61);
        self.down = vec![host("c")];
        self
    }

    fn step(&self) -> Step {
        let alive = |host: &HostName| !self.down.contains(host);
        next_step(&self.ledger, &self.view, &Surroundings { alive: &alive, storm: self.storm.clone() })
    }
}

/// What a step comes to, shortly.
fn shown(step: Step) -> String {
    match step {
        Step::Rest => "rest".to_owned(),
        Step::Hold(why) => format!("hold: {why}"),
        Step::Write(VotersCommand::Mirror { .. }) => "mirror".to_owned(),
        Step::Write(VotersCommand::GiveUp { why }) => format!("give up: {why}"),
        Step::Write(VotersCommand::Begin { out, into, .. }) => {
            let into: Vec<&str> = into.iter().map(|seat| seat.host.as_str()).collect();
            format!("{} for {}", into.join("+"), out.map_or("none".to_owned(), |seat| seat.host.to_string()))
        }
        Step::Act(VoterAct::AddStandby(seat)) => format!("add {}", seat.host),
        Step::Act(VoterAct::RemoveStandby(seat)) => format!("remove {}", seat.host),
        Step::Act(VoterAct::SetVoters(stores)) => {
            let names = ["a", "b", "c", "d", "e"];
            let named: Vec<&str> = names.into_iter().filter(|name| stores.contains(&seat(name).store)).collect();
            format!("set {}", named.join("+"))
        }
    }
}

type Change = fn(&mut Case);

#[test]
fn the_table_of_replacements() {
    let rows: &[(&str, Change, &str)] = &[
        ("a dead voter is replaced in its own domain", |_| {}, "d for c"),
        (
            "not soon after another",
            |case| {
                case.ledger.voters.replaced_at = Some(LedgerTime(0));
                case.ledger.time = LedgerTime(REPLACE_EVERY_MS - 1);
            },
            "hold: voter c is lost (silent for more than 60 s), not replaced: a voter was replaced lately; at most one per 600 s",
        ),
        (
            "ten minutes later",
            |case| {
                case.ledger.voters.replaced_at = Some(LedgerTime(0));
                case.ledger.time = LedgerTime(REPLACE_EVERY_MS);
            },
            "d for c",
        ),
        ("not before a minute", |case| case.view.voters[2].silent = Duration::from_secs(59), "rest"),
        ("not while gossip hears it", |case| case.down.clear(), "rest"),
        (
            "fenced, at once",
            |case| {
                case.view.voters[2].silent = Duration::from_secs(6);
                case.ledger.hosts.get_mut(&host("c")).expect("there").quarantine =
                    Some(rekindle_proto::id::IncidentId(1));
            },
            "d for c",
        ),
        (
            "another domain if its own has none",
            |case| {
                case.view.standbys.remove(0);
                case.mirror();
            },
            "e for c",
        ),
        ("a standby that lags is none", |case| case.view.standbys[0].lag = Some(LAG_MAX + 1), "e for c"),
        ("a silent one neither", |case| case.view.standbys[0].silent = FRESH, "e for c"),
        (
            "nor one in maintenance",
            |case| {
                case.ledger.hosts.get_mut(&host("d")).expect("there").maintenance = Some("disks".into());
            },
            "e for c",
        ),
        (
            "never the majority of a domain",
            |case| {
                case.view.standbys.remove(1);
                case.ledger.roster.get_mut(&host("d")).expect("there").domain = Some("rack-1".parse().expect("legal"));
                case.mirror();
            },
            "hold: voter c is lost (silent for more than 60 s), not replaced: d: 2 of 3 voters are in domain rack-1 (a, d): more \
            than 1 must not be in one, or its loss is the loss of the ledger",
        ),
        (
            "none",
            |case| {
                case.view.standbys.clear();
                case.mirror();
            },
            "hold: voter c is lost (silent for more than 60 s), not replaced: no standby is there and current",
        ),
        (
            "not in a storm",
            |case| case.storm = Some("a storm".into()),
            "hold: voter c is lost (silent for more than 60 s), not replaced: a storm",
        ),
        (
            "not while disarmed",
            |case| case.ledger.arming.armed = false,
            "hold: voter c is lost (silent for more than 60 s), not replaced: disarmed",
        ),
        (
            "not while in maintenance",
            |case| {
                case.ledger.hosts.get_mut(&host("c")).expect("there").maintenance = Some("disks".into());
            },
            "hold: voter c is lost (silent for more than 60 s), not replaced: it is in maintenance",
        ),
        (
            "never a witness",
            |case| {
                case.ledger.roster.get_mut(&host("c")).expect("there").role = MemberRole::Witness;
            },
            "hold: voter c is lost (silent for more than 60 s), not replaced: it is a witness: `rekindle voters replace`",
        ),
        (
            "only with the others current",
            |case| case.view.voters[1] = silent("b", 6),
            "hold: voter c is lost (silent for more than 60 s), not replaced: voter b is not current either",
        ),
        (
            "one change at a time: the one under way goes on",
            |case| {
                let change = VoterChange { out: Some(seat("c")), into: vec![seat("d")], why: "dead".into(), by: None };
                case.ledger.voters.changing = Some(change);
            },
            "set a+b+d",
        ),
        (
            "half done: finished before anything else",
            |case| {
                case.view.joint = Some(["a", "b", "d"].map(|name| seat(name).store).into());
            },
            "set a+b+d",
        ),
        (
            "its standby died meanwhile",
            |case| {
                let change = VoterChange { out: Some(seat("c")), into: vec![seat("d")], why: "dead".into(), by: None };
                case.ledger.voters.changing = Some(change);
                case.view.standbys[0] = silent("d", 30);
            },
            "give up: d is not current any more",
        ),
        (
            "what Raft shows is written first",
            |case| {
                case.view.standbys.pop();
            },
            "mirror",
        ),
        (
            "a new store of the dead voter's host comes first",
            |case| {
                case.down.clear();
                case.view.standbys.push(SeatView { seat: Seat { store: seat("c2").store, ..seat("c") }, ..fresh("c") });
                case.mirror();
            },
            "c for c",
        ),
        ("a store that asks is let in", |case| case.view.joining = vec![seat("f")], "add f"),
        (
            "a retired one is not",
            |case| {
                case.view.joining = vec![seat("f")];
                case.ledger.voters.retired.push_back(seat("f").store);
            },
            "d for c",
        ),
        ("nor one that the roster does not name", |case| case.view.joining = vec![seat("x")], "d for c"),
        (
            "a standby that comes with another store",
            |case| {
                case.view.joining = vec![Seat { store: seat("d2").store, ..seat("d") }];
            },
            "remove d",
        ),
        ("nobody has been told of Raft yet", |case| case.view = VotersView::default(), "rest"),
    ];
    for (name, change, expected) in rows {
        let mut case = Case::new().c_dies();
        change(&mut case);
        assert_eq!(shown(case.step()), *expected, "{name}");
    }
    assert_eq!(shown(Case::new().step()), "rest");
}

#[test]
fn a_recovered_quorum_grows_back() {
    let mut case = Case::new();
    case.view.voters = vec![fresh("a")];
    case.view.standbys = vec![];
    case.mirror();
    assert_eq!(shown(case.step()), "hold: 1 of 3 voters; no standbys are there and current to make them more");
    // One standby would make two voters: no better than one, and a stop if either dies.
    case.view.standbys = vec![fresh("b")];
    case.mirror();
    assert!(shown(case.step()).starts_with("hold: "));
    case.view.standbys = ["b", "c", "d"].map(fresh).to_vec();
    case.mirror();
    assert_eq!(shown(case.step()), "b+c for none");
}

#[test]
fn where_voters_may_be() {
    let ledger = Case::new().ledger;
    let judge = |names: &[&str]| placement(&ledger.roster, &names.iter().map(|name| host(name)).collect::<Vec<_>>());
    for (names, right) in [
        (&["a"][..], true),
        (&["a", "b"], false),
        (&["a", "b", "c"], true),
        (&["a", "a", "b"], false),
        (&["a", "c", "d"], false),
        (&["x", "y", "z"], true),
        (&["a", "b", "c", "d", "e"], true),
        (&["a", "b", "c", "d", "e", "f"], false),
    ] {
        assert_eq!(judge(names).is_ok(), right, "{names:?}");
    }
}

#[test]
fn what_is_shown_can_be_read_back() {
    let doc = VotersDoc {
        told_by: host("a"),
        generation: 0,
        wanted: 3,
        voters: vec![],
        change: None,
        placement: None,
        story: vec![rekindle_proto::voters::VoterStory { at: WallTime(1), text: "x".into() }],
    };
    let text = serde_json::to_string(&doc).expect("encodes");
    assert_eq!(serde_json::from_str::<VotersDoc>(&text).expect("decodes"), doc);
    assert_eq!(REPLACE_EVERY_MS, 600_000);
}
