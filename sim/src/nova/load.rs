//! What load does.

use super::*;

/// How long an evacuate call takes to be answered by a Nova that feels no load.
const UNLOADED: Duration = Duration::from_millis(30);

impl Nova {
    /// How long the answer to one more evacuate call takes.
    ///
    /// # Errors
    /// 429: it is too much.
    pub fn bear(&mut self) -> Result<Duration, NovaError> {
        let under_way = self.evacuations_under_way();
        let Some(bears) = self.bears else { return Ok(UNLOADED) };
        if under_way >= bears.most {
            self.refused += 1;
            return Err(NovaError::Refused { status: 429, text: "This request was rate-limited.".into() });
        }
        Ok(UNLOADED + bears.each * u32::try_from(under_way).unwrap_or(u32::MAX))
    }

    /// One more is under way.
    pub(super) fn note_peak(&mut self) {
        self.peak = self.peak.max(self.evacuations_under_way());
    }

    fn evacuations_under_way(&self) -> usize {
        let is_open = |record: &&NovaMigration| record.kind == MigrationKind::Evacuation && !record.status.is_final();
        self.migrations.iter().filter(is_open).count()
    }
}
