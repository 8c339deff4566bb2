//! The file: whose it is, and what is left of it after a kill and after the disk was full.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rekindle_coordinator::ledger::Ledger;
use rekindle_proto::id::{CallId, HostName};
use tempfile::TempDir;

use super::super::store::FILE_NAME;
use super::super::{LedgerError, StoreError};
use super::harness::{Cluster, Node, TIMING, entry, host, start, until};

/// Tells a child process what to do, and where.
const CHILD: &str = "REKINDLE_TEST_LEDGER_CHILD";
const CHILD_DIR: &str = "REKINDLE_TEST_LEDGER_DIR";

async fn refusal(cluster: &Cluster, dir: &Path, host: &HostName, voters: &[HostName]) -> LedgerError {
    match start(&cluster.wire, dir.to_owned(), host, voters, TIMING).await {
        Ok(_) => panic!("started"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_on_one_file_are_refused() {
    let cluster = Cluster::started(1).await;
    let name = &cluster.names[0];
    let error = refusal(&cluster, &cluster.dir(name), name, &cluster.names).await;
    assert!(matches!(error, LedgerError::Store(StoreError::InUse { .. })), "{error}");
    assert!(error.to_string().contains("another rekindled"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_others_is_refused_by_name() {
    let mut cluster = Cluster::started(1).await;
    let name = cluster.names[0].clone();
    cluster.commit(1).await;
    cluster.stop(&name).await;
    let dir = cluster.dir(&name);

    let error = refusal(&cluster, &dir, &host("b"), &[host("b")]).await;
    assert!(matches!(error, LedgerError::Owner { .. }), "{error}");
    assert!(error.to_string().contains("voter-1 of test"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_cannot_be_are_refused() {
    let cluster = Cluster::new(3);
    let [a, b, c] = cluster.names.clone().try_into().expect("three");
    let dir = cluster.dir(&a);
    for (voters, says) in [
        (vec![], "1, 3, 5 or 7"),
        (vec![a.clone(), b.clone()], "1, 3, 5 or 7"),
        (vec![b.clone(), c.clone(), host("d")], "neither among them nor a standby"),
        (vec![a.clone(), b.clone(), b.clone()], "named twice"),
    ] {
        let error = refusal(&cluster, &dir, &a, &voters).await.to_string();
        assert!(error.contains(says), "{says:?}: {error}");
    }
}

/// Runs this very test program again, as another process that does only [`child`].
fn spawn_child(shell: &str, role: &str, dir: &Path) -> Child {
    let program = std::env::current_exe().expect("known");
    Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(program)
        .args(["--exact", "ledger::tests::disk::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, role)
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// The numbers on a child's lines that begin so.
fn number(line: &str, prefix: &str) -> Option<i64> {
    line.strip_prefix(prefix)?.trim().parse().ok()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Begins on a line of its own: the test harness leaves "test … " without an end.
    writeln!(out, "\n{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Not a test unless it was started as a child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = std::env::var(CHILD) else { return };
    let dir = PathBuf::from(std::env::var(CHILD_DIR).expect("set"));
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .init();
    match role.as_str() {
        "write" => write_on(&dir).await,
        "full" => fill(&dir, Full::Disk).await,
        "limit" => fill(&dir, Full::Limit).await,
        other => panic!("{other}"),
    }
}

async fn alone(dir: &Path) -> Node {
    let name = host("voter-1");
    let node =
        start(&Arc::default(), dir.to_owned(), &name, std::slice::from_ref(&name), TIMING).await.expect("starts");
    until("it leads", async || {
        node.heard(|heard| heard.leadership.last().is_some_and(|l| l.1.is_some())).then_some(())
    })
    .await;
    node
}

/// Proposes one entry; whether it was committed.
async fn try_one(node: &Node, number: i64) -> bool {
    let call = CallId(u64::try_from(number).expect("not negative"));
    node.adapter.propose(call, entry(number));
    until("it is answered", async || node.heard(|heard| heard.proposed.get(&call).cloned())).await.is_ok()
}

fn ledger(node: &Node) -> Ledger {
    node.heard(|heard| heard.ledger.clone()).expect("restored")
}

async fn write_on(dir: &Path) {
    let node = alone(dir).await;
    for number in 1.. {
        if try_one(&node, number).await {
            say(&format!("committed {number} at {}", ledger(&node).applied));
        }
    }
}

/// Starts on what is there, and returns after everything in the log was applied again.
async fn reopened(dir: &Path) -> Node {
    let node = alone(dir).await;
    assert!(try_one(&node, 1_000_000).await, "it goes on");
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = TempDir::new().expect("a directory");
    for round in 1..=3 {
        let mut child = spawn_child("exec \"$@\"", "write", dir.path());
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut last = None;
        let mut seen = 0;
        let mut killed = false;
        for line in lines {
            let line = line.expect("text");
            if let Some((_, index)) = line.strip_prefix("committed ").and_then(|rest| rest.split_once(" at ")) {
                last = index.trim().parse::<u64>().ok();
                seen += 1;
            }
            // In the midst of the next write. What it said before is still read.
            if seen == 30 * round && !killed {
                child.kill().expect("killed");
                killed = true;
            }
        }
        child.wait().expect("waited for");
        let last = last.expect("it committed something");
        let node = reopened(dir.path()).await;
        assert!(ledger(&node).applied.0 > last, "round {round}: {last} was acknowledged, {:?}", ledger(&node).applied);
        node.adapter.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_copied_in_the_midst_of_writing_opens_or_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let node = alone(dir.path()).await;
    let write = async {
        for number in 1..=400 {
            assert!(try_one(&node, number).await);
        }
    };
    let copy = async {
        let mut copies = Vec::new();
        while copies.len() < 8 {
            let copy = TempDir::new().expect("a directory");
            fs::copy(dir.path().join(FILE_NAME), copy.path().join(FILE_NAME)).expect("copied");
            copies.push(copy);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        copies
    };
    let ((), copies) = tokio::join!(write, copy);
    let mut opened = 0;
    for copy in &copies {
        let name = host("voter-1");
        match start(&Arc::default(), copy.path().to_owned(), &name, std::slice::from_ref(&name), TIMING).await {
            Err(error) => println!("refused: {error}"),
            Ok(node) => {
                opened += 1;
                until("it leads", async || {
                    node.heard(|heard| heard.leadership.last().is_some_and(|l| l.1.is_some())).then_some(())
                })
                .await;
                assert!(try_one(&node, 1_000_000).await);
                node.adapter.shutdown().await;
            }
        }
    }
    println!("{opened} of {} opened", copies.len());
}

enum Full {
    /// The file system is full.
    Disk,
    /// The file may not grow (`RLIMIT_FSIZE`).
    Limit,
}

/// Sets how large files of this process may become. Only the soft limit.
fn limit(bytes: &str) {
    let own = std::process::id().to_string();
    let done =
        Command::new("prlimit").args(["--pid", &own, &format!("--fsize={bytes}:")]).status().expect("prlimit runs");
    assert!(done.success());
}

/// Runs until there is no room, and again after there is.
async fn fill(dir: &Path, full: Full) {
    let node = alone(dir).await;
    for number in 1..=5 {
        assert!(try_one(&node, number).await, "{number}");
    }
    let filler = dir.join("filler");
    match full {
        Full::Disk => {
            let mut file = fs::File::create(&filler).expect("created");
            while file.write_all(&[1; 4_096]).is_ok() {}
        }
        Full::Limit => {
            let length = fs::metadata(dir.join(FILE_NAME)).expect("there").len();
            limit(&(length / 2).to_string());
        }
    }
    let mut acknowledged = 5;
    // Large ones: redb has room of its own.
    for number in 6..20_000 {
        if !try_one(&node, number).await {
            break;
        }
        acknowledged = number;
    }
    assert!(acknowledged < 19_999, "the disk was never full");
    let at = ledger(&node).applied;
    until("it says that nobody leads", async || {
        node.heard(|heard| matches!(heard.leadership.last(), Some((_, None)))).then_some(())
    })
    .await;
    assert!(!try_one(&node, 30_000).await, "it goes on failing, and goes on answering");
    node.adapter.check(CallId(1));
    until("a check fails", async || {
        node.heard(|h| h.checked.get(&CallId(1)).is_some_and(Result::is_err)).then_some(())
    })
    .await;
    node.adapter.shutdown().await;

    match full {
        Full::Disk => fs::remove_file(&filler).expect("removed"),
        Full::Limit => limit("unlimited"),
    }
    let node = reopened(dir).await;
    let applied = ledger(&node).applied;
    assert!(applied > at, "{at} was acknowledged, {applied}");
    say(&format!("survived {acknowledged}"));
}

/// What the operator must be able to read, once: the file, and the words of the operating system.
fn survived(mut child: Child, errno: &str) {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let lines: Vec<String> = lines.collect();
    let ended = child.wait().expect("waited for");
    assert!(ended.success(), "{ended}: {lines:#?}");
    assert!(lines.iter().any(|line| number(line, "survived ").is_some()), "{lines:#?}");
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("the ledger's file failed")).collect();
    let [told] = told[..] else { panic!("{told:#?}") };
    assert!(told.contains(FILE_NAME) && told.contains(errno), "{told}");
}

#[test]
fn a_file_that_may_not_grow_fails_and_recovers() {
    let dir = TempDir::new().expect("a directory");
    // The signal of that limit would end the process.
    survived(spawn_child("trap '' XFSZ; exec \"$@\"", "limit", dir.path()), "os error 27");
}

#[test]
fn a_full_disk_fails_and_recovers() {
    let dir = TempDir::new().expect("a directory");
    let mount = "mount -t tmpfs -o size=6m tmpfs \"$REKINDLE_TEST_LEDGER_DIR\"";
    let namespace = |command: &str| format!("exec unshare --map-root-user --mount sh -c '{command}' sh \"$@\"");
    let probe = Command::new("sh").args(["-c", &namespace(mount)]).env(CHILD_DIR, dir.path()).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("no mount namespaces here: the same is tried with a file that may not grow");
        return;
    }
    survived(spawn_child(&namespace(&format!("{mount} && exec \"$@\"")), "full", dir.path()), "os error 28");
}
