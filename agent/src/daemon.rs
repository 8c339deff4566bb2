//! The daemon's entry: arguments, configuration, `--check`, run. In the library, so that the tests and the demo run the very
//! daemon of their own build.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::bmc::{AgentSettings, Bmc};
use crate::check::{self, Adapters, Try, chain};
use crate::config::Config;
use crate::hypervisor::Hypervisor;
use crate::nova::Nova;
use crate::{shell, telemetry};

/// Exit code of a refused configuration (EX_CONFIG of sysexits.h): systemd does not start us again into the same refusal.
const EXIT_CONFIG: u8 = 78;

/// How long `--check` gives one device.
const DEVICE_WITHIN: Duration = Duration::from_secs(10);

/// Most threads beside the one that hears and decides. Tokio would start one for each core: hypervisors have hundreds, and each
/// thread costs memory. Two would do; with four one that waits for a slow disk delays nobody.
const WORKERS_MAX: usize = 4;

/// Tasks of the first thread that may go before the loop, or before a look at sockets and timers. Tokio's own 61 is made for
/// throughput: as many handshakes, a millisecond each, would delay a probe by a third of what its answer may take. A look costs
/// a microsecond.
const TASKS_BETWEEN_LOOKS: u32 = 8;

/// How long a stopped daemon waits for what may be in the middle of a write. Tasks (a BMC that hangs) are not waited for.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// The daemon of rekindle: one on every hypervisor.
#[derive(Debug, Parser)]
#[command(name = "rekindled", version, about)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/rekindle/rekindle.toml")]
    config: PathBuf,
    /// Read the configuration, try every adapter, say what is wrong and how to mend it; then exit. Starts and changes nothing.
    #[arg(long)]
    check: bool,
}

/// Runs the daemon with these arguments (the first is the program's name).
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    keep_memory_private();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way too.
            let code = error.exit_code();
            if error.print().is_err() {
                return ExitCode::FAILURE;
            }
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
    };
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("rekindled: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let (first, beside) = match runtimes() {
        Ok(runtimes) => runtimes,
        Err(error) => {
            eprintln!("rekindled: no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        return beside.block_on(check(config));
    }
    if let Err(error) = telemetry::init(config.log) {
        eprintln!("rekindled: {error}");
        return ExitCode::FAILURE;
    }
    // Not as a task among others: woken, the loop takes its turn before all but a few of those that wait for theirs.
    let ended = first.block_on(shell::run(config, beside.handle().clone()));
    beside.shutdown_timeout(STOP_WITHIN);
    first.shutdown_timeout(STOP_WITHIN);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "rekindled cannot run");
            eprintln!("rekindled: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The first is this very thread: sockets of gossip, the loop, and Raft. A packet is heard, decided about and answered where it
/// woke somebody; handed from thread to thread it woke four, which was most of what a member at rest cost. The second is for what
/// may keep a thread busy, so that it delays no probe: Nova's long answers, devices, programs, libvirt, and who reads metrics.
fn runtimes() -> std::io::Result<(Runtime, Runtime)> {
    let first = Builder::new_current_thread().event_interval(TASKS_BETWEEN_LOOKS).enable_all().build()?;
    let beside = Builder::new_multi_thread().worker_threads(workers()).thread_name("beside").enable_all().build()?;
    Ok((first, beside))
}

/// Threads beside the first: one a core, but no more than [`WORKERS_MAX`].
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX)
}

/// No core dump, and no debugger of our own user: in this memory lie the keys to every host's power switch.
fn keep_memory_private() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        eprintln!("rekindled: a core dump of this process could hold secrets: {error}");
    }
}

async fn check(config: Config) -> ExitCode {
    let mut adapters = Adapters::default();
    if config.is_voter() {
        if let Some(settings) = config.nova.clone() {
            adapters.nova = Some(Box::pin(async move {
                let nova = Nova::open(settings).map_err(|error| chain(&error))?;
                nova.check().await.map_err(|error| chain(&error))
            }));
        }
        adapters.devices = devices(&config);
    }
    let hypervisor = config.hypervisor.clone();
    adapters.hypervisor = Some(Box::pin(async move {
        Hypervisor::check(&hypervisor).await.map(|text| text.to_string()).map_err(|error| chain(&error))
    }));
    let report = check::run(&config, adapters, &mut |line| println!("{line}")).await;
    println!("{report}");
    ExitCode::from(report.exit_code())
}

/// Our own host's devices, as what a pattern gives other hosts, `rekindle fence-test` reads; and every agent, by what it says
/// of itself.
fn devices(config: &Config) -> Vec<(String, Try)> {
    let failed = |error: &dyn std::error::Error| -> Vec<(String, Try)> {
        let words = chain(error);
        vec![("setup".to_owned(), Box::pin(async move { Err(words) }))]
    };
    let bmc = match Bmc::open(config.devices.clone()) {
        Ok(bmc) => Arc::new(bmc),
        Err(error) => return failed(&error),
    };
    if let Err(error) = bmc.check_programs() {
        return failed(&error);
    }
    let host = config.member.host.clone();
    let plans = rekindle_coordinator::policy::ladder(&config.device_rules(), &host);
    let agent = |(hosts, settings): (&str, &AgentSettings)| {
        let (name, settings) = (format!("agent {} of {hosts}", settings.name), settings.clone());
        let attempt: Try = Box::pin(async move { Bmc::inspect_agent(&settings).await });
        (name, attempt)
    };
    let mut tries: Vec<(String, Try)> = bmc.agents().map(agent).collect();
    tries.extend(plans.into_iter().map(|plan| {
        let (bmc, host, name) = (Arc::clone(&bmc), host.clone(), plan.name.to_string());
        let attempt: Try = Box::pin(async move { bmc.try_device(&host, &plan.name, DEVICE_WITHIN).await });
        (name, attempt)
    }));
    tries
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Longer than any machine takes, shorter than for ever.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// All threads beside wait for a word that only the first can give, after a timer and a packet of its own.
    #[test]
    fn what_keeps_every_thread_beside_busy_keeps_the_first_from_nothing() {
        let (first, beside) = runtimes().expect("runtimes");
        let us = std::thread::current().id();
        let busy: Vec<_> = (0..workers())
            .map(|_| {
                let (word, heard) = mpsc::channel::<()>();
                (word, beside.spawn(async move { (heard.recv_timeout(DEADLINE), std::thread::current().id()) }))
            })
            .collect();
        first.block_on(async {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let here = socket.local_addr().expect("bound");
            let hears = tokio::spawn(async move {
                let mut bytes = [0; 8];
                (socket.recv(&mut bytes).await.expect("a packet"), std::thread::current().id())
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
            let says = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            says.send_to(b"ping", here).await.expect("sent");
            assert_eq!(hears.await.expect("heard"), (4, us), "a task of the first is done where the loop turns");
            for (word, task) in busy {
                word.send(()).expect("it still waits");
                let (heard, thread) = task.await.expect("it ends");
                assert!(heard == Ok(()) && thread != us, "{heard:?} in {thread:?}");
            }
        });
    }
}
