#!/usr/bin/python3
"""make bench-detect: how soon a death is known, what the watching costs, and who is accused falsely. Real coordinators in
virtual time (sim/src/detect.rs), beside stock foca and Corosync's formula. Writes JSON, a table, a plot; exit code 1 if a
target is missed. docs/benchmarks.md says what is measured and how.
"""
import argparse
import concurrent.futures
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import document
import report

REPO = Path(__file__).resolve().parents[2]
SIZES = (3, 5, 16, 64, 128, 500, 2000)
LOSSES = (0, 1, 5)
PARTS = ('deaths', 'power', 'cost', 'false', 'slow')
# Longest that one process runs many seeds: the parts are divided so that two cores end together.
CHUNKS = 8


def arguments():
    parser = argparse.ArgumentParser(prog='detection.py', description=__doc__)
    parser.add_argument('--parts', default=','.join(PARTS), help='of ' + ', '.join(PARTS))
    parser.add_argument('--hosts', default=','.join(map(str, SIZES)), help='sizes of clusters')
    parser.add_argument('--loss', default=','.join(map(str, LOSSES)), help='percent of datagrams that are lost')
    parser.add_argument('--runs', type=int, help='of each death; else 200 up to 128 hosts, 30 at 500, 10 at 2,000')
    parser.add_argument('--hours', type=int, default=24, help='of cluster time for false verdicts')
    parser.add_argument('--false-hosts', default='3,16,128')
    parser.add_argument('--slow', default='1,4,8,12,16,20,24,28,32', help='slow members of 128')
    parser.add_argument('--deaf-ms', default='2048,8192,16384', help='for how long they hear nothing and are not heard')
    parser.add_argument('--free-ms', default='64,1024,4096', help='and for how long they are, between')
    parser.add_argument('--slow-runs', type=int, default=1)
    parser.add_argument('--first', type=int, default=0, help='first seed')
    parser.add_argument('--short', action='store_true', help='a few runs of the small ones: seconds, and no figure to quote')
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--profile', default='release', help='cargo profile: release, dev')
    parser.add_argument('--json', default=str(REPO / 'target' / 'bench-detect.json'))
    parser.add_argument('--append', action='store_true', help='replace only what is measured now in what the JSON holds')
    parser.add_argument('--report', action='store_true', help='measure nothing: table, plot and targets from the JSON')
    args = parser.parse_args()
    if args.short:
        args.hosts, args.loss, args.runs, args.hours = '5,16,128', '0,5', args.runs or 24, 1
        args.false_hosts, args.slow, args.deaf_ms, args.free_ms = '3,16', '4,16', '16384', '1024'
    return args


def numbers(text):
    return [int(number) for number in text.split(',') if number]


def rack(hosts):
    """How many hosts of a rack die: 40 of 128, 5 of 16, and never a quorum of the voters with it."""
    return min(40, max(2, hosts * 5 // 16))


def runs_of(args, hosts):
    return args.runs or (200 if hosts <= 128 else 30 if hosts <= 500 else 10)


def series(args):
    """(key, arguments, runs, weight): everything that is to be measured."""
    parts, sizes, losses = args.parts.split(','), numbers(args.hosts), numbers(args.loss)
    for hosts in sizes:
        for loss in losses:
            size = ['--hosts', hosts, '--loss', loss]
            if 'deaths' in parts:
                for dead in [1] + ([rack(hosts)] if hosts >= 5 else []):
                    case = {'part': 'deaths', 'hosts': hosts, 'loss': loss, 'dead': dead}
                    for who, more in (('rekindle', []), ('stock', ['--stock'])):
                        yield dict(case, who=who), ['death'] + size + ['--dead', dead] + more, runs_of(args, hosts), hosts * 20
            if 'power' in parts:
                case = {'part': 'power', 'hosts': hosts, 'loss': loss, 'dead': 1, 'who': 'rekindle'}
                yield case, ['death'] + size + ['--power'], runs_of(args, hosts), hosts * 20
            if 'cost' in parts:
                for who, more in (('rekindle', []), ('stock', ['--stock'])):
                    case = {'part': 'cost', 'hosts': hosts, 'loss': loss, 'who': who}
                    yield case, ['quiet'] + size + ['--seconds', 60] + more, 2 if hosts <= 500 else 1, hosts * 60
    if 'false' in parts:
        for hosts in numbers(args.false_hosts):
            for loss in losses:
                for who, more in (('rekindle', []), ('stock', ['--stock'])):
                    case = {'part': 'false', 'hosts': hosts, 'loss': loss, 'who': who}
                    yield case, ['quiet', '--hosts', hosts, '--loss', loss, '--seconds', 3600] + more, args.hours, hosts * 3600
    if 'slow' in parts:
        yield from slow_series(args)


def slow_series(args):
    for slow in numbers(args.slow):
        for who, more in (('rekindle', []), ('stock', ['--stock'])):
            for deaf in numbers(args.deaf_ms):
                for free in numbers(args.free_ms):
                    case = {'part': 'slow', 'hosts': 128, 'slow': slow, 'deaf': deaf, 'free': free, 'who': who}
                    yield case, ['slow', '--hosts', 128, '--slow', slow, '--deaf', deaf, '--free', free,
                                 '--seconds', 120] + more, args.slow_runs, 128 * 120
            case = {'part': 'slow', 'hosts': 100, 'slow': slow, 'starved': True, 'who': who}
            yield case, ['slow', '--hosts', 100, '--slow', slow, '--starved', '--seconds', 300] + more, args.slow_runs, 100 * 300


def binary(args):
    command = ['cargo', 'build', '--locked', '-p', 'rekindle-sim', '--example', 'detect', '--profile', args.profile]
    subprocess.run(command, cwd=REPO, check=True)
    return REPO / 'target' / ('debug' if args.profile == 'dev' else args.profile) / 'examples' / 'detect'


def measure(args):
    """Every series, some of its seeds a process; the rows in the order of the series."""
    program, rows, jobs = binary(args), [], []
    for place, (key, words, runs, weight) in enumerate(series(args)):
        rows.append(dict(key, runs=[]))
        size = max(1, math.ceil(runs / CHUNKS))
        for begin in range(0, runs, size):
            count = min(size, runs - begin)
            jobs.append((weight * count, place, [str(word) for word in [program] + words + [
                '--first', args.first + begin, '--runs', count]]))
    # The longest first, so that the last to end are short.
    jobs.sort(key=lambda job: -job[0])
    done, total, began, failures = 0, sum(job[0] for job in jobs), time.time(), []

    def run(job):
        return job, subprocess.run(job[2], capture_output=True, text=True, check=False)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for (weight, place, words), ended in pool.map(run, jobs):
            done += weight
            if ended.returncode != 0:
                failures.append('%s: %s' % (' '.join(words[1:]), ended.stderr.strip()[-400:]))
                continue
            rows[place]['runs'] += [json.loads(text) for text in ended.stdout.splitlines()]
            if sys.stderr.isatty():
                print('\r%3d %% after %d s' % (100 * done // total, time.time() - began), end='', file=sys.stderr)
    for row in rows:
        row['runs'].sort(key=lambda run: run['seed'])
    return rows, failures, time.time() - began


# --- figures -------------------------------------------------------------------------------------------------------
def at(values, part):
    """Nearest rank; None counts as never."""
    known = sorted(math.inf if value is None else value for value in values)
    return known[min(len(known) - 1, max(0, math.ceil(part * len(known)) - 1))] / 1000 if known else None


def seconds(value):
    return '-' if value is None else 'never' if value == math.inf else '%.2f' % value


def spread(values):
    return ' / '.join(seconds(at(values, part)) for part in (0.5, 0.99, 1))


def corosync(hosts):
    """token + consensus by Corosync 3.1's defaults: 3 s and 650 ms for each node beyond two; consensus 1.2 of that."""
    token = 3000 + max(0, hosts - 2) * 650
    return token * 2.2 / 1000


def find(doc, **wanted):
    return [row for row in doc['rows'] if all(row.get(name) == value for name, value in wanted.items()) and row['runs']]


def column(row, name, only=lambda run: True):
    return [run.get(name) for run in row['runs'] if only(run)]


def tables(doc):
    """Headed tables, as lists of rows of text."""
    yield 'Deaths: seconds, median / p99 / max', death_rows(doc)
    yield 'Power off under a living BMC: seconds, median / p99 / max', power_rows(doc)
    yield 'What watching costs, a member and a second', cost_rows(doc)
    yield 'Nothing happens', false_rows(doc)
    yield 'Slow members (sums over the grid)', slow_rows(doc)


def death_rows(doc):
    rows = [['hosts', 'loss %', 'dead', 'who', 'runs', 'suspected', 'first down', 'all told', 'verdict', 'the leader died: verdict']]
    for row in find(doc, part='deaths'):
        ours = row['who'] == 'rekindle'
        others, led = (column(row, 'verdict', lambda run, led=led: run.get('led') == led) for led in (False, True))
        single = ours and row['dead'] == 1
        rows.append([row['hosts'], row['loss'], row['dead'], row['who'], len(row['runs']),
                     spread(column(row, 'suspected')) if ours else '', spread(column(row, 'first_down')),
                     spread(column(row, 'all_told')), spread(others) if single else '', spread(led) if single and led else ''])
    for hosts in sorted({row['hosts'] for row in find(doc, part='deaths')}):
        rows.append([hosts, '', 1, 'Corosync, token + consensus', '', '', '', '%.2f' % corosync(hosts), '', ''])
    return rows


def power_rows(doc):
    rows = [['hosts', 'loss %', 'runs', 'suspected', 'verdict', 'proof']]
    for row in find(doc, part='power'):
        rows.append([row['hosts'], row['loss'], len(row['runs'])] + [spread(column(row, name)) for name in (
            'suspected', 'verdict', 'proof')])
    return rows


def rate(row, name):
    total = sum(run['sent'].get(name, 0) for run in row['runs'])
    return total / sum(run['seconds'] for run in row['runs']) / row['hosts']


def cost_rows(doc):
    rows = [['hosts', 'loss %', 'who', 'datagrams', 'bytes', 'messages on streams']]
    for row in find(doc, part='cost'):
        rows.append([row['hosts'], row['loss'], row['who'], '%.2f' % rate(row, 'datagrams'), '%.0f' % rate(row, 'bytes'),
                     '%.2f' % rate(row, 'messages') if row['who'] == 'rekindle' else ''])
    return rows


def false_rows(doc):
    rows = [['hosts', 'loss %', 'who', 'hours', 'suspected', 'called down', "leader's suspicions", 'verdicts']]
    for row in find(doc, part='false'):
        total = {name: sum(run.get(name, 0) for run in row['runs']) for name in (
            'seconds', 'false_suspects', 'false_downs', 'suspicions', 'false_verdicts')}
        ours = row['who'] == 'rekindle'
        rows.append([row['hosts'], row['loss'], row['who'], '%.1f' % (total['seconds'] / 3600),
                     total['false_suspects'] if ours else '', total['false_downs'],
                     total['suspicions'] if ours else '', total['false_verdicts'] if ours else ''])
    return rows


def slow_sums(doc, who, starved, slow=None):
    """Sums over the grid, or None if it was not measured."""
    rows = [row for row in find(doc, part='slow', who=who) if bool(row.get('starved')) == starved]
    runs = [run for row in rows if slow is None or row['slow'] == slow for run in row['runs']]
    if not runs:
        return None
    return {'fp': sum(run['false_downs'] for run in runs), 'healthy': sum(run['at_healthy'] for run in runs),
            'datagrams': sum(run['sent']['datagrams'] for run in runs), 'bytes': sum(run['sent']['bytes'] for run in runs),
            'messages': sum(run['sent']['messages'] for run in runs)}


def slow_rows(doc):
    rows = [['ill', 'slow', 'stock: called down', 'at healthy', 'rekindle: called down', 'at healthy', 'FP %', 'FP- %',
             'datagrams %', 'bytes %', 'messages on streams']]
    for starved in (False, True):
        counts = sorted({row['slow'] for row in find(doc, part='slow') if bool(row.get('starved')) == starved})
        for slow in counts + [None]:
            stock, ours = (slow_sums(doc, who, starved, slow) for who in ('stock', 'rekindle'))
            if stock and ours:
                rows.append(['starved' if starved else 'deaf', 'all' if slow is None else slow, stock['fp'], stock['healthy'],
                             ours['fp'], ours['healthy']] + [percent(ours[name], stock[name]) for name in (
                                 'fp', 'healthy', 'datagrams', 'bytes')] + [ours['messages']])
    return rows


def percent(ours, theirs):
    return '%.2f' % (100 * ours / theirs) if theirs else '0.00' if not ours else '-'


def targets(doc):
    """(what, measured, holds) of each target that these runs can tell."""
    found = []

    def target(what, value, bound, text='%.2f s'):
        if value is not None:
            found.append((what, 'never' if value == math.inf else text % value, value <= bound))
    for row in find(doc, part='deaths', who='rekindle', dead=1):
        of = ' (%d hosts, %d %% loss)' % (row['hosts'], row['loss'])
        told = column(row, 'all_told')
        if (row['hosts'], row['loss']) == (128, 0):
            target('all told, p99 ≤ 6 s' + of, at(told, 0.99), 6)
            target('first Down, median ≤ 4 s' + of, at(column(row, 'first_down'), 0.5), 4)
        if (row['hosts'], row['loss']) == (5, 0):
            target('verdict, p99 ≤ 3.5 s, the leader lives' + of, at(column(row, 'verdict', lambda run: not run['led']), 0.99), 3.5)
            target('verdict, p99 ≤ 3.5 s, whoever dies' + of, at(column(row, 'verdict'), 0.99), 3.5)
        if (row['hosts'], row['loss']) == (2000, 0):
            target('all told, p99 ≤ 9 s' + of, at(told, 0.99), 9)
    for row in find(doc, part='power', hosts=128, loss=0):
        target('power off under a living BMC: proof in hand, median ≤ 3.2 s (128 hosts)', at(column(row, 'proof'), 0.5), 3.2)
    for loss, bound in ((0, 5), (5, 10)):
        rates = [(rate(row, 'datagrams'), row['hosts']) for row in find(doc, part='cost', who='rekindle', loss=loss)]
        if rates:
            worst, hosts = max(rates)
            target('≤ %d datagrams a second, member and path at %d %% loss (worst: %d hosts)' % (bound, loss, hosts), worst, bound, '%.2f')
    quiet = find(doc, part='false', who='rekindle')
    if quiet:
        hours = min(sum(run['seconds'] for run in row['runs']) for row in quiet) / 3600
        target('no false verdict in %d h of each of %s hosts' % (hours, ', '.join(
            str(hosts) for hosts in sorted({row['hosts'] for row in quiet}))),
               sum(run['false_verdicts'] for row in quiet for run in row['runs']), 0, '%d')
    stock, ours = (slow_sums(doc, who, False) for who in ('stock', 'rekindle'))
    if stock and ours and stock['fp'] and stock['healthy']:
        target('slow members: healthy ones called down ≤ 1.53 % of stock', 100 * ours['fp'] / stock['fp'], 1.53, '%.2f %%')
        target('the same at healthy members ≤ 1.89 %', 100 * ours['healthy'] / stock['healthy'], 1.89, '%.2f %%')
        target('datagrams ≤ 111 % of stock, whose period is twice ours', 100 * ours['datagrams'] / stock['datagrams'], 111, '%.1f %%')
    return found + [('no survivor of a death is condemned', '%d' % wrong, wrong == 0) for wrong in [sum(
        run['false_verdicts'] for part in ('deaths', 'power') for row in find(doc, part=part, who='rekindle')
        for run in row['runs'])] if find(doc, part='deaths', who='rekindle')]


# --- the plot: until everybody is told, over the number of hosts, both logarithmic ------------------------------------
COLOURS = {'rekindle': '#d1480f', 'stock': '#3a7ca5', 'corosync': '#5f6b76'}
TITLES = {'rekindle': 'rekindle, every survivor told: median and p99', 'stock': "foca's LAN preset, the same",
          'corosync': 'Corosync by its defaults: token + consensus'}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = report.WIDTH, 420, report.LEFT, report.RIGHT, 110, 48


def plot(doc):
    rows = find(doc, part='deaths', dead=1, loss=0)
    sizes = sorted({row['hosts'] for row in rows})
    if len(sizes) < 2:
        return ''
    low, high = 0.5, 100.0

    def x(hosts):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(hosts / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(value):
        value = min(max(value, low), high)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(value / low) / math.log(high / low)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" '
           'font-size="12" fill="#222">' % (WIDTH, HEIGHT, WIDTH, HEIGHT), '<rect width="100%" height="100%" fill="#fff"/>',
           '<text x="%d" y="20" font-size="14" font-weight="bold">One host dies: until everybody knows</text>' % LEFT]
    for i, (name, title) in enumerate(TITLES.items()):
        out.append('<path d="M%d %dh26" stroke="%s" stroke-width="2.5"/><text x="%d" y="%d">%s</text>' % (
            LEFT, 36 + 18 * i, COLOURS[name], LEFT + 34, 40 + 18 * i, report.escape(title)))
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100):
        out.append('<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>' % (
            LEFT, y(tick), WIDTH - RIGHT, LEFT - 6, y(tick) + 4, tick))
    for hosts in sizes:
        out.append('<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>' % (
            x(hosts), HEIGHT - BOTTOM, TOP, x(hosts), HEIGHT - BOTTOM + 16, hosts))
    out.append('<text x="%d" y="%d" text-anchor="middle">hosts; seconds since the death; both logarithmic</text>' % (
        LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 12))
    curves = [('corosync', '', [(hosts, corosync(hosts)) for hosts in sizes])]
    for who in ('stock', 'rekindle'):
        for part, dash in ((0.5, ''), (0.99, ' stroke-dasharray="6 4"')):
            curves.append((who, dash, [(row['hosts'], at(column(row, 'all_told'), part)) for row in rows if row['who'] == who]))
    for who, dash, points in curves:
        if points:
            out.append('<path d="M%s" fill="none" stroke="%s" stroke-width="2.5"%s/>' % (
                'L'.join('%.1f %.1f' % (x(hosts), y(value)) for hosts, value in sorted(points)), COLOURS[who], dash))
    return '\n'.join(out + ['</svg>', ''])


def main():
    args = arguments()
    doc = {'rows': [], 'failures': []}
    if args.report or args.append:
        doc = json.loads(Path(args.json).read_text())
    if not args.report:
        rows, doc['failures'], took = measure(args)
        doc['rows'] = document.merged(doc['rows'], rows) if args.append else rows
        commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=REPO, capture_output=True, text=True, check=False)
        doc.update(commit=commit.stdout.strip(), date=time.strftime('%Y-%m-%d'), took_seconds=round(took), machine=document.machine())
        document.write(doc, args.json, targets(doc), plot(doc))
    met = document.show(doc, tables(doc), targets(doc))
    print('\n%s, commit %s, %s; %d s; %s' % (doc['date'], doc['commit'], doc['machine'], doc['took_seconds'], args.json))
    return 0 if met else 1


if __name__ == '__main__':
    sys.exit(main())
