"""nova.virt.rekindle_fake: Nova's own fake driver, made to behave like a hypervisor with a disk.

Nova's FakeDriver lives in memory: a restarted nova-compute has no guests to clean up, and a new node identity, with
which it refuses to start. Here
* the node identity is kept in `$state_path/compute_id`, as the libvirt driver keeps it;
* each guest is a file on the host's disk and a domain in the host's own libvirtd (see guests.py), so that guests
  outlive nova-compute, die with the host, and are there again when it returns;
* `knobs/spawn-seconds` in the host's directory delays each spawn by that many seconds, and `knobs/fail-spawn`, if
  it exists, makes it fail with the text in it. Both are read at each spawn. While `knobs/hang-destroy` exists, destroying
  a guest does not end; while `knobs/hang-claim` exists, an evacuation that was taken out of the queue is not claimed;
* a server's own metadata does the same to it alone: `test:spawn-seconds`; `test:fail-spawn-on` and
  `test:fail-claim-on`, names of hosts; `test:hang`, the name of an act of the driver that never ends for it;
* a paused guest is a paused domain, a suspended one is off, and every host says that it can emulate a TPM, so that a
  server can be made that Nova refuses to evacuate.

Nova loads drivers only from below `nova.virt`; install.sh links this file there. The host's directory is the parent
of `state_path`.
"""
import os
import time

import libvirt
import nova.conf
from nova.compute import power_state
from nova.compute import resource_tracker
from nova import exception
from nova.virt import fake
from nova.virt import node as virt_node
from rekindle_guests import Guests

CONF = nova.conf.CONF


REBUILD_CLAIM = resource_tracker.ResourceTracker.rebuild_claim


def rebuild_claim(tracker, *args, **kwargs):
    while tracker.driver._knob('hang-claim') is not None:
        time.sleep(0.2)
    return REBUILD_CLAIM(tracker, *args, **kwargs)


resource_tracker.ResourceTracker.rebuild_claim = rebuild_claim


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

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        super().update_provider_tree(provider_tree, nodename, allocations)
        provider_tree.add_traits(nodename, 'COMPUTE_SECURITY_TPM_2_0', 'COMPUTE_SECURITY_TPM_TIS',
                                 'COMPUTE_SECURITY_TPM_SECRET_SECURITY_USER')

    def instance_on_disk(self, instance):
        # Local disks: no host sees another's.
        return False

    # --- a guest's life -------------------------------------------------------------------------------------------
    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None,
              block_device_info=None, power_on=True, accel_info=None):
        reason = self._knob('fail-spawn')
        if reason is not None:
            raise exception.InstanceDeployFailure(reason=reason or 'knobs/fail-spawn exists')
        if self._host in instance.metadata.get('test:fail-spawn-on', '').split():
            raise exception.InstanceDeployFailure(reason='test:fail-spawn-on names %s' % self._host)
        if self._host in instance.metadata.get('test:fail-claim-on', '').split():
            raise exception.ComputeResourcesUnavailable(reason='test:fail-claim-on names %s' % self._host)
        time.sleep(float(instance.metadata.get('test:spawn-seconds') or self._knob('spawn-seconds') or 0))
        self._guests.create(instance.uuid, instance.name, instance.flavor.memory_mb, instance.flavor.vcpus, power_on)
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info,
                      block_device_info, power_on, accel_info)

    def destroy(self, context, instance, network_info, block_device_info=None, destroy_disks=True,
                destroy_secrets=True):
        while self._knob('hang-destroy') is not None:
            time.sleep(1)
        self._guests.destroy(instance.uuid)
        if instance.uuid in self.instances:
            super().destroy(context, instance, network_info, block_device_info, destroy_disks, destroy_secrets)

    def cleanup(self, context, instance, network_info, block_device_info=None, destroy_disks=True, migrate_data=None,
                destroy_vifs=True, destroy_secrets=True):
        # After a live migration this is all that the source is asked to do.
        self.destroy(context, instance, network_info, block_device_info, destroy_disks, destroy_secrets)

    def power_off(self, instance, timeout=0, retry_interval=0):
        self._hang(instance, 'power-off')
        super().power_off(instance, timeout, retry_interval)
        self._guests.set_running(instance.uuid, False)

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None, share_info=None):
        super().power_on(context, instance, network_info, block_device_info, accel_info, share_info)
        self._guests.set_running(instance.uuid, True)

    def reboot(self, context, instance, network_info, reboot_type, block_device_info=None, bad_volumes_callback=None,
               accel_info=None, share_info=None):
        self._hang(instance, 'reboot')
        super().reboot(context, instance, network_info, reboot_type, block_device_info, bad_volumes_callback,
                       accel_info, share_info)

    def pause(self, instance):
        self._hang(instance, 'pause')
        self._guests.set_paused(instance.uuid, True)

    def unpause(self, instance):
        self._guests.set_paused(instance.uuid, False)

    def suspend(self, context, instance):
        self._guests.set_running(instance.uuid, False)

    def resume(self, context, instance, network_info, block_device_info=None, share_info=None):
        self._guests.set_running(instance.uuid, True)

    def resume_state_on_host_boot(self, context, instance, network_info, share_info, block_device_info=None):
        # Nova starts what ran here, after it has destroyed what was evacuated (resume_guests_state_on_host_boot).
        self.power_on(context, instance, network_info)

    # --- moves ----------------------------------------------------------------------------------------------------
    def migrate_disk_and_power_off(self, context, instance, dest, flavor, network_info, block_device_info=None,
                                   timeout=0, retry_interval=0):
        self._hang(instance, 'migrate')
        self._guests.set_running(instance.uuid, False)

    def live_migration(self, context, instance, dest, post_method, recover_method, block_migration=False,
                       migrate_data=None):
        self._hang(instance, 'live-migration')
        super().live_migration(context, instance, dest, post_method, recover_method, block_migration, migrate_data)

    def get_info(self, instance, use_cache=True):
        info = super().get_info(instance, use_cache)
        try:
            state = self._guests.state(instance.uuid)
        except libvirt.libvirtError:
            raise exception.HypervisorUnavailable()
        if state is None:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        info.state = {'running': power_state.RUNNING, 'paused': power_state.PAUSED, 'off': power_state.SHUTDOWN}[state]
        return info

    def _hang(self, instance, act):
        """What never ends, ends with the process."""
        if instance.metadata.get('test:hang') == act:
            time.sleep(86400)

    def _knob(self, name):
        try:
            with open(os.path.join(self._host_dir, 'knobs', name)) as f:
                return f.read().strip()
        except FileNotFoundError:
            return None
