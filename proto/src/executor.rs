//! What a leader and the voter that executes an attempt for it say to each other: BMC networks differ, and a leader may not
//! reach a device that another voter does.
//!
//! ```text
//!  leader   Task ─────────────► voter    its own ledger must know the attempt as its own
//!           ◄──────────── MayI           it notes the moment of asking
//!           fresh permit
//!           Go (durations) ───►          begun before asking + begin_within, killed at asking + kill_within
//!           ◄──────────── Done
//!           Read ─────────────►
//!           ◄───────── Reading
//! ```
//!
//! No moment travels: two members' clocks have nothing in common but their pace.

use serde::{Deserialize, Serialize};

use crate::fact::{DeviceGuid, DeviceName, DeviceReading, OrderError, Text};
use crate::id::{CallId, HostName, IncidentId, SystemUuid};

/// One of these words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutorWord {
    /// Leader to voter: one device of an attempt is yours to switch off. Nothing is begun on this word.
    Task {
        /// To be repeated.
        call: CallId,
        /// Of which incident.
        incident: IncidentId,
        /// Which committed attempt.
        attempt: u32,
        /// Which device of it.
        device: DeviceName,
    },
    /// Voter to leader: may I begin? Whatever is granted counts from the moment at which this is said.
    MayI {
        /// To be repeated; answered once.
        question: CallId,
        /// From the task.
        task: CallId,
    },
    /// Leader to voter, by a check begun after the question had come: go.
    Go {
        /// From the question.
        question: CallId,
        /// Not to be begun later than this after the question was asked, in milliseconds; at most half a second counts.
        begin_within_ms: u32,
        /// Killed when so much time has passed since the question was asked, in milliseconds.
        kill_within_ms: u32,
        /// Whose the device must say that it is.
        identity: ToldIdentity,
    },
    /// Voter to leader: I do not do this; nothing was begun.
    Refused {
        /// From the task.
        task: CallId,
        /// Why not.
        why: Text,
    },
    /// Voter to leader: what the device said to the order, and whether it may have left.
    Done {
        /// From the task.
        task: CallId,
        /// As of an order of the leader's own.
        result: Result<(), OrderError>,
    },
    /// Leader to voter: read this device, its power and its GUID.
    Read {
        /// To be repeated.
        call: CallId,
        /// Whose.
        host: HostName,
        /// Which.
        device: DeviceName,
        /// How long one command may take, in milliseconds.
        within_ms: u32,
    },
    /// The answer to [`ExecutorWord::Read`].
    Reading {
        /// From the question.
        call: CallId,
        /// What it read.
        reading: DeviceReading,
    },
}

/// Whose a device must say that it is before it is ordered anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToldIdentity {
    /// It tells the system UUID of this machine.
    Machine(SystemUuid),
    /// It tells this, as it did before.
    Told(DeviceGuid),
    /// It tells no GUID.
    Untold,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{DeviceError, PowerState};
    use crate::message::{MESSAGE_BYTES_MAX, Message, decode, encode};

    #[test]
    fn each_word_is_understood_as_it_was_said() {
        let device = || DeviceName("ipmi@cmp-05-bmc".to_owned());
        let words = [
            ExecutorWord::Task { call: CallId(1), incident: IncidentId(2), attempt: 3, device: device() },
            ExecutorWord::MayI { question: CallId(4), task: CallId(1) },
            ExecutorWord::Go {
                question: CallId(4),
                begin_within_ms: 480,
                kill_within_ms: 24_000,
                identity: ToldIdentity::Told(DeviceGuid([7; 16])),
            },
            ExecutorWord::Refused { task: CallId(1), why: "I hear it".into() },
            ExecutorWord::Done { task: CallId(1), result: Err(OrderError::NotSent(DeviceError::Silent("x".into()))) },
            ExecutorWord::Read {
                call: CallId(5),
                host: HostName::new("cmp-05").expect("legal"),
                device: device(),
                within_ms: 5_000,
            },
            ExecutorWord::Reading {
                call: CallId(5),
                reading: DeviceReading { power: Ok(PowerState::Off), guid: Some(Ok(DeviceGuid([7; 16]))) },
            },
        ];
        for word in words {
            let message = Message::Executor(word);
            let bytes = encode(&message, MESSAGE_BYTES_MAX).expect("fits");
            assert_eq!(decode::<Message>(&bytes, MESSAGE_BYTES_MAX), Ok(message));
        }
    }
}
