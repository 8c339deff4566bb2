//! An open session: numbers, keys, and which answers are believed (IPMI 2.0, section 6.12). No clock, no I/O.

use super::command::{Command, Reply};
use super::packet::{Kind, Packet, sealed};
use super::suite::{BLOCK, SessionKeys};

/// How far behind the highest sequence number an answer may come and still count, in packets. The specification asks for
/// at least 16 (section 6.12.13); a lossy network with our few questions never reorders by more.
const WINDOW: u32 = 32;

/// Request numbers there are: six bits.
const REQUESTS: u32 = 64;

/// A session, at user level until it is raised.
pub(super) struct Session {
    console: u32,
    bmc: u32,
    keys: SessionKeys,
    /// Packets sent: each has a number of its own, a repeated question too.
    sent: u32,
    /// Questions asked: their number modulo 64 goes with each copy of one, and with its answers.
    asked: u32,
    /// Copies of questions whose answer has not come.
    owed: u32,
    seen: Window,
    /// Whether chassis control is allowed in it.
    pub(super) raised: bool,
}

impl Session {
    pub(super) fn new(console: u32, bmc: u32, keys: SessionKeys) -> Self {
        Self { console, bmc, keys, sent: 0, asked: 0, owed: 0, seen: Window::default(), raised: false }
    }

    /// The number under which the next question is asked. `None`: all 64 are used and an answer to one of them may still
    /// be on its way; it would pass for the answer to a later question of the same kind. A new session is needed.
    pub(super) fn next_question(&mut self) -> Option<u8> {
        let number = self.asked % REQUESTS;
        if number == 0 && self.asked > 0 && self.owed > 0 {
            return None;
        }
        self.asked = self.asked.wrapping_add(1);
        u8::try_from(number).ok()
    }

    /// A packet that asks it, never the same twice.
    pub(super) fn question(&mut self, command: Command, rq_seq: u8, iv: &[u8; BLOCK]) -> Option<Vec<u8>> {
        // Zero is for packets outside a session.
        self.sent = self.sent.wrapping_add(1).max(1);
        self.owed = self.owed.saturating_add(1);
        sealed(self.bmc, self.sent, &command.request(rq_seq), &self.keys, iv)
    }

    /// The last words.
    pub(super) fn close(&mut self, iv: &[u8; BLOCK]) -> Option<Vec<u8>> {
        let rq_seq = u8::try_from(self.asked % REQUESTS).ok()?;
        self.question(Command::Close(self.bmc), rq_seq, iv)
    }

    /// An answer that is surely this BMC's, in this session, and new. Whether it answers what was asked is the caller's
    /// to see.
    pub(super) fn receive(&mut self, packet: &Packet<'_>) -> Option<Reply> {
        let is_ours = packet.kind == Kind::Message && packet.session == self.console && packet.encrypted;
        if !is_ours || !packet.is_signed(&self.keys) || !self.seen.is_new(packet.sequence) {
            return None;
        }
        self.owed = self.owed.saturating_sub(1);
        Reply::parse(&self.keys.decrypt(packet.payload)?)
    }
}

/// A Close Session for a session of which only the BMC may know that it is open.
pub(super) fn close(bmc: u32, keys: &SessionKeys, iv: &[u8; BLOCK]) -> Option<Vec<u8>> {
    sealed(bmc, 1, &Command::Close(bmc).request(0), keys, iv)
}

/// Which sequence numbers were seen. Only signed packets are counted, so a jump ahead is the BMC's own.
#[derive(Debug, Default)]
struct Window {
    highest: Option<u32>,
    /// Bit n: the one n before the highest.
    seen: u32,
}

impl Window {
    fn is_new(&mut self, sequence: u32) -> bool {
        let Some(highest) = self.highest else {
            (self.highest, self.seen) = (Some(sequence), 1);
            return true;
        };
        let ahead = sequence.wrapping_sub(highest);
        if ahead != 0 && ahead <= u32::MAX / 2 {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = Some(sequence);
            return true;
        }
        let behind = highest.wrapping_sub(sequence);
        if behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_not_long_after_later_ones() {
        let mut window = Window::default();
        assert!(window.is_new(7), "a BMC may begin anywhere");
        assert!(!window.is_new(7));
        assert!(window.is_new(10) && window.is_new(9) && !window.is_new(9) && !window.is_new(10));
        assert!(window.is_new(500), "answers were lost");
        assert!(window.is_new(469) && !window.is_new(469) && !window.is_new(468), "32 are remembered");
        let mut window = Window { highest: Some(u32::MAX), seen: 1 };
        assert!(window.is_new(1) && !window.is_new(u32::MAX) && !window.is_new(1), "it wraps");
    }
}
