//! Every threshold, with its unit, default, bound and source; and who we are.

use std::net::SocketAddr;
use std::time::Duration;

use rekindle_proto::admin::SignedOrder;
use rekindle_proto::fact::{DeviceName, MemberRole};
use rekindle_proto::id::{BootId, ClusterName, HostName, Incarnation, PathName, SystemUuid};
use serde::{Deserialize, Serialize};

use crate::hook::HookRule;
use crate::ledger::OnShutdown;
use crate::paths::PathMatrix;
use crate::process::ProcessRule;
use crate::recovery::{AT_ONCE_MAX, OrderPolicy, SelectPolicy};
use crate::time::Moment;

/// Who we are and with whom we belong: fixed for the process' life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Our cluster.
    pub cluster: ClusterName,
    /// Our name.
    pub host: HostName,
    /// Hypervisor or witness.
    pub role: MemberRole,
    /// This boot.
    pub boot: BootId,
    /// Our life number, already raised and persisted.
    pub incarnation: Incarnation,
    /// Where we listen, per path, `management` first. Never empty.
    pub listen: Vec<(PathName, SocketAddr)>,
    /// Our machine's UUID, from DMI or configured.
    pub system_uuid: Option<SystemUuid>,
    /// `host:port` of members to join by.
    pub seeds: Vec<String>,
    /// Who votes at first.
    pub voters: Vec<HostName>,
    /// Who may keep the ledger: the first voters, and the standbys that may take their places. Nobody else is believed to lead.
    pub keepers: Vec<HostName>,
    /// The CA certificate of the cluster (DER): the only one whose first roster we would propose.
    pub operator_ca: Vec<u8>,
    /// Which fence devices belong to which hosts.
    pub devices: Vec<DeviceRule>,
    /// Thresholds.
    pub policy: Policy,
    /// Seed of every random choice; logged at start.
    pub seed: u64,
    /// When this machine booted, on its own monotonic clock (a daemon's restart is no boot). `None`: long before that clock
    /// began.
    pub booted: Option<Moment>,
    /// The latest generation of voters known from before, and the order that proves it.
    pub generation: Option<(u64, SignedOrder)>,
}

impl Setup {
    /// How long ago this machine booted.
    #[must_use]
    pub fn boot_age(&self, now: Moment) -> Duration {
        self.booted.map_or(Duration::MAX, |booted| now.since(booted))
    }

    /// The path of everything that is not a probe: the first.
    ///
    /// # Panics
    /// If `listen` is empty, which its doc forbids: a programmer's error, met at start.
    #[must_use]
    pub fn main_path(&self) -> PathName {
        self.listen[0].0.clone()
    }
}

/// Thresholds an operator may change. Defaults are those of the design; every relation between them is checked where
/// the configuration is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// SWIM protocol period: one member is probed each. SWIM section 4.
    pub probe_period: Duration,
    /// How long a direct probe may take before others are asked to probe. Must be under half of `probe_period`.
    pub probe_ack: Duration,
    /// Members asked to probe in our stead. SWIM's k.
    pub indirect_probes: u8,
    /// Suspicion lasts `suspicion_factor · log10(N) · probe_period`, at least one period.
    pub suspicion_factor: u32,
    /// How long one try of a fence device may take, command and reads apart each.
    pub device_timeout: Duration,
    /// Off reads polled per attempt, one a second.
    pub off_polls: u32,
    /// Attempts per topology level.
    pub fence_tries: u32,
    /// Most evacuations under way at once, over all incidents: the pace adapts below it ([`crate::recovery::Pace`]).
    pub evacuations_at_once: usize,
    /// Evacuate attempts per server.
    pub evacuate_tries: u32,
    /// How long after an evacuate call whose record has not appeared it may still have an effect: at least every HTTP,
    /// proxy and RPC time-out on the way (I11).
    pub evacuate_settle: Duration,
    /// What to do with servers whose disks die with the host.
    pub local_disk: LocalDisk,
    /// What is done about a host that said that it reboots or powers off.
    pub on_shutdown: OnShutdown,
    /// Whether hosts live under their own watchdog, and one that ran out is proof, after all fence devices. Off: nobody is
    /// ever reset because a network failed.
    pub self_fence: bool,
    /// What to do with a host whose daemon is dead and whose kernel lives, once nothing of its userland has been seen for
    /// [`crate::life::LAPSE`].
    pub on_agent_death: OnAgentDeath,
    /// TCP ports at which services of a living host say their first words, or its kernel says no. At most
    /// [`crate::life::PORTS_MAX`].
    pub life_ports: Vec<u16>,
    /// What a pattern of failed networks means.
    pub paths: PathMatrix,
    /// Who lets a fenced host back.
    pub readmission: Readmission,
    /// Which servers are locked while they are recovered.
    pub lock: LockServers,
    /// Which servers of a dead host are recovered.
    pub select: SelectPolicy,
    /// In which order.
    pub order: OrderPolicy,
    /// Between two readings of Placement, by which `why` and a metric tell whether the servers of a host would find room.
    /// `None`: it is not read.
    pub capacity_every: Option<Duration>,
    /// Commands of the site, in the order of the configuration; at most [`crate::hook::HOOKS_MAX`].
    pub hooks: Vec<HookRule>,
    /// Whether changes of phase are posted to the site.
    pub webhook: bool,
    /// Processes of this host that are watched; at most [`rekindle_proto::process::PROCESSES_MAX`].
    #[serde(default)]
    pub processes: Vec<ProcessRule>,
    /// A reserved host that is taken joins the aggregates of the dead host first.
    #[serde(default)]
    pub add_reserved_host_to_aggregate: bool,
    /// What becomes of a fenced host once its failure is settled.
    #[serde(default)]
    pub after_recovery: AfterRecovery,
    /// How long a host whose kernel may have crashed is left to write its dump.
    #[serde(default)]
    pub kdump: KdumpPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(500),
            probe_ack: Duration::from_millis(200),
            indirect_probes: 3,
            suspicion_factor: 3,
            device_timeout: Duration::from_secs(5),
            off_polls: 20,
            fence_tries: 3,
            evacuations_at_once: AT_ONCE_MAX,
            evacuate_tries: 3,
            evacuate_settle: Duration::from_secs(120),
            local_disk: LocalDisk::Leave,
            on_shutdown: OnShutdown::Wait(Duration::from_secs(600)),
            self_fence: false,
            on_agent_death: OnAgentDeath::Alarm,
            life_ports: vec![22],
            paths: PathMatrix::default(),
            readmission: Readmission::Auto,
            lock: LockServers::Altered,
            select: SelectPolicy::default(),
            order: OrderPolicy::default(),
            capacity_every: None,
            hooks: Vec::new(),
            webhook: false,
            processes: Vec::new(),
            add_reserved_host_to_aggregate: false,
            after_recovery: AfterRecovery::LeaveOff,
            kdump: KdumpPolicy::default(),
        }
    }
}

/// How long the first off order of an incident waits for a crash dump ([`crate::policy::Policy::kdump`]). Every recovery of a
/// host that has power takes `wait` longer, so it is off unless a site asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KdumpPolicy {
    /// For a first word of its crash kernel, which has to boot first. Zero: not at all.
    pub wait: Duration,
    /// From that word at most, whatever comes after it: they are not authenticated.
    pub longest: Duration,
}

impl KdumpPolicy {
    /// Whether crash kernels are listened to.
    #[must_use]
    pub fn is_on(self) -> bool {
        !self.wait.is_zero()
    }
}

impl Default for KdumpPolicy {
    fn default() -> Self {
        Self { wait: Duration::ZERO, longest: Duration::from_secs(600) }
    }
}

/// What becomes of a fenced host once its failure is settled. Only one with a boot gate is ever powered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterRecovery {
    /// It stays off: a person powers it on.
    #[default]
    LeaveOff,
    /// It is powered on, and comes back like any other.
    PowerOn,
    /// It is powered on, and stays quarantined, its gate closed, until a person lets it back.
    PowerOnQuarantine,
}

/// Who lets a fenced host back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readmission {
    /// The leader, once everything is settled, for hosts behind a boot gate.
    Auto,
    /// A person only: `rekindle release`, and `openstack compute service set --up`.
    Manual,
}

/// What becomes of a host whose daemon is dead while its kernel lives, after three minutes without a sign of its userland.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnAgentDeath {
    /// A person is called: stuck.
    Alarm,
    /// It is fenced like any other. (Not while its userland lives.)
    Fence,
}

/// Which servers are locked, in Nova, while they are recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockServers {
    /// None.
    Never,
    /// Those whose state has to be altered: one that is paused is in error meanwhile, and its owner should not act on that.
    Altered,
    /// Every one. Two more calls to Nova a server.
    Always,
}

/// What to do with a server that has a disk on the dead host alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LocalDisk {
    /// Leave it behind, with that reason.
    Leave,
    /// Let Nova rebuild it from its image: what was on the disk is lost.
    Rebuild,
}

/// Fence devices of the hosts a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// A host name, or a pattern with `*` for any run of characters. A rule with an exact name replaces all patterns.
    pub hosts: String,
    /// Topology level, 1 to 9: lower ones are tried first; all devices of a level must confirm.
    pub level: u8,
    /// The driver, as it is written: `ipmi-tool`, `agent:fence_apc`, `storage`.
    pub driver: String,
    /// Its address, with `{host}` for the host's name; of a device that has none, what tells it from every other.
    pub address: String,
    /// What an off is worth that cannot be read back.
    #[serde(default)]
    pub unverified: Unverified,
}

/// What it counts for that a device said that it cut its host off, where nothing can be read back: it has no status, or is a
/// storage fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unverified {
    /// Nothing: no level with it can confirm.
    #[default]
    Refuse,
    /// As much as two off reads: the operator trusts this device's word.
    Accept,
}

/// One fence device of one host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DevicePlan {
    /// Topology level.
    pub level: u8,
    /// `driver@address`.
    pub name: DeviceName,
}

impl DeviceRule {
    /// Whether it names the host in full.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.hosts.contains('*')
    }

    /// Whether it is about this host.
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        pattern_matches(self.hosts.as_bytes(), host.as_str().as_bytes())
    }

    /// The device it gives this host.
    #[must_use]
    pub fn device(&self, host: &HostName) -> DeviceName {
        DeviceName(format!("{}@{}", self.driver, self.address.replace("{host}", host.as_str())))
    }
}

/// The rules that hold for a host: those with its exact name if there are any, else every pattern that matches.
pub fn rules_for<'a>(rules: &'a [DeviceRule], host: &HostName) -> Vec<&'a DeviceRule> {
    let exact: Vec<&DeviceRule> = rules.iter().filter(|rule| rule.is_exact() && rule.matches(host)).collect();
    if exact.is_empty() { rules.iter().filter(|rule| rule.matches(host)).collect() } else { exact }
}

/// A host's devices, by level.
#[must_use]
pub fn ladder(rules: &[DeviceRule], host: &HostName) -> Vec<DevicePlan> {
    let mut plans: Vec<DevicePlan> = rules_for(rules, host)
        .into_iter()
        .map(|rule| DevicePlan { level: rule.level, name: rule.device(host) })
        .collect();
    plans.sort();
    plans.dedup();
    plans
}

/// `*` matches any run of bytes, everything else itself.
fn pattern_matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skip| pattern_matches(rest, &name[skip..])),
        Some((byte, rest)) => {
            name.split_first().is_some_and(|(first, tail)| first == byte && pattern_matches(rest, tail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(hosts: &str, address: &str) -> DeviceRule {
        DeviceRule {
            hosts: hosts.to_owned(),
            level: 1,
            driver: "ipmi-tool".to_owned(),
            address: address.to_owned(),
            unverified: Unverified::Refuse,
        }
    }

    #[test]
    fn an_exact_name_replaces_patterns() {
        let rules = [rule("cmp-*", "{host}-bmc"), rule("cmp-7", "10.0.0.7")];
        let name = |host: &str| -> Vec<String> {
            ladder(&rules, &HostName::new(host).expect("legal")).into_iter().map(|plan| plan.name.0).collect()
        };
        assert_eq!(name("cmp-1"), ["ipmi-tool@cmp-1-bmc"]);
        assert_eq!(name("cmp-7"), ["ipmi-tool@10.0.0.7"]);
        assert_eq!(name("ctl-1"), [""; 0]);
    }

    #[test]
    fn stars_match_any_run() {
        for (pattern, name, matches) in
            [("*", "x", true), ("a*c", "abc", true), ("a*c", "ac", true), ("a*c", "ab", false), ("a", "ab", false)]
        {
            assert_eq!(pattern_matches(pattern.as_bytes(), name.as_bytes()), matches, "{pattern} {name}");
        }
    }
}
