//! A reading, made ready for many questions about it, and the answer for one loss.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_proto::capacity::{Amounts, ClassLine, LossLine, UnfitLine};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, ServerId};

use super::{CapacityQuestion, CapacityReading, NAMED_MAX, Node, Refuge};

/// Amounts by the class' position in [`Site::classes`].
type Row = Vec<u64>;

/// A reading, made ready for many questions about it.
pub(super) struct Site<'a> {
    classes: Vec<&'a str>,
    pub(super) hosts: BTreeMap<&'a HostName, Place<'a>>,
    nodes: Vec<Bin<'a>>,
    pub(super) closed: BTreeMap<&'a HostName, Text>,
    /// Capacity over all open nodes: what makes amounts of different classes comparable.
    capacity: Row,
    pub(super) twice: usize,
    /// Reserved hosts by the hosts that they are kept for.
    refuges: BTreeMap<&'a HostName, &'a Refuge>,
}

/// A host.
pub(super) struct Place<'a> {
    pub(super) open: bool,
    nodes: Vec<usize>,
    /// Its servers, largest first.
    servers: Vec<Item<'a>>,
}

/// A node's room.
struct Bin<'a> {
    host: &'a HostName,
    open: bool,
    up: bool,
    capacity: Row,
    used: Row,
    free: Row,
    max_unit: Row,
}

#[derive(Clone)]
struct Item<'a> {
    host: &'a HostName,
    server: ServerId,
    wants: Row,
    /// Its largest share of the whole site's capacity in any class, in billionths.
    size: u64,
}

impl<'a> Site<'a> {
    pub(super) fn of(reading: &'a CapacityReading, question: &'a CapacityQuestion) -> Self {
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
            refuges: question.refuges.iter().collect(),
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
                    place.servers.push(Item { host: &node.host, server: *server, wants, size });
                }
            }
        }
        site.twice = seen.values().filter(|hosts| hosts.len() > 1).count();
        site
    }

    fn bin(&self, node: &'a Node, open: bool) -> Bin<'a> {
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
        Bin { host: &node.host, open, up: node.up, capacity, used, free, max_unit }
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

    fn sum<'b>(&'b self, of: impl Fn(&'b Bin<'a>) -> &'b [u64]) -> Row {
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
    pub(super) fn weight(&self, host: &HostName) -> u64 {
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
    pub(super) fn lose(&self, lost: &[&HostName], work: &mut u64) -> LossLine {
        let mut items: Vec<&Item<'_>> = Vec::new();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        for place in lost.iter().filter_map(|host| self.hosts.get(*host)) {
            items.extend(&place.servers);
            gone.extend(&place.nodes);
        }
        // One that holds resources on two of the lost hosts is one server, and is moved once.
        items.sort_by(|a, b| (b.size, &b.wants, a.server).cmp(&(a.size, &a.wants, b.server)));
        let mut moved: BTreeSet<ServerId> = BTreeSet::new();
        items.retain(|item| moved.insert(item.server));
        let reserved: BTreeSet<&HostName> =
            lost.iter().filter_map(|host| self.refuges.get(*host)).flat_map(|refuge| &refuge.hosts).collect();
        let may_receive = |at: &usize| {
            let bin = &self.nodes[*at];
            !gone.contains(at) && (bin.open || (bin.up && reserved.contains(bin.host)))
        };
        let open: Vec<usize> = (0..self.nodes.len()).filter(may_receive).collect();
        let mut free: Vec<Row> = open.iter().map(|at| self.nodes[*at].free.clone()).collect();
        let mut unfit: Vec<&Item<'_>> = Vec::new();
        // Rooms only shrink: of equal servers of one host, the next need not look where the one before found none.
        let (mut from, mut before): (usize, Option<&Item<'_>>) = (0, None);
        for item in &items {
            if before.is_none_or(|before| before.wants != item.wants || before.host != item.host) {
                from = 0;
            }
            before = Some(item);
            let takes = |from: usize, free: &[Row]| {
                let bin = &self.nodes[open[from]];
                self.may_go(item, bin) && fits(&item.wants, &free[from], &bin.max_unit)
            };
            while from < open.len() && !takes(from, &free) {
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

    /// Whether a server may be built on a node at all, by the method of its host's segment.
    fn may_go(&self, item: &Item<'_>, bin: &Bin<'_>) -> bool {
        match self.refuges.get(item.host) {
            None => bin.open,
            Some(refuge) => refuge.hosts.contains(bin.host) || (bin.open && !refuge.only),
        }
    }

    /// Why a server found no room: what no host has even before anything was moved, or that others took it.
    fn why(&self, item: &Item<'_>, open: &[usize]) -> Text {
        let open: Vec<usize> = open.iter().copied().filter(|at| self.may_go(item, &self.nodes[*at])).collect();
        if open.is_empty() {
            return "no host is left that may receive it".into();
        }
        for (at, wants) in item.wants.iter().enumerate().filter(|(_, wants)| **wants > 0) {
            let room = |bin: &Bin<'_>| bin.free[at].min(bin.max_unit[at]);
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

    pub(super) fn class_lines(&self) -> Vec<ClassLine> {
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
