//! Voters in one process: real stores on disk, real calls as bytes; only the wire between them is ours, and can be cut.

mod cluster;
mod disk;
mod faults;
mod harness;
mod refusals;
mod seats;
