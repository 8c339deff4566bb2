#!/bin/bash
# What ipmi_sim runs for its chassis: "HOST get power" (prints power:0 or power:1), "HOST set power 0|1",
# "HOST set shutdown 1", "HOST set reset 1". It runs synchronously: the BMC answers when the power is off.
#
# Knobs in the host's bmc/ directory: `stuck`, if it exists, makes the BMC accept every order and do nothing;
# `slow` holds the seconds it takes before it obeys.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
HOST=$1 OPERATION=$2 DIR=$CLOUD_DIR/hosts/$1
shift 2
printf '%s %s\n' "$(date +%s%N)" "$OPERATION $*" >>"$DIR/bmc/calls.log"

obey() {
  [[ ! -e $DIR/bmc/stuck ]] || return 0
  [[ ! -s $DIR/bmc/slow ]] || sleep "$(<"$DIR/bmc/slow")"
  case $1 in
    "power 0" | "shutdown 1") "$CLOUD_SRC/host.sh" off "$HOST" ;;
    "power 1") "$CLOUD_SRC/host.sh" start "$HOST" ;;
    "reset 1") "$CLOUD_SRC/host.sh" off "$HOST" && "$CLOUD_SRC/host.sh" start "$HOST" ;;
  esac
}

case $OPERATION in
  get)
    for what in "$@"; do
      value=0
      [[ $what != power || $(<"$DIR/power") == off ]] || value=1
      echo "$what:$value"
    done
    ;;
  set)
    while [[ $# -ge 2 ]]; do obey "$1 $2" >>"$LOG/bmc-$HOST.log" 2>&1 || exit 1; shift 2; done
    ;;
esac
