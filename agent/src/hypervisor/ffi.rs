//! What the `virt` crate leaves out: domain events, the close callback, and a domain's state with its error.
//!
//! The only `unsafe` of this crate beside `watchdog/device.rs`. Callbacks run in libvirt's event-loop thread, which also answers keep-alives: they
//! copy what they are given into a bounded queue and return. They never call libvirt's daemon, block, or panic.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rekindle_proto::id::ServerId;
use tokio::sync::mpsc;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

/// What a callback was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    Lifecycle { server: ServerId, event: c_int, detail: c_int },
    Watchdog { server: ServerId, action: c_int },
    Rebooted { server: ServerId },
    IoError { server: ServerId, reason: String },
    ControlError { server: ServerId },
    Closed { reason: c_int },
}

/// Where callbacks put what they are told.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    pub(super) signals: mpsc::Sender<Signal>,
    /// Set when a signal found the queue full: whoever reads must ask for the whole list.
    pub(super) lost: Arc<AtomicBool>,
}

impl Tap {
    fn put(&self, signal: Signal) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.signals.try_send(signal) {
            self.lost.store(true, Ordering::Release);
        }
    }
}

/// The callbacks registered on a connection. Dropping takes them back, which asks the daemon: drop it where one may block.
#[derive(Debug)]
pub(super) struct Registrations {
    connect: Connect,
    events: Vec<c_int>,
}

impl Registrations {
    /// Registers for lifecycle events, as far as this libvirt has them for the others, and for the closing of a `remote`
    /// connection. (Of a driver in this process, libvirt says that it took the close callback, and forgets it: our box
    /// would never be freed.) The default event loop must have been registered before `connect`
    /// was opened.
    ///
    /// # Errors
    /// libvirt's, if it has no lifecycle events to give.
    pub(super) fn new(connect: &Connect, remote: bool, tap: &Tap) -> Result<Self, Error> {
        let mut made = Self { connect: connect.clone(), events: Vec::new() };
        // SAFETY: each function has exactly the signature which libvirt-domain.h gives for its event id; libvirt calls
        // it with that signature, after the same cast in C (VIR_DOMAIN_EVENT_CALLBACK).
        let table: [(sys::virDomainEventID, sys::virConnectDomainEventGenericCallback); 5] = unsafe {
            [
                (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, Some(std::mem::transmute::<LifecycleFn, GenericFn>(on_lifecycle))),
                (sys::VIR_DOMAIN_EVENT_ID_WATCHDOG, Some(std::mem::transmute::<WatchdogFn, GenericFn>(on_watchdog))),
                (sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(on_reboot as GenericFn)),
                (
                    sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
                    Some(std::mem::transmute::<IoErrorFn, GenericFn>(on_io_error)),
                ),
                (sys::VIR_DOMAIN_EVENT_ID_CONTROL_ERROR, Some(on_control_error as GenericFn)),
            ]
        };
        for (id, callback) in table {
            match made.register(id, callback, tap) {
                Ok(()) => {}
                Err(error) if id == sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE => return Err(error),
                Err(error) => tracing::warn!(id, error = error.message(), "this libvirt has no such events"),
            }
        }
        if remote {
            made.register_close(tap);
        }
        Ok(made)
    }

    /// The connection they are registered on.
    pub(super) fn connect(&self) -> &Connect {
        &self.connect
    }

    fn register(
        &mut self,
        id: sys::virDomainEventID,
        callback: sys::virConnectDomainEventGenericCallback,
        tap: &Tap,
    ) -> Result<(), Error> {
        let opaque = Box::into_raw(Box::new(tap.clone())).cast::<c_void>();
        // Ids are small numbers.
        let id = c_int::try_from(id).unwrap_or(-1);
        // SAFETY: the connection is alive (we own a reference), a null domain means all, and `opaque` is a boxed `Tap`
        // that libvirt gives to `callback` until it frees it, once, through `free_tap`.
        let made = unsafe {
            let connect = self.connect.as_ptr();
            sys::virConnectDomainEventRegisterAny(connect, std::ptr::null_mut(), id, callback, opaque, Some(free_tap))
        };
        if made < 0 {
            let error = Error::last_error();
            // SAFETY: a failed registration leaves `opaque` ours, and nobody else has it.
            unsafe { free_tap(opaque) };
            return Err(error);
        }
        self.events.push(made);
        Ok(())
    }

    fn register_close(&self, tap: &Tap) {
        let opaque = Box::into_raw(Box::new(tap.clone())).cast::<c_void>();
        // SAFETY: as in `register`; `on_close` has the signature of virConnectCloseFunc.
        let made = unsafe {
            sys::virConnectRegisterCloseCallback(self.connect.as_ptr(), Some(on_close), opaque, Some(free_tap))
        };
        if made < 0 {
            tracing::debug!(error = Error::last_error().message(), "this libvirt does not tell when it closes");
            // SAFETY: a failed registration leaves `opaque` ours, and nobody else has it.
            unsafe { free_tap(opaque) };
        }
    }
}

impl Drop for Registrations {
    fn drop(&mut self) {
        // On a dead connection each of these fails at the daemon, and still gives back what we registered on our side.
        for event in &self.events {
            // SAFETY: the connection is alive (we own a reference), and the number is from its own registration.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), *event) };
        }
        // SAFETY: the connection is alive; unregistering what is not (or no longer) registered is refused.
        unsafe { sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close)) };
    }
}

/// A domain's state and reason, in libvirt's numbers. (`Domain::state` of `virt` 0.5 hides the error.)
///
/// # Errors
/// libvirt's: the domain may be gone, or the connection.
pub(super) fn domain_state(domain: &Domain) -> Result<(c_int, c_int), Error> {
    let (mut state, mut reason) = (-1, -1);
    // SAFETY: the domain is alive (we borrow a reference), and both pointers are to our own integers.
    let done = unsafe { sys::virDomainGetState(domain.as_ptr(), &raw mut state, &raw mut reason, 0) };
    if done < 0 { Err(Error::last_error()) } else { Ok((state, reason)) }
}

type GenericFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type LifecycleFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type WatchdogFn = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
type IoErrorFn = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt lends us the domain and our own box for the length of this call.
    unsafe { tell(domain, opaque, |server| Signal::Lifecycle { server, event, detail }) };
    0
}

unsafe extern "C" fn on_watchdog(_: sys::virConnectPtr, domain: sys::virDomainPtr, action: c_int, opaque: *mut c_void) {
    // SAFETY: libvirt lends us the domain and our own box for the length of this call.
    unsafe { tell(domain, opaque, |server| Signal::Watchdog { server, action }) };
}

unsafe extern "C" fn on_reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: libvirt lends us the domain and our own box for the length of this call.
    unsafe { tell(domain, opaque, |server| Signal::Rebooted { server }) };
}

unsafe extern "C" fn on_control_error(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: libvirt lends us the domain and our own box for the length of this call.
    unsafe { tell(domain, opaque, |server| Signal::ControlError { server }) };
}

unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _path: *const c_char,
    _alias: *const c_char,
    _action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let reason = if reason.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so a C string of libvirt's, lent to us for the length of this call.
        unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned()
    };
    // SAFETY: libvirt lends us the domain and our own box for the length of this call.
    unsafe { tell(domain, opaque, |server| Signal::IoError { server, reason }) };
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: `opaque` is the boxed `Tap` of `register_close`, not yet freed; nobody changes it.
    let tap = unsafe { &*opaque.cast::<Tap>() };
    tap.put(Signal::Closed { reason });
}

/// # Safety
/// `domain` is null or valid for this call; `opaque` is a boxed [`Tap`] that is not yet freed.
unsafe fn tell(domain: sys::virDomainPtr, opaque: *mut c_void, signal: impl FnOnce(ServerId) -> Signal) {
    let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the caller's word on `domain`; libvirt refuses null, and writes VIR_UUID_BUFLEN bytes. No call to the daemon.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } < 0 {
        return;
    }
    // SAFETY: the caller's word on `opaque`; nobody changes it.
    let tap = unsafe { &*opaque.cast::<Tap>() };
    tap.put(signal(ServerId(Uuid::from_bytes(uuid))));
}

unsafe extern "C" fn free_tap(opaque: *mut c_void) {
    // SAFETY: `opaque` came from `Box::into_raw` of a `Tap`, and libvirt frees it once, after the last callback.
    drop(unsafe { Box::from_raw(opaque.cast::<Tap>()) });
}
