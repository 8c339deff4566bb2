//! stub

/// How many roster members must have answered before anything is done: 51 %, rounded up.
#[must_use]
pub fn brake_needs(roster: usize) -> usize {
    (roster * 51).div_ceil(100)
}
