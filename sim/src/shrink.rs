//! From a scenario that breaks a promise to a shorter one that still breaks the same promise. Deterministic; bounded by a
//! number of runs, so that a failure is told in minutes.

use crate::deed::{Span, Targets};
use crate::scenario::{Outcome, PolicyWords, Scenario, Trigger, run};

/// Most runs one shrinking may take: at a second or so for a half-hour story, a few minutes.
pub const RUNS_MAX: usize = 200;

/// What was found.
#[derive(Debug)]
pub struct Shrunk {
    /// The shortest scenario that still fails so. Named after the first one.
    pub scenario: Scenario,
    /// What came of it.
    pub outcome: Outcome,
    /// How many runs it took.
    pub runs: usize,
}

/// Shortens a scenario that breaks a promise with that seed. `None`: it breaks none.
#[must_use]
pub fn shrink(scenario: &Scenario, seed: u64, runs_max: usize) -> Option<Shrunk> {
    let mut first = scenario.clone();
    // A broken promise needs no expectations, and expectations would name hosts that go.
    first.expects.clear();
    first.seeds = 1;
    first.first_seed = seed;
    let outcome = run(&first, seed);
    let invariant = outcome.broken.as_ref()?.invariant.clone();
    let mut search = Search { seed, invariant, best: first, outcome, runs: 1, runs_max };
    search.cut_the_rest_off();
    loop {
        let before = (search.best.clone(), search.runs);
        search.drop_events();
        search.calm_the_weather();
        search.simplify_the_cluster();
        search.cut_the_rest_off();
        if search.best == before.0 || search.runs >= runs_max {
            break;
        }
    }
    let Search { mut best, outcome, runs, .. } = search;
    best.name = format!("{}-shrunk", scenario.name.trim_end_matches("-shrunk"));
    best.name.truncate(64);
    let text = outcome.broken.as_ref().map(|broken| broken.text.clone()).unwrap_or_default();
    best.about = format!("Shrunk from {}. It broke {}: {text}", scenario.name, search_name(&outcome));
    Some(Shrunk { scenario: best, outcome, runs })
}

fn search_name(outcome: &Outcome) -> &str {
    outcome.broken.as_ref().map_or("nothing", |broken| &broken.invariant)
}

struct Search {
    seed: u64,
    invariant: String,
    best: Scenario,
    outcome: Outcome,
    runs: usize,
    runs_max: usize,
}

impl Search {
    /// Keeps a candidate that is a legal scenario and breaks the same promise.
    fn try_it(&mut self, candidate: Scenario) -> bool {
        if self.runs >= self.runs_max || candidate == self.best || candidate.validate().is_err() {
            return false;
        }
        self.runs += 1;
        let outcome = run(&candidate, self.seed);
        let same = outcome.broken.as_ref().is_some_and(|broken| broken.invariant == self.invariant);
        if same {
            self.best = candidate;
            self.outcome = outcome;
        }
        same
    }

    fn change(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.try_it(candidate)
    }

    /// Halves first, then quarters, then single events.
    fn drop_events(&mut self) {
        let mut run_of = self.best.events.len().div_ceil(2);
        while run_of > 0 && !self.best.events.is_empty() {
            let mut at = 0;
            while at < self.best.events.len() {
                let end = (at + run_of).min(self.best.events.len());
                let dropped = self.change(|scenario| {
                    scenario.events.drain(at..end);
                });
                if !dropped {
                    at = end;
                }
            }
            run_of = if run_of == 1 { 0 } else { run_of / 2 };
        }
        for index in 0..self.best.events.len() {
            self.change(|scenario| scenario.events[index].lasts = None);
            self.change(|scenario| {
                if let Trigger::When(when) = &mut scenario.events[index].trigger {
                    when.every = false;
                }
            });
        }
    }

    fn calm_the_weather(&mut self) {
        self.change(|scenario| scenario.weather = Default::default());
        let calms: [fn(&mut Scenario); 15] = [
            |scenario| scenario.weather.loss = None,
            |scenario| scenario.weather.bursts = None,
            |scenario| scenario.weather.duplicates = None,
            |scenario| scenario.weather.reordered = None,
            |scenario| scenario.weather.delay_ms = None,
            |scenario| scenario.weather.nova_errors = None,
            |scenario| scenario.weather.lost_answers = None,
            |scenario| scenario.weather.slow_calls = None,
            |scenario| scenario.weather.late_calls = None,
            |scenario| scenario.weather.doubled_calls = None,
            |scenario| scenario.weather.failed_rebuilds = None,
            |scenario| scenario.weather.leftovers = None,
            |scenario| scenario.weather.lost_commits = None,
            |scenario| scenario.weather.meddling = None,
            |scenario| scenario.weather.dying_destination = None,
        ];
        for calm in calms {
            self.change(calm);
        }
    }

    fn simplify_the_cluster(&mut self) {
        self.change(|scenario| scenario.cluster.policy = PolicyWords::default());
        self.change(|scenario| scenario.cluster.paths = 1);
        self.change(|scenario| scenario.cluster.domains = 0);
        self.change(|scenario| scenario.cluster.witnesses = 0);
        for servers in [1, 2, 3] {
            if servers < self.best.cluster.servers && self.change(|scenario| scenario.cluster.servers = servers) {
                break;
            }
        }
        for voters in [3, 5] {
            if voters < self.best.cluster.voters && self.change(|scenario| scenario.cluster.voters = voters) {
                break;
            }
        }
        // Halfway to nothing, again and again; names beyond the end of the smaller cluster are mapped into it.
        let mut fewer = 3;
        while fewer < self.best.cluster.hosts {
            if self.change(|scenario| shrink_to(scenario, fewer)) {
                break;
            }
            fewer = (fewer + self.best.cluster.hosts).div_ceil(2).max(fewer + 1);
        }
    }

    /// Nothing matters after the promise was broken; nor does what befalls only then.
    fn cut_the_rest_off(&mut self) {
        let Some(broken) = &self.outcome.broken else { return };
        let at = Span::from_millis(broken.at.as_micros() / 1_000 + 1);
        self.change(|scenario| {
            scenario.end = scenario.end.min(at);
            scenario.heal = scenario.heal.filter(|heal| *heal < scenario.end);
            let end = scenario.end;
            scenario.events.retain(|event| match &event.trigger {
                Trigger::At { at } => *at <= end,
                Trigger::When(_) => true,
            });
        });
    }
}

fn shrink_to(scenario: &mut Scenario, hosts: usize) {
    scenario.cluster.hosts = hosts;
    scenario.cluster.voters = scenario.cluster.voters.min(if hosts >= 5 { 5 } else { 3 });
    scenario.cluster.domains = scenario.cluster.domains.min(hosts);
    for event in &mut scenario.events {
        event.deed.map_targets(|targets: &mut Targets| targets.confine(hosts));
    }
}
