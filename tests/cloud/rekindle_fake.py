"""nova.virt.rekindle_fake: Nova's own fake driver, made to behave like a hypervisor with a disk.

Nova's FakeDriver lives in memory: a restarted nova-compute has no guests to clean up, and a new node identity, with
which it refuses to start. Here
* the node identity is kept in `$state_path/compute_id`, as the libvirt driver keeps it;
* each guest is a file on the host's disk and a domain in the host's own libvirtd (see guests.py), so that guests
  outlive nova-compute, die with the host, and are there again when it returns;
* `knobs/spawn-seconds` in the host's directory delays each spawn by that many seconds, and `knobs/fail-spawn`, if
  it exists, makes it fail with the text in it. Both are read at each spawn.

Nova loads drivers only from below `nova.virt`; install.sh links this file there. The host's directory is the parent
of `state_path`.
"""
import os
import time

import libvirt
import nova.conf
from nova.compute import power_state
from nova import exception
from nova.virt import fake
from nova.virt import node as virt_node
from rekindle_guests import Guests

CONF = nova.conf.CONF


class RekindleFakeDriver(fake.FakeDriver):
    def __init__(self, virtapi, read_only=False):
        super().__init__(virtapi, read_only)
        self._host_dir = os.path.dirname(CONF.state_path.rstrip('/'))
        self._guests = Guests(self._host_dir)
        for uuid, guest in self._guests.on_disk().items():
            state = power_state.RUNNING if guest['running'] else power_state.SHUTDOWN
            self.instances[uuid] = fake.FakeInstance(guest['name'], state, uuid)

    # --- who this host is -----------------------------------------------------------------------------------------
    def get_nodenames_by_uuid(self, refresh=False):
        return {virt_node.get_local_node_uuid(): name for name in self.get_available_nodes()}

    def get_available_resource(self, nodename):
        resource = super().get_available_resource(nodename)
        resource['uuid'] = virt_node.get_local_node_uuid()
        return resource

    def instance_on_disk(self, instance):
        # Local disks: no host sees another's.
        return False

    # --- a guest's life -------------------------------------------------------------------------------------------
    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None,
              block_device_info=None, power_on=True, accel_info=None):
        reason = self._knob('fail-spawn')
        if reason is not None:
            raise exception.InstanceDeployFailure(reason=reason or 'knobs/fail-spawn exists')
        time.sleep(float(self._knob('spawn-seconds') or 0))
        self._guests.create(instance.uuid, instance.name, instance.flavor.memory_mb, instance.flavor.vcpus, power_on)
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info,
                      block_device_info, power_on, accel_info)

    def destroy(self, context, instance, network_info, block_device_info=None, destroy_disks=True,
                destroy_secrets=True):
        self._guests.destroy(instance.uuid)
        if instance.uuid in self.instances:
            super().destroy(context, instance, network_info, block_device_info, destroy_disks, destroy_secrets)

    def power_off(self, instance, timeout=0, retry_interval=0):
        super().power_off(instance, timeout, retry_interval)
        self._guests.set_running(instance.uuid, False)

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None, share_info=None):
        super().power_on(context, instance, network_info, block_device_info, accel_info, share_info)
        self._guests.set_running(instance.uuid, True)

    def get_info(self, instance, use_cache=True):
        info = super().get_info(instance, use_cache)
        try:
            running = self._guests.is_running(instance.uuid)
        except libvirt.libvirtError:
            raise exception.HypervisorUnavailable()
        if running is None:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        info.state = power_state.RUNNING if running else power_state.SHUTDOWN
        return info

    def _knob(self, name):
        try:
            with open(os.path.join(self._host_dir, 'knobs', name)) as f:
                return f.read().strip()
        except FileNotFoundError:
            return None
