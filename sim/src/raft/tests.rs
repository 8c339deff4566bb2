//! Voters by hand: every word is carried, or not, as the test says.

use super::*;

/// Some stores, and what they wish done.
struct Wires {
    now: Moment,
    nodes: Vec<Node>,
    wishes: Vec<(usize, Wish)>,
}

/// Stores 0 to 2 vote; 3 and 4 are new.
fn wires() -> Wires {
    let config = Arc::new(Config::of(&[0, 1, 2]));
    let mut nodes: Vec<Node> = (0..3).map(|number| Node::first(number, config.clone())).collect();
    nodes.extend((3..5).map(Node::new));
    Wires { now: Moment::ZERO, nodes, wishes: Vec::new() }
}

impl Wires {
    fn act(&mut self, number: usize, act: impl FnOnce(&mut Node, Moment, &mut Vec<Wish>)) {
        let mut out = Vec::new();
        act(&mut self.nodes[number], self.now, &mut out);
        self.wishes.extend(out.into_iter().map(|wish| (number, wish)));
    }

    /// Carries words between these, and writes what they wish written, until nothing is left. All other words are lost.
    fn carry(&mut self, between: &[usize]) {
        while !self.wishes.is_empty() {
            let (from, wish) = self.wishes.remove(0);
            self.now = self.now + Duration::from_micros(100);
            match wish {
                Wish::Send(to, word) if between.contains(&from) && between.contains(&to) => {
                    self.act(to, |node, now, out| node.hear(now, from, word, ELECTION_MAX, out));
                }
                Wish::Write(index) => self.act(from, |node, now, out| {
                    node.written(now, index, out);
                    node.acknowledge(index, out);
                }),
                Wish::Send(..) | Wish::Leadership | Wish::Commit | Wish::Restore(_) | Wish::Confirmed(_) => {}
            }
        }
    }

    /// It stands at somebody's wish, and these hear each other.
    fn elect(&mut self, number: usize, between: &[usize]) -> bool {
        self.act(number, |node, now, out| node.stand(now, true, out));
        self.carry(between);
        self.nodes[number].role == Role::Leader
    }

    fn change(&mut self, leader: usize, change: &Change) -> Result<usize, &'static str> {
        let mut begun = Err("nobody");
        self.act(leader, |node, _, out| begun = node.change(change, out));
        begun
    }

    /// Its heartbeat is due.
    fn beat(&mut self, number: usize, between: &[usize]) {
        self.now = self.now + HEARTBEAT;
        self.act(number, |node, now, out| {
            node.deadline = now;
            node.tick(now, ELECTION_MAX, out);
        });
        self.carry(between);
    }

    fn commit(&self, number: usize) -> usize {
        self.nodes[number].commit
    }

    /// 0 leads, and 3 and 4 listen.
    fn two_listen(&mut self) {
        let all = [0, 1, 2, 3, 4];
        assert!(self.elect(0, &all));
        for standby in [3, 4] {
            let at = self.change(0, &Change::Add(standby)).expect("a change");
            self.carry(&all);
            assert_eq!(self.commit(0), at);
        }
        self.beat(0, &all);
        assert_eq!(self.nodes[3].log.len(), self.nodes[0].log.len(), "who listens is sent everything");
        assert_eq!(self.nodes[4].config(), self.nodes[0].config());
    }
}

#[test]
fn who_listens_neither_votes_nor_stands_nor_counts() {
    let mut wires = wires();
    wires.two_listen();
    let at = wires.nodes[0].log.len();
    wires.act(0, |node, now, out| {
        node.append(now, None, out);
    });
    wires.carry(&[0, 3, 4]);
    assert_eq!(wires.nodes[4].log.len(), at + 1, "they have it");
    assert_eq!(wires.commit(0), at, "and that is no majority");
    wires.act(0, |node, now, out| node.check(now, CallId(1), out));
    let confirmed = |wish: &(usize, Wish)| matches!(wish, (_, Wish::Confirmed(_)));
    assert!(!wires.wishes.iter().any(confirmed));
    wires.carry(&[0, 3, 4]);
    assert_eq!(wires.nodes[0].checks.len(), 1, "nor does their answer confirm a leader");
    assert!(!wires.elect(2, &[2, 3, 4]), "nor are they asked for votes");
    wires.now = wires.now + Duration::from_secs(60);
    wires.act(3, |node, now, out| node.tick(now, ELECTION_MAX, out));
    assert!(wires.wishes.is_empty() && wires.nodes[3].role == Role::Follower, "they do not stand");
}

#[test]
fn both_halves_are_needed_until_the_end() {
    let mut wires = wires();
    wires.two_listen();
    let before = wires.commit(0);
    let joint = wires.change(0, &Change::Set(vec![2, 3, 4])).expect("a change");
    assert_eq!(wires.change(0, &Change::Set(vec![0, 1, 2])), Err("a change is under way"));
    // The old half alone, then the new half alone.
    wires.carry(&[0, 1]);
    assert_eq!(wires.commit(0), before, "the old voters alone commit nothing");
    wires.act(0, |node, now, out| node.check(now, CallId(1), out));
    wires.carry(&[0, 1]);
    assert_eq!(wires.nodes[0].checks.len(), 1, "nor confirm");
    wires.beat(0, &[0, 3, 4]);
    assert_eq!(wires.commit(0), joint, "with the new ones");
    assert!(wires.nodes[0].checks.len() == 1 || wires.nodes[0].checks.is_empty());
    assert!(!wires.elect(1, &[0, 1]), "one half elects nobody");
    assert!(!wires.elect(4, &[2, 3, 4]), "nor the other");
    assert!(wires.elect(0, &[0, 1, 2, 3, 4]));
    wires.beat(0, &[0, 1, 2, 3, 4]);
    // The leader puts itself out, and goes when that is agreed by those who stay.
    let end = wires.change(0, &Change::Set(vec![2, 3, 4])).expect("the second step");
    wires.carry(&[0, 1]);
    assert_eq!(wires.nodes[0].role, Role::Leader, "not before it is agreed");
    wires.beat(0, &[0, 2, 3]);
    assert_eq!(
        (wires.commit(0), wires.nodes[0].role),
        (end, Role::Follower),
        "its own log did not count, two others did"
    );
    assert_eq!(wires.nodes[1].config_index(), joint, "who left is not even told");
    assert!(wires.elect(3, &[2, 3]), "the new ones elect by themselves");
    wires.beat(3, &[2, 3]);
    assert!(wires.commit(3) > end);
    assert!(!wires.elect(1, &[0, 1, 4]), "who was put out elects nobody");
}

#[test]
fn what_is_cut_off_takes_its_voters_along() {
    let mut wires = wires();
    wires.two_listen();
    let before = wires.nodes[0].config();
    wires.change(0, &Change::Set(vec![2, 3, 4])).expect("a change");
    wires.carry(&[0]);
    assert!(wires.nodes[0].config().joint().is_some(), "it counts before it is committed");
    assert!(!wires.elect(0, &[0, 1]), "and binds its own leader");
    // The first time it is behind in terms.
    assert!((0..2).any(|_| wires.elect(2, &[1, 2])), "nobody else has heard of it");
    wires.beat(2, &[0, 1, 2, 3, 4]);
    wires.beat(2, &[0, 1, 2, 3, 4]);
    assert_eq!(wires.nodes[0].config(), before, "as if it had never been");
    assert_eq!(wires.nodes[0].last(), wires.nodes[2].last());
}

#[test]
fn a_snapshot_carries_the_voters() {
    let mut wires = wires();
    wires.two_listen();
    wires.change(0, &Change::Set(vec![0, 1, 3])).expect("a change");
    wires.carry(&[0, 1, 3]);
    wires.change(0, &Change::Set(vec![0, 1, 3])).expect("the second step");
    for _ in 0..2 * LAG_MAX {
        wires.act(0, |node, now, out| {
            node.append(now, None, out);
        });
        wires.carry(&[0, 1, 3]);
    }
    assert!(wires.nodes[4].base == 0 && wires.nodes[4].config() != wires.nodes[0].config());
    for _ in 0..8 {
        wires.beat(0, &[0, 1, 3, 4]);
    }
    assert!(wires.nodes[4].base > 0, "it was sent a snapshot");
    assert_eq!(wires.nodes[4].config(), wires.nodes[0].config());
    // And gives it on, cut at the snapshot and with nothing of before.
    assert_eq!(wires.nodes[4].config_at(wires.nodes[4].base), wires.nodes[0].config());
}

#[test]
fn a_lost_store_is_nobody() {
    let mut wires = wires();
    wires.two_listen();
    wires.nodes[1].lose();
    assert_eq!((wires.nodes[1].number(), wires.nodes[1].config()), (1 + STORES, Arc::default()));
    wires.now = wires.now + Duration::from_secs(60);
    wires.act(1, |node, now, out| node.tick(now, ELECTION_MAX, out));
    assert!(wires.wishes.is_empty(), "it does not stand");
}

/// Openraft refuses who has less without taking its term over: a voter that was put out while it was away disturbs nobody.
#[test]
fn who_has_less_is_refused_and_its_term_is_not_taken_over() {
    let mut wires = wires();
    assert!(wires.elect(0, &[0, 1]));
    for _ in 0..20 {
        wires.act(2, |node, now, out| node.stand(now, true, out));
    }
    wires.carry(&[0, 1, 2]);
    assert_eq!((wires.nodes[0].role, wires.nodes[0].term), (Role::Leader, Term(1)));
    assert_eq!((wires.nodes[1].term, wires.nodes[2].role), (Term(1), Role::Candidate));
    // Who is refused learns the term it must beat: else one with more and one with a higher term would stand for ever.
    assert!(!wires.elect(1, &[1, 2]));
    assert!(wires.elect(1, &[1, 2]), "{:?}", wires.nodes[1].term);
}

/// A torn write costs nothing that is known to be agreed, so that what comes next is put where it belongs.
#[test]
fn a_torn_write_keeps_what_is_agreed() {
    let mut wires = wires();
    assert!(wires.elect(0, &[0, 1]));
    wires.beat(0, &[0, 1]);
    let entries: Vec<Arc<Record>> =
        (0..3).map(|_| Arc::new(Record { term: Term(1), entry: None, config: None })).collect();
    let node = &mut wires.nodes[1];
    let (prev, commit) = (node.last(), node.commit);
    // Sent as agreed, and not yet written: only the last is not agreed.
    node.take(0, prev, entries, prev.1 + 2, 9, &mut Vec::new());
    node.tear();
    assert!(node.commit > commit && node.last().1 == node.commit, "{:?} {}", node.last(), node.commit);
}
