//! A world at its start.

use rekindle_coordinator::ledger::{HostRecord, LEDGER_FORMAT};
use rekindle_coordinator::policy::{DeviceRule, Unverified};
use rekindle_coordinator::recovery::pattern_fits;
use rekindle_proto::fact::RosterEntry;
use rekindle_proto::id::DomainName;

use super::*;

/// Names of the networks, `management` first.
const PATHS: [&str; 3] = ["management", "storage", "tenant"];

/// The name of a path by number; of the last one, if there is none.
///
/// # Panics
/// If a constant name of its own were malformed.
#[must_use]
pub fn path_name(index: usize) -> PathName {
    PathName::new(PATHS[index.min(PATHS.len() - 1)]).expect("a constant")
}

impl World {
    /// The world of a plan, at its start.
    ///
    /// # Panics
    /// If a constant name of its own were malformed.
    #[must_use]
    pub fn build(plan: &Plan) -> Self {
        let paths: Vec<PathName> = (0..plan.paths.clamp(1, PATHS.len())).map(path_name).collect();
        let cluster = ClusterName::new("sim").expect("a constant");
        let roster = roster(plan);
        let mut ledger = Ledger::new(cluster.clone());
        ledger.arming.armed = plan.armed;
        ledger.format = plan.ledger_format.unwrap_or(LEDGER_FORMAT);
        segments::put(&mut ledger, &plan.segments);
        let authority = crate::authority::Authority::new(&cluster);
        ledger.operator_ca = authority.ca().to_vec();
        for entry in &roster {
            ledger.roster.insert(entry.host.clone(), entry.clone());
            ledger.hosts.insert(entry.host.clone(), HostRecord::default());
        }
        let (first, standbys) = keepers(plan, &roster);
        let mut keepers: Vec<Ix> = first.iter().chain(&standbys).copied().collect();
        keepers.sort_unstable();
        let mut world = Self {
            now: Moment::ZERO,
            queue: Queue::new(),
            rng: StdRng::seed_from_u64(plan.seed),
            hosts: Vec::with_capacity(roster.len()),
            index: BTreeMap::new(),
            net: network::Net::new(roster.len()),
            life: Default::default(),
            nova: Nova::default(),
            nova_down: false,
            nova_inside_down: false,
            raft: History::new(ledger),
            seats: seats::Seats::new(!standbys.is_empty()),
            voters: first.clone(),
            last_voters: first.clone(),
            first,
            keepers,
            pending: BTreeMap::new(),
            wishes: Vec::new(),
            weather: plan.weather,
            dies_claiming: plan.dies_claiming,
            policy: plan.policy.clone(),
            processes: processes::ProcessBook::default(),
            cluster,
            paths,
            log: Vec::new(),
            violation: None,
            oracle: Oracle::taking_words(plan.unverified),
            fenced: Vec::new(),
            suspicions: Vec::new(),
            counters: BTreeMap::new(),
            operator: Some(Box::new(authority)),
            queries: 0,
            records: plan.records,
            watcher: Default::default(),
        };
        let config = Arc::new(Config::of(&world.first));
        world.raft.found(config.clone());
        for (ix, entry) in roster.iter().enumerate() {
            world.add_host(ix, entry, plan, &config);
        }
        for aggregate in &plan.aggregates {
            world.nova.add_aggregate(&aggregate.name, aggregate.zone.as_deref(), &aggregate.hosts);
        }
        world.put_in_states(plan.odd_servers, plan.seed);
        let known = plan.formed.then(|| world.form());
        for ix in 0..roster.len() {
            world.begin_daemon(ix, known.as_ref());
        }
        // Once for all of them.
        world.recount();
        if plan.formed {
            world.end_forming();
        }
        world.schedule(NOVA_HEARTBEAT, Happening::Heartbeat);
        world
    }

    fn add_host(&mut self, ix: Ix, entry: &RosterEntry, plan: &Plan, config: &Arc<Config>) {
        let name = entry.host.clone();
        if entry.role == MemberRole::Member {
            self.nova.add_host(name.clone());
            let reserved = self.reserve(&name, plan);
            self.nova.set_failing(&name, plan.failing.contains(&name));
            let servers = plan.members.get(ix).map_or(plan.servers, |member| member.servers);
            for server in 0..if reserved { 0 } else { servers } {
                let id = ServerId(Uuid::from_u128((ix as u128 + 1) << 64 | (server as u128 + 1)));
                let called = format!("vm-{ix}-{server}");
                self.nova.boot(id, &called, &name);
                for dress in plan.dresses.iter().filter(|dress| pattern_fits(&dress.name, &called)) {
                    self.nova.dress(id, dress);
                }
            }
        }
        self.index.insert(name.clone(), ix);
        let addresses: Vec<SocketAddr> = (0..self.paths.len()).map(|path| network::address(ix, path)).collect();
        let boot = BootId(Uuid::from_u128(ix as u128 + 1));
        let card = Peer { host: name.clone(), boot, incarnation: Incarnation(0), address: addresses[0] };
        self.hosts.push(Host {
            member: MemberId::of(&name),
            name,
            role: entry.role,
            addresses,
            boot,
            booted: None,
            incarnation: Incarnation(0),
            uuid: SystemUuid(Uuid::from_u128(0xabcd_0000 + ix as u128 + 1)),
            powered: true,
            has_supply: true,
            kernel: true,
            frozen: false,
            suspended: None,
            starved: false,
            bmc: Bmc::Honest,
            bmc_leads_to: ix,
            running: false,
            coordinator: None,
            leads: None,
            start: 0,
            tick: None,
            clock: Clock::default(),
            backlog: VecDeque::new(),
            card: Arc::new(card),
            node: self.keepers.contains(&ix).then(|| match self.first.contains(&ix) {
                true => Node::first(ix, config.clone()),
                false => Node::new(ix),
            }),
            raft_tick: None,
            disk: Disk::Good,
            tears_next: false,
            gate: plan.gates,
            // Before the world began, its compute service was let start.
            opened: plan.gates.then_some(boot),
            fed: None,
            opened_by: None,
            watchdog_held: false,
            tape: None,
        });
    }

    pub(super) fn setup(&mut self, ix: Ix) -> Setup {
        let seed = self.rng.random();
        // A daemon is configured with its voters and some others; a line for each of 2,000 members is nobody's file.
        let seeds = self.first.iter().copied().chain(0..self.hosts.len().min(8));
        let seeds: BTreeSet<Ix> = seeds.filter(|seed| *seed != ix).collect();
        let host = &self.hosts[ix];
        let rule = |hosts: &str, address: &str| DeviceRule {
            hosts: hosts.to_owned(),
            level: 1,
            driver: "sim".to_owned(),
            address: address.to_owned(),
            unverified: if self.oracle.takes_words { Unverified::Accept } else { Unverified::Refuse },
        };
        Setup {
            cluster: self.cluster.clone(),
            host: host.name.clone(),
            role: host.role,
            boot: host.boot,
            incarnation: host.incarnation,
            listen: self.paths.iter().cloned().zip(host.addresses.iter().copied()).collect(),
            system_uuid: Some(host.uuid),
            seeds: seeds.into_iter().map(|seed| self.hosts[seed].addresses[0].to_string()).collect(),
            voters: self.first.iter().map(|voter| self.hosts[*voter].name.clone()).collect(),
            keepers: self.keepers.iter().map(|keeper| self.hosts[*keeper].name.clone()).collect(),
            generation: None,
            operator_ca: self.raft.ledger().operator_ca.clone(),
            devices: vec![rule("*", "{host}-bmc")],
            policy: Policy { processes: processes::rules(), ..self.policy.clone() },
            seed,
            booted: host.booted,
        }
    }
}

fn roster(plan: &Plan) -> Vec<RosterEntry> {
    if !plan.members.is_empty() {
        return plan.members.iter().map(|member| member.entry.clone()).collect();
    }
    let name = |text: String| HostName::new(&text).expect("a legal name");
    let hypervisor = |number: usize| RosterEntry {
        host: name(format!("cmp-{:02}", number + 1)),
        role: MemberRole::Member,
        domain: (plan.domains > 0).then(|| {
            let rack = number * plan.domains / plan.hosts.max(1) + 1;
            DomainName::new(&format!("rack-{rack}")).expect("a legal name")
        }),
    };
    let witness = |number: usize| RosterEntry {
        host: name(format!("wit-{}", number + 1)),
        role: MemberRole::Witness,
        domain: None,
    };
    (0..plan.hosts).map(hypervisor).chain((0..plan.witnesses).map(witness)).collect()
}

/// Voters and standbys: witnesses first, then hypervisors, of one domain after the other.
fn keepers(plan: &Plan, roster: &[RosterEntry]) -> (Vec<Ix>, Vec<Ix>) {
    if !plan.members.is_empty() {
        return ((0..roster.len()).filter(|ix| plan.members[*ix].votes).collect(), Vec::new());
    }
    let mut order: Vec<(usize, usize, Ix)> = Vec::new();
    let mut of_domain: BTreeMap<Option<&DomainName>, usize> = BTreeMap::new();
    for (ix, entry) in roster.iter().enumerate() {
        let count = of_domain.entry(entry.domain.as_ref()).or_default();
        *count += 1;
        order.push((usize::from(entry.role == MemberRole::Member), *count, ix));
    }
    order.sort_unstable();
    let mut voters: Vec<Ix> = order.into_iter().map(|(_, _, ix)| ix).collect();
    let mut standbys = voters.split_off(plan.voters.clamp(1, voters.len()));
    standbys.truncate(plan.standbys);
    voters.sort_unstable();
    (voters, standbys)
}
