//! Would the servers of lost hosts find room on the others? Pure: from one reading of Placement and the ledger's word on
//! which hosts are closed. The adapter that has read computes it too, beside the loop: with 2,000 hosts it takes longer than
//! a probe may.
//!
//! First fit, largest first, on what is free by (total - reserved) · ratio - used. That is an estimate on both sides: Nova
//! weighs hosts otherwise, and knows traits, aggregates, affinity and NUMA; and another order might fit what this one does
//! not.

mod site;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::capacity::{Amounts, CapacityDoc, LOSE_MAX, LossLine};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, ServerId, WallTime};
use serde::{Deserialize, Serialize};

use site::Site;
use ways::Ways;

/// A ratio of 1.
pub const RATIO_ONE: u64 = 1_000_000;

/// Losses tried for one question: all pairs of 200 hosts. Of more, those of the heaviest hosts.
const LOSSES_MAX: u64 = 20_000;

/// Comparisons of a server with a host, over all losses: some seconds of one core.
const WORK_MAX: u64 = 500_000_000;

/// Losses of several hosts that are shown.
const SHOWN_MAX: usize = 64;

/// Servers named per loss: the largest tell what is missing.
const NAMED_MAX: usize = 8;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityQuestion {
    /// How many hosts are lost at once, 1 to [`LOSE_MAX`].
    pub lose: u8,
    /// One of them, if a certain one is meant.
    pub host: Option<HostName>,
    /// Hosts that receive no servers whatever Nova says of them, and why.
    pub closed: BTreeMap<HostName, Text>,
    /// By host: the reserved hosts that its segment's method would take for its servers.
    #[serde(default)]
    pub refuges: BTreeMap<HostName, Refuge>,
}

/// The reserved hosts of a host's segment, where its method uses them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuge {
    /// Which: their compute services are disabled until they are taken.
    pub hosts: BTreeSet<HostName>,
    /// Its servers go nowhere else.
    pub only: bool,
}

impl CapacityQuestion {
    /// The loss of any one host: what is asked every few minutes.
    #[must_use]
    pub fn any_one(closed: BTreeMap<HostName, Text>, refuges: BTreeMap<HostName, Refuge>) -> Self {
        Self { lose: 1, host: None, closed, refuges }
    }
}

/// What Placement and Nova say of all compute nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityReading {
    /// When it was read.
    pub at: WallTime,
    /// Every compute node.
    pub nodes: Vec<Node>,
    /// What is to be known of the reading itself.
    pub notes: Vec<Text>,
}

/// A compute node with everything below it in Placement (NUMA cells, devices) as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Nova's service host. Several nodes may have the same.
    pub host: HostName,
    /// Whether its service is enabled.
    pub enabled: bool,
    /// Whether its service is up.
    pub up: bool,
    /// What it has, by class; several inventories of a class where providers are nested.
    pub stock: Vec<(String, Stock)>,
    /// What is allocated from it, by server (or by the migration that holds a server's resources).
    pub servers: BTreeMap<ServerId, Amounts>,
}

/// One inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    /// In all.
    pub total: u64,
    /// Not to be given away.
    pub reserved: u64,
    /// Allocation ratio, in millionths.
    pub ratio: u64,
    /// The most one server may have.
    pub max_unit: u64,
}

impl Stock {
    /// What may be given away: (total - reserved) · ratio, as Placement counts.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let whole = u128::from(self.total.saturating_sub(self.reserved)) * u128::from(self.ratio);
        u64::try_from(whole / u128::from(RATIO_ONE)).unwrap_or(u64::MAX)
    }
}

/// Answers the question.
///
/// # Errors
/// In words, if the question names a host that Nova has no compute node of, or more hosts than there are.
pub fn examine(reading: &CapacityReading, question: &CapacityQuestion) -> Result<CapacityDoc, Text> {
    let lose = usize::from(question.lose.clamp(1, LOSE_MAX));
    let site = Site::of(reading, question);
    let hosts: Vec<&HostName> = site.hosts.keys().copied().collect();
    if let Some(host) = question.host.as_ref().filter(|host| !hosts.contains(host)) {
        return Err(Text::new(format!("Nova has no compute node of host {host}")));
    }
    if hosts.len() < lose {
        return Err(Text::new(format!("Nova has {} hosts with a compute node; {lose} cannot be lost", hosts.len())));
    }
    let mut ways = Ways::new(&site, question.host.as_ref(), lose);
    let (mut tried, mut failing, mut work) = (0_u64, 0_u64, 0_u64);
    let mut losses: Vec<LossLine> = Vec::new();
    while work < WORK_MAX
        && let Some(lost) = ways.next()
    {
        let line = site.lose(&lost, &mut work);
        tried += 1;
        failing += u64::from(line.unfit > 0);
        if lose == 1 || line.unfit > 0 {
            losses.push(line);
        }
        if lose > 1 && losses.len() > 2 * SHOWN_MAX {
            worst_first(&mut losses);
            losses.truncate(SHOWN_MAX);
        }
    }
    worst_first(&mut losses);
    if lose > 1 {
        losses.truncate(SHOWN_MAX);
    }
    Ok(CapacityDoc {
        at: reading.at,
        lose: u8::try_from(lose).unwrap_or(LOSE_MAX),
        host: question.host.clone(),
        survives: failing == 0,
        tried,
        of: ways.of,
        failing,
        losses,
        classes: site.class_lines(),
        closed: site.closed.iter().map(|(host, why)| ((*host).clone(), why.clone())).collect(),
        open: u32::try_from(site.hosts.values().filter(|place| place.open).count()).unwrap_or(u32::MAX),
        notes: notes(reading, &site, tried < ways.of),
    })
}

/// What a host's loss would mean, in words, for `why`.
#[must_use]
pub fn told(line: &LossLine) -> String {
    let servers = line.servers;
    if line.unfit == 0 {
        return format!("its {servers} servers would find room on the others");
    }
    let short: Vec<String> = line.short.iter().map(|(class, amount)| format!("{class} {amount}")).collect();
    format!("{} of its {servers} servers would find no room; they want {}", line.unfit, short.join(", "))
}

fn worst_first(losses: &mut [LossLine]) {
    losses.sort_by(|a, b| (b.unfit, b.servers, &a.hosts).cmp(&(a.unfit, a.servers, &b.hosts)));
}

fn notes(reading: &CapacityReading, site: &Site<'_>, is_part: bool) -> Vec<Text> {
    let mut notes: Vec<Text> = vec![
        "an estimate: Nova's scheduler decides; traits, aggregates, availability zones, affinity, NUMA and PCI placement \
         are not looked at"
            .into(),
    ];
    if is_part {
        notes.push("not every loss was tried; those of the heaviest hosts were".into());
    }
    if site.twice > 0 {
        notes.push(Text::new(format!(
            "{} servers hold resources on several hosts (a move under way, or evacuated from a host that has not come \
             back) and are counted on each",
            site.twice
        )));
    }
    notes.extend(reading.notes.iter().cloned());
    notes
}

#[cfg(test)]
mod tests;
