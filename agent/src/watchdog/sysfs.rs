//! What the kernel tells of a watchdog without its being opened (`Documentation/ABI/testing/sysfs-class-watchdog`).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{BootStatus, Found, Node, Times, WatchdogError};

/// Longest attribute, in bytes: a page, as sysfs has it.
const ATTRIBUTE_BYTES_MAX: u64 = 4_096;

/// The identity of the kernel's own timer (`drivers/watchdog/softdog.c`).
const SOFTDOG: &str = "Software Watchdog";

/// Bits of `options` (`linux/watchdog.h`).
pub(super) const SET_TIMEOUT: u32 = 0x0080;
pub(super) const MAGIC_CLOSE: u32 = 0x0100;
pub(super) const KEEP_ALIVE: u32 = 0x8000;

/// Reads all of it. The directories are parameters for tests.
pub(super) fn look(class_dir: &Path, dev_dir: &Path, node: Node) -> Result<Found, WatchdogError> {
    let class = class_dir.join(node.name());
    let device = match std::fs::metadata(dev_dir.join(node.name())) {
        Ok(device) if class.is_dir() => device,
        Ok(_) | Err(_) => {
            let known = std::fs::read_dir(class_dir).is_ok_and(|mut entries| entries.next().is_some());
            return Err(WatchdogError::NotThere { node, older: !known && dev_dir.join("watchdog").exists() });
        }
    };
    let numbers = read(&class, "dev")?;
    let rdev = device.rdev();
    let found = format!("{}:{}", nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev));
    if !device.file_type().is_char_device() || found != numbers {
        return Err(WatchdogError::NotIt { node, class, found });
    }
    attributes(&class, node)
}

pub(super) fn attributes(class: &Path, node: Node) -> Result<Found, WatchdogError> {
    let identity = read(class, "identity")?;
    if is_soft(&identity) {
        return Err(WatchdogError::Soft { node, identity });
    }
    let nowayout = number(class, "nowayout")? != 0;
    let active = match read(class, "state")?.as_str() {
        "active" => true,
        "inactive" => false,
        other => return Err(WatchdogError::Unclear { path: class.join("state"), said: other.to_owned() }),
    };
    // Not every kernel shows its options (6.1 does not); then they are asked of the device once it is open.
    if let Some(options) = optional(class, "options")? {
        fit(node, &identity, options, nowayout)?;
    }
    let least = optional(class, "min_timeout")?.unwrap_or(0);
    // 0: the driver has no bound, or leaves it to the kernel.
    let most = optional(class, "max_timeout")?.filter(|most| *most > 0).unwrap_or(u32::MAX);
    let times = Times::choose(&identity, least, most).map_err(|why| WatchdogError::TooSlow {
        node,
        identity: identity.clone(),
        least,
        most,
        why,
    })?;
    // Nothing rests on it: a driver that says it oddly is no worse a watchdog.
    let before = BootStatus::new(optional(class, "bootstatus").ok().flatten().unwrap_or_default());
    Ok(Found { node, identity, nowayout, active, times, before })
}

pub(super) fn is_soft(identity: &str) -> bool {
    identity.eq_ignore_ascii_case(SOFTDOG)
}

/// Whether a watchdog with these options can be rested on.
pub(super) fn fit(node: Node, identity: &str, options: u32, nowayout: bool) -> Result<(), WatchdogError> {
    let lacks = |lacks| Err(WatchdogError::Lacks { node, identity: identity.to_owned(), lacks });
    if options & KEEP_ALIVE == 0 {
        return lacks("cannot be fed (WDIOF_KEEPALIVEPING)");
    }
    if options & SET_TIMEOUT == 0 {
        return lacks(
            "does not let its time-out be set (WDIOF_SETTIMEOUT): the bound of its reset would be anybody's guess",
        );
    }
    if options & MAGIC_CLOSE == 0 && !nowayout {
        return lacks(
            "knows no magic close (WDIOF_MAGICCLOSE) and has no nowayout: a daemon that crashes would disarm it, and the \
             ledger would count on it still; load its driver with nowayout=1",
        );
    }
    Ok(())
}

fn read(class: &Path, name: &str) -> Result<String, WatchdogError> {
    text(&class.join(name)).map_err(|source| WatchdogError::Untold { path: class.join(name), source })
}

fn number(class: &Path, name: &str) -> Result<u32, WatchdogError> {
    let said = read(class, name)?;
    parse(&said).ok_or_else(|| WatchdogError::Unclear { path: class.join(name), said })
}

/// Decimal, or hexadecimal as `options` is.
fn parse(said: &str) -> Option<u32> {
    match said.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => said.parse().ok(),
    }
}

/// An attribute that not every kernel or driver has.
fn optional(class: &Path, name: &str) -> Result<Option<u32>, WatchdogError> {
    match number(class, name) {
        Ok(number) => Ok(Some(number)),
        Err(WatchdogError::Untold { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(ATTRIBUTE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}
