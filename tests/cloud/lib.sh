# shellcheck shell=bash
# Settings and process helpers; every script here sources it. Nothing in it acts by itself.
#
# A process is known by a pid file that holds "PID STARTTIME" (field 22 of /proc/PID/stat), so that a pid which the
# kernel has given to somebody else meanwhile is never signalled.

CLOUD_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
REPO=$(cd "$CLOUD_SRC/../.." && pwd -P)

# --- settings: each may be given in the environment ---------------------------------------------------------------
: "${CLOUD_DIR:=$REPO/target/cloud}"         # all state of one cloud
: "${CLOUD_VENV:=$REPO/target/cloud-venv}"   # OpenStack; may be shared by several clouds
: "${PYTHON:=/usr/bin/python3}"              # Debian's: its libvirt module is linked into the venv
: "${CLOUD_HOSTS:=cmp1 cmp2 cmp3}"           # compute hosts; the number at the end of a name is its number
: "${PORT_BASE:=15000}"                      # the control plane's ports start here, on 127.0.0.1
: "${BMC_NET:=127.0.77}"                     # the BMC of host N is $BMC_NET.N
: "${BMC_PORT:=623}"
: "${SERVICE_DOWN_TIME:=20}"                 # seconds; Nova's default is 60
: "${REPORT_INTERVAL:=5}"                    # seconds; Nova's default is 10
: "${WORKERS:=2}"                            # processes of each API
mkdir -p "$CLOUD_DIR"
CLOUD_DIR=$(cd "$CLOUD_DIR" && pwd -P)
export PYTHONDONTWRITEBYTECODE=1 # no __pycache__ in the source tree
export CLOUD_DIR CLOUD_VENV PYTHON CLOUD_HOSTS PORT_BASE BMC_NET BMC_PORT SERVICE_DOWN_TIME REPORT_INTERVAL WORKERS

IP=127.0.0.1
P_KEYSTONE=$PORT_BASE P_NOVA=$((PORT_BASE + 774)) P_PLACEMENT=$((PORT_BASE + 778)) P_GLANCE=$((PORT_BASE + 292))
P_NEUTRON=$((PORT_BASE + 696)) P_DB=$((PORT_BASE + 306)) P_MQ=$((PORT_BASE + 672)) P_EPMD=$((PORT_BASE + 369))
P_DIST=$((PORT_BASE + 673))
ETC=$CLOUD_DIR/etc LOG=$CLOUD_DIR/log RUN=$CLOUD_DIR/run

# Made-up passwords of a cloud that listens on loopback only; written into files, never into arguments.
CLOUD_PASSWORD=loopback-only
BMC_USER=rekindle BMC_PASSWORD=bmc-loopback

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }
die() { printf 'cloud: %s\n' "$*" >&2; exit 1; }
json_error() { printf '{"error": "%s"}\n' "${*//\"/\'}"; exit 1; }

# --- processes ----------------------------------------------------------------------------------------------------
# start_time PID (with `read`: a failing $(<file) ends a script under set -e, whatever is around it): prints it; fails for a process that is gone or a zombie (an orphan may stay one for seconds where
# PID 1 reaps slowly).
start_time() {
  local stat fields
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] && echo "${fields[19]}"
}

# alive PIDFILE
alive() {
  local pid start
  read -r pid start 2>/dev/null <"$1" || return 1
  [[ -n $start && $(start_time "$pid") == "$start" ]]
}

# record PIDFILE PID: written whole or not at all.
record() {
  local start
  start=$(start_time "$2") || return 1
  echo "$2 $start" >"$1.new" && mv "$1.new" "$1"
}

# launch PIDFILE LOGFILE COMMAND...: detached, in a session of its own, unless it runs already. Lock descriptors
# (7 to 9) are not handed on. REKINDLE_CLOUD marks whatever it starts in turn, for the check in leftovers().
launch() {
  local pidfile=$1 log=$2
  shift 2
  alive "$pidfile" && return 0
  REKINDLE_CLOUD=$CLOUD_DIR setsid "$@" >>"$log" 2>&1 </dev/null 7>&- 8>&- 9>&- &
  local pid=$!
  # setsid execs the command in place, but only some moments later: the group must exist before anybody signals it.
  local i
  for i in {1..50}; do [[ $(pgrp_of "$pid") == "$pid" ]] && break; sleep 0.02; done
  record "$pidfile" "$pid" || die "$(basename "$pidfile" .pid) ended at once; see $log"
}

pgrp_of() {
  local stat fields
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  read -ra fields <<<"${stat##*) }"
  echo "${fields[2]}"
}

# signal PIDFILE SIGNAL: to its process group if it leads one, otherwise (a process that a test started) to it alone.
signal() {
  local pid start
  alive "$1" || return 0
  read -r pid start <"$1"
  if [[ $(pgrp_of "$pid") == "$pid" ]]; then kill "-$2" -- "-$pid"; else kill "-$2" "$pid"; fi 2>/dev/null
}

# gone PIDFILE SECONDS: waits until it has ended.
gone() {
  local i
  for ((i = 0; i < $2 * 20; i++)); do alive "$1" || return 0; sleep 0.05; done
  return 1
}

# stop PIDFILE [SECONDS]: TERM, and KILL when that has not helped in time.
stop() {
  signal "$1" TERM
  gone "$1" "${2:-10}" || { signal "$1" KILL; gone "$1" 5; } || die "$1 does not die"
  rm -f "$1"
}

# leftovers: "PID COMMAND" of every live process that this cloud started and that still runs.
leftovers() {
  local f pid
  for f in /proc/[0-9]*/environ; do
    pid=${f//[^0-9]/}
    grep -qzxF "REKINDLE_CLOUD=$CLOUD_DIR" "$f" 2>/dev/null && start_time "$pid" >/dev/null &&
      echo "$pid $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | cut -c1-100)"
  done
  return 0
}

listening() { (exec 3<>"/dev/tcp/$IP/$1") 2>/dev/null; }
wait_port() { # wait_port PORT SECONDS NAME
  local i
  for ((i = 0; i < $2 * 5; i++)); do listening "$1" && return 0; sleep 0.2; done
  die "$3 does not listen on $IP:$1 after $2 s; see $LOG/$3.log"
}

# --- stages: what took how long -----------------------------------------------------------------------------------
STAGES=() STAGE_START=${EPOCHREALTIME/./}
stage() { # stage NAME: call it when the stage is over
  local now=${EPOCHREALTIME/./} ms
  ms=$(((now - STAGE_START) / 1000)) STAGE_START=$now
  STAGES+=("$(printf '"%s": %d.%03d' "$1" $((ms / 1000)) $((ms % 1000)))")
  printf '%(%H:%M:%S)T %7.1f s  %s\n' -1 "$((ms / 1000)).$((ms % 1000 / 100))" "$1" >&2
}
stages_json() { local IFS=,; printf '{%s}' "${STAGES[*]}"; }
