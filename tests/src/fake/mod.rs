//! Fakes on the wire.
//!
//! | module | speaks | lies about |
//! |---|---|---|
//! | [`bmc`] | IPMI 2.0 RMCP+ over UDP, cipher suites 3 and 17 | power |
//! | [`ipmi_sim`] | the same, by OpenIPMI's simulator as a process: suite 3 | nothing |
//! | [`redfish`] | Redfish over HTTP and HTTPS | power, and everything else |
//! | [`cloud`] | Keystone v3 and Nova over HTTP | whether a call was done, and when |
//! | [`guests`] | guest lists as JSON lines on a Unix socket | whether the list is complete |
//!
//! A fake keeps the *ground truth* apart from what it tells its callers: a test asserts on the truth.

pub mod bmc;
pub mod cloud;
pub mod guests;
pub mod ipmi_sim;
mod record;
pub mod redfish;

pub use record::When;
