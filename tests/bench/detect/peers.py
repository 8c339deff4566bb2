"""The others on the same kind of hosts: Corosync with Pacemaker and fence_ipmilan, by its defaults and tuned as hard as it goes, and
serf, which only detects. What they say is read from their logs twenty times a second, what became of the power from the BMC.
"""
import os
import random
import re
import shutil
import time

import lan
import rounds

NAMES = ('corosync', 'corosync-tuned', 'serf')
TITLES = {'corosync': 'Corosync + Pacemaker', 'corosync-tuned': 'Corosync + Pacemaker, token 1000', 'serf': 'serf (detection only)'}
PROGRAMS = {'corosync': ('corosync', 'corosync-keygen', 'pacemakerd', 'cibadmin', 'crm_mon', 'fence_ipmilan'), 'serf': ('serf',)}
# A token of a second for any number of nodes; beyond that many it is not what anybody would dare.
TUNED = 'token: 1000\n token_coefficient: 0'
TUNED_HOSTS_MAX = 16
LOOK_SECONDS = 0.05
FORM_SECONDS = 120
LOST_SECONDS = 120
SETTLE_SECONDS = 4


def missing(name):
    return [program for program in PROGRAMS[name.split('-')[0]] if not shutil.which(program)]


def sizes(name, hosts):
    return [size for size in hosts if name != 'corosync-tuned' or size <= TUNED_HOSTS_MAX]


def measure(args, results, name, hosts):
    net = lan.Lan('p%d-%s' % (hosts, name), hosts, args.work / ('peer-%s-%d' % (name, hosts)), bmcs=name != 'serf')
    good = False
    try:
        peer = Serf(net) if name == 'serf' else Pacemaker(net, TUNED if name == 'corosync-tuned' else '')
        peer.form()
        time.sleep(SETTLE_SECONDS)
        for group, rows in peer.cost(args.peer_idle).items():
            results.add(rows, part='cost', who=group if name != 'corosync-tuned' else group + '-tuned', hosts=hosts)
        for kind in args.peer_faults.split(','):
            for _ in range(args.peer_repeat):
                time.sleep(random.uniform(0, 1))
                row = peer.round(kind)
                lan.say(rounds.summary('%s, %d hosts, %s' % (name, hosts, kind), row))
                results.add([row], part='faults', who=name, hosts=hosts, kind=kind)
        good = True
    finally:
        rounds.closed(net, args.keep or not good)


class Log:
    """What was added to a file since it was last marked."""

    def __init__(self, path):
        self.path, self.mark = path, 0

    def begin(self):
        self.mark = os.path.getsize(self.path) if self.path.exists() else 0

    def read(self):
        if not self.path.exists():
            return ''
        with open(self.path, errors='replace') as file:
            file.seek(self.mark)
            return file.read()


COROSYNC = '''totem {
 version: 2
 cluster_name: bench
 transport: knet
 crypto_cipher: aes256
 crypto_hash: sha256
 %s
}
logging {
 to_stderr: yes
 to_syslog: no
 timestamp: hires
}
quorum {
 provider: corosync_votequorum
}
nodelist {
%s}
'''
NODE = 'node {\n name: %s\n nodeid: %d\n ring0_addr: %s\n}\n'
# Directories that every node must have for itself, and nobody else's /run and /dev/shm.
BOOT = '''cd {d}
mount -t tmpfs run /run; mount -t tmpfs shm /dev/shm
mkdir -p libcs pcmk/cib pcmk/pengine pcmk/blackbox pcmk/cores log/pacemaker /run/crm /run/lock /run/corosync
chown -R hacluster:haclient pcmk log/pacemaker /run/crm; chmod 750 pcmk pcmk/*; chmod 777 log
mount --bind etc /etc/corosync; mount --bind libcs /var/lib/corosync; mount --bind pcmk /var/lib/pacemaker; mount --bind log /var/log
corosync -f 2>>corosync.log & sleep 0.7
PCMK_logfile=/var/log/pacemaker/p.log PCMK_logfacility=none pacemakerd -f >>pacemakerd.log 2>&1 &
exec sleep infinity'''
STONITH = '''<primitive id="f{n}" class="stonith" type="fence_ipmilan"><instance_attributes id="i{n}">
<nvpair id="a{n}" name="ip" value="{bmc}"/><nvpair id="b{n}" name="username" value="{user}"/>
<nvpair id="c{n}" name="password" value="{password}"/><nvpair id="d{n}" name="lanplus" value="1"/>
<nvpair id="e{n}" name="cipher" value="3"/><nvpair id="g{n}" name="pcmk_host_list" value="{host}"/>
</instance_attributes></primitive>'''
CIB = '''<configuration><crm_config><cluster_property_set id="cps"><nvpair id="p1" name="stonith-enabled" value="true"/>
<nvpair id="p2" name="stonith-action" value="off"/></cluster_property_set></crm_config><nodes/><resources>%s</resources>
<constraints/></configuration>'''


class Pacemaker:
    def __init__(self, net, totem):
        self.net, self.first, self.victim = net, net.hosts[0], net.hosts[-1]
        key, nodes = net.directory / 'authkey', ''.join(NODE % (host.name, host.number, host.address) for host in net.hosts)
        lan.run('corosync-keygen', '-k', str(key))
        for host in net.hosts:
            (host.directory / 'etc').mkdir()
            shutil.copy(key, host.directory / 'etc' / 'authkey')
            (host.directory / 'etc' / 'corosync.conf').write_text(COROSYNC % (totem, nodes))
            # Its daemons drop root, and must get to their own files.
            host.directory.chmod(0o755)

    def boot(self, host):
        shutil.rmtree(host.directory / 'libcs', ignore_errors=True)
        shutil.rmtree(host.directory / 'pcmk', ignore_errors=True)
        host.boot(BOOT.format(d=host.directory))

    def online(self):
        said = re.search(r'Online: \[(.*?)\]', self.first.inside('crm_mon', '-1'))
        return said is not None and len(said[1].split()) == len(self.net.hosts)

    def form(self):
        for host in self.net.hosts:
            self.boot(host)
        lan.until('Pacemaker to see all nodes: %s' % self.net.directory, FORM_SECONDS, self.online, every=0.5)
        cib = self.net.directory / 'cib.xml'
        cib.write_text(CIB % ''.join(STONITH.format(n=host.number, host=host.name, bmc=host.bmc.address, user=lan.BMC_USER,
                                                    password=lan.BMC_PASSWORD) for host in self.net.hosts))
        self.first.inside('cibadmin', '-R', '-o', 'configuration', '-x', str(cib), ok=True)

        def started():
            return self.first.inside('crm_mon', '-1').count('fence_ipmilan):\t Started') == len(self.net.hosts)
        lan.until('its fence devices: %s' % self.net.directory, FORM_SECONDS, started, every=0.5)

    def round(self, kind):
        corosync = Log(self.first.directory / 'corosync.log')
        pacemaker = Log(self.first.directory / 'log' / 'pacemaker' / 'p.log')
        for log in (corosync, pacemaker):
            log.begin()
        wanted = (('suspected', corosync, r'A processor failed'),
                  ('verdict', corosync, r'Sync left\[\d+\]: .*\b%d\b' % self.victim.number),
                  ('fenced', pacemaker, r"Operation 'off' .*%s.*(OK|returned 0)" % self.victim.name))
        row, began = {}, self.victim.fault(kind)

        def fenced():
            for name, log, words in wanted:
                if name not in row and re.search(words, log.read()):
                    row[name] = time.time() - began
            return 'fenced' in row
        lan.until('the fence of %s: %s' % (self.victim.name, self.net.directory), LOST_SECONDS, fenced, every=LOOK_SECONDS)
        off = [at - began for at, what in self.victim.bmc.calls(began) if what == 'off']
        row.update(off=off[0] if off else None, wrong=[
            name for name in rounds.switched_off(self.net, began) if name != self.victim.name])
        self.victim.off()
        self.boot(self.victim)
        lan.until('%s to be back: %s' % (self.victim.name, self.net.directory), FORM_SECONDS, self.online, every=0.5)
        time.sleep(SETTLE_SECONDS)
        return row

    def cost(self, seconds):
        groups = [[pid for pid in host.pids('corosync')] for host in self.net.hosts]
        rest = [[pid for pid in host.pids() if lan.program(pid).startswith('pacemaker')] for host in self.net.hosts]
        rows = rounds.spent(groups + rest, seconds)
        return {'corosync': rows[:len(groups)], 'pacemaker': rows[len(groups):]}


class Serf:
    def __init__(self, net):
        self.net, self.first, self.victim = net, net.hosts[0], net.hosts[-1]
        self.logs = [Log(host.directory / 'serf.log') for host in net.hosts[:-1]]

    def boot(self, host):
        host.boot('exec serf agent -node=%s -bind=%s:7946 -rpc-addr=127.0.0.1:7373 -retry-join=%s -retry-interval=1s '
                  '-log-level=info >>%s 2>&1' % (host.name, host.address, self.first.address, host.directory / 'serf.log'))

    def alive(self):
        return self.first.inside('serf', 'members').count('alive') == len(self.net.hosts)

    def form(self):
        for host in self.net.hosts:
            self.boot(host)
        lan.until('serf to see all members: %s' % self.net.directory, FORM_SECONDS, self.alive, every=0.5)

    def round(self, kind):
        words = 'EventMemberFailed: %s ' % self.victim.name
        for log in self.logs:
            log.begin()
        row, began = {}, self.victim.fault(kind)

        def seen():
            count = sum(words in log.read() for log in self.logs)
            if count:
                row.setdefault('verdict', time.time() - began)
            return count == len(self.logs)
        lan.until('serf to see it: %s' % self.net.directory, LOST_SECONDS, seen, every=LOOK_SECONDS)
        row.update(all_told=time.time() - began, wrong=sorted({failed for log in self.logs for failed in re.findall(
            r'EventMemberFailed: (\S+)', log.read()) if failed != self.victim.name}))
        self.victim.off()
        self.boot(self.victim)
        lan.until('%s to be back' % self.victim.name, FORM_SECONDS, self.alive, every=0.5)
        time.sleep(SETTLE_SECONDS)
        return row

    def cost(self, seconds):
        return {'serf': rounds.spent([host.pids('serf') for host in self.net.hosts], seconds)}
