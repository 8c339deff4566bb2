//! Fixed documents for tests.

use std::collections::BTreeMap;

use rekindle_proto::brake::{BrakeLine, BrakesDoc, HeldLine};
use rekindle_proto::capacity::{CapacityDoc, ClassLine, LossLine, UnfitLine};
use rekindle_proto::fact::{MemberRole, PowerState, Text};
use rekindle_proto::id::{
    ClusterName, DomainName, HostName, Incarnation, IncidentId, OperatorName, SegmentHostId, SegmentId, ServerId,
    StoreId, Term, WallTime,
};
use rekindle_proto::segment::{RecoveryMethod, SegmentDoc, SegmentHostDoc, SegmentWord, SegmentsDoc};
use rekindle_proto::status::{
    FenceLine, FenceTestLine, GuardLine, HostLine, IncidentDoc, IncidentLine, MemberLine, MembersDoc, Phase,
    PriorityLine, ProgressDoc, ServerLine, StatusDoc, StoryLine, WhyDoc,
};
use rekindle_proto::voters::{VoterLine, VoterStory, VotersDoc};

pub(crate) fn voters() -> VotersDoc {
    let line = |name: &str, role: &str, text: &str| VoterLine {
        host: host(name),
        store: StoreId(uuid::Uuid::from_u128(7)),
        role: role.into(),
        domain: None,
        lag: Some(0),
        silent_ms: Some(300),
        text: text.into(),
    };
    VotersDoc {
        told_by: host("cmp-03"),
        generation: 0,
        wanted: 3,
        voters: vec![
            line("cmp-01", "voter", "current"),
            line("cmp-02", "voter", "lost: silent for 71 s"),
            line("cmp-03", "voter", "current"),
            line("cmp-05", "standby", "ready"),
        ],
        change: Some("under way: silent for 71 s".into()),
        placement: None,
        story: vec![VoterStory { at: BEGAN, text: "cmp-05 for cmp-02: silent for 71 s".into() }],
    }
}

/// 2026-11-21 02:13:07.400 UTC.
pub(crate) const BEGAN: WallTime = WallTime(1_795_227_187_400);

pub(crate) fn host(name: &str) -> HostName {
    HostName::new(name).expect("legal")
}

fn line(name: &str, state: &str, for_ms: u64, devices: &str, guests: u32) -> HostLine {
    HostLine {
        host: host(name),
        role: MemberRole::Member,
        domain: None,
        state: state.into(),
        for_ms: Some(for_ms),
        incarnation: Some(Incarnation(3)),
        boot: None,
        maintenance: false,
        devices: devices.into(),
        guests: Some(guests),
        notes: Vec::new(),
        paths: Vec::new(),
        signs: Vec::new(),
        gate: None,
        processes: Vec::new(),
        segment: None,
    }
}

fn after(ms: i64) -> WallTime {
    WallTime(BEGAN.0 + ms)
}

fn told(ms: i64, phase: Phase, text: &str) -> StoryLine {
    StoryLine { at: after(ms), phase, text: text.into(), operator: None }
}

/// One host of five is being evacuated.
pub(crate) fn busy() -> StatusDoc {
    const DAY: u64 = 86_400_000;
    let mut leader = line("cmp-03", "alive", 2 * DAY + 4 * 3_600_000, "ipmi-tool on, bound", 20);
    leader.notes.push("leader".into());
    let mut witness = line("wit-1", "alive", 11 * DAY, "", 0);
    witness.role = MemberRole::Witness;
    witness.guests = None;
    let mut second = line("cmp-02", "alive", 11 * DAY, "ipmi-tool on, bound", 22);
    second.domain = Some(DomainName::new("rack-2").expect("legal"));
    StatusDoc {
        cluster: ClusterName::new("zrh1").expect("legal"),
        told_by: host("cmp-03"),
        at: after(72_000),
        leader: Some(host("cmp-03")),
        term: Term(14),
        armed: Some(true),
        armed_reason: Some("go".into()),
        alive: 4,
        roster: 5,
        needed: 3,
        voters: vec![host("cmp-01"), host("cmp-03"), host("wit-1")],
        hosts: vec![
            line("cmp-01", "alive", 11 * DAY, "ipmi-tool on, bound", 18),
            second,
            leader,
            line("cmp-04", "evacuating", 72_000, "ipmi-tool off, bound", 14),
            witness,
        ],
        incidents: vec![story()],
        alarms: vec![Text::new("nova: slow, 2.1 s a call")],
        strangers: Vec::new(),
        armed_again_in_ms: None,
        capacity: None,
        unfenceable: Vec::new(),
        ledger_format: 2,
    }
}

/// Nothing is wrong.
pub(crate) fn calm() -> StatusDoc {
    let mut status = busy();
    status.incidents.clear();
    status.alarms.clear();
    status.hosts.iter_mut().for_each(|host| host.state = "alive".into());
    status.alive = 5;
    status
}

/// The story of the busy picture.
pub(crate) fn story() -> IncidentDoc {
    let server = |number: u128, name: &str, state: &str, to: Option<&str>, reason: Option<&str>| ServerLine {
        server: ServerId(uuid::Uuid::from_u128(number)),
        name: name.into(),
        state: state.into(),
        to: to.map(host),
        attempts: 1,
        reason: reason.map(Text::from),
        priority: Some(if number == 2 { 90 } else { 50 }),
    };
    let mut ordered = told(4_200, Phase::Fencing, "ipmi-tool@cmp-04-bmc: off ordered, attempt 1");
    ordered.operator = Some(OperatorName::new("alice").expect("legal"));
    IncidentDoc {
        line: IncidentLine {
            id: IncidentId(14),
            host: host("cmp-04"),
            server: None,
            phase: Phase::Evacuating,
            began: BEGAN,
            ended: None,
            recovered: 1,
            left_behind: 1,
            servers: 3,
            rebooted: false,
            process: None,
            rehearsal: false,
        },
        story: vec![
            told(0, Phase::Suspect, "cmp-05: no answer"),
            told(4_100, Phase::Unclean, "3 testimonies of 4 eligible (need 3): cmp-01 cmp-02 cmp-03"),
            ordered,
            told(7_500, Phase::Fenced, "off read twice, 1.1 s apart"),
            told(86_400_000, Phase::Evacuating, "3 servers"),
        ],
        servers: vec![
            server(1, "web", "recovered", Some("cmp-01"), None),
            server(2, "db\u{1b}[31m", "left-behind", None, Some("local disk")),
            server(3, "mail", "evacuating", None, None),
        ],
        held_by: vec!["Nova does not answer".into()],
        progress: Some(ProgressDoc {
            settled: 2,
            servers: 3,
            remaining_ms: Some(40_000),
            priorities: vec![
                PriorityLine { priority: 90, servers: 1, left_behind: 1, ..PriorityLine::default() },
                PriorityLine { priority: 50, servers: 2, recovered: 1, under_way: 1, ..PriorityLine::default() },
            ],
            per_minute: Some(2),
            at_once: Some(8),
        }),
        reserve: None,
        fences: Vec::new(),
    }
}

/// A host that rebooted by itself: of four guests one never stopped, one was started, one is being started, one cannot be.
pub(crate) fn reboot() -> IncidentDoc {
    let server = |number: u128, state: &str, reason: Option<&str>| ServerLine {
        server: ServerId(uuid::Uuid::from_u128(number)),
        name: "".into(),
        state: state.into(),
        to: (state == "recovered").then(|| host("cmp-02")),
        attempts: 1,
        reason: reason.map(Text::from),
        priority: Some(50),
    };
    IncidentDoc {
        line: IncidentLine {
            id: IncidentId(15),
            host: host("cmp-02"),
            server: None,
            phase: Phase::Evacuating,
            began: BEGAN,
            ended: None,
            recovered: 2,
            left_behind: 1,
            servers: 4,
            rebooted: true,
            process: None,
            rehearsal: false,
        },
        story: vec![
            told(0, Phase::Evacuating, "it rebooted: boot a is over, boot b speaks; 4 guests ran"),
            told(61_000, Phase::Evacuating, "3 of 4 guests do not run: started in place"),
        ],
        servers: vec![
            server(1, "recovered", None),
            server(2, "starting", None),
            server(3, "left-behind", Some("started three times in an hour")),
        ],
        held_by: Vec::new(),
        progress: None,
        reserve: None,
        fences: Vec::new(),
    }
}

/// A rehearsal that is over: of cmp-01 it passed, of cmp-02 it did not, and cmp-03 has not come back.
pub(crate) fn rehearsal(number: u64) -> IncidentDoc {
    let end = [Phase::Recovered, Phase::Refuted, Phase::Stuck][usize::try_from(number - 21).expect("one of three")];
    let name = format!("cmp-{:02}", number - 20);
    let mut doc = reboot();
    doc.line = IncidentLine {
        id: IncidentId(number),
        host: host(&name),
        phase: end,
        ended: Some(WallTime(BEGAN.0 + 200_000)),
        rebooted: false,
        rehearsal: true,
        ..doc.line
    };
    doc.story = vec![
        told(0, Phase::Unclean, "rehearsal of its lowest level: new BMC"),
        told(3_000, Phase::Fencing, "power off by level 1"),
        told(200_000, end, "said so"),
    ];
    doc.servers = Vec::new();
    doc.fences = vec![FenceLine {
        attempt: 1,
        at: Some(WallTime(BEGAN.0 + 3_000)),
        by: Some(host("cmp-05")),
        executor: Some(host("cmp-04")),
        term: Term(4),
        level: 1,
        devices: vec!["ipmi-tool@cmp-01-bmc".to_owned()],
        not_after: WallTime(BEGAN.0 + 28_000),
        result: "proven".into(),
        readings: vec!["ipmi-tool@cmp-01-bmc: on before the order, off 900 ms after it".into()],
    }];
    doc
}

pub(crate) fn members() -> MembersDoc {
    let member = |name: Option<&str>, address: &str, state: &str, for_ms| MemberLine {
        host: name.map(host),
        address: address.to_owned(),
        state: state.into(),
        incarnation: Incarnation(7),
        for_ms,
    };
    MembersDoc {
        told_by: host("cmp-01"),
        members: vec![
            member(Some("cmp-01"), "10.20.0.11:7946", "alive", 5_000),
            member(None, "10.20.0.12:7946", "suspect", 61_000),
        ],
    }
}

pub(crate) fn why(protected: bool) -> WhyDoc {
    let guard = |guard: &str, passes, text: &str| GuardLine { guard: guard.into(), passes, text: text.into() };
    WhyDoc {
        host: host("cmp-04"),
        protected,
        guards: vec![
            guard("armed", protected, if protected { "since 2026-11-20" } else { "disarmed: `rekindle arm`" }),
            guard("fence-device", true, "ipmi-tool@cmp-04-bmc reads on, bound"),
        ],
        plan: if protected { vec!["power off by ipmi-tool@cmp-04-bmc".into()] } else { Vec::new() },
        capacity: protected.then(|| "its 14 servers would find room on the others (an estimate, read 7 s ago)".into()),
    }
}

pub(crate) fn capacity() -> CapacityDoc {
    let loss = |name: &str, servers, wants: Option<u64>| LossLine {
        hosts: vec![host(name)],
        servers,
        unfit: u32::from(wants.is_some()),
        short: wants.map(|wants| ("VCPU".to_owned(), wants)).into_iter().collect(),
        named: wants
            .map(|wants| UnfitLine {
                server: ServerId(uuid::Uuid::from_u128(7)),
                wants: BTreeMap::from([("VCPU".to_owned(), wants)]),
                why: Text::new(format!("wants VCPU {wants}; the most that one host has free is 16")),
            })
            .into_iter()
            .collect(),
    };
    CapacityDoc {
        at: after(0),
        lose: 1,
        host: None,
        survives: false,
        tried: 2,
        of: 2,
        failing: 1,
        losses: vec![loss("cmp-01", 20, Some(32)), loss("cmp-02", 22, None)],
        classes: vec![ClassLine { class: "VCPU".into(), capacity: 64, used: 40, most_free: 16 }],
        closed: BTreeMap::from([(host("cmp-03"), "maintenance: new disks".into())]),
        open: 2,
        notes: vec!["an estimate".into()],
    }
}

pub(crate) fn brakes() -> BrakesDoc {
    let event = "domain event: 4 of 20 fell silent within 15 s, 0 of them read off: held for 96 s more";
    let brake = |brake: &str, holds, liftable, text: &str| BrakeLine {
        brake: brake.into(),
        holds,
        liftable,
        text: text.into(),
        figures: BTreeMap::from([("hosts".into(), 4)]),
    };
    let held = HeldLine {
        host: host("cmp-04"),
        incident: None,
        brake: Some("domain-event".into()),
        text: event.into(),
        lifted: None,
    };
    let lifted = HeldLine {
        host: host("cmp-09"),
        incident: Some(IncidentId(14)),
        brake: None,
        text: "".into(),
        lifted: Some("lifted by alice: I pulled its plug".into()),
    };
    BrakesDoc {
        told_by: host("cmp-01"),
        brakes: vec![
            brake("armed", false, false, "armed: first week is over"),
            brake("domain-event", true, true, event),
        ],
        held: vec![held, lifted],
    }
}

pub(crate) fn devices() -> Vec<FenceTestLine> {
    vec![
        FenceTestLine {
            host: host("cmp-01"),
            level: 1,
            device: "ipmi-tool@cmp-01-bmc".to_owned(),
            power: Some(PowerState::On),
            bound: true,
            text: "".into(),
        },
        FenceTestLine {
            host: host("cmp-02"),
            level: 1,
            device: "ipmi-tool@cmp-02-bmc".to_owned(),
            power: None,
            bound: false,
            text: "refused our credentials".into(),
        },
    ]
}

pub(crate) fn segments() -> SegmentsDoc {
    let word = |text: &str| SegmentWord::new(text).expect("legal");
    let place = |name: &str, number: u128, reserved| SegmentHostDoc {
        uuid: SegmentHostId(uuid::Uuid::from_u128(number)),
        name: host(name),
        kind: word("COMPUTE"),
        control_attributes: "SSH".into(),
        reserved,
        on_maintenance: false,
    };
    let segment = SegmentDoc {
        uuid: SegmentId(uuid::Uuid::from_u128(1)),
        name: word("rack-1"),
        recovery_method: RecoveryMethod::RhPriority,
        service_type: word("COMPUTE"),
        description: "feed A".into(),
        enabled: true,
        in_use_by: Some(IncidentId(14)),
        hosts: vec![place("cmp-04", 4, false), place("cmp-05", 5, true)],
    };
    SegmentsDoc { told_by: host("cmp-01"), segments: vec![segment], unassigned: vec![host("cmp-01"), host("cmp-02")] }
}
