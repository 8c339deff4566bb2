//! libvirt's numbers, as words.
//!
//! Source: `virDomainEventType`, its details, `virDomainState` and its reasons in libvirt's `libvirt-domain.h`. They are
//! part of libvirt's stable ABI; numbers of newer versions than we know are named `Other` and change nothing.

use std::os::raw::c_int;

/// What a lifecycle event means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// A process runs it, and its processors go.
    Started,
    /// A process waits for a guest that migrates here. Until it resumes, the guest itself runs at the source.
    Incoming,
    /// Its processors go (again).
    Resumed,
    /// Its processors stand, the process lives. The word says why.
    Suspended(&'static str),
    /// Its kernel panicked. The process may live on, be killed or restarted (`on_crash`); each follows as its own event.
    Panicked,
    /// Its process died: nobody asked for that.
    Died(&'static str),
    /// Somebody ended it. The word says how.
    Ended(&'static str),
    /// Its definition was removed. If it runs, it goes on running.
    Undefined,
    /// Nothing that matters here.
    Other,
}

/// Reads a lifecycle event.
///
/// `Stopped/Failed` is also what a virtual watchdog with `action=poweroff` looks like, and `Stopped/Shutdown` what a
/// SIGTERM from outside of libvirt looks like (both measured with libvirt 9.0 and QEMU): the first is a guest that died
/// unasked, the second cannot be told from an owner's wish.
pub(super) fn lifecycle(event: c_int, detail: c_int) -> Lifecycle {
    match (event, detail) {
        (1, _) => Lifecycle::Undefined,
        (2, 1) => Lifecycle::Incoming,
        (2, _) => Lifecycle::Started,
        (3, _) => Lifecycle::Suspended(suspended(detail)),
        (4, _) => Lifecycle::Resumed,
        (5, 0) => Lifecycle::Ended("shutdown"),
        (5, 1) => Lifecycle::Ended("destroyed"),
        (5, 2) => Lifecycle::Died("crashed"),
        (5, 3) => Lifecycle::Ended("migrated"),
        (5, 4) => Lifecycle::Ended("saved"),
        (5, 5) => Lifecycle::Died("failed"),
        (5, 6) => Lifecycle::Ended("from snapshot"),
        // Also `recreated` (7), and details we do not know: somebody's doing, as far as we can tell.
        (5, _) => Lifecycle::Ended("other"),
        // Detail 1 is a kernel that writes its own crash dump and reboots by itself.
        (8, 0) => Lifecycle::Panicked,
        _ => Lifecycle::Other,
    }
}

fn suspended(detail: c_int) -> &'static str {
    match detail {
        0 => "paused",
        1 => "migrated",
        2 => "I/O error",
        3 => "watchdog",
        7 => "post-copy",
        8 => "post-copy failed",
        _ => "other",
    }
}

/// What a domain's state means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A process runs it.
    Active,
    /// A process waits for a guest that migrates here.
    Incoming,
    /// A process holds it after its kernel panicked.
    Panicked,
    /// No process runs it: the last one died unasked.
    Died(&'static str),
    /// No process runs it: somebody's doing, or nobody remembers why. The word says how.
    Off(&'static str),
}

/// Reads a domain's state and reason.
///
/// A reason of *unknown* is what libvirtd says of a guest that was off already when libvirtd started. It may have died
/// before; but an owner's stop must not be undone on a guess, so it counts as off.
pub(super) fn state(state: c_int, reason: c_int) -> State {
    match (state, reason) {
        (3, 2 | 11) => State::Incoming,
        (5, 1) => State::Off("shutdown"),
        (5, 2) => State::Off("destroyed"),
        (5, 3) => State::Died("crashed"),
        (5, 4) => State::Off("migrated"),
        (5, 5) => State::Off("saved"),
        (5, 6) => State::Died("failed"),
        (5, 7) => State::Off("from snapshot"),
        // libvirtd could not take hold of the process again after its own restart, and killed it.
        (5, 8) => State::Died("killed by libvirtd"),
        (5, _) => State::Off("unknown"),
        (6, _) => State::Panicked,
        // Running, blocked, paused, in shutdown, suspended, or a state we do not know: a process may be there.
        _ => State::Active,
    }
}

/// How a virtual watchdog's action is called.
pub(super) fn watchdog_action(action: c_int) -> &'static str {
    match action {
        0 => "none",
        1 => "pause",
        2 => "reset",
        3 => "poweroff",
        4 => "shutdown",
        5 => "debug",
        6 => "inject-nmi",
        _ => "other",
    }
}

/// Why libvirt closed a connection.
pub(super) fn close_reason(reason: c_int) -> &'static str {
    match reason {
        0 => "I/O error on its socket",
        1 => "it closed the connection (stopped, restarted or killed)",
        2 => "it did not answer keep-alive requests: it hangs",
        3 => "we closed it",
        _ => "no reason given",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt::sys;

    fn both(event: sys::virDomainEventType, detail: u32) -> Lifecycle {
        lifecycle(c_int::try_from(event).expect("small"), c_int::try_from(detail).expect("small"))
    }

    #[test]
    fn lifecycle_events_mean_what_libvirt_means() {
        use Lifecycle::{Died, Ended, Incoming, Other, Panicked, Resumed, Started, Suspended, Undefined};
        let table = [
            (sys::VIR_DOMAIN_EVENT_DEFINED, sys::VIR_DOMAIN_EVENT_DEFINED_ADDED, Other),
            (sys::VIR_DOMAIN_EVENT_UNDEFINED, sys::VIR_DOMAIN_EVENT_UNDEFINED_REMOVED, Undefined),
            (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_BOOTED, Started),
            (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED, Incoming),
            (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_RESTORED, Started),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, Suspended("paused")),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR, Suspended("I/O error")),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG, Suspended("watchdog")),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED, Suspended("migrated")),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY, Suspended("post-copy")),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED,
                Suspended("post-copy failed"),
            ),
            (sys::VIR_DOMAIN_EVENT_RESUMED, sys::VIR_DOMAIN_EVENT_RESUMED_MIGRATED, Resumed),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, Ended("shutdown")),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED, Ended("destroyed")),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED, Died("crashed")),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED, Ended("migrated")),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SAVED, Ended("saved")),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED, Died("failed")),
            (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, Ended("from snapshot")),
            (sys::VIR_DOMAIN_EVENT_SHUTDOWN, sys::VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED, Other),
            (sys::VIR_DOMAIN_EVENT_PMSUSPENDED, sys::VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY, Other),
            (sys::VIR_DOMAIN_EVENT_CRASHED, sys::VIR_DOMAIN_EVENT_CRASHED_PANICKED, Panicked),
            (sys::VIR_DOMAIN_EVENT_CRASHED, sys::VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED, Other),
        ];
        for (event, detail, means) in table {
            assert_eq!(both(event, detail), means, "event {event}, detail {detail}");
        }
        assert_eq!(lifecycle(5, 99), Ended("other"));
        assert_eq!(lifecycle(99, 0), Other);
        assert_eq!(lifecycle(-1, -1), Other);
    }

    #[test]
    fn states_mean_what_libvirt_means() {
        let table = [
            (sys::VIR_DOMAIN_NOSTATE, 0, State::Active),
            (sys::VIR_DOMAIN_RUNNING, sys::VIR_DOMAIN_RUNNING_BOOTED, State::Active),
            (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_USER, State::Active),
            (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_IOERROR, State::Active),
            (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_MIGRATION, State::Incoming),
            (sys::VIR_DOMAIN_PAUSED, sys::VIR_DOMAIN_PAUSED_STARTING_UP, State::Incoming),
            (sys::VIR_DOMAIN_SHUTDOWN, sys::VIR_DOMAIN_SHUTDOWN_USER, State::Active),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_UNKNOWN, State::Off("unknown")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN, State::Off("shutdown")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_DESTROYED, State::Off("destroyed")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_CRASHED, State::Died("crashed")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_MIGRATED, State::Off("migrated")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_SAVED, State::Off("saved")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_FAILED, State::Died("failed")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT, State::Off("from snapshot")),
            (sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_DAEMON, State::Died("killed by libvirtd")),
            (sys::VIR_DOMAIN_CRASHED, sys::VIR_DOMAIN_CRASHED_PANICKED, State::Panicked),
            (sys::VIR_DOMAIN_PMSUSPENDED, 0, State::Active),
        ];
        for (value, reason, means) in table {
            let read = state(c_int::try_from(value).expect("small"), c_int::try_from(reason).expect("small"));
            assert_eq!(read, means, "state {value}, reason {reason}");
        }
    }

    #[test]
    fn the_other_numbers_are_libvirts() {
        let name = |action: u32| watchdog_action(c_int::try_from(action).expect("small"));
        assert_eq!(name(sys::VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF), "poweroff");
        assert_eq!(name(sys::VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI), "inject-nmi");
        let reason = |reason: u32| close_reason(c_int::try_from(reason).expect("small"));
        assert!(reason(sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE).contains("keep-alive"));
        assert!(reason(sys::VIR_CONNECT_CLOSE_REASON_EOF).contains("closed"));
    }
}
