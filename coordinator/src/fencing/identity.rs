//! Whose machine a device must say that it is behind, right before it is ordered anything and whenever it is read for a proof.
//!
//! That it was bound once says nothing of now: cables are crossed while a cluster runs, and an address is given to another
//! BMC. So the question is asked in the very session, or document, of the order and of the reading (I2).

use rekindle_proto::executor::ToldIdentity;
use rekindle_proto::fact::{DeviceError, DeviceGuid, DeviceReading, PowerState, Text};
use rekindle_proto::id::SystemUuid;

use super::binding::guid_names;
use crate::mutant::{Guard, keeps};

/// What a device is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceIdentity {
    /// It is bound by its GUID: it tells the system UUID of this machine.
    Machine(SystemUuid),
    /// It was rehearsed, or takes its turn in a rehearsal: it tells this, as it did then.
    Told(DeviceGuid),
    /// It tells no GUID. One that tells one now is another device.
    #[default]
    Untold,
}

impl DeviceIdentity {
    /// By what it has told before.
    #[must_use]
    pub fn as_told(guid: Option<DeviceGuid>) -> Self {
        guid.map_or(Self::Untold, Self::Told)
    }

    /// Whether it may be ordered, by what it tells of its machine right before.
    ///
    /// # Errors
    /// [`DeviceError::Foreign`] if it names another machine. Else why it is not known whose it is.
    pub fn judge(&self, told: &Result<DeviceGuid, DeviceError>) -> Result<(), DeviceError> {
        if !keeps(Guard::OrderIdentity) || !keeps(Guard::DeviceBinding) {
            return Ok(());
        }
        match (self, told) {
            (Self::Machine(machine), Ok(guid)) if guid_names(*guid, *machine) => Ok(()),
            (Self::Machine(machine), Ok(guid)) => {
                Err(foreign(format!("its GUID {} is not the host's system UUID {machine}", hex(*guid))))
            }
            (Self::Told(then), Ok(now)) if then == now => Ok(()),
            (Self::Told(then), Ok(now)) => Err(foreign(format!("its GUID was {}, and is {}", hex(*then), hex(*now)))),
            (Self::Untold, Ok(guid)) => Err(foreign(format!("it told no GUID before, and now {}", hex(*guid)))),
            (
                Self::Machine(_) | Self::Told(_) | Self::Untold,
                Err(error @ (DeviceError::Silent(_) | DeviceError::Credentials(_) | DeviceError::Foreign(_))),
            ) => Err(error.clone()),
            (Self::Untold, Err(DeviceError::Refused(_) | DeviceError::Unusable(_))) => Ok(()),
            // Not "unusable": that a GUID is lacking does not say that the device has no status (`unverified = "accept"`).
            (Self::Machine(_) | Self::Told(_), Err(error @ (DeviceError::Refused(_) | DeviceError::Unusable(_)))) => {
                let why = format!("it does not tell the GUID by which it is known: {error}");
                Err(DeviceError::Refused(Text::new(why)))
            }
        }
    }

    /// A reading as far as it is one of the host's power: what another machine's device reads is none, nor is an *off* of
    /// nobody knows whose. An *on* of nobody knows whose stays: it proves nothing, and takes a proof back.
    #[must_use]
    pub fn sift(&self, reading: &DeviceReading) -> DeviceReading {
        let unasked = || Err(DeviceError::Unusable("it was not asked for its GUID".into()));
        let judged = match (&reading.power, &reading.guid) {
            (Ok(_), Some(told)) => self.judge(told),
            (Ok(_), None) => self.judge(&unasked()),
            // Its own error says more.
            (Err(_), Some(told @ Ok(_))) => self.judge(told),
            (Err(_), Some(Err(_)) | None) => Ok(()),
        };
        let power = match (judged, &reading.power) {
            (Err(why @ DeviceError::Foreign(_)), _) | (Err(why), Ok(PowerState::Off)) => Err(why),
            (Ok(()) | Err(_), power) => power.clone(),
        };
        DeviceReading { power, guid: reading.guid.clone() }
    }
}

/// As it travels to the voter that executes.
impl From<DeviceIdentity> for ToldIdentity {
    fn from(identity: DeviceIdentity) -> Self {
        match identity {
            DeviceIdentity::Machine(machine) => Self::Machine(machine),
            DeviceIdentity::Told(guid) => Self::Told(guid),
            DeviceIdentity::Untold => Self::Untold,
        }
    }
}

impl From<ToldIdentity> for DeviceIdentity {
    fn from(told: ToldIdentity) -> Self {
        match told {
            ToldIdentity::Machine(machine) => Self::Machine(machine),
            ToldIdentity::Told(guid) => Self::Told(guid),
            ToldIdentity::Untold => Self::Untold,
        }
    }
}

fn foreign(why: String) -> DeviceError {
    DeviceError::Foreign(Text::new(why))
}

/// A GUID's bytes for people, in the order in which they came.
pub(super) fn hex(guid: DeviceGuid) -> String {
    guid.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const MINE: DeviceGuid = DeviceGuid([1; 16]);
    const OTHER: DeviceGuid = DeviceGuid([2; 16]);

    fn identities() -> [DeviceIdentity; 3] {
        [
            DeviceIdentity::Machine(SystemUuid(Uuid::from_bytes(MINE.0))),
            DeviceIdentity::Told(MINE),
            DeviceIdentity::Untold,
        ]
    }

    /// What becomes of the judgement: `Ok`, or the kind of error.
    fn kind(judged: &Result<(), DeviceError>) -> &'static str {
        match judged {
            Ok(()) => "ok",
            Err(DeviceError::Silent(_)) => "silent",
            Err(DeviceError::Credentials(_)) => "credentials",
            Err(DeviceError::Refused(_)) => "refused",
            Err(DeviceError::Unusable(_)) => "unusable",
            Err(DeviceError::Foreign(_)) => "foreign",
        }
    }

    #[test]
    fn the_table_of_identities() {
        // (what it tells, what that is to one bound by its GUID, to one that told it in its rehearsal, to one that told none)
        let rows = [
            (Ok(MINE), ["ok", "ok", "foreign"]),
            (Ok(OTHER), ["foreign", "foreign", "foreign"]),
            (Err(DeviceError::Silent("x".into())), ["silent"; 3]),
            (Err(DeviceError::Credentials("x".into())), ["credentials"; 3]),
            (Err(DeviceError::Refused("x".into())), ["refused", "refused", "ok"]),
            (Err(DeviceError::Unusable("x".into())), ["refused", "refused", "ok"]),
        ];
        for (told, expected) in rows {
            let judged = identities().map(|identity| kind(&identity.judge(&told)));
            assert_eq!(judged, expected, "{told:?}");
        }
    }

    #[test]
    fn only_a_reading_of_the_hosts_own_device_says_off() {
        let refused = || Err(DeviceError::Refused("busy".into()));
        let silent = || DeviceError::Silent("x".into());
        // (power, GUID, what is left for one that is bound)
        type Row = (Result<PowerState, DeviceError>, Option<Result<DeviceGuid, DeviceError>>, &'static str);
        let rows: Vec<Row> = vec![
            (Ok(PowerState::Off), Some(Ok(MINE)), "off"),
            (Ok(PowerState::On), Some(Ok(MINE)), "on"),
            (Ok(PowerState::Off), Some(Ok(OTHER)), "foreign"),
            (Ok(PowerState::On), Some(Ok(OTHER)), "foreign"),
            (Ok(PowerState::Off), Some(refused()), "refused"),
            (Ok(PowerState::Off), None, "refused"),
            (Ok(PowerState::On), Some(refused()), "on"),
            (Ok(PowerState::On), None, "on"),
            (Err(silent()), Some(Err(silent())), "silent"),
            (Err(silent()), None, "silent"),
            (Err(silent()), Some(Ok(OTHER)), "foreign"),
        ];
        for (power, guid, expected) in rows {
            let reading = DeviceReading { power, guid };
            let left = match identities()[0].sift(&reading).power {
                Ok(PowerState::On) => "on",
                Ok(PowerState::Off) => "off",
                Err(error) => kind(&Err(error)),
            };
            assert_eq!(left, expected, "{reading:?}");
        }
    }
}
