//! # rekindle-tests: what the demo, the daemon tests and the benches stand on
//!
//! [`fake`] holds parts that speak the real protocol on a real socket and do what real parts cannot be told to do: lie,
//! hang, refuse, forget, be a thousand hosts. [`harness`] is a cluster of real daemons around them. [`demo`] tells its story.
#![forbid(unsafe_code)]

pub mod demo;
pub mod fake;
pub mod harness;
