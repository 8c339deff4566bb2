//! Every rule of the file: bounds, and relations between keys. All are checked before any refusal is given.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_coordinator::ledger::{OnShutdown, STANDBYS_MAX};
use rekindle_coordinator::policy::{KdumpPolicy, LocalDisk, LockServers, OnAgentDeath, Policy, Readmission};
use rekindle_coordinator::recovery::SelectPolicy;
use rekindle_proto::fact::MemberRole;
use rekindle_proto::id::{HostName, PathName};

use super::checker::{Checker, shown};
use super::file::{
    ClusterTable, DetectionTable, FencingTable, File, LibvirtTable, LocalDiskWord, LockWord, LogTable, MemberTable,
    NovaTable, OnAgentDeathWord, ProcessTable, ReadmissionWord, RecoveryTable,
};
use super::refusal::ConfigError;
use super::{
    Cluster, Config, LogFormat, LogSettings, LogTarget, Member, devices, hooks, notifications, paths, processes,
    select, watchdog,
};
use crate::hypervisor::HypervisorSettings;
use crate::nova::NovaSettings;
use crate::process::ProcessSettings;
use crate::transport::TlsFiles;

/// Where state lies if nothing is said: systemd's `StateDirectory=rekindle`.
const STATE_DIR: &str = "/var/lib/rekindle";
/// The admin socket if nothing is said: in systemd's `RuntimeDirectory=rekindle`.
pub(super) const ADMIN_SOCKET: &str = "/run/rekindle/admin.sock";
/// Longest path of a Unix socket, in bytes: `sun_path` less its final zero, and less the suffix under which it is made.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107 - 4;
/// Labels of one member: a label is a time series' name for ever.
const LABELS_MAX: usize = 16;
/// Total time-out of a Nova call, if nothing is said.
const NOVA_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two readings of Placement, if nothing is said.
const CAPACITY_EVERY: Duration = Duration::from_secs(300);
/// An evacuate intent without a migration record is closed 120 s after its call (I11): every call must be over by then.
const NOVA_TIMEOUT_MAX: Duration = Duration::from_secs(100);

/// Checks everything; the first thing that would be used without being checked does not compile, as [`File`] is consumed.
pub(super) fn check(file: File, table: toml::Table, path: &Path) -> Result<Config, ConfigError> {
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut on = Checker::new(table, base);
    let self_fence = file.fencing.self_fence.unwrap_or(Policy::default().self_fence);
    let (member, cluster) = (member(&mut on, file.member, &file.cluster.paths, self_fence), file.cluster);
    let Some(member) = member else {
        return Err(ConfigError::Refused { file: path.to_owned(), refusals: on.refusals });
    };
    let cluster = self::cluster(&mut on, cluster, &member);
    let paths = paths::matrix(&mut on, &file.path_rule, &cluster.paths);
    let mut policy = Policy { paths, ..policy(&mut on, &file.detection, &file.fencing, &file.recovery) };
    let devices = devices::check(&mut on, &file.fence_device, &member.host, &cluster.voters);
    policy.capacity_every = file.nova.as_ref().and_then(|table| capacity_every(&mut on, table));
    let hooks = hooks::check(&mut on, &file.hook);
    policy.hooks = hooks.iter().map(|hook| hook.rule.clone()).collect();
    let processes = processes_here(&mut on, &file.process, member.role);
    policy.processes = processes.iter().map(|process| process.rule.clone()).collect();
    let notifications = notifications::check(&mut on, &file.notifications, &member.admin_socket);
    policy.webhook = notifications.webhook.is_some();
    let nova = file.nova.map(|table| nova(&mut on, &table, &policy.select));
    if let Some(nova) = nova.as_ref().filter(|nova| nova.timeout >= policy.evacuate_settle) {
        let rule = format!(
            "= {} must be under recovery.evacuate_settle = {}",
            shown(nova.timeout),
            shown(policy.evacuate_settle)
        );
        on.refuse(
            "nova.timeout",
            &rule,
            "an intent must not be closed while its own call may still be under way (I11)",
        );
    }
    let hypervisor = hypervisor(&mut on, &file.libvirt, member.role);
    let log = log(&file.log);
    if !on.refusals.is_empty() {
        return Err(ConfigError::Refused { file: path.to_owned(), refusals: on.refusals });
    }
    Ok(Config {
        file: path.to_owned(),
        member,
        cluster,
        policy,
        devices,
        nova,
        hypervisor,
        log,
        hooks,
        notifications,
        processes,
    })
}

/// All are checked everywhere, as the file is the same everywhere; a witness has none.
fn processes_here(on: &mut Checker, tables: &[ProcessTable], role: MemberRole) -> Vec<ProcessSettings> {
    let all = processes::check(on, tables);
    match role {
        MemberRole::Member => all,
        MemberRole::Witness => Vec::new(),
    }
}

fn member(on: &mut Checker, table: MemberTable, paths: &[PathName], self_fence: bool) -> Option<Member> {
    let listen = paths::own_address(on, "member.listen", &table.listen);
    let paths = paths::addresses(on, paths, &table.paths, listen);
    let metrics = table.metrics.as_deref().and_then(|given| on.address("member.metrics", given));
    let admin_socket = on.path("member.admin_socket", table.admin_socket.as_deref().unwrap_or(ADMIN_SOCKET));
    if admin_socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        on.refuse(
            "member.admin_socket",
            format!("must have at most {SOCKET_PATH_BYTES_MAX} bytes as an absolute path"),
            "the kernel takes no longer path for a Unix socket (unix(7))",
        );
    }
    if table.labels.len() > LABELS_MAX {
        on.refuse("member.labels", format!("must be at most {LABELS_MAX}"), "each is kept with every scrape");
    }
    for name in table.labels.keys().filter(|name| !is_label(name)) {
        on.refuse(
            &format!("member.labels.{name}"),
            "must be named by letters, digits and '_', not beginning with a digit, and not host, role or domain",
            "it becomes a label of the metric rekindle_member_info, which has those three already",
        );
    }
    let watchdog = watchdog::check(on, table.watchdog.as_deref(), self_fence);
    Some(Member {
        host: table.host,
        listen: listen?,
        paths,
        state_dir: on.path("member.state_dir", table.state_dir.as_deref().unwrap_or(STATE_DIR)),
        admin_socket,
        metrics,
        domain: table.domain,
        labels: table.labels,
        role: table.role,
        system_uuid: table.system_uuid,
        watchdog,
        record: table.record,
    })
}

/// A label name as Prometheus takes it, and not one of ours.
fn is_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !matches!(name, "host" | "role" | "domain")
}

fn cluster(on: &mut Checker, table: ClusterTable, member: &Member) -> Cluster {
    if !matches!(table.voters.len(), 1 | 3 | 5 | 7) {
        on.refuse(
            "cluster.voters",
            "must be 1, 3, 5 or 7",
            "an even number survives no more failures than one fewer; two hosts need a third, a witness; 1 is for a trial",
        );
    }
    let unique: BTreeSet<&HostName> = table.voters.iter().collect();
    if unique.len() != table.voters.len() {
        on.refuse("cluster.voters", "must name each host once", "a host votes once");
    }
    let standbys: BTreeSet<&HostName> = table.standbys.iter().collect();
    if standbys.len() != table.standbys.len() || standbys.iter().any(|standby| unique.contains(standby)) {
        on.refuse("cluster.standbys", "must name each host once, and no voter", "a standby takes a voter's place");
    }
    if table.standbys.len() > STANDBYS_MAX {
        on.refuse(
            "cluster.standbys",
            format!("must be at most {STANDBYS_MAX}"),
            "each is sent everything the voters write; two suffice",
        );
    }
    for (index, seed) in table.seeds.iter().enumerate() {
        let key = format!("cluster.seeds[{}]", index + 1);
        if !is_host_port(seed) {
            on.refuse(&key, "must be host:port", "members are joined by dialling it: \"cmp-01:7946\"");
        }
        if table.seeds[..index].contains(seed) {
            on.refuse(&key, "must be there once", "a seed listed twice hides that another is missing");
        }
    }
    let alone = matches!(table.voters.as_slice(), [only] if *only == member.host);
    if table.seeds.is_empty() && !alone {
        on.refuse(
            "cluster.seeds",
            "must name at least one member",
            "this host would join nobody; only a sole voter may have none",
        );
    }
    let tls =
        [("ca", table.tls.ca, "ca.pem"), ("cert", table.tls.cert, "{host}.pem"), ("key", table.tls.key, "{host}.key")];
    let [ca, certificate, key] = tls.map(|(key, given, default)| {
        let path = given.unwrap_or_else(|| default.to_owned()).replace("{host}", member.host.as_str());
        on.path(&format!("cluster.tls.{key}"), &path)
    });
    if certificate == key {
        on.refuse("cluster.tls.key", "must be another file than cluster.tls.cert", "certificates are given away");
    }
    Cluster {
        name: table.name,
        seeds: table.seeds,
        voters: table.voters,
        standbys: table.standbys,
        paths: table.paths,
        tls: TlsFiles { ca, certificate, key },
    }
}

/// `name:port`, `address:port` or `[v6]:port`, port not 0.
fn is_host_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().is_unspecified();
    }
    text.rsplit_once(':')
        .is_some_and(|(host, port)| HostName::new(host).is_ok() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

fn policy(on: &mut Checker, detection: &DetectionTable, fencing: &FencingTable, recovery: &RecoveryTable) -> Policy {
    let default = Policy::default();
    let ms = Duration::from_millis;
    let why_period = "below, every busy moment looks like a failure; above, no failure is found within a minute";
    let why_ack = "it must cover a round trip with some load, and leave time for indirect probes";
    let period = detection.probe_period.as_deref();
    let ack = detection.probe_ack.as_deref();
    let probe_period =
        on.duration("detection.probe_period", period, default.probe_period, (ms(100), ms(10_000)), why_period);
    let probe_ack = on.duration("detection.probe_ack", ack, default.probe_ack, (ms(10), ms(5_000)), why_ack);
    if probe_ack * 2 >= probe_period {
        on.refuse(
            "detection.probe_ack",
            format!("must be under half of detection.probe_period = {}", shown(probe_period)),
            "because the indirect probes, which take as long again, must end within the period (SWIM section 4.1)",
        );
    }
    let why = "k of SWIM: 0 would judge by one's own network alone; more than 10 is traffic without gain";
    let indirect = on.number("detection.indirect_probes", detection.indirect_probes, 3, (1, 10), why);
    let why = "1 leaves hardly time to refute; 20 is half a minute for 100 hosts";
    let factor = detection.suspicion_factor;
    let suspicion_factor = on.number("detection.suspicion_factor", factor, default.suspicion_factor, (1, 20), why);
    let why = "an ipmi session takes four round trips at least; a minute per try is an outage";
    let device_timeout = on.duration(
        "fencing.device_timeout",
        fencing.device_timeout.as_deref(),
        default.device_timeout,
        (ms(1_000), ms(60_000)),
        why,
    );
    let why = "a proof takes two off reads (I2); they are a second apart";
    let off_polls = on.number("fencing.off_polls", fencing.off_polls, default.off_polls, (2, 120), why);
    let why = "one try meets one lost packet; after ten a person should look";
    let fence_tries = on.number("fencing.fence_tries", fencing.fence_tries, default.fence_tries, (1, 10), why);
    let why = "0 would recover nothing; Nova's conductor and the destinations suffer above some dozens";
    let at_once = u32::try_from(default.evacuations_at_once).unwrap_or(u32::MAX);
    let at_once = on.number("recovery.evacuations_at_once", recovery.evacuations_at_once, at_once, (1, 256), why);
    let why = "each try waits until the one before is final; after ten a person should look";
    let tries = recovery.evacuate_tries;
    let evacuate_tries = on.number("recovery.evacuate_tries", tries, default.evacuate_tries, (1, 10), why);
    let why = "an evacuate call that left no trace may still be on its way through proxies and queues (I11)";
    let bounds = (ms(5_000), ms(3_600_000));
    let settle = recovery.evacuate_settle.as_deref();
    let evacuate_settle = on.duration("recovery.evacuate_settle", settle, default.evacuate_settle, bounds, why);
    Policy {
        probe_period,
        probe_ack,
        indirect_probes: u8::try_from(indirect).unwrap_or(default.indirect_probes),
        suspicion_factor,
        device_timeout,
        off_polls,
        fence_tries,
        evacuations_at_once: usize::try_from(at_once).unwrap_or(default.evacuations_at_once),
        evacuate_tries,
        evacuate_settle,
        local_disk: match recovery.local_disk {
            Some(LocalDiskWord::Rebuild) => LocalDisk::Rebuild,
            Some(LocalDiskWord::Leave) => LocalDisk::Leave,
            None => default.local_disk,
        },
        readmission: match recovery.readmission {
            Some(ReadmissionWord::Auto) => Readmission::Auto,
            Some(ReadmissionWord::Manual) => Readmission::Manual,
            None => default.readmission,
        },
        self_fence: fencing.self_fence.unwrap_or(default.self_fence),
        after_recovery: fencing.after_recovery.unwrap_or(default.after_recovery),
        kdump: kdump(on, fencing),
        on_agent_death: match detection.on_agent_death {
            Some(OnAgentDeathWord::Fence) => OnAgentDeath::Fence,
            Some(OnAgentDeathWord::Alarm) => OnAgentDeath::Alarm,
            None => default.on_agent_death,
        },
        life_ports: paths::life_ports(on, detection.life_ports.as_deref()).unwrap_or(default.life_ports),
        paths: default.paths,
        lock: match recovery.lock {
            Some(LockWord::Never) => LockServers::Never,
            Some(LockWord::Altered) => LockServers::Altered,
            Some(LockWord::Always) => LockServers::Always,
            None => default.lock,
        },
        capacity_every: default.capacity_every,
        hooks: default.hooks,
        webhook: default.webhook,
        processes: default.processes,
        on_shutdown: on_shutdown(on, recovery.on_shutdown.as_deref(), default.on_shutdown),
        select: select::select(on, &recovery.select),
        order: select::order(on, &recovery.order),
        add_reserved_host_to_aggregate: recovery
            .add_reserved_host_to_aggregate
            .unwrap_or(default.add_reserved_host_to_aggregate),
    }
}

/// Both, or the first alone, or neither.
fn kdump(on: &mut Checker, fencing: &FencingTable) -> KdumpPolicy {
    let off = KdumpPolicy::default();
    let why = "a crash kernel needs that long to boot; every recovery of a host that has power waits so long";
    let bounds = (Duration::from_secs(5), Duration::from_secs(300));
    let wait = on.duration("fencing.kdump_wait", fencing.kdump_wait.as_deref(), off.wait, bounds, why);
    let why = "it must be longer than a dump takes; nobody's servers run until then, and anybody can send such words";
    let bounds = (Duration::from_secs(30), Duration::from_secs(3_600));
    let longest = on.duration("fencing.kdump_longest", fencing.kdump_longest.as_deref(), off.longest, bounds, why);
    if fencing.kdump_wait.is_none() && fencing.kdump_longest.is_some() {
        on.refuse("fencing.kdump_longest", "must not be there without fencing.kdump_wait", "no word is listened for");
    }
    KdumpPolicy { wait, longest }
}

/// `"wait 10m"`, `"recover"` or `"ignore"`.
fn on_shutdown(on: &mut Checker, given: Option<&str>, default: OnShutdown) -> OnShutdown {
    let key = "recovery.on_shutdown";
    match given {
        None => default,
        Some("recover") => OnShutdown::Recover,
        Some("ignore") => OnShutdown::Ignore,
        Some(given) => {
            let Some(wait) = given.strip_prefix("wait ") else {
                let why = "a host that says that it reboots is waited for, recovered at once, or left alone";
                on.refuse(key, "must be \"wait DURATION\", \"recover\" or \"ignore\"", why);
                return default;
            };
            let OnShutdown::Wait(default) = default else { return default };
            let bounds = (Duration::from_secs(10), Duration::from_secs(24 * 3_600));
            let why = "a server needs minutes to boot; after a day nobody is waiting for it any more";
            OnShutdown::Wait(on.duration(key, Some(wait.trim()), default, bounds, why))
        }
    }
}

fn nova(on: &mut Checker, table: &NovaTable, select: &SelectPolicy) -> NovaSettings {
    if table.cloud.is_empty() {
        on.refuse("nova.cloud", "must not be empty", "it names an entry of clouds_file");
    }
    let why = "evacuate may take seconds to answer; an intent whose call left no trace is closed after 120 s (I11), \
               and every call must be over by then";
    let bounds = (Duration::from_secs(1), NOVA_TIMEOUT_MAX);
    NovaSettings {
        clouds_file: on.path("nova.clouds_file", table.clouds_file.as_deref().unwrap_or("clouds.yaml")),
        cloud: table.cloud.clone(),
        timeout: on.duration("nova.timeout", table.timeout.as_deref(), NOVA_TIMEOUT, bounds, why),
        keys: select.keys(),
    }
}

/// `"5m"`, or `"off"`.
fn capacity_every(on: &mut Checker, table: &NovaTable) -> Option<Duration> {
    let given = table.capacity_every.as_deref();
    if given == Some("off") {
        return None;
    }
    let why = "each reading is two calls of Placement for every host; after a day it says nothing about today. \"off\" \
               reads nothing";
    let bounds = (Duration::from_secs(30), Duration::from_secs(24 * 3_600));
    Some(on.duration("nova.capacity_every", given, CAPACITY_EVERY, bounds, why))
}

fn hypervisor(on: &mut Checker, table: &LibvirtTable, role: MemberRole) -> HypervisorSettings {
    let settings = match (table.uri.as_deref(), role) {
        (Some("off"), _) | (None, MemberRole::Witness) => return HypervisorSettings::Off,
        (None, MemberRole::Member) => HypervisorSettings::Libvirt("qemu:///system".to_owned()),
        (Some(uri), _) => match uri.strip_prefix("guests+unix://") {
            Some(path) if path.starts_with('/') => HypervisorSettings::Socket(PathBuf::from(path)),
            None if uri.contains(":///") || uri.contains("://") => HypervisorSettings::Libvirt(uri.to_owned()),
            Some(_) | None => {
                on.refuse(
                    "libvirt.uri",
                    "must be a libvirt URI, \"off\", or \"guests+unix:///path\"",
                    "\"qemu:///system\" is what Nova's hypervisors use",
                );
                HypervisorSettings::Off
            }
        },
    };
    if role == MemberRole::Witness {
        on.refuse(
            "libvirt.uri",
            "must be \"off\" where member.role = \"witness\"",
            "a witness votes and watches, has no guests and is never fenced: guests here would not be protected",
        );
    }
    settings
}

fn log(table: &LogTable) -> LogSettings {
    LogSettings { format: table.format.unwrap_or(LogFormat::Text), target: table.target.unwrap_or(LogTarget::Journald) }
}
