//! # rekindle-coordinator: every decision, as pure state machines
//!
//! *proto speaks, coordinator decides, agent acts.* Every member runs the same [`Coordinator`]; leader is a role it holds
//! for a term. No clock, no I/O, no async runtime: time is an argument, the world an [`io::Input`], every act an
//! [`io::Output`]. The same inputs with the same seed give the same outputs, byte for byte.
//!
//! One item of data goes one way; each stage's output type is the next stage's only key:
//!
//! ```text
//!  datagrams ──►  membership   foca: alive, suspect, down
//!                    │
//!  testimony ──►  verdict      counted against who could have testified
//!                    │ Verdict       (verdict.rs: needs a quorum of testimony and an answered roll call)
//!                    ▼          ── OpenIncident, FenceIntent: committed ──
//!  readings  ──►  fencing      device ladder, orders, read-backs
//!                    │ FenceProof    (fencing/proof.rs: committed, and read off within the lease)
//!                    ▼
//!  Nova      ──►  recovery     force-down, lists, one committed intent per server
//!                    │ EvacuateOrder (order.rs: needs Permit + FenceProof + CommittedIntent)
//!                    ▼
//!                 ledger       incidents, their stories
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`membership`] | who is alive, as far as gossip knows |
//! | [`verdict`] | whether a quorum says that a host is gone |
//! | [`life`] | whether something lives although its daemon is silent |
//! | [`paths`] | what a pattern of failed networks means |
//! | [`permit`] | whether an act may begin now: brakes, roll call, leadership |
//! | [`brake`] | what holds an act back although everything else speaks for it |
//! | [`fencing`] | whether a device is the host's own, and whether the host is proven off |
//! | [`recovery`] | what is to become of each server |
//! | [`notice`] | what the outside is told of an incident |
//! | [`hook`] | when a command of the site is run, and what waits for it |
//! | [`capacity`] | whether the servers of lost hosts would find room, as an estimate |
//! | [`ledger`] | what is agreed, and who may change it |
//! | [`voters`] | who keeps the ledger, and who takes a lost voter's place |
//! | [`policy`] | thresholds |
//! | [`process`] | which processes of a host are watched, and how they were seen |
//! | [`recording`] | nothing: it keeps what went in, so that it can be gone through again |
//! | [`mutant`] | that each guard can be switched off in tests, and only there |
//! | `leader`, `member`, `voter` | the steps that follow: of the leader, of everybody, of those who may lead |
#![forbid(unsafe_code)]

pub mod brake;
pub mod capacity;
mod context;
mod coordinator;
mod executor;
pub mod fencing;
pub mod hook;
pub mod io;
mod leader;
pub mod ledger;
pub mod life;
mod member;
pub mod membership;
pub mod mutant;
pub mod notice;
pub mod order;
pub mod paths;
pub mod permit;
pub mod policy;
pub mod process;
pub mod recording;
pub mod recovery;
pub mod time;
pub mod verdict;
mod view;
mod voter;
pub mod voters;

pub use coordinator::{Acquaintance, Coordinator, proven_generation};
pub use leader::CAPACITY_WITHIN;
pub use voter::Ailment;
