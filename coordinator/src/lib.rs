//! stub
#![forbid(unsafe_code)]
pub mod fencing;
pub mod io;
pub mod ledger;
pub mod membership;
pub mod order;
pub mod permit;
pub mod policy;
pub mod recovery;
pub mod time;
pub mod verdict;

use io::{Input, Output};
use time::{Moment, Now};

/// Every decision of one member.
#[derive(Debug)]
pub struct Coordinator {
    outputs: std::collections::VecDeque<Output>,
}

impl Coordinator {
    /// A member at its start.
    #[must_use]
    pub fn new(_setup: policy::Setup, _now: Now) -> Self {
        Self { outputs: std::collections::VecDeque::new() }
    }
    /// The only entrance.
    pub fn handle(&mut self, _now: Now, _input: Input) {}
    /// The only exit, strictly ordered. Poll until `None` after every `handle`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    /// When [`Input::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }
}
