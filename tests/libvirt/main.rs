//! The watcher of guests against a real libvirtd with real QEMU processes: what dies, what is stopped, and what happens
//! while nobody can look.

mod host;
mod virtualbmc;

use std::time::{Duration, Instant};

use host::{Guest, Host, PATIENCE, until};
use rekindle_agent::hypervisor::{Hypervisor, HypervisorEvent, HypervisorSettings};
use rekindle_proto::fact::{DiskPlacement, GuestEvent, GuestList};
use rekindle_proto::id::ServerId;
use tokio::sync::mpsc;

/// A watcher, and all it has told.
struct Watch {
    hypervisor: Hypervisor,
    told: mpsc::Receiver<HypervisorEvent>,
    /// What happened to guests, in order.
    happened: Vec<(ServerId, GuestEvent)>,
}

impl Watch {
    /// Watches until the first list.
    async fn start(host: &Host) -> (Self, GuestList) {
        // Shown by a test that fails.
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::DEBUG).try_init();
        let (events, told) = mpsc::channel(64);
        let hypervisor = Hypervisor::start(HypervisorSettings::Libvirt(host.uri()), events).expect("starts");
        let mut watch = Self { hypervisor, told, happened: Vec::new() };
        watch.reachable(true).await;
        let list = watch.list().await;
        (watch, list)
    }

    async fn next(&mut self) -> HypervisorEvent {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await;
        let event = told.unwrap_or_else(|_| panic!("nothing told; so far: {:?}", self.happened)).expect("a watcher");
        if let HypervisorEvent::Guest { server, event } = &event {
            self.happened.push((*server, *event));
        }
        event
    }

    async fn reachable(&mut self, expected: bool) {
        loop {
            if let HypervisorEvent::Reachable(reachable, why) = self.next().await {
                assert_eq!(reachable, expected, "{why}");
                return;
            }
        }
    }

    async fn list(&mut self) -> GuestList {
        loop {
            if let HypervisorEvent::List(list) = self.next().await {
                return list;
            }
        }
    }

    /// Waits until that was told.
    async fn hear(&mut self, server: ServerId, event: GuestEvent) {
        while !self.happened.contains(&(server, event)) {
            self.next().await;
        }
    }

    /// All that was told of this guest.
    fn of(&self, server: ServerId) -> Vec<GuestEvent> {
        self.happened.iter().filter(|(told, _)| *told == server).map(|(_, event)| *event).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_qemu_is_a_failure_and_a_destroyed_one_is_not() {
    let host = Host::start();
    let dies = host.start_guest("dies", Guest::Sleeper);
    let destroyed = host.start_guest("destroyed", Guest::Sleeper);
    let (mut watch, list) = Watch::start(&host).await;
    assert!(list.complete);
    assert!(list.guests.iter().all(|guest| guest.running && guest.disks == DiskPlacement::Local), "{list:?}");
    assert_eq!(list.guests.len(), 2);
    let mut running = watch.hypervisor.running_among(&[dies, destroyed], PATIENCE).await.expect("an answer");
    running.sort_unstable();
    assert_eq!(running, list.guests.iter().map(|guest| guest.server).collect::<Vec<_>>());

    host.signal_guest("dies", "KILL");
    watch.hear(dies, GuestEvent::Failed).await;
    host.virsh(&["destroy", "destroyed"]);
    watch.hear(destroyed, GuestEvent::Stopped).await;
    assert_eq!(watch.hypervisor.running_among(&[dies, destroyed], PATIENCE).await, Some(vec![]));
    host.virsh(&["start", "dies"]);
    watch.hear(dies, GuestEvent::Running).await;
    host.virsh(&["undefine", "destroyed"]);
    watch.hear(destroyed, GuestEvent::Undefined).await;
    assert_eq!(watch.of(dies), [GuestEvent::Failed, GuestEvent::Running]);
    assert_eq!(watch.of(destroyed), [GuestEvent::Stopped, GuestEvent::Undefined]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_powers_itself_off_is_stopped() {
    let host = Host::start();
    let server = host.start_guest("obeys", Guest::Sleeper);
    let (mut watch, _) = Watch::start(&host).await;
    // A guest that has not booted yet does not feel the button: press it until it does.
    until("the guest obeys its power button", || {
        host.try_virsh(&["shutdown", "obeys"]);
        host.virsh(&["domstate", "obeys"]).contains("shut off").then_some(())
    });
    watch.hear(server, GuestEvent::Stopped).await;
    assert_eq!(watch.of(server), [GuestEvent::Stopped]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_panic_is_one_failure() {
    let host = Host::start();
    let (mut watch, _) = Watch::start(&host).await;
    let killed = host.start_guest("killed", Guest::Panicker("destroy"));
    let kept = host.start_guest("kept", Guest::Panicker("preserve"));
    watch.hear(killed, GuestEvent::Failed).await;
    watch.hear(kept, GuestEvent::Failed).await;
    until("libvirt is done", || host.virsh(&["domstate", "killed"]).contains("shut off").then_some(()));
    // Its process is still there: another copy of it must not start.
    assert_eq!(watch.hypervisor.running_among(&[killed, kept], PATIENCE).await, Some(vec![kept]));
    host.virsh(&["destroy", "kept"]);
    watch.hear(kept, GuestEvent::Stopped).await;
    assert_eq!(watch.of(killed), [GuestEvent::Running, GuestEvent::Failed]);
    assert_eq!(watch.of(kept), [GuestEvent::Running, GuestEvent::Failed, GuestEvent::Stopped]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_dies_while_libvirtd_is_down_is_found_once() {
    let host = Host::start();
    let dies = host.start_guest("dies", Guest::Sleeper);
    let lives = host.start_guest("lives", Guest::Sleeper);
    let (mut watch, _) = Watch::start(&host).await;
    host.signal_libvirtd("KILL");
    watch.reachable(false).await;
    assert_eq!(watch.hypervisor.running_among(&[dies, lives], PATIENCE).await, None, "nobody can say");
    host.signal_guest("dies", "KILL");
    host.restart_libvirtd();
    watch.reachable(true).await;
    watch.hear(dies, GuestEvent::Failed).await;
    assert_eq!(watch.hypervisor.running_among(&[dies, lives], PATIENCE).await, Some(vec![lives]));
    watch.hypervisor.list_now();
    // The end of the other one comes after all that is still under way.
    host.virsh(&["destroy", "lives"]);
    watch.hear(lives, GuestEvent::Stopped).await;
    assert_eq!(watch.of(dies), [GuestEvent::Failed]);
    assert_eq!(watch.of(lives), [GuestEvent::Stopped]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirtd_that_hangs_proves_nothing() {
    let host = Host::start();
    let server = host.start_guest("lives", Guest::Sleeper);
    let (mut watch, _) = Watch::start(&host).await;
    host.signal_libvirtd("STOP");
    let asked = Instant::now();
    assert_eq!(watch.hypervisor.running_among(&[server], Duration::from_secs(1)).await, None);
    assert!(asked.elapsed() < PATIENCE / 4, "bounded by what we asked for, not by the daemon");
    watch.reachable(false).await;
    assert_eq!(watch.hypervisor.running_among(&[server], Duration::from_secs(1)).await, None);
    host.resume_libvirtd();
    watch.reachable(true).await;
    assert_eq!(watch.hypervisor.running_among(&[server], PATIENCE).await, Some(vec![server]));
    assert_eq!(watch.of(server), [], "nothing happened to it");
}

/// With the boot gate nothing but Nova starts a guest: libvirt takes the file for its own note that it has done its autostarts.
#[tokio::test(flavor = "multi_thread")]
async fn the_boot_gate_s_file_keeps_libvirt_from_autostarts() {
    let tmpfiles = include_str!("../../systemd/rekindle-gate.tmpfiles");
    let noted = tmpfiles.lines().find_map(|line| line.strip_prefix("f /run/")).expect("a file");
    let note = noted.split(' ').next().expect("its path");
    let host = Host::start();
    host.start_guest("eager", Guest::Sleeper);
    host.virsh(&["autostart", "eager"]);
    let state = || host.virsh(&["domstate", "eager"]).trim().to_owned();
    for (is_noted, expected) in [(false, "running"), (true, "shut off")] {
        host.virsh(&["destroy", "eager"]);
        host.signal_libvirtd("KILL");
        host.note(note, is_noted);
        host.restart_libvirtd();
        assert_eq!(state(), expected, "{note} there: {is_noted}");
        if !is_noted {
            assert!(host.is_noted(note), "libvirt itself leaves {note}");
        } else {
            host.virsh(&["start", "eager"]);
            assert_eq!(state(), "running", "asked for, it starts");
        }
    }
}
