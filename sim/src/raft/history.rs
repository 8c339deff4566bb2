//! What has been agreed, and the state it gives.

use super::*;

/// One agreed place.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) record: Arc<Record>,
    pub(crate) outcome: Option<Outcome>,
}

/// What has been agreed, as an observer who sees every disk knows it: the log as committed, and the state it gives.
#[derive(Debug)]
pub struct History {
    first: Ledger,
    ledger: Ledger,
    agreed: Vec<Agreed>,
    snapshots: Vec<Ledger>,
    /// The configuration agreed last, and where.
    config: (usize, Arc<Config>),
}

impl History {
    /// A log that begins with a given ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { first: ledger.clone(), ledger, agreed: Vec::new(), snapshots: Vec::new(), config: Default::default() }
    }

    /// The agreed state.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Who votes by what was agreed last, and where that stands.
    pub(crate) fn config(&self) -> (usize, &Config) {
        (self.config.0, &self.config.1)
    }

    /// Who votes when the log begins.
    pub(crate) fn found(&mut self, config: Arc<Config>) {
        self.config = (0, config);
    }

    /// Changes the state the log begins with. Only before anything has happened.
    pub(crate) fn arrange(&mut self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.first);
        self.ledger = self.first.clone();
    }

    /// How many places are agreed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agreed.len()
    }

    /// Whether nothing is agreed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agreed.is_empty()
    }

    pub(crate) fn at(&self, index: usize) -> Option<&Agreed> {
        self.agreed.get(index.checked_sub(1)?)
    }

    /// A voter holds this record to be committed at `index`. `false`: another one was committed there before.
    pub(crate) fn agree(&mut self, index: usize, record: &Arc<Record>) -> bool {
        if let Some(known) = self.at(index) {
            return Arc::ptr_eq(&known.record, record) || known.record.term == record.term;
        }
        let position = Position { index: LogIndex(u64::try_from(index).unwrap_or(u64::MAX)), term: record.term };
        let outcome = record.entry.as_ref().map(|entry| self.ledger.apply(position, entry));
        if let Some(config) = &record.config {
            self.config = (index, config.clone());
        }
        self.agreed.push(Agreed { record: record.clone(), outcome });
        if self.agreed.len().is_multiple_of(SNAPSHOT_EVERY) {
            self.snapshots.push(self.ledger.clone());
        }
        true
    }

    /// The agreed state at `index`.
    pub(crate) fn state_at(&self, index: usize) -> Ledger {
        let count = (index / SNAPSHOT_EVERY).min(self.snapshots.len());
        let mut ledger = count.checked_sub(1).map_or(&self.first, |last| &self.snapshots[last]).clone();
        for (place, agreed) in self.agreed.iter().enumerate().take(index).skip(count * SNAPSHOT_EVERY) {
            if let Some(entry) = &agreed.record.entry {
                let index = LogIndex(u64::try_from(place + 1).unwrap_or(u64::MAX));
                ledger.apply(Position { index, term: agreed.record.term }, entry);
            }
        }
        ledger
    }
}
