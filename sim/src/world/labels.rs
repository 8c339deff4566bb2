//! Domain labels: which hosts share a rack.

use rekindle_proto::id::DomainName;

use super::*;

impl World {
    /// Gives hosts a domain label. Only before anything has happened: the roster is what the log begins with.
    pub fn label(&mut self, hosts: &[HostName], domain: &DomainName) {
        self.raft.arrange(|ledger| {
            for host in hosts {
                if let Some(entry) = ledger.roster.get_mut(host) {
                    entry.domain = Some(domain.clone());
                }
            }
        });
        for keeper in self.keepers.clone() {
            self.start_daemon(keeper);
        }
    }
}
