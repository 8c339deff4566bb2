#!/usr/bin/python3
"""The judgement of the benches' targets: what is just good enough is met, what is a little worse is MISSED, and so is
what never happened. Made-up measurements; nothing is run."""
import contextlib
import copy
import io
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / 'detect')]

import detection  # noqa: E402
import document  # noqa: E402
import figures  # noqa: E402
import report  # noqa: E402


def lasting(name, good, count, bad=()):
    """That many runs with the value, then one for each of the others. None: it never happened."""
    return [{'seed': seed, 'false_verdicts': 0, name: value} for seed, value in enumerate([good] * count + list(bad))]


def virtual():
    """A document of detection.py that meets each target by nothing."""
    told = [dict(run, first_down=4000 if run['seed'] < 50 else None) for run in lasting('all_told', 6000, 99, [None])]
    verdicts = [dict(run, led=led) for led in (False, True) for run in lasting('verdict', 3500, 99, [None])]

    def deaths(hosts, runs):
        return {'part': 'deaths', 'who': 'rekindle', 'hosts': hosts, 'loss': 0, 'dead': 1, 'runs': runs}

    def cost(loss, datagrams):
        return {'part': 'cost', 'who': 'rekindle', 'hosts': 5, 'loss': loss,
                'runs': [{'seconds': 100, 'sent': {'datagrams': datagrams}}]}

    def slow(who, fp, healthy, datagrams):
        return {'part': 'slow', 'who': who, 'slow': 4, 'runs': [{'false_downs': fp, 'at_healthy': healthy, 'sent': {
            'datagrams': datagrams, 'bytes': 0, 'messages': 0}}]}
    return {'failures': [], 'rows': [
        deaths(128, told), deaths(5, verdicts), deaths(2000, lasting('all_told', 9000, 99, [None])),
        {'part': 'power', 'who': 'rekindle', 'hosts': 128, 'loss': 0, 'runs': lasting('proof', 3200, 50, [None] * 50)},
        cost(0, 2500), cost(5, 5000),
        {'part': 'false', 'who': 'rekindle', 'hosts': 16, 'loss': 1, 'runs': [{'seconds': 86400, 'false_verdicts': 0}]},
        slow('stock', 10000, 10000, 10000), slow('rekindle', 153, 189, 11100)]}


# What is made worse (the place of the row, of its run, the name, the value), and which targets are missed then.
VIRTUAL = (
    (((0, 98, 'all_told', 6001),), ['all told, p99 ≤ 6 s']),
    (((0, 98, 'all_told', None),), ['all told, p99 ≤ 6 s']),
    (((0, 49, 'first_down', 4001),), ['first Down, median ≤ 4 s']),
    (((1, 98, 'verdict', 3501),), ['verdict, p99 ≤ 3.5 s, the leader lives', 'verdict, p99 ≤ 3.5 s, whoever dies']),
    (((1, 198, 'verdict', None),), ['verdict, p99 ≤ 3.5 s, whoever dies']),
    (((2, 98, 'all_told', 9001),), ['all told, p99 ≤ 9 s']),
    (((3, 49, 'proof', 3201),), ['power off under a living BMC: proof in hand, median ≤ 3.2 s']),
    (((3, 49, 'proof', None),), ['power off under a living BMC: proof in hand, median ≤ 3.2 s']),
    (((4, 0, 'sent', {'datagrams': 2501}),), ['≤ 5 datagrams a second, member and path at 0 % loss']),
    (((5, 0, 'sent', {'datagrams': 5001}),), ['≤ 10 datagrams a second, member and path at 5 % loss']),
    (((6, 0, 'false_verdicts', 1),), ['no false verdict in 24 h']),
    (((8, 0, 'false_downs', 154),), ['slow members: healthy ones called down ≤ 1.53 % of stock']),
    (((8, 0, 'at_healthy', 190),), ['the same at healthy members ≤ 1.89 %']),
    (((8, 0, 'sent', {'datagrams': 11101, 'bytes': 0, 'messages': 0}),), ['datagrams ≤ 111 % of stock']),
    (((0, 3, 'false_verdicts', 1),), ['no survivor of a death is condemned']),
    (((3, 3, 'false_verdicts', 1),), ['no survivor of a death is condemned']),
)


def real():
    """The same of real.py."""
    def fault(who, hosts, *fenced):
        return {'part': 'faults', 'who': who, 'hosts': hosts, 'kind': 'crash', 'runs': [
            {'fenced': value, 'wrong': []} for value in fenced]}

    def cost(libvirt, rss):
        return {'part': 'cost', 'who': 'rekindle', 'hosts': 5, 'libvirt': libvirt, 'runs': [
            {'role': 'member', 'rss': rss, 'anonymous': 8.0, 'cpu_percent': 0.2},
            {'role': 'voter', 'rss': rss, 'anonymous': 8.0, 'cpu_percent': 0.5}]}
    return {'failures': [], 'absent': {}, 'rows': [
        fault('rekindle', 5, 4.0, 4.0, None), fault('corosync-tuned', 5, 4.25, 4.25, 4.25),
        fault('rekindle', 16, 6.0, 6.0, None), fault('rekindle', 32, 6.0, 6.0, None),
        {'part': 'daemons', 'who': 'rekindle', 'hosts': 5, 'kind': 'killed', 'runs': [{'alarm': 3.0, 'wrong': [], 'verdicts': []}]},
        {'part': 'loss', 'who': 'rekindle', 'hosts': 5, 'loss': 30, 'seconds': 40, 'runs': [{'wrong': [], 'verdicts': [], 'seen': []}]},
        cost(True, 32.0), cost(False, 16.0)]}


FLAT = 'hosts: fence confirmed within 1.5 × of 5 hosts'
BEFORE = '5 hosts: fence confirmed before Corosync tuned hard has it'
REAL = (
    (((0, 0, 'fenced', 4.25), (0, 1, 'fenced', 4.25)), [BEFORE]),
    (((0, 0, 'fenced', None),), [BEFORE]),
    (((2, 0, 'fenced', 6.01), (2, 1, 'fenced', 6.01)), ['16 ' + FLAT]),
    (((2, 0, 'fenced', None),), ['16 ' + FLAT]),
    (((3, 0, 'fenced', 6.01), (3, 1, 'fenced', 6.01)), ['32 ' + FLAT]),
    (((3, 1, 'wrong', ['cmp-2']),), ['nobody but the dead host is fenced']),
    (((4, 0, 'wrong', ['cmp-2']),), ['a dead daemon on a living host: nobody is fenced']),
    (((4, 0, 'verdicts', ['cmp-2']),), ['a dead daemon on a living host: nobody is fenced']),
    (((4, 0, 'alarm', None),), ['and it is alarmed each time']),
    (((5, 0, 'wrong', ['cmp-2']),), ['30 % lost: no verdict, nobody fenced']),
    (((5, 0, 'verdicts', ['cmp-2']),), ['30 % lost: no verdict, nobody fenced']),
    (((6, 0, 'rss', 32.1),), ['resident ≤ 32 MiB']),
    (((7, 1, 'rss', 16.1),), ['resident ≤ 16 MiB']),
    (((6, 1, 'anonymous', 8.1),), ['anonymous ≤ 8 MiB']),
    (((6, 0, 'cpu_percent', 0.21),), ['a member takes ≤ 0.2 % of a core, median']),
    (((6, 1, 'cpu_percent', 0.51),), ['a voter takes ≤ 0.5 % of a core, median']),
)


def recovery():
    """The same of recovery.py."""
    def run(who, servers, start, proof, first, last):
        return {'contender': who, 'servers': servers, 'start': start, 'proof': proof, 'first_evacuate': first, 'last_active': last,
                'nova_calls': 4 * servers, 'token_requests': 2}
    return {'rows': [
        run('rekindle', 6, 2.0, 4.0, 4.5, 20.0), run('masakari-default', 6, 0.0, None, 180.0, 300.0),
        run('masakari-tuned', 6, 0.0, None, 90.0, 100.0), run('masakari-tuned-known', 6, 20.0, None, 30.0, 47.0),
        run('rekindle', 50, 2.0, 4.0, 4.5, 24.9), run('by-hand', 50, 0.0, None, 1.0, 20.0)]}


RECOVERY = (
    ((0, 'first_evacuate', 4.51), ['verdict → first evacuate ≤ 2.5 s (6', 'committed proof → first evacuate ≤ 0.5 s (6', "≥ 40 ×"]),
    ((4, 'first_evacuate', None), ['verdict → first evacuate ≤ 2.5 s (50', 'committed proof → first evacuate ≤ 0.5 s (50']),
    ((4, 'proof', 3.9), ['committed proof → first evacuate ≤ 0.5 s (50']),
    ((0, 'last_active', 20.1), ["≥ 15 ×", '≥ 5 ×', '≥ 1.5 ×']),
    ((0, 'last_active', None), ["≥ 15 ×", '≥ 5 ×', '≥ 1.5 ×']),
    ((4, 'last_active', 25.1), ['≤ 1.15']),
    ((4, 'last_active', None), ['≤ 1.15']),
    ((4, 'nova_calls', 201), ['≤ 4 Nova calls']),
    ((4, 'token_requests', 3), ['≤ 2 token']),
)


class Targets(unittest.TestCase):
    def judged(self, targets, best, cases, count):
        doc = best()
        self.assertEqual([what for what, _, met in targets(doc) if not met], [])
        self.assertEqual(len(targets(doc)), count, 'a target is not judged: ' + str([what for what, _, _ in targets(doc)]))
        for changes, expected in cases:
            doc = copy.deepcopy(best())
            for row, run, name, value in changes:
                doc['rows'][row]['runs'][run][name] = value
            missed = [what for what, _, met in targets(doc) if not met]
            self.assertEqual(len(missed), len(expected), (changes, missed))
            for what, begins in zip(missed, expected):
                self.assertTrue(what.startswith(begins), (changes, what))

    def test_of_virtual_time(self):
        self.judged(detection.targets, virtual, VIRTUAL, 13)

    def test_of_real_daemons(self):
        self.judged(figures.targets, real, REAL, 15)

    def test_of_recovery(self):
        def targets(doc):
            return report.targets({'runs': doc['rows']})
        self.assertEqual([what for what, _, met in targets(recovery()) if not met], [])
        self.assertEqual(len(targets(recovery())), 13)
        for (row, name, value), expected in RECOVERY:
            doc = recovery()
            doc['rows'][row][name] = value
            missed = [what for what, _, met in targets(doc) if not met]
            self.assertEqual(len(missed), len(expected), (row, name, value, missed))
            for what, begins in zip(missed, expected):
                self.assertTrue(what.startswith(begins), (name, value, what))

    def test_what_is_missed_is_said(self):
        rows = [('a', '1', True), ('b', '2', False)]
        for targets, failures, said, met in (
                (rows[:1], [], ['met'], True), (rows, [], ['met', 'MISSED'], False), (rows[:1], ['x'], ['met', 'FAILED'], False)):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                self.assertEqual(document.show({'failures': failures}, [], targets), met)
            self.assertEqual([line.split()[0] for line in out.getvalue().splitlines()], said)


if __name__ == '__main__':
    ran = unittest.TextTestRunner(stream=sys.stdout).run(unittest.defaultTestLoader.loadTestsFromTestCase(Targets))
    bad = len(ran.failures) + len(ran.errors)
    print('%d passed, %d failed' % (ran.testsRun - bad, bad))
    sys.exit(1 if bad else 0)
