//! The driver `ipmi` against BMCs.
//!
//! | module | the BMC | time |
//! |---|---|---|
//! | [`torture`] | our own, with every fault of [`rekindle_tests::fake::bmc::Faults`], behind a bad network | virtual |
//! | [`real`] | OpenIPMI's `ipmi_sim`, and our own over UDP, 64 of them at once | real |
//!
//! A fence here is what the coordinator makes of readings (I2): an accepted order, then two readings of *off*, a second
//! apart, of the right machine. In every case it ends in confirmed off, still on, or unknown; and what is confirmed is so.

mod real;
mod torture;
mod world;
