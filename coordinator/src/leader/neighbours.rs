//! A host whose fence device is silent: are those of its neighbours too? Then it is its domain's network or power, and is
//! held like any domain event, once, before anything is tried on it.

use std::time::Duration;

use rekindle_proto::fact::{DeviceError, Text};
use rekindle_proto::id::HostName;

use super::Leader;
use super::devices::ReadFor;
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

/// Between two readings while it is held.
const READ_EVERY: Duration = Duration::from_secs(5);

/// A device that did not answer so long before either is broken by itself.
const BROKEN_AFTER: Duration = Duration::from_secs(60);

/// What was asked about one host's neighbours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    began: Moment,
    read: Option<Moment>,
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
        let fence = self.fences.entry(incident.id).or_default();
        let look = *fence.neighbours.get_or_insert(Look { began: now, read: None });
        let of_domain = |other: &&HostName| {
            *other != host && cx.ledger.roster.get(*other).is_some_and(|entry| entry.domain.as_ref() == Some(&domain))
        };
        let neighbours: Vec<HostName> = cx.ledger.targets().filter(of_domain).take(ASKED_MAX).cloned().collect();
        let broken = look.began - BROKEN_AFTER;
        let voices = neighbours.iter().map(|other| self.devices.voice(other, look.began, broken));
        let together = together(voices);
        let is_due = look.read.is_none_or(|read| now >= read + READ_EVERY);
        if is_due && let Some(fence) = self.fences.get_mut(&incident.id) {
            fence.neighbours = Some(Look { read: Some(now), ..look });
        }
        match together {
            Together::Alone => Ok(()),
            Together::Unknown if now >= look.began + ASK_WAIT => Ok(()),
            Together::Unknown => {
                if is_due {
                    neighbours.iter().for_each(|other| self.read_again(now, other));
                }
                Err(Text::new(format!("its fence device is silent: those of its neighbours in {domain} are asked")))
            }
            Together::Silent { silent, asked } => {
                let left = (look.began + EVENT_HOLD).since(now);
                if left.is_zero() {
                    return Ok(());
                }
                if is_due {
                    self.read_silent(cx, incident);
                }
                self.obey(cx, host, Some(Brake::SilentDevices { domain, silent, asked, left }))
            }
        }
    }

    /// None of its devices answered when it was last read.
    fn is_silent(&self, host: &HostName) -> bool {
        let silent = |entry: &&DeviceEntry| {
            entry.last.as_ref().is_some_and(|(_, reading)| matches!(reading.power, Err(DeviceError::Silent(_))))
        };
        let devices = self.devices.of(host);
        !devices.is_empty() && devices.iter().all(silent)
    }

    fn read_silent(&mut self, cx: &mut Context<'_>, incident: &Incident) {
        let names: Vec<_> = self.devices.of(&incident.host).iter().map(|entry| entry.plan.name.clone()).collect();
        for name in names {
            if !self.is_reading(cx, &name) {
                self.read_device(cx, &incident.host, &name, ReadFor::Binding(incident.id));
            }
        }
    }
}
