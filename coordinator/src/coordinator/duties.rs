//! What this member owes whether or not it leads: its own fitness, its candidacy, its watchdog.

use super::{Coordinator, context};
use crate::io::Output;
use crate::leader::LeaseAnswer;
use crate::time::{Moment, Now};

impl Coordinator {
    /// When the next duty is due that has nothing to do with leading.
    pub(super) fn duties_deadline(&self) -> Option<Moment> {
        let voter = if self.is_voter() { self.voter.next_deadline() } else { None };
        [self.membership.next_deadline(), self.member.next_deadline(), voter].into_iter().flatten().min()
    }

    pub(super) fn is_voter(&self) -> bool {
        self.setup.keepers.contains(&self.setup.host)
    }

    /// Gives leadership up, or stands again, as our own health has it.
    pub(super) fn drive_voter(&mut self, now: Now) {
        if !self.is_voter() {
            return;
        }
        let Self { setup, ledger, membership, further, heard, out, voter, .. } = self;
        let changed = voter.drive(&mut context(setup, ledger, (membership, further), heard, out, now));
        let Some(stands) = changed else { return };
        self.out.push(Output::Candidacy(stands));
        let (term, leader) = self.voter.hint().clone();
        if leader.as_ref() == Some(&self.setup.host) {
            // Raft may believe in us for some time yet: nothing is done as leader, or something is again.
            self.leadership(now, term, leader);
        }
    }

    pub(super) fn take_lease(&mut self, now: Now, answer: &LeaseAnswer) {
        match answer {
            LeaseAnswer::Granted(call) => self.member.self_fence.granted(*call, now.mono),
            LeaseAnswer::Withdrawn(call) => self.with_member(now, |member, cx| member.self_fence.withdrawn(cx, *call)),
        }
    }
}
