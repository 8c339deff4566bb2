//! What may be broken: a kind of violation for each way in which a promise can fail.

use std::collections::BTreeSet;

use rekindle_proto::id::{HostName, IncidentId, ServerId, Term};
use rekindle_proto::status::Phase;

use super::{RATE_MAX, RATE_WINDOW};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The headline: a VM with two running copies (design, section 3).
    #[error("server {server} runs on {hosts:?} at once")]
    RunsTwice {
        /// Which.
        server: ServerId,
        /// Where.
        hosts: BTreeSet<HostName>,
    },
    /// I1: an evacuate call reached Nova for a host that has power and runs.
    #[error("server {server} was evacuated from {host}, which has power")]
    EvacuatedFromPowered {
        /// Which.
        server: ServerId,
        /// From where.
        host: HostName,
    },
    /// I1: an evacuate call was sent though no valid proof was committed.
    #[error("server {server} was evacuated from {host} without a valid proof")]
    EvacuatedWithoutProof {
        /// Which.
        server: ServerId,
        /// From where.
        host: HostName,
    },
    /// I2: an off order switched off another machine than the incident's.
    #[error("{machine} was powered off in the stead of {host}")]
    FencedWrongMachine {
        /// Whose incident it was.
        host: HostName,
        /// What went off.
        machine: HostName,
    },
    /// I2: a proof was agreed though the device had not said *off* twice, a second apart, since the order.
    #[error("{host} was taken for proven off after {apart_ms} ms of off readings")]
    ProvenWithoutReads {
        /// Which.
        host: HostName,
        /// From its first off reading since the order to its last.
        apart_ms: u64,
    },
    /// I3: a leader acted long after others had elected another.
    #[error("{leader} acted on {host}, {late_s} s after a later term had begun without it")]
    ActedDeposed {
        /// Who.
        leader: HostName,
        /// On whom.
        host: HostName,
        /// How long after.
        late_s: u64,
    },
    /// I5: a proof was still held valid after everything had lost its power.
    #[error("the proof that {host} is off outlived the loss of power")]
    ProofOutlivesEpoch {
        /// Which.
        host: HostName,
    },
    /// I3: two leaders acted under one committed intent.
    #[error("{a} and {b} both acted under one intent: {intent}")]
    TwoLeaders {
        /// One.
        a: HostName,
        /// The other.
        b: HostName,
        /// Which.
        intent: String,
    },
    /// I3: an off order was given though 51 % of the roster could not have answered.
    #[error("{host} was to be powered off by {leader}, which reached {present} of {roster}")]
    FencedByMinority {
        /// Whose power.
        host: HostName,
        /// By whom.
        leader: HostName,
        /// How many it reached.
        present: usize,
        /// Of how many.
        roster: usize,
    },
    /// I4: an act though a brake held.
    #[error("{host} was to be powered off though a brake held: {brake}")]
    FencedUnderBrake {
        /// Whose power.
        host: HostName,
        /// Which brake.
        brake: String,
    },
    /// I4: more fences than the rate allows.
    #[error("{hosts} hosts were fenced within {} s; at most {RATE_MAX}", RATE_WINDOW.as_secs())]
    TooFast {
        /// How many.
        hosts: usize,
    },
    /// I4: an incident was opened while the cluster was still starting.
    #[error("an incident of {host} was opened when {seen} of {roster} had been seen")]
    ColdStart {
        /// Whose.
        host: HostName,
        /// How many had been seen.
        seen: usize,
        /// Of how many.
        roster: usize,
    },
    /// I5: a host was powered off without an open incident, or after it was let back.
    #[error("{host} was powered off without an open incident")]
    FencedWithoutIncident {
        /// Which.
        host: HostName,
    },
    /// I5: an off order was carried out long after its not-after.
    #[error("{host} was powered off {late_s} s after the order's not-after")]
    OffTooLate {
        /// Which.
        host: HostName,
        /// How late.
        late_s: u64,
    },
    /// I3, I5: a voter began an order of its leader's after that leader's permit for it, or would not end it in time.
    #[error("{order} was begun, or would end, {late_ms} ms after its leader's word allows")]
    BegunLate {
        /// Which.
        order: String,
        /// By how much.
        late_ms: u64,
    },
    /// I5: two open incidents of one host.
    #[error("{host} has two open incidents")]
    TwoIncidents {
        /// Which.
        host: HostName,
    },
    /// I5: an intent, a proof or a move was taken by a closed incident.
    #[error("incident {incident} took an intent, a proof or a move though it is closed")]
    WrittenAfterClosing {
        /// Which.
        incident: IncidentId,
    },
    /// I5: two voters came to different states by the same entries, or to different entries at the same place.
    #[error("{host} differs from the agreed ledger at entry {index}")]
    Diverged {
        /// Who.
        host: HostName,
        /// Where.
        index: u64,
    },
    /// I6: a host that was heard, in whichever boot, before the first off order, was to be powered off.
    #[error("{leader} heard {host} and yet ordered it off")]
    HeardAndFenced {
        /// Whose power.
        host: HostName,
        /// By whom.
        leader: HostName,
    },
    /// I7: a fenced host started guests before it was let back.
    #[error("{host} started {server} before it was let back")]
    StartedBeforeGate {
        /// Which host.
        host: HostName,
        /// Which guest.
        server: ServerId,
    },
    /// I8: something grew beyond its bound.
    #[error("{host}: {found} {what}")]
    Unbounded {
        /// Where.
        host: HostName,
        /// What.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// I9: a coordinator panicked.
    #[error("a coordinator panicked: {text}")]
    Panicked {
        /// What it said.
        text: String,
    },
    /// I11: Nova was called more than once for one committed intent, or without one.
    #[error("server {server} was evacuated {calls} times on {intents} committed intents")]
    CalledTwice {
        /// Which.
        server: ServerId,
        /// Calls that were sent.
        calls: usize,
        /// Intents in the ledger.
        intents: usize,
    },
    /// I11: a server was evacuated while an earlier order to build it lay unread in a queue that nothing keeps unread.
    #[error(
        "server {server} was evacuated while an order to build it lay in the queue of {host}, which has no boot gate"
    )]
    OrderUnread {
        /// Which.
        server: ServerId,
        /// Whose queue.
        host: HostName,
    },
    /// Liveness: an incident is neither recovered, refuted nor stuck after everything healed.
    #[error("an incident of {host} is still {phase} long after everything healed")]
    NeverEnds {
        /// Whose.
        host: HostName,
        /// Its phase.
        phase: Phase,
    },
    /// Liveness: a host died for good and nothing came of it.
    #[error("{host} died, and there is no incident of it")]
    NeverNoticed {
        /// Which.
        host: HostName,
    },
    /// Liveness: a server does not run, and nothing says why.
    #[error("server {server} runs nowhere, and no incident says why")]
    Lost {
        /// Which.
        server: ServerId,
    },
    /// Liveness: an incident is stuck, and nothing that was done to its host explains it.
    #[error("the incident of {host} is stuck though nothing was wrong: {why}")]
    StuckWithoutCause {
        /// Whose.
        host: HostName,
        /// What it says.
        why: String,
    },
    /// A server is locked by us though its incident is over.
    #[error("server {server} is still locked by us")]
    LockLeft {
        /// Which.
        server: ServerId,
    },
    /// A lock that is not ours was lifted, or covered by one of ours.
    #[error("the lock that the owner of server {server} had put on it was touched")]
    OwnersLock {
        /// Which.
        server: ServerId,
    },
    /// A server was stopped, started or marked before it had arrived.
    #[error("server {server} was to be stopped, started or marked on its dead host")]
    ActedBeforeArrival {
        /// Which.
        server: ServerId,
    },
    /// A recovered server is not as its owner left it, and its story does not say why.
    #[error("server {server} was recovered, and is {found}; it should be {wanted}")]
    NotRestored {
        /// Which.
        server: ServerId,
        /// How it is.
        found: String,
        /// How it should be.
        wanted: &'static str,
    },
    /// I3: two stores led one term.
    #[error("{a} and {b} were both elected in term {term}")]
    TwoElected {
        /// One.
        a: HostName,
        /// The other.
        b: HostName,
        /// Of which term.
        term: Term,
    },
    /// I5: a change of voters made the ledger easier to lose.
    #[error("a change of voters made it worse: {why}")]
    VotersWorse {
        /// How.
        why: String,
    },
    /// Liveness: a voter was dead for long, a standby was there, and nobody replaced it.
    #[error("voter {host} is dead, and was not replaced though a standby was fit")]
    NotReplaced {
        /// Which.
        host: HostName,
    },
    /// A compute service is disabled by us, and nobody of us will enable it.
    #[error("the compute service of {host} is still disabled: {why}")]
    LeftDisabled {
        /// Whose.
        host: HostName,
        /// The reason that Nova has.
        why: String,
    },
    /// I4: a host that is not empty, or that no operator has in hand, was to be switched off for a rehearsal.
    #[error("{host} was to be switched off for a rehearsal: {why}")]
    RehearsedUnfit {
        /// Which.
        host: HostName,
        /// What speaks against it.
        why: String,
    },
    /// I4: a host was switched off before its crash dump was written, where its site has it finish.
    #[error("{host} was switched off {after_s} s after its kernel crashed, before its dump was written")]
    DumpCutShort {
        /// Which.
        host: HostName,
        /// How long after the crash.
        after_s: u64,
    },
    /// I5, I7: a host was to be powered on while an off order may still have had an effect, or its failure was not settled.
    #[error("{host} was to be powered on too early: {why}")]
    PoweredOnEarly {
        /// Which.
        host: HostName,
        /// What speaks against it.
        why: String,
    },
}

impl Violation {
    /// Every kind of violation: the rule of design.md, section 3, that it breaks, and its name.
    pub const KINDS: [(&'static str, &'static str); 39] = [
        ("headline", "runs-twice"),
        ("I1", "evacuated-from-powered"),
        ("I1", "evacuated-without-proof"),
        ("I2", "fenced-wrong-machine"),
        ("I2", "proven-without-reads"),
        ("I3", "two-leaders"),
        ("I3", "fenced-by-minority"),
        ("I3", "acted-deposed"),
        ("I4", "fenced-under-brake"),
        ("I4", "too-fast"),
        ("I4", "cold-start"),
        ("I5", "fenced-without-incident"),
        ("I5", "off-too-late"),
        ("I5", "two-incidents"),
        ("I5", "written-after-closing"),
        ("I5", "proof-outlives-epoch"),
        ("I5", "diverged"),
        ("I6", "heard-and-fenced"),
        ("I7", "started-before-gate"),
        ("I8", "unbounded"),
        ("I9", "panicked"),
        ("I11", "called-twice"),
        ("liveness", "never-ends"),
        ("liveness", "never-noticed"),
        ("liveness", "lost"),
        ("liveness", "stuck-without-cause"),
        ("state", "lock-left"),
        ("state", "owners-lock"),
        ("state", "acted-before-arrival"),
        ("state", "not-restored"),
        ("I3", "two-elected"),
        ("I5", "voters-worse"),
        ("liveness", "not-replaced"),
        ("state", "left-disabled"),
        ("I4", "rehearsed-unfit"),
        ("I5", "powered-on-early"),
        ("I11", "order-unread"),
        ("I3, I5", "begun-late"),
        ("I4", "dump-cut-short"),
    ];

    /// The rule of design.md, section 3, that was broken.
    #[must_use]
    pub fn invariant(&self) -> &'static str {
        Self::KINDS[self.place()].0
    }

    /// Which kind it is: `runs-twice`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.place()].1
    }
}
