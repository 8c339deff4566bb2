//! A host whose fence device is silent: are those of its neighbours too? Then it is its domain's network or power, and is
//! held like any domain event, once, before anything is tried on it.
//!
//! It may as well be our own way to the BMCs that is lost. So other voters read them too, each in its turn: a device that answers
//! any of them is not silent, and whoever reads it executes the fence.

use std::time::Duration;

use rekindle_proto::fact::{DeviceError, Text};
use rekindle_proto::id::HostName;

use super::Leader;
use crate::brake::{Brake, EVENT_HOLD};
use crate::context::Context;
use crate::fencing::{DeviceEntry, Together, together};
use crate::ledger::Incident;
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// Neighbours whose devices are asked: enough to tell a switch from a broken BMC.
const ASKED_MAX: usize = 8;

/// How long their answers are waited for: a reading, and its queue.
const ASK_WAIT: Duration = Duration::from_secs(10);

/// Between two readings while it is held: another voter's and our own by turns, so another voter's every ten seconds.
const READ_EVERY: Duration = Duration::from_secs(5);

/// A device that did not answer so long before either is broken by itself.
const BROKEN_AFTER: Duration = Duration::from_secs(60);

/// What was asked about one host's neighbours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    began: Moment,
    read: Option<Moment>,
    /// How often its own devices were read; our reading that met silence was the first.
    turn: u32,
}

impl Leader {
    /// Whether the first attempt on a host waits, because BMCs of its domain are silent together.
    pub(super) fn neighbours_hold(&mut self, cx: &mut Context<'_>, incident: &Incident) -> Result<(), Text> {
        let (host, now) = (&incident.host, cx.now.mono);
        let is_first =
            incident.attempts.len() <= usize::try_from(incident.attempts_before_resume).unwrap_or(usize::MAX);
        let Some(domain) = cx.ledger.roster.get(host).and_then(|entry| entry.domain.clone()) else { return Ok(()) };
        if !is_first || !self.is_silent(host) || !keeps(Guard::DomainEvent) {
            return Ok(());
        }
        let of_domain = |other: &&HostName| {
            *other != host && cx.ledger.roster.get(*other).is_some_and(|entry| entry.domain.as_ref() == Some(&domain))
        };
        let neighbours: Vec<HostName> = cx.ledger.targets().filter(of_domain).take(ASKED_MAX).cloned().collect();
        let known = self.fences.get(&incident.id).and_then(|fence| fence.neighbours);
        let look = known.unwrap_or_else(|| self.begin_look(cx, incident, &neighbours));
        let broken = look.began - BROKEN_AFTER;
        let voices = neighbours.iter().map(|other| self.devices.voice(other, look.began, broken));
        let is_due = look.read.is_none_or(|read| now >= read + READ_EVERY);
        match together(voices) {
            Together::Unknown if now < look.began + ASK_WAIT => {
                Err(Text::new(format!("its fence device is silent: those of its neighbours in {domain} are asked")))
            }
            // Its neighbours may have answered the voter that reads it now a moment sooner than it does.
            Together::Alone | Together::Unknown if self.is_read_now(cx, host) && now < look.began + EVENT_HOLD => {
                Err("its fence device is silent: another voter reads it".into())
            }
            Together::Alone | Together::Unknown => Ok(()),
            Together::Silent { silent, asked } => {
                let left = (look.began + EVENT_HOLD).since(now);
                if left.is_zero() {
                    return Ok(());
                }
                if is_due {
                    let all: Vec<HostName> = neighbours.into_iter().chain([host.clone()]).collect();
                    self.look_on(cx, incident, look, &all);
                }
                self.obey(cx, host, Some(Brake::SilentDevices { domain, silent, asked, left }))
            }
        }
    }

    /// None of its devices answered when it was last read.
    pub(super) fn is_silent(&self, host: &HostName) -> bool {
        let silent = |entry: &&DeviceEntry| {
            entry.last.as_ref().is_some_and(|(_, reading)| matches!(reading.power, Err(DeviceError::Silent(_))))
        };
        let devices = self.devices.of(host);
        !devices.is_empty() && devices.iter().all(silent)
    }

    /// Asks its neighbours, and at once another voter for its own devices, whatever the neighbours will say.
    fn begin_look(&mut self, cx: &mut Context<'_>, incident: &Incident, neighbours: &[HostName]) -> Look {
        let now = cx.now.mono;
        neighbours.iter().for_each(|other| self.read_again(now, other));
        let look = Look { began: now, read: None, turn: 1 };
        self.fences.entry(incident.id).or_default().neighbours = Some(look);
        if self.other_voters(cx, &incident.host).is_empty() {
            return look;
        }
        self.look_on(cx, incident, look, std::slice::from_ref(&incident.host))
    }

    fn is_read_now(&self, cx: &Context<'_>, host: &HostName) -> bool {
        self.devices.of(host).iter().any(|entry| self.is_reading(cx, &entry.plan.name))
    }

    /// Has the next reader look at the devices of these hosts, unless one of them is being read.
    fn look_on(&mut self, cx: &mut Context<'_>, incident: &Incident, look: Look, hosts: &[HostName]) -> Look {
        let turn = look.turn.saturating_add(1);
        let by = self.reader(cx, &incident.host, turn);
        if !self.look(cx, incident.id, hosts, by.as_ref()) {
            return look;
        }
        let look = Look { read: Some(cx.now.mono), turn, ..look };
        self.fences.entry(incident.id).or_default().neighbours = Some(look);
        look
    }
}
