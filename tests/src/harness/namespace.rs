//! A network of our own, and hosts that fall silent in it.
//!
//! A dead host is *silent*. A live kernel is not: it answers for a dead process with ICMP port unreachable or a TCP reset,
//! which a detector may well hear. So what goes to and from a dead host's address is dropped.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, getegid, geteuid};

/// Proof that this process has a network namespace of its own. Nothing of the harness runs without it.
#[derive(Debug)]
pub struct Isolated {
    /// Whether its mounts are its own too, or why not. Only a [`super::SmallDisk`] needs that.
    pub(super) mounts: Result<(), String>,
}

/// Gives this process a network namespace of its own (and, when it is not root, a user namespace in which it may shape
/// that), with nothing but a loopback interface. Call it in `main` before any thread is started: threads that exist
/// already would stay where they are.
///
/// # Errors
/// If the kernel forbids it, or `ip`, `nft` or `ipmitool` are missing; the words say what to install.
pub fn isolate() -> Result<Isolated> {
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("ipmitool", "ipmitool")] {
        is_there(program, package)?;
    }
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        unshare(CloneFlags::CLONE_NEWNET)
            .context("this kernel gives no network namespace (CAP_SYS_ADMIN is needed)")?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).context(
            "this kernel gives no user namespace to ordinary users; run it as root, or allow it: \
             sysctl kernel.unprivileged_userns_clone=1, and where there is AppArmor \
             kernel.apparmor_restrict_unprivileged_userns=0",
        )?;
        become_root_inside(uid, gid).context("the user namespace cannot be mapped")?;
    }
    run("ip", &["link", "set", "lo", "up"], None)?;
    let mounts = own_mounts().map_err(|error| format!("{error:#}"));
    Ok(Isolated { mounts })
}

/// What we mount is seen by us and our children only, and goes with us. What others mount is seen by us too.
pub(super) fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("the kernel gives none")?;
    run("mount", &["--make-rslave", "/"], None)
}

/// We are root in there, and ourselves outside (`user_namespaces(7)`).
fn become_root_inside(uid: Uid, gid: Gid) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Part of a lossy host's packets that is lost each way, in percent.
const LOST_PERCENT: u8 = 15;

/// Where a crash kernel's words arrive: it speaks though its host is silent, and nobody else sends any.
const KDUMP: u16 = rekindle_agent::kdump::PORT;

/// Drops what goes to and from hosts that are to be silent, deaf or hard to understand.
#[derive(Debug)]
pub(super) struct Firewall {
    table: String,
}

impl Firewall {
    /// An empty one under this name.
    ///
    /// It drops on *input*, where the packet arrives: dropped on output, its sender would be told EPERM, and a dead host
    /// tells nobody anything.
    pub(super) fn new(table: &str) -> Result<Self> {
        let rules = format!(
            "table inet {table} {{
                set silent {{ type ipv4_addr; }}
                set deaf {{ type ipv4_addr; }}
                set lossy {{ type ipv4_addr; }}
                chain arriving {{
                    type filter hook input priority 0; policy accept;
                    udp dport {KDUMP} accept
                    ip saddr @silent drop
                    ip daddr @silent drop
                    ip daddr @deaf drop
                    ip saddr @lossy numgen random mod 100 < {LOST_PERCENT} drop
                    ip daddr @lossy numgen random mod 100 < {LOST_PERCENT} drop
                }}
            }}"
        );
        run("nft", &["-f", "-"], Some(&rules)).context("nft cannot set up its table: has this kernel nf_tables?")?;
        Ok(Self { table: table.to_owned() })
    }

    /// From now on nothing comes from, or gets to, this address.
    pub(super) fn silence(&self, address: IpAddr) -> Result<()> {
        self.add("silent", address)
    }

    /// It is heard again. No error if it was not silent.
    pub(super) fn unsilence(&self, address: IpAddr) -> Result<()> {
        self.remove("silent", address)
    }

    /// What it says arrives; nothing gets to it (`true`), or everything again.
    pub(super) fn deafen(&self, address: IpAddr, deaf: bool) -> Result<()> {
        if deaf { self.add("deaf", address) } else { self.remove("deaf", address) }
    }

    /// A part of what comes from it and gets to it is lost (`true`), or nothing any more.
    pub(super) fn make_lossy(&self, address: IpAddr, lossy: bool) -> Result<()> {
        if lossy { self.add("lossy", address) } else { self.remove("lossy", address) }
    }

    fn add(&self, set: &str, address: IpAddr) -> Result<()> {
        run("nft", &["add", "element", "inet", &self.table, set, &format!("{{ {address} }}")], None)
    }

    fn remove(&self, set: &str, address: IpAddr) -> Result<()> {
        // Adding what is there already is no error, deleting what is not there is one.
        self.add(set, address)?;
        run("nft", &["delete", "element", "inet", &self.table, set, &format!("{{ {address} }}")], None)
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        if let Err(error) = run("nft", &["delete", "table", "inet", &self.table], None) {
            tracing::debug!(%error, "the table goes with its namespace");
        }
    }
}

/// Where system programs lie besides PATH: an ordinary user's PATH may lack the sbin directories.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

fn path_with_places() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(PLACES.iter().map(std::path::PathBuf::from));
    std::env::join_paths(all).unwrap_or(path)
}

fn is_there(program: &str, package: &str) -> Result<()> {
    let path = path_with_places();
    if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return Ok(());
    }
    bail!("the program {program} is missing: install the package {package} (Debian: apt-get install {package})")
}

pub(super) fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<()> {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", path_with_places())
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be run"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).with_context(|| format!("{program} does not listen"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("{program} cannot be waited for"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
