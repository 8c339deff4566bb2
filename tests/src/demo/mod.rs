//! The demo: starts a cluster, kills a host, tells the story as it happens, and checks it against the ground truth.

mod outcome;
mod screen;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rekindle_agent::cli::render::{self, Paint};
use tokio::signal::unix::{SignalKind, signal};

use crate::harness::{Cluster, Fault, Host, Isolated, isolate};
use outcome::Outcome;
use screen::{Screen, Tone};

/// From the first process to an armed cluster. A busy machine needs a few seconds.
const START_WITHIN: Duration = Duration::from_secs(60);

/// Exit code after Ctrl-C: 128 and the signal's number, as shells have it.
const INTERRUPTED: u8 = 130;

/// Lines of each daemon's log that a failure shows.
const LOG_LINES: usize = 12;

/// A hypervisor dies; its servers run again elsewhere, never twice. Everything happens on loopback addresses in a network
/// namespace of its own, and is gone afterwards.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// Write the figures here, too.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// How many hypervisors.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=32))]
    hosts: u8,
    /// How many servers, over all of them.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=2000))]
    servers: u16,
    /// Which host: the one that leads, a voter that does not, or a name (cmp-01 and on).
    #[arg(long, default_value = "leader", value_name = "leader|follower|NAME")]
    kill: String,
    /// What happens to it.
    #[arg(long, value_enum, default_value_t = Fault::Crash)]
    fault: Fault,
}

/// The demo's `main`. Exit code 0: every server of the dead host runs exactly once, elsewhere, and nothing ever ran twice.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new();
    match isolated_run(&arguments, screen) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", screen.paint(Tone::Bad, &format!("\ndemo: {error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn isolated_run(arguments: &Arguments, screen: Screen) -> Result<ExitCode> {
    // Before the runtime: its threads must be born inside.
    let isolated = isolate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("signals cannot be caught")?;
        // Whichever ends first drops the other: with it the cluster, its processes and its files.
        tokio::select! {
            ended = run(arguments, &isolated, screen) => ended,
            _ = tokio::signal::ctrl_c() => Ok(interrupted(screen)),
            _ = terminate.recv() => Ok(interrupted(screen)),
        }
    })
}

fn interrupted(screen: Screen) -> ExitCode {
    screen.gone();
    println!("\ninterrupted: everything is stopped and removed");
    ExitCode::from(INTERRUPTED)
}

async fn run(arguments: &Arguments, isolated: &Isolated, screen: Screen) -> Result<ExitCode> {
    let (hosts, servers) = (usize::from(arguments.hosts), usize::from(arguments.servers));
    println!("{}\n", screen.paint(Tone::Strong, "rekindle demo: a host dies, and its servers run again elsewhere"));
    println!("A cluster of {hosts} hosts with {servers} servers, on loopback addresses in a network of its own.");
    println!("Real: the daemons, mutual TLS, gossip, the ledger, IPMI. Simulated: Nova, the BMCs, the servers.\n");
    let began = std::time::Instant::now();
    let ms = Duration::from_millis;
    let builder = Cluster::builder().hosts(hosts).servers(servers);
    // A real destination takes a while to build a guest; so there is something to watch.
    let builder = builder.cloud(move |cloud| cloud.schedule_time(ms(50)..ms(300)).spawn_time(ms(400)..ms(2000)));
    let mut cluster = builder.start(isolated).await?;
    let ended = scenes(arguments, &cluster, screen, began).await;
    let failed = match &ended {
        Ok(outcome) => !outcome.is_good(),
        Err(_) => true,
    };
    if failed {
        screen.gone();
        println!("\n{}", screen.paint(Tone::Strong, "The last lines of each daemon's log"));
        println!("{}", cluster.logs(LOG_LINES));
        println!("The files are kept in {}", cluster.keep_files().display());
    }
    ended.map(|_| if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn scenes(
    arguments: &Arguments,
    cluster: &Cluster,
    screen: Screen,
    began: std::time::Instant,
) -> Result<Outcome> {
    begin(cluster, screen, began).await.context("the cluster did not get ready")?;
    let leader = cluster.leader(START_WITHIN).await?;
    let victim = choose(&arguments.kill, cluster, &leader)?;
    let leads = if *victim.name() == leader { ", which leads," } else { "" };
    let fault = arguments.fault;
    let title = format!("{}{leads} fails: {fault}", victim.name());
    println!("\n{}  ({})\n", screen.paint(Tone::Strong, &title), fault.explained());
    let servers = cluster.cloud().servers_of(victim.name());
    let killed = cluster.inflict(victim, fault)?;
    let told = story::tell(cluster, victim, killed, screen).await;
    let outcome = Outcome::of(cluster, victim, &servers, killed, &told);
    outcome.show(screen);
    if let Some(path) = &arguments.json {
        outcome.write(path)?;
    }
    Ok(outcome)
}

/// From bare processes to an armed cluster, as an operator would.
async fn begin(cluster: &Cluster, screen: Screen, began: std::time::Instant) -> Result<()> {
    let step = |text: &str| screen.line(began.elapsed(), "", text, Tone::Plain);
    step(&format!("{} rekindled processes run", cluster.hosts().count()));
    let leader = cluster.leader(START_WITHIN).await?;
    let voters: Vec<&str> = cluster.voters().iter().map(|voter| voter.as_str()).collect();
    step(&format!("{leader} leads, elected among {}", voters.join(" ")));
    cluster.init_roster(START_WITHIN).await?;
    step("rekindle init: the roster is given; disarmed, as every new cluster is");
    cluster.wait_ready(START_WITHIN).await?;
    step("rekindle fence-test: all are alive, and every BMC is the host's own");
    cluster.order(START_WITHIN, &["arm", "--reason", "let the demo begin"]).await?;
    step("rekindle arm: signed by the operator `demo`");
    let armed = |status: &rekindle_proto::status::StatusDoc| match status.armed {
        Some(true) => Ok(()),
        Some(false) | None => Err("not armed".to_owned()),
    };
    let status = cluster.wait_until(START_WITHIN, armed).await?;
    println!();
    for line in render::status(&status, Paint { colours: screen.colours() }).lines() {
        println!("{}", format!("    {line}").trim_end());
    }
    Ok(())
}

fn choose<'a>(kill: &str, cluster: &'a Cluster, leader: &rekindle_proto::id::HostName) -> Result<&'a Host> {
    let victim = match kill {
        "leader" => cluster.host(leader.as_str())?,
        "follower" => match cluster.voters().iter().find(|voter| *voter != leader) {
            Some(voter) => cluster.host(voter.as_str())?,
            None => bail!("no voter follows: there is but one"),
        },
        name => cluster.host(name)?,
    };
    let servers = cluster.cloud().servers_of(victim.name()).len();
    ensure!(servers > 0, "{} has no servers, so there is nothing to see: give more --servers", victim.name());
    Ok(victim)
}
