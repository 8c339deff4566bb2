//! May we act, now? The brakes, and the check that we still lead (I3, I4).
//!
//! A [`Permit`] is spent by one order. It can be built only here, by a leader that is fit, from a quorum's answer younger
//! than half a second, a roll call answered by 51 % of the roster, and a ledger without a brake on the host.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, Term};

use crate::brake::{self, Brake};
use crate::ledger::Ledger;
use crate::mutant::{Guard, keeps};
use crate::time::{Moment, Now};
use crate::voter::Ailment;

/// Oldest quorum answer an act may rest on (I3).
pub const CHECK_AGE_MAX: Duration = Duration::from_millis(500);

/// How long an answered roll call speaks for the roster. An evacuation takes minutes; the roll is called again meanwhile.
pub const ROLL_AGE_MAX: Duration = Duration::from_secs(10);

/// A quorum of voters said that we lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linearized {
    /// In which term.
    pub term: Term,
    /// When it had answered.
    pub finished: Moment,
}

/// A finished roll call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// When it was called: nobody's earlier word counts.
    pub called: Moment,
    /// Who answered, ourselves included.
    pub present: BTreeSet<HostName>,
}

/// The right to begin one act, before a moment.
#[derive(Debug)]
pub struct Permit {
    begin_before: Moment,
}

impl Permit {
    /// The act must have begun before this moment.
    #[must_use]
    pub fn begin_before(&self) -> Moment {
        self.begin_before
    }

    /// Grants a permit to act on `host` in `term`, if nothing holds.
    pub(crate) fn grant(
        now: Now,
        term: Term,
        ill: Option<&Ailment>,
        checked: Option<Linearized>,
        roll: Option<&Roll>,
        ledger: &Ledger,
        host: &HostName,
    ) -> Result<Self, Hold> {
        if let Some(brake) = ledger.brakes_of(host) {
            return Err(Hold::Brake(brake));
        }
        Self::as_leader(now, term, ill, checked, roll, ledger, host)
    }

    /// All that holds but the brakes on the host.
    fn as_leader(
        now: Now,
        term: Term,
        ill: Option<&Ailment>,
        checked: Option<Linearized>,
        roll: Option<&Roll>,
        ledger: &Ledger,
        host: &HostName,
    ) -> Result<Self, Hold> {
        if let Some(ailment) = ill {
            return Err(Hold::Unfit(ailment.clone()));
        }
        let roll = roll.filter(|roll| now.mono.since(roll.called) < ROLL_AGE_MAX).ok_or(Hold::RollStale)?;
        let present = roll.present.iter().filter(|host| ledger.roster.contains_key(*host)).count();
        let held = brake::mass_failure(present, brake::roster_base(ledger, host));
        if let Some(brake) = held.filter(|_| ledger.lift_of(host).is_none()) {
            return Err(Hold::MassFailure(brake));
        }
        if !keeps(Guard::FreshCheck) {
            return Ok(Self { begin_before: now.mono + CHECK_AGE_MAX });
        }
        let checked = checked.filter(|checked| checked.term == term).ok_or(Hold::CheckStale)?;
        let begin_before = checked.finished + CHECK_AGE_MAX;
        if now.mono >= begin_before {
            return Err(Hold::CheckStale);
        }
        Ok(Self { begin_before })
    }
}

/// The right to begin one act of a rehearsal, before a moment. Maintenance, which holds every other act, must hold here: an
/// operator has the host in hand, and has ordered this.
#[derive(Debug)]
pub struct RehearsalPermit {
    pub(crate) permit: Permit,
}

impl RehearsalPermit {
    /// Grants it for the host of the rehearsal under way, if nothing holds.
    pub(crate) fn grant(
        now: Now,
        term: Term,
        ill: Option<&Ailment>,
        checked: Option<Linearized>,
        roll: Option<&Roll>,
        ledger: &Ledger,
        host: &HostName,
    ) -> Result<Self, Hold> {
        if !ledger.arming.armed {
            return Err(Hold::Brake(Text::new(Brake::Disarmed { reason: ledger.arming.reason.clone() }.to_string())));
        }
        let is_kept = ledger.host(host).is_some_and(|record| record.maintenance.is_some());
        if ledger.rehearsal_of(host).is_none() || !is_kept && keeps(Guard::RehearsedEmpty) {
            return Err(Hold::Brake(Text::new(format!("no rehearsal of {host} is under way in maintenance"))));
        }
        Permit::as_leader(now, term, ill, checked, roll, ledger, host).map(|permit| Self { permit })
    }
}

/// Why no act may begin now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The ledger says: disarmed, or maintenance.
    #[error("{0}")]
    Brake(Text),
    /// We are not healthy ourselves, and nobody fitter leads in our stead.
    #[error("this leader is not fit to act, and no fitter one leads: {0}")]
    Unfit(Ailment),
    /// The mass-failure stop.
    #[error("{0}")]
    MassFailure(Brake),
    /// The roll has to be called (again).
    #[error("waiting for the roll call")]
    RollStale,
    /// A quorum of voters has to confirm (again) that we lead.
    #[error("waiting for a quorum of voters to confirm that we lead")]
    CheckStale,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Arming;
    use rekindle_proto::fact::{MemberRole, NovaError, RosterEntry};
    use rekindle_proto::id::{ClusterName, WallTime};

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn ledger(armed: bool) -> Ledger {
        let mut ledger = Ledger::new(ClusterName::new("zrh1").expect("legal"));
        ledger.arming = Arming { armed, ..ledger.arming };
        for name in ["a", "b", "c", "d", "x"] {
            let entry = RosterEntry { host: host(name), role: MemberRole::Member, domain: None };
            ledger.roster.insert(host(name), entry);
        }
        ledger
    }

    #[test]
    fn the_permit_table() {
        let at = |ms: u64| Moment::from_micros(ms * 1_000);
        let now = Now { mono: at(20_000), wall: WallTime(0) };
        let roll = |called_ms: u64, present: &str| Roll {
            called: at(called_ms),
            present: present.split_whitespace().map(host).collect(),
        };
        let check = |term: u64, finished_ms: u64| Some(Linearized { term: Term(term), finished: at(finished_ms) });
        let fresh = roll(19_000, "a b c");
        let rows = [
            (true, check(3, 19_900), Some(fresh.clone()), "until 20.400s"),
            (true, check(3, 19_500), Some(fresh.clone()), "waiting for a quorum of voters to confirm that we lead"),
            (true, check(2, 19_900), Some(fresh.clone()), "waiting for a quorum of voters to confirm that we lead"),
            (true, None, Some(fresh.clone()), "waiting for a quorum of voters to confirm that we lead"),
            (true, check(3, 19_900), None, "waiting for the roll call"),
            (true, check(3, 19_900), Some(roll(9_000, "a b c d")), "waiting for the roll call"),
            (
                true,
                check(3, 19_900),
                Some(roll(19_000, "a b")),
                "mass-failure stop: 2 of 5 answered the roll call; 3 are needed",
            ),
            (
                true,
                check(3, 19_900),
                Some(roll(19_000, "a b s t")),
                "mass-failure stop: 2 of 5 answered the roll call; 3 are needed",
            ),
            (false, check(3, 19_900), Some(fresh), "disarmed: a fresh cluster"),
        ];
        for (armed, checked, roll, expected) in rows {
            let said = match Permit::grant(now, Term(3), None, checked, roll.as_ref(), &ledger(armed), &host("x")) {
                Ok(permit) => format!("until {}", permit.begin_before()),
                Err(hold) => hold.to_string(),
            };
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn maintenance_holds() {
        let mut ledger = ledger(true);
        ledger.hosts.entry(host("x")).or_default().maintenance = Some("alice: new fan".into());
        let now = Now { mono: Moment::ZERO, wall: WallTime(0) };
        let hold = Permit::grant(now, Term(1), None, None, None, &ledger, &host("x")).expect_err("held");
        assert_eq!(hold.to_string(), "x is in maintenance: alice: new fan");
    }

    #[test]
    fn a_leader_that_is_not_healthy_itself_does_not_act() {
        let now = Now { mono: Moment::from_micros(1_000_000), wall: WallTime(0) };
        let checked = Some(Linearized { term: Term(1), finished: now.mono });
        let roll = Roll { called: now.mono, present: ["a", "b", "c"].map(host).into() };
        let grant = |ill: Option<&Ailment>| {
            Permit::grant(now, Term(1), ill, checked, Some(&roll), &ledger(true), &host("x")).map(|_| ())
        };
        assert_eq!(grant(None), Ok(()));
        let hold = grant(Some(&Ailment::NovaAway(NovaError::Unknown("no route".into())))).expect_err("held");
        assert_eq!(
            hold.to_string(),
            "this leader is not fit to act, and no fitter one leads: Nova does not answer it: no route"
        );
    }
}
