#!/bin/bash
# One compute host: a libvirtd with its guests (in a pid and mount namespace), a nova-compute, whatever a test adds
# (its rekindled), and a BMC that outlives them.
#
#   host.sh configure HOST        writes its directory and its BMC's configuration
#   host.sh bmc HOST              starts its BMC (ipmi_sim)
#   host.sh start HOST            power on if it is off; starts what a booting machine starts
#   host.sh kill HOST             its kernel died: all its processes end at once; its BMC goes on saying "on"
#   host.sh off HOST              power off, as its BMC does it: the same, and the BMC says "off"
#                                 (knobs/rekindled and knobs/gate, if they are there: the commands of its daemon, and of a
#                                 boot gate before guests and nova-compute)
#   host.sh adopt HOST NAME PID   makes a running process one of the host's, so that it dies with it
#   host.sh restart-compute HOST  its nova-compute alone is killed, and starts again
#
# In $CLOUD_DIR/hosts/HOST: pids/NAME.pid; power ("on" or "off"); power.log, lines of "NANOSECONDS EVENT" (unix time),
# the events being "power on", "power off" (written when the last process is dead), "start" and "crash".
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[[ $# -ge 2 ]] || die "usage: host.sh configure|bmc|start|kill|off|adopt|restart-compute HOST"
VERB=$1 HOST=$2 DIR=$CLOUD_DIR/hosts/$2
[[ " $CLOUD_HOSTS " == *" $HOST "* ]] || die "$HOST is none of this cloud's hosts ($CLOUD_HOSTS)"
NUMBER=${HOST##*[!0-9]}

note() { printf '%s %s\n' "$(date +%s%N)" "$1" >>"$DIR/power.log"; }

configure() {
  mkdir -p "$DIR"/{pids,guests,disks,knobs,nova,bmc/state,libvirt/{run,etc,lib,cache,log,no-drivers}}
  [[ -s $DIR/power ]] || echo on >"$DIR/power"
  # Real BMCs differ in the order of the GUID's bytes, so these do: IPMI's own (all reversed), SMBIOS (the first three
  # fields reversed: what most send), RFC 4122 (as written). `ipmitool mc guid` tells them apart; a raw reader must too.
  local order uuid guid
  case $((NUMBER % 3)) in 0) order=rfc4122 ;; 1) order=smbios ;; 2) order=ipmi ;; esac
  read -r uuid guid < <("$PYTHON" - "$HOST" "$order" <<'P'
import sys, uuid
u = uuid.uuid5(uuid.NAMESPACE_DNS, sys.argv[1] + '.rekindle.test')
print(u, {'rfc4122': u.bytes, 'smbios': u.bytes_le, 'ipmi': u.bytes[::-1]}[sys.argv[2]].hex())
P
  )
  echo "$uuid" >"$DIR/system_uuid"
  echo "$order" >"$DIR/bmc/guid_order"
  (umask 077; printf '%s' "$BMC_PASSWORD" >"$DIR/bmc/password")
  cat >"$DIR/bmc/lan.conf" <<C
name "bmc-$HOST"
set_working_mc 0x20
  startlan 1
    addr $BMC_NET.$NUMBER $BMC_PORT
    priv_limit admin
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid $guid
  endlan
  chassis_control "$CLOUD_SRC/bmc-power.sh $HOST"
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "$BMC_USER" "$BMC_PASSWORD" operator 10 none md2 md5 straight
C
  cat >"$DIR/bmc/sim.emu" <<C
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
C
  printf 'host_uuid = "%s"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n' "$uuid" >"$DIR/libvirt/etc/libvirtd.conf"
  printf '[DEFAULT]\nhost = %s\nstate_path = %s\n[oslo_concurrency]\nlock_path = %s/lock\n' \
    "$HOST" "$DIR/nova" "$DIR/nova" >"$ETC/nova/$HOST.conf"
}

bmc() {
  launch "$RUN/bmc-$HOST.pid" "$LOG/bmc-$HOST.log" \
    ipmi_sim -n -p -c "$DIR/bmc/lan.conf" -f "$DIR/bmc/sim.emu" -s "$DIR/bmc/state"
}

# Runs as the first process of the host's namespaces. All of libvirt's directories are the host's own; with an empty
# driver directory libvirtd has no driver but the built-in ones, of which `test` is one.
inside() {
  local d
  mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt /etc/libvirt
  for d in run:/run/libvirt etc:/etc/libvirt lib:/var/lib/libvirt cache:/var/cache/libvirt log:/var/log/libvirt; do
    mount --bind "$DIR/libvirt/${d%%:*}" "${d#*:}"
  done
  export LIBVIRT_DRIVER_DIR=$DIR/libvirt/no-drivers
  exec tini -g -- bash -c 'libvirtd --pid-file "$1/libvirt/run/libvirtd.pid" & exec "$2" "$3/guests.py" keep "$1"' \
    host "$DIR" "$PYTHON" "$CLOUD_SRC"
}

start() {
  [[ $(<"$DIR/power") == on ]] || { echo on >"$DIR/power"; note "power on"; }
  if ! alive "$DIR/pids/libvirt.pid"; then
    note start
    cat /proc/sys/kernel/random/uuid >"$DIR/boot_id"
    rm -rf "$DIR"/libvirt/run/*
    launch "$DIR/pids/libvirt.pid" "$LOG/libvirt-$HOST.log" \
      unshare --pid --fork --kill-child --mount --propagation private --mount-proc "$CLOUD_SRC/host.sh" inside "$HOST"
  fi
  local i
  for i in {1..300}; do [[ -e $DIR/libvirt/run/ready ]] && break; sleep 0.1; done
  [[ -e $DIR/libvirt/run/ready ]] || die "libvirtd of $HOST did not come up; see $LOG/libvirt-$HOST.log"
  [[ ! -e $DIR/knobs/rekindled ]] || launch "$DIR/pids/rekindled.pid" "$LOG/rekindled-$HOST.log" "$CLOUD_SRC/host.sh" rekindled "$HOST"
  if [[ ! -e $DIR/knobs/gate ]]; then
    compute
  elif ! alive "$DIR/pids/nova-compute.pid"; then
    launch "$DIR/pids/gate.pid" "$LOG/gate-$HOST.log" "$CLOUD_SRC/host.sh" gate "$HOST"
  fi
}

compute() {
  launch "$DIR/pids/nova-compute.pid" "$LOG/nova-compute-$HOST.log" \
    "$CLOUD_VENV/bin/nova-compute" --config-file "$ETC/nova/nova.conf" --config-file "$ETC/nova/$HOST.conf"
}

# The host as its own daemon sees it: its boot, and that systemd starts nova-compute behind rekindle's boot gate.
as_the_host() {
  mkdir -p "$DIR"/gate/{run,systemd/nova-compute.service.requires} /run/rekindle-gate /etc/systemd/system
  touch "$DIR"/gate/systemd/{nova-compute.service,nova-compute.service.requires/rekindle-gate.service}
  [[ -e $DIR/knobs/gate ]] && mount --bind "$DIR/gate/systemd" /etc/systemd/system
  mount --bind "$DIR/gate/run" /run/rekindle-gate
  mount --bind "$DIR/boot_id" /proc/sys/kernel/random/boot_id
}

# As systemd has it: what waits at the gate starts when the gate's command has ended well, and not before.
gate() {
  until bash "$DIR/knobs/gate"; do sleep 1; done
  compute
}

kill_all() {
  local f
  for f in "$DIR"/pids/*.pid; do [[ ! -e $f ]] || signal "$f" KILL; done
  for f in "$DIR"/pids/*.pid; do
    [[ -e $f ]] || continue
    gone "$f" 10 || die "$f does not die: $HOST is not off"
    rm -f "$f"
  done
}

off() {
  kill_all
  [[ $(<"$DIR/power") == off ]] || { echo off >"$DIR/power"; note "power off"; }
}

restart_compute() {
  signal "$DIR/pids/nova-compute.pid" KILL
  gone "$DIR/pids/nova-compute.pid" 10 || die "nova-compute of $HOST does not die"
  compute
}

adopt() {
  [[ $(<"$DIR/power") == on ]] || die "$HOST is off: nothing runs on it"
  record "$DIR/pids/$1.pid" "$2" || die "no process $2"
}

case $VERB in
  inside) inside ;;
  # In a mount namespace of their own.
  rekindled | gate)
    if [[ ${3:-} != within ]]; then exec unshare --mount --propagation private "$CLOUD_SRC/host.sh" "$VERB" "$HOST" within; fi
    as_the_host
    [[ $VERB == rekindled ]] && exec bash "$DIR/knobs/rekindled"
    gate
    ;;
  configure | bmc) "$VERB" ;;
  start | off | adopt | kill | restart-compute)
    # One at a time per host; whoever it starts does not inherit the lock.
    exec 7>"$DIR/lock"
    flock 7
    shift 2
    case $VERB in
      kill) kill_all; note crash ;;
      restart-compute) restart_compute ;;
      *) "$VERB" "$@" ;;
    esac
    ;;
  *) die "unknown verb $VERB" ;;
esac
