//! The command `rekindle`: asks the local daemon, shows its documents, signs orders.
//!
//! Nothing lasting is decided by a flag, nothing destructive happens without its own verb and a reason, and there is no
//! `--force`. `docs/commands.md` has every command and exit code.

mod args;
mod exit;
mod order;
mod pki;
pub mod render;
mod roster;
mod run;
#[cfg(test)]
pub(crate) mod samples;

pub use args::{Cli, Command, PkiCommand, Reason, Role, Switch};
pub use exit::{Exit, Failure};
pub use run::run;

#[cfg(test)]
mod tests;
