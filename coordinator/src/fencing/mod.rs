//! How to be sure that a host is off: its devices, whether they are really its own, orders, read-backs, the proof.

mod binding;
mod devices;
mod proof;
mod run;

pub use binding::guid_names;
pub use devices::{Binding, DeviceBook, DeviceEntry};
pub use proof::{FenceProof, OffRead, PROOF_LEASE, READ_CLOSELY_FOR};
pub use run::{FenceRun, RunStep};
