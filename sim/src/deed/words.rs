//! Words inside of deeds.

use serde::{Deserialize, Serialize};

/// A network path by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathWord {
    /// The first.
    Management,
    /// The second.
    Storage,
    /// The third.
    Tenant,
}

impl PathWord {
    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Management => 0,
            Self::Storage => 1,
            Self::Tenant => 2,
        }
    }
}

/// How a BMC behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BmcWord {
    /// As it should.
    Honest,
    /// It never answers.
    Silent,
    /// It says ok to off, and the machine stays on.
    StaysOn,
    /// It refuses our password.
    WrongPassword,
    /// It says off, always, and does nothing.
    SaysOff,
    /// It switches off, and says on, always.
    SaysOn,
    /// It refuses two commands of three: node busy.
    Busy,
    /// It takes three seconds for every answer.
    Slow,
    /// It accepts at once, and does it twenty seconds later.
    Late,
    /// As it should, but it does not tell whose machine it is.
    NoGuid,
    /// As it should, but nothing can be read of it.
    NoStatus,
    /// It can be read, and has no place for a session in which it would be given an order: none is ever sent.
    NoOrders,
}

/// What an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderWord {
    /// Act.
    Arm,
    /// Only watch.
    Disarm,
    /// Put a host into maintenance.
    MaintenanceOn,
    /// Take it out.
    MaintenanceOff,
    /// Try its stuck incident again.
    Resume,
    /// Let it back.
    Release,
    /// Let no brake but disarmed and maintenance hold it.
    LiftBrake,
    /// "I have seen that it is off."
    ConfirmOff,
    /// Take it off the roster.
    Forget,
    /// Put it back on the roster: on probation, with no domain.
    Enroll,
    /// Switch it off and on by its fence devices, to see that they are its own.
    Rehearse,
    /// Write the newest ledger format from now on.
    RaiseFormat,
}

impl OrderWord {
    /// Whether it is about a host.
    #[must_use]
    pub fn is_about_a_host(self) -> bool {
        match self {
            Self::Arm | Self::Disarm | Self::RaiseFormat => false,
            Self::MaintenanceOn
            | Self::MaintenanceOff
            | Self::Resume
            | Self::Release
            | Self::LiftBrake
            | Self::ConfirmOff
            | Self::Forget
            | Self::Enroll
            | Self::Rehearse => true,
        }
    }
}

/// What becomes of the disk under a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskWord {
    /// As it should be.
    Good,
    /// Every write takes 400 ms.
    Slow,
    /// No write succeeds.
    Full,
    /// The daemon dies in the middle of its next write; what it wrote is gone.
    Torn,
    /// All of it is gone; the daemon comes back with an empty one.
    Lost,
}
