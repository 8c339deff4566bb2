//! From the configuration to the loop's parts, each started once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rekindle_coordinator::Coordinator;
use rekindle_coordinator::policy::Setup;
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::id::BootId;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::book::{AddressBook, RaftPeers};
use super::queries::Queries;
use super::tape::Tape;
use super::watchdog::Dog;
use super::{Ears, Inputs, Shell};
use crate::admin::{AdminServeError, AdminSocket, SOCKET_MODE};
use crate::bmc::{Bmc, BmcSetupError};
use crate::clock;
use crate::config::Config;
use crate::gate::Gate;
use crate::hypervisor::{Hypervisor, HypervisorError, HypervisorSettings};
use crate::kdump;
use crate::ledger::{LedgerAdapter, LedgerError, LedgerSettings};
use crate::machine::{MachineError, boot_id, system_uuid};
use crate::metrics::{Metrics, MetricsServeError, MetricsServer};
use crate::notify::{EventSocket, Webhook};
use crate::nova::{Nova, NovaSetupError};
use crate::process::Processes;
use crate::state_dir::{StateDir, StateDirError};
use crate::transport::{Transport, TransportError};

/// Inputs of adapters that may wait for the loop: a full list of answers for the largest storm we act in.
const INPUTS_MAX: usize = 4_096;

/// Packets and messages that may wait for the loop; beyond it the transport drops packets, and messages wait.
const TRANSPORT_EVENTS_MAX: usize = 4_096;

/// Operators' questions that may wait for the loop.
const QUESTIONS_MAX: usize = 64;

/// Events of the hypervisor that may wait for the loop; beyond it the watcher waits.
const HYPERVISOR_EVENTS_MAX: usize = 1_024;

/// Why the daemon could not start, or had to stop. Nothing was changed in the cloud.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The state directory.
    #[error("the state directory cannot be used")]
    State(#[from] StateDirError),
    /// This machine's boot id.
    #[error("this machine does not say its boot id")]
    Machine(#[from] MachineError),
    /// The transport.
    #[error("the transport cannot start")]
    Transport(#[from] TransportError),
    /// The ledger.
    #[error("the ledger cannot start")]
    Ledger(#[from] LedgerError),
    /// Nova's settings.
    #[error("Nova cannot be set up")]
    Nova(#[from] NovaSetupError),
    /// Fence devices' settings.
    #[error("the fence devices cannot be set up")]
    Bmc(#[from] BmcSetupError),
    /// The hypervisor.
    #[error("the hypervisor cannot be watched")]
    Hypervisor(#[from] HypervisorError),
    /// The local socket.
    #[error("the admin socket cannot be served")]
    Admin(#[from] AdminServeError),
    /// The socket of notifications.
    #[error("the socket of notifications cannot be served")]
    Events(#[source] AdminServeError),
    /// The webhook.
    #[error("the webhook cannot be set up")]
    Webhook(#[source] NovaSetupError),
    /// Words of crash kernels.
    #[error("words of crash kernels (kdump_wait) cannot be heard on {address}: does another fence_kdump listen there?")]
    Kdump {
        /// Where.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The metrics.
    #[error("the metrics cannot be served")]
    Metrics(#[from] MetricsServeError),
    /// The CA file, read for operators' first order.
    #[error("the cluster's CA cannot be read")]
    Ca(#[from] crate::pki::PkiError),
    /// The order that began the present generation of voters.
    #[error("the file `generation` in the state directory proves no generation of voters: {0}")]
    Generation(String),
    /// Signals.
    #[error("signals cannot be caught")]
    Signals(#[source] std::io::Error),
}
pub(super) async fn start(config: Config, beside: Handle) -> Result<(Shell, Ears), ShellError> {
    let state = Arc::new(StateDir::open(&config.member.state_dir)?);
    let boot = boot_id()?;
    let incarnation = state.next_incarnation(clock::now().wall)?;
    let (inputs, input_ear) = mpsc::channel(INPUTS_MAX);
    let (transport_mouth, transport_ear) = mpsc::channel(TRANSPORT_EVENTS_MAX);
    let (hypervisor_mouth, hypervisor_ear) = mpsc::channel(HYPERVISOR_EVENTS_MAX);
    let (question_mouth, question_ear) = mpsc::channel(QUESTIONS_MAX);
    let transport = Transport::start(config.transport(boot, incarnation, state.reset_key()?), transport_mouth).await?;
    let book = AddressBook::load(Arc::clone(&state))?;
    let generation = known_generation(&state, &config)?;
    let known = generation.as_ref().map_or(0, |(generation, _)| *generation);
    let ledger = match config.ledger(known) {
        None => None,
        Some(settings) => open_ledger(settings, book.peers(transport.clone()), inputs.clone()).await?,
    };
    // Secrets of BMCs and Nova are read on voters only: nobody else acts.
    let (nova, bmc) = if config.is_voter() {
        let nova = config.nova.clone().map(Nova::open).transpose()?;
        (nova, Some(Arc::new(Bmc::open(config.devices.clone())?)))
    } else {
        (None, None)
    };
    if config.is_voter() && config.policy.kdump.is_on() {
        let address = SocketAddr::new(config.member.listen.ip(), kdump::PORT);
        kdump::listen(address, inputs.clone()).await.map_err(|source| ShellError::Kdump { address, source })?;
    }
    let hypervisor = within(&beside, || Hypervisor::start(config.hypervisor.clone(), hypervisor_mouth))?;
    let socket = AdminSocket::bind(&config.member.admin_socket, SOCKET_MODE)?;
    tokio::spawn(socket.serve(question_mouth));
    let metrics = Arc::new(Metrics::new(&config.member));
    if let Some(address) = config.member.metrics {
        let server = MetricsServer::bind(address).await?;
        let served = Arc::clone(&metrics);
        beside.spawn(async move {
            if let Err(error) = server.serve(served).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
    }
    let events = config.notifications.socket.as_deref();
    let events = events.map(|path| AdminSocket::bind(path, SOCKET_MODE)).transpose().map_err(ShellError::Events)?;
    let events = events.map(EventSocket::serve);
    let webhook = config.notifications.webhook.clone().filter(|_| config.is_voter());
    let webhook = within(&beside, || webhook.map(|settings| Webhook::start(settings, inputs.clone())).transpose());
    let webhook = webhook.map_err(ShellError::Webhook)?;
    let seed = rand::random();
    tracing::info!(host = %config.member.host, %boot, %incarnation, seed, "rekindled starts");
    let setup = setup(&config, boot, incarnation, seed, &book, generation)?;
    let now = clock::now();
    let tape = if config.member.record { Tape::begin(&config.member.state_dir, &setup, now) } else { None };
    let dog = Dog::start(config.member.watchdog, &inputs, &beside);
    let shell = Shell {
        coordinator: Coordinator::new(setup, now),
        tape,
        role: config.member.role,
        transport,
        ledger,
        nova,
        capacity_readings: BTreeMap::new(),
        bmc,
        hypervisor,
        hypervisor_off: config.hypervisor == HypervisorSettings::Off,
        state,
        book,
        metrics,
        queries: Queries::default(),
        gate: Gate::default(),
        gate_told: None,
        boot,
        inputs,
        device_timeout: config.policy.device_timeout,
        hooks: Arc::new(config.hooks.clone()),
        events,
        webhook,
        processes: Processes::new(config.processes.clone()),
        dog,
        beside,
    };
    let on = |kind| signal(kind).map_err(ShellError::Signals);
    let ears = Ears {
        inputs: input_ear,
        transport: transport_ear,
        hypervisor: hypervisor_ear,
        questions: question_ear,
        terminate: on(SignalKind::terminate())?,
        interrupt: on(SignalKind::interrupt())?,
        hangup: on(SignalKind::hangup())?,
    };
    Ok((shell, ears))
}

/// Starts something whose tasks are to be that runtime's.
fn within<T>(runtime: &Handle, start: impl FnOnce() -> T) -> T {
    let _entered = runtime.enter();
    start()
}

fn setup(
    config: &Config,
    boot: BootId,
    incarnation: rekindle_proto::id::Incarnation,
    seed: u64,
    book: &AddressBook,
    generation: Option<(u64, SignedOrder)>,
) -> Result<Setup, ShellError> {
    // Peers known from before are as good as seeds: a restarted member finds its cluster though its seeds be down.
    let mut seeds = config.cluster.seeds.clone();
    seeds.extend(book.addresses().map(|address| address.to_string()));
    seeds.sort();
    seeds.dedup();
    let ours = config.member.listen.to_string();
    seeds.retain(|seed| *seed != ours);
    Ok(Setup {
        cluster: config.cluster.name.clone(),
        host: config.member.host.clone(),
        role: config.member.role,
        boot,
        incarnation,
        listen: config.listen(),
        system_uuid: system_uuid(config.member.system_uuid),
        seeds,
        voters: config.cluster.voters.clone(),
        keepers: config.keepers(),
        generation,
        operator_ca: crate::pki::certificate_der(&config.cluster.tls.ca)?,
        devices: config.device_rules(),
        policy: config.policy.clone(),
        seed,
        // CLOCK_BOOTTIME begins with the machine's boot.
        booted: Some(rekindle_coordinator::time::Moment::ZERO),
    })
}

/// Opens the ledger. One of an earlier generation stays closed, and the daemon goes on without: the host is still protected.
async fn open_ledger(
    settings: LedgerSettings,
    peers: RaftPeers,
    inputs: Inputs,
) -> Result<Option<LedgerAdapter>, LedgerError> {
    match LedgerAdapter::start(settings, peers, inputs).await {
        Ok(ledger) => Ok(Some(ledger)),
        Err(error @ LedgerError::Superseded { .. }) => {
            tracing::error!(%error, "this host keeps no ledger");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The latest generation of voters this member was told of. What is on disk is proven again: a file can be altered.
fn known_generation(state: &StateDir, config: &Config) -> Result<Option<(u64, SignedOrder)>, ShellError> {
    let Some(order) = state.generation()? else { return Ok(None) };
    let ca = crate::pki::certificate_der(&config.cluster.tls.ca)?;
    let proven = rekindle_coordinator::proven_generation(&order, &config.cluster.name, &ca);
    let recovery = proven.map_err(ShellError::Generation)?;
    Ok(Some((recovery.generation, order)))
}
