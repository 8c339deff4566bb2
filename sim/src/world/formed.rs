//! A cluster that has run for hours when the world begins: a model of a running cluster, not of its birth. Every member knows
//! every other, by gossip and by name, over connections that stand; the ledger has what hours of life have written into it;
//! one of the voters is elected at once. What a process only hears in passing (when it last heard whom) it has not heard
//! yet. How 2,000 members that are all switched on in one moment find each other is another matter, and is not shown here.

use rekindle_coordinator::Acquaintance;
use rekindle_coordinator::ledger::{LeaderCommand, MemberStatement, Position, Statement, UNSEEN_FOR, VoterBoot};
use rekindle_proto::id::{LogIndex, Term};

use super::*;

/// The life in which each daemon begins the world.
const FIRST_LIFE: Incarnation = Incarnation(1);

/// Where in its probe period a member is when the world begins: golden-ratio steps, as evenly spread as hours make them.
pub(super) fn phase(ix: Ix, period: Duration) -> Duration {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = (ix as u64).wrapping_mul(GOLDEN) >> 48;
    Duration::from_micros((u64::try_from(period.as_micros()).unwrap_or(0) * part) >> 16)
}

impl World {
    /// Writes into the ledger what the hours before have, and says whom everybody knows.
    pub(super) fn form(&mut self) -> Acquaintance {
        let mut known = Acquaintance::default();
        for host in &self.hosts {
            known.add(&host.name, FIRST_LIFE, &host.addresses);
        }
        let entries = self.hours_of_life();
        self.raft.arrange(|ledger| {
            for statement in entries {
                let entry = Entry::new(WallTime(WALL_BEGINS), statement);
                ledger.apply(Position { index: LogIndex(0), term: Term(0) }, &entry);
            }
        });
        known
    }

    /// What a first epoch that is long warm has in its ledger: who booted when, who was seen where, who runs what.
    fn hours_of_life(&self) -> Vec<Statement> {
        let author = self.voters.first().map(|voter| self.hosts[*voter].name.clone());
        let leader = |command| author.clone().map(|host| Statement::Leader { term: Term(0), host, command });
        let boot = |voter: &Ix| {
            let host = &self.hosts[*voter];
            VoterBoot { host: host.name.clone(), boot: host.boot, age_ms: u64::MAX }
        };
        let voters: Vec<VoterBoot> = self.voters.iter().map(boot).collect();
        let seen = self.hosts.iter().map(|host| (host.name.clone(), host.addresses[0])).collect();
        let elapsed_ms = u64::try_from(UNSEEN_FOR.as_millis()).unwrap_or(u64::MAX);
        let why = "the cluster's first leader".into();
        let begin = leader(LeaderCommand::BeginEpoch { number: 1, why, voters });
        let mark = leader(LeaderCommand::MarkEpoch { number: 1, elapsed_ms, seen, voters: Vec::new() });
        let word = |(ix, host): (Ix, &Host)| Statement::Member {
            host: host.name.clone(),
            boot: host.boot,
            statement: MemberStatement::Pulse { system_uuid: Some(host.uuid), guests: self.guest_list(ix) },
        };
        begin.into_iter().chain(mark).chain(self.hosts.iter().enumerate().map(word)).collect()
    }

    /// All daemons run: their connections stand, and the first voter is elected.
    pub(super) fn end_forming(&mut self) {
        let starts: Vec<u32> = self.hosts.iter().map(|host| host.start).collect();
        self.net.acquaint(&starts);
        if let Some(first) = self.voters.first() {
            let name = self.hosts[*first].name.clone();
            self.elect(&name);
        }
    }
}
