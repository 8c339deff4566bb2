//! Guards that a test may switch off, to prove that the simulator's oracle sees it.
//!
//! Each guard asks [`keeps`] where it decides, in the leader and in the ledger's own copy of the rule alike: they guard one
//! promise. Without the feature `mutants`, which nothing but `sim/tests/mutants` enables, the answer is a constant, and
//! nothing is left of the question.

/// A guard, or a rule of the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// I1: No evacuate call without a proof. Off: an answered off order proves; no reading is needed, none is waited for.
    Proof,
    /// I2: Power is read *off* twice, a second apart. Off: once.
    TwoReads,
    /// I2: A proof is valid for 30 s after the last off reading, and renewed by reading. Off: for ever.
    Lease,
    /// I2: An *on* reading voids the proof.
    VoidByOn,
    /// I2: A word of the host after its proof voids it.
    VoidByVoice,
    /// I2: A Nova heartbeat that moves after the force-down voids the proof.
    VoidByHeartbeat,
    /// I2: A device counts only while it is known to be the host's own.
    DeviceBinding,
    /// I3: Who acts has just been confirmed as leader by a quorum.
    FreshCheck,
    /// I3: 51 % of the roster have answered.
    RollCall,
    /// I3, section 4: A quorum of those who could testify finds the host silent, and one who hears it refutes.
    Testimony,
    /// I5: An intent is acted upon by the very leadership that wrote it.
    IntentAuthor,
    /// I5: One open incident a host.
    OneIncident,
    /// I5: Nothing is written into a closed incident.
    ClosedStays,
    /// I5: A command about an incident is taken only in the phase that it belongs to.
    PhaseRules,
    /// I5: No readmission while an off order may still be under way.
    OffSettled,
    /// I5: A loss of power voids what was proven before it.
    EpochVoids,
    /// I6: A host heard in the same boot before the first off order is not powered off.
    VoiceCancels,
    /// I7: A fenced host starts no guests before it was let back.
    BootGate,
    /// I4: Nothing is done while disarmed, or about a host in maintenance.
    Standing,
    /// I4: Nobody is judged while the cluster is still starting.
    ColdStart,
    /// I4: Hosts that fall silent together are held for a while.
    DomainEvent,
    /// I4: Only so many hosts of a domain are recovered at once.
    DomainCap,
    /// I4: Hosts are fenced only so fast.
    FenceRate,
    /// I11: One evacuate intent at a time per server.
    OneIntent,
    /// I11: An intent without a record is open until its call can have no effect any more.
    IntentSettles,
    /// I11: Whoever may run a copy has denied it before an evacuate call.
    CopiesDenied,
    /// I11: An order that may lie unread in the queue of a host that is off is over only if a boot gate keeps that queue unread.
    QueueKeptUnread,
    /// I11: Of the hosts that may have an unread order of the same server, one at a time reads its queue, while Nova is not at
    /// work on that server. Off: whoever is let back.
    OneQueue,
    /// I5: An off order is begun before its not-after, or never. Off: whenever its driver gets to it.
    NotAfter,
    /// I1, I3: An evacuate call is sent while its permit and its proof hold, or never. Off: whenever its adapter gets to it.
    CallInTime,
    /// I6: A host heard in a new boot before the first off order is not powered off.
    RebootCancels,
    /// I6: The guests of a host that came back in another boot are started in place.
    RebootMended,
    /// I11: An unknown answer to an evacuate call leaves its intent open. Off: it counts as a refusal.
    UnknownIsOpen,
    /// I11: One call an intent.
    CalledOnce,
    /// I8: Only so many evacuations are under way at once.
    Pace,
    /// I5: A new leader goes on with what another has begun.
    NothingDropped,
    /// I5: A voter that lost its store neither votes nor stands. Kept by the adapter, and by its model in the simulator.
    BlankStore,
    /// Section 4: Whoever is silent in gossip is suspect, whoever leads, and whoever led when it fell silent.
    NobodyForgotten,
    /// Section 4: A fence device is tried before it is given up.
    Tries,
    /// section 4: A host that said goodbye is not suspect.
    Goodbye,
    /// What we locked we unlock.
    Unlocks,
    /// A lock that is not ours is neither lifted nor covered.
    OwnersLock,
    /// Section 5: A server is stopped or started only where it has arrived.
    ArrivedFirst,
    /// I6: A server ends as its owner left it.
    EndState,
    /// I2: A watchdog proves something once its host has said that it runs. Off: from when it is meant to.
    WatchdogRuns,
    /// I2: Off readings count after an off order that may have left. Off: after any answer to one.
    OrderSent,
    /// I2: A device is ordered, and read for a proof, only where it tells in that very session that it is the host's.
    OrderIdentity,
    /// Where the site says so, a host that writes its crash dump is switched off only after it. Off: at once.
    DumpEnds,
    /// I4: Only an empty host in maintenance is rehearsed.
    RehearsedEmpty,
    /// I2: A device passes a rehearsal only if its host falls silent, and comes back in another boot.
    RehearsedSilence,
    /// I3, I5: What a leader grants to the voter that executes for it counts from the voter's question. Off: from when the answer
    /// came.
    GoCounts,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 51] = [
        Self::Proof,
        Self::TwoReads,
        Self::Lease,
        Self::VoidByOn,
        Self::VoidByVoice,
        Self::VoidByHeartbeat,
        Self::DeviceBinding,
        Self::FreshCheck,
        Self::RollCall,
        Self::Testimony,
        Self::IntentAuthor,
        Self::OneIncident,
        Self::ClosedStays,
        Self::PhaseRules,
        Self::OffSettled,
        Self::EpochVoids,
        Self::VoiceCancels,
        Self::BootGate,
        Self::Standing,
        Self::ColdStart,
        Self::DomainEvent,
        Self::DomainCap,
        Self::FenceRate,
        Self::OneIntent,
        Self::IntentSettles,
        Self::CopiesDenied,
        Self::QueueKeptUnread,
        Self::OneQueue,
        Self::NotAfter,
        Self::CallInTime,
        Self::RebootCancels,
        Self::RebootMended,
        Self::UnknownIsOpen,
        Self::CalledOnce,
        Self::Pace,
        Self::NothingDropped,
        Self::BlankStore,
        Self::NobodyForgotten,
        Self::Tries,
        Self::Goodbye,
        Self::Unlocks,
        Self::OwnersLock,
        Self::ArrivedFirst,
        Self::EndState,
        Self::WatchdogRuns,
        Self::OrderSent,
        Self::OrderIdentity,
        Self::DumpEnds,
        Self::RehearsedEmpty,
        Self::RehearsedSilence,
        Self::GoCounts,
    ];

    /// The rule of design.md, section 3 (or 4), that it keeps.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Proof => "I1",
            Self::TwoReads
            | Self::Lease
            | Self::VoidByOn
            | Self::VoidByVoice
            | Self::VoidByHeartbeat
            | Self::RehearsedSilence
            | Self::DeviceBinding
            | Self::OrderSent
            | Self::OrderIdentity
            | Self::WatchdogRuns => "I2",
            Self::FreshCheck | Self::RollCall => "I3",
            Self::CallInTime => "I1, I3",
            Self::GoCounts => "I3, I5",
            Self::Testimony => "I3, section 4",
            Self::IntentAuthor
            | Self::OneIncident
            | Self::ClosedStays
            | Self::PhaseRules
            | Self::OffSettled
            | Self::EpochVoids
            | Self::NotAfter
            | Self::NothingDropped
            | Self::BlankStore => "I5",
            Self::VoiceCancels | Self::RebootCancels | Self::RebootMended | Self::EndState => "I6",
            Self::Unlocks | Self::OwnersLock | Self::ArrivedFirst => "section 5",
            Self::Pace => "I8",
            Self::BootGate => "I7",
            Self::Standing
            | Self::ColdStart
            | Self::DomainEvent
            | Self::DomainCap
            | Self::DumpEnds
            | Self::RehearsedEmpty
            | Self::FenceRate => "I4",
            Self::OneIntent
            | Self::IntentSettles
            | Self::CopiesDenied
            | Self::QueueKeptUnread
            | Self::OneQueue
            | Self::UnknownIsOpen
            | Self::CalledOnce => "I11",
            Self::Goodbye | Self::NobodyForgotten | Self::Tries => "section 4",
        }
    }
}

/// Whether a guard is kept: always, but under test.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn keeps(_guard: Guard) -> bool {
    true
}

#[cfg(feature = "mutants")]
pub use switch::{Without, keeps};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        // One of the thread, not a field: the ledger's apply function and the types that are proofs see no setup, and a
        // simulated world runs on one thread.
        static OFF: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether a guard is kept on this thread.
    #[must_use]
    pub fn keeps(guard: Guard) -> bool {
        OFF.get() & bit(guard) == 0
    }

    fn bit(guard: Guard) -> u64 {
        1 << guard as u32
    }

    /// As long as it lives, some guards are off on this thread.
    #[derive(Debug)]
    pub struct Without(());

    impl Without {
        /// Switches a guard off.
        #[must_use]
        pub fn new(guard: Guard) -> Self {
            Self::all(&[guard])
        }

        /// Switches several off: where each covers the other, only the loss of both shows.
        #[must_use]
        pub fn all(guards: &[Guard]) -> Self {
            OFF.set(guards.iter().fold(0, |off, guard| off | bit(*guard)));
            Self(())
        }
    }

    impl Drop for Without {
        fn drop(&mut self) {
            OFF.set(0);
        }
    }
}
