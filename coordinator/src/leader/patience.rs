//! How long a suspect is waited for, and who is told when that is over.

use rekindle_proto::id::{HostName, Incarnation, MemberId};

use super::Leader;
use crate::context::Context;
use crate::membership::MemberState;
use crate::time::Moment;

impl Leader {
    /// Until when it is waited for its own word. Not at all once gossip has given it up or its devices read off; for a shorter
    /// time once its silence is confirmed.
    pub(super) fn may_refute(&self, cx: &Context<'_>, host: &HostName) -> Option<Moment> {
        let case = self.suspects.get(host)?;
        let began = case.suspicion.began;
        let is_over = match &case.suspicion.path {
            None => {
                cx.member(host).is_some_and(|view| view.state == MemberState::Down)
                    || self.devices.reads_off_since(host, began)
            }
            Some(path) => cx.is_down_on(host, path),
        };
        let wait = if case.is_confirmed(cx.ledger.roster.len()) {
            cx.membership.confirmed_suspicion_time()
        } else {
            cx.membership.suspicion_time()
        };
        (!is_over && cx.now.mono < began + wait).then_some(began + wait)
    }

    /// A quorum has found it silent, whatever may still hold its incident: all members are to know, once a suspicion.
    pub(super) fn tell_gone(&mut self, cx: &Context<'_>, host: &HostName) {
        let Some(case) = self.suspects.get_mut(host).filter(|case| !case.told && case.suspicion.path.is_none()) else {
            return;
        };
        case.told = true;
        if let Some(view) = cx.member(host) {
            self.gone.push((view.member, view.incarnation));
        }
    }

    /// Whom all members are to be told to be gone.
    pub(crate) fn take_gone(&mut self) -> Vec<(MemberId, Incarnation)> {
        std::mem::take(&mut self.gone)
    }
}
