//! What goes wrong beside the failure of a host: none of it is a reason to fence anybody.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;
use rekindle_tests::fake::bmc::Behaviour;
use rekindle_tests::fake::cloud::{Endpoint, Fault, Span, SpawnFault};
use rekindle_tests::harness::{Cluster, Host};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nuisance {
    /// A daemon is killed; systemd starts it again at once.
    DaemonKilled,
    /// A daemon is stopped by a signal and goes on after less than its peers' patience.
    DaemonStopped,
    /// A daemon is told to stop, and started again.
    DaemonRestarted,
    /// A seventh of a host's packets is lost.
    Lossy,
    /// The leader's daemon is killed, and started again.
    LeaderKilled,
    /// The victim's BMC acts seconds after it said "done".
    BmcLate,
    /// The victim's BMC is busy for a while.
    BmcBusy,
    /// Nova answers with errors for a while.
    NovaErrors,
    /// Nova does what it is told and its answers are lost.
    NovaAnswersLost,
    /// A rebuild fails.
    RebuildFails,
}

const ALL: [Nuisance; 10] = [
    Nuisance::DaemonKilled,
    Nuisance::DaemonStopped,
    Nuisance::DaemonRestarted,
    Nuisance::Lossy,
    Nuisance::LeaderKilled,
    Nuisance::BmcLate,
    Nuisance::BmcBusy,
    Nuisance::NovaErrors,
    Nuisance::NovaAnswersLost,
    Nuisance::RebuildFails,
];

/// How long a daemon may be stopped and still refute: less than a period and the confirmers' probes.
const STOPPED_FOR: Duration = Duration::from_millis(700);
/// How long a BMC is busy, a network loses, Nova answers with errors.
const A_WHILE: Duration = Duration::from_secs(4);

impl fmt::Display for Nuisance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DaemonKilled => "daemon killed",
            Self::DaemonStopped => "daemon stopped by a signal for a moment",
            Self::DaemonRestarted => "daemon restarted",
            Self::Lossy => "lossy network",
            Self::LeaderKilled => "leader killed",
            Self::BmcLate => "BMC acts late",
            Self::BmcBusy => "BMC busy",
            Self::NovaErrors => "Nova answers with errors",
            Self::NovaAnswersLost => "Nova's answers are lost",
            Self::RebuildFails => "a rebuild fails",
        })
    }
}

impl Nuisance {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        ALL[rng.random_range(0..ALL.len())]
    }

    /// A BMC's faults are met by the first order to it, seconds after the failure: later nobody would notice them.
    pub(crate) fn is_there_before(self) -> bool {
        matches!(self, Self::BmcLate | Self::BmcBusy)
    }

    /// Lets it happen, to the end of it, while the victim is being dealt with.
    pub(crate) async fn happen(self, cluster: &Cluster, victim: &Host, other: &Host) -> Result<()> {
        let cloud = cluster.cloud();
        match self {
            Self::DaemonKilled => {
                other.kill()?;
                other.start()?;
            }
            Self::DaemonStopped => {
                other.stop()?;
                tokio::time::sleep(STOPPED_FOR).await;
                other.go_on()?;
            }
            Self::DaemonRestarted => {
                other.signal(Signal::SIGTERM)?;
                while other.ended().is_none() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other.start()?;
            }
            Self::Lossy => {
                other.make_lossy(true)?;
                tokio::time::sleep(A_WHILE).await;
                other.make_lossy(false)?;
            }
            Self::LeaderKilled => {
                let leader = cluster.any_status().await.ok().and_then(|status| status.leader);
                let leader = leader.filter(|leader| leader != victim.name());
                if let Some(leader) = leader {
                    let leader = cluster.host(leader.as_str())?;
                    leader.kill()?;
                    leader.start()?;
                }
            }
            Self::BmcLate => victim.bmc().behaviour(Behaviour::ActsLate(Duration::from_secs(2))),
            Self::BmcBusy => {
                victim.bmc().behaviour(Behaviour::Busy);
                tokio::time::sleep(A_WHILE).await;
                victim.bmc().behaviour(Behaviour::Honest);
            }
            Self::NovaErrors => cloud.fault(Endpoint::Any, Fault::Http(503), Span::For(A_WHILE)),
            Self::NovaAnswersLost => cloud.fault(Endpoint::Evacuate, Fault::DropAfter, Span::Next(2)),
            Self::RebuildFails => cloud.spawn_fault(SpawnFault::SpawnFails, None, 1),
        }
        Ok(())
    }
}
