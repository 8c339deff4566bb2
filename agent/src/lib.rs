//! # rekindle-agent: everything that touches the world
//!
//! The daemon `rekindled` and the command `rekindle`. *proto speaks, coordinator decides, agent acts*: nothing here
//! decides. Every adapter turns what happens into an [`rekindle_coordinator::io::Input`], and does what an
//! [`rekindle_coordinator::io::Output`] says; [`shell`] is the one loop between them.
//!
//! | module | adapts |
//! |---|---|
//! | [`transport`] | QUIC with mutual TLS between members |
//! | [`ledger`] | the Raft log: openraft on redb |
//! | [`bmc`] | fence devices |
//! | [`nova`] | Keystone and Nova |
//! | [`hypervisor`] | libvirt: local guests and their events |
//! | [`process`] | systemd and the site's commands: the processes a hypervisor needs |
//! | [`kdump`] | words of crash kernels: a host that writes its dump |
//! | [`watchdog`] | `/dev/watchdogN`: the host resets itself when it is cut off |
//! | [`admin`] | the local socket behind `rekindle` |
//! | [`telemetry`], [`metrics`] | logs, systemd, Prometheus |
//! | [`config`], [`state_dir`], [`pki`], [`clock`], [`machine`] | the file, what must survive a restart, certificates, time, who this machine is |
//! | [`shutdown`] | systemd's word why we stop |
//! | [`daemon`], [`check`] | the entry of `rekindled`, and `rekindled --check` |
//! | [`cli`] | the command `rekindle` |
#![deny(unsafe_code)]

pub mod admin;
pub mod bmc;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod gate;
pub mod hook;
pub mod hypervisor;
pub mod kdump;
pub mod ledger;
pub mod life;
pub mod machine;
pub mod metrics;
pub mod notify;
pub mod nova;
pub mod pki;
pub mod process;
pub mod shell;
pub mod shutdown;
pub mod state_dir;
pub mod telemetry;
pub mod transport;
pub mod watchdog;
