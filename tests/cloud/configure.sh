#!/bin/bash
# Writes the configuration of the control plane and of each host under $CLOUD_DIR. May be run again at any time.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

database() { echo "mysql+pymysql://root:$CLOUD_PASSWORD@$IP:$P_DB/$1?charset=utf8"; }

# auth USER: the options by which a service logs in to Keystone.
auth() {
  cat <<C
auth_type = password
auth_url = http://$IP:$P_KEYSTONE/v3
username = $1
password = $CLOUD_PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
C
}

# authtoken USER: how a service checks the tokens it is given. Checks keep Keystone busy, and each process of each service checks
# each token: a benchmark has them remembered for longer.
authtoken() {
  cat <<C
[keystone_authtoken]
www_authenticate_uri = http://$IP:$P_KEYSTONE/v3
token_cache_time = ${CLOUD_TOKEN_CACHE_SECONDS:-300}
$(auth "$1")
C
}

keystone() {
  # Cheap password hashing: with the default cost each log-in burns 0.2 s of CPU. No cache: in memory it would be one
  # per process, and the process that did not hear of a new endpoint goes on giving out the old catalog.
  cat <<C
[DEFAULT]
use_stderr = true
[database]
connection = $(database keystone)
[token]
provider = fernet
[fernet_tokens]
key_repository = $ETC/keystone/fernet
[credential]
key_repository = $ETC/keystone/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = false
C
}

placement() {
  cat <<C
[DEFAULT]
use_stderr = true
[placement_database]
connection = $(database placement)
$(authtoken placement)
C
}

glance() {
  cat <<C
[DEFAULT]
use_stderr = true
enabled_backends = files:file
[database]
connection = $(database glance)
[paste_deploy]
flavor = keystone
config_file = $CLOUD_VENV/etc/glance/glance-api-paste.ini
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = $CLOUD_DIR/glance/images
[os_glance_staging_store]
filesystem_store_datadir = $CLOUD_DIR/glance/staging
[os_glance_tasks_store]
filesystem_store_datadir = $CLOUD_DIR/glance/tasks
$(authtoken glance)
C
}

nova() {
  # discover_hosts_in_cells_interval registers new computes without a nova-manage call.
  cat <<C
[DEFAULT]
use_stderr = true
transport_url = rabbit://guest:guest@$IP:$P_MQ/
my_ip = $IP
host = control
state_path = $CLOUD_DIR/nova
compute_driver = rekindle_fake.RekindleFakeDriver
service_down_time = $SERVICE_DOWN_TIME
report_interval = $REPORT_INTERVAL
shelved_offload_time = -1
resume_guests_state_on_host_boot = true
[api_database]
connection = $(database nova_api)
[database]
connection = $(database nova)
[conductor]
workers = $WORKERS
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 2
[filter_scheduler]
track_instance_changes = false
[quota]
instances = -1
cores = -1
ram = -1
server_groups = -1
server_group_members = -1
[oslo_concurrency]
lock_path = $CLOUD_DIR/nova/lock
[vnc]
enabled = false
[placement]
$(auth placement)
[glance]
$(auth glance)
[neutron]
$(auth neutron)
[service_user]
send_service_user_token = true
$(auth nova)
[cinder]
$(auth nova)
$(authtoken nova)
C
}

umask 077
mkdir -p "$LOG" "$RUN" "$ETC"/{keystone,placement,glance,nova} "$CLOUD_DIR"/{rabbit,nova/lock,glance/{images,staging,tasks}}
keystone >"$ETC/keystone/keystone.conf"
placement >"$ETC/placement/placement.conf"
glance >"$ETC/glance/glance-api.conf"
nova >"$ETC/nova/nova.conf"
cp "$CLOUD_VENV/etc/nova/api-paste.ini" "$ETC/nova/"
echo 'loopback_users = none' >"$CLOUD_DIR/rabbit/rabbitmq.conf"
echo '[].' >"$CLOUD_DIR/rabbit/plugins"
printf '[client]\nuser = root\npassword = %s\nhost = %s\nport = %s\n' "$CLOUD_PASSWORD" "$IP" "$P_DB" >"$ETC/my.cnf"
printf '%s' "$CLOUD_PASSWORD" >"$ETC/admin-password"
cat >"$CLOUD_DIR/clouds.yaml" <<C
# The cloud's administrator, for tests and hand work. What rekindled uses is rekindle-clouds.yaml beside this file.
clouds:
  admin:
    region_name: RegionOne
    auth:
      auth_url: http://$IP:$P_KEYSTONE/v3
      username: admin
      password: $CLOUD_PASSWORD
      project_name: admin
      user_domain_name: Default
      project_domain_name: Default
C
for h in $CLOUD_HOSTS; do "$CLOUD_SRC/host.sh" configure "$h"; done
