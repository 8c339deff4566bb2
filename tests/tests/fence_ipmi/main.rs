//! The driver `ipmi` against BMCs.
//!
//! | module | the BMC | time |
//! |---|---|---|
//! | [`torture`] | our own, with every fault of [`rekindle_tests::fake::bmc::Faults`], behind a bad network | virtual |
//! | [`crossed`] | the same: another machine's, whose cable is where ours was | virtual |
//! | [`unsent`] | the same: of which failures it is known that the order was not sent | virtual |
//! | [`real`] | OpenIPMI's `ipmi_sim`, and our own over UDP, 64 of them at once | real |
//!
//! A fence here is what the coordinator makes of readings (I2): an accepted order, then two readings of *off*, a second
//! apart, of the right machine. In every case it ends in confirmed off, still on, or unknown; and what is confirmed is so.

mod crossed;
mod real;
mod torture;
mod unsent;
mod world;
