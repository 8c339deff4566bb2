//! OpenIPMI's `ipmi_sim` (package openipmi) as a process: a BMC that others wrote. Cipher suite 3 only.
//!
//! Its machine's power is a file, read and written by a script that it runs for each chassis command.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// What its machine was told or asked, by whoever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimRecord {
    /// Its power was read, and told to be on or off.
    Read(bool),
    /// It was switched on or off.
    Set(bool),
}

/// A running simulator. It ends with this.
#[derive(Debug)]
pub struct IpmiSim {
    child: Child,
    dir: TempDir,
    address: SocketAddr,
    kg_file: Option<PathBuf>,
}

impl IpmiSim {
    /// Its user, an administrator.
    pub const USER: &'static str = "admin";
    /// The user's password.
    pub const PASSWORD: &'static str = "Bmc-Pa55w0rd";
    /// The system GUID that it tells.
    pub const GUID: [u8; 16] = *b"\xa1\x23\x45\x67\x89\xab\xcd\xef\xa1\x23\x45\x67\x89\xab\xcd\xef";

    /// Starts one on a free port of that address, with the power on. It answers a little later.
    ///
    /// # Errors
    /// When its files cannot be written, or the program is not there.
    pub fn start(address: Ipv4Addr, kg: Option<&str>) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = UdpSocket::bind((address, 0))?.local_addr()?.port();
        let path = dir.path();
        let control = write(path, "control", &CONTROL.replace("DIR", &path.display().to_string()))?;
        std::fs::set_permissions(&control, PermissionsExt::from_mode(0o700))?;
        write(path, "power", "1")?;
        write(path, "record", "")?;
        write(path, "password", Self::PASSWORD)?;
        let kg_file = kg.map(|kg| write(path, "kg", kg)).transpose()?;
        let lan = LAN
            .replace("ADDRESS", &format!("{address} {port}"))
            .replace("USER", Self::USER)
            .replace("PASSWORD", Self::PASSWORD)
            .replace("KG", &kg.map(|kg| format!("bmc_key \"{kg}\"")).unwrap_or_default())
            // Last: a directory's random name may hold any of these words.
            .replace("CONTROL", &control.display().to_string());
        write(path, "lan.conf", &lan)?;
        write(path, "emu", EMU)?;
        std::fs::create_dir(path.join("state"))?;
        let child = run(path)?;
        Ok(Self { child, dir, address: SocketAddr::from((address, port)), kg_file })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file with the user's password.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    /// A file with K_g, if it has one.
    #[must_use]
    pub fn kg_file(&self) -> Option<PathBuf> {
        self.kg_file.clone()
    }

    /// Where more files can be kept.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether its machine has power.
    #[must_use]
    pub fn is_on(&self) -> bool {
        std::fs::read_to_string(self.dir.path().join("power")).is_ok_and(|power| power.trim() == "1")
    }

    /// Switches its machine on or off, without asking it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_power(&self, is_on: bool) -> io::Result<()> {
        write(self.dir.path(), "power", if is_on { "1" } else { "0" }).map(drop)
    }

    /// What was read and ordered by IPMI so far.
    ///
    /// # Errors
    /// When the file cannot be read, or says something else.
    pub fn record(&self) -> io::Result<Vec<SimRecord>> {
        let text = std::fs::read_to_string(self.dir.path().join("record"))?;
        let line = |line: &str| match line {
            "get 0" => Ok(SimRecord::Read(false)),
            "get 1" => Ok(SimRecord::Read(true)),
            "set 0" => Ok(SimRecord::Set(false)),
            "set 1" => Ok(SimRecord::Set(true)),
            other => Err(io::Error::other(format!("a line of the record is {other:?}"))),
        };
        text.lines().map(line).collect()
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// Those of the system.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again after [`IpmiSim::kill`]. Its sessions are gone.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child = run(self.dir.path())?;
        Ok(())
    }
}

impl Drop for IpmiSim {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn run(dir: &Path) -> io::Result<Child> {
    Command::new("ipmi_sim")
        .current_dir(dir)
        .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::other(format!("ipmi_sim: {error}; install the package openipmi")))
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    let mut file = std::fs::File::create(&path)?;
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

const LAN: &str = r#"name "bmc"
set_working_mc 0x20
  startlan 1
    addr ADDRESS
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
    KG
  endlan
  chassis_control "CONTROL"
  user 1 true  ""      "test" user     10       none md2 md5 straight
  user 2 true  "USER" "PASSWORD"   admin    10       none md2 md5 straight
"#;

const EMU: &str = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                   sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";

/// It is called with an MC address, a verb, and names (and values).
const CONTROL: &str = r#"#!/bin/sh
case "$1" in get|set|check) ;; *) shift ;; esac
verb=$1; shift
if [ "$verb" = get ]; then
  for name; do
    value=0
    [ "$name" = power ] && read -r value < DIR/power && echo "get $value" >> DIR/record
    echo "$name:$value"
  done
elif [ "$verb" = set ]; then
  while [ $# -gt 0 ]; do [ "$1" = power ] && echo "$2" > DIR/power && echo "set $2" >> DIR/record; shift 2 || break; done
fi
exit 0
"#;
