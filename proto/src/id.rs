//! Ids: a newtype each, so that a host is never mistaken for a server, nor a term for an attempt.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name we accept, in bytes: the length of a DNS name (RFC 1035, section 2.3.4, less the root label).
pub const NAME_BYTES_MAX: usize = 253;

/// Why a name was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Names must not be empty.
    #[error("{what} must not be empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Names are bounded, as DNS names are.
    #[error("{what} has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Only letters, digits, `.`, `_` and `-`, beginning with a letter or digit: it goes into file names, logs and URIs.
    #[error("{what} {name:?} may hold only letters, digits, '.', '_' and '-', and must begin with a letter or digit")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The refused name.
        name: String,
    },
}

fn checked_name(what: &'static str, name: &str) -> Result<Arc<str>, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: name.len() });
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins_well || !name.chars().all(legal) {
        return Err(NameError::Character { what, name: name.to_owned() });
    }
    Ok(Arc::from(name))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            /// [`NameError`] when it is empty, too long, or has a character that is not allowed.
            pub fn new(name: &str) -> Result<Self, NameError> {
                checked_name($what, name).map(Self)
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A hypervisor (or witness), exactly as Nova names its service host.
    HostName, "host name"
);
name!(
    /// A rekindle cluster. Certificates of another cluster are refused.
    ClusterName, "cluster name"
);
name!(
    /// A network the members gossip on: `management`, `storage`, `tenant`.
    PathName, "path name"
);
name!(
    /// A failure domain: a rack, a room, a power feed.
    DomainName, "domain name"
);
name!(
    /// A process that is watched on a hypervisor: `nova-compute`, `libvirtd`.
    ProcessName, "process name"
);
name!(
    /// An operator, as named in an operator certificate.
    OperatorName, "operator name"
);

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl FromStr for $type {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number!(
    /// A member's life number. Only the member itself raises it: at start, and when it learns that it was declared down.
    /// It says nothing about reboots (a healed partition raises it too): see [`BootId`].
    Incarnation
);
number!(
    /// A Raft term.
    Term
);
number!(
    /// The position of a committed entry in the ledger.
    LogIndex
);
number!(
    /// One failure, from verdict to end. Allocated by the ledger, never reused.
    IncidentId
);
number!(
    /// A Nova migration record.
    MigrationId
);
number!(
    /// A host aggregate of Nova.
    AggregateId
);
number!(
    /// One process' leadership of one term. A process that restarts may find itself leading the same term again (openraft
    /// resumes a leader whose vote is on disk): what its predecessor began is not its own.
    LeadershipId
);
number!(
    /// One question to an adapter or to members, so that a late answer is told from a fresh one. Unique in a process' life.
    CallId
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub Uuid);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl FromStr for $type {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One boot of a host's kernel: `/proc/sys/kernel/random/boot_id`.
    BootId
);
uuid_id!(
    /// A Nova server (an *instance* in Nova's code, a *guest* to libvirt).
    ServerId
);
uuid_id!(
    /// A Nova server group.
    ServerGroupId
);
uuid_id!(
    /// A Nova compute service record (microversion ≥ 2.53).
    ServiceId
);
uuid_id!(
    /// A machine's SMBIOS system UUID, as its own kernel shows it (`/sys/class/dmi/id/product_uuid`).
    SystemUuid
);
uuid_id!(
    /// A voter's or standby's ledger store: random, born with the store, never given to another. A store that is lost takes
    /// with it for whom it voted and what it acknowledged; what comes after it on the same host is another voter.
    StoreId
);
uuid_id!(
    /// A segment. Random, given with the order that makes it.
    SegmentId
);
uuid_id!(
    /// One host's place in one segment. Random, given with the order that puts it there.
    SegmentHostId
);

/// A member's 16-byte id in gossip: small and `Copy`, as foca scans members linearly. Derived from the host's name, so
/// that it can be checked against the name in the peer's certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub [u8; 16]);

/// Namespace of [`MemberId`]s (RFC 9562, section 5.5): a random constant of this project.
const MEMBER_NAMESPACE: Uuid = Uuid::from_u128(0x7d0f_3a61_52c4_4b0e_9a67_1f8e_2c90_b3d4);

impl MemberId {
    /// The id of the host of that name: UUID version 5 under this project's namespace.
    #[must_use]
    pub fn of(host: &HostName) -> Self {
        Self(*Uuid::new_v5(&MEMBER_NAMESPACE, host.as_str().as_bytes()).as_bytes())
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0), f)
    }
}
impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Wall-clock time in milliseconds since the Unix epoch. For showing to people and for certificates only: no decision
/// about the living or the dead rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Milliseconds from `earlier` to `self`; zero if the clock was set back between them.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_the_rule() {
        for (name, says) in [
            ("", "must not be empty"),
            ("-x", "must begin with"),
            ("a b", "may hold only"),
            ("a/../b", "may hold only"),
            (&"x".repeat(254), "at most 253"),
        ] {
            let refusal = HostName::new(name).expect_err(name).to_string();
            assert!(refusal.contains(says), "{name:?}: {refusal}");
        }
        assert_eq!(HostName::new("cmp-01.zrh1.example").expect("legal").as_str(), "cmp-01.zrh1.example");
    }

    #[test]
    fn a_decoder_refuses_what_the_parser_refuses() {
        assert!(serde_json::from_str::<HostName>("\"a b\"").is_err());
        let bytes = postcard::to_stdvec(&"a b".to_owned()).expect("encodes");
        assert!(postcard::from_bytes::<HostName>(&bytes).is_err());
    }

    #[test]
    fn member_ids_differ_by_name_and_stay_the_same() {
        let a = MemberId::of(&HostName::new("cmp-1").expect("legal"));
        let b = MemberId::of(&HostName::new("cmp-2").expect("legal"));
        assert_ne!(a, b);
        assert_eq!(a, MemberId::of(&HostName::new("cmp-1").expect("legal")));
    }
}
