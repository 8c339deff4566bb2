//! Faults of a host: all of it, not of its daemon alone.

use std::fmt;

use anyhow::Result;

use super::cluster::Cluster;
use super::machine::Host;
use crate::fake::When;
use crate::fake::bmc::Power;

/// What happens to a host. In each case nothing is heard from its address any more, and its BMC, which has an address
/// of its own, goes on answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Its kernel dies: the daemon and the guests are gone, the BMC says on.
    Crash,
    /// It loses its power: the same, and the BMC says off.
    Power,
    /// It hangs: the daemon is stopped, **its guests run on**, the BMC says on.
    Freeze,
    /// It is alive and unreachable: the daemon and **its guests run on**, the BMC says on. It still reaches Nova and the
    /// BMCs itself: a leader that is cut off must not use them.
    Cut,
}

impl Fault {
    /// What that is, for people.
    #[must_use]
    pub fn explained(self) -> &'static str {
        match self {
            Self::Crash => "its kernel dies; silent, while its BMC still says on",
            Self::Power => "it loses its power; silent, and its BMC says off",
            Self::Freeze => "it hangs; silent, but its guests run on",
            Self::Cut => "its network is cut; silent, but it and its guests run on",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Crash => "crash",
            Self::Power => "power",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
        })
    }
}

impl Cluster {
    /// Does this to a host, and tells when it began. Whatever runs on then ends when the host's BMC is told off.
    ///
    /// # Errors
    /// What `nft` or the system says.
    pub fn inflict(&self, host: &Host, fault: Fault) -> Result<When> {
        let began = When::now();
        // In place before anything is killed: a live kernel would answer for the dead process.
        host.machine.silence()?;
        match fault {
            Fault::Crash => host.machine.lose_power()?,
            Fault::Power => {
                host.machine.lose_power()?;
                host.bmc.set_power(Power::Off);
            }
            Fault::Freeze => {
                host.stop()?;
                self.cloud().host_hung(host.name());
            }
            // nova-compute reaches nobody; libvirt, beside the daemon, answers it as ever.
            Fault::Cut => self.cloud().compute_stopped(host.name()),
        }
        Ok(began)
    }
}
