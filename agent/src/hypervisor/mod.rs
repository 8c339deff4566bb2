//! The local hypervisor: which guests run here, and what happens to them.
//!
//! ```text
//!  libvirtd ── callbacks ──► ffi ── signals ──► libvirt ──► tracker ──► HypervisorEvent ──► shell
//!                                                 ▲  └ list ──► disks
//!  guests socket ── lines ───────────────────► socket ──────────────────► HypervisorEvent ──► shell
//! ```
//!
//! The watcher only reads: it opens libvirt read-only, and cannot change a guest even by mistake. It reconnects for
//! ever, and tells from the list after a reconnect what it missed. Guests are restarted by Nova, never from here; the one
//! thing done to a guest is [`Hypervisor::destroy`], by an order of the coordinator, on a connection of its own.
//!
//! | file | is |
//! |---|---|
//! | `libvirt` | the connection: open, list, ask, notice a hang, reconnect |
//! | `ffi` | what the `virt` crate leaves out: domain events, the close callback (the only `unsafe` of this crate) |
//! | `list` | all guests, read at once |
//! | `lifecycle` | libvirt's numbers, as words |
//! | `tracker` | what each guest did last, so that a failure is told once, and a missed one is found |
//! | `disks`, `mounts`, `block` | where a guest's disks lie |
//! | `socket` | the same for hypervisors that are not libvirt's |

#[cfg(feature = "libvirt")]
mod block;
#[cfg(feature = "libvirt")]
mod disks;
#[cfg(feature = "libvirt")]
mod ffi;
#[cfg(feature = "libvirt")]
mod libvirt;
#[cfg(feature = "libvirt")]
mod lifecycle;
#[cfg(feature = "libvirt")]
mod list;
#[cfg(feature = "libvirt")]
mod mounts;
mod socket;
#[cfg(feature = "libvirt")]
mod tracker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::order::DestroyOrder;
use rekindle_proto::fact::{GuestEvent, GuestList, Text};
use rekindle_proto::id::ServerId;
use tokio::sync::{Notify, mpsc};

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HypervisorSettings {
    /// This host has no guests (a witness), or nobody is to look.
    Off,
    /// A libvirt URI: `qemu:///system`.
    Libvirt(String),
    /// A Unix socket that serves guest lists as JSON lines, for hypervisors that are not libvirt's.
    Socket(PathBuf),
}

/// What the hypervisor tells the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HypervisorEvent {
    /// All guests: at start, after each reconnect, after [`Hypervisor::list_now`], and (socket) on every change.
    List(GuestList),
    /// Something happened to a guest, or is found to have happened while the hypervisor could not be reached.
    Guest {
        /// To which.
        server: ServerId,
        /// What.
        event: GuestEvent,
    },
    /// Whether the hypervisor answers, told when that changes, with the reason for people.
    Reachable(bool, Text),
}

/// Why the hypervisor cannot be watched. Nothing was changed on it: we only read.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// This binary has no libvirt in it.
    #[error(
        "hypervisor {uri:?} needs libvirt, but this rekindled was built without libvirt: install the full build \
         (cargo feature `libvirt`), or turn the hypervisor off if this host runs no guests"
    )]
    WithoutLibvirt {
        /// The URI asked for.
        uri: String,
    },
    /// There is no async runtime, or a thread could not be started.
    #[error("cannot start watching the hypervisor: {0}")]
    Start(String),
    /// libvirt refused, or is not there.
    #[error("libvirt at {uri:?}: cannot {what}: {text}. {advice}")]
    Libvirt {
        /// The URI.
        uri: String,
        /// What was tried.
        what: &'static str,
        /// libvirt's words.
        text: String,
        /// What to look at.
        advice: &'static str,
    },
    /// No answer in time: the daemon behind it hangs.
    #[error(
        "{place}: no answer within {after:?} when asked to {what}: the daemon behind it hangs or is overloaded; see its log"
    )]
    Silent {
        /// Where we asked.
        place: String,
        /// What was tried.
        what: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The guests socket cannot be reached.
    #[error("guests socket {path}: {what}: {source}; is its server running, and may this user open the socket?")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The guests socket sent what is not a guest list or an event.
    #[error(
        "guests socket {path}: {why}; its server must send one JSON object a line, as the documentation of the socket says"
    )]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An order to destroy a guest had passed its time: nothing was done.
    #[error("the order came too late and was not carried out")]
    TooLate,
    /// Guests there are not ours to end.
    #[error("rekindled ends guests through libvirt alone: end this one where it runs")]
    NotLibvirt,
}

/// First pause before connecting again: a restarted libvirtd is back within a second or two.
const RECONNECT_MIN: Duration = Duration::from_secs(1);

/// Longest pause before connecting again: an operator who mended libvirt should not wait longer than this to see it.
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// A handle on the watcher of the local hypervisor. The watcher ends when the handle is dropped.
#[derive(Debug)]
pub struct Hypervisor {
    source: Source,
    list: Arc<Notify>,
    watcher: Option<tokio::task::JoinHandle<()>>,
}

/// An act under way.
type Act = std::pin::Pin<Box<dyn Future<Output = Result<(), HypervisorError>> + Send>>;

#[derive(Debug)]
enum Source {
    Off(mpsc::Sender<HypervisorEvent>),
    #[cfg(feature = "libvirt")]
    Libvirt(libvirt::Asker),
    Socket(PathBuf),
}

impl Hypervisor {
    /// Starts watching. What is found goes to `events`; a hypervisor that is not there (yet) is no error, but is told as
    /// [`HypervisorEvent::Reachable`], and tried again for ever.
    ///
    /// # Errors
    /// [`HypervisorError::WithoutLibvirt`] for a libvirt URI in a build without it; [`HypervisorError::Start`] outside
    /// of a tokio runtime, or where the event thread could not be started.
    pub fn start(settings: HypervisorSettings, events: mpsc::Sender<HypervisorEvent>) -> Result<Self, HypervisorError> {
        let runtime =
            tokio::runtime::Handle::try_current().map_err(|error| HypervisorError::Start(error.to_string()))?;
        let list = Arc::new(Notify::new());
        let (source, watcher) = match settings {
            HypervisorSettings::Off => (Source::Off(events), None),
            #[cfg(feature = "libvirt")]
            HypervisorSettings::Libvirt(uri) => {
                let (asker, watcher) = libvirt::start(uri, events, Arc::clone(&list), &runtime)?;
                (Source::Libvirt(asker), Some(watcher))
            }
            #[cfg(not(feature = "libvirt"))]
            HypervisorSettings::Libvirt(uri) => return Err(HypervisorError::WithoutLibvirt { uri }),
            HypervisorSettings::Socket(path) => {
                let watcher = runtime.spawn(socket::watch(path.clone(), events, Arc::clone(&list)));
                (Source::Socket(path), Some(watcher))
            }
        };
        Ok(Self { source, list, watcher })
    }

    /// Asks for a fresh list. [`HypervisorEvent::List`] follows; while the hypervisor cannot be reached, it follows the
    /// reconnect. Requests that come while one is waiting are one request.
    ///
    /// Where nobody is to look, an empty list follows that says of itself that it is incomplete.
    pub fn list_now(&self) {
        if let Source::Off(events) = &self.source {
            // The shell's queue is full only if it is far behind; it will ask again within a minute.
            let _ = events.try_send(HypervisorEvent::List(GuestList::default()));
        }
        self.list.notify_one();
    }

    /// Which of these servers a process runs on this host, by a fresh answer of the hypervisor itself: never from a list
    /// we remember. Paused, crashed but preserved, and incoming guests count as running.
    ///
    /// `None` if it did not answer completely within `within`, if it cannot be reached, or if nobody is to look: that
    /// says nothing about any guest.
    pub fn running_among(
        &self,
        servers: &[ServerId],
        within: Duration,
    ) -> impl Future<Output = Option<Vec<ServerId>>> + Send + 'static + use<> {
        let servers = servers.to_vec();
        let ask: std::pin::Pin<Box<dyn Future<Output = Option<Vec<ServerId>>> + Send>> = match &self.source {
            Source::Off(_) => Box::pin(async { None }),
            #[cfg(feature = "libvirt")]
            Source::Libvirt(asker) => Box::pin(asker.clone().running(servers)),
            Source::Socket(path) => Box::pin(socket::running(path.clone(), servers)),
        };
        async move { tokio::time::timeout(within, ask).await.ok().flatten() }
    }

    /// Ends the process of a guest that runs elsewhere, at once and without a word to it. One that does not run is no error.
    ///
    /// The future gives [`HypervisorError`] if it may still run: the hypervisor refused, did not answer, or is not libvirt; or
    /// the order's time had passed.
    pub fn destroy(
        &self,
        order: &DestroyOrder,
    ) -> impl Future<Output = Result<(), HypervisorError>> + Send + 'static + use<> {
        let begin_before = order.begin_before();
        self.destroy_guest(order.server(), move || crate::clock::moment() < begin_before)
    }

    fn destroy_guest(&self, server: ServerId, begin: impl FnOnce() -> bool + Send + 'static) -> Act {
        match &self.source {
            #[cfg(feature = "libvirt")]
            Source::Libvirt(asker) => Box::pin(asker.clone().destroy(server, begin)),
            Source::Off(_) | Source::Socket(_) => {
                tracing::debug!(%server, in_time = begin(), "a guest is not destroyed: no libvirt here");
                Box::pin(async { Err(HypervisorError::NotLibvirt) })
            }
        }
    }

    /// Tries the hypervisor once, for `rekindled --check`: what it answered, in words.
    ///
    /// # Errors
    /// [`HypervisorError`]: what is wrong, and what to do.
    pub async fn check(settings: &HypervisorSettings) -> Result<Text, HypervisorError> {
        match settings {
            HypervisorSettings::Off => Ok(Text::new("off: guests on this host are not watched")),
            #[cfg(feature = "libvirt")]
            HypervisorSettings::Libvirt(uri) => libvirt::check(uri).await,
            #[cfg(not(feature = "libvirt"))]
            HypervisorSettings::Libvirt(uri) => Err(HypervisorError::WithoutLibvirt { uri: uri.clone() }),
            HypervisorSettings::Socket(path) => socket::check(path).await,
        }
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

/// A summary of a list, for `--check` and the log.
fn summary(list: &GuestList) -> String {
    use rekindle_proto::fact::DiskPlacement;
    let running = list.guests.iter().filter(|guest| guest.running).count();
    let of = |placement| list.guests.iter().filter(|guest| guest.disks == placement).count();
    let cut = if list.complete { "" } else { " (incomplete)" };
    format!(
        "{} guests{cut}, {running} running; disks: {} shared, {} local, {} unknown",
        list.guests.len(),
        of(DiskPlacement::Shared),
        of(DiskPlacement::Local),
        of(DiskPlacement::Unknown)
    )
}

/// The pause after `failures` failures in a row (1, 2, …).
fn pause(failures: u32) -> Duration {
    RECONNECT_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(RECONNECT_MAX)
}

/// Tells the shell when reachability changes, and only then.
#[derive(Debug, Default)]
struct Reach(Option<bool>);

impl Reach {
    /// Tells it if it is news. `Err` when the shell is gone.
    async fn tell(&mut self, events: &mpsc::Sender<HypervisorEvent>, reachable: bool, why: String) -> Result<(), Gone> {
        if self.0 == Some(reachable) {
            tracing::debug!(reachable, why, "hypervisor");
            return Ok(());
        }
        self.0 = Some(reachable);
        if reachable {
            tracing::info!(why, "hypervisor reachable");
        } else {
            tracing::warn!(why, "hypervisor not reachable");
        }
        events.send(HypervisorEvent::Reachable(reachable, Text::new(why))).await.map_err(|_| Gone)
    }
}

/// Nobody listens any more: the watcher ends.
#[derive(Debug)]
struct Gone;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stop_at_the_bound() {
        let seconds: Vec<u64> = (1..9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pause(u32::MAX), RECONNECT_MAX);
    }

    #[tokio::test]
    async fn nobody_looking_proves_nothing() {
        let (events, mut told) = mpsc::channel(4);
        let hypervisor = Hypervisor::start(HypervisorSettings::Off, events).expect("starts");
        let server = "6f1c2d1e-0000-4000-8000-000000000001".parse().expect("uuid");
        assert_eq!(hypervisor.running_among(&[server], Duration::from_secs(1)).await, None);
        hypervisor.list_now();
        assert_eq!(told.recv().await, Some(HypervisorEvent::List(GuestList { complete: false, guests: vec![] })));
    }

    #[cfg(not(feature = "libvirt"))]
    #[tokio::test]
    async fn a_build_without_libvirt_says_so() {
        let (events, _told) = mpsc::channel(4);
        let settings = HypervisorSettings::Libvirt("qemu:///system".to_owned());
        let refusal = Hypervisor::start(settings.clone(), events).expect_err("refused").to_string();
        assert!(refusal.contains("built without libvirt"), "{refusal}");
        assert!(Hypervisor::check(&settings).await.expect_err("refused").to_string().contains("built without libvirt"));
    }
}
