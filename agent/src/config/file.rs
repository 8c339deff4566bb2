//! The file as it is written, before any rule was checked. Each key is optional here, so that a missing one is refused
//! with the same words as a wrong one, or gets its default in [`super::rules`].

use std::collections::BTreeMap;

use rekindle_coordinator::policy::{AfterRecovery, Unverified};
use rekindle_proto::fact::MemberRole;
use rekindle_proto::hook::HookPoint;
use rekindle_proto::id::{ClusterName, DomainName, HostName, PathName, ProcessName, SystemUuid};
use serde::Deserialize;

use super::{LogFormat, LogTarget};
use crate::bmc::{Privilege, RedfishAuth};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) member: MemberTable,
    pub(super) cluster: ClusterTable,
    #[serde(default)]
    pub(super) path_rule: Vec<PathRuleTable>,
    #[serde(default)]
    pub(super) detection: DetectionTable,
    #[serde(default)]
    pub(super) fencing: FencingTable,
    #[serde(default)]
    pub(super) fence_device: Vec<DeviceTable>,
    #[serde(default)]
    pub(super) hook: Vec<HookTable>,
    #[serde(default)]
    pub(super) process: Vec<ProcessTable>,
    #[serde(default)]
    pub(super) recovery: RecoveryTable,
    pub(super) nova: Option<NovaTable>,
    #[serde(default)]
    pub(super) libvirt: LibvirtTable,
    #[serde(default)]
    pub(super) notifications: NotificationsTable,
    #[serde(default)]
    pub(super) log: LogTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberTable {
    pub(super) host: HostName,
    pub(super) listen: String,
    #[serde(default)]
    pub(super) paths: BTreeMap<PathName, String>,
    pub(super) state_dir: Option<String>,
    pub(super) admin_socket: Option<String>,
    pub(super) metrics: Option<String>,
    pub(super) domain: Option<DomainName>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) role: MemberRole,
    pub(super) system_uuid: Option<SystemUuid>,
    pub(super) watchdog: Option<String>,
    #[serde(default)]
    pub(super) record: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterTable {
    pub(super) name: ClusterName,
    #[serde(default)]
    pub(super) seeds: Vec<String>,
    pub(super) voters: Vec<HostName>,
    #[serde(default)]
    pub(super) standbys: Vec<HostName>,
    #[serde(default)]
    pub(super) paths: Vec<PathName>,
    #[serde(default)]
    pub(super) tls: TlsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetectionTable {
    pub(super) probe_period: Option<String>,
    pub(super) probe_ack: Option<String>,
    pub(super) indirect_probes: Option<i64>,
    pub(super) suspicion_factor: Option<i64>,
    pub(super) on_agent_death: Option<OnAgentDeathWord>,
    pub(super) life_ports: Option<Vec<u16>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnAgentDeathWord {
    Alarm,
    Fence,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathRuleTable {
    #[serde(default)]
    pub(super) down: Vec<PathName>,
    #[serde(default)]
    pub(super) up: Vec<PathName>,
    pub(super) action: PathActionWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PathActionWord {
    None,
    Alarm,
    Recover,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FencingTable {
    pub(super) device_timeout: Option<String>,
    pub(super) off_polls: Option<i64>,
    pub(super) fence_tries: Option<i64>,
    pub(super) self_fence: Option<bool>,
    pub(super) after_recovery: Option<AfterRecovery>,
    pub(super) kdump_wait: Option<String>,
    pub(super) kdump_longest: Option<String>,
}

/// Which of the keys an entry may have, and which it must, is its driver's: [`super::drivers`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceTable {
    pub(super) hosts: String,
    pub(super) level: Option<i64>,
    pub(super) driver: String,
    pub(super) address: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) password_credential: Option<String>,
    pub(super) cipher_suite: Option<i64>,
    pub(super) cipher_suites: Option<Vec<i64>>,
    pub(super) privilege: Option<Privilege>,
    pub(super) k_g_file: Option<String>,
    pub(super) k_g_credential: Option<String>,
    pub(super) system: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) sha256_pin: Option<String>,
    #[serde(default)]
    pub(super) insecure_http: bool,
    pub(super) auth: Option<RedfishAuth>,
    #[serde(default)]
    pub(super) options: BTreeMap<String, OptionValue>,
    #[serde(default)]
    pub(super) option_files: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) option_credentials: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) command: Vec<String>,
    pub(super) unverified: Option<Unverified>,
}

/// An option of a fence agent, which takes everything as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a text, a whole number, or true or false")]
pub(super) enum OptionValue {
    Text(String),
    Number(i64),
    Switch(bool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HookTable {
    pub(super) on: HookPoint,
    pub(super) command: Vec<String>,
    pub(super) timeout: Option<String>,
    pub(super) on_failure: Option<OnFailureWord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnFailureWord {
    Continue,
    Hold,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecoveryTable {
    pub(super) evacuations_at_once: Option<i64>,
    pub(super) evacuate_tries: Option<i64>,
    pub(super) evacuate_settle: Option<String>,
    pub(super) local_disk: Option<LocalDiskWord>,
    pub(super) on_shutdown: Option<String>,
    pub(super) readmission: Option<ReadmissionWord>,
    pub(super) lock: Option<LockWord>,
    pub(super) add_reserved_host_to_aggregate: Option<bool>,
    #[serde(default)]
    pub(super) select: SelectTable,
    #[serde(default)]
    pub(super) order: OrderTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderTable {
    pub(super) wait_for_previous: Option<bool>,
    pub(super) group_timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectTable {
    pub(super) mode: Option<SelectModeWord>,
    pub(super) metadata_key: Option<String>,
    pub(super) error_servers: Option<ErrorServersWord>,
    #[serde(default)]
    pub(super) rule: Vec<SelectRuleTable>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReadmissionWord {
    Auto,
    Manual,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LockWord {
    Never,
    Altered,
    Always,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SelectModeWord {
    All,
    OnlyMarked,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ErrorServersWord {
    Recover,
    Leave,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SelectActionWord {
    Include,
    Exclude,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectRuleTable {
    pub(super) action: SelectActionWord,
    pub(super) reason: Option<String>,
    pub(super) server_name: Option<Patterns>,
    pub(super) project_id: Option<Patterns>,
    pub(super) project_name: Option<Patterns>,
    pub(super) flavor: Option<Patterns>,
    pub(super) aggregate: Option<Patterns>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, Patterns>,
    #[serde(default)]
    pub(super) extra_spec: BTreeMap<String, Patterns>,
    #[serde(default)]
    pub(super) image_property: BTreeMap<String, Patterns>,
    #[serde(default)]
    pub(super) aggregate_metadata: BTreeMap<String, Patterns>,
}

/// One pattern, or several of which any may fit.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a pattern, or a list of patterns")]
pub(super) enum Patterns {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LocalDiskWord {
    Leave,
    Rebuild,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NovaTable {
    pub(super) cloud: String,
    pub(super) clouds_file: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) capacity_every: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotificationsTable {
    pub(super) socket: Option<String>,
    pub(super) webhook: Option<String>,
    pub(super) webhook_secret_file: Option<String>,
    pub(super) webhook_ca_file: Option<String>,
    pub(super) webhook_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProcessTable {
    pub(super) name: ProcessName,
    pub(super) unit: Option<String>,
    pub(super) check: Option<Vec<String>>,
    pub(super) restart: Option<Vec<String>>,
    pub(super) restart_attempts: Option<i64>,
    pub(super) restart_delay: Option<String>,
    pub(super) on_down: Option<OnDownWord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnDownWord {
    Disable,
    Alarm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LibvirtTable {
    pub(super) uri: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogTable {
    pub(super) format: Option<LogFormat>,
    pub(super) target: Option<LogTarget>,
}
