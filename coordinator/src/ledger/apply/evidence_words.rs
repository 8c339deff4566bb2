//! What an incident's story says of the evidence: enough to judge each decision by, from the ledger's own figures.

use rekindle_proto::id::{HostName, IncidentId};

use super::super::entry::{OffReads, ProofRecord, TestimonyRecord, VerdictRecord};
use super::super::incident::FenceAttempt;
use super::super::rate::RateClaim;
use super::super::state::Ledger;
use crate::brake;
use crate::verdict::brake_needs;

/// Most testimonies told one by one. A verdict needs three at most; who else said so is in the line before it.
const TOLD_MAX: usize = 5;

/// Who found what, on which networks.
pub(super) fn testimony(verdict: &VerdictRecord) -> String {
    let one = |record: &TestimonyRecord| {
        let paths: Vec<String> = record
            .findings
            .iter()
            .map(|finding| match finding.heard {
                None => format!("{}: no answer", finding.path),
                Some(boot) => format!("{}: answered in boot {boot}", finding.path),
            })
            .collect();
        let signs = match record.signs.len() {
            0 => String::new(),
            count => format!(", {count} signs of life"),
        };
        format!("{} after {} ms ({}{signs})", record.accuser, record.after_ms, paths.join(", "))
    };
    let told: Vec<String> = verdict.testimonies.iter().take(TOLD_MAX).map(one).collect();
    let more = verdict.testimonies.len().saturating_sub(TOLD_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("testimony: {}{more}", told.join("; "))
}

/// When each device was read and what it said, by its own order's leader.
pub(super) fn readings(proof: &ProofRecord, attempt: &FenceAttempt, executor: Option<&HostName>) -> String {
    let devices: Vec<String> = proof
        .devices
        .iter()
        .map(|reads| {
            if reads.unverified {
                return format!("{} said that it did it, UNVERIFIED: nothing can be read of it", reads.device);
            }
            let before = if reads.seen_going_off { "on before the order" } else { "not seen on before the order" };
            let OffReads { device, after_ms, apart_ms, .. } = reads;
            format!("{device} {before}, off {after_ms} ms after it, read again {apart_ms} ms later")
        })
        .collect();
    let by = match &attempt.leader {
        Some(host) => format!("{host}, leader of term {}", attempt.term),
        None => format!("the leader of term {}", attempt.term),
    };
    let by = executor.map_or_else(|| by.clone(), |host| format!("{host}, for {by}"));
    format!("readings of attempt {}, by {by}: {}", attempt.attempt, devices.join("; "))
}

impl Ledger {
    /// The guards that let an incident be opened, each with its figures.
    pub(super) fn guards_of_opening(&self, host: &HostName, verdict: &VerdictRecord) -> String {
        let mut guards = self.guards(host);
        let roster = self.roster.len();
        guards.push(format!("roll call {} of {roster} (need {})", verdict.present, brake_needs(roster)));
        if let Some(domain) = self.roster.get(host).and_then(|entry| entry.domain.clone()) {
            let (_, open, cap) = brake::domain_figures(self, &domain);
            guards.push(format!("{domain} has {open} of at most {cap} incidents"));
        }
        format!("guards: {}", guards.join(", "))
    }

    /// The guards that let an off order be given, each with its figures.
    pub(super) fn guards_of_fence(&self, id: IncidentId, claim: RateClaim) -> String {
        let mut guards = self.incidents.get(&id).map_or_else(Vec::new, |incident| self.guards(&incident.host));
        let waited = self.rate.waited(claim).as_secs();
        guards.push(match (self.rate.incidents.contains(&id), self.rate.in_storm) {
            (true, _) => "already counted by the fence rate".to_owned(),
            (false, 0) => "no fence in this storm before it".to_owned(),
            (false, fenced) => format!("{fenced} fenced in this storm, {waited} s since the last"),
        });
        format!("guards: {}", guards.join(", "))
    }

    fn guards(&self, host: &HostName) -> Vec<String> {
        let mut guards = vec!["armed".to_owned(), "not in maintenance".to_owned()];
        if self.epoch.number > 0 {
            let (seen, roster) = (brake::seen_of_roster(self), self.roster.len());
            guards.push(format!("{seen} of {roster} seen in epoch {}", self.epoch.number));
        }
        if self.lift_of(host).is_some() {
            guards.push("brakes lifted by an operator".to_owned());
        }
        guards
    }
}
