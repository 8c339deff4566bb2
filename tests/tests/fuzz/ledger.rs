//! Applying an entry: whatever was committed, a voter goes on, equal to all others, and the rules hold.

use std::collections::BTreeSet;

use bolero::check;
use rekindle_coordinator::ledger::{Entry, Ledger, Position};
use rekindle_proto::id::{HostName, LogIndex, Term};
use rekindle_proto::message::{REQUEST_BYTES_MAX, decode, encode};

use super::cluster::{first_ledger, record};
use super::{Bruise, INPUTS, bruised};

/// What holds of every ledger, whoever wrote to it.
fn check_rules(ledger: &Ledger) {
    for incident in ledger.incidents.values().filter(|incident| !incident.is_open()) {
        assert!(incident.ended.is_some(), "closed without an end: {incident:?}");
    }
    let bytes = encode(ledger, usize::MAX).expect("a ledger can be encoded");
    assert_eq!(&decode::<Ledger>(&bytes, REQUEST_BYTES_MAX).expect("a snapshot is read back"), ledger);
}

fn one_open_incident_a_host(ledger: &Ledger) {
    let mut open: BTreeSet<&HostName> = BTreeSet::new();
    for incident in ledger.open_incidents() {
        assert!(open.insert(&incident.host), "two open incidents of {} (I5)", incident.host);
    }
}

/// The record's entries in order, some of them damaged, left out or repeated.
#[test]
fn damaged_entries_never_stop_a_voter() {
    let entries: Vec<Vec<u8>> =
        record().entries.iter().map(|entry| encode(entry, usize::MAX).expect("encodes")).collect();
    check!().with_iterations(INPUTS / 4).with_type::<Vec<(Bruise, bool)>>().for_each(|bruises| {
        let (mut ledger, mut twin) = (first_ledger(), first_ledger());
        let mut index = 0;
        let mut give = |bytes: &[u8]| {
            let Ok(entry) = decode::<Entry>(bytes, REQUEST_BYTES_MAX) else { return };
            index += 1;
            let position = Position { index: LogIndex(index), term: Term(1) };
            let mut before = ledger.clone();
            let outcome = ledger.apply(position, &entry);
            assert_eq!(twin.apply(position, &entry), outcome, "two voters differ");
            one_open_incident_a_host(&ledger);
            if !outcome.is_applied() {
                before.applied = ledger.applied;
                assert_eq!(before, ledger, "a refused entry changed something: {entry:?}");
            }
        };
        for (number, bytes) in entries.iter().enumerate() {
            for (bruise, instead) in bruises {
                if usize::from(bruise.0) % entries.len() == number {
                    give(&bruised(&entries, bruise));
                    if *instead {
                        continue;
                    }
                }
            }
            give(bytes);
        }
        assert_eq!(ledger, twin, "two voters differ");
        check_rules(&ledger);
    });
}
