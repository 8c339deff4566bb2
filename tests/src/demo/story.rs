//! The story of the failure, told while it happens: what the survivors' admin sockets say.

use std::time::{Duration, UNIX_EPOCH};

use rekindle_proto::fact::Text;
use rekindle_proto::id::{IncidentId, WallTime};
use rekindle_proto::status::{IncidentDoc, Phase, StatusDoc, StoryLine};
use tokio::time::Instant;

use super::screen::{Screen, Tone};
use crate::fake::When;
use crate::harness::{Cluster, Host};

/// The story is over by then, or something is wrong.
const TOLD_WITHIN: Duration = Duration::from_secs(90);
/// Somebody misses it by then; if not, the story may have begun unseen.
const MISSED_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at gossip: the accuracy of the first figure.
const GOSSIP_EVERY: Duration = Duration::from_millis(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was seen and told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// When a member was first seen to suspect, after the kill.
    pub(super) suspected: Option<Duration>,
    /// The incident as it was last seen.
    pub(super) incident: Option<IncidentDoc>,
}

/// Tells the story until its incident is recovered, refuted or stuck, or the time is up.
pub(super) async fn tell(cluster: &Cluster, victim: &Host, killed: When, screen: Screen) -> Told {
    let mut teller = Teller { victim, killed, screen, told: Told::default(), lines: 0, held: None, counted: 0 };
    let deadline = Instant::now() + TOLD_WITHIN;
    screen.line(Duration::ZERO, "failed", &format!("nothing is heard of {} from here on", victim.name()), Tone::Bad);
    while Instant::now() < deadline {
        if teller.told.suspected.is_none() && killed.at.elapsed() < MISSED_WITHIN {
            teller.look_at_gossip(cluster).await;
            teller.wait();
            tokio::time::sleep(GOSSIP_EVERY).await;
            continue;
        }
        // Nobody may be able to answer while they elect another leader.
        if let Ok(status) = cluster.any_status().await {
            teller.look(&status);
            // Only open incidents are in a status: this one may have been closed since the last look.
            if let Some(id) = teller.closed(&status) {
                teller.last_look(cluster, id).await;
            }
        }
        if teller.is_over() {
            break;
        }
        teller.wait();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    screen.gone();
    teller.told
}

struct Teller<'a> {
    victim: &'a Host,
    killed: When,
    screen: Screen,
    told: Told,
    /// Lines of the story that were told.
    lines: usize,
    held: Option<Text>,
    /// Servers recovered, as last told.
    counted: u32,
}

impl Teller<'_> {
    fn look(&mut self, status: &StatusDoc) {
        let name = self.victim.name();
        let incident = status.incidents.iter().find(|it| it.line.host == *name && it.line.server.is_none());
        if let Some(incident) = incident {
            self.tell(incident);
        }
    }

    /// Gossip needs no leader, and knows first.
    async fn look_at_gossip(&mut self, cluster: &Cluster) {
        for host in cluster.hosts().filter(|host| host.answers()) {
            let Ok(gossip) = cluster.members(host).await else { continue };
            let line = gossip.members.iter().find(|line| line.host.as_ref() == Some(self.victim.name()));
            if line.is_some_and(|line| matches!(line.state.as_str(), "suspect" | "down")) {
                let at = self.killed.at.elapsed();
                self.told.suspected = Some(at);
                let text = format!("{} has no answer, directly or through others", host.name());
                self.screen.line(at, "suspect", &text, Tone::Uneasy);
                return;
            }
        }
    }

    fn closed(&self, status: &StatusDoc) -> Option<IncidentId> {
        let id = self.told.incident.as_ref()?.line.id;
        let by_leader = status.leader.as_ref() == Some(&status.told_by);
        (by_leader && status.incidents.iter().all(|open| open.line.id != id)).then_some(id)
    }

    async fn last_look(&mut self, cluster: &Cluster, id: IncidentId) {
        for host in cluster.hosts().filter(|host| host.answers()) {
            if let Ok(incident) = cluster.incident(host, id).await {
                self.tell(&incident);
                return;
            }
        }
    }

    fn tell(&mut self, incident: &IncidentDoc) {
        for (index, line) in incident.story.iter().enumerate().skip(self.lines) {
            let first = index.checked_sub(1).and_then(|before| incident.story.get(before));
            let new_phase = first.is_none_or(|before| before.phase != line.phase);
            self.tell_line(line, new_phase);
        }
        self.lines = self.lines.max(incident.story.len());
        let held = incident.held_by.first();
        if held != self.held.as_ref() {
            self.held = held.cloned();
            if let Some(held) = held {
                self.screen.line(self.killed.at.elapsed(), "", &format!("{:12}held: {held}", ""), Tone::Plain);
            }
        }
        self.progress(incident);
        self.told.incident = Some(incident.clone());
    }

    fn tell_line(&mut self, line: &StoryLine, new_phase: bool) {
        if line.phase == Phase::Suspect && self.told.suspected.is_some() {
            return;
        }
        // Each server has a line; they are counted below.
        if line.phase == Phase::Evacuating && line.text.as_str().contains(") runs on ") {
            return;
        }
        let word = line.phase.to_string();
        let word = if new_phase { word.as_str() } else { "·" };
        self.screen.line(after(self.killed, line.at), word, line.text.as_str(), tone(line.phase));
    }

    fn progress(&mut self, incident: &IncidentDoc) {
        let line = &incident.line;
        if line.phase != Phase::Evacuating || line.servers == 0 {
            return;
        }
        let under_way = incident.servers.iter().filter(|server| server.state.as_str() == "evacuating").count();
        let text = format!("{} of {} servers run again, {under_way} under way", line.recovered, line.servers);
        let at = self.killed.at.elapsed();
        // Where no line can be replaced, a few are enough.
        let step = (line.servers / 4).max(1);
        if line.recovered / step > self.counted / step && line.recovered < line.servers {
            self.screen.line(at, "·", &text, Tone::Plain);
        }
        self.counted = line.recovered;
        self.screen.passing(at, "·", &text);
    }

    fn is_over(&self) -> bool {
        match self.told.incident.as_ref().map(|incident| incident.line.phase) {
            Some(Phase::Recovered | Phase::Refuted | Phase::Stuck) => true,
            Some(Phase::Suspect | Phase::Unclean | Phase::Fencing | Phase::Fenced | Phase::Evacuating) | None => false,
        }
    }

    /// Something moves while nothing happens.
    fn wait(&self) {
        let phase = self.told.incident.as_ref().map(|incident| incident.line.phase);
        let text = match (phase, self.told.suspected) {
            (Some(Phase::Evacuating), _) => return,
            (Some(_), _) => "…",
            (None, Some(_)) => "asking the others: do you hear it?",
            (None, None) => "nobody has missed it yet",
        };
        self.screen.passing(self.killed.at.elapsed(), "", text);
    }
}

/// How long after the kill a line of the story was written: all clocks here are this machine's.
pub(super) fn after(killed: When, at: WallTime) -> Duration {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
    at.duration_since(killed.wall).unwrap_or_default()
}

fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Suspect | Phase::Fenced | Phase::Evacuating => Tone::Uneasy,
        Phase::Unclean | Phase::Fencing | Phase::Stuck => Tone::Bad,
        Phase::Recovered | Phase::Refuted => Tone::Good,
    }
}
