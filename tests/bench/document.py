"""What the two benches of detection do alike: their documents, tables and results."""
import json
import os
import platform


def machine():
    models = [line.split(':', 1)[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')]
    return '%d × %s' % (os.cpu_count(), models[0] if models else platform.machine())


def merged(old, new):
    """The new rows, and the old ones that were not measured again."""
    def key(row):
        return json.dumps({name: value for name, value in row.items() if name != 'runs'}, sort_keys=True)
    known = {key(row) for row in new}
    return [row for row in old if key(row) not in known] + new


def lines(rows):
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ['-' * width for width in widths])
    return '\n'.join('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows)


def show(doc, tables, targets):
    """Prints tables and targets; whether all are met and nothing failed. `absent`: who could not be measured, and why."""
    for title, rows in tables:
        if len(rows) > 1:
            print(title + '\n\n' + lines(rows) + '\n')
    for what, value, holds in targets:
        print('%-6s  %10s  %s' % ('met' if holds else 'MISSED', value, what))
    for name, why in sorted(doc.get('absent', {}).items()):
        print('absent  %s: %s' % (name, why))
    for failure in doc['failures']:
        print('FAILED  ' + failure)
    return all(holds for _, _, holds in targets) and not doc['failures']


def write(doc, path, targets, plot):
    """The document with its targets, and the plot beside it, if there is one."""
    doc['targets'] = [dict(zip(('target', 'measured', 'met'), row)) for row in targets]
    for name, text in ((str(path), json.dumps(doc) + '\n'), (os.path.splitext(path)[0] + '.svg', plot)):
        if text:
            with open(name + '.new', 'w') as file:
                file.write(text)
            os.replace(name + '.new', name)
