//! Foca's world: what it asks for is collected here and carried out when it has returned.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, Message, Notification, PeriodicParams, ProbeNumber, Runtime, Timer};
use rekindle_proto::id::MemberId;
use rekindle_proto::message::DATAGRAM_BYTES_MAX;

use super::identity::Identity;

/// Fewest retransmissions of an update by each holder: foca's own formula gives 2 for three members, and with 1 % loss that
/// alone accounts for most false alarms of a small cluster.
const TRANSMISSIONS_MIN: f64 = 10.0;

/// How long a down member is remembered: a day, so that a host that is being repaired is still shown as down.
pub(super) const REMEMBER_DOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Updates are pushed to that many random members this often, beside those that ride on probes (memberlist's LAN values).
const GOSSIP: (Duration, NonZeroUsize) = (Duration::from_millis(200), nonzero(3));

/// One random member is asked for its members this often (foca's LAN value): finds what gossip has missed.
const ANNOUNCE: (Duration, NonZeroUsize) = (Duration::from_secs(30), nonzero(1));

const fn nonzero(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

/// Everything foca's configuration is made of. The probe times are fixed for its life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) probe_period: Duration,
    pub(super) probe_ack: Duration,
    pub(super) indirect_probes: u8,
    pub(super) suspicion_factor: u32,
}

impl Rules {
    /// `factor · log10(N) · period`, at least one period; in whole milliseconds, so that the last digit of a logarithm never
    /// decides an order.
    pub(super) fn suspicion(&self, cluster_size: usize) -> Duration {
        let periods = f64::from(self.suspicion_factor) * as_f64(cluster_size).log10();
        let millis = (self.probe_period.as_secs_f64() * 1000.0 * periods.max(1.0)).round();
        // Saturates: an operator's absurd factor gives a long wait, not a wrapped one.
        Duration::from_millis(millis as u64)
    }

    fn transmissions(cluster_size: usize) -> NonZeroU8 {
        let by_foca = (4.0 * (as_f64(cluster_size) + 1.0).log10()).floor();
        let wanted = (2.0 * by_foca).max(TRANSMISSIONS_MIN);
        NonZeroU8::new(wanted as u8).unwrap_or(NonZeroU8::MAX)
    }

    /// For a cluster of that many active members, ourselves included.
    pub(super) fn config(&self, cluster_size: usize) -> Config {
        let periodic = |(frequency, num_members)| Some(PeriodicParams { frequency, num_members });
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_ack,
            num_indirect_probes: nonzero(usize::from(self.indirect_probes)),
            max_transmissions: Self::transmissions(cluster_size),
            suspect_to_down_after: self.suspicion(cluster_size),
            remove_down_after: Some(REMEMBER_DOWN),
            max_packet_size: nonzero(DATAGRAM_BYTES_MAX),
            notify_down_members: true,
            periodic_announce: periodic(ANNOUNCE),
            // Ours instead: foca's rests while nobody is active, so two members cut off from each other would never meet.
            periodic_announce_to_down_members: None,
            periodic_gossip: periodic(GOSSIP),
        }
    }
}

fn as_f64(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// What foca asked for during one call.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) packets: Vec<(Identity, Vec<u8>)>,
    pub(super) timers: Vec<(Timer<Identity>, Duration)>,
    pub(super) probe_failed: Vec<Identity>,
    pub(super) pinged: Vec<(Identity, ProbeNumber)>,
    /// Who was asked to probe in our stead: the target's member, the probe's number, and whom we asked.
    pub(super) helpers: Vec<(MemberId, ProbeNumber, MemberId)>,
    /// Our SWIM incarnation as in the last header sent: foca raises it to refute a suspicion.
    pub(super) swim_incarnation: Option<foca::Incarnation>,
    /// We began a new life.
    pub(super) renewed: bool,
}

impl Runtime<Identity> for Wishes {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::Rejoin(_) => self.renewed = true,
            Notification::ProbeFailed(_, member) => self.probe_failed.push(*member),
            Notification::DataSent(header) => {
                self.swim_incarnation = Some(header.src_incarnation);
                match &header.message {
                    Message::Ping(number) => self.pinged.push((header.dst, *number)),
                    Message::PingReq { target, probe_number } => {
                        self.helpers.push((target.member, *probe_number, header.dst.member));
                    }
                    Message::Ack(_)
                    | Message::IndirectPing { .. }
                    | Message::IndirectAck { .. }
                    | Message::ForwardedAck { .. }
                    | Message::Announce
                    | Message::Feed
                    | Message::Gossip
                    | Message::Broadcast
                    | Message::TurnUndead => {}
                }
            }
            // Changes of members are read from foca's state. `Idle` and `Active` stop and start its timers, by token.
            // `Defunct` comes only when no life number is left (`Identity::renew`): we stay down in the others' eyes.
            Notification::MemberUp(_)
            | Notification::MemberDown(_)
            | Notification::Rename(..)
            | Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::DataReceived(_) => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Identity>, after: Duration) {
        self.timers.push((timer, after));
    }
}
