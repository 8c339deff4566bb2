//! Which servers, and what is to become of each: Nova's list joined with the host's own last word. Every difference is named.

use std::collections::BTreeMap;

use rekindle_proto::fact::{DiskPlacement, GuestList, NovaMigration, NovaServer, Text};
use rekindle_proto::id::{HostName, ServerId};

use super::look::Looked;
use super::order::priority_of;
use super::restore::restoration;
use super::select::{Choice, choose, imageless, misread};
use crate::ledger::{PlannedServer, RestorePlan};
use crate::policy::{LocalDisk, Policy};

/// Metadata key by which one server consents to (`rebuild`), or refuses (`leave`), being rebuilt from its image.
pub const LOCAL_DISK_KEY: &str = "rekindle:local_disk";

/// Remarks in a story; the rest is counted.
const REMARKS_MAX: usize = 20;

/// What was read of the dead host.
#[derive(Debug)]
pub struct Lists<'a> {
    /// The dead host.
    pub host: &'a HostName,
    /// Nova's servers of that host.
    pub servers: &'a [NovaServer],
    /// Migrations that name it at either end.
    pub migrations: &'a [NovaMigration],
    /// The host's own last word, from before it fell silent.
    pub guests: Option<&'a GuestList>,
}

/// Decides the fate of each server, and names every difference between the lists, and every word that nobody understands.
///
/// `looked`: what was read for the selection so far; servers that need more are planned as undecided.
#[must_use]
pub fn plan(lists: &Lists<'_>, policy: &Policy, looked: &Looked) -> (Vec<PlannedServer>, Vec<Text>) {
    let empty = GuestList::default();
    let guests: BTreeMap<ServerId, DiskPlacement> =
        lists.guests.unwrap_or(&empty).guests.iter().map(|guest| (guest.server, guest.disks)).collect();
    let planned: Vec<PlannedServer> = lists
        .servers
        .iter()
        .map(|server| {
            let (restore, unable) = match restoration(server, ran(lists, server.id), policy.lock) {
                Ok(restore) => (restore, None),
                Err(why) => (RestorePlan::default(), Some(why)),
            };
            let hindered =
                || unable.clone().or_else(|| left_behind(server, guests.get(&server.id).copied(), policy.local_disk));
            let (left_behind, undecided) = match choose(&policy.select, server, looked) {
                Choice::LeaveBehind(why) => (Some(why), None),
                Choice::Recover => (hindered(), None),
                Choice::Undecided { why, .. } => match hindered() {
                    None => (None, Some(why)),
                    hindrance => (hindrance, None),
                },
            };
            PlannedServer {
                server: server.id,
                name: server.name.clone(),
                vm_state: server.vm_state.clone(),
                left_behind,
                priority: priority_of(server),
                marked: policy.select.is_marked(server),
                undecided,
                restore,
            }
        })
        .collect();
    let planned = in_turn(planned, policy);
    let words = lists.servers.iter().flat_map(|server| misread(&policy.select, server));
    let mut remarks: Vec<Text> = imageless(&policy.select, lists.servers).into_iter().chain(words).collect();
    remarks.extend(differences(lists));
    (planned, cut(remarks))
}

/// Where groups wait for each other, all but the most urgent servers arrive stopped, and are started in their turn.
fn in_turn(mut planned: Vec<PlannedServer>, policy: &Policy) -> Vec<PlannedServer> {
    if policy.order.wait_for_previous {
        let moves = |server: &&PlannedServer| server.left_behind.is_none();
        let first = planned.iter().filter(moves).map(|server| server.priority).max();
        for server in planned.iter_mut().filter(|server| Some(server.priority) < first && server.restore.end.runs()) {
            server.restore.stop_on_arrival = true;
        }
    }
    planned
}

/// The first remarks, and how many more there are.
fn cut(mut remarks: Vec<Text>) -> Vec<Text> {
    if remarks.len() > REMARKS_MAX {
        let more = remarks.len() - REMARKS_MAX;
        remarks.truncate(REMARKS_MAX);
        remarks.push(Text::new(format!("and {more} more remarks")));
    }
    remarks
}

/// Whether a server ran, by its host's own last word. One whose process had died is not one that was stopped.
fn ran(lists: &Lists<'_>, server: ServerId) -> Option<bool> {
    let list = lists.guests?;
    let guest = list.guests.iter().find(|guest| guest.server == server)?;
    (!guest.died).then_some(guest.running)
}

/// Why a server is not evacuated; `None` if it is.
fn left_behind(server: &NovaServer, disks: Option<DiskPlacement>, local_disk: LocalDisk) -> Option<Text> {
    let consent = match server.metadata.get(LOCAL_DISK_KEY).map(Text::as_str) {
        Some("rebuild") => LocalDisk::Rebuild,
        Some("leave") => LocalDisk::Leave,
        Some(_) | None => local_disk,
    };
    match (disks, consent) {
        (Some(DiskPlacement::Shared), _) | (_, LocalDisk::Rebuild) => None,
        (Some(DiskPlacement::Local), LocalDisk::Leave) => {
            Some("local disk: an evacuation would rebuild it from its image, and nobody consented".into())
        }
        (Some(DiskPlacement::Unknown), LocalDisk::Leave) => {
            Some("local disk: where its disks lie is not known, and nobody consented to a rebuild".into())
        }
        (None, LocalDisk::Leave) => {
            Some("local disk: the host never said where its disks lie, and nobody consented to a rebuild".into())
        }
    }
}

fn differences(lists: &Lists<'_>) -> Vec<Text> {
    let in_nova: BTreeMap<ServerId, &NovaServer> = lists.servers.iter().map(|server| (server.id, server)).collect();
    let mut remarks = Vec::new();
    match lists.guests {
        None => remarks.push(Text::new(format!("{} never said which guests it runs", lists.host))),
        Some(list) => {
            if !list.complete {
                remarks.push("the host's last list of guests was incomplete".into());
            }
            let unknown = list.guests.iter().filter(|guest| guest.running && !in_nova.contains_key(&guest.server));
            remarks.extend(unknown.map(|guest| {
                Text::new(format!("{} ran on {}, and Nova does not list it there", guest.server, lists.host))
            }));
            let said = |server: &&NovaServer| list.guests.iter().any(|guest| guest.server == server.id);
            let unsaid = lists.servers.iter().filter(|server| !said(server));
            remarks.extend(unsaid.map(|server| {
                Text::new(format!("{} ({}) is Nova's, and the host never listed it", server.name, server.id))
            }));
        }
    }
    let open = lists.migrations.iter().filter(|migration| !migration.status.is_final());
    remarks.extend(open.map(|migration| {
        let end = |host: &Option<HostName>| host.as_ref().map_or("?".to_owned(), ToString::to_string);
        let (from, to) = (end(&migration.source), end(&migration.dest));
        Text::new(format!("migration {} of {} from {from} to {to} is open", migration.id, migration.server))
    }));
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use rekindle_proto::fact::Guest;
    use uuid::Uuid;

    fn server(vm_state: &str, consent: Option<&str>) -> NovaServer {
        let metadata = consent.map(|word| (LOCAL_DISK_KEY.to_owned(), Text::from(word))).into_iter().collect();
        NovaServer {
            id: ServerId(Uuid::from_u128(1)),
            name: "web-1".into(),
            host: None,
            vm_state: vm_state.into(),
            task_state: None,
            metadata,
            standing: Default::default(),
            traits: Default::default(),
        }
    }

    #[test]
    fn the_local_disk_table() {
        use DiskPlacement::{Local, Shared, Unknown};
        use LocalDisk::{Leave, Rebuild};
        let rows = [
            ("active", None, Some(Shared), Leave, true),
            ("stopped", None, Some(Shared), Leave, true),
            ("error", None, Some(Shared), Leave, true),
            ("active", None, Some(Local), Leave, false),
            ("active", None, Some(Unknown), Leave, false),
            ("active", None, None, Leave, false),
            ("active", None, Some(Local), Rebuild, true),
            ("active", None, None, Rebuild, true),
            ("active", Some("leave"), Some(Local), Rebuild, false),
            ("active", Some("rebuild"), Some(Local), Leave, true),
            ("active", Some("perhaps"), Some(Local), Leave, false),
            ("active", Some("leave"), Some(Shared), Rebuild, true),
        ];
        for (vm_state, consent, disks, policy, evacuated) in rows {
            let why = left_behind(&server(vm_state, consent), disks, policy);
            assert_eq!(why.is_none(), evacuated, "{vm_state} {consent:?} {disks:?} {policy:?}: {why:?}");
        }
    }

    #[test]
    fn every_difference_is_named() {
        let host = HostName::new("cmp-1").expect("legal");
        let stranger =
            Guest { server: ServerId(Uuid::from_u128(2)), running: true, disks: DiskPlacement::Shared, died: false };
        let guests = GuestList { complete: true, guests: vec![stranger] };
        let servers = [server("active", None)];
        let lists = Lists { host: &host, servers: &servers, migrations: &[], guests: Some(&guests) };
        let (planned, remarks) = plan(&lists, &Policy::default(), &Looked::default());
        assert_eq!(planned.len(), 1);
        assert_eq!(remarks.len(), 2, "{remarks:?}");
    }
}
