//! The one loop: what happens goes in as [`Input`], what comes out as [`Output`] is done by the adapters. It decides
//! nothing, and waits for nothing but its own turn: every act runs in a task of its own and comes back as an input.

mod acts;
mod book;
mod queries;
mod tape;

use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::Coordinator;
use rekindle_coordinator::io::{Input, Output};
use rekindle_coordinator::policy::Setup;
use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::{GateReport, GuestList, MemberRole};
use rekindle_proto::id::BootId;
use rekindle_proto::message::{Reply, Request};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::admin::{AdminServeError, AdminSocket, Question, SOCKET_MODE};
use crate::bmc::{Bmc, BmcSetupError};
use crate::clock;
use crate::config::Config;
use crate::gate::Gate;
use crate::hypervisor::{Hypervisor, HypervisorError, HypervisorEvent, HypervisorSettings};
use crate::ledger::{LedgerAdapter, LedgerError, LedgerSettings};
use crate::machine::{MachineError, boot_id, system_uuid};
use crate::metrics::{Metrics, MetricsServeError, MetricsServer};
use crate::nova::{Nova, NovaSetupError};
use crate::shutdown;
use crate::state_dir::{StateDir, StateDirError};
use crate::telemetry::systemd;
use crate::transport::{Transport, TransportError, TransportEvent};

use book::{AddressBook, RaftPeers};
use queries::Queries;
use tape::Tape;

/// Inputs of adapters that may wait for the loop: a full list of answers for the largest storm we act in.
const INPUTS_MAX: usize = 4_096;

/// Packets and messages that may wait for the loop; beyond it the transport drops packets, and messages wait.
const TRANSPORT_EVENTS_MAX: usize = 4_096;

/// Operators' questions that may wait for the loop.
const QUESTIONS_MAX: usize = 64;

/// Events of the hypervisor that may wait for the loop; beyond it the watcher waits.
const HYPERVISOR_EVENTS_MAX: usize = 1_024;

/// A turn longer than this delays everybody's probes: half an ack's time.
const TURN_WARN: Duration = Duration::from_millis(100);

/// Between two looks at the whole: metrics, the line for systemd, a fresh list of guests, the address book.
const SURVEY_EVERY: Duration = Duration::from_secs(5);

/// Between two full lists of guests, so that a missed event is no lasting error.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// Between our goodbye and the end of our connections: a round trip to the farthest rack, and one resend.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// When nothing is due the loop still turns: the watchdog is fed from it.
const IDLE_TURN: Duration = Duration::from_secs(1);

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

/// The daemon's parts.
struct Shell {
    coordinator: Coordinator,
    tape: Option<Tape>,
    role: MemberRole,
    transport: Transport,
    ledger: Option<LedgerAdapter>,
    nova: Option<Nova>,
    bmc: Option<Arc<Bmc>>,
    hypervisor: Hypervisor,
    hypervisor_off: bool,
    state: Arc<StateDir>,
    book: AddressBook,
    metrics: Arc<Metrics>,
    queries: Queries,
    gate: Gate,
    gate_told: Option<GateReport>,
    boot: BootId,
    inputs: mpsc::Sender<Input>,
    device_timeout: Duration,
}

/// What the loop listens to.
struct Ears {
    inputs: mpsc::Receiver<Input>,
    transport: mpsc::Receiver<TransportEvent>,
    hypervisor: mpsc::Receiver<HypervisorEvent>,
    questions: mpsc::Receiver<Question>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// [`ShellError`] if a part cannot start.
pub async fn run(config: Config) -> Result<(), ShellError> {
    let (mut shell, mut ears) = start(config).await?;
    shell.list_guests();
    shell.turn(Input::Tick);
    systemd::ready("starting");
    let ended = shell.listen(&mut ears).await;
    systemd::stopping();
    tracing::info!(reason = ended, "stopping");
    shell.stop().await;
    Ok(())
}

async fn start(config: Config) -> Result<(Shell, Ears), ShellError> {
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
    let hypervisor = Hypervisor::start(config.hypervisor.clone(), hypervisor_mouth)?;
    let socket = AdminSocket::bind(&config.member.admin_socket, SOCKET_MODE)?;
    tokio::spawn(socket.serve(question_mouth));
    let metrics = Arc::new(Metrics::new(&config.member));
    if let Some(address) = config.member.metrics {
        let server = MetricsServer::bind(address).await?;
        let served = Arc::clone(&metrics);
        tokio::spawn(async move {
            if let Err(error) = server.serve(served).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
    }
    let seed = rand::random();
    tracing::info!(host = %config.member.host, %boot, %incarnation, seed, "rekindled starts");
    let setup = setup(&config, boot, incarnation, seed, &book, generation)?;
    let now = clock::now();
    let tape = if config.member.record { Tape::begin(&config.member.state_dir, &setup, now) } else { None };
    let shell = Shell {
        coordinator: Coordinator::new(setup, now),
        tape,
        role: config.member.role,
        transport,
        ledger,
        nova,
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

impl Shell {
    /// The loop. What has happened goes before what is due: a packet that waited must not make a timer lie.
    async fn listen(&mut self, ears: &mut Ears) -> &'static str {
        let mut survey = Instant::now();
        let mut list = Instant::now() + LIST_EVERY;
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                _ = ears.terminate.recv() => return "SIGTERM",
                _ = ears.interrupt.recv() => return "SIGINT",
                _ = ears.hangup.recv() => self.reload(),
                Some(input) = ears.inputs.recv() => self.turn(input),
                Some(event) = ears.transport.recv() => self.transport_event(event),
                Some(event) = ears.hypervisor.recv() => self.hypervisor_event(event),
                Some((request, reply)) = ears.questions.recv() => {
                    let call = self.queries.ask(reply);
                    self.turn(Input::Query { call, request });
                }
                () = tokio::time::sleep_until(due) => self.turn(Input::Tick),
            }
            let now = Instant::now();
            if now >= survey {
                survey = now + SURVEY_EVERY;
                self.survey();
            }
            if now >= list {
                list = now + LIST_EVERY;
                self.list_guests();
            }
            self.feed_watchdog();
        }
    }

    fn due(&self) -> Instant {
        let idle = Instant::now() + IDLE_TURN;
        let Some(deadline) = self.coordinator.next_deadline() else { return idle };
        idle.min(Instant::now() + deadline.since(clock::moment()))
    }

    /// One turn: an input in, all outputs out.
    fn turn(&mut self, input: Input) {
        let began = Instant::now();
        let now = clock::now();
        self.tape.iter_mut().for_each(|tape| tape.input(now, &input));
        self.coordinator.handle(now, input);
        while let Some(output) = self.coordinator.poll_output() {
            self.tape.iter_mut().for_each(|tape| tape.output(&output));
            self.act(output);
        }
        self.tape.iter_mut().for_each(Tape::end_turn);
        let took = began.elapsed();
        self.metrics.loop_turn(took);
        if took > TURN_WARN {
            tracing::warn!(
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "a turn of the loop was slow"
            );
        }
    }

    fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Connected(peer) => {
                self.book.learn(&peer.host, peer.address);
                self.turn(Input::Connected { peer });
            }
            TransportEvent::Datagram { from, path, bytes } => self.turn(Input::Datagram { from, path, bytes }),
            TransportEvent::Message { from, message } => self.turn(Input::Message { from, message }),
            TransportEvent::Request { from, request: Request::Raft(bytes), reply } => {
                let Some(ledger) = self.ledger.clone() else {
                    // The asker is gone if it does not take the answer.
                    let _ = reply.send(Reply::Refused("this member does not vote".into()));
                    return;
                };
                tokio::spawn(async move {
                    let answer = match ledger.handle_rpc(&from.host, &bytes).await {
                        Ok(bytes) => Reply::Raft(bytes),
                        Err(error) => Reply::Refused(error.to_string().into()),
                    };
                    let _ = reply.send(answer);
                });
            }
            TransportEvent::Request { from: _, request: Request::Admin(json), reply } => {
                let leads = self.coordinator.confirmed_term().is_some();
                if let Some((call, request)) = self.queries.carried(&json, leads, reply) {
                    self.turn(Input::Query { call, request });
                }
            }
        }
    }

    fn hypervisor_event(&mut self, event: HypervisorEvent) {
        match event {
            HypervisorEvent::List(list) => self.turn(Input::Guests { list }),
            HypervisorEvent::Guest { server, event } => self.turn(Input::Guest { server, event }),
            HypervisorEvent::Reachable(true, text) => tracing::info!(%text, "the hypervisor answers"),
            HypervisorEvent::Reachable(false, text) => {
                tracing::warn!(%text, "the hypervisor does not answer: its guests are not watched");
            }
        }
    }

    fn list_guests(&mut self) {
        if self.hypervisor_off {
            // A witness has no guests, and may say so. Any other host whose guests nobody watches says nothing.
            let complete = self.role == MemberRole::Witness;
            self.turn(Input::Guests { list: GuestList { complete, guests: Vec::new() } });
        } else {
            self.hypervisor.list_now();
        }
    }

    fn reload(&mut self) {
        systemd::reloading();
        match self.transport.reload_tls() {
            Ok(()) => tracing::info!("certificates were read again"),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the certificates in use stay: the new ones cannot be read"
                );
            }
        }
        systemd::ready("certificates read again");
    }

    /// What people and their tools see of us: metrics, systemd's line, the address book.
    fn survey(&mut self) {
        for request in [rekindle_proto::admin::AdminRequest::Status, rekindle_proto::admin::AdminRequest::Members] {
            if matches!(request, rekindle_proto::admin::AdminRequest::Status)
                && self.coordinator.confirmed_term().is_none()
            {
                continue;
            }
            let call = self.queries.ask_ourselves();
            self.turn(Input::Query { call, request });
        }
        self.look_at_gate();
        self.count_transport();
        self.book.store();
    }

    fn look_at_gate(&mut self) {
        let report = self.gate.report(self.boot);
        if self.gate_told.as_ref() != Some(&report) {
            self.gate_told = Some(report.clone());
            self.turn(Input::Gate { report });
        }
    }

    fn feed_watchdog(&mut self) {
        if self.queries.watchdog_is_due(clock::moment()) {
            systemd::feed_watchdog();
        }
    }

    async fn stop(mut self) {
        let why = shutdown::reason().await;
        tracing::info!(%why, "saying goodbye");
        self.turn(Input::Stopping { why });
        if let Some(ledger) = &self.ledger {
            // The others elect one of them at once, instead of waiting for our silence.
            ledger.stand(false);
        }
        if let Some(ledger) = self.ledger {
            ledger.shutdown().await;
        }
        tokio::time::sleep(LAST_WORDS).await;
        self.transport.close().await;
    }
}

/// What every task that acts needs.
type Inputs = mpsc::Sender<Input>;

/// Gives an answer to the loop. It waits while the loop is behind; it is lost only when the daemon stops.
async fn answer(inputs: &Inputs, input: Input) {
    if inputs.send(input).await.is_err() {
        tracing::debug!("an answer came while the daemon stops");
    }
}

impl Shell {
    fn act(&mut self, output: Output) {
        acts::act(self, output);
    }
}
