"""Who recovers the dead host's servers. Each gets ready before the death, and then does what it does by itself.

`recover` is called once the victim is dead. It returns moments in unix microseconds: `start` (when this contender was told,
or knew: verdict, notification, a person's decision), perhaps `proof`, and `finished` (when it says itself that it is done).
"""
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from rig import REPO, now_us, say

# Far beyond what any of them needs for 200 servers.
GIVE_UP_SECONDS = 3000
SETTLE_SECONDS = 120
GOSSIP = '127.0.84.%d:7946'
# Of them the victim is none: the death of a leader costs an election more.
VOTERS = 5


class Rekindle:
    agent = 'rekindle/'
    token_agent = agent

    def __init__(self, rig, at_once=None, binaries='release'):
        self.rig, self.at_once, self.daemons = rig, at_once, {}
        self.bin = REPO / 'target' / binaries
        self.directory = rig.directory / 'rekindle'
        self.hosts = [host['host'] for host in rig.status['hosts']]

    def path(self, name):
        return str(self.directory / name)

    def command(self, *words, ok=True):
        done = subprocess.run([self.bin / 'rekindle', *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, env=dict(
                                  os.environ, REKINDLE_OPERATOR_CERT=self.path('tls/bench.pem'),
                                  REKINDLE_OPERATOR_KEY=self.path('tls/bench.key')))
        if ok and done.returncode:
            raise RuntimeError('rekindle %s: %s' % (' '.join(words), done.stdout.decode(errors='replace')))
        return done.returncode, done.stdout.decode(errors='replace')

    def ask(self, *words):
        """A question to a member that lives; `status` exits 1 while an incident is open."""
        _code, said = self.command('--socket', self.path(self.hosts[-1] + '.sock'), *words, '--json', ok=False)
        try:
            return json.loads(said)
        except ValueError:
            return {}

    def order(self, *words):
        self.rig.client.until('rekindle ' + words[0], SETTLE_SECONDS, lambda: self.command(
            '--socket', self.path(self.hosts[-1] + '.sock'), *words, ok=False)[0] == 0)

    def prepare(self, ids):
        subprocess.run(['rm', '-rf', self.directory], check=True)
        self.directory.mkdir()
        pki, tls = self.path('pki'), self.path('tls')
        self.command('pki', 'init', '--cluster', 'bench', '--dir', pki)
        for host in self.hosts:
            self.command('pki', 'issue', host, '--dir', pki, '--out', tls)
        self.command('pki', 'issue', '--role', 'operator', 'bench', '--dir', pki, '--out', tls)
        for number, host in enumerate(self.rig.status['hosts'], 1):
            (self.directory / (host['host'] + '.toml')).write_text(self.configuration(number, host))
            with open(self.path(host['host'] + '.log'), 'wb') as log:
                self.daemons[host['host']] = subprocess.Popen(
                    [self.bin / 'rekindled', '--config', self.path(host['host'] + '.toml')],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        victim = self.rig.victim
        self.rig.verb('host', 'adopt', victim, 'rekindled', str(self.daemons[victim].pid))
        (self.directory / 'roster.toml').write_text(''.join('[[host]]\nhost = "%s"\n' % host for host in self.hosts))
        self.order('init', '--roster', self.path('roster.toml'), '--ca', self.path('pki/ca.pem'))
        self.order('arm', '--reason', 'bench')

        def ready():
            status = self.ask('status')
            lines = [line for line in status.get('hosts', []) if line['host'] == victim]
            # A leader's first reading of Placement comes fifteen seconds after its election: a daemon that has run for days has
            # long made it.
            return (lines and lines[0].get('guests') == len(ids) and status.get('capacity')
                    and self.ask('why', victim).get('protected'))
        try:
            self.rig.client.until('%s protected' % victim, SETTLE_SECONDS, ready)
        except self.rig.client.Failure as failure:
            # Which of its conditions did not hold is the reader's first question.
            raise self.rig.client.Failure('%s; status: %s; why: %s' % (
                failure, json.dumps(self.ask('status').get('hosts')), json.dumps(self.ask('why', victim)))) from failure

    def configuration(self, number, host):
        quoted = json.dumps
        voters = [name for name in self.hosts if name != self.rig.victim][:VOTERS if len(self.hosts) > VOTERS else 3]
        at_once = '' if self.at_once is None else 'evacuations_at_once = %d\n' % self.at_once
        text = '''[member]
host = {host}
listen = "{listen}"
state_dir = {state}
admin_socket = {socket}
system_uuid = {uuid}
[cluster]
name = "bench"
seeds = {seeds}
voters = {voters}
tls = {{ ca = {ca}, cert = {cert}, key = {key} }}
[recovery]
local_disk = "rebuild"
{at_once}[nova]
cloud = "rekindle"
clouds_file = {clouds}
[libvirt]
uri = {uri}
[log]
target = "stderr"
'''.format(
            host=quoted(host['host']), listen=GOSSIP % number, state=quoted(self.path(host['host'] + '-state')),
            socket=quoted(self.path(host['host'] + '.sock')), uuid=quoted(host['system_uuid']),
            seeds=quoted([GOSSIP % n for n in range(1, len(self.hosts) + 1)]), voters=quoted(voters),
            ca=quoted(self.path('pki/ca.pem')), cert=quoted(self.path('tls/%s.pem' % host['host'])),
            key=quoted(self.path('tls/%s.key' % host['host'])), at_once=at_once,
            clouds=quoted(self.rig.status['rekindle']['clouds_file']), uri=quoted(host['libvirt_uri']))
        for other in self.rig.status['hosts']:
            bmc = other['bmc']
            text += ('[[fence_device]]\nhosts = %s\nlevel = 1\ndriver = "ipmi-tool"\naddress = "%s:%d"\nusername = %s\n'
                     'password_file = %s\ncipher_suite = %d\n') % (
                quoted(other['host']), bmc['address'], bmc['port'], quoted(bmc['username']),
                quoted(bmc['password_file']), bmc['cipher_suite'])
        return text

    def recover(self, _watcher, _ids):
        def recovered():
            lines = self.ask('incident')
            lines = lines if isinstance(lines, list) else lines.get('incidents', [])
            return [line for line in lines if line['host'] == self.rig.victim and line['phase'] == 'recovered']
        line = self.rig.client.until('the recovery', GIVE_UP_SECONDS, recovered)[0]
        story = self.ask('incident', str(line['id']))
        story = story.get('incident', story)
        (self.rig.directory / 'last-incident.json').write_text(json.dumps(story, indent=1))
        first = {}
        for event in story['story']:
            first.setdefault(event['phase'], event['at'] * 1000)
        return {'suspect': first.get('suspect'), 'start': first['unclean'], 'proof': first['fenced'],
                'finished': first['recovered']}

    def leave(self):
        for daemon in self.daemons.values():
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGKILL)
            daemon.wait()
        self.daemons = {}


class ByHand:
    """The floor: force-down, and evacuate calls, so many servers under way at a time; nothing else."""
    agent = 'by-hand'
    token_agent = None

    def __init__(self, rig, at_once):
        self.rig, self.at_once = rig, at_once

    def prepare(self, _ids):
        self.cloud = self.rig.client.Cloud()

    def call(self, method, path, body=None):
        return self.cloud.call(method, path, body, headers={'User-Agent': self.agent}).body

    def recover(self, watcher, ids):
        start = now_us()
        service = self.call('GET', '/os-services?binary=nova-compute&host=' + self.rig.victim)['services'][0]
        self.call('PUT', '/os-services/' + service['id'], {'forced_down': True})

        def move(server):
            self.call('POST', '/servers/%s/action' % server, {'evacuate': {}})
            watcher.wait_for([server], GIVE_UP_SECONDS)
        with ThreadPoolExecutor(self.at_once) as pool:
            list(pool.map(move, ids))
        return {'start': start, 'finished': now_us()}

    def leave(self):
        pass


class Masakari:
    """Its API and engine as released; somebody else has found the host dead, fenced it, and notifies in no time."""
    agent = None
    token_agent = 'masakari-engine'

    def __init__(self, rig, mode, threads, nova_knows=False):
        self.rig, self.mode, self.threads, self.nova_knows = rig, mode, threads, nova_knows
        self.url = 'http://127.0.0.1:%d/v1' % (int(os.environ['PORT_BASE']) + 868)

    def prepare(self, _ids):
        self.user()
        self.rig.masakari('start', self.mode, str(self.threads))
        self.cloud = self.rig.client.Cloud()
        segment = self.call('POST', '/segments', {'segment': {
            'name': 'all', 'recovery_method': 'auto', 'service_type': 'COMPUTE'}})['segment']
        for host in os.environ['CLOUD_HOSTS'].split():
            self.call('POST', '/segments/%s/hosts' % segment['uuid'], {'host': {
                'name': host, 'type': 'COMPUTE', 'control_attributes': 'SSH'}})

    def call(self, method, path, body=None):
        # 1.0: from 1.1 on, a look at a notification is a call to the engine, and waits for it.
        answer = self.rig.client.http(method, self.url + path, body, {
            'X-Auth-Token': self.cloud.token, 'OpenStack-API-Version': 'instance-ha 1.0'})
        if answer.code >= 400:
            raise self.rig.client.Failure('Masakari: %s %s: %d %s' % (method, path, answer.code, answer.body))
        return answer.body

    def user(self):
        """Its user in Keystone."""
        def identity(method, path, body=None):
            return cloud.call(method, path, body, 'identity').body
        cloud = self.rig.client.Cloud()
        users = identity('GET', '/users?name=masakari')['users']
        password = (self.rig.directory / 'etc' / 'admin-password').read_text()
        uid = users[0]['id'] if users else identity('POST', '/users', {'user': {
            'name': 'masakari', 'password': password, 'domain_id': 'default'}})['user']['id']
        project = identity('GET', '/projects?name=service')['projects'][0]['id']
        for role in identity('GET', '/roles')['roles']:
            if role['name'] in ('admin', 'service'):
                identity('PUT', '/projects/%s/users/%s/roles/%s' % (project, uid, role['id']))

    def recover(self, _watcher, _ids):
        if self.nova_knows:
            self.rig.client.until('Nova to see the host down', SETTLE_SECONDS,
                                  lambda: self.cloud.service(self.rig.victim)['state'] == 'down')
        start = now_us()
        note = self.call('POST', '/notifications', {'notification': {
            'type': 'COMPUTE_HOST', 'hostname': self.rig.victim,
            'generated_time': time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime()),
            'payload': {'event': 'STOPPED', 'cluster_status': 'OFFLINE', 'host_status': 'NORMAL'}}})['notification']

        def over():
            status = self.call('GET', '/notifications/' + note['notification_uuid'])['notification']['status']
            return status if status in ('finished', 'failed', 'ignored', 'error') else None
        status = self.rig.client.until('the notification to end', GIVE_UP_SECONDS, over)
        if status != 'finished':
            say('Masakari says: %s' % status)
        return {'start': start, 'finished': now_us(), 'said': status}

    def leave(self):
        self.rig.masakari('stop')
