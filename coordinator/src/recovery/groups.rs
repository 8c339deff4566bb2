//! What a server's group has to do with it that Nova found no place for the server.
//!
//! Nova tells nobody: a scheduler that finds no host says so and no more, and a destination that objects writes `failed`. What
//! Nova does in truth is in docs/recovery.md, "Server groups", with the names of its files. In short: by *affinity* only the
//! hosts will do that members are on, the server itself counted, which is on the dead one; by *anti-affinity* every host but
//! those that run so many of them.

use std::collections::BTreeMap;

use rekindle_proto::fact::{GroupPolicy, NovaServerGroup, Text};
use rekindle_proto::id::HostName;

use crate::ledger::Unplaced;

/// Most members that are named with their hosts; of the others only the number is told. One page of a group, and what is left
/// of a text after it was said which group it is.
pub const MEMBERS_NAMED_MAX: usize = 8;

/// Longest name that is shown, in characters: Nova allows 255, and half a story's line would be one name.
const NAME_SHOWN_MAX: usize = 32;

/// Where another member of a group is, as far as anybody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// On another host than the dead one: it runs there, or died there, or has been evacuated there.
    On {
        /// Its name.
        name: Text,
        /// The host.
        host: HostName,
    },
    /// On the dead host, not evacuated so far.
    OnTheDead,
    /// Deleted, or on no host: it binds nobody.
    Gone,
    /// Nobody has asked, or nobody was answered.
    Unknown,
}

/// Whether a group keeps servers from hosts at all.
#[must_use]
pub fn is_binding(group: &NovaServerGroup) -> bool {
    match group.policy {
        GroupPolicy::Affinity | GroupPolicy::AntiAffinity { .. } => true,
        GroupPolicy::Wish(_) => false,
    }
}

/// What to say of a server's group when Nova found no place for it; `None`: the group cannot be why.
///
/// `others`: the other members, but for those that [`NovaServerGroup::more`] counts. It is not proven to be the reason: there
/// may be no room either, and a destination fails for many reasons.
#[must_use]
pub fn conflict(group: &NovaServerGroup, dead: &HostName, others: &[Whereabouts], unplaced: Unplaced) -> Option<Text> {
    let count = |test: fn(&Whereabouts) -> bool| others.iter().filter(|other| test(other)).count();
    let more = usize::try_from(group.more).unwrap_or(usize::MAX);
    let unknown = count(|other| *other == Whereabouts::Unknown).saturating_add(more);
    let elsewhere = count(|other| matches!(other, Whereabouts::On { .. })).saturating_add(unknown);
    let on_the_dead = count(|other| *other == Whereabouts::OnTheDead);
    let is_late = match unplaced {
        Unplaced::NoHost => false,
        Unplaced::AtDestination => true,
    };
    let demand = match &group.policy {
        GroupPolicy::Wish(_) => return None,
        // The check at the destination leaves the server itself out.
        GroupPolicy::Affinity if is_late && elsewhere + on_the_dead == 0 => return None,
        GroupPolicy::Affinity if !is_late && elsewhere == 0 => {
            format!(
                "affinity: Nova builds it only where its members are, it included, and that is {dead}: nowhere else while \
                 that group exists"
            )
        }
        GroupPolicy::Affinity => "affinity: Nova builds it only where its members are".to_owned(),
        GroupPolicy::AntiAffinity { most } => {
            // The scheduler counts where servers are; the destination also those on their way to it, from the dead host too.
            let others = if is_late { elsewhere + on_the_dead } else { elsewhere };
            if others < usize::try_from((*most).max(1)).unwrap_or(usize::MAX) {
                return None;
            }
            format!("anti-affinity: Nova builds it on no host that has {} of its members", (*most).max(1))
        }
    };
    let which = if is_late { "perhaps because it is in" } else { "it is in" };
    let list = list(others, dead, (on_the_dead, unknown));
    let list = if list.is_empty() { String::new() } else { format!(" ({list})") };
    Some(Text::new(format!("{which} server group {:?} ({}), {demand}{list}", shown(&group.name), group.id)))
}

/// Where the others are: by host, the first [`MEMBERS_NAMED_MAX`] with their names.
fn list(others: &[Whereabouts], dead: &HostName, (on_the_dead, unknown): (usize, usize)) -> String {
    let mut hosts: BTreeMap<&HostName, Vec<String>> = BTreeMap::new();
    let mut unnamed = 0;
    let mut named = 0;
    for other in others {
        match other {
            Whereabouts::On { name, host } if named < MEMBERS_NAMED_MAX => {
                hosts.entry(host).or_default().push(shown(name));
                named += 1;
            }
            Whereabouts::On { .. } => unnamed += 1,
            Whereabouts::OnTheDead | Whereabouts::Gone | Whereabouts::Unknown => {}
        }
    }
    let mut words: Vec<String> =
        hosts.iter().map(|(host, names)| format!("{} on {host}", names.join(" and "))).collect();
    let counted = [
        (unnamed, "more elsewhere".to_owned()),
        (on_the_dead, format!("more on {dead}")),
        (unknown, "where nobody knows".to_owned()),
    ];
    words.extend(counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    words.join(", ")
}

fn shown(name: &Text) -> String {
    let mut shown: String = name.as_str().chars().take(NAME_SHOWN_MAX).collect();
    if shown.len() < name.as_str().len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
