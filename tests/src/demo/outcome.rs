//! What came of it, by the ground truth: what really ran where, and what really had power.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rekindle_proto::id::ServerId;
use rekindle_proto::status::Phase;
use serde::Serialize;

use super::screen::{Screen, Tone};
use super::story::{Told, after};
use crate::fake::When;
use crate::fake::bmc::{BmcRecordKind, Power};
use crate::fake::cloud::EvacuateOutcome;
use crate::harness::{Cluster, Host};

/// The figures, as `--json` writes them. Field names are an interface.
#[derive(Debug, Serialize)]
struct Figures {
    /// Hypervisors in the cluster.
    hosts: usize,
    /// Servers of the host that failed.
    servers_on_victim: usize,
    /// Those of them that run exactly once, elsewhere.
    servers_recovered: usize,
    /// How often a server began to run while it ran elsewhere. Ever.
    running_twice: usize,
    /// Evacuate calls that reached Nova.
    evacuate_calls: usize,
    /// Since the kill.
    seconds: Seconds,
}

/// Seconds since the kill; null: did not happen.
#[derive(Debug, Serialize)]
struct Seconds {
    /// A member missed it.
    suspect: Option<f64>,
    /// A quorum of members says that it is gone.
    unclean: Option<f64>,
    /// Its power was read off twice.
    fenced: Option<f64>,
    /// Nova got the first evacuate call.
    first_evacuate: Option<f64>,
    /// The last of its servers ran again.
    recovered: Option<f64>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    figures: Figures,
    /// What had to be so, and whether it is.
    checks: Vec<(bool, String)>,
}

impl Outcome {
    /// Looks at the truth.
    pub(super) fn of(cluster: &Cluster, victim: &Host, servers: &[ServerId], killed: When, told: &Told) -> Self {
        let cloud = cluster.cloud();
        let elsewhere =
            |server: &&ServerId| matches!(cloud.running_copies(**server).as_slice(), [host] if host != victim.name());
        let recovered = servers.iter().filter(elsewhere).count();
        let twice = cloud.ever_ran_twice().len();
        let calls = cloud.evacuate_calls();
        let mut begun: BTreeMap<ServerId, usize> = servers.iter().map(|server| (*server, 0)).collect();
        for call in calls.iter().filter(|call| matches!(call.outcome, EvacuateOutcome::Accepted(_))) {
            *begun.entry(call.server).or_default() += 1;
        }
        let once = begun.len() == servers.len() && begun.values().all(|count| *count == 1);
        let first_call = calls.iter().map(|call| call.when).min();
        let off = victim.bmc().record().into_iter().find(|line| line.kind == BmcRecordKind::PowerOff);
        let off = off.map(|line| line.when).filter(|off| off.at >= killed.at);
        let off_first = matches!((off, first_call), (Some(off), Some(call)) if off.at < call.at);
        let starts = cloud.guest_starts();
        let again = starts.iter().filter(|start| start.when.at >= killed.at && servers.contains(&start.server));
        let last_start = again.map(|start| start.when).max().filter(|_| recovered == servers.len());
        let mut others = cluster.hosts().filter(|host| host.name() != victim.name());
        let undisturbed = others.all(|host| host.bmc().power() == Power::On);

        let since = |when: When| when.at.duration_since(killed.at);
        let story = |phase: Phase| {
            let lines = told.incident.iter().flat_map(|incident| &incident.story);
            lines.filter(|line| line.phase == phase).map(|line| after(killed, line.at)).next()
        };
        // Whoever was seen to suspect first: the story begins with what the leader heard of it.
        let suspect = [told.suspected, story(Phase::Suspect)].into_iter().flatten().min();
        let seconds = |at: Option<Duration>| at.map(|at| (at.as_secs_f64() * 1000.0).round() / 1000.0);
        let figures = Figures {
            hosts: cluster.hosts().count(),
            servers_on_victim: servers.len(),
            servers_recovered: recovered,
            running_twice: twice,
            evacuate_calls: calls.len(),
            seconds: Seconds {
                suspect: seconds(suspect),
                unclean: seconds(story(Phase::Unclean)),
                fenced: seconds(story(Phase::Fenced)),
                first_evacuate: seconds(first_call.map(since)),
                recovered: seconds(last_start.map(since)),
            },
        };
        let phase = told.incident.as_ref().map(|incident| incident.line.phase);
        let name = victim.name();
        let checks = vec![
            (
                recovered == servers.len(),
                format!("{recovered} of {} servers run exactly once, elsewhere", servers.len()),
            ),
            (
                twice == 0,
                match twice {
                    0 => "no server ever ran twice at once".to_owned(),
                    _ => format!("{twice} times a server began to run while it ran elsewhere"),
                },
            ),
            (once, format!("{} evacuate calls, one for each server", calls.len())),
            (off_first, format!("{name} was really off before the first of them")),
            (undisturbed, "nobody else lost its power".to_owned()),
            (
                phase == Some(Phase::Recovered),
                match phase {
                    Some(phase) => format!("the incident is {phase}"),
                    None => "no incident was opened".to_owned(),
                },
            ),
        ];
        Self { figures, checks }
    }

    /// Whether all is as it must be.
    pub(super) fn is_good(&self) -> bool {
        self.checks.iter().all(|(so, _)| *so)
    }

    /// The table of times, and the checks.
    pub(super) fn show(&self, screen: Screen) {
        let seconds = &self.figures.seconds;
        println!("\n{}", screen.paint(Tone::Strong, "Seconds since the failure"));
        for (what, phase, at) in [
            ("detected", "suspect", seconds.suspect),
            ("verdict", "unclean", seconds.unclean),
            ("fenced", "off, read twice", seconds.fenced),
            ("first evacuation", "Nova is asked", seconds.first_evacuate),
            ("last server running", "recovered", seconds.recovered),
        ] {
            let figure = at.map_or_else(|| "-".to_owned(), |at| format!("{at:.2}"));
            println!("    {what:<20} {figure:>7}   {}", screen.paint(Tone::Faint, phase));
        }
        println!("\n{}", screen.paint(Tone::Strong, "What really happened"));
        for (so, text) in &self.checks {
            let (word, tone) = if *so { ("yes", Tone::Good) } else { ("NO", Tone::Bad) };
            println!("    {}{}  {text}", screen.paint(tone, word), " ".repeat(3 - word.len()));
        }
    }

    /// The figures as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.figures)? + "\n";
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    }
}
