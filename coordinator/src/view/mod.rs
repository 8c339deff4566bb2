//! What is shown to operators: built from the same state the decisions are made on.

mod gate;
mod incident;
mod status;
mod why;

pub(crate) use incident::{incident, incidents};
pub(crate) use status::{members, status};
pub(crate) use why::why;
