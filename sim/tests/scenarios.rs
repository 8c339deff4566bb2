//! Every file of `sim/scenarios`, and what a file may not say.

use std::sync::atomic::{AtomicUsize, Ordering};

use rekindle_sim::scenario::{Scenario, library, run};

/// Clusters of this many members and more that are not formed yet at the start take from half a minute to minutes of CPU
/// each, most of it to find each other: they run if `REKINDLE_SIM_HEAVY` is set, as `make test-long` does, or if one is asked
/// for by its name.
const HEAVY: usize = 60;

/// Threads: the two cores a test may count on.
const LANES: usize = 2;

/// Runs every scenario with all its seeds, or only those whose name has `REKINDLE_SIM_ONLY` in it.
#[test]
#[expect(clippy::disallowed_methods, reason = "whoever works on one scenario asks for that one")]
fn every_scenario_ends_as_its_file_says() {
    let only = std::env::var("REKINDLE_SIM_ONLY").unwrap_or_default();
    let all = !only.is_empty() || std::env::var_os("REKINDLE_SIM_HEAVY").is_some();
    let (mut failures, mut skipped, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    let chosen: Vec<_> = library().iter().filter(|(file, _)| file.contains(&only)).collect();
    for (file, text) in &chosen {
        match Scenario::parse(text) {
            Err(error) => failures.push(format!("{file}: {error}")),
            Ok(scenario) if !all && scenario.cluster.hosts >= HEAVY && !scenario.cluster.formed => skipped.push(*file),
            Ok(scenario) => {
                let seeds = scenario.first_seed..scenario.first_seed + scenario.seeds;
                runs.extend(seeds.map(|seed| (*file, scenario.clone(), seed)));
            }
        }
    }
    failures.extend(run_all(&runs));
    let (scenarios, runs) = (chosen.len(), runs.len());
    println!("{scenarios} scenarios, {runs} runs; {} heavy ones only read: {}", skipped.len(), skipped.join(" "));
    if !skipped.is_empty() {
        println!("REKINDLE_SIM_HEAVY=1 runs them too");
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Runs them, each thread the next that nobody has begun. Gives back what failed, in their order.
#[expect(clippy::disallowed_methods, reason = "one seed is one story whichever thread tells it")]
fn run_all(runs: &[(&str, Scenario, u64)]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut failures = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, scenario, seed)) = runs.get(number) else { return failures };
            let outcome = run(scenario, *seed);
            if let Some(broken) = &outcome.broken {
                let text = format!("{file}, seed {seed}: {} at {}: {}", broken.invariant, broken.at, broken.text);
                failures.push((number, text));
            }
            failures.extend(outcome.missed.iter().map(|missed| (number, format!("{file}, seed {seed}: {missed}"))));
        }
    };
    let mut failures: Vec<(usize, String)> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a scenario panicked")).collect()
    });
    failures.sort();
    failures.into_iter().map(|(_, text)| text).collect()
}

const HEAD: &str = "name = \"x\"\nabout = \"y\"\n";

/// What a file may not say, and a word of the refusal that must name it.
#[test]
fn a_refusal_names_the_thing_and_the_rule() {
    let table: &[(&str, &[&str])] = &[
        ("name = \"X y\"\nabout = \"y\"", &["name = X y", "small letters"]),
        ("name = \"x\"\nabout = \" \"", &["about", "paragraph"]),
        ("about = \"y\"", &["name"]),
        (&format!("{HEAD}colour = 1"), &["colour", "unknown field"]),
        (&format!("{HEAD}end = \"5 minutes\""), &["5 minutes", "unit"]),
        (&format!("{HEAD}heal = \"10m\"\nend = \"10m\""), &["heal = 10m", "before the end, 10m"]),
        (&format!("{HEAD}seeds = 0"), &["seeds = 0", "1 to"]),
        (&format!("{HEAD}[cluster]\nhosts = 0"), &["cluster.hosts = 0", "2000"]),
        (&format!("{HEAD}[cluster]\nvoters = 2"), &["cluster.voters = 2", "1, 3, 5 or 7"]),
        (&format!("{HEAD}[cluster]\nhosts = 3\nvoters = 5"), &["cluster.voters = 5", "members, 3"]),
        (&format!("{HEAD}[cluster]\ndomains = 6"), &["cluster.domains = 6", "one a hypervisor"]),
        (&format!("{HEAD}[cluster]\npaths = 4"), &["cluster.paths = 4", "tenant"]),
        (&format!("{HEAD}[cluster.policy]\nfence-trys = 1"), &["fence-trys"]),
        (&format!("{HEAD}[weather]\nloss = 101"), &["weather.loss = 101", "100 percent"]),
        (&format!("{HEAD}[[event]]\ndo = \"kill\"\nhosts = \"cmp-01\""), &["event 1", "no time"]),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\nwhen = \"fenced\"\ndo = \"kill\"\nhosts = \"cmp-01\""),
            &["event 1", "both"],
        ),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"kil\"\nhosts = \"cmp-01\""),
            &["event 1 (\"kil\")", "power-loss"],
        ),
        (&format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"kill\"\nhots = \"cmp-01\""), &["event 1", "hots"]),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"kill\"\nhosts = \"cmp-06\""),
            &["hosts = cmp-06", "5 hypervisors"],
        ),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"kill\"\nhosts = []"),
            &["event 1 (kill): hosts", "at least one"],
        ),
        (&format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"kill\"\nhosts = \"it\""), &["hosts = it", "needs `when`"]),
        (&format!("{HEAD}[[event]]\nat = \"11m\"\ndo = \"nova-down\""), &["at = 11m", "end, 10m"]),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\nfor = \"1s\"\ndo = \"kill\"\nhosts = \"cmp-01\""),
            &["for = 1s", "taken back"],
        ),
        (&format!("{HEAD}[[event]]\nwhen = \"dead\"\ndo = \"nova-down\""), &["event 1", "evacuating"]),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"cut\"\nhosts = \"cmp-01\"\npath = \"storage\""),
            &["path = Storage", "cluster.paths is 1"],
        ),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"order\"\norder = \"resume\""),
            &["hosts = nothing", "about a host"],
        ),
        (
            &format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"order\"\norder = \"arm\"\nhosts = \"cmp-01\""),
            &["hosts = cmp-01", "about the cluster"],
        ),
        (&format!("{HEAD}[[event]]\nat = \"1s\"\ndo = \"weather\"\nloss = 200"), &["loss = 200", "100 percent"]),
        (&format!("{HEAD}[[expect]]"), &["expect 1", "claims nothing"]),
        (&format!("{HEAD}[[expect]]\nends = \"stuck\""), &["expect 1: ends", "hosts = "]),
        (
            &format!("{HEAD}[[expect]]\nhosts = \"cmp-01\"\nrunning = 1"),
            &["expect 1: hosts", "nothing is claimed of them"],
        ),
        (&format!("{HEAD}[[expect]]\nhosts = \"leader\"\nends = \"stuck\""), &["hosts = leader", "by name"]),
        (
            &format!("{HEAD}[[expect]]\nhosts = \"cmp-01\"\nends = \"stuck\"\nby = \"1s\""),
            &["by, not-before", "reaches"],
        ),
        (&format!("{HEAD}[[expect]]\nfenced = \"rack-1\""), &["fenced = rack-1", "0 domains"]),
        (&format!("{HEAD}[[expect]]\nrunnig = 1"), &["expect 1", "runnig"]),
        (&format!("{HEAD}[[cluster.member]]\nhost = \"a\""), &["votes = 0", "1 to 7"]),
    ];
    for (text, words) in table {
        let error = Scenario::parse(text).expect_err(text).to_string();
        for word in *words {
            assert!(error.contains(word), "{text}\nsays {error:?}, not {word:?}");
        }
    }
    assert!(Scenario::parse(&"#".repeat(300_000)).is_err_and(|error| error.to_string().contains("262144")));
    Scenario::parse(HEAD).expect("the least that a scenario needs");
}

/// One host dies and is recovered; every claim below is false of it, and each must be missed on its own.
#[test]
fn a_false_claim_is_seen() {
    let story = format!("{HEAD}end = \"2m\"\n[[event]]\nat = \"30s\"\ndo = \"kill\"\nhosts = \"cmp-05\"\n");
    let claims = [
        ("hosts = \"cmp-05\"\nstory = [\"recovered\", \"fencing\"]", "expected recovered → fencing"),
        ("hosts = \"cmp-05\"\nends = \"stuck\"", "expected to end stuck"),
        ("hosts = \"cmp-04\"\nends = \"recovered\"", "was no incident"),
        ("hosts = \"cmp-04\"\nreaches = \"unclean\"", "expected to reach unclean"),
        ("hosts = \"cmp-05\"\nreaches = \"recovered\"\nby = \"31s\"", "by 31s"),
        ("hosts = \"cmp-05\"\nreaches = \"recovered\"\nnot-before = \"119s\"", "not before 119s"),
        ("hosts = \"cmp-05\"\nstuck = \"BMC\"", "expected to be stuck"),
        ("hosts = \"cmp-05\"\nheld = \"maintenance\"", "expected to be held"),
        ("hosts = \"cmp-05\"\nunheld = \"\"", "expected not to be held"),
        ("hosts = \"cmp-05\"\nincidents = 2", "expected 2 incidents, were 1"),
        ("fenced = []", "expected powered off: nobody; were: cmp-05"),
        ("fenced-at-most = 0", "at most 0"),
        ("fenced-at-least = 2", "at least 2"),
        ("recovered = \"cmp-04\"", "expected recovered: cmp-04; were: cmp-05"),
        ("running = 14", "expected 14 servers to run, run 15"),
        ("evacuations = 4", "expected 4 evacuate calls, were 3"),
        ("told = \"nonsense\"", "expected the story to tell"),
        ("untold = \"cmp-05 dies\"", "expected the story not to tell"),
    ];
    let text: String = claims.iter().map(|(claim, _)| format!("[[expect]]\n{claim}\n")).collect();
    let scenario = Scenario::parse(&format!("{story}{text}")).expect("well-formed");
    let outcome = run(&scenario, 1);
    assert!(outcome.broken.is_none());
    assert_eq!(outcome.missed.len(), claims.len(), "{:#?}", outcome.missed);
    for ((claim, words), missed) in claims.iter().zip(&outcome.missed) {
        assert!(missed.contains(words), "{claim}\nwas told as {missed:?}, without {words:?}");
    }
}

/// Events at phases: once for each named, each time with `every`, only of the hosts named, and none after `heal`.
#[test]
fn events_wait_for_phases() {
    let tells = |event: &str| {
        let text = format!(
            "{HEAD}end = \"6m\"\nheal = \"3m\"\n[cluster]\nhosts = 7\n[[event]]\nat = \"30s\"\ndo = \"kill\"\nhosts = \"cmp-07\"\n\
             [[event]]\nat = \"90s\"\ndo = \"kill\"\nhosts = \"cmp-06\"\n[[event]]\nat = \"200s\"\ndo = \"kill\"\nhosts = \
             \"cmp-05\"\n[[event]]\n{event}\ndo = \"weather\"\nloss = 0\n"
        );
        let outcome = run(&Scenario::parse(&text).expect("well-formed"), 1);
        assert!(outcome.broken.is_none(), "{:?}", outcome.broken);
        let of = |line: &String| line.split_once("— event 4: weather, of ").map(|(_, host)| host.to_owned());
        outcome.story.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(tells("when = \"fenced\""), ["cmp-07"]);
    assert_eq!(tells("when = [\"fenced\", \"evacuating\"]"), ["cmp-07", "cmp-07"]);
    assert_eq!(tells("when = \"fenced\"\nevery = true"), ["cmp-07", "cmp-06"]);
    assert_eq!(tells("when = \"suspect\"\nof = \"cmp-06\""), ["cmp-06"]);
    assert_eq!(tells("when = \"fenced\"\nof = \"cmp-05\""), [""; 0]);
}

/// A deed with `for` is taken back from whom it befell, though somebody else leads by then.
#[test]
fn what_lasts_ends_for_the_same_hosts() {
    let text = format!(
        "{HEAD}end = \"3m\"\n[[event]]\nat = \"30s\"\nfor = \"3s\"\ndo = \"cut\"\nhosts = \"leader\"\n[[expect]]\nfenced = []\n"
    );
    let outcome = run(&Scenario::parse(&text).expect("well-formed"), 1);
    let cut: Vec<&String> = outcome.story.iter().filter(|line| line.contains("cut off")).collect();
    assert_eq!(cut.len(), 2, "{cut:?}");
    let host = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    assert_eq!(host(cut[0]), host(cut[1]));
    assert!(cut[0].starts_with("30.000s") && cut[1].starts_with("33.000s"), "{cut:?}");
}

/// A promise that cannot be kept, among much that has nothing to do with it: what is left is what breaks it.
#[test]
fn a_failure_is_shrunk_to_what_causes_it() {
    let text = format!(
        "{HEAD}end = \"20m\"\n[cluster]\nhosts = 9\nservers = 4\nvoters = 5\n[weather]\nloss = 1\nduplicates = 2\n\
         [[event]]\nat = \"40s\"\ndo = \"guest-dies\"\nhosts = \"cmp-02\"\n\
         [[event]]\nat = \"45s\"\ndo = \"nova-down\"\n\
         [[event]]\nat = \"50s\"\ndo = \"kill\"\nhosts = \"cmp-09\"\n\
         [[event]]\nat = \"70s\"\nfor = \"5s\"\ndo = \"freeze\"\nhosts = \"cmp-03\"\n\
         [[event]]\nat = \"80s\"\ndo = \"depose\"\n"
    );
    let scenario = Scenario::parse(&text).expect("well-formed");
    let shrunk =
        rekindle_sim::shrink::shrink(&scenario, 1, 120).expect("Nova never comes back: the incident never ends");
    let file = shrunk.scenario.to_toml().expect("TOML can say it");
    assert_eq!(
        shrunk.outcome.broken.as_ref().map(|broken| broken.invariant.as_str()),
        Some("liveness never-ends"),
        "{file}"
    );
    let kinds: Vec<&str> = shrunk.scenario.events.iter().map(|event| event.deed.kind()).collect();
    assert_eq!(kinds, ["nova-down", "kill"], "{file}");
    assert!(shrunk.scenario.weather.is_calm() && shrunk.scenario.cluster.hosts < 9, "{file}");
    let again = run(&Scenario::parse(&file).expect("a file"), 1);
    assert_eq!(again.broken, shrunk.outcome.broken, "the file tells the same story");
    let calm = Scenario::parse(HEAD).expect("well-formed");
    assert!(rekindle_sim::shrink::shrink(&calm, 1, 10).is_none());
}
