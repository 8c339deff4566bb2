//! The fence device of a suspect, read while it may still refute: a read, and never more.
//!
//! A host whose power is off does not refute. So the first suspicion reads its devices, and if a whole level of them, each
//! known to be this machine's, says *off*, the time-out of the suspicion ends at once. Confirmers, roll call and brakes are
//! asked as ever, and the proof still takes our own off order and two readings after it (I2): nothing rests on this reading
//! but the wait.

use std::collections::VecDeque;
use std::time::Duration;

use rekindle_proto::fact::DeviceName;
use rekindle_proto::id::HostName;

use super::Leader;
use super::devices::ReadFor;
use crate::context::Context;
use crate::time::Moment;

/// Suspects whose devices are read so within [`WINDOW`]: a rack. BMCs answer slowly, and a network that fails again and again
/// must not keep their sessions busy.
const READS_MAX: usize = 40;
/// See [`READS_MAX`].
const WINDOW: Duration = Duration::from_secs(60);

/// When such readings were begun, within the last [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct EarlyReads(VecDeque<Moment>);

impl EarlyReads {
    /// Takes one of the places of this minute, if one is free.
    fn take(&mut self, now: Moment) -> bool {
        while self.0.front().is_some_and(|begun| now.since(*begun) >= WINDOW) {
            self.0.pop_front();
        }
        let is_free = self.0.len() < READS_MAX;
        if is_free {
            self.0.push_back(now);
        }
        is_free
    }
}

impl Leader {
    /// Reads a suspect's devices, once a suspicion.
    pub(super) fn read_early(&mut self, cx: &mut Context<'_>, host: &HostName) {
        let Some(case) = self.suspects.get_mut(host) else { return };
        // One lost path is no loss of power; a witness is never fenced.
        if case.read_early || case.suspicion.path.is_some() || !cx.ledger.is_hypervisor(host) {
            return;
        }
        if !self.early.take(cx.now.mono) {
            return;
        }
        case.read_early = true;
        let devices: Vec<DeviceName> = self.devices.of(host).into_iter().map(|entry| entry.plan.name.clone()).collect();
        for device in devices {
            if !self.is_reading(cx, &device) {
                self.read_device(cx, host, &device, ReadFor::Suspect);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_reads_are_bounded_by_the_minute() {
        let at = |seconds: u64| Moment::from_micros(seconds * 1_000_000);
        let mut reads = EarlyReads::default();
        assert!((0..READS_MAX).all(|_| reads.take(at(1))));
        assert!(!reads.take(at(60)));
        assert!(reads.take(at(61)));
        assert_eq!(reads.0.len(), 1);
    }
}
