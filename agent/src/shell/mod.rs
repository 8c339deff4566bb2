//! The one loop: what happens goes in as [`Input`], what comes out as [`Output`] is done by the adapters. It decides
//! nothing, and waits for nothing but its own turn: every act runs in a task of its own and comes back as an input.

mod acts;
mod book;
mod queries;
mod start;
mod tape;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::Coordinator;
use rekindle_coordinator::io::{Input, Output};
use rekindle_proto::fact::{GateReport, GuestList, MemberRole};
use rekindle_proto::id::{BootId, CallId};
use rekindle_proto::message::{Reply, Request};
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::admin::Question;
use crate::bmc::Bmc;
use crate::clock;
use crate::config::{Config, MANAGEMENT};
use crate::gate::Gate;
use crate::hook::HookSettings;
use crate::hypervisor::{Hypervisor, HypervisorEvent};
use crate::ledger::LedgerAdapter;
use crate::metrics::Metrics;
use crate::notify::{EventSocket, Webhook};
use crate::nova::Nova;
use crate::process::Processes;
use crate::shutdown;
use crate::state_dir::StateDir;
use crate::telemetry::systemd;
use crate::transport::{Transport, TransportEvent};

use book::AddressBook;
use queries::Queries;
pub use start::ShellError;
use start::start;
use tape::Tape;
use watchdog::Dog;

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

/// The daemon's parts.
struct Shell {
    coordinator: Coordinator,
    tape: Option<Tape>,
    role: MemberRole,
    transport: Transport,
    ledger: Option<LedgerAdapter>,
    nova: Option<Nova>,
    /// Those that are under way, or ended since the last one began.
    capacity_readings: BTreeMap<CallId, AbortHandle>,
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
    hooks: Arc<Vec<HookSettings>>,
    events: Option<EventSocket>,
    webhook: Option<Webhook>,
    processes: Processes,
    dog: Dog,
    beside: Handle,
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

/// Runs the daemon until it is told to stop. What may keep a thread busy is done `beside`, by the threads of another runtime.
///
/// # Errors
/// [`ShellError`] if a part cannot start.
pub async fn run(config: Config, beside: Handle) -> Result<(), ShellError> {
    let (mut shell, mut ears) = start(config, beside).await?;
    shell.list_guests();
    shell.beside.spawn(shell.processes.clone().watch(shell.inputs.clone()));
    shell.turn(Input::Tick);
    systemd::ready("starting");
    let ended = shell.listen(&mut ears).await;
    systemd::stopping();
    tracing::info!(reason = ended, "stopping");
    shell.stop().await;
    Ok(())
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
                _ = ears.terminate.recv() => self.leave("SIGTERM"),
                _ = ears.interrupt.recv() => self.leave("SIGINT"),
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
            if let Some(signal) = self.has_left() {
                return signal;
            }
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
            TransportEvent::Connected { peer, path } => {
                if path.as_str() == MANAGEMENT {
                    // Raft and seeds go there.
                    self.book.learn(&peer.host, peer.address);
                }
                self.turn(Input::Connected { peer, path });
            }
            TransportEvent::Datagram { from, path, bytes } => self.turn(Input::Datagram { from, path, bytes }),
            TransportEvent::Message { from, path, message } => self.turn(Input::Message { from, path, message }),
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
            HypervisorEvent::List(list) => {
                self.guests_at_leaving(&list);
                self.turn(Input::Guests { list });
            }
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
            self.hypervisor_event(HypervisorEvent::List(GuestList { complete, guests: Vec::new() }));
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
