"""What real.py measured, as tables, targets and a plot. Seconds since the fault."""
import math
from statistics import median

import peers
import report

WHO = dict({'rekindle': 'rekindle'}, **peers.TITLES)
COST = dict(WHO, corosync='Corosync', pacemaker='Pacemaker', **{
    'corosync-tuned': 'Corosync, token 1000', 'pacemaker-tuned': 'Pacemaker, token 1000'})
FAULTS = {'crash': 'crash: processes gone, link down', 'cut': 'cable cut', 'hang': 'hang: processes stopped, link down',
          'power': 'power gone, BMC alive', 'leader': 'the leader crashes'}
# Faults of a whole host that does not lead: what the targets are about.
HOSTS = ('crash', 'cut', 'hang', 'power')
COLUMNS = ('suspected', 'verdict', 'off', 'fenced', 'all_told')


def find(doc, **wanted):
    return [row for row in doc['rows'] if all(row.get(name) == value for name, value in wanted.items()) and row['runs']]


def values(row, name, only=lambda run: True):
    return [run[name] for run in row['runs'] if only(run) and run.get(name) is not None]


def spread(found, form='%.2f'):
    return ' / '.join(form % value for value in (median(found), max(found))) if found else ''


def tables(doc):
    yield 'A whole host fails: seconds, median / longest', fault_rows(doc)
    yield 'The daemon alone dies, or stops; its host lives and greets', daemon_rows(doc)
    yield 'Lost packets, both ways, at one member', loss_rows(doc)
    yield 'What an idle daemon costs: median / most', cost_rows(doc)


def fault_rows(doc):
    rows = [['hosts', 'fault', 'who', 'runs', 'suspected', 'verdict, or lost', 'power off', 'fence confirmed', 'all told', 'others fenced']]
    order = {name: place for place, name in enumerate(list(FAULTS) + list(WHO))}
    for row in sorted(find(doc, part='faults'), key=lambda row: (row['hosts'], order[row['kind']], order[row['who']])):
        rows.append([row['hosts'], FAULTS[row['kind']], WHO[row['who']], len(row['runs'])] + [
            spread(values(row, name)) for name in COLUMNS] + [sum(len(run['wrong']) for run in row['runs'])])
    return rows


def daemon_rows(doc):
    rows = [['hosts', 'daemon', 'runs', 'watched, s', 'alarm, s', 'verdicts', 'fenced']]
    for row in find(doc, part='daemons'):
        rows.append([row['hosts'], row['kind'], len(row['runs']), max(values(row, 'watched')), spread(values(row, 'alarm'))] + [
            sum(len(run[name]) for run in row['runs']) for name in ('verdicts', 'wrong')])
    return rows


def loss_rows(doc):
    rows = [['hosts', 'loss %', 'seconds', 'runs', 'runs in which anybody was not alive to the leader', 'verdicts', 'fenced']]
    for row in find(doc, part='loss'):
        rows.append([row['hosts'], row['loss'], row['seconds'], len(row['runs']), sum(bool(run['seen']) for run in row['runs'])] + [
            sum(len(run[name]) for run in row['runs']) for name in ('verdicts', 'wrong')])
    return rows


def roles(row):
    """(role, its runs): members and voters apart, as they have different targets."""
    for role in ('member', 'voter', 'leader', None):
        runs = [run for run in row['runs'] if run.get('role') == role]
        if runs:
            yield role, dict(row, runs=runs)


def cost_rows(doc):
    rows = [['hosts', 'who', 'role', 'daemons', 'resident, MiB', 'proportional, MiB', 'anonymous, MiB', 'of a core, %']]
    for row in find(doc, part='cost'):
        for role, part in roles(row):
            who = COST[row['who']] + (', no libvirt' if row.get('libvirt') is False else '')
            rows.append([row['hosts'], who, role or '', len(part['runs'])] + [
                spread(values(part, name), '%.1f') for name in ('rss', 'pss', 'anonymous')] + [
                spread(values(part, 'cpu_percent'), '%.3f')])
    return rows


def pooled(doc, hosts, who='rekindle'):
    """Every fence of a host that did not lead, in clusters of that size; one that was never confirmed took for ever."""
    rows = [row for kind in HOSTS for row in find(doc, part='faults', who=who, hosts=hosts, kind=kind)]
    return [math.inf if run.get('fenced') is None else run['fenced'] for row in rows for run in row['runs']]


def targets(doc):
    """(what, measured, met) of each target that these runs can tell."""
    found = []

    def target(what, value, bound, form='%.2f', below=lambda value, bound: value <= bound):
        if value is not None and bound is not None:
            found.append((what, form % value if value < math.inf else 'never', below(value, bound)))
    ours, theirs = pooled(doc, 5), pooled(doc, 5, 'corosync-tuned')
    if ours and theirs:
        target('5 hosts: fence confirmed before Corosync tuned hard has it (median %.2f s)' % median(theirs), median(ours),
               median(theirs), '%.2f s', lambda value, bound: value < bound)
    for hosts in (16, 32):
        many = pooled(doc, hosts)
        if ours and many:
            target('%d hosts: fence confirmed within 1.5 × of 5 hosts' % hosts, median(many) / median(ours), 1.5, '%.2f ×')
    rows = find(doc, part='faults', who='rekindle')
    if rows:
        target('nobody but the dead host is fenced', sum(len(run['wrong']) for row in rows for run in row['runs']), 0, '%d')
    rows = find(doc, part='daemons')
    if rows:
        target('a dead daemon on a living host: nobody is fenced', sum(
            len(run['wrong']) + len(run['verdicts']) for row in rows for run in row['runs']), 0, '%d')
        target('and it is alarmed each time', sum(run['alarm'] is None for row in rows for run in row['runs']), 0, '%d missing')
    for row in find(doc, part='loss'):
        target('%d %% lost: no verdict, nobody fenced, in %d runs' % (row['loss'], len(row['runs'])), sum(
            len(run['wrong']) + len(run['verdicts']) for run in row['runs']), 0, '%d')
    for row in find(doc, part='cost', who='rekindle'):
        linked = row['libvirt']
        size = ' (%d hosts%s)' % (row['hosts'], '' if linked else ', no libvirt')
        target('resident ≤ %d MiB%s' % (32 if linked else 16, size),
               max(values(row, 'rss')), 32 if linked else 16, '%.1f MiB')
        target('anonymous ≤ 8 MiB' + size, max(values(row, 'anonymous')), 8, '%.1f MiB')
        for role, part in roles(row):
            bound = 0.2 if role == 'member' else 0.5
            target('a %s takes ≤ %.1f %% of a core, median%s' % (role, bound, size), median(values(part, 'cpu_percent')), bound, '%.3f %%')
    return found


# --- the plot: from the fault to the confirmed fence, over the number of hosts; every run a dot, lines through medians ----------
COLOURS = {'rekindle': '#d1480f', 'corosync': '#5f6b76', 'corosync-tuned': '#3a7ca5', 'serf': '#8d5a97'}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = report.WIDTH, 400, report.LEFT, report.RIGHT, 116, 48


def plotted(doc, who):
    """hosts -> seconds of each run; of serf, which does not fence, until all were told."""
    found = {}
    for row in find(doc, part='faults', who=who):
        if row['kind'] in HOSTS:
            found.setdefault(row['hosts'], []).extend(values(row, 'all_told' if who == 'serf' else 'fenced'))
    return {hosts: seconds for hosts, seconds in sorted(found.items()) if seconds}


def plot(doc):
    curves = {who: plotted(doc, who) for who in COLOURS}
    sizes = sorted({hosts for curve in curves.values() for hosts in curve})
    if len(sizes) < 2:
        return ''
    low, high = 1.0, 1.2 * max(value for curve in curves.values() for seconds in curve.values() for value in seconds)

    def x(hosts):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(hosts / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(max(value, low) / low) / math.log(high / low)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" '
           'font-size="12" fill="#222">' % (WIDTH, HEIGHT, WIDTH, HEIGHT), '<rect width="100%" height="100%" fill="#fff"/>',
           '<text x="%d" y="20" font-size="14" font-weight="bold">A whole host fails: until its power is known to be off</text>' % LEFT]
    for i, who in enumerate(who for who in COLOURS if curves[who]):
        out.append('<path d="M%d %dh26" stroke="%s" stroke-width="2.5"/><text x="%d" y="%d">%s</text>' % (
            LEFT, 36 + 18 * i, COLOURS[who], LEFT + 34, 40 + 18 * i, report.escape(WHO[who])))
    for tick in (1, 2, 5, 10, 20, 50, 100):
        if low <= tick <= high:
            out.append('<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>' % (
                LEFT, y(tick), WIDTH - RIGHT, LEFT - 6, y(tick) + 4, tick))
    for hosts in sizes:
        out.append('<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>' % (
            x(hosts), HEIGHT - BOTTOM, TOP, x(hosts), HEIGHT - BOTTOM + 16, hosts))
    out.append('<text x="%d" y="%d" text-anchor="middle">hosts; seconds since the fault; both logarithmic</text>' % (
        LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 12))
    for who, curve in curves.items():
        for hosts, seconds in curve.items():
            out += ['<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s" fill-opacity="0.5"/>' % (x(hosts), y(value), COLOURS[who])
                    for value in seconds]
        if curve:
            out.append('<path d="M%s" fill="none" stroke="%s" stroke-width="2.5"/>' % ('L'.join(
                '%.1f %.1f' % (x(hosts), y(median(seconds))) for hosts, seconds in curve.items()), COLOURS[who]))
    return '\n'.join(out + ['</svg>', ''])
