//! What a member does with words that come on a further network, and about one it is not on.

use std::net::SocketAddr;

use rekindle_proto::fact::MemberRole;
use rekindle_proto::id::{BootId, CallId, ClusterName, HostName, Incarnation, PathName, WallTime};
use rekindle_proto::message::Message;
use uuid::Uuid;

use super::Coordinator;
use crate::io::{Input, Output, Peer};
use crate::policy::{Policy, Setup};
use crate::time::{Moment, Now};

fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn path(name: &str) -> PathName {
    PathName::new(name).expect("legal")
}

/// Host N on management and on storage.
fn address(path: &str, number: u8) -> SocketAddr {
    SocketAddr::from(([10, if path == "management" { 20 } else { 40 }, 0, number], 7946))
}

fn at(ms: u64) -> Now {
    Now { mono: Moment::from_micros(ms * 1_000), wall: WallTime(1_795_000_000_000) }
}

fn member() -> Coordinator {
    let setup = Setup {
        cluster: ClusterName::new("zrh1").expect("legal"),
        host: host("cmp-01"),
        role: MemberRole::Member,
        boot: BootId(Uuid::from_u128(1)),
        incarnation: Incarnation(1),
        listen: ["management", "storage"].map(|name| (path(name), address(name, 1))).to_vec(),
        system_uuid: None,
        seeds: Vec::new(),
        voters: vec![host("cmp-02")],
        keepers: vec![host("cmp-02")],
        generation: None,
        operator_ca: Vec::new(),
        devices: Vec::new(),
        policy: Policy::default(),
        seed: 7,
        booted: None,
    };
    Coordinator::new(setup, at(0))
}

/// The second host, as it introduces itself there.
fn peer(path: &str) -> Peer {
    let boot = BootId(Uuid::from_u128(2));
    Peer { host: host("cmp-02"), boot, incarnation: Incarnation(1), address: address(path, 2) }
}

/// Which messages go out, and whither.
fn messages(member: &mut Coordinator, now: Now, input: Input) -> Vec<(SocketAddr, Message)> {
    member.handle(now, input);
    let outputs = std::iter::from_fn(|| member.poll_output());
    outputs
        .filter_map(|output| if let Output::Message { to, message, .. } = output { Some((to, message)) } else { None })
        .collect()
}

#[test]
fn who_is_met_on_a_further_network_is_not_sent_messages_there() {
    let mut member = member();
    let presents = |said: &[(SocketAddr, Message)]| -> Vec<SocketAddr> {
        said.iter().filter(|(_, message)| matches!(message, Message::Present { .. })).map(|(to, _)| *to).collect()
    };
    let roll_call = |name: &str| Input::Message {
        from: peer(name),
        path: path(name),
        message: Message::RollCall { call: CallId(1) },
    };
    messages(&mut member, at(1), Input::Connected { peer: peer("storage"), path: path("storage") });
    let said = messages(&mut member, at(2), roll_call("storage"));
    assert_eq!(presents(&said), [], "where it listens for messages is not known yet");
    messages(&mut member, at(3), Input::Connected { peer: peer("management"), path: path("management") });
    for name in ["management", "storage"] {
        let said = messages(&mut member, at(4), roll_call(name));
        assert_eq!(presents(&said), [address("management", 2)], "heard on {name}");
    }
}

#[test]
fn of_a_network_we_are_not_on_we_say_nothing() {
    let mut member = member();
    messages(&mut member, at(1), Input::Connected { peer: peer("management"), path: path("management") });
    let addresses = ["management", "storage", "tenant"].map(|name| (path(name), address(name, 3))).to_vec();
    let ask = Message::AskTestimony { call: CallId(1), target: host("cmp-03"), addresses, knows_goodbye: false };
    let mut said = messages(
        &mut member,
        at(2),
        Input::Message { from: peer("management"), path: path("management"), message: ask },
    );
    for ms in 1..30 {
        said.extend(messages(&mut member, at(2 + 100 * ms), Input::Tick));
    }
    let probed = |message: &Message| if let Message::Probe { path, .. } = message { Some(path.clone()) } else { None };
    let target = |to: &SocketAddr| to.ip() == address("management", 3).ip() || to.ip() == address("storage", 3).ip();
    let mut probes: Vec<PathName> =
        said.iter().filter(|(to, _)| target(to)).filter_map(|(_, message)| probed(message)).collect();
    probes.sort();
    probes.dedup();
    let findings = said.iter().find_map(|(_, message)| {
        if let Message::Testimony { findings, .. } = message { Some(findings.clone()) } else { None }
    });
    let told: Vec<PathName> = findings.expect("it testifies").into_iter().map(|finding| finding.path).collect();
    assert_eq!((probes, told), (vec![path("management"), path("storage")], vec![path("management"), path("storage")]));
}
