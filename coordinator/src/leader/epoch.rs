//! Did the whole cluster lose its power, and how old is the present epoch? Asked before anything else is done.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::message::Message;

use super::Leader;
use super::proposals::Key;
use crate::context::Context;
use crate::io::Peer;
use crate::ledger::{COLD_FOR, LeaderCommand, PowerLoss, UNSEEN_FOR, VoterBoot, YOUNG_BOOT};
use crate::time::Moment;

/// Between two marks of the epoch's age: what a change of leader may cost of the grace that has passed.
const MARK_EVERY: Duration = Duration::from_secs(15);

/// Between two marks of who was seen: a booting site comes in by the dozen.
const SEEN_EVERY: Duration = Duration::from_secs(1);

/// How long voters are waited for that have not said when they booted.
const VOTERS_WAIT: Duration = Duration::from_secs(1);

/// What this leadership knows of the epoch.
#[derive(Debug, Default)]
pub(super) struct EpochWatch {
    /// Of which epoch the following is.
    number: u64,
    /// When this leadership first saw it applied, and what its mark said then.
    seen: Option<(Moment, Duration)>,
    /// Whether it is settled that no power was lost before this leadership.
    decided: bool,
    /// What each voter said of its boot, and when.
    boots: BTreeMap<HostName, (VoterBoot, Moment)>,
    first_asked: Option<Moment>,
    next_ask: Option<Moment>,
    next_mark: Option<Moment>,
}

impl EpochWatch {
    /// How much of the epoch has certainly passed.
    fn elapsed(&self, now: Moment) -> Duration {
        self.seen.map_or(Duration::ZERO, |(since, mark)| mark + now.since(since))
    }
}

impl Leader {
    /// A member says when its machine booted. What it says is of the moment it answered: older by now, never younger.
    pub(crate) fn note_boot(&mut self, cx: &Context<'_>, peer: &Peer, age_ms: u64) {
        if self.electorate(cx).contains(&peer.host) {
            let boot = VoterBoot { host: peer.host.clone(), boot: peer.boot, age_ms };
            self.epoch.boots.insert(peer.host.clone(), (boot, cx.now.mono));
            self.touch();
        }
    }

    /// Follows the epoch. `false`: whether power was lost is not known yet, nothing may be done.
    pub(super) fn drive_epoch(&mut self, cx: &mut Context<'_>) -> bool {
        if cx.ledger.roster.is_empty() {
            return true;
        }
        let now = cx.now.mono;
        let epoch = &cx.ledger.epoch;
        if self.epoch.number != epoch.number || self.epoch.seen.is_none() {
            self.epoch.number = epoch.number;
            self.epoch.seen = Some((now, epoch.elapsed()));
            self.epoch.next_mark = None;
        }
        self.ask_voters(cx);
        if epoch.number == 0 {
            let why = "the cluster's first leader".into();
            self.command(cx, Key::Epoch, LeaderCommand::BeginEpoch { number: 1, why, voters: self.voter_boots(cx) });
            return false;
        }
        let answered = self.voter_boots(cx);
        let waited = self.epoch.first_asked.is_some_and(|asked| now >= asked + VOTERS_WAIT);
        match epoch.power_loss(self.electorate(cx).len(), &answered, waited) {
            PowerLoss::Yes => {
                let fresh = answered.iter().filter(|voter| epoch.is_fresh(voter)).count();
                let why = Text::new(format!(
                    "{fresh} of {} voters booted less than {} s ago: power was lost",
                    answered.len(),
                    YOUNG_BOOT.as_secs()
                ));
                let command =
                    LeaderCommand::BeginEpoch { number: epoch.number.saturating_add(1), why, voters: answered };
                self.command(cx, Key::Epoch, command);
                return false;
            }
            PowerLoss::No => self.epoch.decided = true,
            PowerLoss::Unknown => {}
        }
        if self.epoch.decided {
            self.mark_epoch(cx, answered);
        }
        self.epoch.decided
    }

    /// The voters' boots with their present ages, ourselves among them. A boot that ended is not spoken of.
    fn voter_boots(&self, cx: &Context<'_>) -> Vec<VoterBoot> {
        let now = cx.now.mono;
        let boot_of = |host: &HostName| {
            if *host == cx.setup.host {
                let age_ms = millis(cx.setup.boot_age(now));
                return Some(VoterBoot { host: host.clone(), boot: cx.setup.boot, age_ms });
            }
            let (said, at) = self.epoch.boots.get(host)?;
            let is_present = cx.heard.get(host).is_none_or(|heard| heard.boot == said.boot);
            let age_ms = said.age_ms.saturating_add(millis(now.since(*at)));
            is_present.then(|| VoterBoot { age_ms, ..said.clone() })
        };
        self.electorate(cx).iter().filter_map(boot_of).collect()
    }

    /// Asks voters whose present boot is not known: at our election, and whenever one was heard in another boot.
    fn ask_voters(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        let unknown = |host: &&HostName| {
            let said = self.epoch.boots.get(*host).map(|(said, _)| said.boot);
            let heard = cx.heard.get(host).map(|heard| heard.boot);
            **host != cx.setup.host && (said.is_none() || heard.is_some_and(|heard| Some(heard) != said))
        };
        let unknown: Vec<HostName> = self.electorate(cx).into_iter().filter(|host| unknown(&host)).collect();
        if unknown.is_empty() {
            return;
        }
        if let Some(due) = self.epoch.next_ask.filter(|due| now < *due) {
            self.wake_at(due);
            return;
        }
        self.epoch.first_asked.get_or_insert(now);
        self.epoch.next_ask = Some(now + VOTERS_WAIT);
        let call = cx.out.call();
        for host in unknown {
            cx.send(&host, Message::RollCall { call });
        }
        self.wake_at(now + VOTERS_WAIT);
    }

    /// Commits how much of the epoch has passed, and who was heard in it, as long as either matters.
    fn mark_epoch(&mut self, cx: &mut Context<'_>, answered: Vec<VoterBoot>) {
        let now = cx.now.mono;
        let epoch = &cx.ledger.epoch;
        let (elapsed, marked) = (self.epoch.elapsed(now), epoch.elapsed());
        let all_seen = cx.ledger.roster.keys().all(|host| epoch.seen.contains(host));
        if marked >= UNSEEN_FOR && all_seen {
            return;
        }
        if let Some(due) = self.epoch.next_mark.filter(|due| now < *due) {
            self.wake_at(due);
            return;
        }
        self.epoch.next_mark = Some(now + SEEN_EVERY);
        let Some((since, _)) = self.epoch.seen else { return };
        // Heard since we saw the epoch begin: a voice from before it says nothing. The first one begins with the cluster
        // itself, after no loss of power: whoever this process has heard at all is alive in it.
        let is_first = epoch.number == 1;
        let heard = |host: &HostName| {
            if *host == cx.setup.host {
                return cx.setup.listen.first().map(|(_, address)| (host.clone(), *address));
            }
            let heard = cx.heard.get(host).filter(|heard| is_first || heard.at >= since)?;
            Some((host.clone(), heard.address?))
        };
        let new = |host: &&HostName| !epoch.seen.contains(*host);
        let seen: Vec<_> = cx.ledger.roster.keys().filter(new).filter_map(heard).collect();
        // Voters that come up while the epoch is young lost their power with the others.
        let young = marked < COLD_FOR;
        let voters: Vec<VoterBoot> = answered.into_iter().filter(|voter| young && epoch.is_fresh(voter)).collect();
        let threshold = [COLD_FOR, UNSEEN_FOR].into_iter().find(|threshold| marked < *threshold);
        let ages = marked < UNSEEN_FOR && elapsed >= marked + MARK_EVERY;
        let is_due = ages || threshold.is_some_and(|threshold| elapsed >= threshold);
        if is_due || !seen.is_empty() || !voters.is_empty() {
            let command = LeaderCommand::MarkEpoch { number: epoch.number, elapsed_ms: millis(elapsed), seen, voters };
            self.command(cx, Key::Epoch, command);
        }
        self.wake_at(now + SEEN_EVERY);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
