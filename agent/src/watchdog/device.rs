//! An open watchdog device: the ioctls of `linux/watchdog.h`, and the letter that disarms it. Four calls into the kernel by
//! pointer; nothing else in here is unsafe.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use nix::libc::c_int;

use super::Node;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Support {
    pub(super) identity: String,
    pub(super) options: u32,
}

/// An open watchdog. It runs from its opening on, and after its end unless it was disarmed.
pub(super) trait Device: Sized {
    /// Opens it, which starts it, or feeds it if it runs.
    fn open(node: Node) -> io::Result<Self>;
    /// What it says of itself.
    fn support(&self) -> io::Result<Support>;
    /// Sets the time-out in seconds, feeds it, and gives back the time-out that it has then.
    fn set_timeout(&self, seconds: u32) -> io::Result<u32>;
    /// Feeds it.
    fn feed(&self) -> io::Result<()>;
    /// Seconds until the reset, where the driver can tell.
    fn time_left(&self) -> Option<u32>;
    /// Says that the close to come is meant, and closes it.
    fn disarm(self) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub struct Kernel(File);

/// `struct watchdog_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    options: u32,
    firmware: u32,
    identity: [u8; 32],
}

mod ioctl {
    #![allow(unreachable_pub, missing_docs)]
    use nix::libc::c_int;

    nix::ioctl_read!(get_support, b'W', 0, super::Info);
    nix::ioctl_read!(keep_alive, b'W', 5, c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, c_int);
    nix::ioctl_read!(get_time_left, b'W', 10, c_int);
}

/// A read of one number.
type ReadInt = unsafe fn(c_int, *mut c_int) -> nix::Result<c_int>;

impl Kernel {
    fn int(&self, call: ReadInt, mut number: c_int) -> io::Result<c_int> {
        // SAFETY: the file is open as long as `self` lives, and the kernel reads and writes one int, which `number` is.
        unsafe { call(self.0.as_raw_fd(), &raw mut number) }?;
        Ok(number)
    }
}

impl Device for Kernel {
    fn open(node: Node) -> io::Result<Self> {
        // Closed in every process we start (std opens with O_CLOEXEC): only ours may keep it.
        OpenOptions::new().write(true).open(node.path()).map(Self)
    }

    fn support(&self) -> io::Result<Support> {
        let mut info = Info::default();
        // SAFETY: the file is open as long as `self` lives, and `Info` has the layout that the kernel fills.
        unsafe { ioctl::get_support(self.0.as_raw_fd(), &raw mut info) }?;
        let length = info.identity.iter().position(|byte| *byte == 0).unwrap_or(info.identity.len());
        let identity = String::from_utf8_lossy(info.identity.get(..length).unwrap_or_default()).trim().to_owned();
        Ok(Support { identity, options: info.options })
    }

    fn set_timeout(&self, seconds: u32) -> io::Result<u32> {
        let seconds = c_int::try_from(seconds).map_err(io::Error::other)?;
        self.int(ioctl::set_timeout, seconds)?;
        let got = self.int(ioctl::get_timeout, 0)?;
        u32::try_from(got).map_err(io::Error::other)
    }

    fn feed(&self) -> io::Result<()> {
        self.int(ioctl::keep_alive, 0).map(drop)
    }

    fn time_left(&self) -> Option<u32> {
        self.int(ioctl::get_time_left, 0).ok().and_then(|left| u32::try_from(left).ok())
    }

    fn disarm(mut self) -> io::Result<()> {
        self.0.write_all(b"V")
    }
}
