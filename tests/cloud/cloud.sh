#!/bin/bash
# The real OpenStack of the tests. What a verb prints on stdout is JSON; its progress and errors go to stderr; it exits
# 0 if it did what it says.
#
#   cloud.sh install                        Debian packages and the venv
#   cloud.sh up                             brings everything up (installing first); prints what status prints
#   cloud.sh down [--wipe]                  stops everything; --wipe forgets databases, guests, logs
#   cloud.sh status                         addresses, files, hosts, what runs
#   cloud.sh host kill|start|off|status|restart-compute H   host.sh says what these do
#   cloud.sh host adopt H NAME PID          makes a process (rekindled) die with the host
#   cloud.sh plane stop|start NAME          a service of the control plane: keystone, nova-api, ...
#   cloud.sh guests H                       the domains in the host's libvirtd
#   cloud.sh boot N H [--meta K=V]... [--name NAME]     boots N servers there, waits for ACTIVE
#   cloud.sh prepare JSON                   servers in any state; client.py says what is in it
#   cloud.sh endpoint URL                   where the catalog's internal interface finds Nova
#   cloud.sh revoke TOKENFILE               revokes a token
#   cloud.sh servers [H] | migrations [H] | service H | services | flavors
#   cloud.sh forced-down H | forced-up H    forced-up: after the host's start; waits until Nova calls it up
#   cloud.sh evacuate SERVER                one raw evacuate call
#   cloud.sh delete [SERVER...]             deletes these servers, or all; waits
#   cloud.sh api METHOD PATH [JSON]         any call of Nova; {"status": CODE, "body": ...}
#   cloud.sh compute-version H N            the version of nova-compute there as Nova has it; {"was": N}. Only its restart sets it right
#   cloud.sh requests [SUBSTRING]           the writing calls that Nova has had, with the microsecond of each
set -euo pipefail
. "$(dirname "$0")/lib.sh"

service() { launch "$RUN/$1.pid" "$LOG/$1.log" "${@:2}"; }

# api NAME PORT MODULE PROCESSES
api() {
  local name=$1 port=$2 module=$3 processes=$4
  # One line per request in NAME-requests.log: unix microseconds at its start, method, path, answer, user agent.
  service "$name" env OS_KEYSTONE_CONFIG_DIR="$ETC/keystone" OS_KEYSTONE_CONFIG_FILES=keystone.conf \
    OS_PLACEMENT_CONFIG_DIR="$ETC/placement" OS_GLANCE_CONFIG_DIR="$ETC/glance" OS_NOVA_CONFIG_DIR="$ETC/nova" \
    "$CLOUD_VENV/bin/uwsgi" --http-socket "$IP:$port" --module "$module:application" --virtualenv "$CLOUD_VENV" \
    --master --lazy-apps --need-app --die-on-term --processes "$processes" --threads 4 --enable-threads \
    --buffer-size 65535 --add-header 'Connection: close' --procname-prefix "$name " \
    --log-format '%(tmicros) %(method) %(uri) %(status) %(uagent)' --req-logger "file:$LOG/$name-requests.log"
}

preflight() {
  [[ $EUID == 0 ]] || die "needs root (ports below 1024, namespaces, MariaDB)"
  [[ $CLOUD_DIR$CLOUD_VENV$CLOUD_SRC != *[[:space:]]* ]] || die "no path may contain spaces: $CLOUD_DIR, $CLOUD_VENV, $CLOUD_SRC"
  # A unix socket's path has 107 bytes.
  local h longest=$CLOUD_DIR/hosts/cmp99/libvirt/run/libvirt-admin-sock entry
  [[ ${#longest} -le 107 ]] || die "CLOUD_DIR is too long for a libvirt socket below it: $CLOUD_DIR"
  for h in $CLOUD_HOSTS; do
    [[ $h =~ ^[a-z-]+[1-9][0-9]?$ ]] || die "a host's name is letters and a number from 1 to 99: $h"
  done
  for entry in rabbit:$P_MQ mariadb:$P_DB keystone:$P_KEYSTONE placement:$P_PLACEMENT glance:$P_GLANCE \
    nova-api:$P_NOVA neutron:$P_NEUTRON epmd:$P_EPMD; do
    alive "$RUN/${entry%:*}.pid" || ! listening "${entry#*:}" ||
      die "$IP:${entry#*:} is taken by another process (another cloud? set PORT_BASE and BMC_NET)"
  done
}

broker_and_database() {
  service epmd env epmd -address "$IP" -port "$P_EPMD"
  wait_port "$P_EPMD" 20 epmd
  service rabbit env HOME="$CLOUD_DIR/rabbit" RABBITMQ_NODENAME=rekindle@localhost RABBITMQ_NODE_IP_ADDRESS="$IP" \
    RABBITMQ_NODE_PORT="$P_MQ" RABBITMQ_DIST_PORT="$P_DIST" ERL_EPMD_ADDRESS="$IP" ERL_EPMD_PORT="$P_EPMD" \
    RABBITMQ_MNESIA_BASE="$CLOUD_DIR/rabbit/db" RABBITMQ_LOG_BASE="$LOG" RABBITMQ_CONFIG_FILE="$CLOUD_DIR/rabbit/rabbitmq" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$CLOUD_DIR/rabbit/plugins" RABBITMQ_CONF_ENV_FILE=/dev/null \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
  local data=$CLOUD_DIR/mariadb socket=$RUN/mariadb.sock name
  if [[ ! -e $data/.made ]]; then
    rm -rf "$data"
    mariadb-install-db --no-defaults --user=root --datadir="$data" --auth-root-authentication-method=normal \
      --skip-test-db >"$LOG/mariadb-install.log" 2>&1 || die "cannot make the database; see $LOG/mariadb-install.log"
  fi
  service mariadb mariadbd --no-defaults --user=root --datadir="$data" --socket="$socket" --bind-address="$IP" \
    --port="$P_DB" --pid-file="$RUN/mariadb.own" --max-connections=1000 --innodb-flush-log-at-trx-commit=0 \
    --innodb-buffer-pool-size=128M --skip-log-bin --skip-name-resolve
  wait_port "$P_DB" 60 mariadb
  if [[ ! -e $data/.made ]]; then
    { printf "set password for root@'localhost' = password('%s');" "$CLOUD_PASSWORD"
      printf "create or replace user root@'%s' identified by '%s';" "$IP" "$CLOUD_PASSWORD"
      printf "grant all on *.* to root@'%s' with grant option;" "$IP"
      for name in keystone placement glance nova_api nova_cell0 nova; do
        printf 'create database %s character set utf8;' "$name"
      done; } | mariadb --no-defaults -uroot --socket="$socket" || die "cannot set the database up"
    touch "$data/.made"
  fi
}

# Four lines of work at once; nova's is the longest.
schemas() {
  [[ ! -e $ETC/.schemas ]] || return 0
  local bin=$CLOUD_VENV/bin pids=() pid bad=0
  local keystone=("$bin/keystone-manage" --config-file "$ETC/keystone/keystone.conf")
  local nova=("$bin/nova-manage" --config-file "$ETC/nova/nova.conf")
  local url=http://$IP:$P_KEYSTONE/v3
  (
    "${nova[@]}" api_db sync && "${nova[@]}" cell_v2 map_cell0 && "${nova[@]}" db sync || exit 1
    # create_cell is not idempotent: it fails the second time.
    [[ $(mariadb --defaults-file="$ETC/my.cnf" -Ne 'select name from nova_api.cell_mappings') == *cell1* ]] ||
      "${nova[@]}" cell_v2 create_cell --name cell1
  ) >"$LOG/schema-nova.log" 2>&1 &
  pids+=($!)
  (
    "${keystone[@]}" db_sync && "${keystone[@]}" fernet_setup --keystone-user root --keystone-group root &&
      "${keystone[@]}" credential_setup --keystone-user root --keystone-group root &&
      OS_BOOTSTRAP_PASSWORD=$CLOUD_PASSWORD "${keystone[@]}" bootstrap --bootstrap-region-id RegionOne \
        --bootstrap-admin-url "$url" --bootstrap-internal-url "$url" --bootstrap-public-url "$url"
  ) >"$LOG/schema-keystone.log" 2>&1 &
  pids+=($!)
  "$bin/placement-manage" --config-file "$ETC/placement/placement.conf" db sync >"$LOG/schema-placement.log" 2>&1 &
  pids+=($!)
  "$bin/glance-manage" --config-file "$ETC/glance/glance-api.conf" db_sync >"$LOG/schema-glance.log" 2>&1 &
  pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
  [[ $bad == 0 ]] || die "a schema could not be made; see $LOG/schema-*.log"
  touch "$ETC/.schemas"
}

# plane_service NAME: starts this part of the control plane, unless it runs.
plane_service() {
  local nova=(--config-file "$ETC/nova/nova.conf")
  case $1 in
    keystone) api keystone "$P_KEYSTONE" keystone.wsgi.api "$WORKERS" ;;
    placement) api placement "$P_PLACEMENT" placement.wsgi.api "$WORKERS" ;;
    glance) api glance "$P_GLANCE" glance.wsgi.api 1 ;;
    nova-api) api nova-api "$P_NOVA" nova.wsgi.osapi_compute "$WORKERS" ;;
    neutron) service neutron "$PYTHON" "$CLOUD_SRC/neutron_stub.py" "$IP" "$P_NEUTRON" ;;
    nova-conductor | nova-scheduler) service "$1" "$CLOUD_VENV/bin/$1" "${nova[@]}" ;;
    *) die "the control plane has no $1" ;;
  esac
}

control_plane() {
  local name
  for name in keystone placement glance nova-api neutron; do plane_service "$name"; done
  # Nova's workers log in to Keystone as they start, and end at once if they cannot.
  "$PYTHON" "$CLOUD_SRC/client.py" identities "compute=http://$IP:$P_NOVA/v2.1" "placement=http://$IP:$P_PLACEMENT" \
    "image=http://$IP:$P_GLANCE" "network=http://$IP:$P_NEUTRON" || die "the catalog could not be made; see $LOG"
  for name in nova-conductor nova-scheduler; do plane_service "$name"; done
}

# plane stop|start NAME
plane() {
  case $1 in
    start) plane_service "$2" ;;
    stop) stop "$RUN/$2.pid" 5 ;;
    *) die "usage: cloud.sh plane stop|start NAME" ;;
  esac
  printf '{"%s": "%s"}\n' "$1" "$2"
}

hosts() {
  local h pids=() pid powered=()
  for h in $CLOUD_HOSTS; do
    "$CLOUD_SRC/host.sh" bmc "$h"
    # A host that a test switched off stays off.
    [[ $(<"$CLOUD_DIR/hosts/$h/power") == on ]] || continue
    powered+=("$h")
    "$CLOUD_SRC/host.sh" start "$h" &
    pids+=($!)
  done
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || die "a host did not start"; done
  "$PYTHON" "$CLOUD_SRC/client.py" resources || die "image, flavor or credential could not be made; see $LOG"
  "$PYTHON" "$CLOUD_SRC/client.py" ready ${powered[@]+"${powered[@]}"} || die "see $LOG/nova-*.log"
}

up() {
  preflight
  "$CLOUD_SRC/install.sh"
  stage install
  "$CLOUD_SRC/configure.sh"
  broker_and_database
  wait_port "$P_MQ" 90 rabbit
  stage "broker and database"
  schemas
  stage schemas
  control_plane
  stage "control plane"
  hosts
  stage hosts
  stages_json >"$RUN/stages.json"
  "$PYTHON" "$CLOUD_SRC/describe.py"
}

down() {
  local f name pids=() pid left
  for f in "$CLOUD_DIR"/hosts/*/pids/*.pid; do
    [[ ! -e $f ]] || { signal "$f" KILL; gone "$f" 10 || die "$f does not die"; rm -f "$f"; }
  done
  for f in "$RUN"/*.pid; do
    name=$(basename "$f" .pid)
    [[ -e $f && $name != rabbit && $name != mariadb && $name != epmd ]] || continue
    stop "$f" 5 &
    pids+=($!)
  done
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" || die "not everything could be stopped"; done
  stop "$RUN/rabbit.pid" 20 & pid=$!
  stop "$RUN/mariadb.pid" 20
  wait "$pid"
  stop "$RUN/epmd.pid"
  # An orphan (RabbitMQ's helpers end a moment after it) gets two seconds.
  local i
  for i in {1..20}; do left=$(leftovers); [[ -n $left ]] || break; sleep 0.1; done
  [[ -z $left ]] || die "these processes of the cloud still run:"$'\n'"$left"
  if [[ ${1:-} == --wipe ]]; then
    rm -rf "$CLOUD_DIR"/{etc,log,rabbit,mariadb,nova,glance,hosts} "$CLOUD_DIR"/{,rekindle-}clouds.yaml
    rm -rf "${RUN:?}"/[!l]*
  fi
  stage down
  echo '{"stopped": true}'
}

host() {
  [[ $# -ge 2 ]] || die "usage: cloud.sh host kill|start|off|status|adopt|restart-compute HOST"
  [[ $1 == status ]] || "$CLOUD_SRC/host.sh" "$@" >&2
  "$PYTHON" "$CLOUD_SRC/describe.py" "$2"
}

compute_version() {
  [[ $# == 2 && $2 =~ ^[0-9]+$ && $1 =~ ^[a-z0-9]+$ ]] || die "usage: cloud.sh compute-version HOST N"
  local where="where host='$1' and \`binary\`='nova-compute' and deleted=0" was
  was=$(mariadb --defaults-file="$ETC/my.cnf" -N -B nova -e "select version from services $where; update services set version=$2 $where")
  [[ -n $was ]] || die "Nova has no nova-compute on $1"
  echo "{\"was\": $was}"
}

verb=${1:-}
[[ $# == 0 ]] || shift
case $verb in
  install)
    "$CLOUD_SRC/install.sh"
    echo '{"installed": true}'
    ;;
  up | down)
    mkdir -p "$RUN" "$LOG"
    exec 9>"$RUN/lock"
    flock 9
    "$verb" "$@"
    ;;
  status)
    [[ -d $CLOUD_DIR/hosts ]] || die "there is no cloud in $CLOUD_DIR; cloud.sh up makes one"
    "$PYTHON" "$CLOUD_SRC/describe.py"
    ;;
  host) host "$@" ;;
  plane) plane "$@" ;;
  compute-version) compute_version "$@" ;;
  guests) "$PYTHON" "$CLOUD_SRC/guests.py" list "$CLOUD_DIR/hosts/${1:?which host?}" ;;
  boot | servers | migrations | service | services | flavors | forced-down | forced-up | evacuate | delete | api | requests | prepare | endpoint | revoke)
    "$PYTHON" "$CLOUD_SRC/client.py" "$verb" "$@"
    ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
