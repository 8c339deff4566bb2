"""Prints what there is, as JSON: `describe.py` the cloud, `describe.py HOST` one host. Settings come from lib.sh."""
import json
import os
import sys
from pathlib import Path

from guests import uri

CLOUD = Path(os.environ['CLOUD_DIR'])
HOSTS = os.environ['CLOUD_HOSTS'].split()


def text(path):
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def alive(pidfile):
    """The pid if the process of this file runs; the rules are those of `alive` in lib.sh."""
    try:
        pid, start = pidfile.read_text().split()
        fields = Path('/proc', pid, 'stat').read_text().rpartition(')')[2].split()
    except (OSError, ValueError):
        return None
    return int(pid) if fields[0] not in 'ZX' and fields[19] == start else None


def processes(directory):
    return {f.stem: alive(f) for f in sorted(directory.glob('*.pid'))}


def power_log(host_dir):
    lines = (text(host_dir / 'power.log') or '').splitlines()
    return [{'ns': int(ns), 'event': event} for ns, _, event in (line.partition(' ') for line in lines)]


def host(name):
    directory = CLOUD / 'hosts' / name
    number = name[len(name.rstrip('0123456789')):]
    return {
        'host': name,
        'directory': str(directory),
        'power': text(directory / 'power'),
        'power_log': power_log(directory),
        'processes': processes(directory / 'pids'),
        'system_uuid': text(directory / 'system_uuid'),
        'libvirt_uri': uri(str(directory)),
        'knobs': str(directory / 'knobs'),
        'bmc': {
            'address': '%s.%s' % (os.environ['BMC_NET'], number),
            'port': int(os.environ['BMC_PORT']),
            'username': 'rekindle',
            'password_file': str(directory / 'bmc' / 'password'),
            'cipher_suite': 3,
            'guid_order': text(directory / 'bmc' / 'guid_order'),
            'pid': alive(CLOUD / 'run' / ('bmc-%s.pid' % name)),
        },
    }


def cloud():
    return {
        'directory': str(CLOUD),
        'admin': {'clouds_file': str(CLOUD / 'clouds.yaml'), 'cloud': 'admin'},
        'rekindle': {'clouds_file': str(CLOUD / 'rekindle-clouds.yaml'), 'cloud': 'rekindle'},
        'auth_url': 'http://127.0.0.1:%s/v3' % os.environ['PORT_BASE'],
        'nova': '127.0.0.1:%d' % (int(os.environ['PORT_BASE']) + 774),
        'seconds': json.loads(text(CLOUD / 'run' / 'stages.json') or '{}'),
        'processes': processes(CLOUD / 'run'),
        'hosts': [host(h) for h in HOSTS],
    }


def main():
    if len(sys.argv) > 1 and sys.argv[1] not in HOSTS:
        sys.exit('cloud: %s is none of %s' % (sys.argv[1], HOSTS))
    print(json.dumps(host(sys.argv[1]) if len(sys.argv) > 1 else cloud(), indent=2))


if __name__ == '__main__':
    main()
