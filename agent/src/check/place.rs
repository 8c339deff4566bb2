//! This machine: its addresses, directories, UUID, and the way to the others.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rekindle_coordinator::process::ProcessSeen;
use rekindle_proto::fact::MemberRole;
use rekindle_proto::id::{ProcessName, SystemUuid};

use super::CheckLine;
use crate::config::Config;
use crate::hypervisor::HypervisorSettings;
use crate::process::Processes;

/// A resolver that takes longer would hold up every join.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);

/// Where Linux shows the SMBIOS system UUID, to root only.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";

pub(super) fn addresses(config: &Config) -> Vec<CheckLine> {
    let listen = config.member.listen;
    // Port 0: whether the address is ours shows without disturbing a running daemon.
    let udp = UdpSocket::bind((listen.ip(), 0)).map(drop);
    let mut lines = vec![address("member.listen", listen, udp)];
    for (path, listen) in &config.member.paths {
        let what = format!("member.paths.{path}");
        lines.push(match UdpSocket::bind((listen.ip(), 0)) {
            Ok(_) => CheckLine::fine(what, format!("{listen} is an address of this machine")),
            Err(error) => {
                let mend = "until it is an address of this machine (`ip addr`), this host is silent on that network";
                CheckLine::warn(what, format!("{listen}: {error}"), mend)
            }
        });
    }
    if let Some(metrics) = config.member.metrics {
        let tcp = TcpListener::bind((metrics.ip(), 0)).map(drop);
        lines.push(address("member.metrics", metrics, tcp));
        if is_public(metrics.ip()) {
            let figure = format!("{metrics} is served without TLS or password");
            lines.push(CheckLine::warn("member.metrics", figure, "bind it to loopback or a management network"));
        }
    }
    lines
}

fn address(what: &str, address: SocketAddr, bound: std::io::Result<()>) -> CheckLine {
    match bound {
        Ok(()) => CheckLine::fine(what, format!("{address} is an address of this machine")),
        Err(error) => {
            CheckLine::fail(what, format!("{address}: {error}"), "it must be an address of this machine (`ip addr`)")
        }
    }
}

/// Every address, or one beyond private and link-local networks.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

pub(super) fn directories(config: &Config) -> Vec<CheckLine> {
    let socket_dir = config.member.admin_socket.parent().unwrap_or(Path::new("/"));
    let mut lines = vec![state_dir(&config.member.state_dir)];
    lines.push(if socket_dir.is_dir() {
        CheckLine::fine("member.admin_socket", config.member.admin_socket.display().to_string())
    } else {
        let figure = format!("{} is not there", socket_dir.display());
        CheckLine::warn("member.admin_socket", figure, "systemd makes it at start (RuntimeDirectory=rekindle)")
    });
    lines
}

fn state_dir(dir: &Path) -> CheckLine {
    const WHAT: &str = "member.state_dir";
    let shown = dir.display();
    let mode = match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => found.permissions().mode() & 0o7777,
        Ok(_) => return CheckLine::fail(WHAT, format!("{shown} is not a directory"), "move it away"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mend = "systemd makes it at start (StateDirectory=rekindle)";
            return CheckLine::warn(WHAT, format!("{shown} is not there"), mend);
        }
        Err(error) => return CheckLine::fail(WHAT, format!("{shown}: {error}"), "run the check as the daemon's user"),
    };
    let probe = dir.join(format!(".check-{}", std::process::id()));
    let written = std::fs::write(&probe, "written by rekindled --check\n").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Err(error) => CheckLine::fail(
            WHAT,
            format!("{shown} cannot be written: {error}"),
            "run as the daemon's user; is it full?",
        ),
        Ok(()) if mode & 0o077 != 0 => {
            CheckLine::warn(WHAT, format!("{shown} has mode {mode:04o}"), format!("chmod 0700 {shown}"))
        }
        Ok(()) => CheckLine::fine(WHAT, format!("{shown} can be written")),
    }
}

/// Against what fence devices are bound.
pub(super) fn machine(config: &Config) -> Vec<CheckLine> {
    const WHAT: &str = "system UUID";
    let mut lines = Vec::new();
    if config.member.role == MemberRole::Witness {
        return lines;
    }
    let dmi = std::fs::read_to_string(PRODUCT_UUID).ok().and_then(|text| text.trim().parse::<SystemUuid>().ok());
    lines.push(match (config.member.system_uuid, dmi) {
        (Some(given), Some(dmi)) if given != dmi => {
            let figure = format!("member.system_uuid = {given}, but DMI says {dmi}");
            CheckLine::warn(WHAT, figure, "remove the key: it is for machines without DMI")
        }
        (Some(given), _) => CheckLine::fine(WHAT, format!("{given} (configured)")),
        (None, Some(dmi)) => CheckLine::fine(WHAT, dmi.to_string()),
        (None, None) => {
            let mend = "run the check as root, or set member.system_uuid: without it no fence device can be bound";
            CheckLine::fail(WHAT, format!("{PRODUCT_UUID} cannot be read"), mend)
        }
    });
    if config.hypervisor == HypervisorSettings::Off {
        let mend = "nobody can say which guests run here: servers that moved from or to it will wait";
        lines.push(CheckLine::warn("libvirt.uri", "off on a hypervisor", mend));
    }
    lines
}

pub(super) async fn seeds(config: &Config) -> Vec<CheckLine> {
    let mut lines = Vec::new();
    for seed in &config.cluster.seeds {
        let what = format!("seed {seed}");
        let looked_up = tokio::time::timeout(RESOLVE_WITHIN, tokio::net::lookup_host(seed.as_str())).await;
        lines.push(match looked_up {
            Ok(Ok(found)) => {
                let found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
                CheckLine::fine(what, found.join(", "))
            }
            Ok(Err(error)) => CheckLine::warn(what, format!("cannot be resolved: {error}"), "mend DNS or /etc/hosts"),
            Err(_) => {
                let figure = format!("not resolved within {} s", RESOLVE_WITHIN.as_secs());
                CheckLine::warn(what, figure, "mend DNS or /etc/hosts")
            }
        });
    }
    if !lines.is_empty() && lines.iter().all(|line| line.mend.is_some()) {
        lines.push(CheckLine::fail("seeds", "none can be resolved", "this host would join nobody"));
    }
    lines
}

/// The processes this host is to watch, as they stand now.
pub(super) async fn processes(config: &Config) -> Vec<CheckLine> {
    let watched = Processes::new(config.processes.clone());
    let line = |(name, seen): (ProcessName, ProcessSeen)| {
        let what = format!("process {name}");
        match seen {
            ProcessSeen::Running { .. } => CheckLine::fine(what, "runs"),
            ProcessSeen::Starting => CheckLine::fine(what, "is being started"),
            ProcessSeen::Stopped(why) => CheckLine::warn(what, why.to_string(), "stopped for two minutes, it is down"),
            ProcessSeen::Failed(why) => CheckLine::warn(what, why.to_string(), "the daemon would start it again"),
            ProcessSeen::Unknown(why) => CheckLine::fail(
                what,
                why.to_string(),
                "see [[process]]: its unit or its check is not right on this host",
            ),
        }
    };
    watched.look().await.into_iter().map(line).collect()
}
