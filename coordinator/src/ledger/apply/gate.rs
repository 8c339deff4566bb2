//! What a member may say of its boot gate.

use rekindle_proto::fact::GateReport;
use rekindle_proto::id::{BootId, HostName, WallTime};

use super::super::state::{GateWord, Ledger};
use super::{Applied, Outcome};

impl Ledger {
    pub(super) fn gate_word(&mut self, at: WallTime, host: &HostName, boot: BootId, report: &GateReport) -> Applied {
        let record = self.hosts.entry(host.clone()).or_default();
        record.gate = Some(GateWord { at, boot, report: report.clone() });
        Ok(Outcome::done(format!("{host}: its boot gate")))
    }
}
