//! # rekindle-proto: the words
//!
//! What rekindle says on a wire or a socket, and nothing else. *proto speaks, coordinator decides, agent acts.*
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | names and numbers: hosts, boots, incidents, servers. Newtypes, ordered, printable, refused when malformed |
//! | [`message`] | what members say to each other on authenticated streams, with its size bounds |
//! | [`executor`] | what a leader and the voter that executes a fence attempt for it say to each other |
//! | [`fact`] | what adapters and members report of the world: power, guests, Nova's records |
//! | [`status`] | the documents behind `rekindle status`, `incident` and `why`: JSON, stable field names |
//! | [`segment`] | groups of hosts with a recovery method, as Masakari has them |
//! | [`admin`] | requests and replies on the daemon's local socket |
//!
//! "proto" here means *messages*. (Elsewhere in the field the word also names a sans-I/O core; ours is
//! `rekindle-coordinator`.)
#![forbid(unsafe_code)]

pub mod admin;
pub mod brake;
pub mod capacity;
pub mod executor;
pub mod fact;
pub mod hook;
pub mod id;
pub mod message;
pub mod notification;
pub mod process;
pub mod segment;
pub mod status;
pub mod voters;
