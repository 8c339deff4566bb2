"""Hosts: each a network namespace (and a pid, mount and UTS one) on a bridge of their own, with a BMC that really cuts the power.

Nothing here outlives the bench. `isolate` puts it into namespaces whose first process dies with the command, and the kernel then
ends every process in them, and with the last of these goes every network. A namespace outlives its processes and would answer
for them, so who kills a host takes its link down too.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

# The mark of the process that runs inside.
INSIDE = 'REKINDLE_BENCH_INSIDE'
RUN = Path('/run/rekindle-bench')
BMC_USER, BMC_PASSWORD = 'admin', 'Bmc-Pa55w0rd'
# Longest that a host's first process, or a BMC, takes to be there.
START_SECONDS = 20
# Programs of the bench itself, and their packages.
NEEDED = {'ip': 'iproute2', 'nft': 'nftables', 'unshare': 'util-linux', 'setpriv': 'util-linux', 'nsenter': 'util-linux',
          'tini': 'tini', 'ipmi_sim': 'openipmi', 'socat': 'socat'}


class Failure(Exception):
    """Told to whoever runs the bench, and counted."""


def say(text):
    print(time.strftime('%H:%M:%S ') + text, file=sys.stderr, flush=True)


def until(what, seconds, holds, every=0.1):
    """Waits for a true answer, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure('waited %g s for %s' % (seconds, what))
        time.sleep(every)


def isolate():
    """Runs this very command again in namespaces of its own, and ends with its exit code. Inside, it returns."""
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    if os.environ.get(INSIDE):
        # Named networks and sockets lie in there: none of the machine's own is seen or left behind.
        subprocess.run(['mount', '-t', 'tmpfs', 'bench', '/run'], check=True)
        RUN.mkdir()
        return
    missing = sorted({package for program, package in NEEDED.items() if not shutil.which(program)})
    if missing:
        sys.exit('missing: apt-get install --no-install-recommends ' + ' '.join(missing))
    if os.geteuid():
        sys.exit('network namespaces with bridges between them: run it as root')
    # unshare lets SIGTERM pass it by. Killed, it takes the namespaces' first process with it; killed too if we are.
    inside = subprocess.Popen(
        ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--pid', '--mount', '--net', '--ipc', '--fork', '--kill-child=KILL',
         '--mount-proc', 'tini', '--', sys.executable] + sys.argv, env=dict(os.environ, **{INSIDE: '1', 'PYTHONDONTWRITEBYTECODE': '1'}))

    asked = []

    def end(number, _frame):
        # It is waited for below: to wait for it here too would wait for the other's lock.
        asked.append(number)
        inside.kill()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    code = inside.wait()
    sys.exit(128 + asked[0] if asked else code)


def run(*words, ok=True):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if ok and done.returncode:
        raise Failure('%s: %s' % (' '.join(map(str, words)), done.stdout.decode(errors='replace').strip()[-500:]))
    return done.stdout.decode(errors='replace')


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(words, log, **more):
    """A process of our own; what it writes is added to the log."""
    with open(log, 'ab') as file:
        return subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                start_new_session=True, preexec_fn=die_with_parent, **more)


# It is called with "get NAME…" or "set NAME VALUE…", in the network of the bridge. Power that is cut takes the link with it,
# and is said to be off when both are.
CONTROL = '''#!/bin/bash
case $1 in get|set|check) ;; *) shift ;; esac
verb=$1; shift
cd {directory}
case $verb in
get)
  echo "$EPOCHREALTIME get $*" >>calls
  for name; do value=0; [ "$name" != power ] || read -r value <power; echo "$name:$value"; done ;;
set)
  echo "$EPOCHREALTIME set $*" >>calls
  while [ $# -ge 2 ]; do
    case "$1 $2" in
    "power 0"|"shutdown 1"|"reset 1")
      ip link set {port} down
      [ ! -s init ] || kill -9 "$(<init)" 2>/dev/null; : >init
      echo 0 >power; echo "$EPOCHREALTIME off" >>calls ;;
    esac
    shift 2
  done ;;
esac
exit 0
'''
LAN_CONF = '''name "{name}"
set_working_mc 0x20
  startlan 1
    addr {address} 623
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid {guid}
  endlan
  chassis_control "{directory}/control"
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
'''
EMU = '''mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
'''


def program(pid):
    try:
        return Path('/proc/%d/comm' % pid).read_text().strip()
    except OSError:
        return ''


class Bmc:
    """OpenIPMI's simulator, at an address of its own on the bridge, which no fault of the host touches."""

    def __init__(self, lan, number, directory):
        self.directory, self.address = directory / 'bmc', '10.77.1.%d' % number
        self.system_uuid = uuid.uuid5(uuid.NAMESPACE_DNS, 'hv%d.bench' % number)
        (self.directory / 'state').mkdir(parents=True)
        self.set_power(True)
        # SMBIOS's order of bytes: what most BMCs send.
        facts = dict(name='bmc%d' % number, address=self.address, guid=self.system_uuid.bytes_le.hex(), user=BMC_USER,
                     password=BMC_PASSWORD, directory=self.directory, port='v%d' % number)
        for name, text in (('lan.conf', LAN_CONF), ('sim.emu', EMU), ('control', CONTROL)):
            (self.directory / name).write_text(text.format(**facts) if name != 'sim.emu' else text)
        (self.directory / 'control').chmod(0o700)
        run('ip', '-n', lan.name, 'addr', 'add', self.address + '/32', 'dev', 'br0')
        self.process = start(['ip', 'netns', 'exec', lan.name, 'ipmi_sim', '-n', '-c', 'lan.conf', '-f', 'sim.emu', '-s', 'state'],
                             self.directory / 'log', cwd=self.directory)

    def set_power(self, on):
        (self.directory / 'power').write_text('1\n' if on else '0\n')

    def calls(self, since):
        """(moment, what) of all that it was asked and did since then."""
        try:
            lines = (self.directory / 'calls').read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [(float(line.split(' ', 1)[0]), line.split(' ', 1)[1]) for line in lines]
        return [(at, what) for at, what in found if at >= since]


class Host:
    def __init__(self, lan, number, bmc):
        self.lan, self.number, self.name, self.port = lan, number, 'hv%d' % number, 'v%d' % number
        self.address = '10.77.0.%d' % number
        self.namespace = '%s.%s' % (lan.name, self.name)
        self.directory = lan.directory / self.name
        self.directory.mkdir()
        self.process, self.init = None, None
        run('ip', 'netns', 'add', self.namespace)
        run('ip', 'link', 'add', self.port, 'netns', lan.name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.namespace)
        run('ip', '-n', lan.name, 'link', 'set', self.port, 'master', 'br0', 'up')
        for device in ('lo', 'eth0'):
            run('ip', '-n', self.namespace, 'link', 'set', device, 'up')
        run('ip', '-n', self.namespace, 'addr', 'add', self.address + '/16', 'dev', 'eth0')
        self.bmc = Bmc(lan, number, self.directory) if bmc else None

    def boot(self, script):
        """Powers it on: a boot of its own, the given shell script, and a service that greets whoever connects, as sshd does."""
        self.link(True)
        boot = self.directory / 'boot_id'
        boot.write_text('%s\n' % uuid.uuid4())
        # Written anew for each boot: the mount holds on to the file that it was given.
        preamble = 'mount --bind %s /proc/sys/kernel/random/boot_id; hostname %s; ' % (boot, self.name)
        preamble += "socat TCP4-LISTEN:22,reuseaddr,fork SYSTEM:'echo SSH-2.0-bench' & "
        self.process = start(
            ['ip', 'netns', 'exec', self.namespace, 'unshare', '--pid', '--mount', '--uts', '--ipc', '--fork', '--kill-child=KILL',
             '--mount-proc', 'tini', '-g', '--', 'sh', '-c', preamble + script], self.directory / 'console.log')

        def first():
            try:
                return Path('/proc/%d/task/%d/children' % (self.process.pid, self.process.pid)).read_text().split()
            except OSError:
                raise Failure('%s did not start' % self.name) from None
        self.init = int(until('%s to start' % self.name, START_SECONDS, first, every=0.01)[0])
        if self.bmc:
            (self.bmc.directory / 'init').write_text('%d\n' % self.init)
            self.bmc.set_power(True)

    def inside(self, *words, ok=False):
        """What a command run in there says."""
        return run('nsenter', '--target', str(self.init), '--mount', '--net', '--uts', '--ipc', '--pid', *words, ok=ok)

    def runs(self):
        """Whether its first process is there: `unshare` waits for it, so the number is nobody else's while that lives."""
        return self.process is not None and self.process.poll() is None

    def pids(self, named=None):
        """Its processes, all or those of that name, by the numbers that we know them by."""
        if not self.runs():
            return []
        try:
            own = os.readlink('/proc/%d/ns/pid' % self.init)
        except OSError:
            return []
        found = []
        for entry in os.listdir('/proc'):
            try:
                if entry.isdigit() and os.readlink('/proc/%s/ns/pid' % entry) == own and named in (None, program(int(entry))):
                    found.append(int(entry))
            except OSError:
                pass
        return sorted(found)

    def signal(self, number, named=None):
        for pid in self.pids(named):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def link(self, up):
        run('ip', '-n', self.lan.name, 'link', 'set', self.port, 'up' if up else 'down')

    def fault(self, kind):
        """Does it, and tells when it began. `power` is read as off by the BMC from then on, the others as on."""
        began = time.time()
        if kind in ('crash', 'cut', 'hang', 'power'):
            self.link(False)
        if kind == 'power' and self.bmc:
            self.bmc.set_power(False)
        if kind in ('crash', 'power'):
            self.die()
        elif kind == 'hang':
            self.signal(signal.SIGSTOP)
        return began

    def die(self):
        """SIGKILL for its first process: the kernel kills all others with it."""
        if self.runs():
            try:
                os.kill(self.init, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def off(self):
        """No process of it is left."""
        if self.process:
            self.link(False)
            self.die()
            self.process.wait(START_SECONDS)
            self.process = None


class Lan:
    """A bridge in a namespace of its own, so many hosts on it. Several may stand side by side: none hears of another."""

    def __init__(self, name, hosts, directory, bmcs=True):
        self.name, self.directory = name, Path(directory)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        run('ip', 'netns', 'add', name)
        run('ip', '-n', name, 'link', 'set', 'lo', 'up')
        run('ip', '-n', name, 'link', 'add', 'br0', 'type', 'bridge')
        run('ip', '-n', name, 'link', 'set', 'br0', 'up')
        run('ip', '-n', name, 'addr', 'add', '10.77.255.254/16', 'dev', 'br0')
        self.hosts = [Host(self, number, bmcs) for number in range(1, hosts + 1)]

    def host(self, name):
        return next(host for host in self.hosts if host.name == name)

    def lose(self, host, percent):
        """So much of what goes to and from that host is lost, at its port; 0: nothing any more."""
        if not percent:
            run('ip', 'netns', 'exec', self.name, 'nft', 'delete', 'table', 'bridge', 'loss')
            return
        chain, rules = 'bridge loss lossy', ['add table bridge loss',
                                              'add chain bridge loss lossy { type filter hook forward priority 0; }']
        for way in ('iifname', 'oifname'):
            rules.append('add rule %s %s "%s" numgen random mod 100 < %d drop' % (chain, way, host.port, percent))
        run('ip', 'netns', 'exec', self.name, 'nft', '; '.join(rules))

    def close(self):
        for host in self.hosts:
            host.off()
            if host.bmc:
                host.bmc.process.kill()
                host.bmc.process.wait()
            run('ip', 'netns', 'delete', host.namespace, ok=False)
        run('ip', 'netns', 'delete', self.name, ok=False)
