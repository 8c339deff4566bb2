"""What recovery.py measured, as a table, targets and a plot. Times are seconds since the SIGKILL unless a column says otherwise."""
import json
import math
import os
from statistics import median
from xml.sax.saxutils import escape

NAMES = {'rekindle': 'rekindle', 'by-hand': 'by hand: force-down, evacuate, nothing else',
         'masakari-tuned-known': 'Masakari tuned, notified once Nova knew', 'masakari-tuned': 'Masakari tuned, notified at once',
         'masakari-default': "Masakari's defaults, notified at once"}
COLOURS = {'rekindle': '#d1480f', 'by-hand': '#5f6b76', 'masakari-tuned-known': '#3a7ca5', 'masakari-tuned': '#1b4965',
           'masakari-default': '#8d5a97'}


def line(run):
    """One run in one line."""
    return '%s, %d servers: first evacuate %s s, last active %s s, %d calls' % (
        run['contender'], run['servers'], figure(run['first_evacuate']), figure(run['last_active']), run['nova_calls'])


def figure(value, digits=1):
    if value is None:
        return '-'
    return '%.*f' % (digits, value) if value < math.inf else 'never'


def groups(doc):
    """(servers, contender) -> its runs, in the order of the table."""
    found = {}
    for count in sorted({run['servers'] for run in doc['runs']}):
        for name in NAMES:
            runs = [run for run in doc['runs'] if (run['servers'], run['contender']) == (count, name)]
            if runs:
                found[count, name] = runs
    return found


def middle(runs, value):
    """The median of what every run has; None if any run has it not."""
    values = [value(run) for run in runs or []]
    return median(values) if values and None not in values else None


def since(start, end):
    return lambda run: None if run.get(start) is None or run.get(end) is None else run[end] - run[start]


def at(name):
    return lambda run: run.get(name)


COLUMNS = (
    ('told or knew', at('start'), 1),
    ('told → first evacuate', since('start', 'first_evacuate'), 2),
    ('told → last active', since('start', 'last_active'), 1),
    ('kill → first evacuate', at('first_evacuate'), 1),
    ('kill → first active', at('first_active'), 1),
    ('kill → last active', at('last_active'), 1),
    ('Nova calls a server', lambda run: run['nova_calls'] / run['servers'], 1),
    ('tokens', at('token_requests'), 0),
    ('at once', at('under_way_peak'), 0),
    ('left behind', at('left_behind'), 0),
    ('busy before', at('busy_before'), 2),
)


def table(doc):
    rows = [['servers', 'who', 'runs'] + [column[0] for column in COLUMNS]]
    for (count, name), runs in groups(doc).items():
        rows.append([str(count), NAMES[name], str(len(runs))] + [
            figure(middle(runs, value), digits) for _, value, digits in COLUMNS])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ['-' * width for width in widths])
    return '\n'.join('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows)


def targets(doc):
    """(what, measured, holds) of each target that these runs can tell. What one of our own runs never came to took for ever."""
    found, runs = [], groups(doc)

    def of_ours(count, value):
        ours = runs.get((count, 'rekindle'))
        return None if not ours else median([math.inf if value(run) is None else value(run) for run in ours])

    def target(what, value, holds, digits=2):
        if value is not None:
            found.append((what, figure(value, digits), holds(value)))

    def ratio(count, other, measure_other, measure_ours):
        theirs, ours = middle(runs.get((count, other)), measure_other), of_ours(count, measure_ours)
        return None if theirs is None or not ours else theirs / ours

    first, last, told = at('first_evacuate'), at('last_active'), since('start', 'last_active')
    for count in sorted({count for count, _ in runs}):
        of = ' (%d servers)' % count
        target('verdict → first evacuate ≤ 2.5 s' + of, of_ours(count, since('start', 'first_evacuate')), lambda v: v <= 2.5)
        target('committed proof → first evacuate ≤ 0.5 s' + of, of_ours(count, since('proof', 'first_evacuate')),
               lambda v: v <= 0.5)
        target("≥ 40 × faster than Masakari's defaults from SIGKILL to the first evacuate" + of,
               ratio(count, 'masakari-default', first, first), lambda v: v >= 40, 1)
        if count == 6:
            target("≥ 15 × faster than Masakari's defaults from SIGKILL to the last" + of,
                   ratio(count, 'masakari-default', last, last), lambda v: v >= 15, 1)
        target('≥ 5 × faster than tuned Masakari from SIGKILL to the last' + of,
               ratio(count, 'masakari-tuned', last, last), lambda v: v >= 5)
        target('≥ 1.5 × faster than tuned Masakari where Nova knew, told → last' + of,
               ratio(count, 'masakari-tuned-known', told, told), lambda v: v >= 1.5)
        floor = ratio(count, 'by-hand', told, told)
        if count >= 50 and floor is not None:
            target('≤ 1.15 of the time by hand, verdict → last' + of, 1 / floor if floor else math.inf, lambda v: v <= 1.15)
        target('≤ 4 Nova calls a server' + of, of_ours(count, lambda run: run['nova_calls'] / run['servers']), lambda v: v <= 4)
        target('≤ 2 token requests' + of, of_ours(count, at('token_requests')), lambda v: v <= 2, 0)
    return found


def show(doc):
    """Prints the table and the targets; whether all are met."""
    print(table(doc))
    print()
    rows = targets(doc)
    for what, value, holds in rows:
        print('%-6s  %8s  %s' % ('met' if holds else 'MISSED', value, what))
    for failure in doc.get('failures', []):
        print('FAILED  ' + failure)
    return all(holds for _, _, holds in rows) and not doc.get('failures')


def write(doc, path):
    """The JSON, and the plot beside it."""
    doc['targets'] = [dict(zip(('target', 'measured', 'met'), row)) for row in targets(doc)]
    for name, text in ((path, json.dumps(doc, indent=1) + '\n'), (os.path.splitext(path)[0] + '.svg', plot(doc))):
        with open(name + '.new', 'w') as f:
            f.write(text)
        os.replace(name + '.new', name)


# --- the plot: how many servers run again, over a logarithmic time -------------------------------------------------
WIDTH, PANEL, LEFT, RIGHT, TOP, BOTTOM = 860, 250, 62, 16, 34, 44
FROM_SECONDS = 1.0


def plot(doc):
    """One panel for each number of servers; of several runs the one with the median end."""
    counts = sorted({run['servers'] for run in doc['runs']})[-4:]
    until = max([run['moved'][-1] for run in doc['runs'] if run['moved']], default=10.0) * 1.3
    names = [name for name in NAMES if any(run['contender'] == name for run in doc['runs'])]
    legend = 30 + 18 * len(names)
    height = legend + PANEL * len(counts) + 8
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" '
           'font-size="12" fill="#222">' % (WIDTH, height, WIDTH, height),
           '<rect width="100%" height="100%" fill="#fff"/>',
           '<text x="%d" y="20" font-size="14" font-weight="bold">Servers of a dead host that run again elsewhere</text>' % LEFT]
    for i, name in enumerate(names):
        y = 40 + 18 * i
        out.append('<path d="M%d %dh26" stroke="%s" stroke-width="2.5"/><text x="%d" y="%d">%s</text>' % (
            LEFT, y - 4, COLOURS[name], LEFT + 34, y, escape(NAMES[name])))
    for i, count in enumerate(counts):
        out += panel(doc, count, legend + PANEL * i, until)
    return '\n'.join(out + ['</svg>', ''])


def panel(doc, count, top, until):
    width, height, base = WIDTH - LEFT - RIGHT, PANEL - TOP - BOTTOM, top + PANEL - BOTTOM

    def x(seconds):
        return LEFT + width * math.log(max(seconds, FROM_SECONDS) / FROM_SECONDS) / math.log(until / FROM_SECONDS)

    def y(servers):
        return base - height * servers / count
    out = ['<text x="%d" y="%d" font-weight="bold">%d servers</text>' % (LEFT, top + TOP - 10, count)]
    for tick in [t * 10 ** e for e in range(4) for t in (1, 2, 5)]:
        if FROM_SECONDS <= tick <= until:
            out.append('<path d="M%.1f %.1fV%.1f" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>' % (
                x(tick), base, top + TOP, x(tick), base + 16, tick))
    for share in (0, 0.5, 1):
        out.append('<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%d</text>' % (
            LEFT, y(count * share), WIDTH - RIGHT, LEFT - 6, y(count * share) + 4, round(count * share)))
    out.append('<text x="%d" y="%d" text-anchor="middle">seconds since the SIGKILL (logarithmic)</text>' % (
        LEFT + width / 2, base + 33))
    for (servers, name), runs in groups(doc).items():
        runs = sorted((run for run in runs if servers == count and run['moved']), key=lambda run: run['moved'][-1])
        if runs:
            moved = runs[len(runs) // 2]['moved']
            steps = ''.join('H%.1fV%.1f' % (x(at), y(i)) for i, at in enumerate(moved, 1))
            out.append('<path d="M%.1f %.1f%s" fill="none" stroke="%s" stroke-width="2.5"/>' % (
                x(moved[0]), y(0), steps, COLOURS[name]))
    return out
