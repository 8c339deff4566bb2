//! A member's own word about its further networks: on which of them it hears nobody.

use std::time::Duration;

use rekindle_proto::id::{HostName, MemberId, PathName};
use rekindle_proto::message::Message;

use crate::context::Context;
use crate::membership::{MemberState, Membership};
use crate::paths::hears_nobody;
use crate::time::Moment;

/// Between two looks at our own networks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two repetitions of what we said of them.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Between two introductions on a path on which members of the first one are missing.
const INTRODUCE_EVERY: Duration = Duration::from_secs(10);

/// With a single path nothing of this is ever due.
#[derive(Debug, Default)]
pub(super) struct OwnPaths {
    lost: Vec<PathName>,
    next_look: Option<Moment>,
    next_say: Moment,
    next_introduction: Moment,
    introduced: Option<MemberId>,
}

impl OwnPaths {
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.next_look
    }

    /// Looks, and tells the leader; gives back what is to be said to a leader in this very process.
    pub(super) fn tick(
        &mut self,
        cx: &mut Context<'_>,
        leads: bool,
        leader: Option<&HostName>,
    ) -> Option<Vec<PathName>> {
        let now = cx.now.mono;
        if cx.further.is_empty() || self.next_look.is_some_and(|due| now < due) {
            return None;
        }
        self.next_look = Some(now + LOOK_EVERY);
        if self.next_introduction <= now {
            self.next_introduction = now + INTRODUCE_EVERY;
            self.introduce_missing(cx);
        }
        let lost: Vec<PathName> =
            cx.further.iter().filter(|gossip| hears_nobody(gossip)).map(|gossip| gossip.path().clone()).collect();
        let changed = lost != self.lost;
        self.lost.clone_from(&lost);
        if !changed && (lost.is_empty() || now < self.next_say) {
            return None;
        }
        self.next_say = now + SAY_EVERY;
        if leads {
            return Some(lost);
        }
        if let Some(leader) = leader {
            cx.send(leader, Message::PathsLost { paths: lost });
        }
        None
    }

    /// First words may be lost: as long as a path knows fewer members than the first, one after the other is told again.
    fn introduce_missing(&mut self, cx: &mut Context<'_>) {
        let all = cx.membership.members().count();
        if cx.further.iter().all(|gossip| gossip.members().count() >= all) {
            return;
        }
        let alive = || cx.membership.members().filter(|view| view.state == MemberState::Alive).map(|view| view.member);
        let next = alive().find(|member| self.introduced.is_none_or(|last| *member > last)).or_else(|| alive().next());
        self.introduced = next;
        if let Some(host) = next.and_then(|member| cx.heard.name(member)).cloned() {
            introduce(cx, &host);
        }
    }
}

/// Tells a member whom we know on the further paths, ourselves above all: members meet on the first one.
pub(super) fn introduce(cx: &mut Context<'_>, host: &HostName) {
    let further: &[Membership] = cx.further;
    for gossip in further {
        let message = Message::PathState { path: gossip.path().clone(), answer: true, state: gossip.full_state() };
        cx.send(host, message);
    }
}
