//! How long from "off" to the first reading of off, and to the second: the driver `ipmi`, `ipmitool` and `fence_ipmilan`
//! against the same simulators of OpenIPMI, one and many at once (`make bench-fence`).
//!
//! Each contender does what its user does. The driver and `ipmitool` order off and read until off; `fence_ipmilan -o off`
//! does both by itself, and waits two seconds in between unless told not to. A contender that is not installed is left
//! out, by name.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use rekindle_agent::bmc::ipmi::NativeIpmi;
use rekindle_agent::bmc::{Endpoint, IpmiSettings, Privilege, SecretSource};
use rekindle_agent::clock::moment;
use rekindle_proto::fact::PowerState;
use rekindle_proto::id::HostName;
use rekindle_tests::fake::ipmi_sim::IpmiSim;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Ends a run that hangs: `fence_ipmilan` gives a dead BMC 20 s.
const ENOUGH: Duration = Duration::from_secs(60);
/// Between the two readings of a proof (I2).
const READS_APART: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    /// How many BMCs at once, one round each.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    bmcs: Vec<u8>,
    /// Runs of each contender.
    #[arg(long, default_value_t = 5)]
    repeat: u32,
    /// Where the figures go, beside the table on standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    NativeCold,
    NativeAhead,
    Ipmitool,
    FenceIpmilan,
    FenceIpmilanNoWait,
}

impl Contender {
    const ALL: [Self; 5] =
        [Self::NativeCold, Self::NativeAhead, Self::Ipmitool, Self::FenceIpmilan, Self::FenceIpmilanNoWait];

    fn name(self) -> &'static str {
        match self {
            Self::NativeCold => "ipmi (native), cold",
            Self::NativeAhead => "ipmi (native), read before",
            Self::Ipmitool => "ipmitool, one process per command",
            Self::FenceIpmilan => "fence_ipmilan -o off",
            Self::FenceIpmilanNoWait => "fence_ipmilan -o off, --power-wait=0",
        }
    }

    /// The program it needs.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::NativeCold | Self::NativeAhead => None,
            Self::Ipmitool => Some("ipmitool"),
            Self::FenceIpmilan | Self::FenceIpmilanNoWait => Some("fence_ipmilan"),
        }
    }

    /// Whether two readings, a second apart, are its own: others prove by one.
    fn reads_twice(self) -> bool {
        matches!(self, Self::NativeCold | Self::NativeAhead | Self::Ipmitool)
    }
}

/// One BMC fenced once: after how long it was read off first, and twice.
#[derive(Debug, Clone, Copy)]
struct Fenced {
    first: Duration,
    second: Option<Duration>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut rows = Vec::new();
    println!("| BMCs | contender | first off read: median | slowest | second off read: median |");
    println!("|---:|---|---:|---:|---:|");
    for &bmcs in &arguments.bmcs {
        let sims = started(bmcs).await?;
        for contender in Contender::ALL {
            if let Some(program) = contender.program().filter(|program| !is_installed(program)) {
                println!("| {bmcs} | {} | not run: {program} is not installed | | |", contender.name());
                continue;
            }
            let mut fenced = Vec::new();
            for _ in 0..arguments.repeat {
                fenced.extend(round(contender, &sims).await?);
            }
            let first = sorted(fenced.iter().map(|fenced| fenced.first));
            let second = sorted(fenced.iter().filter_map(|fenced| fenced.second));
            let shown = |times: &[Duration], at: usize| {
                times.get(at).map_or("-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
            };
            println!(
                "| {bmcs} | {} | {} | {} | {} |",
                contender.name(),
                shown(&first, first.len() / 2),
                shown(&first, first.len().saturating_sub(1)),
                shown(&second, second.len() / 2)
            );
            let millis = |times: &[Duration]| times.iter().map(|time| time.as_secs_f64() * 1e3).collect::<Vec<_>>();
            rows.push(json!({
                "bmcs": bmcs, "contender": contender.name(), "runs": arguments.repeat,
                "first_off_ms": millis(&first), "second_off_ms": millis(&second),
            }));
        }
    }
    if let Some(path) = arguments.json {
        std::fs::write(&path, serde_json::to_string_pretty(&rows)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// That many simulators, each answering.
async fn started(bmcs: u8) -> anyhow::Result<Vec<IpmiSim>> {
    let sims: Vec<IpmiSim> =
        (0..bmcs).map(|n| IpmiSim::start(Ipv4Addr::new(127, 0, 79, n), None)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    for sim in &sims {
        while native(sim).power_state(moment() + Duration::from_secs(1)).await.is_err() {
            ensure!(began.elapsed() < ENOUGH, "{} does not answer", sim.address());
        }
    }
    Ok(sims)
}

/// All of them fenced at once, from one moment on.
async fn round(contender: Contender, sims: &[IpmiSim]) -> anyhow::Result<Vec<Fenced>> {
    let mut drivers = Vec::new();
    for sim in sims {
        sim.set_power(true)?;
        let driver = native(sim);
        if contender == Contender::NativeAhead {
            // What the daemon asks at the first suspicion: the session stays open.
            driver.guid(moment() + ENOUGH).await?;
            driver.power_state(moment() + ENOUGH).await?;
        }
        drivers.push(driver);
    }
    let began = Instant::now();
    let fences = sims.iter().zip(&drivers).map(async |(sim, driver)| {
        let fenced = match contender {
            Contender::NativeCold | Contender::NativeAhead => by_driver(driver, began).await,
            Contender::Ipmitool => by_ipmitool(sim, began).await,
            Contender::FenceIpmilan => by_fence_ipmilan(sim, began, &[]).await,
            Contender::FenceIpmilanNoWait => by_fence_ipmilan(sim, began, &["power_wait=0"]).await,
        }?;
        ensure!(!sim.is_on(), "{}: {} says off, and it is on", contender.name(), sim.address());
        ensure!(fenced.second.is_some() == contender.reads_twice(), "{}: not read twice", contender.name());
        Ok(fenced)
    });
    futures::future::join_all(fences).await.into_iter().collect()
}

fn native(sim: &IpmiSim) -> NativeIpmi {
    let settings = IpmiSettings {
        endpoint: Endpoint::parse(&sim.address().to_string(), 623).expect("an address"),
        username: IpmiSim::USER.to_owned(),
        password: SecretSource::File(sim.password_file()),
        k_g: None,
        cipher_suites: vec![3],
        privilege: Privilege::Operator,
    };
    NativeIpmi::new(&settings, &HostName::new("cmp-1").expect("a name"))
}

async fn by_driver(driver: &NativeIpmi, began: Instant) -> anyhow::Result<Fenced> {
    let end = moment() + ENOUGH;
    driver.power_off(end, end).await?;
    let mut first = None;
    loop {
        let state = driver.power_state(end).await?;
        match (state, first) {
            (PowerState::On, _) => first = None,
            (PowerState::Off, None) => first = Some(began.elapsed()),
            (PowerState::Off, Some(first)) => return Ok(Fenced { first, second: Some(began.elapsed()) }),
        }
        if first.is_some() {
            tokio::time::sleep(READS_APART).await;
        }
    }
}

async fn by_ipmitool(sim: &IpmiSim, began: Instant) -> anyhow::Result<Fenced> {
    let port = sim.address().port().to_string();
    let (address, password) = (sim.address().ip().to_string(), sim.password_file());
    let call = async |words: &[&str]| {
        let output = Command::new("ipmitool")
            .args(["-I", "lanplus", "-H", &address, "-p", &port, "-U", IpmiSim::USER, "-C", "3"])
            .args(["-L", "OPERATOR", "-N", "1", "-R", "2", "-f"])
            .arg(&password)
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(ENOUGH, output).await??;
        ensure!(output.status.success(), "ipmitool: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    call(&["chassis", "power", "off"]).await?;
    let mut first = None;
    loop {
        let is_off = call(&["chassis", "power", "status"]).await? == "Chassis Power is off";
        match (is_off, first) {
            (false, _) => first = None,
            (true, None) => first = Some(began.elapsed()),
            (true, Some(first)) => return Ok(Fenced { first, second: Some(began.elapsed()) }),
        }
        if first.is_some() {
            tokio::time::sleep(READS_APART).await;
        }
    }
}

/// Over its standard input, as a cluster calls it. (It hands the password on to `ipmitool` in a command line.)
async fn by_fence_ipmilan(sim: &IpmiSim, began: Instant, more: &[&str]) -> anyhow::Result<Fenced> {
    let mut child = Command::new("fence_ipmilan")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut options = format!(
        "action=off\nip={}\nipport={}\nusername={}\npassword={}\nlanplus=1\ncipher=3\n",
        sim.address().ip(),
        sim.address().port(),
        IpmiSim::USER,
        IpmiSim::PASSWORD
    );
    more.iter().for_each(|line| options.extend([line, "\n"]));
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(options.as_bytes()).await?;
    drop(stdin);
    let output = tokio::time::timeout(ENOUGH, child.wait_with_output()).await??;
    ensure!(output.status.success(), "fence_ipmilan: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Fenced { first: began.elapsed(), second: None })
}

fn is_installed(program: &str) -> bool {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    places.iter().any(|place| PathBuf::from(place).join(program).exists())
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times
}
