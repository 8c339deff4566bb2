//! One simulated host: its daemon, its place in the cloud, its BMC.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rekindle_proto::id::HostName;
use uuid::Uuid;

use super::daemon::{Daemon, Starter, tail, told};
use super::namespace::Firewall;
use crate::fake::bmc::{Bmc, Power, PowerHook};
use crate::fake::cloud::Cloud;
use crate::fake::guests::GuestsSocket;

/// A host of the cluster.
#[derive(Debug)]
pub struct Host {
    pub(super) machine: Arc<Machine>,
    pub(super) bmc: Bmc,
    pub(super) _guests: GuestsSocket,
}

impl Host {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &HostName {
        &self.machine.name
    }

    /// Where its daemon listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.machine.address
    }

    /// Its BMC, on an address of its own.
    #[must_use]
    pub fn bmc(&self) -> &Bmc {
        &self.bmc
    }

    /// Its files: `rekindle.toml`, `admin.sock`, `state/`, `rekindled.log`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.machine.dir
    }

    /// The local socket of its daemon.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.machine.dir.join("admin.sock")
    }

    /// Its configuration file, read at the next start.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.machine.config()
    }

    /// All that its daemons, one after the other, wrote.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.machine.log()
    }

    /// The last lines of that.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.machine.log(), lines)
    }

    /// The process id of its daemon, if one was started and not killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.machine.daemon().as_ref().map(Daemon::pid)
    }

    /// Whether its daemon was started, and neither killed nor stopped nor silenced.
    #[must_use]
    pub fn answers(&self) -> bool {
        let machine = &self.machine;
        !machine.silent.load(Ordering::Relaxed) && !machine.stopped.load(Ordering::Relaxed) && self.pid().is_some()
    }

    /// How its daemon ended, if it did by itself.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        self.machine.daemon().as_mut().and_then(Daemon::ended).map(told)
    }

    /// Starts its daemon. No error if it runs.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&self) -> Result<()> {
        self.machine.start()
    }

    /// SIGKILL for its daemon, and waits until it is gone. No error if there is none. The kernel lives on, unless it was
    /// silenced before: see [`super::Fault`] for what happens to whole hosts.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&self) -> Result<()> {
        self.machine.kill()
    }

    /// Stops its daemon with SIGSTOP.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self) -> Result<()> {
        self.machine.signal(Signal::SIGSTOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn go_on(&self) -> Result<()> {
        self.machine.signal(Signal::SIGCONT)
    }

    /// Sends its daemon another signal: SIGTERM, SIGHUP.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.machine.signal(signal)
    }

    /// Cuts it off from its management network alone (`true`), or connects it again.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn cut_management(&self, cut: bool) -> Result<()> {
        self.machine.cut(self.machine.address.ip(), cut)
    }

    /// The same with its storage network.
    ///
    /// # Errors
    /// What `nft` says, and if it has none.
    pub fn cut_storage(&self, cut: bool) -> Result<()> {
        let address = self.machine.storage.context("it has no storage network")?;
        self.machine.cut(address.ip(), cut)
    }

    /// Drops everything to and from its addresses. Its BMC has another.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn silence(&self) -> Result<()> {
        self.machine.silence()
    }

    /// Lets it be heard again.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn unsilence(&self) -> Result<()> {
        self.machine.unsilence()
    }

    /// What it says arrives; nothing gets to it (`true`), or everything again.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn deafen(&self, deaf: bool) -> Result<()> {
        self.machine.firewall.deafen(self.machine.address.ip(), deaf)
    }

    /// A seventh of its packets is lost, each way (`true`), or none any more.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn make_lossy(&self, lossy: bool) -> Result<()> {
        self.machine.firewall.make_lossy(self.machine.address.ip(), lossy)
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: HostName,
    pub(super) address: SocketAddr,
    /// Where it listens on its storage network, if there is one.
    pub(super) storage: Option<SocketAddr>,
    pub(super) dir: PathBuf,
    pub(super) cloud: Cloud,
    pub(super) firewall: Arc<Firewall>,
    pub(super) starter: Arc<Starter>,
    pub(super) daemon: Mutex<Option<Daemon>>,
    pub(super) silent: AtomicBool,
    pub(super) stopped: AtomicBool,
    /// Whether it tells boots of its own, and not those of the machine on which the tests run.
    pub(super) boots: bool,
}

impl Machine {
    pub(super) fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("rekindle.toml")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("rekindled.log")
    }

    pub(super) fn start(&self) -> Result<()> {
        let mut daemon = self.daemon();
        if daemon.as_mut().is_some_and(|daemon| daemon.ended().is_none()) {
            return Ok(());
        }
        let boot = self.dir.join("boot_id");
        let boot = self.boots.then_some(boot.as_path());
        let config = self.config();
        let started = Daemon::start(&self.starter, self.name.as_str(), (&config, boot), &self.log());
        *daemon = Some(started.with_context(|| format!("rekindled of {} cannot be started", self.name))?);
        self.stopped.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn kill(&self) -> Result<()> {
        match self.daemon().take() {
            Some(mut daemon) => daemon.kill().with_context(|| format!("rekindled of {} cannot be killed", self.name)),
            None => Ok(()),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let mut daemon = self.daemon();
        let running = daemon.as_mut().with_context(|| format!("rekindled of {} does not run", self.name))?;
        running.signal(signal).with_context(|| format!("rekindled of {} takes no {signal}", self.name))?;
        if matches!(signal, Signal::SIGSTOP | Signal::SIGCONT) {
            self.stopped.store(signal == Signal::SIGSTOP, Ordering::Relaxed);
        }
        Ok(())
    }

    fn cut(&self, address: IpAddr, cut: bool) -> Result<()> {
        if cut { self.firewall.silence(address) } else { self.firewall.unsilence(address) }
    }

    pub(super) fn silence(&self) -> Result<()> {
        self.addresses().try_for_each(|address| self.firewall.silence(address))?;
        self.silent.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn unsilence(&self) -> Result<()> {
        self.addresses().try_for_each(|address| self.firewall.unsilence(address))?;
        self.silent.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.address).chain(self.storage).map(|address| address.ip())
    }

    /// What its BMC's power orders mean. A host that is off is silent: its kernel is gone with its daemon.
    pub(super) fn power_hook(self: &Arc<Self>) -> PowerHook {
        let machine = Arc::clone(self);
        Arc::new(move |power| match power {
            Power::Off => machine.lose_power().map_err(io::Error::other),
            Power::On => machine.boot().map_err(io::Error::other),
        })
    }

    /// Silent first: a live kernel would answer for the killed process.
    pub(super) fn lose_power(&self) -> Result<()> {
        self.silence()?;
        self.kill()?;
        self.cloud.host_died(&self.name);
        Ok(())
    }

    /// From now on it is in another boot, if it tells boots of its own.
    pub(super) fn begin_boot(&self) -> Result<()> {
        if self.boots {
            fs::write(self.dir.join("boot_id"), format!("{}\n", Uuid::new_v4()))?;
        }
        Ok(())
    }

    fn boot(&self) -> Result<()> {
        self.begin_boot()?;
        self.cloud.host_returned(&self.name);
        self.unsilence()?;
        self.start()
    }
}
