//! A hypervisor of our own: libvirtd and QEMU (without KVM) in namespaces.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rekindle_proto::id::ServerId;
use tempfile::TempDir;

/// Longest wait for anything of a host: qemu without KVM on two busy processors takes seconds for some.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What must be installed, and the Debian package that has it.
const TOOLS: [(&str, &str); 11] = [
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("tini", "tini"),
    ("libvirtd", "libvirt-daemon-system"),
    ("virtlogd", "libvirt-daemon-system"),
    ("virsh", "libvirt-clients"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("as", "binutils"),
    ("ld", "binutils"),
];

/// What a guest does with its life.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guest {
    /// Sleeps until its power button is pressed.
    Sleeper,
    /// Panics after two seconds; libvirt then does as `on_crash` says.
    Panicker(&'static str),
}

/// A running hypervisor. It ends with every process in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    dir: TempDir,
    outer: Child,
    init: u32,
}

impl Host {
    /// Starts one, and waits until its libvirtd answers.
    pub(crate) fn start() -> Self {
        check_tools();
        let dir = TempDir::with_prefix("rekindle-hv-").expect("a directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("libvirt/host.sh");
        let console = fs::File::create(dir.path().join("console")).expect("a console file");
        // A test that is killed cannot clean up: the kernel then kills `unshare`, and with it the host.
        let mut unshare = Command::new("setpriv");
        unshare.args(["--pdeathsig", "KILL", "unshare"]);
        unshare.args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--propagation",
            "private",
        ]);
        unshare.arg(script).arg(dir.path()).stdin(Stdio::null());
        unshare.stdout(console.try_clone().expect("a handle")).stderr(console).process_group(0);
        let outer = unshare.spawn().expect("unshare starts");
        let mut host = Self { dir, outer, init: 0 };
        // The only child of `unshare` is the host's init.
        let children = format!("/proc/{0}/task/{0}/children", host.outer.id());
        host.init =
            until("the host's init is there", || fs::read_to_string(&children).ok()?.split(' ').next()?.parse().ok());
        host.await_libvirtd();
        host
    }

    /// Where its libvirtd answers, for those who only look.
    pub(crate) fn uri(&self) -> String {
        format!("qemu:///system?socket={}/run/libvirt/libvirt-sock-ro", self.dir.path().display())
    }

    /// The same, for those who also switch.
    pub(crate) fn uri_to_order(&self) -> String {
        format!("qemu:///system?socket={}/run/libvirt/libvirt-sock", self.dir.path().display())
    }

    /// Defines a guest and starts it.
    pub(crate) fn start_guest(&self, name: &str, guest: Guest) -> ServerId {
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a UUID");
        let server = uuid.trim().parse().expect("a UUID");
        self.start_guest_of(server, name, guest);
        server
    }

    /// The same, for this server of a cloud.
    pub(crate) fn start_guest_of(&self, server: ServerId, name: &str, guest: Guest) {
        let (panics, on_crash) = match guest {
            Guest::Sleeper => (false, "destroy"),
            Guest::Panicker(on_crash) => (true, on_crash),
        };
        let image = self.assemble(name, panics);
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{server}</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features>\
             <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>{on_crash}</on_crash>\
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/><target dev='hda' bus='ide'/></disk>\
             <controller type='usb' model='none'/><memballoon model='none'/><panic model='isa'/></devices></domain>",
            image.display()
        );
        let file = self.dir.path().join(format!("{name}.xml"));
        fs::write(&file, xml).expect("written");
        self.virsh(&["define", file.to_str().expect("path")]);
        self.virsh(&["start", name]);
    }

    /// Runs virsh, which must succeed.
    pub(crate) fn virsh(&self, arguments: &[&str]) -> String {
        let output = self.try_virsh(arguments);
        assert!(output.status.success(), "virsh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs virsh, which may fail.
    pub(crate) fn try_virsh(&self, arguments: &[&str]) -> Output {
        Command::new("virsh").args(["-q", "-c", &self.uri_to_order()]).args(arguments).output().expect("virsh runs")
    }

    /// Sends a signal to a guest's qemu, from inside the host, where its pid means something.
    pub(crate) fn signal_guest(&self, name: &str, signal: &str) {
        self.signal(&format!("libvirt/qemu/{name}.pid"), signal);
    }

    /// Sends a signal to libvirtd.
    pub(crate) fn signal_libvirtd(&self, signal: &str) {
        self.signal("libvirtd.pid", signal);
    }

    /// Starts libvirtd again, and waits until it answers.
    pub(crate) fn restart_libvirtd(&self) {
        self.inside(&["sh", "-c", "rm -f /run/libvirtd.pid; exec libvirtd -d"]);
        self.await_libvirtd();
    }

    /// Makes or removes a file below the host's /run.
    pub(crate) fn note(&self, file: &str, there: bool) {
        let path = self.dir.path().join("run").join(file);
        if there {
            fs::write(path, b"").expect("written");
        } else if path.exists() {
            fs::remove_file(path).expect("removed");
        }
    }

    /// Whether that file is there.
    pub(crate) fn is_noted(&self, file: &str) -> bool {
        self.dir.path().join("run").join(file).exists()
    }

    /// Lets a stopped libvirtd go on, and waits until it answers. libvirtd 9.0 was seen to crash there, once in some
    /// twenty times: then it is started again, as systemd would.
    pub(crate) fn resume_libvirtd(&self) {
        self.signal_libvirtd("CONT");
        until("libvirtd answers or is gone", || {
            (!self.is_libvirtd_there() || self.try_virsh(&["version"]).status.success()).then_some(())
        });
        if !self.is_libvirtd_there() {
            println!("libvirtd crashed when it was let go on; starting it again");
            self.restart_libvirtd();
        }
    }

    fn is_libvirtd_there(&self) -> bool {
        let pid = fs::read_to_string(self.dir.path().join("run/libvirtd.pid")).unwrap_or_default();
        !pid.trim().is_empty() && self.run_inside(&["test", "-e", &format!("/proc/{}", pid.trim())]).status.success()
    }

    fn await_libvirtd(&self) {
        let answers = || self.try_virsh(&["version"]).status.success().then_some(());
        let console = self.dir.path().join("console");
        let end = Instant::now() + PATIENCE;
        while answers().is_none() {
            let said = fs::read_to_string(&console).unwrap_or_default();
            assert!(Instant::now() < end, "libvirtd does not answer; the host said: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, pid_file: &str, signal: &str) {
        let file = self.dir.path().join("run").join(pid_file);
        let pid = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pid = pid.trim();
        self.inside(&["kill", &format!("-{signal}"), pid]);
        if signal == "KILL" {
            let inside = || self.run_inside(&["test", "-e", &format!("/proc/{pid}")]);
            until("the process is gone", || (!inside().status.success()).then_some(()));
        }
    }

    fn inside(&self, command: &[&str]) {
        let output = self.run_inside(command);
        assert!(output.status.success(), "{command:?} in the host: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn run_inside(&self, command: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &self.init.to_string(), "-m", "-n", "-u", "-i", "-p", "--"]).args(command);
        nsenter.output().expect("nsenter runs")
    }

    fn assemble(&self, name: &str, panics: bool) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("libvirt/guest.S");
        let object = self.dir.path().join(format!("{name}.o"));
        let image = self.dir.path().join(format!("{name}.img"));
        let mut assembler = Command::new("as");
        assembler.arg("--32").args(if panics { &["--defsym", "PANIC=1"][..] } else { &[] });
        run(assembler.arg(source).arg("-o").arg(&object));
        let mut linker = Command::new("ld");
        linker.args(["-m", "elf_i386", "-Ttext", "0x7c00", "-e", "start", "--oformat", "binary", "-o"]);
        run(linker.arg(&image).arg(&object));
        // QEMU wants a disk of a whole number of sectors, and more than one.
        fs::File::options().write(true).open(&image).and_then(|file| file.set_len(1 << 20)).expect("an image");
        image
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // `--kill-child`: the host's init dies with `unshare`, and the kernel ends all others with it.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Waits for something, with a bound.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Says what is missing, instead of failing somewhere in the middle.
fn check_tools() {
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let missing = TOOLS.iter().filter(|(tool, _)| !places.split(':').any(|dir| Path::new(dir).join(tool).exists()));
    let missing: Vec<String> = missing.map(|(tool, package)| format!("{tool} (package {package})")).collect();
    assert!(missing.is_empty(), "this test needs {}: install it, or run `make test`, which does", missing.join(", "));
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes namespaces and needs root: run it as root, or in a container"
    );
}
