//! No peer's bytes, no file and no committed entry may stop a member (I9): each decoder, and each state machine behind
//! one, is given damaged truth.
//!
//! Rubbish alone is refused at the first byte; so most inputs begin as words that a small cluster really spoke while one
//! of its hosts died ([`cluster`]), and are then bruised. Under `cargo test` each harness runs a fixed number of inputs,
//! and every one that ever failed (`__fuzz__/`); a failure prints its `BOLERO_RANDOM_SEED`. `cargo bolero test NAME`
//! searches on with coverage.

mod cluster;
mod config;
mod decoders;
mod ipmi;
mod ledger;
mod member;

/// Inputs of one harness in an ordinary run: half a second each.
const INPUTS: usize = 2_000;

/// Longest input, in bytes.
const BYTES_MAX: usize = 4_096;

/// What is done to a true word: which one, how badly, cut where, and which bytes are changed by what.
type Bruise = (u16, u8, u16, [(u16, u8); 3]);

/// One in eight is cut; the others have none to three bytes changed, so that many are still understood.
fn bruised(samples: &[Vec<u8>], (which, badly, cut, changes): &Bruise) -> Vec<u8> {
    let mut bytes = samples[usize::from(*which) % samples.len()].clone();
    if badly % 8 == 7 {
        bytes.truncate(usize::from(*cut) % (bytes.len() + 1));
    }
    for (at, by) in changes.iter().take(usize::from(badly % 4)) {
        let length = bytes.len();
        if let Some(byte) = bytes.get_mut(usize::from(*at) % length.max(1)) {
            *byte ^= by;
        }
    }
    bytes
}
