#!/usr/bin/python3
"""make bench-detect-real: real daemons, a network namespace and a BMC for each host, on this machine's own clock: how soon a dead
host is suspected, condemned, switched off and proven off; whether lost packets or a dead daemon condemn anybody; what a daemon costs;
beside Corosync with Pacemaker and serf where they are installed. Writes JSON, a table, a plot; exit code 1 if a target is missed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(REPO / 'tests' / 'bench')]

import document
import figures
import lan
import peers
import rounds

PARTS = ('faults', 'daemons', 'loss', 'cost', 'peers')
KINDS = ('crash', 'cut', 'hang', 'power', 'leader')


def arguments():
    parser = argparse.ArgumentParser(prog='real.py', description=__doc__)
    parser.add_argument('--parts', default=','.join(PARTS), help='of ' + ', '.join(PARTS))
    parser.add_argument('--hosts', default='3,5,8,16,32', help='sizes of clusters in which hosts fail')
    parser.add_argument('--faults', default=','.join(KINDS), help='of ' + ', '.join(KINDS))
    parser.add_argument('--repeat', type=int, default=3, help='of each fault at each size')
    parser.add_argument('--daemon-hosts', type=int, default=5)
    parser.add_argument('--hold', type=int, default=60, help='seconds for which a host without its daemon is watched')
    parser.add_argument('--loss', default='30,50', help='percent')
    parser.add_argument('--loss-hosts', type=int, default=5)
    parser.add_argument('--loss-seconds', type=int, default=40)
    parser.add_argument('--loss-runs', type=int, default=20)
    parser.add_argument('--beside', type=int, default=10, help='clusters side by side under loss')
    parser.add_argument('--cost-hosts', default='5,32,64')
    parser.add_argument('--idle', type=int, default=60, help='seconds over which processor time is counted')
    parser.add_argument('--peers', default=','.join(peers.NAMES), help='of ' + ', '.join(peers.NAMES))
    parser.add_argument('--peer-hosts', default='3,5,8,16')
    parser.add_argument('--peer-faults', default='cut', help='of crash, cut, hang')
    parser.add_argument('--peer-repeat', type=int, default=2)
    parser.add_argument('--peer-idle', type=int, default=20)
    parser.add_argument('--short', action='store_true', help='3 and 5 hosts once: minutes, and no figure to quote')
    parser.add_argument('--driver', default='ipmi', help='ipmi or ipmi-tool')
    parser.add_argument('--bin', type=Path, default=REPO / 'target' / 'release', help='where rekindled and rekindle are')
    parser.add_argument('--work', type=Path, default=REPO / 'target' / 'bench-detect-real', help='files of the rounds')
    parser.add_argument('--keep', action='store_true', help='the files of every round, not only of those that went wrong')
    parser.add_argument('--json', type=Path, default=REPO / 'target' / 'bench-detect-real.json')
    parser.add_argument('--append', action='store_true', help='replace only what is measured now in what the JSON holds')
    parser.add_argument('--report', action='store_true', help='measure nothing: table, plot and targets from the JSON')
    args = parser.parse_args()
    if args.short:
        args.hosts, args.repeat, args.hold, args.loss_runs, args.beside = '3,5', 1, 20, 2, 2
        args.cost_hosts, args.idle, args.peer_hosts, args.peer_repeat, args.peer_idle = '5', 20, '3,5', 1, 10
    args.bin = args.bin.resolve()
    return args


def numbers(text):
    return [int(number) for number in text.split(',') if number]


class Results:
    """Rows, each with its runs; written after each, so that whoever interrupts loses little."""

    def __init__(self, args, doc):
        self.args, self.doc = args, doc

    def add(self, runs, **key):
        row = next((row for row in self.doc['rows'] if all(row.get(name) == value for name, value in key.items())), None)
        if row is None:
            row = dict(key, runs=[])
            self.doc['rows'].append(row)
        row['runs'] += runs
        document.write(self.doc, self.args.json, figures.targets(self.doc), figures.plot(self.doc))

    def failed(self, what, failure):
        lan.say('%s: %s' % (what, failure))
        self.doc['failures'].append('%s: %s' % (what, failure))


def measure(args, results):
    parts = args.parts.split(',')
    if 'faults' in parts:
        for number in range(args.repeat):
            for hosts in numbers(args.hosts):
                for kind in args.faults.split(','):
                    attempt(results, 'faults, %d hosts, %s' % (hosts, kind), lambda: fault(args, results, hosts, kind, number))
    if 'daemons' in parts:
        attempt(results, 'daemons', lambda: daemons(args, results))
    if 'loss' in parts:
        for percent in numbers(args.loss):
            attempt(results, 'loss, %d %%' % percent, lambda: loss(args, results, percent))
    if 'cost' in parts:
        for hosts in numbers(args.cost_hosts):
            attempt(results, 'cost, %d hosts' % hosts, lambda: cost(args, results, hosts))
    if 'peers' in parts:
        for name in args.peers.split(','):
            missing = peers.missing(name)
            if missing:
                results.doc['absent'][name] = 'not installed: ' + ' '.join(missing)
                lan.say('%s is %s' % (name, results.doc['absent'][name]))
                continue
            for hosts in numbers(args.peer_hosts):
                if hosts in peers.sizes(name, numbers(args.peer_hosts)):
                    attempt(results, '%s, %d hosts' % (name, hosts), lambda: peers.measure(args, results, name, hosts))


def attempt(results, what, measured):
    """A part that fails is told at the end, and the others are measured all the same."""
    try:
        measured()
    except (lan.Failure, OSError, LookupError, subprocess.SubprocessError) as failure:
        results.failed(what, failure)


def fault(args, results, hosts, kind, number):
    row = rounds.fault(args, hosts, kind, number)
    lan.say(rounds.summary('%d hosts, %s' % (hosts, kind), row))
    if 'failed' in row:
        raise lan.Failure('%s, see %s' % (row['failed'], row['see']))
    results.add([row], part='faults', who='rekindle', hosts=hosts, kind=kind)


def daemons(args, results):
    for kind, rows in rounds.daemons(args, ['killed', 'stopped'], args.repeat).items():
        lan.say('daemon %s: %s' % (kind, rows))
        results.add(rows, part='daemons', who='rekindle', hosts=args.daemon_hosts, kind=kind)


def loss(args, results, percent):
    rows = rounds.loss(args, percent, args.loss_runs)
    lan.say('loss %d %%: %s' % (percent, rows))
    results.add(rows, part='loss', who='rekindle', hosts=args.loss_hosts, loss=percent, seconds=args.loss_seconds)


def cost(args, results, hosts):
    rows, libvirt = rounds.cost(args, hosts)
    lan.say('cost, %d hosts: %s' % (hosts, ', '.join('%s %.1f MiB %.3f %%' % (
        role, rounds.median(rows, 'rss', of), rounds.median(rows, 'cpu_percent', of)) for role, of in (
            (role, lambda row, role=role: row['role'] == role) for role in sorted({row['role'] for row in rows})))))
    results.add(rows, part='cost', who='rekindle', hosts=hosts, libvirt=libvirt)


def main():
    args = arguments()
    doc = {'rows': [], 'failures': [], 'absent': {}}
    if args.report:
        doc = json.loads(args.json.read_text())
    else:
        lan.isolate()
        began = time.monotonic()
        shutil.rmtree(args.work, ignore_errors=True)
        old = json.loads(args.json.read_text())['rows'] if args.append and args.json.exists() else []
        commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=REPO, capture_output=True, text=True, check=False)
        doc.update(commit=commit.stdout.strip(), date=time.strftime('%Y-%m-%d'), machine=document.machine(), took_seconds=0,
                   load_before=os.getloadavg()[0])
        measure(args, Results(args, doc))
        doc['rows'] = document.merged(old, doc['rows'])
        doc['took_seconds'] = round(time.monotonic() - began)
        document.write(doc, args.json, figures.targets(doc), figures.plot(doc))
    met = document.show(doc, figures.tables(doc), figures.targets(doc))
    print('\n%s, commit %s, %s; %d s; load before %.1f; %s' % (
        doc['date'], doc['commit'], doc['machine'], doc['took_seconds'], doc['load_before'], args.json))
    return 0 if met else 1


if __name__ == '__main__':
    sys.exit(main())
