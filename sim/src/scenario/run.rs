//! One scenario with one seed: its events at their times, the promises checked after every event of the world, then
//! liveness, then what was expected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_coordinator::ledger::{Fate, OperatorCommand, ServerRecord};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::NovaServer;
use rekindle_proto::id::HostName;
use rekindle_proto::status::Phase;

use super::{Scenario, Trigger, Watch};
use crate::deed::{Deed, OrderWord, Target, Targets, resolve};
use crate::oracle::{Violation, all_end};
use crate::world::World;

/// How often the ledger is looked at: the grain of times in expectations.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The same while events wait for phases: short against every step of a recovery, so that they fall in between.
const LOOK_CLOSELY: Duration = Duration::from_millis(5);
/// How often the leader is asked what it holds back, if a scenario expects something of it.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long after its end a run may go on until every incident has ended: settling times of lost calls, retries, and the
/// longest wait for another host's word.
const PATIENCE: Duration = Duration::from_secs(2_400);
/// Between two looks whether they have.
const PATIENT_STEP: Duration = Duration::from_secs(30);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its name: `runs-twice`.
    pub invariant: String,
    /// When.
    pub at: Moment,
    /// What was seen.
    pub text: String,
}

/// What came of one run.
#[derive(Debug)]
pub struct Outcome {
    /// With which seed.
    pub seed: u64,
    /// The broken promise, if one was.
    pub broken: Option<Broken>,
    /// Expectations that were not met, as sentences. Empty if a promise was broken: the run ended there.
    pub missed: Vec<String>,
    /// Deeds that befell somebody, by kind.
    pub faults: BTreeMap<String, u64>,
    /// How often each phase was reached.
    pub phases: BTreeMap<String, u64>,
    /// Virtual time that passed.
    pub simulated: Duration,
    /// Hypervisors and witnesses.
    pub members: usize,
    /// The story, a line an event.
    pub story: Vec<String>,
    /// Where the last incident of each host stands.
    pub ends: Vec<End>,
    /// Why hosts were held back; empty unless it was asked for.
    pub holds: BTreeMap<HostName, BTreeSet<String>>,
    /// Servers that run at the end.
    pub running: usize,
    /// Servers there are.
    pub servers: usize,
}

/// Where an incident stands at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Whose.
    pub host: HostName,
    /// Where it stands.
    pub phase: Phase,
    /// Its last word.
    pub text: String,
    /// Its servers that were recovered.
    pub recovered: usize,
    /// Its servers.
    pub servers: usize,
}

impl Outcome {
    /// Whether everything was as promised and expected.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken.is_none() && self.missed.is_empty()
    }
}

/// Runs a scenario with one seed.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Outcome {
    go(scenario, seed, scenario.expects.iter().any(|expect| expect.held.is_some() || expect.unheld.is_some()))
}

/// The same, and the leader is asked every second what it holds back.
#[must_use]
pub fn run_asking(scenario: &Scenario, seed: u64) -> Outcome {
    go(scenario, seed, true)
}

fn go(scenario: &Scenario, seed: u64, asks: bool) -> Outcome {
    let world = World::build(&scenario.cluster.plan(seed, scenario.weather()));
    let mut run = Run {
        asks,
        asked: Moment::ZERO,
        waiting: Vec::new(),
        due: BTreeMap::new(),
        faults: BTreeMap::new(),
        sequence: 0,
        world,
        watch: Watch::default(),
    };
    let broken = run.story(scenario).err().map(|violation| Broken {
        invariant: invariant(&violation),
        at: run.world.now(),
        text: violation.to_string(),
    });
    let missed = if broken.is_some() {
        Vec::new()
    } else {
        scenario.expects.iter().flat_map(|expect| expect.missed(&run.world, &run.watch)).collect()
    };
    let servers: Vec<_> = run.world.nova.servers().map(|server| server.id).collect();
    Outcome {
        running: servers.iter().filter(|server| run.world.nova.copies(**server) == 1).count(),
        servers: servers.len(),
        ends: ends(&run.world),
        phases: run.watch.counts(),
        holds: run.watch.holds,
        seed,
        broken,
        missed,
        faults: run.faults,
        simulated: run.world.now().since(Moment::ZERO),
        members: run.world.host_names().len(),
        story: run.world.log().to_vec(),
    }
}

fn ends(world: &World) -> Vec<End> {
    let mut ends = BTreeMap::new();
    for incident in world.ledger().incidents.values() {
        let recovered = |record: &&ServerRecord| matches!(record.fate, Some(Fate::Recovered { .. }));
        let end = End {
            host: incident.host.clone(),
            phase: incident.phase,
            text: incident.story.last().map(|line| line.text.to_string()).unwrap_or_default(),
            recovered: incident.servers.values().filter(recovered).count(),
            servers: incident.servers.len(),
        };
        ends.insert(incident.host.clone(), end);
    }
    ends.into_values().collect()
}

/// The rule and, within it, what was seen: `I1 evacuated-without-proof`, `liveness never-ends`.
fn invariant(violation: &Violation) -> String {
    format!("{} {}", violation.invariant(), violation.kind())
}

/// Whether a hold is a guard's, and not only a moment's wait on the way to a verdict.
fn is_brake(why: &str) -> bool {
    !["it may still refute", "calling the roll", "waiting until it is settled"].iter().any(|wait| why.contains(wait))
}

/// An event that waits for phases.
struct Waiting {
    event: usize,
    /// Phases it has not yet befallen at.
    left: Vec<Phase>,
}

/// A deed at its time. `event` is its number in the file, none for what takes another back.
#[derive(Clone)]
struct Due {
    event: Option<usize>,
    deed: Deed,
    it: Option<HostName>,
    lasts: Option<Duration>,
    /// It waited for a phase.
    waited: bool,
}

struct Run {
    world: World,
    watch: Watch,
    due: BTreeMap<(Moment, u64), Due>,
    sequence: u64,
    waiting: Vec<Waiting>,
    faults: BTreeMap<String, u64>,
    asks: bool,
    asked: Moment,
}

impl Run {
    fn story(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        self.plan(scenario);
        let end = Moment::ZERO + scenario.end.duration();
        self.until(end, scenario)?;
        if scenario.open_ended {
            return match self.world.judge_noticed() {
                Err(unnoticed @ Violation::NeverNoticed { .. }) => self.excuse_the_held(unnoticed),
                verdict => verdict,
            };
        }
        // Liveness is promised while a majority can act; whoever broke that for good is owed safety only.
        let mut until = end;
        if self.take_back_holds(scenario) {
            until = until + PATIENT_STEP;
            self.until(until, scenario)?;
        }
        while all_end(&self.world.raft).is_err() && until < end + PATIENCE && self.world.can_act() {
            until = until + PATIENT_STEP;
            self.until(until, scenario)?;
            self.take_back_holds(scenario);
        }
        match self.world.judge_liveness() {
            Err(unnoticed @ Violation::NeverNoticed { .. }) => self.excuse_the_held(unnoticed),
            verdict => verdict,
        }
    }

    /// Nobody led when an operator took back what had been ordered for a time: it is ordered again. Gives back whether it was.
    fn take_back_holds(&mut self, scenario: &Scenario) -> bool {
        let for_good = |word: OrderWord| {
            let is_such = |deed: &Deed| matches!(deed, Deed::Order { order, .. } if *order == word);
            scenario.events.iter().any(|event| is_such(&event.deed) && event.lasts.is_none())
        };
        let mut orders = Vec::new();
        let ledger = self.world.ledger();
        if scenario.cluster.armed && !ledger.arming.armed && !for_good(OrderWord::Disarm) {
            orders.push(OperatorCommand::Arm(true));
        }
        if !for_good(OrderWord::MaintenanceOn) {
            let held = ledger.hosts.iter().filter(|(_, record)| record.maintenance.is_some());
            orders.extend(held.map(|(host, _)| OperatorCommand::Maintenance { host: host.clone(), on: false }));
        }
        for order in &orders {
            self.world.order(order, "it was for a time");
        }
        !orders.is_empty()
    }

    /// Whom a brake holds back, visibly, is not forgotten: a person sees in `status` why nothing is done.
    fn excuse_the_held(&mut self, unnoticed: Violation) -> Result<(), Violation> {
        let holds: BTreeSet<HostName> =
            self.world.holds().into_iter().filter(|(_, why)| is_brake(why)).map(|(host, _)| host).collect();
        let open: BTreeSet<HostName> =
            self.world.ledger().incidents.values().map(|incident| incident.host.clone()).collect();
        let lost =
            |server: &&NovaServer| server.vm_state.as_str() == "active" && self.world.nova.copies(server.id) == 0;
        let hosts = self.world.nova.servers().filter(lost).filter_map(|server| server.host.clone());
        let is_told = |host: &HostName| holds.contains(host) || open.contains(host) || !self.world.is_dead(host);
        let mut forgotten = hosts.filter(|host| !is_told(host));
        match forgotten.next() {
            None => Ok(()),
            Some(_) if matches!(&unnoticed, Violation::NeverNoticed { host } if !is_told(host)) => Err(unnoticed),
            Some(host) => Err(Violation::NeverNoticed { host }),
        }
    }

    fn plan(&mut self, scenario: &Scenario) {
        for (index, event) in scenario.events.iter().enumerate() {
            match &event.trigger {
                Trigger::At { at } => {
                    let lasts = event.lasts.map(crate::deed::Span::duration);
                    let due = Due { event: Some(index + 1), deed: event.deed.clone(), it: None, lasts, waited: false };
                    self.add(Moment::ZERO + at.duration(), due);
                }
                Trigger::When(when) => {
                    let left = match &when.when {
                        super::Phases::One(phase) => vec![*phase],
                        super::Phases::Many(phases) => phases.clone(),
                    };
                    self.waiting.push(Waiting { event: index, left });
                }
            }
        }
        if let Some(heal) = scenario.heal {
            let due = Due { event: None, deed: Deed::Heal {}, it: None, lasts: None, waited: false };
            self.add(Moment::ZERO + heal.duration(), due);
        }
    }

    fn add(&mut self, at: Moment, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }

    fn until(&mut self, end: Moment, scenario: &Scenario) -> Result<(), Violation> {
        loop {
            let now = self.world.now();
            while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
                let due = entry.remove();
                self.act(due);
            }
            if now >= end {
                return Ok(());
            }
            let grain = if self.waiting.is_empty() { LOOK_EVERY } else { LOOK_CLOSELY };
            let next = self.due.keys().next().map_or(end, |(at, _)| *at);
            self.world.run_until((now + grain).min(next).min(end))?;
            self.look(scenario);
        }
    }

    fn look(&mut self, scenario: &Scenario) {
        let news = self.watch.look(&self.world);
        let first = self.watch.reached.len() - news;
        for index in first..self.watch.reached.len() {
            let reached = self.watch.reached[index].clone();
            self.reached(scenario, &reached);
        }
        let now = self.world.now();
        if self.asks && now >= self.asked + ASK_EVERY {
            self.asked = now;
            self.watch.ask_for_holds(&mut self.world);
        }
    }

    /// Events that wait for this are due.
    fn reached(&mut self, scenario: &Scenario, reached: &super::watch::Reached) {
        let mut due = Vec::new();
        for waiting in &mut self.waiting {
            let event = &scenario.events[waiting.event];
            let Trigger::When(when) = &event.trigger else { continue };
            let is_of = |of: &Targets| resolve(&self.world, of, None).contains(&reached.host);
            if !waiting.left.contains(&reached.phase) || !when.of.as_ref().is_none_or(is_of) {
                continue;
            }
            if !when.every {
                waiting.left.retain(|phase| *phase != reached.phase);
            }
            let deed = Due {
                event: Some(waiting.event + 1),
                deed: event.deed.clone(),
                it: Some(reached.host.clone()),
                lasts: event.lasts.map(crate::deed::Span::duration),
                waited: true,
            };
            due.push((self.world.now() + when.after.unwrap_or_default().duration(), deed));
        }
        self.waiting.retain(|waiting| !waiting.left.is_empty());
        for (at, deed) in due {
            self.add(at, deed);
        }
    }

    fn act(&mut self, due: Due) {
        let Due { event, deed, it, lasts, waited: _ } = due;
        if event.is_none() && deed == (Deed::Heal {}) {
            // From here on it is about endings: what waits for a phase waits no more.
            self.waiting.clear();
            self.due.retain(|_, due| !due.waited);
        }
        if let Some(event) = event {
            let about = it.as_ref().map_or_else(String::new, |it| format!(", of {it}"));
            self.world.tell(format!("— event {event}: {}{about}", deed.kind()));
        }
        // Whom it befalls is fixed now: the leader of then, not of when it ends.
        let inverse = lasts.and_then(|lasts| Some((lasts, self.pinned(deed.inverse()?, it.as_ref()))));
        let befallen = deed.act(&mut self.world, it.as_ref());
        if event.is_some() && befallen > 0 {
            *self.faults.entry(deed.kind().to_owned()).or_default() += 1;
        }
        if let Some((lasts, deed)) = inverse {
            let at = self.world.now() + lasts;
            self.add(at, Due { event: None, deed, it: None, lasts: None, waited: false });
        }
    }

    fn pinned(&self, mut deed: Deed, it: Option<&HostName>) -> Deed {
        for targets in deed.targets_mut() {
            let hosts = resolve(&self.world, targets, it);
            targets.0 = hosts.into_iter().map(|host| Target::Host(host.to_string())).collect();
        }
        deed
    }
}
