//! The rules of a scenario that its types do not say.

use std::collections::BTreeSet;

use rekindle_coordinator::ledger::STANDBYS_MAX;
use rekindle_proto::status::Phase;

use super::{Event, Expect, Scenario, ScenarioError, Trigger};
use crate::deed::{Deed, Target, Targets, host_number};

/// Most hypervisors: what rekindle is built for.
pub const HOSTS_MAX: usize = 2_000;
/// Most events: a story nobody can read is no story.
pub const EVENTS_MAX: usize = 1_000;
/// Most servers on a host: more than any hypervisor carries.
pub const SERVERS_MAX: usize = 1_000;
/// Most seeds of one scenario in one go; more are `rekindle sim random`'s.
const SEEDS_MAX: u64 = 100_000;

impl Scenario {
    /// Checks the rules; [`Scenario::parse`] does so too.
    ///
    /// # Errors
    /// [`ScenarioError::Rule`] about the first that is broken.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        let name_fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = !self.name.is_empty() && self.name.len() <= 64 && self.name.bytes().all(name_fits);
        must(is_name, "name", &self.name, "1 to 64 small letters, digits and dashes")?;
        must(
            !self.about.trim().is_empty(),
            "about",
            "",
            "a paragraph that says what happens and what must come of it",
        )?;
        must((1..=SEEDS_MAX).contains(&self.seeds), "seeds", self.seeds, "1 to 100000")?;
        self.check_cluster()?;
        for (name, percent) in self.weather.percentages() {
            must(percent.unwrap_or(0) <= 100, &format!("weather.{name}"), percent.unwrap_or(0), "0 to 100 percent")?;
        }
        if let Some(heal) = self.heal {
            must(heal < self.end, "heal", heal, &format!("before the end, {}", self.end))?;
        }
        must(self.events.len() <= EVENTS_MAX, "number of events", self.events.len(), "at most 1000")?;
        for (index, event) in self.events.iter().enumerate() {
            self.check_event(&format!("event {} ({})", index + 1, event.deed.kind()), event)?;
        }
        for (index, expect) in self.expects.iter().enumerate() {
            self.check_expect(&format!("expect {}", index + 1), expect)?;
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), ScenarioError> {
        let cluster = &self.cluster;
        must((1..=3).contains(&cluster.paths), "cluster.paths", cluster.paths, "1 to 3: management, storage, tenant")?;
        self.check_segments()?;
        if !cluster.members.is_empty() {
            return self.check_members();
        }
        let members = cluster.hosts + cluster.witnesses;
        must((1..=HOSTS_MAX).contains(&cluster.hosts), "cluster.hosts", cluster.hosts, "1 to 2000 hypervisors")?;
        must(cluster.witnesses <= 7, "cluster.witnesses", cluster.witnesses, "at most 7: only voters are of use")?;
        must([1, 3, 5, 7].contains(&cluster.voters), "cluster.voters", cluster.voters, "1, 3, 5 or 7")?;
        must(
            cluster.voters <= members,
            "cluster.voters",
            cluster.voters,
            &format!("at most as many as there are members, {members}"),
        )?;
        must(
            cluster.standbys <= STANDBYS_MAX && cluster.voters + cluster.standbys <= members,
            "cluster.standbys",
            cluster.standbys,
            &format!(
                "at most {STANDBYS_MAX}, and members that do not vote: {}",
                members.saturating_sub(cluster.voters)
            ),
        )?;
        must(
            cluster.domains <= cluster.hosts,
            "cluster.domains",
            cluster.domains,
            &format!("at most one a hypervisor, {}", cluster.hosts),
        )?;
        must(cluster.servers <= SERVERS_MAX, "cluster.servers", cluster.servers, "at most 1000 on a hypervisor")
    }

    /// Each host in one segment at most, and none unknown; the cluster's own names are looked at where they are used.
    fn check_segments(&self) -> Result<(), ScenarioError> {
        let segments = &self.cluster.segments;
        let hosts: Vec<_> = segments.iter().flat_map(|segment| segment.hosts.iter().chain(&segment.reserved)).collect();
        let names: BTreeSet<_> = hosts.iter().collect();
        must(names.len() == hosts.len(), "cluster.segment", hosts.len(), "each host in one segment, once")?;
        let of_segments = hosts.into_iter().map(|host| ("cluster.segment", host));
        for (thing, host) in of_segments.chain(self.cluster.failing.iter().map(|host| ("cluster.failing", host))) {
            let known = Targets(vec![Target::Host(host.to_string())]);
            self.check_targets(thing, &known)?;
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), ScenarioError> {
        let members = &self.cluster.members;
        must(
            self.cluster.standbys == 0,
            "cluster.standbys",
            self.cluster.standbys,
            "none where the members are given by name",
        )?;
        must(members.len() <= HOSTS_MAX, "number of cluster.member", members.len(), "at most 2000")?;
        let names: BTreeSet<_> = members.iter().map(|member| &member.host).collect();
        must(names.len() == members.len(), "cluster.member", members.len(), "each name once")?;
        let votes = members.iter().filter(|member| member.votes).count();
        must((1..=7).contains(&votes), "cluster.member: votes", votes, "1 to 7 of them vote")?;
        for member in members {
            let thing = format!("cluster.member {}: servers", member.host);
            must(member.servers <= SERVERS_MAX, &thing, member.servers, "at most 1000 on a hypervisor")?;
            must(!member.witness || member.servers == 0, &thing, member.servers, "a witness has none")?;
        }
        Ok(())
    }

    fn check_event(&self, thing: &str, event: &Event) -> Result<(), ScenarioError> {
        let waits = match &event.trigger {
            Trigger::At { at } => {
                must(*at <= self.end, &format!("{thing}: at"), at, &format!("not after the end, {}", self.end))?;
                false
            }
            Trigger::When(when) => {
                if let Some(of) = &when.of {
                    must(!of.needs_it(), &format!("{thing}: of"), of, "hosts by name: `it` is who it will be")?;
                    self.check_targets(&format!("{thing}: of"), of)?;
                }
                true
            }
        };
        if let Some(lasts) = event.lasts {
            must(
                event.deed.inverse().is_some(),
                &format!("{thing}: for"),
                lasts,
                "this deed cannot be taken back: write what ends it as an event of its own",
            )?;
        }
        for (key, targets) in event.deed.targets() {
            let thing = format!("{thing}: {key}");
            must(!targets.0.is_empty(), &thing, "[]", "at least one host")?;
            must(
                waits || !targets.needs_it(),
                &thing,
                targets,
                "`it` and `destination` are about the host of a phase: the event needs `when`",
            )?;
            self.check_targets(&thing, targets)?;
        }
        if let Some(path) = event.deed.path() {
            let paths = self.cluster.paths;
            must(
                path.index() < paths,
                &format!("{thing}: path"),
                format!("{path:?}"),
                &format!("cluster.paths is {paths}"),
            )?;
        }
        if let Deed::Order { order, hosts } = &event.deed {
            must(
                order.is_about_a_host() == hosts.is_some(),
                &format!("{thing}: hosts"),
                hosts.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string),
                "arm and disarm are about the cluster; every other order is about a host",
            )?;
        }
        if let Deed::Weather(words) = &event.deed {
            for (name, percent) in words.percentages() {
                let thing = format!("{thing}: {name}");
                must(percent.unwrap_or(0) <= 100, &thing, percent.unwrap_or(0), "0 to 100 percent")?;
            }
        }
        Ok(())
    }

    fn check_expect(&self, thing: &str, expect: &Expect) -> Result<(), ScenarioError> {
        for (key, targets) in [("hosts", &expect.hosts), ("fenced", &expect.fenced), ("recovered", &expect.recovered)] {
            let Some(targets) = targets else { continue };
            let thing = format!("{thing}: {key}");
            must(
                targets.0.iter().all(is_lasting),
                &thing,
                targets,
                "hosts by name, range or domain: who leads changes",
            )?;
            self.check_targets(&thing, targets)?;
        }
        let claims_of_hosts = expect.claims_of_hosts();
        must(
            expect.hosts.is_some() || claims_of_hosts.is_empty(),
            &format!("{thing}: {}", claims_of_hosts.join(", ")),
            "without hosts",
            "such a claim is about hosts: add `hosts = \"cmp-05\"`",
        )?;
        must(
            expect.hosts.is_none() || !claims_of_hosts.is_empty(),
            &format!("{thing}: hosts"),
            expect.hosts.as_ref().map_or_else(String::new, ToString::to_string),
            "nothing is claimed of them: story, ends, reaches, stuck, held, incidents",
        )?;
        must(
            expect.reaches.is_some() || (expect.by.is_none() && expect.not_before.is_none()),
            &format!("{thing}: by, not-before"),
            "without reaches",
            "say which phase: `reaches = \"recovered\"`",
        )?;
        must(expect.claims() > 0, thing, "{}", "it claims nothing")?;
        let suspects = |phase: &Phase| *phase == Phase::Suspect;
        must(
            !expect.ends.as_ref().is_some_and(suspects),
            &format!("{thing}: ends"),
            "suspect",
            "a suspicion is no incident: it becomes one, or is refuted",
        )
    }

    fn check_targets(&self, thing: &str, targets: &Targets) -> Result<(), ScenarioError> {
        let cluster = &self.cluster;
        let known = |name: &str| match cluster.members.is_empty() {
            true => {
                let of = |prefix: &str, count: usize| {
                    host_number(name, prefix).is_some_and(|number| (1..=count).contains(&number))
                };
                of("cmp-", cluster.hosts) || of("wit-", cluster.witnesses)
            }
            false => cluster.members.iter().any(|member| member.host.as_str() == name),
        };
        let strangers = targets.strangers(known, cluster.domains);
        must(
            strangers.is_empty(),
            thing,
            strangers.join(", "),
            &format!(
                "the cluster has {} hypervisors (cmp-01 …), {} witnesses (wit-1 …) and {} domains (rack-1 …)",
                cluster.hosts, cluster.witnesses, cluster.domains
            ),
        )
    }
}

/// Whether it means the same hosts at all times.
fn is_lasting(target: &Target) -> bool {
    match target {
        Target::Host(_) | Target::Range(..) | Target::Domain(_) | Target::Hosts | Target::Witnesses | Target::All => {
            true
        }
        Target::Leader
        | Target::Follower
        | Target::Followers
        | Target::Voters
        | Target::It
        | Target::Destination
        | Target::Healthy => false,
    }
}

fn must(holds: bool, thing: &str, value: impl ToString, rule: &str) -> Result<(), ScenarioError> {
    if holds {
        return Ok(());
    }
    Err(ScenarioError::Rule { thing: thing.to_owned(), value: value.to_string(), rule: rule.to_owned() })
}
