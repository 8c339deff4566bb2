//! Where the loss of each guard shows: stories that aim at it, and pairs of guards of which each covers the other.

use rekindle_coordinator::mutant::Guard;
use rekindle_sim::oracle::Violation;
use rekindle_sim::scenario::{Scenario, find, run};

use crate::by_hand;

/// Guards whose loss alone shows nothing, because the other catches whatever gets past: only the loss of both shows.
pub(crate) const COVERED: [(Guard, Guard, &str); 2] = [
    (Guard::ClosedStays, Guard::PhaseRules, "every command about a closed incident is refused for its phase, too"),
    (Guard::PhaseRules, Guard::ClosedStays, "a closed incident takes nothing, whatever the phase"),
];

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The kind of violation; `None`: an expectation of the story was not met.
    pub(crate) kind: Option<String>,
    /// For people.
    pub(crate) text: String,
}

/// One story.
pub(crate) enum Story {
    /// A scenario.
    Told(Box<Scenario>),
    /// By hand.
    ByHand(&'static str, fn(u64) -> Result<(), Violation>),
}

impl Story {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Told(scenario) => scenario.name.as_str(),
            Self::ByHand(name, _) => name,
        }
    }

    /// What is seen in it: a broken promise, else the first expectation that was not met.
    pub(crate) fn seen(&self, seed: u64) -> Option<Seen> {
        match self {
            Self::Told(scenario) => {
                let outcome = run(scenario, seed);
                let broken = outcome.broken.as_ref().map(|broken| Seen {
                    kind: broken.invariant.rsplit_once(' ').map(|(_, kind)| kind.to_owned()),
                    text: format!("{} ({})", broken.invariant, broken.text),
                });
                let missed = || outcome.missed.first().map(|text| format!("expectation: {text}"));
                broken.or_else(|| missed().map(|text| Seen { kind: None, text }))
            }
            Self::ByHand(_, tell) => tell(seed).err().map(|broken| Seen {
                kind: Some(broken.kind().to_owned()),
                text: format!("{} {} ({broken})", broken.invariant(), broken.kind()),
            }),
        }
    }
}

macro_rules! stories {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("stories/", $name, ".toml")))),*]
    };
}

/// The stories that aim at a guard; each must show its loss.
pub(crate) fn aimed(guard: Guard) -> Vec<Story> {
    if COVERED.iter().any(|(covered, ..)| *covered == guard) {
        return vec![Story::ByHand("a-leader-out-of-its-mind", by_hand::written_into_a_closed_incident)];
    }
    if guard == Guard::WatchdogRuns {
        return vec![Story::ByHand("held-by-another", by_hand::armed_and_never_fed)];
    }
    let of_library = |number: &str| {
        let text = find(number).unwrap_or_else(|| panic!("there is no scenario {number}"));
        vec![Story::Told(Box::new(Scenario::parse(text).unwrap_or_else(|error| panic!("{number}: {error}"))))]
    };
    let files: &[(&str, &str)] = match guard {
        Guard::TwoReads | Guard::OneIncident => return of_library("01"),
        Guard::IntentAuthor => return of_library("07"),
        Guard::OneQueue => return of_library("162"),
        Guard::OrderSent => return of_library("155"),
        Guard::OrderIdentity => return of_library("157"),
        Guard::GoCounts => return of_library("167"),
        Guard::ClosedStays | Guard::PhaseRules | Guard::WatchdogRuns => &[],
        Guard::Proof => stories!["bmc-does-nothing"],
        Guard::Lease => stories!["powered-on-unheard"],
        Guard::VoidByOn => stories!["powered-on-unheard"],
        Guard::VoidByVoice => stories!["powered-on-unread"],
        Guard::VoidByHeartbeat => stories!["powered-on-unread-unheard"],
        Guard::DeviceBinding => stories!["crossed"],
        Guard::FreshCheck => stories!["deposed"],
        Guard::RollCall => stories!["minority"],
        Guard::Testimony => stories!["leader-is-deaf"],
        Guard::OffSettled => stories!["released-early", "rehearsed-too-soon"],
        Guard::DumpEnds => return of_library("170"),
        Guard::RehearsedEmpty => stories!["rehearsed-guests"],
        Guard::RehearsedSilence => stories!["rehearsed-crossed"],
        Guard::EpochVoids => stories!["dark-after-proof"],
        Guard::VoiceCancels => stories!["heard-in-time"],
        Guard::BootGate => stories!["gated"],
        Guard::Standing => stories!["maintenance"],
        Guard::ColdStart => stories!["half-awake"],
        Guard::DomainEvent => stories!["switch-restarts"],
        Guard::DomainCap => stories!["two-of-a-rack"],
        Guard::FenceRate => stories!["storm"],
        Guard::OneIntent => stories!["late-calls"],
        Guard::IntentSettles => stories!["late-calls-many"],
        Guard::CopiesDenied => stories!["leftovers"],
        Guard::QueueKeptUnread => stories!["queued-there"],
        Guard::NotAfter => stories!["frozen-off"],
        Guard::CallInTime => stories!["frozen-call"],
        Guard::RebootCancels => stories!["rebooted"],
        Guard::RebootMended => stories!["back-empty"],
        Guard::UnknownIsOpen => stories!["late-calls-many"],
        Guard::CalledOnce | Guard::Tries => stories!["ordinary"],
        Guard::Pace => stories!["many-servers"],
        Guard::NothingDropped => stories!["leader-gone"],
        Guard::BlankStore => stories!["empty-store"],
        Guard::NobodyForgotten => stories!["unheard-of"],
        Guard::Goodbye => stories!["goodbye"],
        Guard::Unlocks | Guard::OwnersLock | Guard::ArrivedFirst | Guard::EndState => stories!["odd-servers"],
    };
    let parse = |(name, text): &(&str, &str)| {
        let scenario = Scenario::parse(&format!("name = {name:?}\n{text}"));
        Story::Told(Box::new(scenario.unwrap_or_else(|error| panic!("{name}: {error}"))))
    };
    files.iter().map(parse).collect()
}
