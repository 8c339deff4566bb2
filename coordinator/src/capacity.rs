//! Would the servers of lost hosts find room on the others? Pure: from one reading of Placement and the ledger's word on
//! which hosts are closed. The adapter that has read computes it too, beside the loop: with 2,000 hosts it takes longer than
//! a probe may.
//!
//! First fit, largest first, on what is free by (total - reserved) · ratio - used. That is an estimate on both sides: Nova
//! weighs hosts otherwise, and knows traits, aggregates, affinity and NUMA; and another order might fit what this one does
//! not.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::capacity::{Amounts, CapacityDoc, ClassLine, LOSE_MAX, LossLine, UnfitLine};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, ServerId, WallTime};
use serde::{Deserialize, Serialize};

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
}

impl CapacityQuestion {
    /// The loss of any one host: what is asked every few minutes.
    #[must_use]
    pub fn any_one(closed: BTreeMap<HostName, Text>) -> Self {
        Self { lose: 1, host: None, closed }
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

/// Amounts by the class' position in [`Site::classes`].
type Row = Vec<u64>;

/// A reading, made ready for many questions about it.
struct Site<'a> {
    classes: Vec<&'a str>,
    hosts: BTreeMap<&'a HostName, Place>,
    nodes: Vec<Bin>,
    closed: BTreeMap<&'a HostName, Text>,
    /// Capacity over all open nodes: what makes amounts of different classes comparable.
    capacity: Row,
    twice: usize,
}

/// A host.
struct Place {
    open: bool,
    nodes: Vec<usize>,
    /// Its servers, largest first.
    servers: Vec<Item>,
}

/// A node's room.
struct Bin {
    open: bool,
    capacity: Row,
    used: Row,
    free: Row,
    max_unit: Row,
}

#[derive(Clone)]
struct Item {
    server: ServerId,
    wants: Row,
    /// Its largest share of the whole site's capacity in any class, in billionths.
    size: u64,
}

impl<'a> Site<'a> {
    fn of(reading: &'a CapacityReading, question: &CapacityQuestion) -> Self {
        let stocked = reading.nodes.iter().flat_map(|node| node.stock.iter().map(|(class, _)| class.as_str()));
        let wanted = reading.nodes.iter().flat_map(|node| node.servers.values()).flat_map(BTreeMap::keys);
        let classes: BTreeSet<&str> = stocked.chain(wanted.map(String::as_str)).collect();
        let mut site = Self {
            classes: classes.into_iter().collect(),
            hosts: BTreeMap::new(),
            nodes: Vec::new(),
            closed: BTreeMap::new(),
            capacity: Row::new(),
            twice: 0,
        };
        for node in &reading.nodes {
            let why = match question.closed.get(&node.host) {
                Some(why) => Some(why.clone()),
                None if !node.up => Some("its compute service is down".into()),
                None if !node.enabled => Some("its compute service is disabled".into()),
                None => None,
            };
            let bin = site.bin(node, why.is_none());
            let place = Place { open: false, nodes: Vec::new(), servers: Vec::new() };
            let place = site.hosts.entry(&node.host).or_insert(place);
            place.open |= why.is_none();
            place.nodes.push(site.nodes.len());
            site.nodes.push(bin);
            site.closed.extend(why.map(|why| (&node.host, why)));
        }
        site.capacity = site.sum(|bin| if bin.open { &bin.capacity } else { &[] });
        let mut seen: BTreeMap<ServerId, BTreeSet<&HostName>> = BTreeMap::new();
        for node in &reading.nodes {
            for (server, wants) in &node.servers {
                seen.entry(*server).or_default().insert(&node.host);
                let wants = site.row(wants);
                let size = site.size(&wants);
                if let Some(place) = site.hosts.get_mut(&node.host) {
                    place.servers.push(Item { server: *server, wants, size });
                }
            }
        }
        site.twice = seen.values().filter(|hosts| hosts.len() > 1).count();
        site
    }

    fn bin(&self, node: &Node, open: bool) -> Bin {
        let (mut capacity, mut max_unit) = (vec![0; self.classes.len()], vec![0; self.classes.len()]);
        for (class, stock) in &node.stock {
            if let Some(at) = self.position(class) {
                capacity[at] = u64::saturating_add(capacity[at], stock.capacity());
                max_unit[at] = u64::max(max_unit[at], stock.max_unit);
            }
        }
        let mut used: Row = vec![0; self.classes.len()];
        for wants in node.servers.values() {
            for (at, amount) in self.row(wants).into_iter().enumerate() {
                used[at] = used[at].saturating_add(amount);
            }
        }
        let free = capacity.iter().zip(&used).map(|(capacity, used)| capacity.saturating_sub(*used)).collect();
        Bin { open, capacity, used, free, max_unit }
    }

    fn position(&self, class: &str) -> Option<usize> {
        self.classes.binary_search(&class).ok()
    }

    fn row(&self, amounts: &Amounts) -> Row {
        self.classes.iter().map(|class| amounts.get(*class).copied().unwrap_or(0)).collect()
    }

    fn amounts(&self, row: &[u64]) -> Amounts {
        let named = self.classes.iter().zip(row).filter(|(_, amount)| **amount > 0);
        named.map(|(class, amount)| ((*class).to_owned(), *amount)).collect()
    }

    fn sum<'b>(&'b self, of: impl Fn(&'b Bin) -> &'b [u64]) -> Row {
        let mut sum = vec![0_u64; self.classes.len()];
        for bin in &self.nodes {
            for (at, amount) in of(bin).iter().enumerate() {
                sum[at] = sum[at].saturating_add(*amount);
            }
        }
        sum
    }

    fn size(&self, wants: &[u64]) -> u64 {
        let share = |(wants, capacity): (&u64, &u64)| {
            u64::try_from(u128::from(*wants) * 1_000_000_000 / u128::from((*capacity).max(1))).unwrap_or(u64::MAX)
        };
        wants.iter().zip(&self.capacity).map(share).max().unwrap_or(0)
    }

    /// What the loss of a host takes: its servers want room, and its own room is gone.
    fn weight(&self, host: &HostName) -> u64 {
        let Some(place) = self.hosts.get(host) else { return 0 };
        let lost = |at: usize| {
            let bin = &self.nodes[at];
            let rows = bin.used.iter().zip(&bin.free);
            let row: Row = rows.map(|(used, free)| used.saturating_add(if bin.open { *free } else { 0 })).collect();
            self.size(&row)
        };
        place.nodes.iter().map(|at| lost(*at)).fold(0, u64::saturating_add)
    }

    /// The loss of these hosts at once.
    fn lose(&self, lost: &[&HostName], work: &mut u64) -> LossLine {
        let mut items: Vec<&Item> = Vec::new();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        for place in lost.iter().filter_map(|host| self.hosts.get(*host)) {
            items.extend(&place.servers);
            gone.extend(&place.nodes);
        }
        // One that holds resources on two of the lost hosts is one server, and is moved once.
        items.sort_by(|a, b| (b.size, &b.wants, a.server).cmp(&(a.size, &a.wants, b.server)));
        let mut moved: BTreeSet<ServerId> = BTreeSet::new();
        items.retain(|item| moved.insert(item.server));
        let open: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].open && !gone.contains(at)).collect();
        let mut free: Vec<Row> = open.iter().map(|at| self.nodes[*at].free.clone()).collect();
        let mut unfit: Vec<&Item> = Vec::new();
        // Rooms only shrink: of equal servers, the next need not look where the one before found none.
        let (mut from, mut before): (usize, Option<&Item>) = (0, None);
        for item in &items {
            if before.is_none_or(|before| before.wants != item.wants) {
                from = 0;
            }
            before = Some(item);
            while from < open.len() && !fits(&item.wants, &free[from], &self.nodes[open[from]].max_unit) {
                from += 1;
            }
            *work += u64::try_from(from).unwrap_or(u64::MAX) + 1;
            match free.get_mut(from) {
                Some(room) => room.iter_mut().zip(&item.wants).for_each(|(free, wants)| *free -= wants),
                None => unfit.push(item),
            }
        }
        let mut short = vec![0_u64; self.classes.len()];
        for item in &unfit {
            short.iter_mut().zip(&item.wants).for_each(|(short, wants)| *short = short.saturating_add(*wants));
        }
        let named = unfit.iter().take(NAMED_MAX).map(|item| UnfitLine {
            server: item.server,
            wants: self.amounts(&item.wants),
            why: self.why(item, &open),
        });
        LossLine {
            hosts: lost.iter().map(|host| (*host).clone()).collect(),
            servers: u32::try_from(items.len()).unwrap_or(u32::MAX),
            unfit: u32::try_from(unfit.len()).unwrap_or(u32::MAX),
            short: self.amounts(&short),
            named: named.collect(),
        }
    }

    /// Why a server found no room: what no host has even before anything was moved, or that others took it.
    fn why(&self, item: &Item, open: &[usize]) -> Text {
        if open.is_empty() {
            return "no host is left that may receive servers".into();
        }
        for (at, wants) in item.wants.iter().enumerate().filter(|(_, wants)| **wants > 0) {
            let room = |bin: &Bin| bin.free[at].min(bin.max_unit[at]);
            let most = open.iter().map(|node| room(&self.nodes[*node])).max().unwrap_or(0);
            if most < *wants {
                let class = self.classes[at];
                return Text::new(format!("wants {class} {wants}; the most that one host has free is {most}"));
            }
        }
        let alone = |at: &&usize| fits(&item.wants, &self.nodes[**at].free, &self.nodes[**at].max_unit);
        if open.iter().any(|at| alone(&at)) {
            "the other lost servers took the room".into()
        } else {
            "no one host has enough of every class free".into()
        }
    }

    fn class_lines(&self) -> Vec<ClassLine> {
        let open = || self.nodes.iter().filter(|bin| bin.open);
        let line = |(at, class): (usize, &&str)| ClassLine {
            class: (*class).to_owned(),
            capacity: open().map(|bin| bin.capacity[at]).fold(0, u64::saturating_add),
            used: open().map(|bin| bin.used[at]).fold(0, u64::saturating_add),
            most_free: open().map(|bin| bin.free[at]).max().unwrap_or(0),
        };
        self.classes.iter().enumerate().map(line).collect()
    }
}

fn fits(wants: &[u64], free: &[u64], max_unit: &[u64]) -> bool {
    wants.iter().zip(free).zip(max_unit).all(|((wants, free), max)| *wants == 0 || (wants <= free && wants <= max))
}

/// The ways to lose so many hosts, among the heaviest if there are too many.
struct Ways<'a> {
    fixed: Option<&'a HostName>,
    among: Vec<&'a HostName>,
    /// Positions in `among`, ascending; `None`: all were given.
    next: Option<Vec<usize>>,
    /// How many there are over all hosts.
    of: u64,
}

impl<'a> Ways<'a> {
    fn new(site: &Site<'a>, host: Option<&HostName>, lose: usize) -> Self {
        let fixed = host.and_then(|host| site.hosts.get_key_value(host)).map(|(host, _)| *host);
        let mut among: Vec<&HostName> = site.hosts.keys().copied().filter(|other| Some(*other) != fixed).collect();
        let choose = if fixed.is_some() { lose - 1 } else { lose };
        let of = ways(among.len(), choose);
        // The heaviest first: where not all can be tried, those are that leave the least room.
        among.sort_by_cached_key(|host| (std::cmp::Reverse(site.weight(host)), *host));
        while among.len() > choose && ways(among.len(), choose) > LOSSES_MAX {
            among.pop();
        }
        Self { fixed, among, next: Some((0..choose).collect()), of }
    }
}

impl<'a> Iterator for Ways<'a> {
    type Item = Vec<&'a HostName>;

    fn next(&mut self) -> Option<Self::Item> {
        let chosen = self.next.take()?;
        let mut hosts: Vec<&HostName> = self.fixed.into_iter().chain(chosen.iter().map(|at| self.among[*at])).collect();
        hosts.sort();
        let mut following = chosen;
        let (count, all) = (following.len(), self.among.len());
        if let Some(at) = (0..count).rev().find(|at| following[*at] + (count - at) < all) {
            following[at] += 1;
            for later in at + 1..count {
                following[later] = following[later - 1] + 1;
            }
            self.next = Some(following);
        }
        Some(hosts)
    }
}

/// `n` over `k`, up to what a number holds.
fn ways(n: usize, k: usize) -> u64 {
    let mut ways: u128 = 1;
    for step in 0..k.min(n) {
        ways = ways.saturating_mul((n - step) as u128) / (step as u128 + 1);
    }
    if k > n { 0 } else { u64::try_from(ways).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests;
