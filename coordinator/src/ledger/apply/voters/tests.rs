//! What the ledger refuses about voters, whoever decided it.

use rekindle_proto::fact::RosterEntry;
use rekindle_proto::id::ClusterName;
use uuid::Uuid;

use super::super::super::entry::QuorumRecovery;
use super::*;

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn seat(name: &str) -> Seat {
    Seat { host: host(name), store: StoreId(Uuid::new_v5(&Uuid::nil(), name.as_bytes())) }
}

fn alice() -> OperatorName {
    OperatorName::new("alice").expect("legal")
}

/// Voters a, b, c in racks 1, 2, 3; standbys d (rack 1), e (rack 3), f (rack 4); armed.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new(ClusterName::new("test").expect("legal"));
    for (name, rack) in [("a", 1), ("b", 2), ("c", 3), ("d", 1), ("e", 3), ("f", 4)] {
        let domain = Some(format!("rack-{rack}").parse().expect("legal"));
        ledger.roster.insert(host(name), RosterEntry { host: host(name), role: MemberRole::Member, domain });
    }
    ledger.arming.armed = true;
    mirror(&mut ledger, 0, &["a", "b", "c"], &["d", "e", "f"]);
    ledger
}

fn mirror(ledger: &mut Ledger, at: i64, voters: &[&str], standbys: &[&str]) {
    let seats = |names: &[&str]| names.iter().map(|name| seat(name)).collect();
    let command = VotersCommand::Mirror { voters: seats(voters), standbys: seats(standbys) };
    ledger.apply_voters(WallTime(at), &command).expect("mirrored");
}

fn begin(ledger: &mut Ledger, at: i64, out: &str, into: &str) -> Result<(), String> {
    let command = VotersCommand::Begin { out: Some(seat(out)), into: vec![seat(into)], why: "dead".into() };
    said(ledger.apply_voters(WallTime(at), &command))
}

fn said(result: Applied) -> Result<(), String> {
    match result {
        Ok(_) => Ok(()),
        Err(Outcome::Refused { why }) => Err(why.to_string()),
        Err(Outcome::Applied { .. }) => panic!("neither"),
    }
}

#[test]
fn one_replacement_at_a_time_and_one_in_ten_minutes() {
    let mut ledger = ledger();
    begin(&mut ledger, 1_000, "c", "e").expect("begun");
    assert_eq!(begin(&mut ledger, 2_000, "b", "f"), Err("under way: e for c: dead".to_owned()));
    mirror(&mut ledger, 3_000, &["a", "b", "e"], &["d", "f"]);
    assert_eq!(ledger.voters.changing, None);
    assert!(ledger.voters.retired.contains(&seat("c").store), "its store never votes again");
    // By the ledger's own time: a wall clock that jumps by a day changes nothing.
    let limit = ledger.time.after_ms(REPLACE_EVERY_MS);
    assert_eq!(ledger.next_end(None), Some(limit), "and leaders commit that it passes");
    ledger.time.0 = limit.0 - 1;
    assert_eq!(
        begin(&mut ledger, 86_400_000, "b", "f"),
        Err("a voter was replaced 599 s ago; at most one per 600 s".to_owned())
    );
    ledger.time = limit;
    assert_eq!(ledger.next_end(None), None);
    begin(&mut ledger, 4_000, "b", "f").expect("ten minutes are over");
    assert_eq!(ledger.voters.story.len(), 3);
}

#[test]
fn what_is_refused() {
    let mut of_ledger = ledger();
    assert_eq!(begin(&mut of_ledger, 1, "d", "e"), Err("d does not vote".to_owned()));
    assert_eq!(begin(&mut of_ledger, 1, "c", "b"), Err("b is no standby".to_owned()));
    assert!(begin(&mut of_ledger, 1, "c", "d").expect_err("a and d").contains("2 of 3 voters are in domain rack-1"));
    let shrink = VotersCommand::Begin { out: Some(seat("c")), into: vec![], why: "dead".into() };
    assert_eq!(said(of_ledger.apply_voters(WallTime(1), &shrink)), Err("voters never become fewer".to_owned()));
    of_ledger.arming.armed = false;
    assert!(begin(&mut of_ledger, 1, "c", "e").expect_err("disarmed").starts_with("disarmed"));
    let mut witness = ledger();
    witness.roster.get_mut(&host("c")).expect("there").role = MemberRole::Witness;
    assert!(begin(&mut witness, 1, "c", "e").expect_err("a witness").contains("an operator replaces it"));
    // An operator may all of that, but not the majority of a domain.
    witness.arming.armed = false;
    let why: Text = "moved".into();
    let refused = said(witness.replace_voter(WallTime(2), &alice(), &why, &host("c"), &host("d")));
    assert!(refused.expect_err("a and d").contains("rack-1"));
    said(witness.replace_voter(WallTime(2), &alice(), &why, &host("c"), &host("e"))).expect("begun");
    assert!(witness.voters.story.back().is_some_and(|line| line.text.as_str() == "e for c, by alice: moved"));
}

#[test]
fn a_placement_that_one_rack_can_destroy_is_not_armed() {
    let mut ledger = ledger();
    assert!(ledger.may_arm_voters().is_ok());
    ledger.roster.get_mut(&host("b")).expect("there").domain = Some("rack-1".parse().expect("legal"));
    assert!(said(ledger.may_arm_voters().map(|()| Outcome::done("ok"))).is_err());
    ledger.voters.voters.clear();
    assert!(ledger.may_arm_voters().is_ok(), "nobody has written the voters down yet");
}

#[test]
fn a_recovered_quorum_needs_a_word_on_each_of_the_lost() {
    let why: Text = "burnt".into();
    let order = |generation, survivor: &str, off: &[&str]| QuorumRecovery {
        generation,
        survivor: seat(survivor),
        stated_off: off.iter().map(|name| host(name)).collect(),
    };
    let mut ledger = ledger();
    for (order, says) in [
        (order(2, "a", &["b", "c"]), "the order begins generation 2; this ledger is of generation 0"),
        (order(1, "d", &["b", "c"]), "d did not vote with this store"),
        (order(1, "a", &["b"]), "voter c is neither fenced nor stated to be off"),
    ] {
        let before = ledger.clone();
        let refused = said(ledger.recover_quorum(WallTime(1), &alice(), &why, &order)).expect_err(says);
        assert!(refused.starts_with(says), "{refused}");
        assert_eq!(ledger, before);
    }
    said(ledger.recover_quorum(WallTime(1), &alice(), &why, &order(1, "a", &["b", "c"]))).expect("recovered");
    let book = &ledger.voters;
    assert_eq!((book.generation, book.voters.len(), book.standbys.len(), book.wanted), (1, 1, 0, 3));
    for name in ["b", "c", "d", "e", "f"] {
        assert!(book.retired.contains(&seat(name).store), "{name}");
    }
}

/// In a cluster of two racks the voters of one are always too many: whoever is dead there is replaced all the same, by one
/// that makes it no worse.
#[test]
fn where_voters_stand_badly_already_a_replacement_need_not_mend_it() {
    let mut ledger = ledger();
    let domain = ledger.roster[&host("a")].domain.clone();
    for other in ["b", "f"] {
        ledger.roster.get_mut(&host(other)).expect("enrolled").domain = domain.clone();
    }
    let refused = begin(&mut ledger, 1_000, "c", "d").expect_err("three of three");
    assert!(refused.contains("3 of 3 voters are in domain rack-1"), "{refused}");
    begin(&mut ledger, 1_000, "b", "f").expect("two of three before and after");
    mirror(&mut ledger, 2_000, &["a", "c", "f"], &["d", "e"]);
    let later = 3_000;
    ledger.time = ledger.time.after_ms(REPLACE_EVERY_MS);
    begin(&mut ledger, later, "a", "e").expect_err("a domain of its own would have too many then");
    begin(&mut ledger, later, "c", "e").expect("as many of each");
    assert!(exchange(&ledger.roster, &[host("a"), host("c")], &[host("a"), host("a")]).is_err(), "nobody votes twice");
}

/// A host whose disk was lost changes nobody's place.
#[test]
fn a_host_follows_itself_wherever_it_stands() {
    let mut ledger = ledger();
    ledger.roster.get_mut(&host("b")).expect("enrolled").domain = ledger.roster[&host("a")].domain.clone();
    let again = Seat { host: host("a"), store: seat("another").store };
    let voters: Vec<Seat> = ["a", "b", "c"].map(seat).to_vec();
    ledger
        .apply_voters(WallTime(1), &VotersCommand::Mirror { voters, standbys: vec![again.clone()] })
        .expect("mirrored");
    let begun = VotersCommand::Begin { out: Some(seat("a")), into: vec![again], why: "its disk was lost".into() };
    assert_eq!(said(ledger.apply_voters(WallTime(2), &begun)), Ok(()));
}
