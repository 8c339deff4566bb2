//! The truth table of server groups: what Nova can do with which policy, and what is said of it.

use rekindle_proto::fact::TEXT_BYTES_MAX;
use rekindle_proto::id::ServerGroupId;
use uuid::Uuid;

use super::*;

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn group(policy: GroupPolicy, more: u32) -> NovaServerGroup {
    NovaServerGroup { id: ServerGroupId(Uuid::nil()), name: "db".into(), policy, members: Vec::new(), more }
}

/// `b`: on that host; `dead`: not evacuated; `gone`: deleted; `?`: nobody knows.
fn others(words: &str) -> Vec<Whereabouts> {
    let other = |(number, word): (usize, &str)| match word {
        "dead" => Whereabouts::OnTheDead,
        "gone" => Whereabouts::Gone,
        "?" => Whereabouts::Unknown,
        name => Whereabouts::On { name: Text::new(format!("m{number}")), host: host(name) },
    };
    words.split_whitespace().enumerate().map(other).collect()
}

#[test]
fn the_table_of_groups() {
    use GroupPolicy::Affinity;
    use Unplaced::{AtDestination, NoHost};
    let apart = |most| GroupPolicy::AntiAffinity { most };
    let wish = |word: &str| GroupPolicy::Wish(word.into());
    // Policy, members beyond those that are kept, the others, what kept it from a place; words of what is said, or nothing.
    let rows: Vec<(GroupPolicy, u32, &str, Unplaced, &[&str])> = vec![
        // Nova's scheduler counts the server itself, which is on the dead host: alone in its group it finds no other.
        (Affinity, 0, "", NoHost, &["it is in server group \"db\"", "affinity", "that is dead: nowhere else while"]),
        (Affinity, 0, "dead dead", NoHost, &["that is dead: nowhere else while", "(2 more on dead)"]),
        (Affinity, 0, "b dead", NoHost, &["only where its members are (m0 on b, 1 more on dead)"]),
        (Affinity, 0, "b b", NoHost, &["only where its members are (m0 and m1 on b)"]),
        (Affinity, 0, "?", NoHost, &["only where its members are (1 where nobody knows)"]),
        (Affinity, 3, "", NoHost, &["only where its members are (3 where nobody knows)"]),
        // The check at the destination does not count the server itself.
        (Affinity, 0, "", AtDestination, &[]),
        (Affinity, 0, "dead", AtDestination, &["perhaps because it is in", "members are (1 more on dead)"]),
        (Affinity, 0, "b", AtDestination, &["perhaps because it is in", "members are (m0 on b)"]),
        (apart(1), 0, "", NoHost, &[]),
        (apart(1), 0, "b", NoHost, &["anti-affinity", "no host that has 1 of its members (m0 on b)"]),
        (apart(1), 0, "b c ?", NoHost, &["(m0 on b, m1 on c, 1 where nobody knows)"]),
        (apart(1), 0, "?", NoHost, &["(1 where nobody knows)"]),
        (apart(1), 2, "", NoHost, &["(2 where nobody knows)"]),
        // Those that are on the dead host keep it from no other; on their way to one they do, and the destination sees it.
        (apart(1), 0, "dead dead", NoHost, &[]),
        (apart(1), 0, "dead", AtDestination, &["perhaps because it is in", "(1 more on dead)"]),
        (apart(1), 0, "", AtDestination, &[]),
        (apart(1), 0, "gone", NoHost, &[]),
        (Affinity, 0, "gone", NoHost, &["nowhere else while that group exists"]),
        (apart(2), 0, "b", NoHost, &[]),
        (apart(2), 0, "b b", NoHost, &["no host that has 2 of its members (m0 and m1 on b)"]),
        (apart(2), 0, "b dead", NoHost, &[]),
        (apart(2), 0, "b dead", AtDestination, &["no host that has 2"]),
        (apart(0), 0, "b", NoHost, &["no host that has 1"]),
        (wish("soft-affinity"), 0, "b", NoHost, &[]),
        (wish("soft-anti-affinity"), 0, "b c", AtDestination, &[]),
        (wish("moonlight"), 9, "?", NoHost, &[]),
    ];
    for (policy, more, words, unplaced, expected) in rows {
        let name = format!("{policy:?}, {more} more, {words:?}, {unplaced:?}");
        let group = group(policy, more);
        let said = conflict(&group, &host("dead"), &others(words), unplaced);
        assert_eq!(said.is_some(), !expected.is_empty(), "{name}: {said:?}");
        assert!(said.is_none() || is_binding(&group), "{name}: a wish binds nobody");
        let said = said.unwrap_or_default();
        for words in expected {
            assert!(said.as_str().contains(words), "{name}: {words:?} is not in {said}");
        }
    }
}

#[test]
fn a_large_group_with_long_names_is_still_a_sentence() {
    let mut group = group(GroupPolicy::AntiAffinity { most: 1 }, 1_000);
    group.name = "ä".repeat(200).into();
    let said = conflict(&group, &host("dead"), &others(&"b ".repeat(60)), Unplaced::NoHost).expect("it may be why");
    assert!(said.as_str().len() < TEXT_BYTES_MAX, "{said}");
    assert!(said.as_str().ends_with("m7 on b, 52 more elsewhere, 1000 where nobody knows)"), "{said}");
}
