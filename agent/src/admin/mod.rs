//! The local socket behind `rekindle`: one JSON request a line, one JSON reply a line ([`rekindle_proto::admin`]).
//!
//! Reading is guarded by the file's mode; whatever changes the ledger is signed by an operator, and the socket only
//! carries it. Connections, lines and waiting are bounded, so that no local program can hold the daemon up.

mod client;
mod server;

pub use client::{AdminClientError, ask};
pub use server::{AdminServeError, AdminSocket, Question, serve};

/// Mode of the socket: root and the group `rekindle`.
pub const SOCKET_MODE: u32 = 0o660;

#[cfg(test)]
mod tests;
