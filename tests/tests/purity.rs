//! Who may import whom (the table in README, "Codemap"): proto speaks, coordinator decides, agent acts. The pure crates
//! must stay pure through every dependency of theirs. Two more proofs stand beside this one: `make purity` compiles the
//! three for a machine without an operating system, and each one's clippy.toml bans what compiles there all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that decide, and may not touch the world.
const PURE: [&str; 3] = ["rekindle-proto", "rekindle-coordinator", "rekindle-sim"];

/// What may never be linked into them, however far away: runtimes, sockets, processes, TLS, HTTP, storage, hypervisors,
/// clocks, and sources of randomness.
const WORLD: [&str; 36] = [
    "async-std",
    "axum",
    "chrono",
    "crossbeam-channel",
    "futures",
    "getrandom",
    "h2",
    "hyper",
    "jiff",
    "mio",
    "nix",
    "openraft",
    "openssl",
    "openstack",
    "osauth",
    "parking_lot",
    "quinn",
    "quinn-proto",
    "quinn-udp",
    "rcgen",
    "redb",
    "reqwest",
    "ring",
    "rustix",
    "rustls",
    "sd-notify",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tower",
    "tracing-journald",
    "tracing-subscriber",
    "virt",
    "virt-sys",
];

/// What each of our crates may name in `[dependencies]`. agent and tests may import the world, so only which of *ours*
/// they import is looked at.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let set = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
    BTreeMap::from([
        ("rekindle-proto", set(&["postcard", "serde", "thiserror", "uuid"])),
        (
            "rekindle-coordinator",
            // p256 and x509-cert: apply() checks the signature of an operator's order. They compute; they read nothing.
            set(&["foca", "p256", "postcard", "rand", "rekindle-proto", "serde", "thiserror", "x509-cert"]),
        ),
        // toml: scenario files are text that the caller has read.
        (
            "rekindle-sim",
            set(&["rand", "rekindle-coordinator", "rekindle-proto", "serde", "thiserror", "toml", "uuid"]),
        ),
        // sim only for the command `rekindle sim`.
        ("rekindle-agent", set(&["rekindle-coordinator", "rekindle-proto", "rekindle-sim"])),
        ("rekindle-tests", set(&["rekindle-agent", "rekindle-coordinator", "rekindle-proto", "rekindle-sim"])),
    ])
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Runs the cargo that runs this test. `--locked`: a test must not change the lock file.
fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).arg("--locked").current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Every package that is linked into `package`, itself too.
fn linked(package: &str, more: &[&str]) -> BTreeSet<String> {
    let mut arguments = vec!["tree", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"];
    arguments.extend(more);
    let tree = cargo(&arguments);
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains(package), "cargo tree has another form now: {tree}");
    names
}

/// `[dependencies]` of each of our packages, optional ones too; not those for tests or build scripts.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let normal = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies.iter().filter(|dependency| dependency["kind"].is_null()).map(name).collect()
    };
    packages.iter().map(|package| (name(package), normal(package))).collect()
}

#[test]
fn no_pure_crate_links_the_world() {
    for package in PURE {
        let names = linked(package, &[]);
        let found: Vec<_> = WORLD.iter().filter(|name| names.contains(**name)).collect();
        assert!(found.is_empty(), "{package} must stay pure, but links {found:?}: `cargo tree -p {package} -i NAME`");
    }
}

/// Guards can be switched off in the simulator's own test, and in nothing that is shipped.
#[test]
fn the_daemon_cannot_switch_a_guard_off() {
    let tree = |more: &[&str]| {
        let arguments = ["tree", "-e", "normal", "--prefix", "none", "--format", "{p}|{f}", "-p"];
        cargo(&[&arguments[..], more].concat())
    };
    let features = |line: &str| line.rsplit('|').next().is_some_and(|all| all.split(',').any(|one| one == "mutants"));
    let enabled = |tree: &str| tree.lines().any(|line| line.starts_with("rekindle-") && features(line));
    assert!(!enabled(&tree(&["rekindle-agent"])), "rekindle-agent enables the feature `mutants`");
    let named = tree(&["rekindle-sim", "--features", "mutants"]);
    assert!(enabled(&named), "cargo tree has another form now: {named}");
}

#[test]
fn the_list_of_the_world_is_spelt_as_cargo_spells_it() {
    let daemon = linked("rekindle-agent", &[]);
    for name in ["axum", "hyper", "mio", "openraft", "quinn", "redb", "reqwest", "rustls", "socket2", "tokio", "virt"] {
        assert!(WORLD.contains(&name) && daemon.contains(name), "{name} is no package of the daemon any more");
    }
}

#[test]
fn each_crate_imports_only_what_it_may() {
    let (declared, allowed) = (declared(), allowed());
    assert!(declared.keys().eq(allowed.keys().copied()), "a new package needs its line in the table: {declared:?}");
    for (package, dependencies) in &declared {
        let of_interest = |name: &&String| PURE.contains(&package.as_str()) || name.starts_with("rekindle");
        let may = &allowed[package.as_str()];
        let more: Vec<_> =
            dependencies.iter().filter(of_interest).filter(|name| !may.contains(name.as_str())).collect();
        assert!(more.is_empty(), "{package} may not import {more:?}");
    }
}

#[test]
fn without_its_feature_the_daemon_links_no_libvirt() {
    let names = linked("rekindle-agent", &["--no-default-features"]);
    assert!(!names.contains("virt") && !names.contains("virt-sys"), "a witness must run without libvirt");
}

/// A crate's clippy.toml replaces the root's, so the root's lines are repeated in each.
#[test]
fn the_pure_crates_ban_the_same_things() {
    let read =
        |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let [proto, coordinator, sim] = ["proto", "coordinator", "sim"].map(|name| read(&format!("{name}/clippy.toml")));
    assert!(proto == coordinator && proto == sim, "copy one clippy.toml over the others");
    for line in read("clippy.toml").lines() {
        assert!(proto.lines().any(|theirs| theirs == line), "proto/clippy.toml lacks the root's line {line:?}");
    }
    for banned in [
        "time::Instant::now",
        "time::SystemTime::now",
        "thread::sleep",
        "fs::File",
        "net::UdpSocket",
        "process::Command",
    ] {
        assert!(proto.contains(&format!("\"std::{banned}\"")), "std::{banned} is not banned any more");
    }
    for banned in ["HashMap", "HashSet"] {
        assert!(proto.contains(&format!("\"std::collections::{banned}\"")), "{banned} is not banned any more");
    }
}
