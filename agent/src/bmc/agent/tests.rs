//! Agents that do what agents do, and worse. Each is a script; the real ones are tried in `tests/tests/fence_agents.rs`.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::bmc::simulator::write;

/// Nobody's password, and nothing that stands in a process list by chance.
const SECRET: &str = "Pl4nted'Secret/%&+ü";

/// A deadline no honest run comes near.
const ENOUGH: Duration = Duration::from_secs(20);

/// What hangs is given this long.
const SOON: Duration = Duration::from_millis(400);

/// An agent that is this script, with a secret.
fn agent(script: &str) -> (FenceAgent, TempDir) {
    let dir = tempfile::tempdir().expect("dir");
    let program = dir.path().join("agent");
    write(&program, &format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display()), 0o755);
    let password = dir.path().join("password");
    write(&password, &format!("{SECRET}\n"), 0o600);
    let settings = AgentSettings {
        name: program.to_str().expect("UTF-8").to_owned(),
        options: BTreeMap::from([
            ("ip".to_owned(), "{address}".to_owned()),
            ("plug".to_owned(), "{host}".to_owned()),
            ("username".to_owned(), "admin".to_owned()),
        ]),
        secrets: BTreeMap::from([("password".to_owned(), SecretSource::File(password))]),
    };
    (FenceAgent::new(&settings, &HostName::new("cmp-1").expect("legal"), "pdu-1/7"), dir)
}

async fn status(script: &str) -> Result<PowerState, DeviceError> {
    agent(script).0.power_state(clock::moment() + ENOUGH).await
}

async fn off(agent: &FenceAgent, within: Duration) -> Result<(), OrderError> {
    let now = clock::moment();
    agent.power_off(&DeviceIdentity::Untold, now + within, now + within).await
}

#[tokio::test]
async fn it_is_told_everything_on_standard_input_and_nothing_anywhere_else() {
    let (agent, dir) = agent("cat > told; echo \"$# $*\" > arguments; env > environment");
    off(&agent, ENOUGH).await.expect("accepted");
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    let told = format!("action=off\nip=pdu-1/7\nplug=cmp-1\nusername=admin\npassword={SECRET}\n");
    assert_eq!(read("told"), told);
    assert_eq!(read("arguments"), "0 \n");
    let environment = read("environment");
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // The shell adds the last three itself.
    assert!(names.iter().all(|name| ["PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"].contains(name)), "{environment}");
    assert!(environment.lines().any(|line| line == "LC_ALL=C"), "{environment}");
}

#[tokio::test]
async fn a_state_takes_the_exit_code_and_the_line() {
    let off = "echo 'Status: OFF'; exit 2";
    assert_eq!(status(off).await, Ok(PowerState::Off));
    assert_eq!(status(&format!("echo; echo 'a warning' >&2; {off}")).await, Ok(PowerState::Off));
    for on in ["echo 'Status: ON'", "exit 0", "echo whatever"] {
        assert_eq!(status(on).await, Ok(PowerState::On), "{on}");
    }
    for neither in [
        // Python says the first when there is no such program, old agents the second for wrong arguments.
        "echo \"can't open file\" >&2; exit 2",
        "exit 2",
        "echo 'Status: OFF'",
        "echo 'Status: ON'; exit 2",
        "echo 'Status: OFF'; echo 'Status: ON'; exit 2",
        "echo 'Status: OFF'; echo 'Status: OFF'; exit 2",
        "echo 'Status: Off'; exit 2",
        "echo 'Status: OFFLINE'; exit 2",
        "echo ' Status: OFF'; exit 2",
        "echo 'Status: OFF' >&2; exit 2",
        "echo OFF; exit 2",
        "echo 'Status: UNKNOWN'",
        "echo 'Status:'; exit 2",
        "echo 'Status: OFF'; exit 1",
        "echo 'Status: OFF'; exit 3",
        "echo 'Status: OFF'; exit 255",
        "echo 'Status: OFF'; kill -9 $$",
        "echo 'Status: OFF'; head -c 100000 /dev/zero | tr '\\0' '\\n'; exit 2",
        "head -c 100000 /dev/zero | tr '\\0' x; exit 2",
        "printf 'Status: OFF\\0'; exit 2",
        "printf '\\377\\376Status: OFF'; exit 2",
        "head -c 512 /dev/urandom; exit 2",
    ] {
        status(neither).await.expect_err(neither);
    }
}

#[tokio::test]
async fn off_counts_as_accepted_with_exit_code_0_only() {
    for accepted in ["true", "echo 'Success: Powered OFF'", "echo nonsense"] {
        let (agent, _dir) = agent(accepted);
        off(&agent, ENOUGH).await.expect(accepted);
    }
    for (refused, says) in [
        ("echo 'Success: Powered OFF'; exit 1", "Success"),
        ("exit 2", "exit status: 2"),
        ("echo 'Failed: Timed out waiting to power OFF' >&2; exit 1", "Timed out waiting"),
        ("kill -9 $$", "signal: 9"),
        ("exit 127", "127"),
        // It has read the power itself: then that is to be read, and its word is not taken.
        ("echo 'Success: Already OFF'", "found the machine off, and sent it nothing"),
    ] {
        let (agent, _dir) = agent(refused);
        let error = off(&agent, ENOUGH).await.expect_err(refused);
        let is_refused =
            |error: &DeviceError| matches!(error, DeviceError::Refused(text) if text.as_str().contains(says));
        assert!(matches!(&error, OrderError::MaybeSent(error) if is_refused(error)), "{error}");
    }
    for (script, silent) in [
        ("echo 'Connection timed out' >&2; exit 1", true),
        ("exit 5", true),
        ("echo 'Failed: You have to set login password' >&2; exit 1", false),
        ("exit 3", false),
    ] {
        let (agent, _dir) = agent(script);
        let error = off(&agent, ENOUGH).await.expect_err(script);
        // Before or after the order: nobody knows.
        let OrderError::MaybeSent(error) = error else { panic!("{script}: {error}") };
        assert_eq!(matches!(error, DeviceError::Silent(_)), silent, "{error}");
        assert_eq!(matches!(error, DeviceError::Credentials(_)), !silent, "{error}");
    }
}

#[tokio::test]
async fn one_that_says_yes_and_does_nothing_is_found_out_by_its_own_status() {
    let (agent, _dir) = agent("read action; case $action in action=off) exit 0 ;; *) echo 'Status: ON' ;; esac");
    off(&agent, ENOUGH).await.expect("it says so");
    assert_eq!(agent.power_state(clock::moment() + ENOUGH).await, Ok(PowerState::On));
}

#[tokio::test]
async fn what_comes_too_late_starts_nothing() {
    let (agent, dir) = agent("touch ran");
    let now = clock::moment();
    for (begin_before, end) in [(now, now + ENOUGH), (now + ENOUGH, now)] {
        assert_eq!(agent.power_off(&DeviceIdentity::Untold, begin_before, end).await, Err(OrderError::TooLate));
        assert_eq!(agent.power_on(&DeviceIdentity::Untold, begin_before, end).await, Err(OrderError::TooLate));
    }
    assert!(!dir.path().join("ran").exists());
}

#[tokio::test]
async fn a_secret_it_prints_is_told_to_nobody() {
    let script = "while read -r line; do case $line in password=*) secret=${line#password=} ;; esac; done\n\
                  echo \"tried $secret\" >&2; echo \"-P '$secret'\" >&2; printf %s \"admin:$secret\" | base64 >&2\n\
                  echo \"Ignoring unknown option 'password=$secret'\"; exit 1";
    let (agent, _dir) = agent(script);
    let error = off(&agent, ENOUGH).await.expect_err("exit code 1").to_string();
    assert!(error.contains("tried ***") && error.contains("-P '***'"), "{error}");
    for form in [SECRET, "Pl4nted", "YWRtaW46", "UGw0bnRlZ"] {
        assert!(!error.contains(form), "{error}");
    }
    // Up to the very byte where reading ends.
    let (agent, _dir) = self::agent(
        "while read -r line; do case $line in password=*) secret=${line#password=} ;; esac; done\n\
         head -c 8180 /dev/zero | tr '\\0' ' ' >&2; echo \"$secret\" >&2; exit 1",
    );
    let error = off(&agent, ENOUGH).await.expect_err("exit code 1").to_string();
    assert!(error.contains("***") && !error.contains("Pl4n"), "{error}");
}

/// Every process that was started by this path.
fn processes(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

/// An agent that starts a sleeper, by a path that is nobody else's.
fn sleeper(script: &str) -> (FenceAgent, TempDir, String) {
    let (agent, dir) = agent("true");
    let sleeper = dir.path().join("sleeper");
    symlink("/bin/sleep", &sleeper).expect("link");
    let mark = sleeper.to_str().expect("UTF-8").to_owned();
    write(&dir.path().join("agent"), &format!("#!/bin/sh\n{}\n", script.replace("SLEEPER", &mark)), 0o755);
    (agent, dir, mark)
}

async fn gone(mark: &str) {
    let started = Instant::now();
    while processes(mark) > 0 {
        assert!(started.elapsed() < ENOUGH, "{mark} still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whatever_hangs_is_killed_with_all_its_children() {
    for (name, script) in [
        ("itself", "exec SLEEPER 600"),
        ("a child that it waits for", "SLEEPER 600; true"),
        ("a child that keeps the pipe", "SLEEPER 600 & exit 0"),
        ("a child of a child", "(SLEEPER 600 & SLEEPER 600 & wait) & wait"),
        ("a child in a session of its own, as of a terminal", "setsid SLEEPER 600 & wait"),
        ("one that hears nothing of the end", "trap '' TERM HUP INT; SLEEPER 600; SLEEPER 600"),
        ("one that talks for ever", "SLEEPER 600 & while :; do echo 'Status: OFF'; done"),
    ] {
        let (agent, _dir, mark) = sleeper(script);
        for action in [Action::Off, Action::Status, Action::On] {
            let end = clock::moment() + SOON;
            let error = match action {
                Action::Status => OrderError::MaybeSent(agent.power_state(end).await.expect_err(name)),
                Action::On => agent.power_on(&DeviceIdentity::Untold, end, end).await.expect_err(name),
                Action::Off | Action::Metadata => {
                    agent.power_off(&DeviceIdentity::Untold, end, end).await.expect_err(name)
                }
            };
            assert!(matches!(error, OrderError::MaybeSent(DeviceError::Silent(_))), "{name}: {error}");
            gone(&mark).await;
        }
    }
}

#[tokio::test]
async fn one_whose_caller_goes_away_is_killed() {
    let (agent, _dir, mark) = sleeper("exec SLEEPER 600");
    let reading = tokio::spawn(async move { agent.power_state(clock::moment() + ENOUGH).await });
    let started = Instant::now();
    while processes(&mark) == 0 {
        assert!(started.elapsed() < ENOUGH, "never started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reading.abort();
    gone(&mark).await;
}

#[tokio::test]
async fn one_that_is_not_there_or_lacks_its_secret_is_named() {
    let (agent, dir) = agent("true");
    std::fs::remove_file(dir.path().join("password")).expect("removed");
    let error = off(&agent, ENOUGH).await.expect_err("no secret").to_string();
    assert!(error.contains("password") && error.contains("cannot be read"), "{error}");
    write(&dir.path().join("password"), "\"in quotes\"\n", 0o600);
    let error = off(&agent, ENOUGH).await.expect_err("cannot be handed over");
    assert!(matches!(error, OrderError::NotSent(_)), "{error}");
    assert!(error.to_string().contains("double quotes") && !error.to_string().contains("in quotes"), "{error}");
    let settings =
        AgentSettings { name: "fence_nothing".to_owned(), options: BTreeMap::new(), secrets: BTreeMap::new() };
    let agent = FenceAgent::new(&settings, &HostName::new("cmp-1").expect("legal"), "x");
    let error = off(&agent, ENOUGH).await.expect_err("no agent");
    assert!(matches!(error, OrderError::NotSent(_)), "{error}");
    assert!(error.to_string().contains("fence_nothing is not on PATH"), "{error}");
    assert!(matches!(agent.guid(clock::moment() + ENOUGH).await, Err(DeviceError::Unusable(_))));
}

/// As fencing.py 4.12.1 writes it, shortened.
const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_test" shortdesc="Test" >
<longdesc>Tests &amp; more</longdesc>
<parameters>
	<parameter name="action" unique="0" required="1">
		<getopt mixed="-o, --action=[action]" />
		<content type="string" default="reboot"  />
	</parameter>
	<parameter name="ip" unique="0" required="1" obsoletes="ipaddr">
		<content type="string"  />
	</parameter>
	<parameter name="ipaddr" unique="0" required="1" deprecated="1">
		<content type="string"  />
	</parameter>
	<parameter name="password" unique="0" required="0" obsoletes="passwd">
		<content type="string"  />
	</parameter>
	<parameter name="passwd" unique="0" required="0" deprecated="1">
		<content type="string"  />
	</parameter>
	<parameter name="lanplus" unique="0" required="0">
		<content type="boolean" default="0"  />
	</parameter>
	<parameter name="missing_as_off" unique="0" required="0">
		<content type="boolean" default="1"  />
	</parameter>
	<parameter name="power_wait" unique="0" required="0">
		<content type="second" default="2"  />
	</parameter>
	<parameter name="privlvl" unique="0" required="0">
		<content type="select" default="administrator"  >
			<option value="operator" />
			<option value="administrator" />
		</content>
	</parameter>
</parameters>
<actions>
	<action name="on" automatic="0"/>
	<action name="off" />
	<action name="status" />
</actions>
</resource-agent>
"#;

/// An agent that says this of itself, and would be told these options and secrets.
fn described(options: &[(&str, &str)], secrets: &[&str], metadata: &str) -> (AgentSettings, TempDir) {
    let dir = tempfile::tempdir().expect("dir");
    let (program, xml) = (dir.path().join("fence_test"), dir.path().join("xml"));
    let script = format!("#!/bin/sh\ngrep -q '^action=metadata$' || exit 1\ncat {}\n", xml.display());
    write(&program, &script, 0o755);
    write(&xml, metadata, 0o644);
    let settings = AgentSettings {
        name: program.to_str().expect("UTF-8").to_owned(),
        options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        secrets: secrets.iter().map(|name| ((*name).to_owned(), SecretSource::Credential("x".to_owned()))).collect(),
    };
    (settings, dir)
}

const GOOD: [(&str, &str); 3] = [("ip", "pdu"), ("lanplus", "1"), ("missing_as_off", "0")];

#[tokio::test]
async fn what_it_does_not_know_is_named_before_it_is_needed() {
    let inspected = async |change: &[(&str, Option<&str>)], secrets: &[&str]| {
        let mut options: BTreeMap<&str, &str> = GOOD.into_iter().collect();
        for (name, value) in change {
            match value {
                Some(value) => options.insert(name, value),
                None => options.remove(name),
            };
        }
        let options: Vec<(&str, &str)> = options.into_iter().collect();
        let (settings, _dir) = described(&options, secrets, METADATA);
        inspect(&settings, ENOUGH).await
    };
    inspected(&[], &["password"]).await.expect("all is well");
    // Old names, `-` for `_`, and what Pacemaker always tells.
    let old = [("ip", None), ("ipaddr", Some("pdu")), ("power-wait", Some("1.5")), ("nodename", Some("cmp-1"))];
    inspected(&old, &["passwd"]).await.expect("old names are names");
    for (change, secrets, says) in [
        (&[("lanpluss", Some("1"))][..], &[][..], "options.lanpluss is not an option"),
        (&[], &["api_key"], "the secret api_key is not an option"),
        (&[("ip", None)], &[], "options.ip is required"),
        (&[("lanplus", None)], &[], "IPMI 1.5"),
        (&[("missing_as_off", None)], &[], "calls a machine that it cannot find off"),
        (&[("lanplus", Some("maybe"))], &[], "must be of type boolean"),
        (&[("power_wait", Some("soon"))], &[], "must be of type second"),
        (&[("privlvl", Some("root"))], &[], "one of: operator, administrator"),
    ] {
        let error = inspected(change, secrets).await.expect_err(says);
        assert!(error.contains(says), "{says:?} is not in {error:?}");
    }
}

#[tokio::test]
async fn metadata_that_is_none_stops_nobody_and_an_agent_that_cannot_run_does() {
    let deep = "<a>".repeat(60_000);
    let unknown = "<?xml version=\"1.0\"?><a>&b;</a>";
    for strange in ["", "no XML", "<resource-agent><a></resource-agent>", "<other/>", unknown, &deep] {
        let (settings, _dir) = described(&GOOD, &[], strange);
        let said = inspect(&settings, ENOUGH).await.expect("not the site's fault");
        assert!(said.contains("its options were not checked"), "{said}");
    }
    let huge = METADATA.to_owned() + &" ".repeat(METADATA_BYTES_MAX);
    let (settings, dir) = described(&GOOD, &[], &huge);
    inspect(&settings, ENOUGH).await.expect_err("longer than any");
    let program = dir.path().join("fence_test");
    write(&program, "#!/bin/sh\nexit 1\n", 0o755);
    inspect(&settings, ENOUGH).await.expect_err("it does not describe itself");
    write(&program, "#!/bin/sh\n", 0o777);
    let error = inspect(&settings, ENOUGH).await.expect_err("anybody may change it");
    assert!(error.contains("others than its owner"), "{error}");
}
