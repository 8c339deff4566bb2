//! Whether what was expected came.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_coordinator::ledger::{Fate, RehearsalEnd};
use rekindle_coordinator::time::Moment;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;

use super::{Expect, RehearsalWord, Watch};
use crate::deed::{Span, Targets, resolve};
use crate::world::World;

impl Expect {
    /// Its claims that are about single hosts, by key.
    pub(super) fn claims_of_hosts(&self) -> Vec<&'static str> {
        let claims = [
            ("story", self.story.is_some()),
            ("ends", self.ends.is_some()),
            ("reaches", self.reaches.is_some()),
            ("stuck", self.stuck.is_some()),
            ("held", self.held.is_some()),
            ("unheld", self.unheld.is_some()),
            ("rehearsal", self.rehearsal.is_some()),
            ("rehearsed", self.rehearsed.is_some()),
            ("incidents", self.incidents.is_some()),
            ("servers", self.servers.is_some()),
        ];
        claims.into_iter().filter(|(_, claimed)| *claimed).map(|(key, _)| key).collect()
    }

    /// How many claims it makes.
    pub(super) fn claims(&self) -> usize {
        let of_the_cluster = [
            self.fenced.is_some(),
            self.fenced_at_most.is_some(),
            self.fenced_at_least.is_some(),
            self.recovered.is_some(),
            self.running.is_some(),
            self.evacuations.is_some(),
            self.told.is_some(),
            self.untold.is_some(),
            self.begun.is_some(),
            self.up_again.is_some(),
            self.left_behind.is_some(),
            self.because.is_some(),
            self.reserved.is_some(),
            self.disabled.is_some(),
        ];
        self.claims_of_hosts().len() + of_the_cluster.into_iter().filter(|claimed| *claimed).count()
    }

    /// Each claim that does not hold, as a sentence: what was expected, and what was.
    pub(super) fn missed(&self, world: &World, watch: &Watch) -> Vec<String> {
        let mut missed = Vec::new();
        for host in self.hosts.iter().flat_map(|hosts| resolve(world, hosts, None)) {
            self.missed_of(&host, world, watch, &mut missed);
        }
        self.missed_of_cluster(world, &mut missed);
        missed
    }

    fn missed_of(&self, host: &HostName, world: &World, watch: &Watch, missed: &mut Vec<String>) {
        let story = watch.story_of(host);
        if let Some(expected) = &self.story
            && !is_subsequence(expected, &story)
        {
            missed.push(format!("{host}: expected {}, was {}", words(expected), words(&story)));
        }
        let incidents: Vec<_> = world.ledger().incidents.values().filter(|incident| incident.host == *host).collect();
        let last = incidents.last();
        if let Some(expected) = self.ends
            && last.map(|incident| incident.phase) != Some(expected)
        {
            let was = last.map_or_else(|| "no incident".to_owned(), |incident| incident.phase.to_string());
            missed.push(format!("{host}: expected to end {expected}, was {was} ({})", words(&story)));
        }
        if let Some(expected) = self.reaches {
            missed.extend(self.missed_time(host, expected, watch));
        }
        if let Some(expected) = &self.stuck {
            let stuck = last.filter(|incident| incident.phase == Phase::Stuck);
            let lines = stuck.map(|incident| &incident.story);
            let told =
                lines.is_some_and(|lines| lines.iter().any(|line| line.text.as_str().contains(expected.as_str())));
            if !told {
                let was = last.map_or_else(
                    || "no incident".to_owned(),
                    |incident| {
                        let why = incident.story.last().map(|line| line.text.to_string()).unwrap_or_default();
                        format!("{}: {why}", incident.phase)
                    },
                );
                missed.push(format!("{host}: expected to be stuck with {expected:?}, was {was}"));
            }
        }
        let holds = watch.holds.get(host).cloned().unwrap_or_default();
        let held_by = |words: &str| holds.iter().find(|why| why.contains(words));
        if let Some(expected) = self.held.as_ref().filter(|words| held_by(words).is_none()) {
            missed.push(format!("{host}: expected to be held by {expected:?}, was held by {holds:?}"));
        }
        if let Some(why) = self.unheld.as_ref().and_then(|words| held_by(words)) {
            missed.push(format!("{host}: expected not to be held by: {why}"));
        }
        missed.extend(self.missed_rehearsal(host, world));
        let runs = world.nova.guests_on(host).len();
        if let Some(expected) = self.servers.filter(|expected| *expected != runs) {
            missed.push(format!("{host}: expected {expected} servers to run there, run {runs}"));
        }
        if let Some(expected) = self.incidents.filter(|expected| *expected != incidents.len()) {
            missed.push(format!("{host}: expected {expected} incidents, were {} ({})", incidents.len(), words(&story)));
        }
    }

    fn missed_rehearsal(&self, host: &HostName, world: &World) -> Vec<String> {
        let last = world.ledger().last_rehearsal(host);
        let was = match last.map(|last| last.end) {
            None => RehearsalWord::None,
            Some(Some(RehearsalEnd::Passed)) => RehearsalWord::Passed,
            Some(Some(RehearsalEnd::Failed)) => RehearsalWord::Failed,
            Some(Some(RehearsalEnd::Stuck) | None) => RehearsalWord::Stuck,
        };
        let story: Vec<&str> = last.iter().flat_map(|last| &last.story).map(|line| line.text.as_str()).collect();
        let mut missed = Vec::new();
        if let Some(expected) = self.rehearsal.filter(|expected| *expected != was) {
            missed.push(format!("{host}: expected the rehearsal {expected:?}, was {was:?}: {story:?}"));
        }
        if let Some(words) = self.rehearsed.as_ref().filter(|words| !story.iter().any(|line| line.contains(*words))) {
            missed.push(format!("{host}: expected its rehearsal to tell {words:?}, told {story:?}"));
        }
        missed
    }

    fn missed_time(&self, host: &HostName, phase: Phase, watch: &Watch) -> Option<String> {
        let times = watch.reached.iter().filter(|reached| reached.host == *host && reached.phase == phase);
        let Some(first) = times.map(|reached| reached.at).min() else {
            return Some(format!("{host}: expected to reach {phase}, was {}", words(&watch.story_of(host))));
        };
        let at = |span: Span| Moment::ZERO + span.duration();
        if let Some(by) = self.by.filter(|by| first > at(*by)) {
            return Some(format!("{host}: expected {phase} by {by}, was at {first}"));
        }
        let early = self.not_before.filter(|bound| first < at(*bound))?;
        Some(format!("{host}: expected {phase} not before {early}, was at {first}"))
    }

    fn missed_of_cluster(&self, world: &World, missed: &mut Vec<String>) {
        missed_of_servers(self, world, missed);
        missed_of_segments(self, world, missed);
        let fenced: BTreeSet<HostName> = world.fenced.iter().map(|(_, host)| host.clone()).collect();
        let mut sets = |what: &str, expected: &Option<Targets>, was: &BTreeSet<HostName>| {
            let Some(expected) = expected else { return };
            let expected: BTreeSet<HostName> = resolve(world, expected, None).into_iter().collect();
            if expected != *was {
                missed.push(format!("expected {what}: {}; were: {}", names(&expected), names(was)));
            }
        };
        sets("powered off", &self.fenced, &fenced);
        let ended = world.ledger().incidents.values().filter(|incident| incident.phase == Phase::Recovered);
        sets("recovered", &self.recovered, &ended.map(|incident| incident.host.clone()).collect());
        if let Some(most) = self.fenced_at_most.filter(|most| fenced.len() > *most) {
            missed.push(format!("expected at most {most} powered off, were {}", names(&fenced)));
        }
        if let Some(least) = self.fenced_at_least.filter(|least| fenced.len() < *least) {
            missed.push(format!("expected at least {least} powered off, were {}", names(&fenced)));
        }
        let running = world.nova.servers().filter(|server| world.nova.copies(server.id) == 1).count();
        if let Some(expected) = self.running.filter(|expected| *expected != running) {
            missed.push(format!("expected {expected} servers to run, run {running}"));
        }
        let calls = world.nova.accepted.len();
        if let Some(expected) = self.evacuations.filter(|expected| *expected != calls) {
            missed.push(format!("expected {expected} evacuate calls, were {calls}"));
        }
        let tells = |words: &str| world.log().iter().find(|line| line.contains(words));
        if let Some(expected) = self.told.as_ref().filter(|words| tells(words).is_none()) {
            missed.push(format!("expected the story to tell {expected:?}"));
        }
        if let Some(line) = self.untold.as_ref().and_then(|words| tells(words)) {
            missed.push(format!("expected the story not to tell {:?}: {line}", self.untold.as_deref().unwrap_or("")));
        }
    }
}

/// What was expected of reserved hosts.
fn missed_of_segments(expect: &Expect, world: &World, missed: &mut Vec<String>) {
    let places = &world.ledger().segments.hosts;
    let reserved = places.iter().filter(|(_, place)| place.reserved).map(|(host, _)| host.clone()).collect();
    let disabled = world.nova.disabled().cloned().collect();
    let claims = [("reserved", &expect.reserved, reserved), ("disabled", &expect.disabled, disabled)];
    for (what, expected, was) in claims {
        let Some(expected) = expected else { continue };
        let expected: BTreeSet<HostName> = expected.iter().cloned().collect();
        if expected != was {
            missed.push(format!("expected {what}: {}; were: {}", names(&expected), names(&was)));
        }
    }
}

/// What was expected of the selection and the order of servers.
fn missed_of_servers(expect: &Expect, world: &World, missed: &mut Vec<String>) {
    if let Some(expected) = &expect.begun {
        let mut begun: Vec<String> = Vec::new();
        for server in world.nova.accepted.iter().filter_map(|(server, _)| world.nova.server(*server)) {
            if !begun.iter().any(|name| name == server.name.as_str()) {
                begun.push(server.name.to_string());
            }
        }
        if !is_subsequence(expected, &begun) {
            missed.push(format!("expected evacuations begun in this order: {expected:?}, were: {begun:?}"));
        }
    }
    if let Some(expected) = &expect.up_again {
        let names = world.nova.begun.iter().filter_map(|server| world.nova.server(*server));
        let mut up: Vec<String> = Vec::new();
        for name in names.map(|server| server.name.to_string()).filter(|name| expected.contains(name)) {
            up.retain(|other| *other != name);
            up.push(name);
        }
        if up != *expected {
            missed.push(format!("expected to run again in this order: {expected:?}, were: {up:?}"));
        }
    }
    let records = world.ledger().incidents.values().flat_map(|incident| incident.servers.values());
    let left = records.filter_map(|record| match &record.fate {
        Some(Fate::LeftBehind { why }) => Some((record.name.to_string(), why.to_string())),
        Some(Fate::Recovered { .. } | Fate::Deleted) | None => None,
    });
    let left: BTreeMap<String, String> = left.collect();
    if let Some(expected) = &expect.left_behind
        && !left.keys().eq(expected.iter().collect::<BTreeSet<_>>())
    {
        missed.push(format!("expected left behind: {expected:?}, were: {left:?}"));
    }
    if let Some(words) = &expect.because
        && !left.values().all(|why| why.contains(words.as_str()))
    {
        missed.push(format!("expected left behind because of {words:?}, were: {left:?}"));
    }
}

fn is_subsequence<T: PartialEq>(expected: &[T], was: &[T]) -> bool {
    let mut rest = was.iter();
    expected.iter().all(|one| rest.any(|other| other == one))
}

fn words(phases: &[Phase]) -> String {
    if phases.is_empty() {
        return "nothing".to_owned();
    }
    phases.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ")
}

fn names(hosts: &BTreeSet<HostName>) -> String {
    if hosts.is_empty() {
        return "nobody".to_owned();
    }
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
