//! Every brake with its figures, from the same functions that hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::brake::{BrakeLine, BrakesDoc, HeldLine};
use rekindle_proto::fact::Text;
use rekindle_proto::id::{DomainName, HostName};
use rekindle_proto::status::GuardLine;

use crate::brake::{self, Brake};
use crate::context::Context;
use crate::leader::Leader;
use crate::ledger::{COLD_FOR, Epoch, FENCE_EVERY, FENCES_AT_ONCE, Lift};

/// Hosts named in one alarm; more are counted.
const NAMED_MAX: usize = 5;

pub(crate) fn brakes(cx: &Context<'_>, leader: &Leader) -> BrakesDoc {
    let mut brakes = vec![armed(cx), maintenance(cx), super::segments::line(cx.ledger), cold_start(cx)];
    brakes.extend([mass_failure(cx, leader), event(cx, leader)]);
    let domains: BTreeSet<&DomainName> = cx.ledger.roster.values().filter_map(|entry| entry.domain.as_ref()).collect();
    brakes.extend(domains.into_iter().map(|domain| cap(cx, domain)));
    brakes.push(rate(cx, leader));
    BrakesDoc { told_by: cx.setup.host.clone(), brakes, held: held(cx, leader) }
}

/// What `why` says of the brakes that need no incident to be judged.
pub(super) fn guards(cx: &Context<'_>, leader: &Leader, host: &HostName) -> Vec<GuardLine> {
    let guard = |name: &str, brake: Option<Brake>, free: Text| GuardLine {
        guard: name.into(),
        passes: brake.is_none(),
        text: brake.map_or(free, |brake| Text::new(brake.to_string())),
    };
    let domain = cx.ledger.roster.get(host).and_then(|entry| entry.domain.as_ref());
    let free_cap = domain.map_or_else(|| Text::from("it has no domain label"), |domain| cap(cx, domain).text);
    let no_event = Text::new(format!(
        "it is in none; {} hosts and a tenth of the roster silent within {} s are one",
        brake::EVENT_HOSTS_MIN,
        brake::EVENT_WINDOW.as_secs()
    ));
    let mut lines = vec![
        guard("cold-start", brake::cold_start(cx.ledger, host), cold_start(cx).text),
        guard("domain-event", leader.event_brake(cx, host), no_event),
        guard("domain-cap", brake::domain_cap(cx.ledger, host, leader.needed_by(host)), free_cap),
        // It only ever delays.
        guard("fence-rate", None, rate(cx, leader).text),
    ];
    if let Some(lift) = cx.ledger.lift_of(host) {
        lines.push(guard("lifted", None, Text::new(format!("{}: only proofs hold its incident", lifted(lift)))));
    }
    lines
}

/// Which brakes hold somebody now, and whom.
pub(super) fn alarms(leader: &Leader) -> Vec<Text> {
    let mut by_name: BTreeMap<&'static str, Vec<(&HostName, &Brake)>> = BTreeMap::new();
    // That the cluster is disarmed, or a host in maintenance, is said elsewhere, and was somebody's own decision.
    for (host, brake) in leader.held_hosts().filter(|(_, brake)| brake.is_liftable()) {
        by_name.entry(brake.name()).or_default().push((host, brake));
    }
    let alarm = |(name, hosts): (&'static str, Vec<(&HostName, &Brake)>)| {
        let (_, first) = hosts.first()?;
        let named: Vec<&str> = hosts.iter().take(NAMED_MAX).map(|(host, _)| host.as_str()).collect();
        let more = hosts.len().saturating_sub(NAMED_MAX);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Some(Text::new(format!("brake {name} holds {}{more}: {first}", named.join(", "))))
    };
    by_name.into_iter().filter_map(alarm).collect()
}

fn line(brake: &str, holds: bool, liftable: bool, text: impl Into<Text>, figures: &[(&str, u64)]) -> BrakeLine {
    let figures = figures.iter().map(|(name, value)| (Text::from(*name), *value)).collect();
    BrakeLine { brake: brake.into(), holds, liftable, text: text.into(), figures }
}

fn armed(cx: &Context<'_>) -> BrakeLine {
    let arming = &cx.ledger.arming;
    let word = if arming.armed { "armed" } else { "disarmed" };
    line("armed", !arming.armed, false, format!("{word}: {}", arming.reason), &[])
}

fn maintenance(cx: &Context<'_>) -> BrakeLine {
    let kept_out = cx.ledger.hosts.iter().filter(|(_, record)| record.maintenance.is_some());
    let names: Vec<&str> = kept_out.map(|(host, _)| host.as_str()).collect();
    let text = if names.is_empty() { "no host is in it".to_owned() } else { format!("in it: {}", names.join(", ")) };
    line("maintenance", !names.is_empty(), false, text, &[("hosts", count(names.len()))])
}

fn cold_start(cx: &Context<'_>) -> BrakeLine {
    let epoch = &cx.ledger.epoch;
    let (seen, roster) = (brake::seen_of_roster(cx.ledger), cx.ledger.roster.len());
    let needed = Epoch::seen_needed(roster);
    let elapsed_s = epoch.elapsed_ms / 1_000;
    let holds = epoch.number == 0 || (epoch.elapsed() < COLD_FOR && seen < needed);
    let text = if epoch.number == 0 {
        "no epoch has begun yet".to_owned()
    } else {
        format!(
            "epoch {} ({}): at least {elapsed_s} s old, {seen} of {roster} seen alive in it; over after {} s or {needed}",
            epoch.number,
            epoch.why,
            COLD_FOR.as_secs()
        )
    };
    let figures = [
        ("epoch", epoch.number),
        ("elapsed_s", elapsed_s),
        ("seen", count(seen)),
        ("needed", count(needed)),
        ("roster", count(roster)),
    ];
    line("cold-start", holds, true, text, &figures)
}

fn mass_failure(cx: &Context<'_>, leader: &Leader) -> BrakeLine {
    let roster = cx.ledger.roster.len();
    let needed = cx.ledger.quorum_needed();
    let alive = cx.ledger.roster.keys().filter(|host| cx.is_alive(host)).count();
    let (present, how) = match leader.last_roll(cx) {
        Some(present) => (present, "answered the roll call"),
        None => (alive, "alive in gossip"),
    };
    let text = format!("{present} of {roster} {how}; {needed} are needed (51 %)");
    let figures = [("present", count(present)), ("roster", count(roster)), ("needed", count(needed))];
    line("mass-failure", present < needed, true, text, &figures)
}

fn event(cx: &Context<'_>, leader: &Leader) -> BrakeLine {
    let holding: Vec<Brake> = leader.in_events().filter_map(|host| leader.event_brake(cx, host)).collect();
    let text = holding.first().map_or_else(|| "none".to_owned(), ToString::to_string);
    let left = holding.iter().filter_map(|brake| match brake {
        Brake::DomainEvent { left, .. } | Brake::SilentDevices { left, .. } => Some(whole_seconds(*left)),
        Brake::Disarmed { .. }
        | Brake::Maintenance { .. }
        | Brake::SegmentDisabled { .. }
        | Brake::ColdStart { .. }
        | Brake::Unseen { .. }
        | Brake::NeverHeard { .. }
        | Brake::MassFailure { .. }
        | Brake::DomainCap { .. }
        | Brake::FenceRate { .. } => None,
    });
    let figures = [("hosts", count(holding.len())), ("left_s", left.max().unwrap_or(0))];
    line("domain-event", !holding.is_empty(), true, text, &figures)
}

fn cap(cx: &Context<'_>, domain: &DomainName) -> BrakeLine {
    let (size, open, cap) = brake::domain_figures(cx.ledger, domain);
    let text = format!("{domain}: {open} being recovered, at most {cap} of its {size} hosts at once");
    let figures = [("open", count(open)), ("cap", count(cap)), ("size", count(size))];
    line("domain-cap", open >= cap, true, text, &figures)
}

fn rate(cx: &Context<'_>, leader: &Leader) -> BrakeLine {
    let rate = &cx.ledger.rate;
    let waited = rate.waited(leader.rate_claim(cx));
    let wait = whole_seconds(rate.wait(waited));
    let fenced = if rate.is_quiet(waited) { 0 } else { rate.in_storm };
    let next = if wait == 0 { "the next at once".to_owned() } else { format!("the next in {wait} s") };
    let text = format!(
        "{fenced} fenced in this storm, {next} ({FENCES_AT_ONCE} in the first minute, then one per {} s)",
        FENCE_EVERY.as_secs()
    );
    line("fence-rate", wait > 0, true, text, &[("fenced", u64::from(fenced)), ("next_s", wait)])
}

fn held(cx: &Context<'_>, leader: &Leader) -> Vec<HeldLine> {
    let by: BTreeMap<&HostName, &Brake> = leader.held_hosts().collect();
    let hosts: BTreeSet<&HostName> = by.keys().copied().chain(cx.ledger.lifts.keys()).collect();
    let line = |host: &HostName| HeldLine {
        host: host.clone(),
        incident: cx.ledger.open_incident(host).map(|open| open.id),
        brake: by.get(host).map(|brake| brake.name().into()),
        text: by.get(host).map_or_else(Text::default, |brake| Text::new(brake.to_string())),
        lifted: cx.ledger.lift_of(host).map(lifted),
    };
    hosts.into_iter().map(line).collect()
}

fn lifted(lift: &Lift) -> Text {
    Text::new(format!("lifted by {}: {}", lift.by, lift.reason))
}

fn whole_seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
