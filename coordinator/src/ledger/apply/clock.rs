//! Time that has passed, as leaders have committed it: what ends by itself.

use rekindle_proto::fact::Text;
use rekindle_proto::id::WallTime;

use super::super::clock::{DisarmLimit, ELAPSE_MAX_MS};
use super::super::state::{Arming, Ledger};
use super::operator::By;
use super::{Applied, Outcome};

/// Longest disarm that ends by itself, in milliseconds: who needs more wants it without an end.
const DISARM_MAX_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

impl Ledger {
    pub(super) fn elapse(&mut self, at: WallTime, ms: u32) -> Applied {
        if ms == 0 || ms > ELAPSE_MAX_MS {
            return Err(Outcome::refused(format!("{ms} ms passed; an entry says 1 to {ELAPSE_MAX_MS}")));
        }
        self.time = self.time.after_ms(u64::from(ms));
        let mut ended = Vec::new();
        if self.armed_again_in_ms() == Some(0) {
            let reason = Text::new(format!("the disarm ended by itself; it was: {}", self.arming.reason));
            self.arming = Arming { armed: true, at, by: self.arming.by.take(), reason };
            self.disarm_limit = None;
            ended.push("armed again".to_owned());
        }
        for (host, record) in &mut self.hosts {
            if record.flap.quarantined_until.is_some_and(|until| until <= self.time) {
                record.flap.quarantined_until = None;
                ended.push(format!("{host} is no longer quarantined for flapping"));
            }
        }
        let text = if ended.is_empty() { format!("{ms} ms passed") } else { ended.join("; ") };
        Ok(Outcome::done(text))
    }

    pub(super) fn disarm_for(&mut self, by: &By<'_>, ms: u64) -> Applied {
        if ms == 0 || ms > DISARM_MAX_MS {
            return Err(Outcome::refused(format!(
                "disarmed for {ms} ms; it must be 1 to {DISARM_MAX_MS} (7 days), or without an end"
            )));
        }
        self.arm(by, false)?;
        self.disarm_limit = Some(DisarmLimit { until: self.time.after_ms(ms) });
        Ok(Outcome::done(format!("disarmed; armed again in {} min", ms.div_ceil(60_000))))
    }
}
