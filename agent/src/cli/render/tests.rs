//! Whole screens, to the letter.

use rekindle_proto::id::PathName;
use rekindle_proto::status::{PathLine, Phase};

use super::*;
use crate::cli::samples;

const BLACK: Paint = Paint { colours: false };

#[test]
fn the_busy_screen() {
    let expected = "\
zrh1   quorate 4 of 5 (need 3)   leader cmp-03, term 14   armed
told by cmp-03, 2026-11-21 02:14:19Z   voters cmp-01 cmp-03 wit-1

HOST    STATE       FOR     INC  FENCE DEVICE          GUESTS
cmp-01  alive       11d       3  ipmi-tool on, bound       18
cmp-02  alive       11d       3  ipmi-tool on, bound       22  rack-2
cmp-03  alive       2d 04h    3  ipmi-tool on, bound       20  leader
cmp-04  evacuating  1m 12s    3  ipmi-tool off, bound      14
wit-1   alive       11d       3                             -  witness

INCIDENT 14  cmp-04  evacuating   1 of 3 servers recovered, 1 left behind
  02:13:07.4  suspect     cmp-05: no answer
  02:13:11.5  unclean     3 testimonies of 4 eligible (need 3): cmp-01 cmp-02 cmp-03
  02:13:11.6  fencing     ipmi-tool@cmp-04-bmc: off ordered, attempt 1 (by alice)
  02:13:14.9  fenced      off read twice, 1.1 s apart
  2026-11-22
  02:13:07.4  evacuating  3 servers
  held: Nova does not answer

ALARMS
  nova: slow, 2.1 s a call
";
    assert_eq!(status(&samples::busy(), BLACK), expected);
}

/// A witness is not on the storage network; the second host has lost it, and says so.
#[test]
fn several_networks_have_a_column_each() {
    let mut doc = samples::calm();
    let on = |path: &str, state: &str, lost| PathLine {
        path: PathName::new(path).expect("legal"),
        state: state.into(),
        lost,
    };
    for (index, line) in doc.hosts.iter_mut().enumerate() {
        line.paths = vec![on("management", "alive", false)];
        match index {
            1 => line.paths.push(on("storage", "down", true)),
            4 => {}
            _ => line.paths.push(on("storage", "alive", false)),
        }
    }
    let screen = status(&doc, BLACK);
    let rows: Vec<Vec<&str>> = screen
        .lines()
        .skip(3)
        .map(|line| line.split("  ").filter(|word| !word.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(rows[0][3..6], ["INC", "MANAGEMENT", "STORAGE"], "{screen}");
    assert_eq!([1, 2, 5].map(|row| rows[row][5]), ["alive", "down, lost", "-"], "{screen}");
}

#[test]
fn headlines_tell_what_matters() {
    let mut doc = samples::calm();
    assert_eq!(headline(&doc), "zrh1   quorate 5 of 5 (need 3)   leader cmp-03, term 14   armed");
    doc.armed = Some(false);
    doc.armed_reason = Some("first week".into());
    assert_eq!(headline(&doc), "zrh1   quorate 5 of 5 (need 3)   leader cmp-03, term 14   DISARMED");
    let screen = status(&doc, BLACK);
    assert!(screen.contains("disarmed: watching only, nothing will be fenced or evacuated (first week)\n"), "{screen}");
    doc.alive = 2;
    doc.leader = None;
    assert_eq!(headline(&doc), "zrh1   NOT QUORATE 2 of 5 (need 3)   NO LEADER, term 14   DISARMED");
    doc.armed = None;
    assert!(headline(&doc).starts_with("zrh1   NO ROSTER"));
    assert!(status(&doc, BLACK).contains("rekindle init --roster"));
}

#[test]
fn the_story_of_one() {
    let expected = "\
INCIDENT 14  cmp-04  evacuating
began 2026-11-21 02:13:07Z

  02:13:07.4  suspect     cmp-05: no answer
  02:13:11.5  unclean     3 testimonies of 4 eligible (need 3): cmp-01 cmp-02 cmp-03
  02:13:11.6  fencing     ipmi-tool@cmp-04-bmc: off ordered, attempt 1 (by alice)
  02:13:14.9  fenced      off read twice, 1.1 s apart
  2026-11-22
  02:13:07.4  evacuating  3 servers
  held: Nova does not answer

2 of 3 servers settled, about 40s to go at 2 a minute by the pace so far; up to 8 evacuations at once
  priority  90: 0 of 1 recovered, 1 left behind, 0 under way, 0 arrived, 0 waiting
  priority  50: 1 of 2 recovered, 0 left behind, 1 under way, 0 arrived, 0 waiting

SERVER                                NAME     STATE        TO      ATTEMPTS
00000000-0000-0000-0000-000000000001  web      recovered    cmp-01         1
00000000-0000-0000-0000-000000000002  db [31m  left-behind  -              1  local disk
00000000-0000-0000-0000-000000000003  mail     evacuating   -              1
";
    assert_eq!(incident(&samples::story(), BLACK), expected);
}

#[test]
fn the_list_of_incidents() {
    let mut done = samples::story().line;
    done.ended = Some(WallTime(done.began.0 + 42_000));
    done.phase = Phase::Recovered;
    let expected = "\
ID  HOST    PHASE       BEGAN                 LASTED  RECOVERED  LEFT BEHIND
14  cmp-04  evacuating  2026-11-21 02:13:07Z    open     1 of 3            1
14  cmp-04  recovered   2026-11-21 02:13:07Z     42s     1 of 3            1
";
    assert_eq!(incidents(&[samples::story().line, done], BLACK), expected);
    assert_eq!(incidents(&[], BLACK), "no incidents\n");
}

#[test]
fn a_reboot_is_told_as_one() {
    let story = "  02:13:07.4  starting    it rebooted: boot a is over, boot b speaks; 4 guests ran
  02:14:08.4  starting    3 of 4 guests do not run: started in place
";
    let what = "it rebooted by itself: no fence, no evacuation; its guests are started in place\n";
    let servers = "
SERVER                                NAME  STATE        TO      ATTEMPTS
00000000-0000-0000-0000-000000000001        recovered    cmp-02         1
00000000-0000-0000-0000-000000000002        starting     -              1
00000000-0000-0000-0000-000000000003        left-behind  -              1  started three times in an hour
";
    let head = "INCIDENT 15  cmp-02  starting\n";
    assert_eq!(
        incident(&samples::reboot(), BLACK),
        format!("{head}{what}began 2026-11-21 02:13:07Z\n\n{story}{servers}")
    );

    let mut doc = samples::calm();
    doc.incidents.push(samples::reboot());
    doc.hosts[1].notes.push("rebooted: see incident 15".into());
    let screen = status(&doc, BLACK);
    assert!(
        screen
            .contains("cmp-02  alive  11d       3  ipmi-tool on, bound       22  rack-2, rebooted: see incident 15\n"),
        "{screen}"
    );
    let open = format!("INCIDENT 15  cmp-02  starting   2 of 4 guests run again, 1 not started\n  {what}{story}");
    assert!(screen.contains(&open), "{screen}");

    let line = |phase| rekindle_proto::status::IncidentLine { phase, ..samples::reboot().line };
    let expected = "\
ID  HOST    PHASE      BEGAN                 LASTED  RECOVERED  LEFT BEHIND
15  cmp-02  starting   2026-11-21 02:13:07Z    open     2 of 4            1  rebooted
15  cmp-02  recovered  2026-11-21 02:13:07Z    open     2 of 4            1  rebooted
15  cmp-02  stuck      2026-11-21 02:13:07Z    open     2 of 4            1  rebooted
15  cmp-02  ended      2026-11-21 02:13:07Z    open     2 of 4            1  rebooted
";
    let phases = [Phase::Evacuating, Phase::Recovered, Phase::Stuck, Phase::Refuted];
    assert_eq!(incidents(&phases.map(line), BLACK), expected);
}

#[test]
fn members_why_and_devices() {
    let expected = "\
gossip as cmp-01 has it

MEMBER  ADDRESS          STATE       FOR  INCARNATION
cmp-01  10.20.0.11:7946  alive        5s            7
?       10.20.0.12:7946  suspect  1m 01s            7
";
    assert_eq!(members(&samples::members(), BLACK), expected);
    let expected = "\
cmp-04   NOT PROTECTED: if it died now, nothing would be done

      GUARD
HOLD  armed         disarmed: `rekindle arm`
pass  fence-device  ipmi-tool@cmp-04-bmc reads on, bound
";
    assert_eq!(why(&samples::why(false), BLACK), expected);
    assert!(why(&samples::why(true), BLACK).ends_with("\nPLAN\n  1. power off by ipmi-tool@cmp-04-bmc\n"));
    let expected = "\
HOST    LEVEL  DEVICE                POWER    BINDING
cmp-01      1  ipmi-tool@cmp-01-bmc  on       bound
cmp-02      1  ipmi-tool@cmp-02-bmc  unknown  NOT BOUND  refused our credentials
";
    assert_eq!(fence_test(&samples::devices(), BLACK), expected);
    assert!(fence_test(&[], BLACK).contains("no fence device"));
}

#[test]
fn colours_change_nothing_but_colour() {
    let colours = Paint { colours: true };
    let screens = [
        (status(&samples::busy(), colours), status(&samples::busy(), BLACK)),
        (incident(&samples::story(), colours), incident(&samples::story(), BLACK)),
        (why(&samples::why(false), colours), why(&samples::why(false), BLACK)),
        (fence_test(&samples::devices(), colours), fence_test(&samples::devices(), BLACK)),
    ];
    for (coloured, black) in screens {
        assert!(coloured.contains("\u{1b}["), "no colour at all");
        assert!(!black.contains('\u{1b}'), "a colour, or a server's name, in the plain text");
        let mut bare = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            bare.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        assert_eq!(bare + rest, black);
    }
}

#[test]
fn spans_are_short() {
    for (ms, text) in [
        (0, "0s"),
        (59_999, "59s"),
        (60_000, "1m 00s"),
        (3_600_000, "1h 00m"),
        (86_400_000, "1d 00h"),
        (9 * 86_400_000 + 23 * 3_600_000, "9d 23h"),
        (10 * 86_400_000, "10d"),
        (u64::MAX, "213503982334d"),
    ] {
        assert_eq!(ago(ms), text);
    }
    assert_eq!(date_time(WallTime(i64::MAX)), "?");
}
