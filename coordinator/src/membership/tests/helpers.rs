//! Helpers' word that they got no answer either, and what its absence says of who asked.

use std::time::Duration;

use foca::Message;

use super::super::{Errand, Membership, MembershipOutput};
use super::hostile::{acquainted, drain, identity, packet};
use super::net::{BIRTH, Net, host};
use crate::time::Moment;

fn errand(number: u8) -> Errand {
    Errand { origin: host(1), target: host(2), number }
}

/// Runs it for so long; its words that there was no answer, with their times.
fn nacks(membership: &mut Membership, from: Moment, lasts: Duration) -> Vec<(Moment, Errand)> {
    let mut said = Vec::new();
    while let Some(at) = membership.next_deadline().filter(|at| *at <= from + lasts) {
        membership.tick(at);
        said.extend(drain(membership).into_iter().filter_map(|output| match output {
            MembershipOutput::Nack(errand) => Some((at, errand)),
            MembershipOutput::Datagram { .. }
            | MembershipOutput::PersistIncarnation(_)
            | MembershipOutput::Changed(_)
            | MembershipOutput::ProbeFailed { .. }
            | MembershipOutput::AskOnStream { .. }
            | MembershipOutput::PushPull { .. } => None,
        }));
    }
    said
}

#[test]
fn a_helper_says_that_it_got_no_answer() {
    let now = Moment::from_micros(1);
    let request = |number| packet(1, Message::PingReq { target: identity(2, BIRTH), probe_number: number }, vec![]);
    let answer = |number| packet(2, Message::IndirectAck { target: identity(1, BIRTH), probe_number: number }, vec![]);
    let due = now + Duration::from_millis(160);
    for (requests, answers, expected) in [
        (&[5][..], &[][..], vec![(due, errand(5))]),
        (&[5], &[5], vec![]),
        (&[5], &[4], vec![(due, errand(5))]),
        // The first is no longer waited for.
        (&[5, 6], &[5], vec![(due, errand(6))]),
    ] {
        let mut membership = acquainted(now);
        for number in requests {
            membership.datagram(now, host(1), &request(*number)).expect("honest");
        }
        for number in answers {
            membership.datagram(now, host(2), &answer(*number)).expect("honest");
        }
        assert_eq!(nacks(&mut membership, now, Duration::from_secs(1)), expected, "{requests:?} {answers:?}");
    }
}

/// How much a member doubts itself at worst while another is dead, and none of the helpers' words is lost or all are.
#[test]
fn who_hears_its_helpers_does_not_doubt_itself() {
    for (streams_cut, doubts) in [(false, false), (true, true)] {
        let mut net = Net::formed(8, 4);
        net.streams_cut = streams_cut;
        net.kill(7);
        let start = net.now;
        let doubt = |net: &Net| (0..7).any(|us| net.nodes[us].membership.local_health() > 0);
        let doubted = net.run_until(Duration::from_secs(10), doubt).is_some();
        assert!(streams_cut || (0..7).any(|us| net.failed_probes(us, start) > 0), "nobody probed it");
        assert_eq!(doubted, doubts, "streams cut: {streams_cut}");
    }
}

/// Who hears neither whom it probes nor its helpers doubts itself, a little more with each.
#[test]
fn who_hears_no_helper_doubts_itself() {
    let mut net = Net::formed(16, 5);
    net.isolate(&[3]);
    let start = net.now;
    let doubts = |net: &Net| net.nodes[3].membership.local_health() >= 3;
    assert!(net.run_until(Duration::from_secs(10), doubts).is_some());
    assert_eq!(net.failed_probes(3, start), 3);
}

/// A word from who was not asked, about another member or of another probe, is none.
#[test]
fn another_word_than_a_helpers_is_none() {
    // The member that is probed, and does not answer; the other is the only helper.
    for (from_helper, about_target, number_off, doubt) in
        [(true, true, 0, 0), (false, true, 0, 1), (true, false, 0, 1), (true, true, 1, 1)]
    {
        let mut now = Moment::from_micros(1);
        let mut membership = acquainted(now);
        let mut probed = None;
        let mut nacked = false;
        let mut failed = false;
        while !failed && now < Moment::from_micros(5_000_000) {
            now = membership.next_deadline().expect("timers");
            membership.tick(now);
            for output in drain(&mut membership) {
                match output {
                    MembershipOutput::Datagram { bytes, member, .. } => {
                        let header = super::super::wire::Packet::open(&bytes).expect("our own").header;
                        if let Message::Ping(number) = header.message {
                            probed = Some((member, number));
                        } else if matches!(header.message, Message::PingReq { .. }) {
                            let (target, number) = probed.expect("a probe goes before");
                            let from = if from_helper { member } else { host(9) };
                            let about = if about_target { target } else { member };
                            membership.nacked(now, from, about, number.wrapping_add(number_off));
                            nacked = true;
                        }
                    }
                    MembershipOutput::ProbeFailed { .. } => failed = true,
                    MembershipOutput::PersistIncarnation(_)
                    | MembershipOutput::Changed(_)
                    | MembershipOutput::AskOnStream { .. }
                    | MembershipOutput::PushPull { .. }
                    | MembershipOutput::Nack(_) => {}
                }
            }
        }
        assert!(nacked && failed);
        assert_eq!(membership.local_health(), doubt, "{from_helper} {about_target} {number_off}");
    }
}
