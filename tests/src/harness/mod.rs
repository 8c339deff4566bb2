//! A cluster of real daemons on loopback addresses, in a network namespace of its own, around the fakes.
//!
//! | module | is |
//! |---|---|
//! | [`dispatch()`] | the daemon and the command of *this very build*, run from the caller's own executable |
//! | [`isolate()`] | the namespace, made before any thread |
//! | [`ClusterBuilder`], [`Cluster`] | certificates, configuration, fakes, processes |
//! | [`Fault`] | what happens to a host |
//! | [`SmallDisk`] | a disk that can be filled |
//!
//! A program that uses it begins so:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use rekindle_tests::harness::{dispatch, isolate};
//!
//! fn main() -> ExitCode {
//!     if let Some(code) = dispatch() {
//!         return code;
//!     }
//!     let isolated = isolate().expect("a network namespace");
//!     // … a tokio runtime, and in it `Cluster::builder().start(&isolated)`
//! #   drop(isolated);
//!     ExitCode::SUCCESS
//! }
//! ```
//!
//! Call the harness within a multi-threaded tokio runtime: it runs `nft` and waits for killed processes, which takes
//! milliseconds, in place.

mod builder;
mod closing;
mod cluster;
mod daemon;
mod disk;
mod dispatch;
mod fault;
mod files;
mod machine;
mod namespace;
mod orders;

pub use builder::ClusterBuilder;
pub use closing::closing;
pub use cluster::Cluster;
pub use disk::SmallDisk;
pub use dispatch::dispatch;
pub use fault::Fault;
pub use machine::Host;
pub use namespace::{Isolated, isolate};
