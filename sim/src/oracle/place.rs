//! Which row of [`Violation::KINDS`] is whose.

use super::Violation;

impl Violation {
    pub(super) fn place(&self) -> usize {
        match self {
            Self::RunsTwice { .. } => 0,
            Self::EvacuatedFromPowered { .. } => 1,
            Self::EvacuatedWithoutProof { .. } => 2,
            Self::FencedWrongMachine { .. } => 3,
            Self::ProvenWithoutReads { .. } => 4,
            Self::TwoLeaders { .. } => 5,
            Self::FencedByMinority { .. } => 6,
            Self::ActedDeposed { .. } => 7,
            Self::FencedUnderBrake { .. } => 8,
            Self::TooFast { .. } => 9,
            Self::ColdStart { .. } => 10,
            Self::FencedWithoutIncident { .. } => 11,
            Self::OffTooLate { .. } => 12,
            Self::TwoIncidents { .. } => 13,
            Self::WrittenAfterClosing { .. } => 14,
            Self::ProofOutlivesEpoch { .. } => 15,
            Self::Diverged { .. } => 16,
            Self::HeardAndFenced { .. } => 17,
            Self::StartedBeforeGate { .. } => 18,
            Self::Unbounded { .. } => 19,
            Self::Panicked { .. } => 20,
            Self::CalledTwice { .. } => 21,
            Self::NeverEnds { .. } => 22,
            Self::NeverNoticed { .. } => 23,
            Self::Lost { .. } => 24,
            Self::StuckWithoutCause { .. } => 25,
            Self::LockLeft { .. } => 26,
            Self::OwnersLock { .. } => 27,
            Self::ActedBeforeArrival { .. } => 28,
            Self::NotRestored { .. } => 29,
            Self::TwoElected { .. } => 30,
            Self::VotersWorse { .. } => 31,
            Self::NotReplaced { .. } => 32,
            Self::LeftDisabled { .. } => 33,
            Self::RehearsedUnfit { .. } => 34,
            Self::PoweredOnEarly { .. } => 35,
            Self::OrderUnread { .. } => 36,
            Self::BegunLate { .. } => 37,
            Self::DumpCutShort { .. } => 38,
        }
    }
}
