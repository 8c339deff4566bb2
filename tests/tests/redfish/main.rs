//! The driver `redfish` against services that lie, hang, refuse, forget and lead astray, and against the emulator of
//! sushy-tools. A fence here is what the leader makes of a device's answers: the coordinator's own [`FenceRun`] asks.
//!
//! [`FenceRun`]: rekindle_coordinator::fencing::FenceRun

mod bench;
mod doors;
mod orders;
mod reference;
mod rig;
mod sushy;
mod torture;
