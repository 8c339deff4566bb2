//! The connection to libvirt: open it, list, ask, notice a hang, reconnect for ever.
//!
//! libvirt's calls block, and one to a hung daemon may block for ever. So each runs in a thread of its own, is waited for
//! with a bound, and is left behind when it does not come back; how many may be left behind is bounded too. Threads
//! rather than tokio's blocking pool: a runtime that shuts down would wait for the pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rekindle_proto::fact::{GUESTS_MAX, Text};
use rekindle_proto::id::ServerId;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use virt::connect::Connect;
use virt::error::Error;
use virt::{event, sys};

use super::ffi::{Registrations, Signal, Tap};
use super::lifecycle::{self, Lifecycle};
use super::list::read_list;
use super::tracker::Tracker;
use super::{Gone, HypervisorError, HypervisorEvent, Reach, pause, summary};

/// Keep-alive: a daemon that answers none of two requests 2 s apart hangs, and libvirt closes the connection after
/// (2 + 1) × 2 s = 6 s. Far above a scheduling delay; far below the minute in which the shell lists guests.
const KEEPALIVE_EVERY_S: i32 = 2;
const KEEPALIVE_COUNT: u32 = 2;

/// How often we ask something cheap. Keep-alives are answered by libvirtd's main loop even while all its workers are
/// stuck; this is answered by a worker.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Longest a cheap call may take on a busy host.
const PING_WITHIN: Duration = Duration::from_secs(10);

/// Longest opening a connection and registering for events may take: a socket-activated libvirtd starts meanwhile.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Longest reading a whole list may take. At two calls of a millisecond for each of [`GUESTS_MAX`] guests, 8 s.
const LIST_WITHIN: Duration = Duration::from_secs(45);

/// Signals waiting for us. A start of every guest of a full host brings about three each; if more come than fit, the
/// list is read instead.
const SIGNALS_MAX: usize = 4 * GUESTS_MAX;

/// Calls of the watcher that may hang at once, the present one among them.
const CALLS_MAX: usize = 3;

/// Questions that may wait for the daemon at once. One leader asks about one server at a time, some at once.
const QUESTIONS_MAX: usize = 8;

/// A handle on the present connection, for questions.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    uri: Arc<str>,
    /// Only the link keeps the connection open, as closing it may block.
    current: Arc<Mutex<Weak<Registrations>>>,
    questions: Arc<Semaphore>,
}

impl Asker {
    /// Which of these a process runs here, by the daemon's word. Bounded by the caller.
    pub(super) async fn running(self, servers: Vec<ServerId>) -> Option<Vec<ServerId>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = call(&self.questions, &self.uri, "say which guests run", LIST_WITHIN, move |uri| {
            let Some(held) = current.upgrade() else { return Ok(None) };
            let active = held.connect().list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE);
            let active = active.map_err(|error| failed(uri, "list running guests", &error))?;
            let mut running = Vec::new();
            for domain in active {
                let uuid = domain.uuid().map_err(|error| failed(uri, "read a guest's UUID", &error))?;
                running.extend(servers.iter().copied().find(|server| server.0 == uuid));
            }
            Ok(Some(running))
        });
        match asked.await {
            Ok(running) => running,
            Err(error) => {
                tracing::warn!(%error, "cannot say which guests run here");
                None
            }
        }
    }
}

impl Asker {
    /// Ends the process of a guest, if it runs: on a connection of its own, the only one that may change anything. `begin`
    /// is asked in the last moment.
    pub(super) async fn destroy(
        self,
        server: ServerId,
        begin: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), HypervisorError> {
        call(&self.questions, &self.uri, "destroy a guest", CONNECT_WITHIN, move |uri| {
            let connect =
                Connect::open(Some(uri)).map_err(|error| failed(uri, "connect to destroy a guest", &error))?;
            let active = connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE);
            for domain in active.map_err(|error| failed(uri, "list running guests", &error))? {
                let uuid = domain.uuid().map_err(|error| failed(uri, "read a guest's UUID", &error))?;
                if uuid == server.0 {
                    if !begin() {
                        return Err(HypervisorError::TooLate);
                    }
                    return domain.destroy().map_err(|error| failed(uri, "destroy a guest", &error));
                }
            }
            // It does not run: that is what was wanted.
            Ok(())
        })
        .await
    }
}

/// Starts the event loop (once a process) and the watcher.
pub(super) fn start(
    uri: String,
    events: mpsc::Sender<HypervisorEvent>,
    list: Arc<Notify>,
    runtime: &Handle,
) -> Result<(Asker, JoinHandle<()>), HypervisorError> {
    start_event_loop()?;
    let current = Arc::new(Mutex::new(Weak::new()));
    let asker = Asker { uri: uri.into(), current, questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) };
    let watcher = Watcher {
        uri: Arc::clone(&asker.uri),
        current: Arc::clone(&asker.current),
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
        events,
        list,
        tracker: Tracker::default(),
        reach: Reach::default(),
    };
    Ok((asker, runtime.spawn(watcher.run())))
}

/// Opens, lists, closes.
pub(super) async fn check(uri: &str) -> Result<Text, HypervisorError> {
    virt::error::clear_error_callback();
    call(&Arc::new(Semaphore::new(1)), &uri.into(), "list its guests", CONNECT_WITHIN, |uri| {
        let connect = Connect::open_read_only(Some(uri)).map_err(|error| failed(uri, "connect", &error))?;
        let seen = read_list(&connect).map_err(|error| failed(uri, "list its guests", &error))?;
        Ok(Text::new(format!("{} at {uri}: {}", version(&connect), summary(&seen.list))))
    })
    .await
}

/// Runs libvirt's default event loop in a thread of its own, for as long as the process lives. It must be registered
/// before the first connection is opened, or that connection has no events.
fn start_event_loop() -> Result<(), HypervisorError> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        virt::error::clear_error_callback();
        event::event_register_default_impl().map_err(|error| format!("libvirt's event loop: {}", error.message()))?;
        let run = || {
            loop {
                if let Err(error) = event::event_run_default_impl() {
                    tracing::error!(error = error.message(), "libvirt's event loop failed; trying again in a second");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        };
        let thread = std::thread::Builder::new().name("libvirt-events".to_owned());
        thread.spawn(run).map(drop).map_err(|error| format!("cannot start the thread of libvirt's event loop: {error}"))
    });
    started.clone().map_err(HypervisorError::Start)
}

struct Watcher {
    uri: Arc<str>,
    current: Arc<Mutex<Weak<Registrations>>>,
    calls: Arc<Semaphore>,
    events: mpsc::Sender<HypervisorEvent>,
    list: Arc<Notify>,
    tracker: Tracker,
    reach: Reach,
}

/// Why a session ended.
enum Ended {
    /// Nobody listens any more.
    Gone,
    /// The connection is of no use any more.
    Lost(String),
}
impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}
impl From<HypervisorError> for Ended {
    fn from(error: HypervisorError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Watcher {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            let ended = self.session(&mut failures).await;
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
            let Err(Ended::Lost(why)) = ended else { return };
            if self.reach.tell(&self.events, false, why).await.is_err() {
                return;
            }
            failures = u32::saturating_add(failures, 1);
            tokio::select! {
                () = tokio::time::sleep(pause(failures)) => {}
                () = self.events.closed() => return,
            }
        }
    }

    /// One connection, from opening to its end.
    async fn session(&mut self, failures: &mut u32) -> Result<(), Ended> {
        let mut link = call(&self.calls, &self.uri, "connect", CONNECT_WITHIN, Link::open).await?;
        let held = link.held.clone();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Weak::clone(&held);
        let name = call(&self.calls, &self.uri, "say its version", PING_WITHIN, {
            let held = Weak::clone(&held);
            move |uri| Ok(format!("connected to {} at {uri}", version(open(uri, &held)?.connect())))
        });
        let name = name.await?;
        self.reach.tell(&self.events, true, name).await?;
        self.relist(&held).await?;
        *failures = 0;
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.events.closed() => return Err(Ended::Gone),
                signal = link.signals.recv() => match signal {
                    Some(signal) => self.take(signal).await?,
                    None => return Err(Ended::Lost("libvirt dropped our callbacks".to_owned())),
                },
                () = self.list.notified() => self.relist(&held).await?,
                _ = ping.tick() => {
                    let held = Weak::clone(&held);
                    let pinged = call(&self.calls, &self.uri, "count its guests", PING_WITHIN, move |uri| {
                        open(uri, &held)?.connect().num_of_domains().map_err(|error| failed(uri, "count its guests", &error))
                    });
                    pinged.await?;
                }
            }
            if link.lost.swap(false, Ordering::AcqRel) {
                tracing::warn!("more hypervisor events than fit the queue: reading the whole list instead");
                self.relist(&held).await?;
            }
        }
    }

    /// Reads the whole list, tells what no event told, then the list.
    async fn relist(&mut self, held: &Weak<Registrations>) -> Result<(), Ended> {
        let held = Weak::clone(held);
        let listed = call(&self.calls, &self.uri, "list its guests", LIST_WITHIN, move |uri| {
            read_list(open(uri, &held)?.connect()).map_err(|error| failed(uri, "list its guests", &error))
        });
        let seen = listed.await?;
        for (server, event) in self.tracker.reconcile(&seen.states, seen.list.complete) {
            tracing::info!(%server, ?event, "the list shows what no event told");
            self.send(HypervisorEvent::Guest { server, event }).await?;
        }
        tracing::debug!(list = summary(&seen.list), "guests");
        self.send(HypervisorEvent::List(seen.list)).await
    }

    async fn take(&mut self, signal: Signal) -> Result<(), Ended> {
        match signal {
            Signal::Lifecycle { server, event, detail } => {
                let what = lifecycle::lifecycle(event, detail);
                log(server, what);
                for event in self.tracker.observe(server, what) {
                    self.send(HypervisorEvent::Guest { server, event }).await?;
                }
            }
            Signal::Watchdog { server, action } => {
                let action = lifecycle::watchdog_action(action);
                // After `poweroff`, libvirt calls the guest failed, as if its process had died; so do we.
                tracing::info!(%server, action, "the guest's virtual watchdog fired; after `poweroff` it counts as failed");
            }
            Signal::Rebooted { server } => tracing::debug!(%server, "the guest rebooted"),
            Signal::IoError { server, reason } => tracing::warn!(%server, reason, "a disk of the guest failed"),
            Signal::ControlError { server } => tracing::warn!(%server, "libvirt lost control of the guest's process"),
            Signal::Closed { reason } => {
                return Err(Ended::Lost(format!("libvirt at {:?}: {}", self.uri, lifecycle::close_reason(reason))));
            }
        }
        Ok(())
    }

    async fn send(&self, event: HypervisorEvent) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended::Gone)
    }
}

fn log(server: ServerId, what: Lifecycle) {
    match what {
        Lifecycle::Suspended(why) => tracing::info!(%server, why, "guest suspended"),
        Lifecycle::Panicked => tracing::info!(%server, "the guest's kernel panicked"),
        Lifecycle::Died(how) => tracing::info!(%server, how, "the guest's process died"),
        Lifecycle::Ended(how) => tracing::info!(%server, how, "guest stopped"),
        Lifecycle::Started | Lifecycle::Incoming | Lifecycle::Resumed | Lifecycle::Undefined | Lifecycle::Other => {
            tracing::debug!(%server, ?what, "guest");
        }
    }
}

/// An open connection with its callbacks. It closes the connection when it is dropped.
struct Link {
    /// Used in the threads of calls only.
    held: Weak<Registrations>,
    /// Dropping it wakes the thread that keeps the connection, and closes it.
    _closes: std::sync::mpsc::Sender<()>,
    signals: mpsc::Receiver<Signal>,
    lost: Arc<AtomicBool>,
}

impl Link {
    /// Blocks.
    fn open(uri: &str) -> Result<Self, HypervisorError> {
        let connect = Connect::open_read_only(Some(uri)).map_err(|error| failed(uri, "connect", &error))?;
        // Refused by a driver in this process, which needs none.
        let remote = connect.set_keep_alive(KEEPALIVE_EVERY_S, KEEPALIVE_COUNT).is_ok();
        let (sender, signals) = mpsc::channel(SIGNALS_MAX);
        let lost = Arc::new(AtomicBool::new(false));
        let tap = Tap { signals: sender, lost: Arc::clone(&lost) };
        let registrations =
            Registrations::new(&connect, remote, &tap).map_err(|error| failed(uri, "register for events", &error))?;
        let registrations = Arc::new(registrations);
        let held = Arc::downgrade(&registrations);
        // Giving callbacks back and closing ask the daemon, which may hang: that is done in a thread made beforehand.
        let (closes, closed) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("libvirt-link".to_owned());
        let spawned = thread.spawn(move || {
            // An error is what we wait for: the link was dropped.
            let _ = closed.recv();
            drop(registrations);
        });
        spawned
            .map_err(|error| HypervisorError::Start(format!("no thread to keep a libvirt connection in: {error}")))?;
        Ok(Self { held, _closes: closes, signals, lost })
    }
}

/// The connection, for a call. To be used, and dropped, in the thread of the call.
fn open(uri: &str, held: &Weak<Registrations>) -> Result<Arc<Registrations>, HypervisorError> {
    held.upgrade().ok_or_else(|| HypervisorError::Libvirt {
        uri: uri.to_owned(),
        what: "use the connection",
        text: "it is being closed".to_owned(),
        advice: "It will be opened again.",
    })
}

/// `libvirt 9.0.0`, or the name of its driver.
fn version(connect: &Connect) -> String {
    let driver = connect.driver_type().unwrap_or_else(|_| "an unnamed driver".to_owned());
    match connect.lib_version() {
        Ok(number) => {
            format!("libvirt {}.{}.{} ({driver})", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
        }
        Err(_) => format!("libvirt ({driver})"),
    }
}

fn failed(uri: &str, what: &'static str, error: &Error) -> HypervisorError {
    HypervisorError::Libvirt {
        uri: uri.to_owned(),
        what,
        text: error.message().to_owned(),
        advice: "Is libvirtd (or virtqemud) running, and may this user open its read-only socket?",
    }
}

/// Runs a blocking call in a thread of its own, and waits for it no longer than `within`.
async fn call<T: Send + 'static>(
    calls: &Arc<Semaphore>,
    uri: &Arc<str>,
    what: &'static str,
    within: Duration,
    blocking: impl FnOnce(&str) -> Result<T, HypervisorError> + Send + 'static,
) -> Result<T, HypervisorError> {
    let silent = || HypervisorError::Silent { place: format!("libvirt at {uri:?}"), what, after: within };
    // None left: that many calls hang already.
    let permit = Arc::clone(calls).try_acquire_owned().map_err(|_| silent())?;
    let (answer, answered) = oneshot::channel();
    let uri_there = Arc::clone(uri);
    let thread = std::thread::Builder::new().name("libvirt-call".to_owned());
    let spawned = thread.spawn(move || {
        let result = blocking(&uri_there);
        drop(permit);
        // If nobody waits any more, the result (perhaps a connection) is dropped in this thread, where one may block.
        drop(answer.send(result));
    });
    spawned.map_err(|error| HypervisorError::Start(format!("no thread for a call to libvirt: {error}")))?;
    match tokio::time::timeout(within, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(silent()),
    }
}

#[cfg(test)]
mod tests;
