//! What can go wrong, as the specification numbers it. None of it says anything about the machine's power.

use std::fmt;

use rekindle_proto::fact::{DeviceError, Text};

use super::suite::CipherSuite;

/// The completion code of an answer (IPMI 2.0, table 5-2 and the commands' own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion(pub u8);

/// What to do about a completion code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It was done.
    Done,
    /// Not now: the same may be asked again soon.
    Busy,
    /// Not in the state the machine is in; it may be changing. For a power order: perhaps it is there already.
    NotInThisState,
    /// Our user may not.
    Privilege,
    /// No, and asking again changes nothing.
    Refused,
}

impl Completion {
    pub(super) fn meaning(self) -> Meaning {
        match self.0 {
            0x00 => Meaning::Done,
            // Node busy; timeout while processing; cannot respond now (three reasons); firmware update; starting up.
            0xC0 | 0xC3 | 0xCE | 0xD0 | 0xD1 | 0xD2 => Meaning::Busy,
            0xD5 => Meaning::NotInThisState,
            0xD4 => Meaning::Privilege,
            _ => Meaning::Refused,
        }
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            0x00 => "done",
            0xC0 => "node busy",
            0xC1 => "invalid command",
            0xC3 => "timed out while processing",
            0xC4 => "out of space",
            0xC7 => "request data length invalid",
            0xC9 => "parameter out of range",
            0xCC => "invalid data field",
            0xCE..=0xD0 => "cannot respond now",
            0xD1 => "firmware update under way",
            0xD2 => "the BMC is starting up",
            0xD4 => "insufficient privilege level",
            0xD5 => "not supported in the present state",
            0xD6 => "disabled or unavailable",
            0xFF => "unspecified error",
            _ => "see IPMI 2.0, table 5-2",
        };
        write!(f, "completion code {:#04x}, {words}", self.0)
    }
}

/// The status of an answer in the handshake (IPMI 2.0, table 13-15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8);

/// What to do about a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusMeaning {
    /// It has no place for a session now.
    Full,
    /// It does not know the session that is being opened: it may have restarted. From the beginning, then.
    Lost,
    /// It does not do that cipher suite.
    Suite,
    /// Our user, its password or its privilege.
    Credentials,
    /// Anything else.
    Refused,
}

impl Status {
    pub(super) fn meaning(self) -> StatusMeaning {
        match self.0 {
            0x01 | 0x0B => StatusMeaning::Full,
            0x02 | 0x08 => StatusMeaning::Lost,
            0x04..=0x07 | 0x10 | 0x11 => StatusMeaning::Suite,
            0x09 | 0x0A | 0x0C..=0x0F => StatusMeaning::Credentials,
            _ => StatusMeaning::Refused,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            0x01 => "no resources for another session",
            0x02 => "invalid session id",
            0x04 => "invalid authentication algorithm",
            0x05 => "invalid integrity algorithm",
            0x08 => "inactive session id",
            0x09 => "invalid role",
            0x0A => "unauthorized role or privilege level",
            0x0B => "no resources for a session of that role",
            0x0C => "invalid length of the user name",
            0x0D => "unauthorized user name",
            0x0F => "invalid integrity check value",
            0x10 => "invalid confidentiality algorithm",
            0x11 => "no matching cipher suite",
            0x12 => "illegal parameter",
            _ => "see IPMI 2.0, table 13-15",
        };
        write!(f, "status {:#04x}, {words}", self.0)
    }
}

/// Why a BMC did not do, or did not say, what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IpmiError {
    /// A power order's time was over before it was sent: nothing was.
    #[error("the order came too late and was not sent")]
    TooLate,
    /// No answer.
    #[error("no answer to {asked}{}", if *ordered { ": the power order was sent, and may have been or may yet be carried out" } else { "" })]
    Silent {
        /// What was asked last.
        asked: &'static str,
        /// Whether a power order was on the wire.
        ordered: bool,
    },
    /// The network says why there is none.
    #[error("no answer to {asked}: {why}{}", if *ordered { "; the power order was sent, and may have been or may yet be carried out" } else { "" })]
    Unreachable {
        /// What was asked last.
        asked: &'static str,
        /// The system's words.
        why: String,
        /// Whether a power order was on the wire.
        ordered: bool,
    },
    /// It refused to open a session.
    #[error("{asked} was answered with {status}")]
    Handshake {
        /// What was asked.
        asked: &'static str,
        /// Its answer.
        status: Status,
    },
    /// It does none of the cipher suites that are allowed.
    #[error("the BMC does not accept cipher suite {}: {status}; enable 17 (or 3) there", suite.number())]
    NoSuite {
        /// The last that was tried.
        suite: CipherSuite,
        /// Its answer.
        status: Status,
    },
    /// It answered with other algorithms than were asked for.
    #[error(
        "cipher suite {} was asked for, and the BMC answered with the algorithms {got:?} (authentication, integrity, confidentiality): a weaker session is not opened",
        suite.number()
    )]
    Downgrade {
        /// What was asked for.
        suite: CipherSuite,
        /// Its answer.
        got: [u8; 3],
    },
    /// It does not know our password, or is not the BMC.
    #[error("the password is not the BMC's: RAKP message 2 is not signed with it")]
    Password,
    /// It knows our password and not K_g, or the other way round.
    #[error("K_g is not the BMC's: RAKP message 4 is not signed with it")]
    Kg,
    /// Our user may not control the chassis.
    #[error("the user's privilege is too low: {command}: {completion}")]
    Privilege {
        /// Which command told so.
        command: &'static str,
        /// Its answer.
        completion: Completion,
    },
    /// It accepted the raise and gave another level.
    #[error("the session was to be raised to privilege level {wanted}, and the BMC made it {level}")]
    Level {
        /// The level it was asked for: 3, operator, or 4, administrator.
        wanted: u8,
        /// The level it gave.
        level: u8,
    },
    /// It refused or failed a command.
    #[error("{command}: {completion}")]
    Refused {
        /// Which.
        command: &'static str,
        /// Its answer.
        completion: Completion,
    },
    /// An answer of a length that it cannot have.
    #[error("{command} was answered with {length} bytes")]
    Length {
        /// Which.
        command: &'static str,
        /// Bytes after the completion code.
        length: usize,
    },
    /// It is not the BMC that is meant, or does not say so: it was not asked further, and not ordered anything since.
    #[error("{0}")]
    NotTheOne(DeviceError),
    /// The driver could not be run.
    #[error("{0}")]
    Unusable(String),
}

impl From<IpmiError> for DeviceError {
    fn from(error: IpmiError) -> Self {
        let text = Text::new(error.to_string());
        match error {
            IpmiError::Silent { .. } | IpmiError::Unreachable { .. } => Self::Silent(text),
            IpmiError::NoSuite { .. }
            | IpmiError::Downgrade { .. }
            | IpmiError::Password
            | IpmiError::Kg
            | IpmiError::Privilege { .. }
            | IpmiError::Level { .. } => Self::Credentials(text),
            IpmiError::Handshake { status, .. } => match status.meaning() {
                StatusMeaning::Credentials | StatusMeaning::Suite => Self::Credentials(text),
                StatusMeaning::Full | StatusMeaning::Lost | StatusMeaning::Refused => Self::Refused(text),
            },
            IpmiError::Refused { .. } => Self::Refused(text),
            IpmiError::NotTheOne(why) => why,
            // Readings are never too late.
            IpmiError::Length { .. } | IpmiError::Unusable(_) | IpmiError::TooLate => Self::Unusable(text),
        }
    }
}
