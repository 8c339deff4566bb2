"""The tests' own view of the cloud: raw HTTP as its administrator, standard library only, JSON on stdout.

Called by cloud.sh, which lists the verbs and exports the settings. An error is {"error": ...} on stdout and exit 1.
"""
import argparse
import concurrent.futures
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from describe import processes

CLOUD = Path(os.environ['CLOUD_DIR'])
KEYSTONE = 'http://127.0.0.1:%s/v3' % os.environ['PORT_BASE']
# The last microversion in which an evacuated server is started at its destination (2.95 leaves it stopped).
MICROVERSION = '2.94'
READY_SECONDS = 300
# More at once only wait for each other in nova-conductor.
PREPARED_AT_ONCE = 6
FLAVORS = {'vtpm': {'hw:tpm_version': '2.0', 'hw:tpm_model': 'tpm-tis'}}
# Nova builds one request's servers together; more of them in one request come near its RPC time-out.
BATCH = 50


class Failure(Exception):
    """What the caller is told; never a traceback."""


class Hopeless(Exception):
    """The same, and waiting longer cannot help."""


class Answer:
    def __init__(self, code, raw, headers):
        self.code, self.headers = code, headers
        try:
            self.body = json.loads(raw) if raw else None
        except ValueError:
            self.body = raw.decode(errors='replace')


def http(method, url, body=None, headers=None, raw=None):
    """One request, no proxies, no retries. An HTTP error is an answer; no connection raises OSError."""
    headers = dict(headers or {})
    data = raw
    if body is not None:
        data = json.dumps(body).encode()
        headers['Content-Type'] = 'application/json'
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as r:
            return Answer(r.status, r.read(), r.headers)
    except urllib.error.HTTPError as e:
        return Answer(e.code, e.read(), e.headers)


class Cloud:
    def __init__(self, user='admin'):
        password = (CLOUD / 'etc' / 'admin-password').read_text()
        r = http('POST', KEYSTONE + '/auth/tokens', {'auth': {
            'identity': {'methods': ['password'], 'password': {
                'user': {'name': user, 'domain': {'name': 'Default'}, 'password': password}}},
            'scope': {'project': {'name': 'admin', 'domain': {'name': 'Default'}}}}})
        if r.code != 201:
            raise Failure('Keystone refused %s: %d %s' % (user, r.code, r.body))
        self.token, self.user_id = r.headers['X-Subject-Token'], r.body['token']['user']['id']
        self.urls = {s['type']: e['url'] for s in r.body['token']['catalog'] for e in s['endpoints']
                     if e['interface'] == 'public'}
        self.urls['identity'] = KEYSTONE

    def call(self, method, path, body=None, service='compute', ok=True, **kw):
        headers = {'X-Auth-Token': self.token, **kw.pop('headers', {})}
        if service not in self.urls:
            raise Failure('the catalog has no %s' % service)
        if service == 'compute':
            headers['OpenStack-API-Version'] = 'compute ' + MICROVERSION
        r = http(method, self.urls[service] + path, body, headers, **kw)
        if ok and r.code >= 400:
            raise Failure('%s %s: %d %s' % (method, path, r.code, r.body))
        return r

    def get(self, path, **kw):
        return self.call('GET', path, **kw).body

    def pages(self, path, key, **query):
        """Every page of a list."""
        found, url = [], path + '?' + urllib.parse.urlencode(query)
        while url:
            page = self.get(url)
            found += page[key]
            following = [link['href'] for link in page.get(key + '_links', []) if link['rel'] == 'next']
            url = path + '?' + following[0].partition('?')[2] if following else None
        return found

    def servers(self, **query):
        return [{
            'id': s['id'], 'name': s['name'], 'status': s['status'], 'host': s['OS-EXT-SRV-ATTR:host'],
            'task_state': s['OS-EXT-STS:task_state'], 'power_state': s['OS-EXT-STS:power_state'],
            'vm_state': s['OS-EXT-STS:vm_state'], 'locked': s['locked'], 'locked_reason': s['locked_reason'],
            'metadata': s['metadata'], 'fault': s.get('fault', {}).get('message'),
        } for s in self.pages('/servers/detail', 'servers', all_tenants='true', **query)]

    def service(self, host):
        services = self.get('/os-services?binary=nova-compute&host=' + host)['services']
        if not services:
            raise Failure('Nova knows no compute service of %s' % host)
        return services[0]


def until(what, seconds, condition):
    """Polls until the condition gives something; what it last raised, or `what`, is the failure."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
            last = None
        except (OSError, Failure) as e:
            last = e
        time.sleep(0.3)
    raise Failure('%s not within %d s%s' % (what, seconds, ': %s' % last if last else ''))


# --- first steps of a new cloud -----------------------------------------------------------------------------------
def once(step, act):
    """Runs a step that has not been finished in this cloud yet."""
    flag = CLOUD / 'etc' / ('.' + step)
    if not flag.exists():
        act()
        flag.touch()


def identities(args):
    """Users, roles and the catalog: what Nova's workers need to start."""
    endpoints = dict(e.split('=', 1) for e in args.endpoint)
    cloud = until('Keystone', READY_SECONDS, Cloud)
    once('identities', lambda: make_identities(cloud, endpoints))


def resources(_args):
    """Image, flavor, and rekindle's application credential."""
    def make():
        cloud = Cloud()
        until('Glance', READY_SECONDS, lambda: cloud.get('/v2/images', service='image'))
        image(cloud)
        until('Nova', READY_SECONDS, lambda: cloud.get('/flavors'))
        if 'tiny' not in [f['name'] for f in cloud.get('/flavors')['flavors']]:
            cloud.call('POST', '/flavors', {'flavor': {'name': 'tiny', 'ram': 64, 'vcpus': 1, 'disk': 1}})
        application_credential()

    once('resources', make)


def make_identities(cloud, endpoints):
    def ensure(kind, name, **fields):
        found = cloud.get('/%ss?name=%s' % (kind, name), service='identity')[kind + 's']
        if found:
            return found[0]['id']
        return cloud.call('POST', '/%ss' % kind, {kind: {'name': name, **fields}}, 'identity').body[kind]['id']

    password = (CLOUD / 'etc' / 'admin-password').read_text()
    services = ensure('project', 'service', domain_id='default')
    admins = ensure('project', 'admin', domain_id='default')
    roles = {r: ensure('role', r) for r in ('admin', 'service')}
    for user in ('nova', 'placement', 'glance', 'neutron'):
        uid = ensure('user', user, password=password, domain_id='default')
        for role in roles.values():
            cloud.call('PUT', '/projects/%s/users/%s/roles/%s' % (services, uid, role), service='identity')
    uid = ensure('user', 'rekindle', password=password, domain_id='default')
    cloud.call('PUT', '/projects/%s/users/%s/roles/%s' % (admins, uid, roles['admin']), service='identity')
    have = {s['type']: s['id'] for s in cloud.get('/services', service='identity')['services']}
    for kind, url in endpoints.items():
        sid = have.get(kind) or cloud.call('POST', '/services', {'service': {
            'type': kind, 'name': 'nova' if kind == 'compute' else kind}}, 'identity').body['service']['id']
        present = {e['interface'] for e in
                   cloud.get('/endpoints?service_id=' + sid, service='identity')['endpoints']}
        for interface in {'public', 'internal', 'admin'} - present:
            cloud.call('POST', '/endpoints', {'endpoint': {
                'service_id': sid, 'interface': interface, 'url': url, 'region_id': 'RegionOne'}}, 'identity')


def image(cloud):
    """One MiB of zeros: Glance looks into what it is given, and refuses a boot sector as "raw"."""
    found = cloud.get('/v2/images?name=tiny', service='image')['images']
    if any(i['status'] == 'active' for i in found):
        return
    iid = cloud.call('POST', '/v2/images', {'name': 'tiny', 'disk_format': 'raw', 'container_format': 'bare',
                                            'visibility': 'public'}, 'image').body['id']
    cloud.call('PUT', '/v2/images/%s/file' % iid, service='image', raw=bytes(1 << 20),
               headers={'Content-Type': 'application/octet-stream'})


def application_credential():
    user = Cloud('rekindle')
    path = '/users/%s/application_credentials' % user.user_id
    for old in user.get(path, service='identity')['application_credentials']:
        user.call('DELETE', path + '/' + old['id'], service='identity')
    new = user.call('POST', path, {'application_credential': {
        'name': 'rekindled', 'roles': [{'name': 'admin'}]}}, 'identity').body['application_credential']
    out = CLOUD / 'rekindle-clouds.yaml'
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
        f.write('''# What rekindled logs in with: an application credential of the user `rekindle`, role admin.
clouds:
  rekindle:
    region_name: RegionOne
    auth_type: v3applicationcredential
    auth:
      auth_url: %s
      application_credential_id: %s
      application_credential_secret: %s
''' % (KEYSTONE, new['id'], new['secret']))


def ready(args):
    """Until each host's compute is up (one that is forced down stays down on purpose) and mapped to the cell."""
    cloud, want = Cloud(), set(args.host)
    until('Nova, Placement and Glance', READY_SECONDS, lambda: [
        cloud.get('/flavors'), cloud.get('/', service='placement'), cloud.get('/v2/images', service='image')])

    def all_up():
        dead = [p for p, pid in processes(CLOUD / 'run').items() if pid is None]
        if dead:
            raise Hopeless('these have ended: %s; see %s' % (' '.join(dead), CLOUD / 'log'))
        services = cloud.get('/os-services?binary=nova-compute')['services']
        up = {s['host'] for s in services if s['state'] == 'up' or s['forced_down']}
        # A host that is not yet mapped to its cell is not listed.
        mapped = {h['service']['host'] for h in cloud.get('/os-hypervisors/detail')['hypervisors']}
        left = sorted(want - (up & mapped))
        if left:
            raise Failure('still missing: %s' % ' '.join(left))
        return True

    until('every compute service', READY_SECONDS, all_up)


# --- verbs of the tests -------------------------------------------------------------------------------------------
def boot(args):
    cloud = Cloud()
    flavor = next(f['id'] for f in cloud.get('/flavors')['flavors'] if f['name'] == 'tiny')
    tiny = cloud.get('/v2/images?name=tiny&status=active', service='image')['images'][0]['id']
    metadata = dict(m.split('=', 1) for m in args.meta)
    reservations = []
    for first in range(0, args.count, BATCH):
        count = min(BATCH, args.count - first)
        server = {'name': args.name, 'imageRef': tiny, 'flavorRef': flavor, 'networks': 'none', 'host': args.host,
                  'min_count': count, 'max_count': count, 'metadata': metadata, 'return_reservation_id': True}
        reservations.append(cloud.call('POST', '/servers', {'server': server}).body['reservation_id'])

    def settled():
        if cloud.get('/servers?all_tenants=true&limit=1&status=BUILD')['servers']:
            return None
        found = [s for r in reservations for s in cloud.servers(reservation_id=r)]
        return found if len(found) == args.count else None

    servers = until('%d servers on %s' % (args.count, args.host), args.timeout, settled)
    bad = [s for s in servers if (s['status'], s['host']) != ('ACTIVE', args.host)]
    if bad:
        raise Failure('%d of %d servers did not come up on %s; the first: %s'
                      % (len(bad), args.count, args.host, bad[0]))
    return servers


def prepare(args):
    """Servers in given states. Each is {name, host, vm_state, task_state}, and may have: metadata; flavor, a key of
    FLAVORS; apart, the name of a group whose members no two hosts may share; actions, bodies of calls to the server,
    one after the other; ends_on, the host on which the last of them leaves it."""
    cloud, wanted, lock, groups = Cloud(), json.loads(args.servers), threading.Lock(), {}
    tiny = cloud.get('/v2/images?name=tiny&status=active', service='image')['images'][0]['id']
    flavors = {f['name']: f['id'] for f in cloud.get('/flavors')['flavors']}
    for name in {w.get('flavor', 'tiny') for w in wanted} - set(flavors):
        flavors[name] = cloud.call('POST', '/flavors', {'flavor': {'name': name, 'ram': 64, 'vcpus': 1, 'disk': 1}}).body['flavor']['id']
        cloud.call('POST', '/flavors/%s/os-extra_specs' % flavors[name], {'extra_specs': FLAVORS[name]})

    def now(server):
        s = cloud.get('/servers/' + server)['server']
        if s['status'] == 'ERROR' and s.get('fault'):
            raise Hopeless('%s: %s' % (s['name'], s['fault']['message']))
        return s['OS-EXT-STS:vm_state'], s['OS-EXT-STS:task_state'], s['OS-EXT-SRV-ATTR:host']

    def one(w):
        body = {'server': {'name': w['name'], 'imageRef': tiny, 'flavorRef': flavors[w.get('flavor', 'tiny')],
                           'networks': 'none', 'host': w['host'], 'metadata': w.get('metadata', {})}}
        if 'apart' in w:
            with lock:
                if w['apart'] not in groups:
                    groups[w['apart']] = cloud.call('POST', '/os-server-groups', {'server_group': {
                        'name': w['apart'], 'policy': 'anti-affinity'}}).body['server_group']['id']
            body['os:scheduler_hints'] = {'group': groups[w['apart']]}
        server = cloud.call('POST', '/servers', body).body['server']['id']
        for action in w.get('actions', []):
            until('%s to settle' % w['name'], args.timeout, lambda: now(server)[0] != 'building' and now(server)[1] is None)
            cloud.call('POST', '/servers/%s/action' % server, action) if action != 'DELETE' else cloud.call(
                'DELETE', '/servers/' + server)
        end = (w['vm_state'], w['task_state'], w.get('ends_on', w['host']))
        until('%s to be %s, not %s' % (w['name'], end, now(server)), args.timeout, lambda: now(server) == end)
        return server

    with concurrent.futures.ThreadPoolExecutor(PREPARED_AT_ONCE) as pool:
        return dict(zip([w['name'] for w in wanted], pool.map(one, wanted)))


def endpoint(args):
    """Where the catalog's internal interface, which rekindled uses here, finds Nova."""
    cloud = Cloud()
    service = cloud.get('/services?type=compute', service='identity')['services'][0]['id']
    found = cloud.get('/endpoints?interface=internal&service_id=' + service, service='identity')['endpoints'][0]['id']
    return cloud.call('PATCH', '/endpoints/' + found, {'endpoint': {'url': args.url}}, 'identity').body['endpoint']


def revoke(args):
    token = Path(args.file).read_text().strip()
    cloud = Cloud()
    return {'status': cloud.call('DELETE', '/auth/tokens', service='identity', headers={'X-Subject-Token': token}).code}


def forced_down(args):
    cloud = Cloud()
    return cloud.call('PUT', '/os-services/' + cloud.service(args.host)['id'], {'forced_down': True}).body['service']


def forced_up(args):
    """Nova refuses until the host's compute has come back and cleaned up."""
    cloud = Cloud()

    def is_up():
        service = cloud.service(args.host)
        if service['forced_down']:
            cloud.call('PUT', '/os-services/' + service['id'], {'forced_down': False})
        if service['status'] != 'enabled':
            cloud.call('PUT', '/os-services/' + service['id'], {'status': 'enabled'})
        now = service['state'], service['status'], service['forced_down']
        return service if now == ('up', 'enabled', False) else None

    return until('%s up' % args.host, args.timeout, is_up)


def migrations(args):
    found = Cloud().pages('/os-migrations', 'migrations', migration_type='evacuation')
    return [m for m in found if args.host in (None, m['source_compute'], m['dest_compute'])]


def delete(args):
    cloud = Cloud()
    ids = args.server or [s['id'] for s in cloud.pages('/servers', 'servers', all_tenants='true')]
    for server in ids:
        r = cloud.call('DELETE', '/servers/' + server, ok=False)
        if r.code not in (204, 404):
            raise Failure('delete %s: %d %s' % (server, r.code, r.body))

    def gone():
        return not set(ids) & {s['id'] for s in cloud.pages('/servers', 'servers', all_tenants='true')}

    until('deletion of %d servers' % len(ids), args.timeout, gone)
    return {'deleted': ids}


def api(args):
    r = Cloud().call(args.method.upper(), args.path, json.loads(args.body) if args.body else None, ok=False)
    if r.code >= 400:
        print(json.dumps({'status': r.code, 'body': r.body}))
        sys.exit(1)
    return {'status': r.code, 'body': r.body}


def requests(args):
    """From the access log of nova-api: {us: unix microseconds at its start, method, path, status}, in time order."""
    found = []
    for line in (CLOUD / 'log' / 'nova-api-requests.log').read_text(errors='replace').splitlines():
        parts = line.split(None, 4)
        if len(parts) >= 4 and parts[1] != 'GET' and args.substring in line:
            found.append({'us': int(parts[0]), 'method': parts[1], 'path': parts[2], 'status': int(parts[3])})
    return sorted(found, key=lambda r: r['us'])


def arguments():
    parser = argparse.ArgumentParser(prog='cloud.sh')
    verbs = parser.add_subparsers(required=True)

    def verb(name, act, *positional):
        p = verbs.add_parser(name)
        p.set_defaults(act=act)
        for word in positional:
            p.add_argument(word.strip('?*+'), nargs=word[-1] if word[-1] in '?*+' else None)
        p.add_argument('--timeout', type=int, default=READY_SECONDS, help='seconds')
        return p

    verb('identities', identities, 'endpoint+')
    verb('resources', resources)
    verb('ready', ready, 'host*')
    p = verb('boot', boot)
    p.add_argument('count', type=int)
    p.add_argument('host')
    p.add_argument('--meta', action='append', default=[], metavar='K=V')
    p.add_argument('--name', default='vm')
    verb('servers', lambda a: Cloud().servers(**({'host': a.host} if a.host else {})), 'host?')
    verb('migrations', migrations, 'host?')
    verb('services', lambda _: Cloud().get('/os-services?binary=nova-compute')['services'])
    verb('service', lambda a: Cloud().service(a.host), 'host')
    verb('flavors', lambda _: Cloud().get('/flavors')['flavors'])
    verb('forced-down', forced_down, 'host')
    verb('forced-up', forced_up, 'host')
    verb('evacuate', lambda a: Cloud().call('POST', '/servers/%s/action' % a.server, {'evacuate': {}}).body, 'server')
    verb('delete', delete, 'server*')
    verb('api', api, 'method', 'path', 'body?')
    verb('prepare', prepare, 'servers')
    verb('endpoint', endpoint, 'url')
    verb('revoke', revoke, 'file')
    p = verb('requests', requests)
    p.add_argument('substring', nargs='?', default='')
    return parser.parse_args()


def main():
    args = arguments()
    try:
        result = args.act(args)
    except (Failure, Hopeless, OSError) as e:
        print(json.dumps({'error': str(e)}))
        print('cloud: %s' % e, file=sys.stderr)
        sys.exit(1)
    if result is not None:
        print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
