//! What a recovery costs Nova and Keystone, in calls; what a member at rest costs its host, in threads that wake.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rekindle_tests::fake::cloud::Endpoint;
use rekindle_tests::harness::{Fault, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, patient, recovered};

/// Servers of the host that dies.
const SERVERS: usize = 60;

/// Calls to Nova for each server that was simply active: the call and the look at what came of it, and one for everything
/// else (the lists, the questions how far all of them are). The issue allows four.
const CALLS_EACH: usize = 3;

/// Requests for a token: each of the three voters fetches its own at its first question, and keeps it. Who leads, one.
const TOKENS: usize = 3;

pub(crate) async fn a_recovery_asks_little_of_nova(isolated: &Isolated) -> Result<()> {
    armed(isolated, patient().servers_per_host(SERVERS), async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        ensure!(servers.len() == SERVERS, "{} servers", servers.len());
        let before = cluster.cloud().requests().last().map_or(0, |line| line.number);
        cluster.inflict(victim, Fault::Crash)?;
        recovered(cluster, victim.name(), &servers).await?;
        let requests = cluster.cloud().requests();
        let since = || requests.iter().filter(|line| line.number > before);
        let tokens = since().filter(|line| line.endpoint == Endpoint::Token).count();
        let of = |endpoint| since().filter(|line| line.endpoint == endpoint).count();
        let nova = since().filter(|line| !matches!(line.endpoint, Endpoint::Token | Endpoint::Versions)).count();
        let (evacuate, server, migrations, list) =
            (of(Endpoint::Evacuate), of(Endpoint::Server), of(Endpoint::Migrations), of(Endpoint::Servers));
        let told = format!(
            "{nova} calls for {SERVERS} servers: {evacuate} evacuate, {server} single servers, {migrations} migrations, \
             {list} lists of servers; {tokens} tokens"
        );
        println!("{told}");
        ensure!(nova <= CALLS_EACH * SERVERS, "too many: {told}");
        ensure!(tokens <= TOKENS, "too many tokens: {told}");
        // Two of them are one list: the page, and the empty one after it.
        ensure!(list <= 2, "hundreds of servers were listed again and again: {told}");
        Ok(())
    })
    .await
}

/// Wake-ups of a member's first thread over which its others are watched: half a minute of gossip, or some more.
const WAKES: u64 = 400;

/// Wake-ups of all other threads meanwhile: none is needed, and some are left for what has just ended.
const WAKES_BESIDE: u64 = WAKES / 20;

/// A packet that is handed from thread to thread wakes several: that was most of what a member at rest cost.
pub(crate) async fn a_member_at_rest_wakes_one_thread(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let pid = bystander(cluster)?.pid().context("it runs")?;
        let before = wakes(pid)?;
        let since = |threads: &BTreeMap<u32, u64>, of: fn(u32, u32) -> bool| -> u64 {
            let each = threads.iter().filter(|(thread, _)| of(**thread, pid));
            each.map(|(thread, count)| count - before.get(thread).copied().unwrap_or(0)).sum()
        };
        let first = |thread, pid| thread == pid;
        let woken = async {
            loop {
                let now = wakes(pid)?;
                if since(&now, first) >= WAKES {
                    return anyhow::Ok(now);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let now = tokio::time::timeout(DEADLINE, woken).await.context("its first thread sleeps")??;
        let (ours, others) = (since(&now, first), since(&now, |thread, pid| thread != pid));
        println!("{ours} wake-ups of the first thread, {others} of {} others", now.len() - 1);
        ensure!(others <= WAKES_BESIDE, "{others} wake-ups of other threads, {ours} of the first");
        Ok(())
    })
    .await
}

/// How often each thread of a process has gone to sleep so far; the first thread's number is that of the process.
fn wakes(pid: u32) -> Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // A thread may end while it is looked at.
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else { continue };
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let number = thread.file_name().to_string_lossy().parse().context("a thread's number")?;
        found.insert(number, count.context("its count")?.trim().parse()?);
    }
    Ok(found)
}
