//! Processes of hosts that are down for good, and the compute services that we disabled for it.
//!
//! That we disable a service is written down before it is done, and the reason that Nova then shows carries the incident's
//! number: by both together, and by nothing else, any later leader knows that the service is ours to enable.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{BootId, HostName, IncidentId, ProcessName, WallTime};
use rekindle_proto::process::ProcessReport;
use rekindle_proto::status::{Phase, StoryLine};
use serde::{Deserialize, Serialize};

use super::incident::Turn;
use super::state::Ledger;

/// Longest reason that Nova stores, in characters (nova/db/main/models.py, `Service.disabled_reason`).
const REASON_CHARS_MAX: usize = 255;

/// What is known of a host's processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessBook {
    /// Its last own word.
    pub word: Option<ProcessWord>,
    /// A person has enabled or disabled the compute service while a process was down: it is left alone until all processes
    /// were well again.
    pub overruled: bool,
}

/// A host's own word about its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessWord {
    /// When.
    pub at: WallTime,
    /// In which boot.
    pub boot: BootId,
    /// What.
    pub report: ProcessReport,
}

/// A process of a living host is down for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIncident {
    /// Its number.
    pub id: IncidentId,
    /// Where.
    pub host: HostName,
    /// Which.
    pub process: ProcessName,
    /// When it was found.
    pub began: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// `unclean`; then `recovered` (the process is back), or `refuted` (somebody else took the matter over).
    pub phase: Phase,
    /// Whether Nova was seen to show the service as disabled by us. Until then it is our intent.
    pub disabled: bool,
    /// For people.
    pub story: Vec<StoryLine>,
    /// Its changes of phase, for the outside.
    pub turns: Vec<Turn>,
    /// The last of them that the webhook has taken.
    pub told: u32,
}

impl ProcessIncident {
    /// Whether the service is still a matter of ours.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// What Nova shows as the reason while the service is disabled for this.
    #[must_use]
    pub fn reason(&self) -> Text {
        let Self { id, host, process, .. } = self;
        let full = format!("rekindle: {process} is down for good on {host} ({id})");
        let fits = full.chars().count() <= REASON_CHARS_MAX;
        Text::new(if fits { full } else { format!("rekindle: a process is down for good ({id})") })
    }
}

impl Ledger {
    /// The open process incident of a host. There is at most one.
    #[must_use]
    pub fn open_process(&self, host: &HostName) -> Option<&ProcessIncident> {
        self.processes.values().find(|process| process.is_open() && process.host == *host)
    }

    /// A host's word about its processes, if it was given in the boot in which it last spoke.
    #[must_use]
    pub fn process_word(&self, host: &HostName) -> Option<&ProcessReport> {
        let record = self.host(host)?;
        let word = record.processes.word.as_ref()?;
        let current = record.pulse.as_ref().is_none_or(|pulse| pulse.boot == word.boot);
        current.then_some(&word.report)
    }

    /// Whether, as far as the ledger knows, the compute service of a host may be enabled or disabled for its processes' sake.
    ///
    /// # Errors
    /// Why not, for people. Whatever is wrong with the host itself comes first: its servers are recovered with it.
    pub fn may_touch_service(&self, host: &HostName) -> Result<(), Text> {
        if !self.is_hypervisor(host) {
            return Err(Text::new(format!("{host} is no hypervisor of the roster")));
        }
        if let Some(open) = self.open_incident(host) {
            return Err(Text::new(format!("incident {} of {host} is open", open.id)));
        }
        let record = self.host(host);
        if let Some(id) = record.and_then(|record| record.quarantine) {
            return Err(Text::new(format!("{host} is quarantined since incident {id}")));
        }
        if let Some(id) = record.and_then(|record| record.forced_down) {
            return Err(Text::new(format!("its compute service is forced down since incident {id}")));
        }
        match self.brakes_of(host) {
            Some(brake) => Err(brake),
            None => Ok(()),
        }
    }
}
