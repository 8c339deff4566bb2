//! OpenIPMI's `ipmi_sim` (package openipmi): a BMC on a socket, cipher suite 3.

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub(super) const PASSWORD: &str = "Bmc-Pa55w0rd";
pub(super) const GUID: [u8; 16] = *b"\xa1\x23\x45\x67\x89\xab\xcd\xef\xa1\x23\x45\x67\x89\xab\xcd\xef";

/// A simulated BMC. Its machine's power is the file `power`; a file `stuck` makes it accept commands and do nothing,
/// a file `slow` makes it think for a minute first.
pub(super) struct Sim {
    child: Child,
    dir: TempDir,
    pub(super) port: u16,
}

impl Sim {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let port = UdpSocket::bind("127.0.77.1:0").expect("socket").local_addr().expect("address").port();
        let control = dir.path().join("control");
        write(&control, &CONTROL.replace("DIR", dir.path().to_str().expect("UTF-8")), 0o755);
        write(&dir.path().join("power"), "1", 0o600);
        write(&dir.path().join("password"), &format!("{PASSWORD}\n"), 0o600);
        let lan = LAN.replace("PORT", &port.to_string()).replace("CONTROL", control.to_str().expect("UTF-8"));
        write(&dir.path().join("lan.conf"), &lan.replace("PASSWORD", PASSWORD), 0o600);
        write(&dir.path().join("emu"), EMU, 0o600);
        std::fs::create_dir(dir.path().join("state")).expect("state");
        let child = Command::new("ipmi_sim")
            .current_dir(dir.path())
            .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ipmi_sim: install the package openipmi");
        Self { child, dir, port }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn power(&self) -> String {
        std::fs::read_to_string(self.file("power")).expect("power")
    }

    pub(super) fn offs(&self) -> usize {
        std::fs::read_to_string(self.file("calls"))
            .unwrap_or_default()
            .lines()
            .filter(|call| call.contains("set power 0"))
            .count()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LAN: &str = r#"name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.77.1 PORT
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "CONTROL"
  user 1 true  ""      "test" user     10       none md2 md5 straight
  user 2 true  "admin" "PASSWORD"   admin    10       none md2 md5 straight
"#;

const EMU: &str = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";

/// The simulator calls it with an MC address, a verb, and names (and values).
const CONTROL: &str = r#"#!/bin/sh
echo "$*" >> DIR/calls
case "$1" in get|set|check) ;; *) shift ;; esac
verb=$1; shift
if [ "$verb" = get ]; then
  for name; do [ "$name" = power ] && echo "power:$(cat DIR/power)" || echo "$name:0"; done
elif [ "$verb" = set ]; then
  [ -e DIR/slow ] && sleep 60
  [ -e DIR/stuck ] && exit 0
  while [ $# -gt 0 ]; do [ "$1" = power ] && echo "$2" > DIR/power; shift 2 || break; done
fi
exit 0
"#;

/// A file. A program is written by another process: one that we write ourselves cannot be run as long as a child of some
/// other thread, on its way to its own program, has it open too (ETXTBSY).
pub(super) fn write(path: &Path, text: &str, mode: u32) {
    if mode & 0o111 == 0 {
        std::fs::write(path, text).expect("written");
    } else {
        let mut writer = Command::new("/bin/sh")
            .args(["-c", "cat > \"$0\""])
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
        assert!(writer.wait().expect("ended").success());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}
