//! The ledger: what must survive and be agreed. A log of [`Entry`]s and the pure function that applies them. The log
//! itself, its disk and its network are an adapter's.
//!
//! Apply is the last guard, not the first: the leader decides, and every voter refuses what the rules forbid, whoever
//! decided it. An entry that is refused changes nothing and says why.

mod absence;
mod aggregates;
mod apply;
mod authority;
mod clock;
mod destination;
mod entry;
mod epoch;
mod evidence;
mod flap;
mod gate;
mod hook;
mod incident;
mod lift;
mod lost;
mod power_on;
mod process;
mod rate;
mod readmission;
mod reboot;
mod rehearsal;
mod reserve;
mod restoration;
mod roster;
mod segments;
mod state;
mod unread;
mod voters;
mod watchdog;

pub use absence::{ABSENCE_ALARM_MS, Absence, KernelLife, OnShutdown, Silence, silence};
pub use aggregates::{JOINS_MAX, JoinState, JoinStep, Joins, Membership};
pub use apply::{Outcome, Position};
pub use authority::{
    AuthorityError, CertIdentity, CertRole, CertificateOf, IdentityError, VerifiedOrder, verify_order,
};
pub use clock::{DisarmLimit, ELAPSE_MAX_MS, LedgerTime};
pub use destination::Destination;
pub use entry::{
    Entry, Fate, IntentEnd, LeaderCommand, MemberStatement, OffReads, OperatorCommand, OperatorOrder, PlannedServer,
    ProofRecord, QuorumRecovery, Statement, TestimonyRecord, VerdictRecord,
};
pub use epoch::{COLD_FOR, Epoch, PowerLoss, SEEN_PERCENT, UNSEEN_FOR, VoterBoot, YOUNG_BOOT};
pub use evidence::{Evidence, StatementEvidence, WatchdogEvidence};
pub use flap::{FLAP_TIMES, FLAP_WINDOW_MS, Flap, QUARANTINE_MAX_MS, QUARANTINE_MS, quarantine_ms};
pub use gate::{GateAnswer, gate_of, unsettled};
pub use hook::{HookEnd, HookRecord};
pub use incident::{
    FenceAttempt, GuestIncident, Incident, OpenIntent, Proof, ServerRecord, TURNS_MAX, Turn, Unplaced, may_follow,
};
pub use lift::{Lift, LiftTarget};
pub use lost::LostGuest;
pub use power_on::{PowerOn, PowerOnCommand};
pub use process::{ProcessBook, ProcessIncident, ProcessWord};
pub use rate::{FENCE_EVERY, FENCES_AT_ONCE, FenceRate, RateClaim, STORM_BEGIN, STORM_QUIET};
pub use reboot::{PRIORITY_DEFAULT, Reboot, RebootPhase, RebootServer, STARTS_AT_ONCE};
pub use rehearsal::{
    Finding, ON_TRIES_MAX, OnAttempt, REHEARSALS_MAX, Rehearsal, RehearsalEnd, RehearsalMark, RehearsalStage,
    RehearseCommand, RehearsedDevice, SILENT_MS,
};
pub use reserve::{Leg, Reserve, ReserveCommand, TAKEN_MAX, Taken, TakenEnd};
pub use restoration::{
    ACT_TRIES, ActEnd, EndState, OpenAct, Refusal, Restoration, RestoreCommand, RestorePlan, ServerAct, lock_reason,
};
pub use roster::{ABSENT_ALARM_MS, PROBATION_MS};
pub use segments::{SEGMENTS_MAX, Segment, SegmentFields, SegmentHost, SegmentHostFields, SegmentOrder, Segments};
pub use state::{Arming, GateWord, HostRecord, Ledger, Pulse};
pub use unread::{QueueCommand, Queues, Reader, UNREAD_MAX};
pub use voters::{
    REPLACE_EVERY_MS, RETIRED_MAX, STANDBYS_MAX, Seat, VOTERS_MAX, VoterBook, VoterChange, VotersCommand, exchange,
    placement,
};
pub use watchdog::{ArmedWatchdog, Stamp, WatchdogRecord, not_armed};

/// The newest format of entries and snapshots. An entry of a later format stops this voter: it must not guess. Which one may be
/// written is [`Ledger::format`]. 2: executors of fence attempts.
pub const LEDGER_FORMAT: u32 = 2;

/// The format before: the same, without the last field of [`Ledger`] and without the last [`LeaderCommand`].
pub const FORMAT_WITHOUT_EXECUTORS: u32 = 1;

/// Closed incidents kept for the story, oldest forgotten first: some years of a large site.
pub const CLOSED_INCIDENTS_MAX: usize = 500;

/// Lines of one incident's story: a host of 100 servers with three attempts each, two of them to hosts that were named, and
/// room for a long fence.
pub const STORY_LINES_MAX: usize = 700;

/// Operator orders remembered against repetition. Older ones are refused by age ([`ORDER_AGE_MAX_MS`]).
pub const NONCES_MAX: usize = 1_000;

/// Oldest operator order accepted, in milliseconds between its signing and its proposal.
pub const ORDER_AGE_MAX_MS: u64 = 5 * 60 * 1_000;

/// Hosts and witnesses in a roster.
pub const ROSTER_MAX: usize = 2_000;

/// Off orders of one incident: several leaders' tries on each of nine levels, and resumptions.
pub const FENCE_ATTEMPTS_MAX: usize = 1_000;

/// Servers of one incident: bounded by what one host can report.
pub const INCIDENT_SERVERS_MAX: usize = rekindle_proto::fact::GUESTS_MAX;

/// Restarts in place of one guest within [`GUEST_WINDOW_MS`]: a guest that dies again and again has another problem.
pub const GUEST_RESTARTS_MAX: usize = 3;

/// Open guest incidents of one host: more at once is the host's own failure, or a member that makes them up.
pub const GUEST_INCIDENTS_OPEN_MAX: usize = 64;

/// The window of [`GUEST_RESTARTS_MAX`], in milliseconds.
pub const GUEST_WINDOW_MS: u64 = 30 * 60 * 1_000;

/// After an off order's time is over, before its host may be powered on, released or readmitted, in milliseconds: slow BMCs
/// execute late (I5). The leader counts it on its own monotonic clock, and says so with `OffSettled`.
pub const OFF_SETTLE_MS: u64 = 60 * 1_000;
