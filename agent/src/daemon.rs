//! The daemon's entry: arguments, configuration, `--check`, run. In the library, so that the tests and the demo run the very
//! daemon of their own build.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

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

/// Most threads that carry tasks. Tokio would start one for each core: hypervisors have hundreds, each thread costs memory, and
/// the daemon takes half a percent of one core. Two would do; with four one that waits for a slow disk delays nobody.
const WORKERS_MAX: usize = 4;

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
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rekindled: no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        return runtime.block_on(check(config));
    }
    if let Err(error) = telemetry::init(config.log) {
        eprintln!("rekindled: {error}");
        return ExitCode::FAILURE;
    }
    let ended = runtime.block_on(shell::run(config));
    // Tasks of a stopped daemon (a BMC that hangs) are not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "rekindled cannot run");
            eprintln!("rekindled: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Threads that carry the daemon's tasks: one a core, but no more than [`WORKERS_MAX`].
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
