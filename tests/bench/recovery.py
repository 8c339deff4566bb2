#!/usr/bin/python3
"""make bench-recovery: a host dies, and rekindle, Masakari and a person with a script recover its servers, one after the
other, on one real Nova. Writes JSON, a table, a plot (report.py); docs/benchmarks.md says what is measured and how.
"""
import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time

import report
import rig as rigs
from contenders import GIVE_UP_SECONDS, ByHand, Masakari, Rekindle
from rig import OURS, REPO, now_us, say

VICTIM = 'cmp1'
# Two for each other host, all of them at once: so that the scheduler chooses every host.
WARMING_SERVERS = WARMING_AT_ONCE = 20
EVERYBODY = ('rekindle', 'by-hand', 'masakari-tuned-known', 'masakari-tuned', 'masakari-default')


def arguments():
    parser = argparse.ArgumentParser(prog='recovery.py', description=__doc__)
    parser.add_argument('--servers', default='6,20', help='how many on the victim, one round each: 6,50,200')
    parser.add_argument('--contenders', default=','.join(EVERYBODY))
    parser.add_argument('--hosts', type=int, default=11, help='compute hosts, the victim among them')
    parser.add_argument('--repeat', type=int, default=1)
    parser.add_argument('--defaults-up-to', type=int, default=6, metavar='N',
                        help='more servers than these are not given to Masakari with its defaults: it sleeps most of the time')
    parser.add_argument('--masakari-threads', type=int, default=8, help='servers that a tuned Masakari moves at once')
    parser.add_argument('--at-once', type=int, help="rekindle's recovery.evacuations_at_once; its default otherwise")
    parser.add_argument('--binaries', default='release', help='of which build: release, debug')
    parser.add_argument('--json', default=str(REPO / 'target' / 'bench-recovery.json'))
    parser.add_argument('--append', action='store_true', help='add to the runs that the JSON holds')
    parser.add_argument('--keep', action='store_true', help='use the cloud that an earlier --keep left running, and leave it so')
    parser.add_argument('--report', action='store_true', help='measure nothing: table, plot and targets from the JSON')
    return parser.parse_args()


def contender(name, rig, args, peak):
    if name == 'rekindle':
        return Rekindle(rig, args.at_once, args.binaries)
    if name == 'by-hand':
        return ByHand(rig, peak)
    if name == 'masakari-default':
        return Masakari(rig, 'default', 3)
    return Masakari(rig, 'tuned', args.masakari_threads, nova_knows=name.endswith('known'))


def measure(name, who, rig, count):
    """One death; what is known of it."""
    ids = rig.fill(count)
    watcher = None
    try:
        who.prepare(ids)
        say('%s: ready; waiting for an idle machine' % name)
        busy = rigs.busy_when_idle()
        watcher = rigs.Watcher(rig, ids)
        say('%s: killing %s with %d servers' % (name, VICTIM, count))
        killed = now_us()
        rig.verb('host', 'kill', VICTIM)
        marks = who.recover(watcher, ids)
        left = watcher.wait_for(ids, GIVE_UP_SECONDS if marks.get('said', 'finished') == 'finished' else 1)
    finally:
        if watcher:
            watcher.stop()
        who.leave()
    said = marks.pop('said', None)
    run = {'contender': name, 'servers': count, 'busy_before': busy, 'said': said, 'left_behind': len(left)}
    run.update({key: seconds(at, killed) for key, at in marks.items()})
    run.update(counted(rig, who, marks, killed))
    moved = sorted(watcher.moved.values())
    run['last_active'] = seconds(moved[-1], killed) if moved and not left else None
    run['first_active'] = seconds(moved[0], killed) if moved else None
    run['under_way_peak'] = watcher.peak
    run['moved'] = [seconds(at, killed) for at in moved]
    return run


def seconds(at, killed):
    return None if at is None else round((at - killed) / 1e6, 3)


def counted(rig, who, marks, killed):
    """From the request logs: the first evacuate call, how many calls, how many tokens."""
    until = marks['finished']
    calls = [call for call in rig.requests('nova-api', killed) if call[0] <= until and (
        who.agent in call[3] if who.agent else OURS not in call[3])]
    actions = {}
    for at, method, path, _agent in calls:
        if method == 'POST' and path.endswith('/action'):
            actions.setdefault(path, []).append(at)
    # Masakari locks a server before it evacuates it: two calls to the same path.
    which = 1 if isinstance(who, Masakari) else 0
    first = min((times[which] for times in actions.values() if len(times) > which), default=None)
    tokens = [call for call in rig.requests('keystone', killed) if call[0] <= until and call[1] == 'POST'
              and call[2].endswith('/auth/tokens') and who.token_agent and who.token_agent in call[3]]
    kinds = {}
    for _at, method, path, _agent in calls:
        kind = method + ' ' + '/'.join('ID' if len(part) in (32, 36) else part for part in path.split('?')[0].split('/')[2:])
        kinds[kind] = kinds.get(kind, 0) + 1
    return {'first_evacuate': seconds(first, killed), 'nova_calls': len(calls), 'nova_calls_by_kind': kinds,
            'token_requests': len(tokens) if who.token_agent else 1}


def surroundings(args):
    commit = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=10'], cwd=REPO, stdout=subprocess.PIPE,
                            check=False).stdout.decode().strip() or 'unknown'
    return {'commit': commit, 'machine': '%s, %d cores' % (platform.machine(), os.cpu_count()), 'hosts': args.hosts,
            'build': args.binaries, 'masakari_threads': args.masakari_threads}


def main():
    args = arguments()
    # As Ctrl-C: what runs is stopped, the cloud as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    doc = {'runs': []}
    if args.append or args.report:
        with open(args.json) as f:
            doc = json.load(f)
    if not args.report:
        rigs.settings(args.hosts)
        rig = rigs.Rig(VICTIM, fresh=not args.keep)
        try:
            rounds(args, rig, doc)
        finally:
            if not args.keep:
                rig.verb('down')
    report.write(doc, args.json)
    sys.exit(0 if report.show(doc) else 1)


def warm(args, rig):
    """A death that does not count, once in a cloud: whoever comes first would otherwise pay for the first log-in at Keystone of
    each compute and conductor, and for what each loads with its first rebuild."""
    # Where what is wiped with the cloud is.
    mark = rig.directory / 'etc' / 'warm'
    if not mark.exists():
        run = measure('by-hand', contender('by-hand', rig, args, WARMING_AT_ONCE), rig, WARMING_SERVERS)
        say('not counted: ' + report.line(run))
        mark.touch()


def rounds(args, rig, doc):
    rig.masakari('install')
    warm(args, rig)
    for count in [int(word) for word in args.servers.split(',')]:
        for _ in range(args.repeat):
            peak = args.at_once or 8
            for name in args.contenders.split(','):
                if name == 'masakari-default' and count > args.defaults_up_to:
                    continue
                try:
                    run = measure(name, contender(name, rig, args, peak), rig, count)
                except (RuntimeError, OSError, rig.client.Failure) as error:
                    # The others are measured nevertheless, and the report says who is missing.
                    doc.setdefault('failures', []).append('%s, %d servers: %s' % (name, count, error))
                    say(doc['failures'][-1])
                    continue
                if name == 'rekindle':
                    # By hand as many are under way at a time as rekindle had at most.
                    peak = max(run['under_way_peak'], 1)
                run.update(surroundings(args), date=time.strftime('%Y-%m-%d %H:%M', time.gmtime()))
                doc['runs'].append(run)
                say(report.line(run))
                # What was measured is kept, whatever comes after.
                report.write(doc, args.json)


if __name__ == '__main__':
    main()
