//! Against a server of our own on a real socket.

use super::*;
use crate::hypervisor::{Hypervisor, HypervisorSettings};
use rekindle_proto::fact::DiskPlacement;
use tokio::net::UnixListener;

const A: &str = "6f1c2d1e-0000-4000-8000-00000000000a";
const B: &str = "6f1c2d1e-0000-4000-8000-00000000000b";
const PATIENCE: Duration = Duration::from_secs(30);

fn id(text: &str) -> ServerId {
    text.parse().expect("uuid")
}

fn guest(server: &str, running: bool) -> Guest {
    Guest { server: id(server), running, disks: DiskPlacement::Shared, died: false }
}

fn line(guests: &[Guest]) -> String {
    format!("{}\n", serde_json::json!({ "guests": guests, "complete": true }))
}

struct Served {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Served {
    async fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        let (read, writer) = stream.into_split();
        Self { reader: BufReader::new(read), writer }
    }
    async fn say(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.expect("written");
    }
    async fn hear(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("in time").expect("read");
        line
    }
}

async fn next(told: &mut mpsc::Receiver<HypervisorEvent>) -> HypervisorEvent {
    tokio::time::timeout(PATIENCE, told.recv()).await.expect("in time").expect("a watcher")
}

fn listed(guests: &[Guest]) -> HypervisorEvent {
    HypervisorEvent::List(GuestList { complete: true, guests: guests.to_vec() })
}

fn happened(server: &str, event: GuestEvent) -> HypervisorEvent {
    HypervisorEvent::Guest { server: id(server), event }
}

#[tokio::test]
async fn lists_events_and_what_was_missed_are_told() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("guests");
    let listener = UnixListener::bind(&path).expect("bound");
    let (events, mut told) = mpsc::channel(16);
    let hypervisor = Hypervisor::start(HypervisorSettings::Socket(path), events).expect("starts");
    let mut served = Served::accept(&listener).await;
    served.say(&line(&[guest(B, true), guest(A, true)])).await;
    assert!(matches!(next(&mut told).await, HypervisorEvent::Reachable(true, _)));
    assert_eq!(next(&mut told).await, listed(&[guest(A, true), guest(B, true)]));
    served.say(&format!("{{\"event\":\"failed\",\"server\":\"{A}\"}}\n")).await;
    assert_eq!(next(&mut told).await, happened(A, GuestEvent::Failed));
    hypervisor.list_now();
    assert_eq!(served.hear().await, "list\n");
    served.say(&line(&[guest(A, false), guest(B, true)])).await;
    assert_eq!(next(&mut told).await, listed(&[guest(A, false), guest(B, true)]));

    let asked = tokio::spawn(hypervisor.running_among(&[id(A), id(B)], PATIENCE));
    let mut question = Served::accept(&listener).await;
    question.say(&line(&[guest(A, true), guest(B, false)])).await;
    assert_eq!(asked.await.expect("joined"), Some(vec![id(A)]), "not from the list we remember");

    served.say("nonsense\n").await;
    let HypervisorEvent::Reachable(false, why) = next(&mut told).await else { panic!("not dropped") };
    assert!(why.as_str().contains("not understood"), "{why}");
    let mut served = Served::accept(&listener).await;
    served.say(&line(&[guest(A, true)])).await;
    assert!(matches!(next(&mut told).await, HypervisorEvent::Reachable(true, _)));
    assert_eq!(next(&mut told).await, happened(A, GuestEvent::Running));
    assert_eq!(next(&mut told).await, happened(B, GuestEvent::Undefined));
    assert_eq!(next(&mut told).await, listed(&[guest(A, true)]));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_proves_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("guests");
    let listener = UnixListener::bind(&path).expect("bound");
    let (events, mut told) = mpsc::channel(16);
    let hypervisor = Hypervisor::start(HypervisorSettings::Socket(path.clone()), events).expect("starts");
    assert_eq!(hypervisor.running_among(&[id(A)], Duration::from_secs(2)).await, None);
    let HypervisorEvent::Reachable(false, why) = next(&mut told).await else { panic!("reachable?") };
    assert!(why.as_str().contains("no answer"), "{why}");
    drop(listener);
    assert!(Hypervisor::check(&HypervisorSettings::Socket(path)).await.is_err());
}

#[test]
fn lines_are_parsed_or_refused() {
    let list = parse(line(&[guest(B, false), guest(A, true)]).as_bytes()).expect("a list");
    assert_eq!(list, Line::List(GuestList { complete: true, guests: vec![guest(A, true), guest(B, false)] }));
    for event in ["failed", "running", "stopped", "undefined"] {
        let text = format!("{{\"event\":\"{event}\",\"server\":\"{A}\"}}");
        assert!(matches!(parse(text.as_bytes()), Ok(Line::Event { .. })), "{event}");
    }
    let twice = line(&[guest(A, true), guest(A, false)]);
    let refused = [
        ("{}", "neither"),
        ("{\"guests\":[]}", "neither"),
        ("{\"event\":\"burnt\",\"server\":\"x\"}", "not understood"),
        ("[", "not understood"),
        (&twice, "twice"),
    ];
    for (text, why) in refused {
        let refusal = parse(text.as_bytes()).expect_err(text);
        assert!(refusal.contains(why), "{text}: {refusal}");
    }
    let many: Vec<Guest> = (0..=GUESTS_MAX as u128)
        .map(|number| Guest {
            server: ServerId(uuid::Uuid::from_u128(number)),
            running: true,
            disks: DiskPlacement::Local,
            died: false,
        })
        .collect();
    let Line::List(cut) = parse(line(&many).as_bytes()).expect("a list") else { panic!("not a list") };
    assert!(!cut.complete);
    assert_eq!(cut.guests.len(), GUESTS_MAX);
    assert!((line(&many).len() as u64) < LINE_BYTES_MAX);
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("guests");
    let listener = UnixListener::bind(&path).expect("bound");
    let reads = tokio::spawn(async move { first_list(&path).await.map(|(list, _, _)| list) });
    let mut served = Served::accept(&listener).await;
    let junk = vec![b' '; 1 << 16];
    // It hangs up on us somewhere after the bound.
    while served.writer.write_all(&junk).await.is_ok() {}
    let refusal = reads.await.expect("joined").expect_err("refused").to_string();
    assert!(refusal.contains("longer than"), "{refusal}");
}
