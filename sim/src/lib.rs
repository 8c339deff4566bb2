//! # rekindle-sim: a simulated world around many coordinators
//!
//! The very [`rekindle_coordinator::Coordinator`] the daemon runs, many of them, in virtual time: a network that loses,
//! delays and is cut; hosts with power, a BMC and guests; a Nova that accepts a second evacuation, as the real one does; a
//! replicated log with elections. One seed, one story, byte for byte.
//!
//! | module | is |
//! |---|---|
//! | [`world`] | the event heap, the hosts, and what their outputs do |
//! | [`nova`] | a Nova that does not protect anybody (design rule I11) |
//! | [`raft`] | a log that only a majority can extend |
//! | [`oracle`] | what must never happen, checked against the ground truth after every event |
//! | [`scenario`] | seeded faults, then healing, then judgement |
#![forbid(unsafe_code)]

mod authority;
pub mod nova;
pub mod oracle;
pub mod raft;
pub mod scenario;
pub mod world;
