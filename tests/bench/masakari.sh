#!/bin/bash
# Real Masakari (API and engine) beside the test cloud, to be measured against.
#
#   masakari.sh install                   into a venv of its own, $MASAKARI_VENV
#   masakari.sh start default|tuned N     with an empty database; "default" is upstream's waits, "tuned" none of them;
#                                         N servers evacuated at once (upstream: 3)
#   masakari.sh stop
set -euo pipefail
. "$(dirname "$0")/../cloud/lib.sh"
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
: "${MASAKARI_VENV:=$REPO/target/bench-masakari}"
: "${P_MASAKARI:=$((PORT_BASE + 868))}"
CONF=$ETC/masakari/masakari.conf
ARGS=(--config-file "$CONF")

install() {
  local want uv=$CLOUD_VENV-uv
  want=$(cat "$HERE/masakari-requirements.txt" "$CLOUD_SRC/constraints.txt" <("$PYTHON" -VV) | sha256sum | cut -d' ' -f1)
  [[ $(cat "$MASAKARI_VENV/.hash" 2>/dev/null) != "$want" ]] || return 0
  say "installing Masakari into $MASAKARI_VENV"
  # uv is there: the cloud was installed with it.
  "$uv/bin/uv" venv -q --clear --python "$PYTHON" "$MASAKARI_VENV"
  "$uv/bin/uv" pip install -q --python "$MASAKARI_VENV/bin/python" -r "$HERE/masakari-requirements.txt" \
    -c "$CLOUD_SRC/constraints.txt"
  echo "$want" >"$MASAKARI_VENV/.hash"
}

# Every wait that Masakari has, at its least. notification_delay_max is a random sleep in its API.
no_waits() {
  cat <<C
wait_period_after_service_update = 0
verify_interval = 1
duplicate_notification_detection_interval = 0
process_unfinished_notifications_interval = 10
retry_notification_new_status_interval = 5
notification_delay_max = 0
C
}

configure() {
  local url=mysql+pymysql://root:$CLOUD_PASSWORD@$IP:$P_DB/masakari?charset=utf8
  cat <<C
[DEFAULT]
use_stderr = true
host = control
host_failure_recovery_threads = $2
transport_url = rabbit://guest:guest@$IP:$P_MQ/
masakari_api_listen = $IP
masakari_api_listen_port = $P_MASAKARI
masakari_api_workers = 1
api_paste_config = $ETC/masakari/api-paste.ini
state_path = $CLOUD_DIR/masakari
os_privileged_user_name = masakari
os_privileged_user_password = $CLOUD_PASSWORD
os_privileged_user_tenant = service
os_privileged_user_auth_url = http://$IP:$P_KEYSTONE/v3
os_region_name = RegionOne
nova_catalog_admin_info = compute:nova:publicURL
$([[ $1 != tuned ]] || no_waits)
[database]
connection = $url
[taskflow]
connection = $url
[keystone_authtoken]
www_authenticate_uri = http://$IP:$P_KEYSTONE/v3
auth_type = password
auth_url = http://$IP:$P_KEYSTONE/v3
username = masakari
password = $CLOUD_PASSWORD
project_name = service
user_domain_name = Default
project_domain_name = Default
C
}

start() {
  install
  halt
  (umask 077; mkdir -p "$ETC/masakari" "$CLOUD_DIR/masakari"; configure "$@" >"$CONF")
  cp "$MASAKARI_VENV/etc/masakari/api-paste.ini" "$ETC/masakari/"
  mariadb --defaults-file="$ETC/my.cnf" -e 'drop database if exists masakari; create database masakari character set utf8'
  "$MASAKARI_VENV/bin/masakari-manage" "${ARGS[@]}" db sync >"$LOG/schema-masakari.log" 2>&1 ||
    die "Masakari's schema could not be made; see $LOG/schema-masakari.log"
  launch "$RUN/masakari-api.pid" "$LOG/masakari-api.log" "$MASAKARI_VENV/bin/masakari-api" "${ARGS[@]}"
  launch "$RUN/masakari-engine.pid" "$LOG/masakari-engine.log" "$MASAKARI_VENV/bin/masakari-engine" "${ARGS[@]}"
  wait_port "$P_MASAKARI" 60 masakari-api
}

halt() {
  stop "$RUN/masakari-engine.pid" 5
  stop "$RUN/masakari-api.pid" 5
}

case ${1:-} in
  install) install ;;
  start) start "${2:?default or tuned}" "${3:?how many at once}" ;;
  stop) halt ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
