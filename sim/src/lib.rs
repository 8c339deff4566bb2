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
//! | [`deed`] | the vocabulary of faults, mendings and operators |
//! | [`scenario`] | stories in files: what befalls a cluster, and what must come of it |
//! | [`random`] | a story from a seed |
//! | [`shrink`] | from a story that breaks a promise to a shorter one |
//! | [`report`] | what came of many seeds |
//! | [`detect`] | how soon a death is known, and what the watching costs |
#![forbid(unsafe_code)]

mod authority;
pub mod deed;
pub mod detect;
pub mod nova;
pub mod oracle;
pub mod raft;
pub mod random;
pub mod report;
pub mod scenario;
pub mod shrink;
pub mod world;
