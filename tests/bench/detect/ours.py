"""A cluster of real daemons on such hosts: certificates, files, forming, and what it says of itself."""
import json
import os
import subprocess
import time

import lan

# Until so many daemons on a few cores lead, have heard each other and have read every BMC.
FORM_SECONDS = 180
ASK_SECONDS = 5
PORT = 7946
# Of 8 hosts and more; with fewer three, so that at 5 the victim need not vote.
VOTERS = 5
OPERATOR = 'bench'


def bmc_device(host, driver):
    more = 'cipher_suites = [3]' if driver == 'ipmi' else 'cipher_suite = 3'
    return '''[[fence_device]]
hosts = "%s"
driver = "%s"
address = "%s"
username = "%s"
password_file = "bmc.password"
%s
''' % (host.name, driver, host.bmc.address, lan.BMC_USER, more)


class Rekindle:
    name = 'rekindle'

    def __init__(self, net, binaries, driver='ipmi', voters=None):
        self.net, self.bin, self.driver = net, binaries, driver
        # A socket's path has at most 103 bytes.
        self.directory, self.sockets = net.directory / 'rekindle', lan.RUN / net.name
        self.voters = [host.name for host in net.hosts[:voters or (VOTERS if len(net.hosts) >= 8 else 3)]]
        self.teller = net.hosts[0]

    def files(self):
        self.directory.mkdir()
        self.sockets.mkdir(exist_ok=True)
        pki = self.directory / 'pki'
        self.command('pki', 'init', '--cluster', 'bench', '--dir', pki)
        for host in self.net.hosts:
            self.command('pki', 'issue', host.name, '--dir', pki, '--out', pki)
        self.command('pki', 'issue', '--role', 'operator', OPERATOR, '--dir', pki, '--out', pki)
        secret = self.directory / 'bmc.password'
        secret.write_text(lan.BMC_PASSWORD)
        secret.chmod(0o600)
        (self.directory / 'roster.toml').write_text(''.join('[[host]]\nhost = "%s"\n' % host.name for host in self.net.hosts))
        devices = ''.join(bmc_device(host, self.driver) for host in self.net.hosts)
        for host in self.net.hosts:
            (self.directory / ('%s.toml' % host.name)).write_text(self.configuration(host) + devices)

    def configuration(self, host):
        quoted = json.dumps
        return '''[member]
host = {host}
listen = "{address}:{port}"
state_dir = {state}
admin_socket = {socket}
system_uuid = "{uuid}"
[cluster]
name = "bench"
seeds = {seeds}
voters = {voters}
tls = {{ ca = "pki/ca.pem", cert = "pki/{{host}}.pem", key = "pki/{{host}}.key" }}
[libvirt]
uri = "off"
[log]
target = "stderr"
'''.format(host=quoted(host.name), address=host.address, port=PORT, state=quoted(str(self.directory / ('%s-state' % host.name))),
           socket=quoted(str(self.socket(host))), uuid=host.bmc.system_uuid, voters=quoted(self.voters),
           seeds=quoted(['%s:%d' % (other.address, PORT) for other in self.net.hosts[:VOTERS]]))

    def socket(self, host):
        return self.sockets / ('%s.sock' % host.name)

    def log(self, host):
        return self.directory / ('%s.log' % host.name)

    def command(self, *words, ok=True):
        pki = self.directory / 'pki'
        environment = dict(os.environ, REKINDLE_OPERATOR_CERT=str(pki / (OPERATOR + '.pem')),
                           REKINDLE_OPERATOR_KEY=str(pki / (OPERATOR + '.key')))
        done = subprocess.run([str(word) for word in (self.bin / 'rekindle',) + words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, env=environment)
        if ok and done.returncode:
            raise lan.Failure('rekindle %s: %s' % (' '.join(map(str, words)), done.stderr.decode(errors='replace').strip()))
        return done.returncode, done.stdout.decode(errors='replace')

    def ask(self, *words):
        """A question to the member that is asked; {} if it does not answer. `status` exits with 1 while an incident is open."""
        _code, said = self.command('--socket', self.socket(self.teller), *words, '--json', ok=False)
        try:
            return json.loads(said)
        except ValueError:
            return {}

    def order(self, *words):
        lan.until('rekindle ' + words[0], FORM_SECONDS, lambda: self.command(
            '--socket', self.socket(self.teller), *words, ok=False)[0] == 0, every=0.5)

    def boot(self, host):
        host.boot('exec %s --config %s >>%s 2>&1' % (
            self.bin / 'rekindled', self.directory / ('%s.toml' % host.name), self.log(host)))

    def form(self):
        """From nothing to a cluster that would fence; how many seconds that took."""
        began = time.monotonic()
        self.files()
        for host in self.net.hosts:
            self.boot(host)
        self.order('init', '--roster', self.directory / 'roster.toml', '--ca', self.directory / 'pki' / 'ca.pem')
        self.order('arm', '--reason', 'bench')
        lan.until('all to be alive, bound and protected: %s' % self.net.directory, FORM_SECONDS, self.ready, every=0.5)
        return time.monotonic() - began

    def ready(self):
        status = self.ask('status')
        lines = status.get('hosts', [])
        if len(lines) != len(self.net.hosts) or not status.get('leader') or status['unfenceable'] or not all(
                line['state'] == 'alive' and 'bound' in line['devices'] for line in lines):
            return False
        # Every guard is the same for all of them now but for those of the cluster: cold start, the leader's health.
        return self.ask('why', self.net.hosts[-1].name).get('protected', False)

    def leader(self):
        return self.ask('status').get('leader')

    def victim(self, kind):
        """The last host; for `leader` the one that leads. Who is asked about it is another that does not vote if possible."""
        leader = self.leader()
        others = [host for host in self.net.hosts if host.name != leader]
        victim = self.net.host(leader) if kind == 'leader' else others[-1]
        self.teller = next(host for host in self.net.hosts[::-1] if host not in (victim, self.net.host(leader)))
        return victim

    def incident(self, host):
        """The story of its latest incident, or None."""
        lines = self.ask('incident')
        lines = lines if isinstance(lines, list) else lines.get('incidents', [])
        lines = [line for line in lines if line['host'] == host]
        if not lines:
            return None
        story = self.ask('incident', str(lines[-1]['id']))
        return story.get('incident', story) or None

    def state(self, host):
        """What `status` says of it."""
        return next((line['state'] for line in self.ask('status').get('hosts', []) if line['host'] == host), None)

    def incidents(self):
        """Hosts about which a verdict was ever reached."""
        lines = self.ask('incident')
        return [line['host'] for line in (lines if isinstance(lines, list) else lines.get('incidents', []))]
