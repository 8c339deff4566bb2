//! The live cluster, losing hosts, in the simulator.

use std::io::Write;

use rekindle_proto::fact::MemberRole;
use rekindle_proto::id::HostName;
use rekindle_proto::status::{HostLine, Phase, StatusDoc};
use rekindle_sim::deed::{BmcWord, Deed, OrderWord, Span, Target, Targets};
use rekindle_sim::scenario::{Cluster, Event, Member, Outcome, SERVERS_MAX, Scenario, Trigger, run_asking};

use super::super::run::write;
use super::super::{Exit, Failure};

/// When they die: by then the simulated cluster has formed, and everybody in it has been heard.
const DIES_AT: Span = Span::from_secs(60);
/// How the cluster was before: maintenance, hosts that are down, devices that do not answer.
const AS_IT_IS: Span = Span::from_secs(20);
/// How long it is watched after that: a fence ladder with its tries, and a rack at the fence rate.
const LASTS: Span = Span::from_secs(1_260);

pub(super) fn run(
    status: &StatusDoc,
    kill: &[HostName],
    power: bool,
    seed: u64,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let scenario = scenario(status, kill, power)?;
    let outcome = run_asking(&scenario, seed);
    write(out, &told(status, kill, &outcome))?;
    let recovered = |host: &HostName| outcome.ends.iter().any(|end| end.host == *host && end.phase == Phase::Recovered);
    Ok(if outcome.broken.is_none() && kill.iter().all(recovered) { Exit::Done } else { Exit::Refused })
}

/// The cluster of a status document, as a scenario in which these hosts die.
fn scenario(status: &StatusDoc, kill: &[HostName], power: bool) -> Result<Scenario, Failure> {
    let refused = |text: String| Err(Failure::new(Exit::Refused, text));
    if status.armed.is_none() {
        return refused("there is no roster yet: rekindle init".to_owned());
    }
    for host in kill {
        match status.hosts.iter().find(|line| line.host == *host) {
            None => return refused(format!("{host} is not in the roster")),
            Some(line) if is_gone(line) => return refused(format!("{host} is {} already", line.state)),
            Some(_) => {}
        }
    }
    let members = status.hosts.iter().map(|line| Member {
        host: line.host.clone(),
        witness: line.role == MemberRole::Witness,
        votes: status.voters.contains(&line.host),
        domain: line.domain.clone(),
        // What becomes of the servers of a host that is gone already is not what is asked.
        servers: if is_gone(line) {
            0
        } else {
            usize::try_from(line.guests.unwrap_or(0)).unwrap_or(SERVERS_MAX).min(SERVERS_MAX)
        },
    });
    let cluster = Cluster { members: members.collect(), armed: status.armed == Some(true), ..Cluster::default() };
    let at = |at: Span, deed: Deed| Event { trigger: Trigger::At { at }, lasts: None, deed };
    let mut events = Vec::new();
    for line in &status.hosts {
        let hosts = Targets::one(Target::Host(line.host.to_string()));
        if line.maintenance {
            let order = OrderWord::MaintenanceOn;
            events.push(at(AS_IT_IS, Deed::Order { order, hosts: Some(hosts.clone()) }));
        }
        if line.role == MemberRole::Member && !is_fenceable(line) {
            events.push(at(AS_IT_IS, Deed::Bmc { hosts: hosts.clone(), behaves: BmcWord::Silent }));
        }
        if is_gone(line) {
            // Before anybody has heard it: it counts as absent, and is not what is asked about.
            events.push(at(Span::default(), Deed::PowerLoss { hosts, standby: false }));
        }
    }
    let hosts = Targets(kill.iter().map(|host| Target::Host(host.to_string())).collect());
    let deed = if power { Deed::PowerLoss { hosts, standby: false } } else { Deed::Kill { hosts } };
    events.push(at(DIES_AT, deed));
    let scenario = Scenario {
        name: "what-if".to_owned(),
        about: "The live cluster, losing hosts.".to_owned(),
        source: String::new(),
        seeds: 1,
        first_seed: 1,
        heal: None,
        end: LASTS,
        open_ended: false,
        cluster,
        weather: Default::default(),
        events,
        expects: Vec::new(),
    };
    scenario
        .validate()
        .map_err(|error| Failure::new(Exit::Refused, format!("this cluster cannot be simulated: {error}")))?;
    Ok(scenario)
}

/// Neither alive nor merely suspect, nor at work on coming back.
fn is_gone(line: &HostLine) -> bool {
    !matches!(line.state.as_str(), "alive" | "suspect" | "quarantined")
}

/// Whether the leader's own last readings say that it could be fenced.
fn is_fenceable(line: &HostLine) -> bool {
    let devices = line.devices.as_str();
    !devices.is_empty() && !devices.contains("fails") && !devices.contains("REFUSED") && !devices.contains("not bound")
}

fn told(status: &StatusDoc, kill: &[HostName], outcome: &Outcome) -> String {
    let names: Vec<&str> = kill.iter().map(HostName::as_str).collect();
    let mut text = format!(
        "If {} died now ({} members, {} voters, simulated; times since the death):\n",
        names.join(", "),
        status.roster,
        status.voters.len()
    );
    for line in outcome.story.iter().filter_map(|line| since_death(line)) {
        text.push_str(&line);
        text.push('\n');
    }
    for host in kill {
        match outcome.ends.iter().find(|end| end.host == *host) {
            Some(end) => text.push_str(&format!(
                "{host}: {}, {} of {} servers recovered: {}\n",
                end.phase, end.recovered, end.servers, end.text
            )),
            None => {
                let why = outcome.holds.get(host).and_then(|holds| holds.iter().next_back());
                let why = why.map_or("nobody would notice within 20 minutes", String::as_str);
                text.push_str(&format!("{host}: nothing would be done: {why}\n"));
            }
        }
    }
    if let Some(broken) = &outcome.broken {
        text.push_str(&format!(
            "A PROMISE WOULD BE BROKEN ({}): {}. Please report this\n",
            broken.invariant, broken.text
        ));
    }
    text.push_str(&format!("{} of {} servers would run\n", outcome.running, outcome.servers));
    text
}

/// A line of the story with its time since the death; none for lines before it.
fn since_death(line: &str) -> Option<String> {
    let (time, rest) = line.split_once("s ")?;
    let seconds: f64 = time.parse().ok()?;
    let since = seconds - DIES_AT.duration().as_secs_f64();
    // Of each server one line is enough: when it is known to be recovered.
    let is_news = !rest.starts_with('—') && !rest.contains(" runs on ");
    (since >= 0.0 && is_news).then(|| format!("{since:>+9.3} s  {rest}"))
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    fn what_if(host: &str) -> Result<Scenario, Failure> {
        scenario(&samples::busy(), &[samples::host(host)], false)
    }

    #[test]
    fn a_status_becomes_a_cluster() {
        let scenario = what_if("cmp-02").expect("alive");
        let members = &scenario.cluster.members;
        assert_eq!(members.len(), samples::busy().hosts.len());
        let of = |name: &str| members.iter().find(|member| member.host.as_str() == name).expect("a member");
        assert!(of("wit-1").witness && !of("cmp-02").witness);
        assert_eq!(
            (of("cmp-02").servers, of("cmp-02").domain.as_ref().map(|domain| domain.as_str())),
            (22, Some("rack-2"))
        );
        let last = scenario.events.last().expect("the death");
        assert_eq!(last.deed, Deed::Kill { hosts: Targets::host("cmp-02") });
    }

    #[test]
    fn nobody_dies_who_is_not_there() {
        let why = what_if("cmp-99").expect_err("a stranger");
        assert_eq!(why.text, "cmp-99 is not in the roster");
        let mut status = samples::busy();
        status.armed = None;
        assert!(
            scenario(&status, &[samples::host("cmp-02")], false).is_err_and(|why| why.text.contains("rekindle init"))
        );
    }

    #[test]
    fn times_are_told_since_the_death() {
        assert_eq!(since_death("60.600s cmp-02 suspect"), Some("   +0.600 s  cmp-02 suspect".to_owned()));
        assert_eq!(since_death("59.999s cmp-01 leads"), None);
        assert_eq!(since_death("60.000s — event 1: kill"), None);
    }
}
