//! A watchdog as sysfs tells of it, in a directory; and one that keeps what was done to it.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;

use rekindle_coordinator::time::Moment;
use tempfile::TempDir;

use super::device::{Device, Support};
use super::keeper::{Fed, Keeper};
use super::rivals::judge;
use super::sysfs::{KEEP_ALIVE, MAGIC_CLOSE, SET_TIMEOUT, attributes, look};
use super::times::Times;
use super::{BootStatus, Found, Node, WatchdogError};

const ALL: u32 = KEEP_ALIVE | MAGIC_CLOSE | SET_TIMEOUT;
const ESB: &str = "i6300ESB timer";

fn node() -> Node {
    Node::parse("/dev/watchdog0").expect("legal")
}

fn found(nowayout: bool) -> Found {
    let times = Times { timeout: 10, counts: 1 };
    Found { node: node(), identity: ESB.to_owned(), nowayout, active: false, times, before: BootStatus::default() }
}

// --- what it is -----------------------------------------------------------------------------------------------------------

/// A class directory as Debian's kernel shows one, with some files altered; an empty text takes the file away.
fn class(altered: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let class = dir.path().join("watchdog0");
    std::fs::create_dir(&class).expect("made");
    let usual = [
        ("identity", "i6300ESB timer\n"),
        ("nowayout", "0\n"),
        ("state", "inactive\n"),
        ("options", "0x8180\n"),
        ("min_timeout", "1\n"),
        ("max_timeout", "2046\n"),
        ("dev", "248:0\n"),
    ];
    for (name, text) in usual.iter().chain(altered) {
        let path = class.join(name);
        if text.is_empty() {
            std::fs::remove_file(path).expect("it was there");
        } else {
            std::fs::write(path, text).expect("written");
        }
    }
    (dir, class)
}

#[test]
fn what_sysfs_tells_decides_whether_it_may_be_armed() {
    let usual = Times { timeout: 10, counts: 1 };
    let twice = Times { timeout: 6, counts: 2 };
    // (what differs, its times, or words of the refusal)
    type Row = (&'static [(&'static str, &'static str)], Result<Times, &'static str>);
    let rows: [Row; 14] = [
        (&[], Ok(usual)),
        (&[("identity", "iTCO_wdt\n")], Ok(twice)),
        (&[("options", ""), ("min_timeout", ""), ("max_timeout", "")], Ok(usual)),
        (&[("max_timeout", "0\n")], Ok(usual)),
        (&[("max_timeout", "7\n")], Ok(Times { timeout: 7, counts: 1 })),
        (&[("identity", "Software Watchdog\n")], Err("stops with the kernel")),
        (&[("options", "0x8080\n")], Err("a daemon that crashes would disarm it")),
        (&[("options", "0x8080\n"), ("nowayout", "1\n")], Ok(usual)),
        (&[("options", "0x8100\n")], Err("does not let its time-out be set")),
        (&[("options", "0x180\n")], Err("cannot be fed")),
        (&[("min_timeout", "20\n")], Err("a time-out of 20 s, counted 1 times")),
        (&[("max_timeout", "4\n")], Err("takes 1 to 4 s")),
        (&[("state", "odd\n")], Err("\"odd\", which is not understood")),
        (&[("nowayout", "")], Err("must be known before it is opened")),
    ];
    for (altered, expected) in rows {
        let (_dir, class) = class(altered);
        match (attributes(&class, node()), expected) {
            (Ok(found), Ok(times)) => assert_eq!(found.times, times, "{altered:?}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{altered:?}: {error}"),
            (got, expected) => panic!("{altered:?}: {got:?}, not {expected:?}"),
        }
    }
    let (_dir, class) = class(&[("state", "active\n")]);
    assert!(attributes(&class, node()).expect("fit").active, "a daemon before us left it running");
}

#[test]
fn what_ended_the_boot_before_is_told_in_words_and_never_refuses_a_watchdog() {
    // (its file, whether the watchdog did it, words of it)
    let rows = [
        ("", false, ""),
        ("0\n", false, ""),
        ("32\n", true, "its watchdog reset it"),
        ("33\n", true, "it, as nobody fed it in time, and it was too hot"),
        ("16\n", false, "voltage was too low"),
        // WDIOF_MAGICCLOSE is an option, and no cause.
        ("256\n", false, ""),
        ("odd\n", false, ""),
    ];
    for (file, is_reset, words) in rows {
        let (_dir, class) = class(&[("bootstatus", "0\n"), ("bootstatus", file)]);
        let before = attributes(&class, node()).expect("fit").before;
        assert_eq!((before.is_reset(), before.says_something()), (is_reset, !words.is_empty()), "{file:?}");
        assert!(before.to_string().contains(words), "{file:?}: {before}");
    }
}

#[test]
fn a_node_that_is_not_the_kernels_device_is_refused() {
    let (dir, _) = class(&[]);
    let dev = tempfile::tempdir().expect("a directory");
    let error = |what: &str| look(dir.path(), dev.path(), node()).expect_err(what).to_string();
    assert!(error("no node").contains("/dev/watchdog0 is not there"));
    // A plain file takes every write and the letter V, and resets nothing.
    std::fs::write(dev.path().join("watchdog0"), "").expect("written");
    assert!(error("a file").contains("is not the device that"));
    let empty = tempfile::tempdir().expect("a directory");
    std::fs::write(dev.path().join("watchdog"), "").expect("written");
    let older = look(empty.path(), dev.path(), node()).expect_err("no class").to_string();
    assert!(older.contains("an older driver"), "{older}");
}

#[test]
fn only_numbered_nodes_are_taken() {
    for (path, legal) in [
        ("/dev/watchdog0", true),
        ("/dev/watchdog31", true),
        ("/dev/watchdog32", false),
        ("/dev/watchdog", false),
        ("/dev/watchdog00", false),
        ("/dev/watchdog-1", false),
        ("/dev/watchdog0/..", false),
        ("/dev/null", false),
        ("watchdog0", false),
    ] {
        assert_eq!(Node::parse(path).is_some(), legal, "{path}");
        assert!(!legal || Node::parse(path).expect("legal").to_string() == path);
    }
}

/// The bound holds for every device that is taken, and a second longer would be taken where it still holds.
#[test]
fn the_time_out_is_the_longest_safe_one() {
    for (identity, counts) in [(ESB, 1), ("iTCO_wdt", 2), ("", 2)] {
        let times = Times::choose(identity, 0, u32::MAX).expect("safe");
        assert_eq!(times.counts, counts);
        assert!(rekindle_coordinator::fencing::check_times(times.lasts_ms()).is_ok(), "{times:?}");
        let longer = Times { timeout: times.timeout + 1, counts };
        let longest = rekindle_coordinator::fencing::WATCHDOG.as_secs();
        let is_unsafe = rekindle_coordinator::fencing::check_times(longer.lasts_ms()).is_err();
        assert!(is_unsafe || u64::from(longer.timeout) > longest, "{longer:?} would do as well");
    }
    let relation = Times { timeout: 10, counts: 2 }.relation();
    for figure in ["20 s", "10 s", "2 times", "40 s", "60 s", "not within"] {
        assert!(relation.contains(figure), "{figure} in {relation}");
    }
}

// --- who else feeds it ----------------------------------------------------------------------------------------------------

#[test]
fn systemd_must_leave_it_alone() {
    let off = "RuntimeWatchdogUSec=0\nRebootWatchdogUSec=0\nKExecWatchdogUSec=0\n";
    let rows = [
        (off.to_owned(), ""),
        (format!("{off}WatchdogDevice=/dev/watchdog0\n"), ""),
        // As it is out of the box: ten minutes of shutting down, fed throughout.
        (
            "RuntimeWatchdogUSec=0\nRebootWatchdogUSec=10min\nKExecWatchdogUSec=0\n".to_owned(),
            "RebootWatchdogUSec is 10min",
        ),
        ("RuntimeWatchdogUSec=30s\nRebootWatchdogUSec=0\n".to_owned(), "RuntimeWatchdogUSec is 30s"),
        ("RuntimeWatchdogUSec=infinity\nRebootWatchdogUSec=0\n".to_owned(), "RuntimeWatchdogUSec is infinity"),
        ("RuntimeWatchdogUSec=0\nShutdownWatchdogUSec=10min\n".to_owned(), "ShutdownWatchdogUSec is 10min"),
        ("RuntimeWatchdogUSec=30s\nRebootWatchdogUSec=10min\nWatchdogDevice=/dev/watchdog1\n".to_owned(), ""),
        ("RuntimeWatchdogUSec=30s\nRebootWatchdogUSec=0\nWatchdogDevice=/dev/watchdog\n".to_owned(), "is 30s"),
        (String::new(), "it knows no such setting"),
        ("RuntimeWatchdogUSec=0\n".to_owned(), "it knows no such setting"),
    ];
    for (told, words) in rows {
        match judge(&told, node()) {
            Ok(()) => assert!(words.is_empty(), "{told:?}"),
            Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{told:?}: {error}"),
        }
    }
}

// --- orders ---------------------------------------------------------------------------------------------------------------

/// What a device was told to be, and what was done to it.
#[derive(Clone)]
struct Story {
    now: u64,
    identity: &'static str,
    options: u32,
    takes: u32,
    sets: Result<(), i32>,
    left: Option<u32>,
    opens: Result<(), i32>,
    feeds: Result<(), i32>,
    done: Vec<&'static str>,
}

thread_local! {
    static STORY: RefCell<Story> = const {
        RefCell::new(Story {
            now: 0, identity: ESB, options: ALL, takes: 10, sets: Ok(()), left: None, opens: Ok(()), feeds: Ok(()),
            done: Vec::new(),
        })
    };
}

fn alter(change: impl FnOnce(&mut Story)) {
    STORY.with_borrow_mut(change);
}

fn done() -> Vec<&'static str> {
    STORY.with_borrow_mut(|story| std::mem::take(&mut story.done))
}

struct Fake;

fn act(what: &'static str, result: Result<(), i32>) -> io::Result<()> {
    alter(|story| story.done.push(what));
    result.map_err(io::Error::from_raw_os_error)
}

impl Device for Fake {
    fn open(_: Node) -> io::Result<Self> {
        act("open", STORY.with_borrow(|story| story.opens)).map(|()| Self)
    }
    fn support(&self) -> io::Result<Support> {
        Ok(STORY.with_borrow(|story| Support { identity: story.identity.to_owned(), options: story.options }))
    }
    fn set_timeout(&self, _: u32) -> io::Result<u32> {
        act("set", STORY.with_borrow(|story| story.sets))?;
        Ok(STORY.with_borrow(|story| story.takes))
    }
    fn feed(&self) -> io::Result<()> {
        act("feed", STORY.with_borrow(|story| story.feeds))
    }
    fn time_left(&self) -> Option<u32> {
        STORY.with_borrow(|story| story.left)
    }
    fn disarm(self) -> io::Result<()> {
        act("disarm", Ok(()))
    }
}

fn second(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn clock() -> Moment {
    second(STORY.with_borrow(|story| story.now))
}

fn keeper(nowayout: bool) -> Keeper<Fake> {
    Keeper::new(found(nowayout), clock)
}

#[test]
fn it_is_opened_by_the_first_order_and_told_to_run_once() {
    let mut keeper = keeper(false);
    assert_eq!(done(), [""; 0], "nothing is touched before the first order");
    assert!(!keeper.is_open());
    let Fed::First(told) = keeper.feed(second(20)) else { panic!("the first") };
    assert!(told.running && !told.soft && told.timeout_ms == 20_000, "{told:?}");
    assert_eq!(done(), ["open", "set", "feed"]);
    assert_eq!((keeper.feed(second(20)), done()), (Fed::Done, vec!["feed"]));
}

/// The loop stood still (SIGSTOP, a frozen machine) between the order and its act.
#[test]
fn an_order_whose_lease_has_ended_is_not_carried_out() {
    let mut keeper = keeper(false);
    alter(|story| story.now = 20);
    assert_eq!((keeper.feed(second(20)), done()), (Fed::Late, vec![]), "not even opened");
    assert!(matches!(keeper.feed(second(21)), Fed::First(_)));
    done();
    alter(|story| story.now = 30);
    assert_eq!((keeper.feed(second(30)), done()), (Fed::Late, vec![]));
    assert!(keeper.is_open(), "to close it would feed it");
}

#[test]
fn one_that_is_held_is_tried_again_with_each_order() {
    let mut keeper = keeper(false);
    alter(|story| story.opens = Err(nix::libc::EBUSY));
    assert_eq!((keeper.feed(second(20)), done()), (Fed::Failed, vec!["open"]));
    assert!(!keeper.is_open());
    alter(|story| story.opens = Ok(()));
    assert!(matches!(keeper.feed(second(20)), Fed::First(_)), "it is free now");
    done();
    alter(|story| story.feeds = Err(nix::libc::EIO));
    assert_eq!((keeper.feed(second(20)), done()), (Fed::Failed, vec!["feed"]), "and kept open");
    alter(|story| story.feeds = Ok(()));
    assert_eq!((keeper.feed(second(20)), done()), (Fed::Done, vec!["feed"]));
}

/// What only the open device tells. It must not be left running, as nobody would feed it; where it cannot be stopped it is fed,
/// and not counted on.
#[test]
fn one_that_is_not_what_it_should_be_is_disarmed_or_not_counted_on() {
    type Change = fn(&mut Story);
    let unfit: [(&str, Change); 9] = [
        ("a longer time-out", |story| story.takes = 11),
        ("one too short to be back in", |story| story.takes = 4),
        ("a time-out that is refused", |story| story.sets = Err(nix::libc::EINVAL)),
        ("no time-out", |story| story.takes = 0),
        ("more time left than it was set to", |story| story.left = Some(60)),
        ("another device", |story| story.identity = "Software Watchdog"),
        ("no set", |story| story.options = ALL & !SET_TIMEOUT),
        ("no feed", |story| story.options = ALL & !KEEP_ALIVE),
        ("a feed that fails", |story| story.feeds = Err(nix::libc::EIO)),
    ];
    let fit = STORY.with_borrow(Clone::clone);
    for (what, change) in unfit {
        alter(|story| *story = fit.clone());
        alter(change);
        let mut may_stop = keeper(false);
        assert_eq!(may_stop.feed(second(20)), Fed::Unfit, "{what}");
        assert_eq!(done().last(), Some(&"disarm"), "{what}");
        assert_eq!((may_stop.feed(second(20)), done()), (Fed::Unfit, vec![]), "{what}: it is not opened again");
        let mut may_not = keeper(true);
        assert_eq!(may_not.feed(second(20)), Fed::Done, "{what}: fed, and not told to run");
        assert!(may_not.is_open() && !done().contains(&"disarm"), "{what}");
    }
    alter(|story| *story = fit);
    for sooner in [8, 5] {
        alter(|story| story.takes = sooner);
        assert!(matches!(keeper(false).feed(second(20)), Fed::First(_)), "{sooner} s: sooner is safe");
    }
}

#[test]
fn it_is_disarmed_by_order_and_by_nothing_else() {
    let mut never = keeper(false);
    never.disarm();
    assert_eq!(done(), [""; 0], "what we did not start is not ours to stop");
    let mut fed = keeper(false);
    fed.feed(second(20));
    done();
    fed.disarm();
    assert_eq!(done(), ["disarm"]);
    assert!(!fed.is_open());
    assert_eq!(
        (fed.feed(second(20)), done()),
        (Fed::Unfit, vec![]),
        "nor is it begun again by an order that was under way"
    );
    let mut locked = keeper(true);
    locked.feed(second(20));
    done();
    locked.disarm();
    assert_eq!(done(), [""; 0], "nowayout: to close it would be in vain");
    assert!(locked.is_open());
    // A daemon that dies says nothing: the letter is written by an order, and never by a drop.
    let mut dies = keeper(false);
    dies.feed(second(20));
    done();
    drop(dies);
    assert_eq!(done(), [""; 0]);
}

#[test]
fn a_refusal_names_what_to_do() {
    let not_taken = |got| {
        let identity = "hpwdt".to_owned();
        WatchdogError::TimeoutNotTaken { node: node(), identity, asked: 6, got }.to_string()
    };
    for (got, words) in [(8, "set to 6 s and says 8 s: a host could outlive"), (1, "says 1 s: too short for a daemon")]
    {
        assert!(not_taken(got).contains(words), "{}", not_taken(got));
    }
    let busy = WatchdogError::Busy { node: node() }.to_string();
    assert!(busy.contains("RuntimeWatchdogSec") && busy.contains("sbd"), "{busy}");
}
