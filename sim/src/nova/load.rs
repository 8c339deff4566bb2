//! What load does.

use super::*;

/// How long an evacuate call takes to be answered by a Nova that feels no load.
const UNLOADED: Duration = Duration::from_millis(30);

/// The most that there ever was at once of evacuations, by a Nova that feels load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peaks {
    /// Taken, and not over.
    pub under_way: usize,
    /// Of these, whose destination had claimed nothing.
    pub unclaimed: usize,
    /// Calls that had arrived and were not answered.
    pub calls: usize,
}

impl Nova {
    /// How long the answer to one more evacuate call takes, which arrives now.
    ///
    /// # Errors
    /// 429: it is too much.
    pub fn bear(&mut self, now: Moment) -> Result<Duration, NovaError> {
        let under_way = self.evacuations_under_way();
        let Some(bears) = self.bears else { return Ok(UNLOADED) };
        if under_way >= bears.most {
            self.refused += 1;
            return Err(NovaError::Refused { status: 429, text: "This request was rate-limited.".into() });
        }
        let takes = UNLOADED + bears.each * u32::try_from(under_way).unwrap_or(u32::MAX);
        self.answering.retain(|until| *until > now);
        self.answering.push(now + takes);
        self.peaks.calls = self.peaks.calls.max(self.answering.len());
        Ok(takes)
    }

    /// One more is under way.
    pub(super) fn note_peak(&mut self) {
        self.peaks.under_way = self.peaks.under_way.max(self.evacuations_under_way());
        let unclaimed = self.open_evacuations().filter(|record| record.dest.is_none()).count();
        self.peaks.unclaimed = self.peaks.unclaimed.max(unclaimed);
    }

    fn evacuations_under_way(&self) -> usize {
        self.open_evacuations().count()
    }

    fn open_evacuations(&self) -> impl Iterator<Item = &NovaMigration> {
        self.migrations.iter().filter(|record| record.kind == MigrationKind::Evacuation && !record.status.is_final())
    }
}
