//! May guests start on a host, in this boot (I7)?
//!
//! A host that was fenced, and is powered on by whoever, must not start the guests that are being built elsewhere. Its boot
//! gate asks before anything that starts guests runs, and opens on [`GateAnswer::Open`] alone.
//!
//! An *open* may be overtaken by an incident that is opened a moment later. That is safe: whatever the gate let start dies
//! with the power before the first server is built elsewhere, as no evacuation goes without a proof (I1), and no proof
//! without an off order that is newer than the incident, or a person's word (I2).

use rekindle_proto::fact::{MemberRole, Text};
use rekindle_proto::id::{BootId, HostName, ServerId};

use super::incident::{Incident, ServerRecord};
use super::state::Ledger;
use crate::mutant::{Guard, keeps};

/// What a boot gate is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateAnswer {
    /// Guests may start.
    Open {
        /// Why.
        why: Text,
    },
    /// They may not, yet.
    Closed {
        /// Why, and what has to happen first.
        why: Text,
    },
}

/// May guests start on this host, in this boot? Fail-closed: what the ledger does not know stays off.
///
/// A quarantine for flapping, and a reboot whose guests are being started in place, hold nothing here: no server of the host
/// was moved, and its compute service must run for them to start.
#[must_use]
pub fn gate_of(ledger: &Ledger, host: &HostName, boot: BootId) -> GateAnswer {
    let closed = |why: String| GateAnswer::Closed { why: Text::new(why) };
    let Some(entry) = ledger.entry_of(host) else {
        let what = if ledger.roster.is_empty() { "there is no roster yet" } else { "it is not in the roster" };
        return closed(format!("{what}: nothing is known of {host}. `rekindle gate open --reason ...` if it is empty"));
    };
    match entry.role {
        MemberRole::Witness => return GateAnswer::Open { why: "a witness has no guests of the cloud".into() },
        MemberRole::Member => {}
    }
    if !keeps(Guard::BootGate) {
        return GateAnswer::Open { why: "a mutant opens it".into() };
    }
    if let Some(why) = unsettled(ledger, host) {
        return GateAnswer::Closed { why };
    }
    let record = ledger.host(host);
    let quarantine = record.and_then(|record| record.quarantine);
    if let Some(id) = quarantine.filter(|_| record.is_none_or(|record| record.admitted != Some(boot))) {
        return closed(format!("incident {id} is settled, and the host is quarantined: `rekindle release {host}`"));
    }
    if let Some(why) = ledger.queue_hold(host, boot) {
        return GateAnswer::Closed { why };
    }
    let why = match quarantine {
        Some(id) => format!("incident {id} is settled: Nova cleans up on {host}, which stays quarantined meanwhile"),
        None => format!("no open incident and no quarantine of {host}, boot {boot}"),
    };
    GateAnswer::Open { why: Text::new(why) }
}

/// Why this host's last failure is not settled; `None`: it is. *Settled* = its incident is closed, and each of its servers
/// done, deleted or given up, with its intents final (I7). Until then nobody powers it on, and nobody readmits it.
///
/// A host that died as the destination of another's servers has their orders in its queue, perhaps, and they are being built
/// elsewhere: its nova-compute must not read that queue before they have arrived there, as Nova refuses the late order only
/// then (nova/compute/manager.py, `_do_rebuild_instance`: it goes on while the task is `rebuilding`).
#[must_use]
pub fn unsettled(ledger: &Ledger, host: &HostName) -> Option<Text> {
    if let Some(open) = ledger.open_incident(host) {
        let left = open.servers.values().filter(|record| record.fate.is_none()).count();
        let servers = if open.servers.is_empty() { String::new() } else { format!(", {left} servers not settled") };
        return Some(Text::new(format!("incident {} of {host} is open, {}{servers}", open.id, open.phase)));
    }
    let queued = ledger.open_incidents().find_map(|incident| {
        let mut unsettled = incident.servers.iter().filter(|(_, record)| record.fate.is_none());
        Some((incident, unsettled.find(|(server, record)| may_be_queued(ledger, host, **server, record))?.1))
    });
    if let Some((incident, record)) = queued {
        return Some(Text::new(format!(
            "{} of incident {} was being moved to {host} when it died, and is not settled elsewhere yet",
            record.name, incident.id
        )));
    }
    // A closed incident has none; but what is not so must not open a gate.
    let of_host = |incident: &&Incident| incident.host == *host;
    ledger.incidents.values().filter(of_host).find_map(|incident| {
        let (server, record) = incident.servers.iter().find(|(_, record)| record.intent.is_some())?;
        Some(Text::new(format!(
            "attempt {} to evacuate {server} ({}) of incident {} may still have an effect",
            record.attempts, record.name, incident.id
        )))
    })
}

/// Whether an order to build this server may lie unread in the queue of that host. One of an earlier incident does until the
/// host has come back and read it: it is settled only for as long as its server is in no other's.
fn may_be_queued(ledger: &Ledger, host: &HostName, server: ServerId, record: &ServerRecord) -> bool {
    let is_unread = || ledger.unread.get(&server).is_some_and(|queues| queues.hosts.contains(host));
    record.leg.queued_on.contains(host) || is_unread()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_proto::fact::RosterEntry;
    use rekindle_proto::id::{ClusterName, IncidentId, LeadershipId, WallTime};
    use rekindle_proto::status::Phase;
    use uuid::Uuid;

    use super::super::entry::{Fate, VerdictRecord};
    use super::super::incident::OpenIntent;
    use super::super::unread::Queues;
    use super::*;

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
        for (name, role) in [("a", MemberRole::Member), ("b", MemberRole::Member), ("w", MemberRole::Witness)] {
            ledger.roster.insert(host(name), RosterEntry { host: host(name), role, domain: None });
            ledger.hosts.insert(host(name), super::super::HostRecord::default());
        }
        ledger
    }

    fn incident(id: u64, of: &str, phase: Phase, servers: &[(Option<Fate>, bool)]) -> Incident {
        let intent = OpenIntent { attempt: 1, author: LeadershipId(1), newest_migration: None, to: Default::default() };
        let record = |(fate, open): &(Option<Fate>, bool)| ServerRecord {
            name: "web".into(),
            vm_state: "active".into(),
            attempts: 1,
            attempts_excused: 0,
            intent: open.then(|| intent.clone()),
            last_failure: None,
            fate: fate.clone(),
            restore: Default::default(),
            priority: 50,
            marked: false,
            undecided: None,
            leg: Default::default(),
            unplaced: None,
        };
        let servers: BTreeMap<ServerId, ServerRecord> = servers
            .iter()
            .enumerate()
            .map(|(number, row)| (ServerId(Uuid::from_u128(number as u128 + 1)), record(row)))
            .collect();
        let verdict =
            VerdictRecord { eligible: 2, needed: 2, testimonies: Vec::new(), present: 2, roster: 3, path: None };
        Incident { phase, servers, ..Incident::begun(IncidentId(id), host(of), WallTime(0), verdict) }
    }

    fn said(ledger: &Ledger, of: &str) -> String {
        match gate_of(ledger, &host(of), BootId(Uuid::nil())) {
            GateAnswer::Open { .. } => "open".to_owned(),
            GateAnswer::Closed { why } => format!("closed: {why}"),
        }
    }

    #[test]
    fn the_gate_table() {
        let moved = Some(Fate::Recovered { to: host("b") });
        let rows: [(&str, Vec<Incident>, bool, &str); 13] = [
            ("a", vec![], false, "open"),
            ("w", vec![], false, "open"),
            ("z", vec![], false, "closed: it is not in the roster"),
            ("a", vec![incident(1, "a", Phase::Unclean, &[])], false, "closed: incident 1 of a is open, unclean"),
            ("a", vec![incident(1, "a", Phase::Fencing, &[])], true, "closed: incident 1 of a is open, fencing"),
            ("a", vec![incident(1, "a", Phase::Fenced, &[])], true, "closed: incident 1 of a is open, fenced"),
            (
                "a",
                vec![incident(1, "a", Phase::Evacuating, &[(moved.clone(), false), (None, true)])],
                true,
                "closed: incident 1 of a is open, evacuating, 1 servers not settled",
            ),
            // A person is needed: not opened by itself, however long it takes.
            (
                "a",
                vec![incident(1, "a", Phase::Stuck, &[(None, false)])],
                true,
                "closed: incident 1 of a is open, stuck",
            ),
            (
                "a",
                vec![incident(1, "a", Phase::Recovered, &[(moved.clone(), false)])],
                true,
                "closed: incident 1 is settled, and the host is quarantined: `rekindle release a`",
            ),
            // Released.
            ("a", vec![incident(1, "a", Phase::Recovered, &[(moved.clone(), false)])], false, "open"),
            ("a", vec![incident(1, "a", Phase::Refuted, &[])], false, "open"),
            // Another host's failure is none of its own.
            ("b", vec![incident(1, "a", Phase::Evacuating, &[(None, true)])], false, "open"),
            // What apply does not let happen opens nothing either.
            (
                "a",
                vec![incident(1, "a", Phase::Refuted, &[(None, true)])],
                false,
                "closed: attempt 1 to evacuate 00000000-0000-0000-0000-000000000001 (web) of incident 1",
            ),
        ];
        for (of, incidents, quarantined, expected) in rows {
            let mut ledger = ledger();
            if quarantined {
                ledger.hosts.entry(host(of)).or_default().quarantine = Some(IncidentId(1));
            }
            ledger.incidents = incidents.into_iter().map(|incident| (incident.id, incident)).collect();
            let said = said(&ledger, of);
            assert!(said.starts_with(expected), "{of} {:?}: {said}, not {expected}", ledger.incidents);
        }
    }

    #[test]
    fn a_dead_destination_reads_its_queue_when_what_it_was_given_is_settled() {
        for (given_to, fate, expected) in [
            ("b", None, "closed: web of incident 1 was being moved to b when it died"),
            ("w", None, "open"),
            ("b", Some(Fate::Recovered { to: host("c") }), "open"),
        ] {
            let mut ledger = ledger();
            let mut open = incident(1, "a", Phase::Evacuating, &[(fate, true)]);
            open.servers.values_mut().for_each(|record| record.leg.queued_on.push(host(given_to)));
            ledger.incidents.insert(open.id, open);
            assert!(said(&ledger, "b").starts_with(expected), "{given_to}: {}", said(&ledger, "b"));
        }
    }

    #[test]
    fn an_unread_queue_is_kept_shut_in_a_later_incident_too() {
        for (unread, later, expected) in [
            (true, None, "closed: web of incident 2 was being moved to b"),
            (true, Some(Fate::Recovered { to: host("d") }), "closed: an order to build web"),
            // It has come back since, and read it.
            (false, None, "open"),
        ] {
            let mut ledger = ledger();
            if unread {
                let queues = Queues { hosts: [host("b")].into(), reader: None };
                ledger.unread.insert(ServerId(Uuid::from_u128(1)), queues);
            }
            let mut first = incident(1, "a", Phase::Recovered, &[(Some(Fate::Recovered { to: host("c") }), false)]);
            first.servers.values_mut().for_each(|record| record.leg.queued_on.push(host("b")));
            let second = incident(2, "c", Phase::Evacuating, &[(later, false)]);
            ledger.incidents.extend([first, second].map(|incident| (incident.id, incident)));
            assert!(said(&ledger, "b").starts_with(expected), "{unread}: {}", said(&ledger, "b"));
        }
    }

    #[test]
    fn without_a_roster_nothing_opens() {
        let ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
        assert!(said(&ledger, "a").starts_with("closed: there is no roster yet"));
    }
}
