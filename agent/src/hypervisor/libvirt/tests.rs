//! Against libvirt's in-process test driver: the binding and the loop, not failures of a daemon (those are in
//! `tests/libvirt`, against a real one).

use super::*;
use crate::hypervisor::{Hypervisor, HypervisorSettings};
use rekindle_proto::fact::{DiskPlacement, Guest, GuestEvent, GuestList};
use std::time::Instant;
use virt::domain::Domain;

const URI: &str = "test:///default";
/// Longest wait for what takes milliseconds, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A watcher, and a connection of our own to make things happen with.
struct Rig {
    hypervisor: Hypervisor,
    told: mpsc::Receiver<HypervisorEvent>,
    hand: Connect,
}

impl Rig {
    /// Watches until the first list.
    async fn new() -> (Self, GuestList) {
        start_event_loop().expect("event loop");
        let hand = Connect::open(Some(URI)).expect("connect");
        let (events, told) = mpsc::channel(64);
        let hypervisor = Hypervisor::start(HypervisorSettings::Libvirt(URI.to_owned()), events).expect("starts");
        let mut rig = Self { hypervisor, told, hand };
        let HypervisorEvent::Reachable(true, how) = rig.next().await else { panic!("reachable comes first") };
        assert!(how.as_str().contains("libvirt"), "{how}");
        let list = rig.list().await;
        (rig, list)
    }

    async fn next(&mut self) -> HypervisorEvent {
        tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("an event in time").expect("a watcher")
    }

    async fn list(&mut self) -> GuestList {
        loop {
            if let HypervisorEvent::List(list) = self.next().await {
                return list;
            }
        }
    }

    /// The next event of this guest. Other tests of this process share the driver, and make events of their own.
    async fn event(&mut self, of: ServerId) -> GuestEvent {
        loop {
            match self.next().await {
                HypervisorEvent::Guest { server, event } if server == of => return event,
                HypervisorEvent::Guest { .. } | HypervisorEvent::List(_) | HypervisorEvent::Reachable(..) => {}
            }
        }
    }

    fn define(&self, number: u32, disk: &str) -> (Domain, ServerId) {
        let uuid = format!("6f1c2d1e-0000-4000-8000-{number:012}");
        let xml = format!(
            "<domain type='test'><name>guest-{number}</name><uuid>{uuid}</uuid><memory unit='MiB'>8</memory>\
             <os><type>hvm</type></os><devices>{disk}</devices></domain>"
        );
        (self.hand.define_domain_xml(&xml).expect("defined"), uuid.parse().expect("uuid"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_of_a_guest_is_told_once_each() {
    let (mut rig, _) = Rig::new().await;
    let (domain, server) = rig.define(1, "");
    domain.create().expect("created");
    assert_eq!(rig.event(server).await, GuestEvent::Running);
    domain.destroy().expect("destroyed");
    assert_eq!(rig.event(server).await, GuestEvent::Stopped);
    domain.create().expect("created");
    assert_eq!(rig.event(server).await, GuestEvent::Running);
    let dump = tempfile::tempdir().expect("dir");
    let file = dump.path().join("core");
    domain.core_dump(file.to_str().expect("path"), sys::VIR_DUMP_CRASH).expect("crashed");
    assert_eq!(rig.event(server).await, GuestEvent::Failed);
    domain.create().expect("created");
    assert_eq!(rig.event(server).await, GuestEvent::Running);
    domain.shutdown().expect("shut down");
    assert_eq!(rig.event(server).await, GuestEvent::Stopped);
    domain.undefine().expect("undefined");
    assert_eq!(rig.event(server).await, GuestEvent::Undefined);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_answers_are_fresh() {
    let (mut rig, _) = Rig::new().await;
    let rbd = "<disk type='network' device='disk'><source protocol='rbd' name='v/1'><host name='mon'/></source><target dev='vda'/></disk>";
    let gone = "<disk type='file' device='disk'><source file='/nonexistent/disk'/><target dev='vda'/></disk>";
    let (first, a) = rig.define(2, rbd);
    let (second, b) = rig.define(3, gone);
    first.create().expect("created");
    rig.hypervisor.list_now();
    let list = loop {
        let list = rig.list().await;
        if list.guests.iter().any(|guest| guest.server == a && guest.running) {
            break list;
        }
        rig.hypervisor.list_now();
    };
    assert!(list.complete);
    assert!(list.guests.is_sorted());
    assert!(
        list.guests.contains(&Guest { server: a, running: true, disks: DiskPlacement::Shared, died: false }),
        "{list:?}"
    );
    assert!(
        list.guests.contains(&Guest { server: b, running: false, disks: DiskPlacement::Unknown, died: false }),
        "{list:?}"
    );

    assert_eq!(rig.hypervisor.running_among(&[a, b], PATIENCE).await, Some(vec![a]));
    second.create().expect("created");
    first.suspend().expect("paused");
    let mut both = rig.hypervisor.running_among(&[b, a], PATIENCE).await.expect("an answer");
    both.sort_unstable();
    assert_eq!(both, [a, b], "paused is running");
    first.destroy().expect("destroyed");
    assert_eq!(rig.hypervisor.running_among(&[a], PATIENCE).await, Some(vec![]));
    assert_eq!(rig.hypervisor.running_among(&[], PATIENCE).await, Some(vec![]));
    second.destroy().expect("destroyed");
    for domain in [first, second] {
        domain.undefine().expect("undefined");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_given_back_when_a_link_is_dropped() {
    start_event_loop().expect("event loop");
    let mut link = Link::open(URI).expect("opened");
    let held = Weak::clone(&link.held);
    let mut signals = std::mem::replace(&mut link.signals, mpsc::channel(1).1);
    drop(link);
    // Every callback's box holds a sender: the queue ends when the last one is freed.
    let ended = async { while signals.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("all boxes are freed");
    assert!(held.upgrade().is_none());
}

#[tokio::test]
async fn a_full_queue_is_noticed() {
    let (sender, mut signals) = mpsc::channel(1);
    let lost = Arc::new(AtomicBool::new(false));
    start_event_loop().expect("event loop");
    let hand = Connect::open(Some(URI)).expect("connect");
    let held = Registrations::new(&hand, false, &Tap { signals: sender, lost: Arc::clone(&lost) }).expect("registered");
    let domain = hand
        .define_domain_xml("<domain type='test'><name>full</name><memory>1</memory><os><type>hvm</type></os></domain>");
    let domain = domain.expect("defined");
    for _ in 0..5 {
        domain.create().expect("created");
        domain.destroy().expect("destroyed");
    }
    domain.undefine().expect("undefined");
    let deadline = Instant::now() + PATIENCE;
    while !lost.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "the loss is never noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(signals.recv().await.is_some());
    tokio::task::spawn_blocking(move || drop(held)).await.expect("dropped");
}

#[tokio::test]
async fn a_libvirt_that_is_not_there_is_told_with_advice() {
    let uri = "qemu:///system?socket=/nonexistent/libvirt-sock";
    let refusal = check(uri).await.expect_err("refused").to_string();
    assert!(
        refusal.contains("cannot connect") && refusal.contains("is libvirtd") || refusal.contains("Is libvirtd"),
        "{refusal}"
    );
    let (events, mut told) = mpsc::channel(4);
    let hypervisor = Hypervisor::start(HypervisorSettings::Libvirt(uri.to_owned()), events).expect("starts");
    let first = tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time");
    assert!(matches!(first, Some(HypervisorEvent::Reachable(false, _))), "{first:?}");
    assert_eq!(hypervisor.running_among(&[], PATIENCE).await, None);
    assert!(check(URI).await.expect("the test driver").as_str().contains("libvirt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_guest_is_destroyed_and_only_in_time() {
    let (mut rig, _) = Rig::new().await;
    let ((first, a), (second, b)) = (rig.define(8, ""), rig.define(9, ""));
    first.create().expect("created");
    second.create().expect("created");
    assert_eq!(rig.event(b).await, GuestEvent::Running);
    let late = rig.hypervisor.destroy_guest(a, || false).await.expect_err("too late");
    assert!(matches!(late, HypervisorError::TooLate), "{late}");
    assert!(first.is_active().expect("an answer"));
    // In time this time: the closure is the question, no check.
    rig.hypervisor.destroy_guest(a, || true).await.expect("destroyed");
    assert!(!first.is_active().expect("an answer"));
    assert!(second.is_active().expect("an answer"), "nobody else");
    // It does not run: the question whether it is in time must not even be asked, and panics if it is.
    rig.hypervisor.destroy_guest(a, || panic!("nothing to do")).await.expect("it does not run");
    second.destroy().expect("destroyed");
    for domain in [first, second] {
        domain.undefine().expect("undefined");
    }
}
