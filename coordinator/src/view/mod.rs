//! What is shown to operators: built from the same state the decisions are made on.

mod brake;
mod fences;
mod gate;
mod incident;
mod processes;
mod progress;
mod rehearsal;
mod segments;
mod self_fence;
mod standing;
mod status;
mod why;

pub(crate) use brake::brakes;
pub(crate) use incident::{incident, incidents, story};
pub(crate) use segments::segments;
pub(crate) use status::{members, status};
pub(crate) use why::why;
