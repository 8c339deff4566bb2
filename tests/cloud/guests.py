"""The guests of one compute host: files on its disk, and domains in its libvirtd.

libvirt's test driver forgets its domains when the last connection to the daemon closes (they belong to the daemon,
and are shared by all its clients, while at least one is open). So:

* what is on the host's disk, and outlives its death, is one file per guest, `guests/UUID.json`;
* `guests.py keep HOST_DIR` runs beside libvirtd for as long as the host lives, holds the connection that keeps the
  domains, and makes them from those files when the host starts: running, as libvirt's autostart would, or, on a host
  with a boot gate (`knobs/gate`), defined only;
* the compute driver (rekindle_fake.py) writes the files, and defines and destroys the domains.

`guests.py list HOST_DIR` prints the domains as JSON, read from libvirtd as any other client would.
`guests.py watch FILE HOST_DIR...` looks for guests that run on two hosts at once; each is a line in FILE.
"""
import json
import os
import sys
import time
from xml.sax.saxutils import escape

import libvirt

DOMAIN = """<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""
DISK_BYTES = 1 << 20
# Between two looks of the watcher: a moment in which a guest runs twice has to be longer than that to be seen.
WATCH_SECONDS = 0.2
# How long the keeper waits for its libvirtd.
START_SECONDS = 60

# libvirt prints each error on stderr as well as raising it.
libvirt.registerErrorHandler(lambda _context, _error: None, None)


def uri(host_dir):
    """The address of the host's libvirtd, for any libvirt client of this machine."""
    return 'test+unix:///default?socket=' + os.path.join(host_dir, 'libvirt', 'run', 'libvirt-sock')


class Guests:
    """Guests of the host whose directory is given. Each call makes its own short connection."""

    def __init__(self, host_dir):
        self.host_dir = host_dir
        os.makedirs(self._path('guests'), exist_ok=True)

    def _path(self, *parts):
        return os.path.join(self.host_dir, *parts)

    def _file(self, uuid):
        return self._path('guests', uuid + '.json')

    def on_disk(self):
        """What the disk holds, by UUID: name, memory, vcpus, running."""
        found = {}
        for name in os.listdir(self._path('guests')):
            if name.endswith('.json'):
                with open(self._path('guests', name)) as f:
                    found[name[:-len('.json')]] = json.load(f)
        return found

    def _write(self, uuid, guest):
        new = self._file(uuid) + '.new'
        with open(new, 'w') as f:
            json.dump(guest, f)
        os.rename(new, self._file(uuid))

    def create(self, uuid, name, memory, vcpus, running=True):
        """Puts a guest on the disk and into libvirt, in place of one with the same UUID."""
        os.makedirs(self._path('disks', uuid), exist_ok=True)
        with open(self._path('disks', uuid, 'disk'), 'wb') as f:
            f.truncate(DISK_BYTES)
        guest = {'name': name, 'memory': memory, 'vcpus': vcpus, 'running': running}
        self._write(uuid, guest)
        with connected(self.host_dir) as conn:
            self.define(conn, uuid, guest)

    def define(self, conn, uuid, guest):
        """Makes the domain of a guest that is on the disk."""
        undefine(conn, uuid)
        domain = conn.defineXML(DOMAIN.format(
            name=escape(guest['name']), uuid=uuid, memory=guest['memory'], vcpus=guest['vcpus'],
            disk=escape(self._path('disks', uuid, 'disk'), {"'": '&apos;'})))
        if guest['running']:
            domain.create()

    def destroy(self, uuid):
        """Takes a guest out of libvirt and off the disk. One that is not there is no error."""
        with connected(self.host_dir) as conn:
            undefine(conn, uuid)
        for path in (self._path('disks', uuid, 'disk'), self._file(uuid)):
            if os.path.exists(path):
                os.unlink(path)
        if os.path.isdir(self._path('disks', uuid)):
            os.rmdir(self._path('disks', uuid))

    def set_running(self, uuid, running):
        """Starts or stops a guest, and remembers it for the host's next start."""
        guest = self.on_disk()[uuid]
        guest['running'] = running
        self._write(uuid, guest)
        with connected(self.host_dir) as conn:
            domain = conn.lookupByUUIDString(uuid)
            if running and not domain.isActive():
                domain.create()
            elif not running and domain.isActive():
                domain.destroy()

    def set_paused(self, uuid, paused):
        """Pauses a running guest, or lets it go on. A host that starts anew starts it running."""
        with connected(self.host_dir) as conn:
            domain = conn.lookupByUUIDString(uuid)
            if paused:
                domain.suspend()
            else:
                domain.resume()

    def state(self, uuid):
        """`running`, `paused` or `off`; None when libvirt does not know it."""
        with connected(self.host_dir) as conn:
            domain = lookup(conn, uuid)
            if domain is None:
                return None
            if not domain.isActive():
                return 'off'
            return 'paused' if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED else 'running'


class connected:
    """A connection to the host's libvirtd, as a context."""

    def __init__(self, host_dir):
        self.uri = uri(host_dir)

    def __enter__(self):
        self.conn = libvirt.open(self.uri)
        return self.conn

    def __exit__(self, *_exc):
        self.conn.close()


def lookup(conn, uuid):
    try:
        return conn.lookupByUUIDString(uuid)
    except libvirt.libvirtError as e:
        if e.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def undefine(conn, uuid):
    domain = lookup(conn, uuid)
    if domain is not None:
        if domain.isActive():
            domain.destroy()
        domain.undefine()


def keep(host_dir):
    """Makes the domains of the guests on the disk, says so in `libvirt/run/ready`, and holds them. Never returns."""
    socket, deadline = os.path.join(host_dir, 'libvirt', 'run', 'libvirt-sock'), time.monotonic() + START_SECONDS
    while True:
        try:
            conn = libvirt.open(uri(host_dir))
            break
        except libvirt.libvirtError as e:
            if time.monotonic() > deadline:
                sys.exit('no libvirtd on %s: %s' % (socket, e))
            time.sleep(0.05)
    # The test driver starts with a running domain of its own.
    conn.lookupByName('test').destroy()
    conn.lookupByName('test').undefine()
    # Behind a boot gate no guest starts by itself: nova-compute, when it has cleaned up, starts those that are still its.
    gated = os.path.exists(os.path.join(host_dir, 'knobs', 'gate'))
    guests = Guests(host_dir)
    for uuid, guest in guests.on_disk().items():
        guests.define(conn, uuid, {**guest, 'running': guest['running'] and not gated})
    with open(os.path.join(host_dir, 'libvirt', 'run', 'ready'), 'w'):
        pass
    # Ends when libvirtd does, and with it the host's namespace.
    while conn.isAlive():
        conn.getLibVersion()
        time.sleep(1)


def list_domains(host_dir):
    with connected(host_dir) as conn:
        return [{'uuid': d.UUIDString(), 'name': d.name(), 'running': bool(d.isActive()),
                 'paused': d.state()[0] == libvirt.VIR_DOMAIN_PAUSED} for d in conn.listAllDomains()]


def running(host_dirs):
    """Which hosts run each guest, by their libvirtds; a host that does not answer runs none."""
    found = {}
    for host_dir in host_dirs:
        try:
            for domain in list_domains(host_dir):
                if domain['running'] and not domain['paused']:
                    found.setdefault(domain['uuid'], set()).add(os.path.basename(host_dir))
        except libvirt.libvirtError:
            pass
    return found


def watch(path, host_dirs):
    """The hosts are asked one after the other: a guest that moved between two answers is not there at a second look.
    Ends when whoever started it has ended."""
    parent = os.getppid()
    while os.getppid() == parent:
        first = {uuid: hosts for uuid, hosts in running(host_dirs).items() if len(hosts) > 1}
        if first:
            second = running(host_dirs)
            for uuid, hosts in first.items():
                both = hosts & second.get(uuid, set())
                if len(both) > 1:
                    with open(path, 'a') as f:
                        f.write('%.1f %s runs on %s\n' % (time.time(), uuid, ' and '.join(sorted(both))))
        time.sleep(WATCH_SECONDS)


def main():
    if sys.argv[1] == 'watch':
        return watch(sys.argv[2], sys.argv[3:])
    verb, host_dir = sys.argv[1:3]
    if verb == 'keep':
        keep(host_dir)
    elif verb == 'list':
        try:
            print(json.dumps(list_domains(host_dir)))
        except libvirt.libvirtError as e:
            print(json.dumps({'error': 'no answer from libvirtd: %s' % e}))
            sys.exit(1)
    else:
        sys.exit('usage: guests.py keep|list HOST_DIR, or watch FILE HOST_DIR...')


if __name__ == '__main__':
    main()
