//! What holds a verdict or an off order back although everything else speaks for it: the brakes ([`crate::brake`]), with
//! the figures that only a leader has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::{DeviceReading, PowerState, Text};
use rekindle_proto::id::{HostName, IncidentId};
use rekindle_proto::status::Phase;

use super::Leader;
use super::proposals::Key;
use super::suspect_case::SuspectCase;
use crate::brake::{self, Brake, Silence};
use crate::context::Context;
use crate::ledger::{LeaderCommand, RateClaim};
use crate::mutant::{Guard, keeps};
use crate::time::Moment;

/// How long a verdict waits for another suspicion to be settled. Beyond it the other host counts as absent, not as alive.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// Between two readings of the devices of a host that fell silent with others.
const EVENT_READ_EVERY: Duration = Duration::from_secs(15);

/// What the leader knows of brakes beyond the ledger.
#[derive(Debug, Default)]
pub(super) struct Brakes {
    /// Since when each silent host is silent. A new leader counts from when it first sees the silence.
    silences: BTreeMap<HostName, Silence>,
    /// When the devices of a host in an event were last asked, and whose turn it was, see [`Leader::event_reader`].
    reads: BTreeMap<HostName, (Moment, u32)>,
    /// Silent hosts whose devices, all of them, read off since they fell silent.
    off: BTreeSet<HostName>,
    /// What holds each host now.
    held: BTreeMap<HostName, Brake>,
    /// Which counted fence was last seen, and when first.
    rate: Option<(u64, Moment)>,
}

impl Leader {
    /// What holds each host, for people.
    pub(crate) fn held_hosts(&self) -> impl Iterator<Item = (&HostName, &Brake)> {
        self.brakes.held.iter()
    }

    /// Hosts that fell silent with others, and are held or were held for it.
    pub(crate) fn in_events(&self) -> impl Iterator<Item = &HostName> {
        self.brakes.silences.iter().filter(|(_, silence)| silence.in_event).map(|(host, _)| host)
    }

    /// Roster members that answered the last roll call, if it was called lately.
    pub(crate) fn last_roll(&self, cx: &Context<'_>) -> Option<usize> {
        let roll = self.roll_since(cx.now.mono - crate::permit::ROLL_AGE_MAX)?;
        Some(roll.present.iter().filter(|host| cx.ledger.roster.contains_key(*host)).count())
    }

    /// How long was waited since the last counted fence, as far as this leadership can say.
    pub(crate) fn rate_claim(&self, cx: &Context<'_>) -> RateClaim {
        let after = cx.ledger.rate.counted;
        let since = self.brakes.rate.filter(|(counted, _)| *counted == after).map(|(_, since)| since);
        let waited = since.map_or(Duration::ZERO, |since| cx.now.mono.since(since));
        RateClaim { after, waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Brings the leader's own figures up to date, once a drive.
    pub(super) fn watch_brakes(&mut self, cx: &mut Context<'_>) {
        let counted = cx.ledger.rate.counted;
        if self.brakes.rate.is_none_or(|(known, _)| known != counted) {
            self.brakes.rate = Some((counted, cx.now.mono));
        }
        let suspects = &self.suspects;
        self.brakes.held.retain(|host, _| suspects.contains_key(host) || cx.ledger.open_incident(host).is_some());
        self.watch_silences(cx);
        self.brakes.off = self.read_off();
        self.read_events(cx);
        self.drop_lifts(cx);
    }

    /// Holds, unless an operator lifted it for this host.
    pub(super) fn obey(&mut self, cx: &Context<'_>, host: &HostName, brake: Option<Brake>) -> Result<(), Text> {
        match brake {
            Some(brake) if !brake.is_liftable() || cx.ledger.lift_of(host).is_none() => {
                let why = Text::new(brake.to_string());
                // These end at a known moment: a second lost each time would add up over a rack.
                if let Brake::FenceRate { left, .. }
                | Brake::DomainEvent { left, .. }
                | Brake::SilentDevices { left, .. } = &brake
                {
                    self.wake_at(cx.now.mono + *left);
                }
                self.brakes.held.insert(host.clone(), brake);
                Err(why)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Nothing is known to hold this host: to be judged anew.
    pub(super) fn release_brakes(&mut self, host: &HostName) {
        self.brakes.held.remove(host);
    }

    /// The brakes that need no testimony, first.
    pub(super) fn cold_start(&mut self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        let brake = brake::never_heard(cx.ledger, host).or_else(|| brake::cold_start(cx.ledger, host));
        self.obey(cx, host, brake)
    }

    /// The brakes on a verdict.
    pub(super) fn brakes_at_verdict(
        &mut self,
        cx: &Context<'_>,
        host: &HostName,
        needed_by: Option<IncidentId>,
    ) -> Result<(), Text> {
        self.obey(cx, host, brake::standing(cx.ledger, host))?;
        let event = self.event_brake(cx, host);
        self.obey(cx, host, event)?;
        self.obey(cx, host, brake::domain_cap(cx.ledger, host, needed_by))
    }

    /// The brakes on an off order.
    pub(super) fn brakes_at_fence(&mut self, cx: &Context<'_>, id: IncidentId, host: &HostName) -> Result<(), Text> {
        self.release_brakes(host);
        self.obey(cx, host, brake::standing(cx.ledger, host))?;
        self.obey(cx, host, brake::cold_start(cx.ledger, host))?;
        let rate = brake::fence_rate(cx.ledger, id, self.rate_claim(cx));
        self.obey(cx, host, rate)
    }

    /// Others turned suspect meanwhile: wait until each is settled, so that the 51 % are counted on facts. Nobody lifts
    /// this: it ends by itself.
    pub(super) fn unsettled_others<'a>(&'a mut self, cx: &Context<'_>, host: &HostName) -> Result<(), Text> {
        let now = cx.now.mono;
        let unsettled = |(other, case): (&'a HostName, &'a mut SuspectCase)| {
            let is_waited_for = other != host && now < case.suspicion.began + SETTLE_WAIT;
            (is_waited_for && !case.is_settled(cx.ledger)).then(|| other.as_str())
        };
        let waiting: Vec<&str> = self.suspects.iter_mut().filter_map(unsettled).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        Err(Text::new(format!("waiting until it is settled whether {} live", waiting.join(", "))))
    }

    /// An evacuation that cannot go on before this host is proven off.
    pub(crate) fn needed_by(&self, host: &HostName) -> Option<IncidentId> {
        self.evacuations.iter().find(|(_, evacuation)| evacuation.named.contains(host)).map(|(id, _)| *id)
    }

    /// The event this host is part of, if it still holds.
    pub(crate) fn event_brake(&self, cx: &Context<'_>, host: &HostName) -> Option<Brake> {
        if !keeps(Guard::DomainEvent) {
            return None;
        }
        brake::event_hold(&self.brakes.silences, &self.brakes.off, host, cx.ledger.roster.len(), cx.now.mono)
    }

    /// See [`Brakes::off`].
    fn read_off(&self) -> BTreeSet<HostName> {
        let is_off = |(host, silence): &(&HostName, &Silence)| {
            let devices = self.devices.of(host);
            let off = |reading: &DeviceReading| reading.power == Ok(PowerState::Off);
            !devices.is_empty()
                && devices
                    .iter()
                    .all(|entry| entry.last.as_ref().is_some_and(|(at, reading)| *at >= silence.since && off(reading)))
        };
        self.brakes.silences.iter().filter(is_off).map(|(host, _)| host.clone()).collect()
    }

    /// Who is silent since when: suspects, those who have missed the roll call though gossip still calls them alive, and
    /// hosts of incidents that another leader began a moment ago.
    fn watch_silences(&mut self, cx: &Context<'_>) {
        let now = cx.now.mono;
        let mut silences = std::mem::take(&mut self.brakes.silences);
        let unheard_since = |host: &HostName, since: Moment| cx.heard.get(host).is_none_or(|heard| heard.at <= since);
        silences.retain(|host, silence| {
            self.suspects.contains_key(host)
                || cx.ledger.open_incident(host).is_some()
                || (unheard_since(host, silence.since) && now.since(silence.since) < brake::EVENT_WINDOW)
        });
        let explained = |host: &HostName| {
            let kept_out = cx.ledger.host(host).is_some_and(|record| record.maintenance.is_some());
            kept_out || cx.heard.is_absent(host)
        };
        for (host, case) in self.suspects.iter().filter(|(host, _)| !explained(host)) {
            let began = case.suspicion.began;
            let known = silences.get(host).filter(|known| began <= known.since + brake::EVENT_WINDOW);
            if known.is_none() {
                silences.insert(host.clone(), Silence { since: began, in_event: false });
            }
        }
        if let Some(roll) = self.roll_since(now - brake::EVENT_WINDOW) {
            let missed = |host: &&HostName| !roll.present.contains(*host) && cx.is_alive(host) && !explained(host);
            for host in cx.ledger.roster.keys().filter(missed).filter(|host| unheard_since(host, roll.called)) {
                silences.entry(host.clone()).or_insert(Silence { since: roll.called, in_event: false });
            }
        }
        for incident in cx.ledger.open_incidents() {
            match incident.phase {
                Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Fenced => {
                    silences.entry(incident.host.clone()).or_insert(Silence { since: now, in_event: false });
                }
                Phase::Evacuating | Phase::Stuck | Phase::Recovered | Phase::Refuted => {}
            }
        }
        for host in brake::events(&silences, &cx.ledger.roster) {
            if let Some(silence) = silences.get_mut(&host) {
                silence.in_event = true;
            }
        }
        self.brakes.silences = silences;
    }

    /// Reads of the devices of hosts that fell silent together, so that it shows whether they lost their power. Reads
    /// only, as many at once as health readings. Where they are silent, it is the next reader's turn.
    fn read_events(&mut self, cx: &Context<'_>) {
        let now = cx.now.mono;
        let silences = &self.brakes.silences;
        self.brakes.reads.retain(|host, _| silences.contains_key(host));
        let is_due = |host: &&HostName| {
            self.brakes.reads.get(*host).is_none_or(|(read, _)| now >= *read + EVENT_READ_EVERY)
                && cx.ledger.open_incident(host).is_none()
        };
        let recent = |silence: &Silence| silence.in_event && now.since(silence.since) < brake::EVENT_HOLD;
        let held = silences.iter().filter(|(_, silence)| recent(silence)).map(|(host, _)| host);
        let due: Vec<HostName> = held.filter(is_due).cloned().collect();
        for host in due {
            // The first turn is ours: who was silent to us before has had it.
            let turn = self.brakes.reads.get(&host).map_or(1, |(_, turn)| *turn);
            let turn = if self.is_silent(&host) { turn.saturating_add(1) } else { turn };
            self.brakes.reads.insert(host.clone(), (now, turn));
            self.read_again(now, &host);
        }
    }

    /// Who reads the devices of a host that fell silent with others: we (`None`), until they are silent to us; it may be our own
    /// way to them that is lost.
    pub(super) fn event_reader(&self, cx: &Context<'_>, host: &HostName) -> Option<HostName> {
        let (_, turn) = self.brakes.reads.get(host)?;
        self.reader(cx, host, *turn)
    }

    /// A lift was for a silent host: if it is heard again before there is an incident, the brakes hold again.
    fn drop_lifts(&mut self, cx: &mut Context<'_>) {
        let waiting = cx.ledger.lifts.iter().filter(|(_, lift)| lift.incident.is_none());
        let alive = |host: &HostName| cx.is_alive(host) && !self.suspects.contains_key(host);
        let hosts: Vec<HostName> = waiting.map(|(host, _)| host).filter(|host| alive(host)).cloned().collect();
        for host in hosts {
            self.command(cx, Key::Lift(host.clone()), LeaderCommand::DropLift { host });
        }
    }
}
