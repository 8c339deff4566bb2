//! A member among liars: whatever an authenticated peer sends, in whatever order, it goes on, and what it asks of the world
//! stays bounded. The one that is lied to leads, and somebody is suspect: testimonies, rolls and lists matter.

use std::time::Duration;

use bolero::check;
use rekindle_coordinator::io::{Input, Output};
use rekindle_proto::id::PathName;
use rekindle_proto::message::{MESSAGE_BYTES_MAX, Message, decode};

use super::cluster::{clock, leader, peer, record};
use super::{Bruise, INPUTS, bruised};

/// Outputs of one input: an answer to each member and each path, and what falls due beside it.
const OUTPUTS_MAX: usize = 200;

/// Who speaks: one of the living, or the silent host itself.
fn speaker(number: u8) -> usize {
    1 + usize::from(number) % 4
}

#[test]
fn damaged_messages_and_packets_never_stop_a_leader() {
    let packets: Vec<Vec<u8>> = record().datagrams.iter().map(|(_, bytes)| bytes.clone()).collect();
    let path = PathName::new("management").expect("legal");
    let (mut understood, mut given) = (0_u32, 0_u32);
    check!().with_iterations(INPUTS / 20).with_type::<Vec<(Bruise, u8, bool, u16)>>().for_each(|words| {
        let (mut leader, mut now) = leader();
        for (bruise, who, packet, wait) in words.iter().take(64) {
            now = now + Duration::from_micros(u64::from(*wait) * 20);
            let from = peer(speaker(*who));
            let input = if *packet {
                Input::Datagram { from, path: path.clone(), bytes: bruised(&packets, bruise) }
            } else {
                let bytes = bruised(&record().messages, bruise);
                given += 1;
                let Ok(message) = decode::<Message>(&bytes, MESSAGE_BYTES_MAX) else { continue };
                understood += 1;
                Input::Message { from, path: path.clone(), message }
            };
            leader.handle(clock(now), input);
            let mut outputs = 0;
            while let Some(output) = leader.poll_output() {
                outputs += 1;
                assert!(outputs <= OUTPUTS_MAX, "one word of a peer asks for more than {OUTPUTS_MAX} things");
                // Without a word of the ledger's about it, nothing irreversible.
                assert!(!matches!(
                    output,
                    Output::PowerOff(_) | Output::PowerOn(_) | Output::Evacuate(_) | Output::ForceDown(_)
                ));
            }
        }
    });
    println!("{understood} of {given} messages were understood");
}
