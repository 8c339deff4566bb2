//! `member.watchdog`: what it must look like, and what must be said beside it.

use super::checker::Checker;
use crate::watchdog::Node;

/// `self_fence`: whether the policy counts on watchdogs.
pub(super) fn check(on: &mut Checker, given: Option<&str>, self_fence: bool) -> Option<Node> {
    let given = given?;
    let node = Node::parse(given);
    if node.is_none() {
        on.refuse(
            "member.watchdog",
            "must be \"/dev/watchdog0\", or another number",
            "\"/dev/watchdog\" is a second name for one of them, or an older driver's, of which nobody can say what it is before \
             it is opened; opening starts it",
        );
    }
    if !self_fence {
        on.refuse(
            "member.watchdog",
            "must not be there without fencing.self_fence = true",
            "nobody would count on it, and a daemon that stops would reset its host for nothing",
        );
    }
    node
}
