//! Who votes: a record of the log like any other, and in force as soon as it is written.
//!
//! As openraft 0.9 has it: the last configuration in a voter's own log counts, committed or not. Voters are changed in two
//! steps, each a record: first both sets vote together, and a majority of *each* is needed for whatever is decided; when
//! that is committed, the new set alone. Whoever leaves is sent nothing any more, and does not learn that it left.

use super::*;

/// Voters and listeners, by one place of the log. Stores are named by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Config {
    /// One set, or two while they change; none: nothing was heard of any cluster. Each in order.
    voters: Vec<Vec<usize>>,
    /// They are sent everything, and neither vote nor stand. In order.
    learners: Vec<usize>,
}

/// A change of a configuration, as `ChangeMembers` of openraft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// One more learner (`AddNodes`).
    Add(usize),
    /// One learner less (`RemoveNodes`).
    Remove(usize),
    /// These vote, and nobody else (`ReplaceAllVoters`, with `retain = false`).
    Set(Vec<usize>),
}

impl Config {
    /// The first of a cluster.
    pub(crate) fn of(voters: &[usize]) -> Self {
        let mut voters = voters.to_vec();
        voters.sort_unstable();
        Self { voters: vec![voters], learners: Vec::new() }
    }

    /// Everybody who votes, in either set, in order.
    pub(crate) fn voters(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.voters.iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn learners(&self) -> &[usize] {
        &self.learners
    }

    /// Everybody who is sent entries, voters first.
    pub(super) fn members(&self) -> impl Iterator<Item = usize> {
        self.voters().into_iter().chain(self.learners.iter().copied())
    }

    pub(crate) fn votes(&self, number: usize) -> bool {
        self.voters.iter().any(|set| set.contains(&number))
    }

    pub(crate) fn knows(&self, number: usize) -> bool {
        self.votes(number) || self.learners.contains(&number)
    }

    /// Who votes in the end.
    pub(crate) fn goal(&self) -> &[usize] {
        self.voters.last().map_or(&[], Vec::as_slice)
    }

    /// Half done: the voters it leads to.
    pub(crate) fn joint(&self) -> Option<&[usize]> {
        (self.voters.len() > 1).then(|| self.goal())
    }

    /// Whether these are a majority of every set.
    pub(crate) fn is_quorum(&self, mut is_in: impl FnMut(usize) -> bool) -> bool {
        let mut majority = |set: &Vec<usize>| 2 * set.iter().filter(|voter| is_in(**voter)).count() > set.len();
        !self.voters.is_empty() && self.voters.iter().all(&mut majority)
    }

    /// The highest value that a majority of every set has reached.
    pub(super) fn reached<T: Ord + Copy>(&self, mut value: impl FnMut(usize) -> T) -> Option<T> {
        let mut by_majority = |set: &Vec<usize>| {
            let mut values: Vec<T> = set.iter().map(|voter| value(*voter)).collect();
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.get(set.len() / 2).copied()
        };
        let sets: Option<Vec<T>> = self.voters.iter().map(&mut by_majority).collect();
        sets?.into_iter().min()
    }

    /// The next configuration towards a change: openraft's `Membership::change`.
    pub(super) fn changed(&self, change: &Change) -> Result<Self, &'static str> {
        let mut next = self.clone();
        match change {
            Change::Add(number) if self.knows(*number) => {}
            Change::Add(number) => {
                next.learners.push(*number);
                next.learners.sort_unstable();
            }
            Change::Remove(number) if self.votes(*number) => return Err("a voter without a name"),
            Change::Remove(number) => next.learners.retain(|learner| learner != number),
            Change::Set(goal) => {
                if goal.is_empty() || !goal.iter().all(|number| self.knows(*number)) {
                    return Err("one of them is no learner");
                }
                let mut goal = goal.clone();
                goal.sort_unstable();
                let is_near = self.voters.contains(&goal);
                let last = self.voters.last().filter(|_| !is_near).cloned();
                next.voters = last.into_iter().chain([goal]).collect();
                next.learners.retain(|learner| !next.voters.iter().any(|set| set.contains(learner)));
            }
        }
        Ok(next)
    }
}

impl Node {
    /// By which configuration it goes.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.configs.last().map(|(_, config)| config.clone()).unwrap_or_default()
    }

    /// Where its configuration stands in the log.
    pub(crate) fn config_index(&self) -> usize {
        self.configs.last().map_or(0, |(index, _)| *index)
    }

    /// The configuration at a place of its log.
    pub(super) fn config_at(&self, index: usize) -> Arc<Config> {
        let known = self.configs.iter().rev().find(|(at, _)| *at <= index);
        known.map(|(_, config)| config.clone()).unwrap_or_default()
    }

    /// A record at the end of its log.
    pub(super) fn push(&mut self, record: Arc<Record>) {
        if let Some(config) = &record.config {
            self.configs.push((self.log.len() + 1, config.clone()));
        }
        self.log.push(record);
    }

    /// Its log ends there; with what is cut off go the configurations in it.
    pub(super) fn cut(&mut self, length: usize) {
        self.log.truncate(length);
        let length = self.log.len();
        self.configs.retain(|(index, _)| *index <= length);
    }

    /// As leader: begins a change, or the second step of one. Where its record stands.
    pub(crate) fn change(&mut self, change: &Change, out: &mut Vec<Wish>) -> Result<usize, &'static str> {
        if self.role != Role::Leader {
            return Err("we do not lead any more");
        }
        if self.config_index() > self.commit {
            return Err("a change is under way");
        }
        let config = self.config().changed(change)?;
        self.push(Arc::new(Record { term: self.term, entry: None, config: Some(Arc::new(config)) }));
        self.join_peers();
        out.push(Wish::Write(self.log.len()));
        Ok(self.log.len())
    }

    /// A leader that has put itself out goes when that is committed.
    pub(super) fn leave_if_out(&mut self, out: &mut Vec<Wish>) {
        if self.role == Role::Leader && self.config_index() <= self.commit && !self.config().votes(self.me) {
            self.step_down(self.term, self.deadline, out);
        }
    }

    /// As leader: how many entries a member lacks, if that is known, and since when it has been silent.
    pub(crate) fn progress_of(&self, number: usize, now: Moment) -> (Option<usize>, Duration) {
        if number == self.me {
            return (Some(0), Duration::ZERO);
        }
        let Progress { matched, answered, .. } = self.progress(number);
        let lag = (matched > 0).then(|| self.log.len().saturating_sub(matched));
        (lag, now.since(answered.max(self.led_since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint() -> Config {
        let begun = Config::of(&[1, 2, 3]).changed(&Change::Add(4)).and_then(|four| four.changed(&Change::Add(5)));
        begun.and_then(|five| five.changed(&Change::Set(vec![3, 4, 5]))).expect("a change")
    }

    #[test]
    fn both_halves_must_agree() {
        let table: &[(&[usize], bool)] = &[
            (&[1, 2], false),
            (&[4, 5], false),
            (&[3], false),
            (&[1, 3, 4], true),
            (&[1, 2, 4, 5], true),
            (&[1, 2, 4], false),
            (&[2, 4, 5], false),
        ];
        for (those, enough) in table {
            assert_eq!(joint().is_quorum(|voter| those.contains(&voter)), *enough, "{those:?}");
            let reached = joint().reached(|voter| usize::from(those.contains(&voter)));
            assert_eq!(reached == Some(1), *enough, "{those:?}");
        }
        let nobody = Config::default();
        assert!(!nobody.is_quorum(|_| true), "no configuration is no majority");
        assert_eq!(nobody.reached(|_| 1), None);
    }

    /// Openraft's table: `Membership::next_coherent`.
    #[test]
    fn a_change_is_two_steps() {
        let joint = joint();
        assert_eq!(joint.joint(), Some(&[3, 4, 5][..]));
        assert!(joint.learners().is_empty() && joint.voters() == [1, 2, 3, 4, 5]);
        let end = joint.changed(&Change::Set(vec![5, 4, 3])).expect("the second step");
        assert_eq!(end, Config::of(&[3, 4, 5]), "who left is unknown");
        let back = joint.changed(&Change::Set(vec![1, 2, 3])).expect("the way back");
        assert_eq!(back, Config::of(&[1, 2, 3]));
        let further = joint.changed(&Change::Set(vec![1, 2, 5])).expect("elsewhere");
        assert_eq!(further.joint(), Some(&[1, 2, 5][..]));
        assert!(further.is_quorum(|voter| [1, 4, 5].contains(&voter)), "from the last set, not from the first");
        assert!(joint.changed(&Change::Set(vec![3, 4, 6])).is_err(), "nobody votes who was no learner");
        assert!(joint.changed(&Change::Remove(3)).is_err());
        let without = Config::of(&[1]).changed(&Change::Add(2)).and_then(|two| two.changed(&Change::Remove(2)));
        assert_eq!(without, Ok(Config::of(&[1])));
    }
}
