#!/bin/bash
# Proves the test cloud itself, without rekindle: one host dies, is fenced by its BMC and evacuated by raw calls, comes
# back, and Nova cleans up; then everything is stopped and nothing is left. Uses a directory of its own; refuses to
# start while another cloud holds the ports. Takes about four minutes on a bare machine.
set -euo pipefail
export CLOUD_DIR=${CLOUD_DIR:-$(cd "$(dirname "$0")/../.." && pwd -P)/target/cloud-selftest}
. "$(dirname "$0")/lib.sh"

PASSED=0
cloud() { "$CLOUD_SRC/cloud.sh" "$@"; }
# json EXPRESSION: of the JSON on stdin as `d`; prints it (strings plainly); fails if it is false or empty.
json() {
  "$PYTHON" -c '
import json, sys
d = json.load(sys.stdin)
v = eval(sys.argv[1])
print(v if isinstance(v, str) else json.dumps(v))
sys.exit(0 if v else 1)' "$1"
}
pass() { PASSED=$((PASSED + 1)); say "ok   $*"; }
fail() { say "FAIL $*"; echo "$PASSED passed, 1 failed"; exit 1; }
# expect TEXT EXPRESSION COMMAND...: the command's JSON satisfies the expression, now.
expect() {
  local out
  out=$("${@:3}") || fail "$1: $out"
  json "$2" <<<"$out" >/dev/null || fail "$1: not so: $2 of $out"
  pass "$1"
}
# eventually SECONDS TEXT EXPRESSION COMMAND...
eventually() {
  local out='' end=$((SECONDS + $1))
  until out=$("${@:4}") && json "$3" <<<"$out" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$2: not within $1 s: $3 of $out"
    sleep 0.5
  done
  pass "$2"
}
# ipmi HOST WORDS...: as an operator, like rekindled.
ipmi() {
  local n=${1##*[!0-9]}
  ipmitool -I lanplus -C 3 -L OPERATOR -N 2 -R 2 -H "$BMC_NET.$n" -p "$BMC_PORT" -U "$BMC_USER" \
    -f "$CLOUD_DIR/hosts/$1/bmc/password" "${@:2}" 2>/dev/null
}

cleanup() {
  local rc=$?
  trap - EXIT
  # A child that a test adopted into a host, and whatever of the cloud is still up. What counts by now is how the test ended.
  "$CLOUD_SRC/cloud.sh" down >/dev/null || true
  exit $rc
}

# KEEP=1, for work on this file: starts with what is there, and leaves it when it fails.
[[ ${KEEP:-} ]] || { cloud down --wipe >/dev/null; trap cleanup EXIT; }
cloud up >"$RUN/up.json"
stage "cloud up"
expect "three hosts and their services run" \
  'len(d["hosts"]) == 3 and all(d["processes"].values()) and all(h["processes"]["nova-compute"] for h in d["hosts"])' \
  cat "$RUN/up.json"
before=$(cut -d' ' -f1 "$RUN/nova-conductor.pid")
cloud up >"$RUN/again.json"
expect "a second up starts nothing anew" "d['processes']['nova-conductor'] == $before" cat "$RUN/again.json"
stage "second up"

# --- who the machines are ---
for h in $CLOUD_HOSTS; do
  guid=$(ipmi "$h" mc guid | sed -n 's/^System GUID *: *//p')
  [[ $guid == "$(<"$CLOUD_DIR/hosts/$h/system_uuid")" ]] || fail "GUID of $h: '$guid'"
  pass "the BMC of $h says its machine is $guid; on the wire ($(<"$CLOUD_DIR/hosts/$h/bmc/guid_order")):$(ipmi "$h" raw 6 0x37)"
  [[ $(ipmi "$h" chassis power status) == *on ]] || fail "$h is not on"
done
! ipmitool -I lanplus -C 3 -N 1 -R 1 -H "$BMC_NET.1" -p "$BMC_PORT" -U "$BMC_USER" -P wrong chassis power status >/dev/null 2>&1 ||
  fail "a wrong password was taken"
pass "a wrong password is refused"

# --- servers, and their domains ---
cloud boot 4 cmp1 --meta consent=yes >"$RUN/servers.json"
ids=$(json '" ".join(sorted(s["id"] for s in d))' <"$RUN/servers.json")
expect "four servers ACTIVE on cmp1" 'len(d) == 4' cat "$RUN/servers.json"
expect "their domains run in cmp1's libvirtd" \
  "' '.join(sorted(g['uuid'] for g in d if g['running'])) == '$ids'" cloud guests cmp1
expect "and nowhere else" 'd == []' cloud guests cmp2
uri=$(cloud host status cmp1 | json 'd["libvirt_uri"]')
for id in $ids; do
  disks=$(virsh -c "$uri" domblklist "$id" --details)
  [[ $disks == *file*"/disks/$id/disk"* ]] || fail "no local disk in $id: $disks"
done
pass "each has a disk on the host's own file system"
echo "made to fail" >"$CLOUD_DIR/hosts/cmp2/knobs/fail-spawn"
! cloud boot 1 cmp2 >"$RUN/refused.json" 2>/dev/null || fail "a spawn succeeded under fail-spawn"
pass "knobs/fail-spawn makes a spawn fail"
rm "$CLOUD_DIR/hosts/cmp2/knobs/fail-spawn"
cloud delete "$(cloud servers | json 'next(s["id"] for s in d if s["status"] == "ERROR")')" >/dev/null
stage "servers"

# --- a host dies, and is fenced ---
sleep 1000 </dev/null >/dev/null 2>&1 &
adopted=$!
disown "$adopted" # no "Killed" from the shell
cloud host adopt cmp1 rekindled "$adopted" >/dev/null
bystander=$(cut -d' ' -f1 "$CLOUD_DIR/hosts/cmp2/pids/nova-compute.pid")
ipmi cmp1 chassis power off >/dev/null || fail "power off was refused"
[[ $(ipmi cmp1 chassis power status) == *off ]] || fail "cmp1 is not off"
! start_time "$adopted" >/dev/null || fail "the adopted process outlived its host"
expect "off: every process of cmp1 is dead, the adopted one too" \
  'd["power"] == "off" and d["power_log"][-1]["event"] == "power off" and not any(d["processes"].values())' cloud host status cmp1
start_time "$bystander" >/dev/null || fail "cmp2 died with it"
! cloud guests cmp1 >/dev/null || fail "a dead host's libvirtd answers"
pass "its libvirtd is silent, its neighbour lives"
off_ns=$(cloud host status cmp1 | json 'd["power_log"][-1]["ns"]')

# --- evacuation ---
expect "forced down" 'd["forced_down"]' cloud forced-down cmp1
for id in $ids; do cloud evacuate "$id" >/dev/null || fail "evacuate $id"; done
eventually 180 "all four ACTIVE elsewhere" \
  "sorted(s['id'] for s in d if s['status'] == 'ACTIVE' and s['host'] != 'cmp1' and not s['task_state']) == '$ids'.split()" \
  cloud servers
eventually 30 "one evacuation each, done" "[m['status'] for m in d] == ['done'] * 4" cloud migrations cmp1
both() { printf '[%s, %s]' "$(cloud guests cmp2)" "$(cloud guests cmp3)"; }
expect "their domains run on cmp2 and cmp3, once each" \
  "sorted(g['uuid'] for host in d for g in host if g['running']) == '$ids'.split()" both
expect "the host was off before the first evacuate" \
  "len([r for r in d if r['us'] * 1000 > $off_ns]) == len(d) == 4" cloud requests /action
stage "fence and evacuate"

# --- the host returns ---
! cloud forced-up cmp1 --timeout 3 >/dev/null 2>&1 || fail "Nova took a host that has not cleaned up"
pass "Nova refuses to take cmp1 back before its compute has cleaned up"
ipmi cmp1 chassis power on >/dev/null || fail "power on was refused"
[[ $(ipmi cmp1 chassis power status) == *on ]] || fail "cmp1 is not on"
expect "its old domains are there again, as after libvirt's autostart" \
  "' '.join(sorted(g['uuid'] for g in d if g['running'])) == '$ids'" cloud guests cmp1
eventually 120 "Nova destroys them" 'd == []' cloud guests cmp1
eventually 60 "and completes the migrations" "[m['status'] for m in d] == ['completed'] * 4" cloud migrations cmp1
[[ -z $(ls "$CLOUD_DIR/hosts/cmp1/guests" "$CLOUD_DIR/hosts/cmp1/disks" | grep -v : ) ]] || fail "files of guests are left on cmp1"
pass "its disk is clean"
expect "cmp1 is up again" 'd["state"] == "up" and not d["forced_down"]' cloud forced-up cmp1
expect "no server was touched" "sorted(s['id'] for s in d if s['status'] == 'ACTIVE' and s['host'] != 'cmp1') == '$ids'.split()" cloud servers
stage "return"

# --- a crash (the BMC goes on saying "on"), and stopped guests ---
cloud boot 1 cmp1 --name crash >"$RUN/crash.json"
id=$(json 'd[0]["id"]' <"$RUN/crash.json")
cloud api POST "/servers/$id/action" '{"os-stop": null}' >/dev/null
eventually 60 "os-stop stops the domain" 'len(d) == 1 and not d[0]["running"]' cloud guests cmp1
cloud host kill cmp1 >/dev/null
[[ $(ipmi cmp1 chassis power status) == *on ]] || fail "the BMC of a crashed host says off"
pass "after a crash its BMC says on"
cloud host start cmp1 >/dev/null
expect "a stopped guest stays stopped over a restart" 'len(d) == 1 and not d[0]["running"]' cloud guests cmp1
cloud forced-up cmp1 >/dev/null
cloud delete >/dev/null
expect "after delete no domain is left" 'd == []' cloud guests cmp1
stage "crash"

# --- nothing is left ---
cloud down >/dev/null
trap - EXIT
[[ -z $(leftovers) ]] || fail "processes are left: $(leftovers)"
for port in $P_KEYSTONE $P_NOVA $P_PLACEMENT $P_GLANCE $P_NEUTRON $P_DB $P_MQ $P_EPMD $P_DIST; do
  ! listening "$port" || fail "somebody listens on $port"
done
for n in 1 2 3; do
  # UDP: /proc/net/udp shows the address and port of every bound socket in hexadecimal.
  hex=$(printf '%02X%02X%02X%02X:%04X' "$n" $(tr . '\n' <<<"$BMC_NET" | tac) "$BMC_PORT")
  ! grep -q " $hex " /proc/net/udp || fail "a BMC still listens on $BMC_NET.$n"
done
pass "no process and no listener is left"
stage "down"
printf '{"seconds": %s, "up": %s}\n' "$(stages_json)" "$(json 'd["seconds"]' <"$RUN/up.json")"
cloud down --wipe >/dev/null
echo "$PASSED passed, 0 failed"
