//! Warnings about strangers, bounded: nobody can fill our log by knocking.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::{ConnectionError, TransportErrorCode};
use tracing::{debug, info, warn};

use super::close;
use super::shared::lock;

/// At most one warning of a kind about an address in this time; those left out are counted in the next.
const QUIET: Duration = Duration::from_secs(10);

/// Addresses and kinds remembered; beyond it the longest unheard is forgotten.
const REMEMBERED_MAX: usize = 1_024;

/// Longest text of a peer that goes into our log, in bytes.
const REASON_BYTES_MAX: usize = 300;

/// What is counted, for metrics. All since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) failed_dials: AtomicU64,
    pub(super) unsent_datagrams: AtomicU64,
    pub(super) overrun_datagrams: AtomicU64,
    pub(super) dropped_messages: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A kind of warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// We refused a peer.
    Refused,
    /// A peer refused us.
    WasRefused,
    /// A peer took no connection, and has nothing against us.
    NotNow,
    /// Messages were dropped.
    Dropped,
    /// A peer sent what we do not understand.
    Malformed,
}

/// Remembers what was said lately.
#[derive(Debug, Default)]
pub(super) struct Quieter {
    pub(super) said: Mutex<BTreeMap<(IpAddr, Kind), (Instant, u64)>>,
}

impl Quieter {
    /// Whether to speak now; if so, how many warnings were left out before it.
    fn may_speak(&self, about: SocketAddr, kind: Kind, now: Instant) -> Option<u64> {
        let mut said = lock(&self.said);
        if let Some((last, left_out)) = said.get_mut(&(about.ip(), kind)) {
            if now.saturating_duration_since(*last) < QUIET {
                *left_out += 1;
                return None;
            }
            let left_out = *left_out;
            said.insert((about.ip(), kind), (now, 0));
            return Some(left_out);
        }
        if said.len() >= REMEMBERED_MAX {
            let oldest = said.iter().min_by_key(|(_, (last, _))| *last).map(|(key, _)| *key);
            oldest.map(|key| said.remove(&key));
        }
        said.insert((about.ip(), kind), (now, 0));
        Some(0)
    }

    /// We refused a peer: who it says it is and which rule it broke are in `rule`.
    pub(super) fn refused(&self, peer: SocketAddr, rule: &str) {
        if let Some(left_out) = self.may_speak(peer, Kind::Refused, Instant::now()) {
            warn!(%peer, rule, left_out, "refused a peer");
        }
    }

    /// A peer refused us, and says why.
    pub(super) fn was_refused(&self, peer: SocketAddr, reason: &str) {
        if let Some(left_out) = self.may_speak(peer, Kind::WasRefused, Instant::now()) {
            warn!(%peer, reason, left_out, "a peer refused us");
        }
    }

    /// A peer that stops takes no new connection, and ends those that are being made; nor does one take any at whose door too
    /// many stand. That is no refusal of us.
    fn not_now(&self, peer: SocketAddr) {
        if let Some(left_out) = self.may_speak(peer, Kind::NotNow, Instant::now()) {
            info!(%peer, left_out, "a peer takes no connection now: it stops, or too many dial it at once");
        }
    }

    /// Messages to a peer were dropped.
    pub(super) fn dropped(&self, peer: SocketAddr, why: &str) {
        if let Some(left_out) = self.may_speak(peer, Kind::Dropped, Instant::now()) {
            warn!(%peer, why, left_out, "dropped a message to a peer");
        }
    }

    /// A peer sent what we do not understand.
    pub(super) fn malformed(&self, peer: SocketAddr, host: &str, why: &str) {
        if let Some(left_out) = self.may_speak(peer, Kind::Malformed, Instant::now()) {
            warn!(%peer, host, why, left_out, "a peer sent what we do not understand; it is ignored");
        }
    }

    /// A connection ended before it was accepted. Says who refused whom; silence and restarts are not refusals.
    /// `true` if it was one.
    pub(super) fn unaccepted(&self, peer: SocketAddr, error: &ConnectionError) -> bool {
        match error {
            ConnectionError::TransportError(ours) => {
                // rustls has no better envelope for a reason of our own.
                self.refused(peer, ours.reason.trim_start_matches("unexpected error: "));
                true
            }
            // In a handshake QUIC hides what an application ends it with.
            ConnectionError::ConnectionClosed(theirs)
                if matches!(
                    theirs.error_code,
                    TransportErrorCode::CONNECTION_REFUSED | TransportErrorCode::APPLICATION_ERROR
                ) =>
            {
                self.not_now(peer);
                false
            }
            ConnectionError::ConnectionClosed(theirs) => {
                let reason =
                    if theirs.reason.is_empty() { theirs.error_code.to_string().into() } else { theirs.reason.clone() };
                self.was_refused(peer, &printable(&reason));
                true
            }
            ConnectionError::ApplicationClosed(theirs) if theirs.error_code == close::REFUSED => {
                self.was_refused(peer, &printable(&theirs.reason));
                true
            }
            ConnectionError::VersionMismatch => {
                self.refused(peer, "it speaks no QUIC version of ours");
                true
            }
            ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => {
                debug!(%peer, %error, "a connection ended before it was accepted");
                false
            }
        }
    }
}

/// A peer's words, safe to print.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..REASON_BYTES_MAX).unwrap_or(bytes));
    text.trim_start_matches("unexpected error: ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_complained_of_once_in_a_while_and_memory_is_bounded() {
        let quieter = Quieter::default();
        let about = |n: u16| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1));
        let start = Instant::now();
        assert_eq!(quieter.may_speak(about(0), Kind::Refused, start), Some(0));
        assert_eq!(quieter.may_speak(about(0), Kind::WasRefused, start), Some(0), "another kind");
        for _ in 0..3 {
            assert_eq!(quieter.may_speak(about(0), Kind::Refused, start), None);
        }
        assert_eq!(quieter.may_speak(about(0), Kind::Refused, start + QUIET), Some(3));
        for n in 1..3_000 {
            assert_eq!(quieter.may_speak(about(n), Kind::Refused, start + QUIET), Some(0));
        }
        assert!(lock(&quieter.said).len() <= REMEMBERED_MAX);
    }

    #[test]
    fn a_peers_words_cannot_forge_log_lines() {
        assert_eq!(printable(b"a\nb\x1b[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert!(printable(&[b'x'; 5_000]).len() <= REASON_BYTES_MAX);
    }
}
