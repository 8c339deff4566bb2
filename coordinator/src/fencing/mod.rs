//! How to be sure that a host is off: its devices, whether they are really its own, orders, read-backs, the proof.

mod binding;
mod devices;
mod executor;
mod given;
mod identity;
mod neighbours;
mod proof;
mod reach;
mod run;
mod watchdog;

pub use binding::guid_names;
pub use devices::{Binding, DeviceBook, DeviceEntry};
pub use executor::{Before, Candidate, executor, in_turn};
pub use given::{Due, Given};
pub use identity::DeviceIdentity;
pub use neighbours::{SILENT_MIN, Together, Voice, together};
pub use proof::{FenceProof, OffRead, PROOF_LEASE, READ_CLOSELY_FOR, ReadSpan};
pub use reach::Reach;
pub use run::{FenceRun, RunStep};
pub use watchdog::{ISOLATED, PROOF_AFTER, Silence, UnsafeTimes, WATCHDOG, are_safe, check_times};
