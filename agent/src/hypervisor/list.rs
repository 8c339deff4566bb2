//! Reading all guests from libvirt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rekindle_proto::fact::{GUESTS_MAX, Guest, GuestList};
use rekindle_proto::id::ServerId;
use virt::connect::Connect;
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};

use super::disks::{self, Storage};
use super::ffi;
use super::lifecycle::{self, State};

/// The list is cut, and says so, when this time is used up: one guest whose lock is held must not hide all others.
const LIST_CUT_AFTER: Duration = Duration::from_secs(30);

/// A list as read.
pub(super) struct Seen {
    /// For the tracker.
    pub(super) states: BTreeMap<ServerId, State>,
    /// For the shell.
    pub(super) list: GuestList,
}

/// Reads all guests. Blocks.
pub(super) fn read_list(connect: &Connect) -> Result<Seen, Error> {
    let began = Instant::now();
    let storage = Storage::read();
    let mut states = BTreeMap::new();
    let mut guests = BTreeMap::new();
    let mut complete = true;
    for domain in connect.list_all_domains(0)? {
        if guests.len() >= GUESTS_MAX || began.elapsed() > LIST_CUT_AFTER {
            tracing::warn!(read = guests.len(), "list of guests cut: too many, or too slow");
            complete = false;
            break;
        }
        let server = ServerId(domain.uuid()?);
        let state = match ffi::domain_state(&domain) {
            Ok((state, reason)) => lifecycle::state(state, reason),
            Err(error) if is_gone(&error) => continue,
            Err(error) if connect.is_alive().unwrap_or(false) => {
                tracing::warn!(%server, error = error.message(), "no state of this guest");
                complete = false;
                continue;
            }
            Err(error) => return Err(error),
        };
        // Without its description (it vanished this very moment, or access is refused), nothing is known of its disks.
        let disks = disks::placement(&domain.xml_desc(0).unwrap_or_default(), &storage);
        let running = matches!(state, State::Active | State::Incoming | State::Panicked);
        states.insert(server, state);
        let died = matches!(state, State::Died(_));
        guests.insert(server, Guest { server, running, disks, died });
    }
    Ok(Seen { states, list: GuestList { complete, guests: guests.into_values().collect() } })
}

fn is_gone(error: &Error) -> bool {
    error.code() == Enum::Known(ErrorNumber::NoDomain)
}
