"""The cloud under measurement: brought up, filled, watched, and put back, by the verbs of ../cloud/cloud.sh.

What happened is read from records that cost Nova nothing: its database (ten times a second, by one connection of ours) and
the request logs of its API and of Keystone.
"""
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
# A unix socket's path has 107 bytes, and libvirt's is long.
DIRECTORY_BYTES_MAX = 60
# Between two looks into Nova's database: the resolution of "active".
LOOK_SECONDS = 0.1
# One server more than these per second has never been seen to boot here.
BOOT_SECONDS = 1200
# Placement keeps a service that was disabled from the scheduler until its compute has said otherwise.
BOOT_TRIES, SYNC_SECONDS = 3, 15
# Two of the periods in which a compute looks what it has free.
SETTLE_SECONDS = 150
# The machine counts as idle when its cores were for so much of so long, twice in a row; it is not waited for beyond a minute.
IDLE_SHARE, IDLE_SECONDS, IDLE_WITHIN_SECONDS = 0.75, 3, 60
# What the bench itself calls Nova with.
OURS = 'Python-urllib'


def settings(hosts):
    """What cloud.sh is told by the environment: beside the tests' own cloud, not in its place."""
    directory = str(REPO / 'target' / 'bench-cloud')
    if len(directory) > DIRECTORY_BYTES_MAX:
        directory = '/var/tmp/rekindle-bench'
    for key, value in {
        'CLOUD_DIR': directory, 'CLOUD_VENV': str(REPO / 'target' / 'cloud-venv'), 'PORT_BASE': '25000',
        'BMC_NET': '127.0.83', 'CLOUD_TOKEN_CACHE_SECONDS': '3600',
        'CLOUD_HOSTS': ' '.join('cmp%d' % n for n in range(1, hosts + 1)),
    }.items():
        os.environ.setdefault(key, value)
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    sys.dont_write_bytecode = True


def now_us():
    return time.time_ns() // 1000


def say(text):
    print(time.strftime('%H:%M:%S ') + text, file=sys.stderr, flush=True)


def busy_when_idle():
    """Waits until the machine is idle. Gives back for which share of the last look its cores were busy."""
    def jiffies():
        with open('/proc/stat') as stat:
            user, nice, system, idle, wait, *others = map(int, stat.readline().split()[1:8])
        return idle + wait, user + nice + system + idle + wait + sum(others)
    until, calm, busy = time.monotonic() + IDLE_WITHIN_SECONDS, 0, 1.0
    while calm < 2 and time.monotonic() < until:
        idle, whole = jiffies()
        time.sleep(IDLE_SECONDS)
        later, all_later = jiffies()
        busy = 1 - (later - idle) / max(1, all_later - whole)
        calm = calm + 1 if busy <= 1 - IDLE_SHARE else 0
    return round(busy, 2)


class Rig:
    def __init__(self, victim, fresh=True):
        self.victim, self.directory = victim, Path(os.environ['CLOUD_DIR'])
        if fresh:
            self.verb('down', '--wipe')
        self.status = self.verb('up')
        sys.path.insert(0, str(HERE.parent / 'cloud'))
        import client  # settles CLOUD_DIR when it is loaded
        self.client = client
        if not fresh:
            # What an earlier run left on its disk would be started with it: mend() gives it a blank one.
            self.verb('host', 'kill', victim)

    def verb(self, *words):
        done = subprocess.run([HERE.parent / 'cloud' / 'cloud.sh', *words], stdout=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise RuntimeError('cloud.sh %s: %s' % (' '.join(words), done.stdout.decode(errors='replace')[:500]))
        return json.loads(done.stdout)

    def masakari(self, *words):
        subprocess.run([HERE / 'masakari.sh', *words], stdin=subprocess.DEVNULL, check=True)

    def sql(self, query):
        """One query of Nova's database, by a process of its own."""
        done = subprocess.run(self.mariadb() + ['-e', query], stdout=subprocess.PIPE, check=True)
        return [line.split('\t') for line in done.stdout.decode().splitlines()]

    def mariadb(self):
        return ['mariadb', '--defaults-file=%s' % (self.directory / 'etc' / 'my.cnf'), '-N', '-B', '--unbuffered', 'nova']

    def fill(self, count):
        """An empty cloud with so many servers, all on the victim; their ids."""
        tries = BOOT_TRIES
        while True:
            self.mend()
            say('booting %d servers on %s' % (count, self.victim))
            try:
                booted = self.verb('boot', str(count), self.victim, '--timeout', str(BOOT_SECONDS))
                return [server['id'] for server in booted]
            except RuntimeError as error:
                tries -= 1
                if not tries or 'No valid host' not in str(error):
                    raise
                time.sleep(SYNC_SECONDS)

    def mend(self):
        """The victim back in service, no server anywhere."""
        home = self.directory / 'hosts' / self.victim
        if not list(self.sql("select 1 from services where host='%s' and forced_down=0 and disabled=0 and deleted=0"
                             % self.victim)) or not list((home / 'pids').glob('nova-compute.pid')):
            # Its disk is blank when it returns: nothing to destroy, which would take Nova a minute.
            for name in ('guests', 'disks'):
                shutil.rmtree(home / name, ignore_errors=True)
                (home / name).mkdir()
            self.verb('host', 'start', self.victim)
            self.verb('forced-up', self.victim)
        cloud = self.client.Cloud()
        ids = [s['id'] for s in cloud.pages('/servers', 'servers', all_tenants='true')]
        if ids:
            say('deleting %d servers' % len(ids))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: cloud.call('DELETE', '/servers/' + i, ok=False), ids))
        self.client.until('deletion of %d servers' % len(ids), BOOT_SECONDS, lambda: self.sql(
            'select count(*) from instances where deleted=0')[0][0] == '0')
        # A compute says once a minute what it has free. By older words the scheduler takes one host for the emptiest, and gives
        # it everything.
        self.client.until('computes that say that they are empty', SETTLE_SECONDS, lambda: len(self.sql(
            'select distinct memory_mb_used, vcpus_used from compute_nodes where deleted=0')) == 1)

    def requests(self, api, since_us):
        """(microseconds, method, path, agent) of each request that API has begun since then."""
        found = []
        for line in (self.directory / 'log' / (api + '-requests.log')).read_text(errors='replace').splitlines():
            parts = line.split(None, 4)
            if len(parts) == 5 and parts[0].isdigit() and int(parts[0]) >= since_us:
                found.append((int(parts[0]), parts[1], parts[2], parts[4]))
        return sorted(found)


class Watcher(threading.Thread):
    """Which of the servers run elsewhere, and since when; how many evacuations are under way."""

    def __init__(self, rig, ids):
        super().__init__(daemon=True)
        self.rig, self.ids, self.over = rig, set(ids), threading.Event()
        self.moved, self.peak, self.changed = {}, 0, threading.Condition()
        last = rig.sql('select coalesce(max(id), 0) from migrations')[0][0]
        self.query = (
            "select 'moved', uuid from instances where deleted=0 and host<>'%s' and vm_state='active' and task_state is null;"
            "select 'way', count(*) from migrations where id>%s and migration_type='evacuation'"
            " and status in ('accepted','pre-migrating'); select 'end', 0;\n" % (rig.victim, last)).encode()
        self.start()

    def run(self):
        with subprocess.Popen(self.rig.mariadb(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as database:
            while not self.over.wait(LOOK_SECONDS):
                database.stdin.write(self.query)
                database.stdin.flush()
                seen, now = set(), now_us()
                for line in database.stdout:
                    what, value = line.decode().split()
                    if what == 'end':
                        break
                    if what == 'way':
                        self.peak = max(self.peak, int(value))
                    else:
                        seen.add(value)
                with self.changed:
                    for server in seen & self.ids - self.moved.keys():
                        self.moved[server] = now
                    self.changed.notify_all()
            database.stdin.close()

    def wait_for(self, ids, seconds):
        """Until these run elsewhere; those that do not."""
        with self.changed:
            self.changed.wait_for(lambda: self.moved.keys() >= set(ids), seconds)
            return set(ids) - self.moved.keys()

    def stop(self):
        self.over.set()
        self.join()
