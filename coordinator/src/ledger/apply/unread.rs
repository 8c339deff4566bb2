//! Orders that may lie unread in queues: they are remembered when an attempt ends with its destination's death, and forgotten
//! when that host has read them.

use rekindle_proto::id::{BootId, HostName, ServerId};

use super::super::state::Ledger;
use super::super::unread::{QueueCommand, Reader, UNREAD_MAX, retain_of};
use super::{Applied, Outcome};

impl Ledger {
    /// Whether an order that may lie unread there can be remembered.
    pub(super) fn may_note_unread(&self, dest: &HostName) -> Result<(), Outcome> {
        if self.keeps_unread(dest) && self.unread_count() >= UNREAD_MAX {
            let why = format!("{UNREAD_MAX} unread orders are remembered: let hosts back that died as destinations");
            return Err(Outcome::refused(why));
        }
        Ok(())
    }

    /// An attempt ends because its destination is off, and its order may lie there unread.
    pub(super) fn note_unread(&mut self, server: ServerId, dest: &HostName) {
        if self.keeps_unread(dest) {
            self.unread.entry(server).or_default().hosts.insert(dest.clone());
        }
    }

    /// Whether a queue there may hold what was not read. With a host without a gate an attempt ends only once it has taken the
    /// order out of its queue.
    fn keeps_unread(&self, dest: &HostName) -> bool {
        let word = self.host(dest).and_then(|record| record.gate.as_ref());
        word.is_some_and(|word| word.report.installed)
    }

    pub(super) fn apply_queue(&mut self, command: &QueueCommand) -> Applied {
        match command {
            QueueCommand::Let { host, boot } => self.let_read(host, *boot),
            QueueCommand::Over { host, read } => self.end_reading(host, *read),
        }
    }

    fn let_read(&mut self, host: &HostName, boot: BootId) -> Applied {
        self.may_read_queue(host, boot).map_err(Outcome::refused)?;
        let reader = Reader { host: host.clone(), boot };
        retain_of(&mut self.unread, host, |queues| queues.reader = Some(reader.clone()));
        Ok(Outcome::done(format!("{host} may read the orders in its queue: Nova is at work on none of their servers")))
    }

    fn end_reading(&mut self, host: &HostName, read: bool) -> Applied {
        self.may_end_reading(host, read).map_err(Outcome::refused)?;
        let is_its = |reader: &Reader| reader.host == *host;
        if !self.unread_of(host).any(|(_, queues)| queues.reader.as_ref().is_some_and(is_its)) {
            return Err(Outcome::refused(format!("{host} reads no such order")));
        }
        retain_of(&mut self.unread, host, |queues| {
            if queues.reader.as_ref().is_some_and(is_its) {
                queues.reader = None;
                if read {
                    queues.hosts.remove(host);
                }
            }
        });
        let what = if read { "has read its queue" } else { "reads its queue no more" };
        Ok(Outcome::done(format!("{host} {what}")))
    }
}
