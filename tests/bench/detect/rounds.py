"""What is done to clusters, and what is then seen: one round each, seconds since the fault. All on one machine's clock."""
import os
import random
import shutil
import signal
import statistics
import time

import lan
from ours import Rekindle

# Far beyond what a fence takes.
FENCE_SECONDS = 90
# A host's phases from the proof on.
PROVEN = ('fenced', 'evacuating', 'recovered')
# Suspicions and readings of the cluster's beginning are over by then.
SETTLE_SECONDS = 20
TICKS = os.sysconf('SC_CLK_TCK')
MIB = 1024.0


def switched_off(net, since):
    """Hosts whose BMC was told to switch them off."""
    return [host.name for host in net.hosts if any(what.startswith('set power 0') for _, what in host.bmc.calls(since))]


def formed(args, name, hosts):
    net = lan.Lan(name, hosts, args.work / name)
    cluster = Rekindle(net, args.bin, args.driver)
    try:
        seconds = cluster.form()
    except BaseException:
        net.close()
        raise
    return net, cluster, seconds


def closed(net, keep):
    """Ends it; the files of a round that went wrong stay, and are named in its row."""
    net.close()
    if not keep:
        shutil.rmtree(net.directory, ignore_errors=True)


def fault(args, hosts, kind, number):
    """One host fails in one way; `leader`: the one that leads crashes."""
    net, cluster, took = formed(args, 'f%d-%s-%d' % (hosts, kind, number), hosts)
    row = {'formed': took, 'wrong': []}
    try:
        victim = cluster.victim(kind)
        # Not in step with anybody's probe period.
        time.sleep(random.uniform(0.5, 1.5))
        began = victim.fault('crash' if kind == 'leader' else kind)

        def fenced():
            story = cluster.incident(victim.name)
            return story if story and story['line']['phase'] in PROVEN + ('stuck',) else None
        story = lan.until('the fence of %s' % victim.name, FENCE_SECONDS, fenced, every=0.3)
        first = {}
        for event in story['story']:
            first.setdefault(event['phase'], event['at'] / 1000 - began)
        off = [at - began for at, what in victim.bmc.calls(began) if what == 'off']
        row.update(suspected=first.get('suspect'), verdict=first.get('unclean'), ordered=first.get('fencing'),
                   off=off[0] if off else None, fenced=first.get('fenced'), attempts=len(story['fences']))
        row['wrong'] = [name for name in switched_off(net, began) if name != victim.name]
        if row['fenced'] is None or row['attempts'] != 1 or row['wrong']:
            row['see'] = str(net.directory)
    except lan.Failure as failure:
        row.update(failed=str(failure), see=str(net.directory))
    finally:
        closed(net, 'see' in row or args.keep)
    return row


class Beside:
    """Clusters side by side, each on a bridge of its own."""

    def __init__(self, args, name, count, hosts):
        self.args, self.all = args, []
        try:
            for number in range(count):
                self.all.append(formed(args, '%s-%d' % (name, number), hosts)[:2])
        except BaseException:
            self.close(keep=True)
            raise

    def close(self, keep):
        for net, _ in self.all:
            closed(net, keep or self.args.keep)


def daemons(args, kinds, repeats):
    """The daemon alone is killed, or stopped; its host lives and greets. kind -> rows."""
    rows = {kind: [] for kind in kinds}
    beside = Beside(args, 'd', len(kinds) * repeats, args.daemon_hosts)
    bad = True
    try:
        watched = []
        for (net, cluster), kind in zip(beside.all, sorted(kinds * repeats)):
            victim = cluster.victim(kind)
            began = time.time()
            victim.signal(signal.SIGKILL if kind == 'killed' else signal.SIGSTOP, 'rekindled')
            row = {'alarm': None, 'wrong': [], 'verdicts': [], 'watched': args.hold}
            rows[kind].append(row)
            watched.append((net, cluster, victim, began, row))
        deadline = time.monotonic() + args.hold
        while time.monotonic() < deadline:
            for _, cluster, victim, began, row in watched:
                if row['alarm'] is None and cluster.state(victim.name) == 'agent-down':
                    row['alarm'] = time.time() - began
            time.sleep(0.2)
        for net, cluster, victim, began, row in watched:
            row.update(wrong=switched_off(net, began), verdicts=cluster.incidents(), state=cluster.state(victim.name))
        bad = any(row['wrong'] or row['verdicts'] or row['alarm'] is None for _, _, _, _, row in watched)
    finally:
        beside.close(keep=bad)
    return rows


def loss(args, percent, runs):
    """So much is lost to and from one member's port, in several clusters at once, for a while; rows."""
    rows, number = [], 0
    while number < runs:
        count = min(args.beside, runs - number)
        beside = Beside(args, 'l%d-%d' % (percent, number), count, args.loss_hosts)
        bad = True
        try:
            rows += lossy(args, beside, percent)
            bad = any(row['wrong'] or row['verdicts'] for row in rows[number:])
        finally:
            beside.close(keep=bad)
        number += count
    return rows


def lossy(args, beside, percent):
    began, seen = time.time(), {}
    victims = []
    for net, cluster in beside.all:
        victims.append(cluster.victim('loss'))
        net.lose(victims[-1], percent)
    deadline = time.monotonic() + args.loss_seconds
    while time.monotonic() < deadline:
        for place, (_, cluster) in enumerate(beside.all):
            for line in cluster.ask('status').get('hosts', []):
                if line['state'] != 'alive':
                    seen.setdefault(place, set()).add('%s %s' % (line['host'], line['state']))
        time.sleep(0.5)
    for (net, _), victim in zip(beside.all, victims):
        net.lose(victim, 0)
    rows = []
    for place, (net, cluster) in enumerate(beside.all):
        lan.until('an answer of %s' % net.name, lan.START_SECONDS, lambda asked=cluster: asked.ask('status'))
        rows.append({'wrong': switched_off(net, began), 'verdicts': cluster.incidents(), 'seen': sorted(seen.get(place, ()))})
    return rows


def cpu_seconds(pid):
    """What it has had so far; to the nanosecond where the kernel tells that, of each thread that lives."""
    try:
        return sum(int(open('/proc/%d/task/%s/schedstat' % (pid, task)).read().split()[0]) for task in os.listdir(
            '/proc/%d/task' % pid)) / 1e9
    except (FileNotFoundError, IndexError):
        fields = open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid):
    """Resident, its own share of that, and anonymous, in MiB."""
    found = {}
    for text in open('/proc/%d/smaps_rollup' % pid):
        name, *value = text.split()
        if name in ('Rss:', 'Pss:', 'Anonymous:'):
            found[name[:-1].lower()] = int(value[0]) / MIB
    return found


def spent(pids, seconds):
    """Groups of processes, each the whole of one host -> what each costs, idle for so long."""
    before = [sum(cpu_seconds(pid) for pid in group) for group in pids]
    began = time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - began
    rows = []
    for group, had in zip(pids, before):
        row = {'cpu_percent': 100 * (sum(cpu_seconds(pid) for pid in group) - had) / lasted}
        for pid in group:
            for name, value in memory(pid).items():
                row[name] = row.get(name, 0) + value
        rows.append(row)
    return rows


def cost(args, hosts):
    """An idle cluster: what each daemon takes, and whether libvirt's libraries are part of that."""
    net, cluster, took = formed(args, 'c%d' % hosts, hosts)
    try:
        time.sleep(SETTLE_SECONDS)
        leader, pids = cluster.leader(), [host.pids('rekindled') for host in net.hosts]
        if not all(pids):
            raise lan.Failure('a daemon has ended: %s' % net.directory)
        with open('/proc/%d/maps' % pids[0][0]) as maps:
            libvirt = 'libvirt.so' in maps.read()
        rows = spent(pids, args.idle)
        for host, row in zip(net.hosts, rows):
            role = 'leader' if host.name == leader else 'voter' if host.name in cluster.voters else 'member'
            row.update(host=host.name, formed=took, role=role)
        return rows, libvirt
    finally:
        closed(net, args.keep)


def summary(kind, row):
    """One round in one line, for who watches."""
    if 'failed' in row:
        return '%s: FAILED: %s' % (kind, row['failed'])
    return kind + ': ' + ', '.join('%s %.2f' % (name, row[name]) for name in (
        'suspected', 'verdict', 'off', 'fenced', 'formed') if row.get(name) is not None)


def median(rows, name, only=lambda row: True):
    values = [row[name] for row in rows if only(row) and row.get(name) is not None]
    return statistics.median(values) if values else None
