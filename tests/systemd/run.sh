#!/bin/bash
# systemd/rekindled.service as it is, under a real systemd: does the daemon live with everything the unit takes away from
# it, and does systemd do with it what the unit says? One voter (cmp-01) and one member (cmp-02), each by that unit, and a
# simulated BMC, all in namespaces of their own. And systemd/rekindle-gate.service: does it hold what it has to hold? And the
# two files for a host with a watchdog, installed as docs/fencing.md says: does systemd do what they say?
#
#   run.sh [DIR]     DIR holds rekindled and rekindle (target/debug)
#
# As root. REKINDLE_UNIT=FILE, REKINDLE_GATE=FILE, REKINDLE_WATCHDOG=FILE and REKINDLE_SYSTEM=FILE try others than those in
# systemd/. Prints "ok ..." and "FAILED ...", and "N passed, M failed" at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
BIN=$(realpath -m "${1:-target/debug}")
UNIT=${REKINDLE_UNIT:-systemd/rekindled.service}
GATE=${REKINDLE_GATE:-systemd/rekindle-gate.service}
WATCHDOG=${REKINDLE_WATCHDOG:-systemd/rekindled-watchdog.conf}
SYSTEM=${REKINDLE_SYSTEM:-systemd/rekindle-system.conf}
PATH=$PATH:/usr/sbin:/sbin
# The last number that Linux gives to a watchdog. No machine has so many: there is nothing behind it that could be started.
DOG=watchdog31
GUID=a1234567-89ab-cdef-a123-456789abcdef
GUID2=b1234567-89ab-cdef-a123-456789abcdef

PASSED=0 FAILED=0 D='' OUTER='' INIT='' GROUP='' COUNTED=''

# --- the host -----------------------------------------------------------------------------------------------------------

look_first() {
  local tool
  [[ $EUID == 0 ]] || die "must be root: it makes namespaces, mounts and a cgroup"
  for tool in unshare:util-linux nsenter:util-linux setpriv:util-linux pivot_root:util-linux systemctl:systemd \
    journalctl:systemd systemd-sysusers:systemd systemd-tmpfiles:systemd ipmitool:ipmitool ipmi_sim:openipmi \
    pgrep:procps; do
    command -v "${tool%%:*}" >/dev/null || die "there is no ${tool%%:*} here: install the package ${tool#*:}"
  done
  [[ -x /lib/systemd/systemd ]] || die "there is no /lib/systemd/systemd here: install the package systemd"
  for tool in rekindled rekindle; do
    [[ -x $BIN/$tool ]] || die "there is no $BIN/$tool: build it (make build)"
  done
  grep -qw overlay /proc/filesystems || die "this kernel has no overlayfs"
  CGROUPS=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [[ -n $CGROUPS && -w $CGROUPS ]] || die "no cgroup2 hierarchy is mounted that could be written to"
}

# Only what was started here: its first process, with which the whole namespace ends, and its own cgroups.
clean_up() {
  local i rc=$?
  trap - EXIT
  if [[ $rc != 0 && -z $COUNTED ]]; then
    FAILED=$((FAILED + 1))
    # Told as far as it can be: the namespace may be what broke.
    [[ -z $INIT ]] || inside journalctl --no-pager 2>/dev/null | tail -n 40 >&2 || true
    echo "FAILED  the test ended before its end (exit $rc)"
    printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
  fi
  if [[ -n $OUTER ]]; then
    # It may have ended by itself; what is waited for was killed.
    kill -KILL "$OUTER" 2>/dev/null || true
    wait "$OUTER" 2>/dev/null || true
  fi
  if [[ -n $GROUP ]]; then
    for i in {1..50}; do
      # A cgroup is busy until the last of its processes is reaped: tried again, and judged below.
      find "$GROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ -d $GROUP ]] || break
      sleep 0.1
    done
    [[ ! -d $GROUP ]] || say "$GROUP could not be removed"
  fi
  [[ -z $D ]] || rm -rf --one-file-system "$D"
  exit "$rc"
}

rekindle_toml() { # HOST ADDRESS, then further lines of [member] on standard input
  printf '[member]\nhost = "%s"\nlisten = "%s:7946"\n' "$1" "$2"
  cat
  cat <<'TOML'
[cluster]
name = "unit"
voters = ["cmp-01"]
seeds = ["127.0.0.1:7946"]
[libvirt]
uri = "off"
[fencing]
# Longer than ipmitool takes to give up, so that its own words come through.
device_timeout = "10s"
[[fence_device]]
hosts = "cmp-01"
driver = "ipmi-tool"
address = "127.0.0.1:6230"
username = "rekindle"
password_file = "bmc.password"
cipher_suite = 3
[[fence_device]]
hosts = "cmp-02"
driver = "ipmi-tool"
address = "127.0.0.1:6231"
username = "rekindle"
password_file = "bmc.password"
cipher_suite = 3
[[fence_device]]
hosts = "cmp-03"
driver = "ipmi-tool"
address = "127.0.0.1:6232"
username = "rekindle"
password_file = "bmc.password"
TOML
}

write_bmc() { # DIR PORT GUID; its power is what DIR/power says
  local here=${1#"$D/files"}
  mkdir -p "$1/state"
  echo 1 >"$1/power"
  cat >"$1/lan.conf" <<CONF
name "bmc-$2"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 $2
    priv_limit admin
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid ${3//-/}
  endlan
  chassis_control "$here/chassis"
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "rekindle" "simulated" operator 10 none md2 md5 straight
CONF
  printf '%s\n' 'mc_setbmc 0x20' 'mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr' \
    'sel_enable 0x20 1000 0x0a' 'mc_enable 0x20' >"$1/emu"
  # shellcheck disable=SC2016
  printf '%s\n' '#!/bin/sh' 'case "$1 $2" in' "\"set power\") echo \"\$3\" >$here/power ;;" \
    "get\\ *) shift; for what; do echo \"\$what:\$(cat $here/power)\"; done ;;" esac >"$1/chassis"
  chmod +x "$1/chassis"
  printf '[Service]\nExecStart=/usr/bin/ipmi_sim -n -c %s/lan.conf -f %s/emu -s %s/state\n' "$here" "$here" "$here" \
    >"$D/files/etc/systemd/system/bmc-$2.service"
}

# What docs/install.md has an operator put there, and the two helpers.
furnish() {
  local files=$D/files
  mkdir -p "$D"/{above,root} "$files"/etc/{systemd/system,sysusers.d,tmpfiles.d,rekindle} "$files/opt"
  chmod 755 "$D" "$files" "$files/opt"
  echo "$GUID" >"$D/product_uuid"
  furnish_watchdog "$D/$DOG"
  install -m 0644 "$UNIT" "$files/etc/systemd/system/rekindled.service"
  install -m 0644 systemd/rekindle.sysusers "$files/etc/sysusers.d/rekindle.conf"
  install -m 0644 systemd/rekindle.tmpfiles "$files/etc/tmpfiles.d/rekindle.conf"
  local etc=$files/etc/rekindle pki=$D/pki
  {
    "$BIN/rekindle" pki init --cluster unit --dir "$pki"
    "$BIN/rekindle" pki issue cmp-01 --dir "$pki" --out "$etc"
    "$BIN/rekindle" pki issue cmp-02 --dir "$pki" --out "$etc"
    "$BIN/rekindle" pki issue cmp-03 --dir "$pki" --out "$etc"
    "$BIN/rekindle" pki issue --role operator operator --dir "$pki" --out "$etc"
  } >/dev/null
  cp "$pki/ca.pem" "$etc/"
  (umask 077 && echo simulated >"$etc/bmc.password")
  rekindle_toml cmp-01 127.0.0.1 </dev/null >"$etc/rekindle.toml"
  printf '[[process]]\nname = "nova-compute"\nunit = "nova-compute.service"\nrestart_delay = "1s"\n' >>"$etc/rekindle.toml"
  rekindle_toml cmp-02 127.0.0.2 >"$etc/peer.toml" <<TOML
state_dir = "/var/lib/peer"
admin_socket = "/run/peer/admin.sock"
system_uuid = "$GUID2"
TOML
  rekindle_toml cmp-03 127.0.0.3 >"$etc/third.toml" <<'TOML'
state_dir = "/var/lib/third"
admin_socket = "/run/third/admin.sock"
system_uuid = "c1234567-89ab-cdef-a123-456789abcdef"
TOML
  printf '[[host]]\nhost = "cmp-%s"\n' 01 02 03 >"$etc/roster.toml"
  write_bmc "$files/opt/bmc1" 6230 "$GUID"
  write_bmc "$files/opt/bmc2" 6231 "$GUID2"
  install -m 0644 "$WATCHDOG" "$files/opt/rekindled-watchdog.conf"
  install -m 0644 "$SYSTEM" "$files/opt/rekindle-system.conf"
  # The same unit again, with places of its own; an empty assignment puts their modes back to systemd's 0755, too.
  local other
  for other in peer third; do
    cp "$files/etc/systemd/system/rekindled.service" "$files/etc/systemd/system/$other.service"
    mkdir "$files/etc/systemd/system/$other.service.d"
    printf '%s\n' '[Service]' ExecStart= "ExecStart=/usr/bin/rekindled --config /etc/rekindle/$other.toml" \
      RuntimeDirectory= RuntimeDirectory=$other RuntimeDirectoryMode=0750 StateDirectory= StateDirectory=$other \
      StateDirectoryMode=0700 WatchdogSec=0 >"$files/etc/systemd/system/$other.service.d/place.conf"
  done
  furnish_gates "$files/etc/systemd/system"
}

# What the kernel tells of a watchdog that has reset this host. Of a real one's the number is the kernel's own.
furnish_watchdog() { # DIR
  mkdir "$1"
  echo "i6300ESB timer" >"$1/identity"
  echo 0x8180 >"$1/options"
  echo inactive >"$1/state"
  echo 0 >"$1/nowayout"
  echo 32 >"$1/bootstatus"
  echo "$(dog_major):31" >"$1/dev"
}
dog_major() { awk '$2 == "watchdog" { print $1 }' /proc/devices; }

# The gate as it is, before a stand-in for nova-compute; and the same for cmp-02, which has no host of its own here.
furnish_gates() { # DIR
  install -m 0644 "$GATE" "$1/rekindle-gate.service"
  sed -e '/^\(Before\|RequiredBy\|WantedBy\)=/d' -e 's/^RuntimeDirectory=.*/RuntimeDirectory=peer-gate/' \
    -e 's|^ExecStart=.*|ExecStart=/usr/bin/rekindle --socket /run/peer/admin.sock gate wait --state /run/peer-gate|' \
    -e 's/^\[Install\]/&\nRequiredBy=peer-compute.service/' -e 's/^\[Unit\]/&\nBefore=peer-compute.service/' \
    "$GATE" >"$1/peer-gate.service"
  local unit
  for unit in nova-compute peer-compute; do
    printf '[Service]\nExecStart=/bin/sleep infinity\n' >"$1/$unit.service"
  done
}

boot() {
  GROUP=$CGROUPS/rekindle-unit-$$
  mkdir "$GROUP"
  (
    echo "$BASHPID" >"$GROUP/cgroup.procs"
    exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup bash tests/systemd/host.sh "$D" "$BIN"
  ) >"$D/console" 2>&1 </dev/null &
  OUTER=$!
  until_so 20 booted || { cat "$D/console" >&2; die "the host did not come up"; }
}

booted() {
  INIT=$(pgrep -P "$OUTER" | head -n 1) && [[ -n $INIT && $(inside systemctl is-active host.target 2>/dev/null) == active ]]
}

inside() { nsenter -t "$INIT" -m -u -i -n -p -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# --- words of the checks ------------------------------------------------------------------------------------------------

# until_so SECONDS COMMAND...: asks until it succeeds.
until_so() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || return 1
    sleep 0.1
  done
}

# is TEXT COMMAND...: one check.
is() {
  local text=$1 said
  shift
  if said=$("$@" 2>&1); then
    PASSED=$((PASSED + 1))
    printf 'ok      %s\n' "$text"
  else
    FAILED=$((FAILED + 1))
    printf 'FAILED  %s\n' "$text"
    [[ -z $said ]] || printf '%s\n' "$said" | tail -n 15 | sed 's/^/        /'
  fi
}

of() { inside systemctl show "${2:-rekindled}" -p "$1" --value; }
same() { [[ $1 == "$2" ]] || { echo "is: $1"; echo "should be: $2"; return 1; }; }
prop() { same "$(of "$1")" "$2"; }
has() { grep -qE -- "$1" <<<"$2" || { echo "no $1 in:"; echo "$2"; return 1; }; }
lacks() { ! grep -iE -- "$1" <<<"$2"; }
more() { [[ $1 -gt $2 ]] || { echo "$1 is not more than $2"; return 1; }; }
journal() { inside journalctl -u rekindled --no-pager "$@"; }
rc() { local code=0; "${@:2}" >/dev/null 2>&1 || code=$?; same "exit $code" "exit $1"; }
# The last start's field, as journald holds it.
started() { journal _TRANSPORT=journal -o cat --output-fields="$1" -g '^rekindled starts$' | tail -n 1; }
drop_in() {
  inside sh -c 'mkdir -p /run/systemd/system/rekindled.service.d && cat >/run/systemd/system/rekindled.service.d/test.conf' <<<"$1"
  inside systemctl daemon-reload
}
no_drop_in() { inside rm -rf /run/systemd/system/rekindled.service.d && inside systemctl daemon-reload; }
new_life() { [[ $(of MainPID) != "$1" && $(of MainPID) != 0 && $(of ActiveState) == active ]]; }
peer_says() { inside rekindle --socket /run/peer/admin.sock members; }
peer_sees() { has "^cmp-01 .*\\<$1\\>" "$(peer_says)"; }

# --- the checks ---------------------------------------------------------------------------------------------------------

installing() {
  is "systemd-sysusers makes the group" inside systemd-sysusers
  is "systemd-tmpfiles makes /etc/rekindle" inside systemd-tmpfiles --create rekindle.conf
  is "/etc/rekindle is root's, and the group may look" same "$(inside stat -c '%U:%G %a' /etc/rekindle)" "root:rekindle 750"
  inside systemctl start bmc-6230 bmc-6231
}

starting() {
  # The same unit around a program that never says READY.
  drop_in $'[Service]\nExecStart=\nExecStart=/bin/sleep 600'
  inside systemctl start --no-block rekindled
  is "what has not said READY is not active" until_so 10 prop SubState start
  is "and stays so" prop ActiveState activating
  inside systemctl stop rekindled
  no_drop_in
  is "it starts" inside systemctl start rekindled
  # Not polled for: READY was said when this is possible.
  is "once active it answers at the socket" rc 2 inside rekindle status
  is "it is active" prop ActiveState active
  is "roster" until_so 10 inside rekindle init --roster /etc/rekindle/roster.toml
  inside systemctl start peer third
  is "another member sees it alive" until_so 20 peer_sees alive
}

permissions() {
  local nobody=(inside setpriv --reuid=nobody --clear-groups)
  is "the socket is the group's" same "$(inside stat -c '%U:%G %a' /run/rekindle/admin.sock)" "root:rekindle 660"
  is "its directory too" same "$(inside stat -c '%U:%G %a' /run/rekindle)" "root:rekindle 750"
  is "the state is root's alone" same "$(inside stat -c '%U %a' /var/lib/rekindle)" "root 700"
  # The exit code of `status` says whether all is well, not who may ask: the words are judged.
  is "somebody of the group may ask" has '^unit ' "$("${nobody[@]}" --regid=rekindle rekindle status 2>&1 || true)"
  is "somebody else may not" has 'not allowed' "$("${nobody[@]}" --regid=nogroup rekindle status 2>&1 || true)"
  local pid
  pid=$(of MainPID)
  is "no capability is left" has $'^CapEff:\t0+$' "$(inside cat "/proc/$pid/status")"
  is "the system calls are filtered" has $'^Seccomp:\t2$' "$(inside cat "/proc/$pid/status")"
  inside mkdir -p /mnt/later
  inside mount -t tmpfs later /mnt/later
  is "it sees what is mounted after its start" has ' /mnt/later .*tmpfs' "$(inside cat "/proc/$pid/mountinfo")"
}

fencing() {
  local said
  said=$(inside rekindle fence-test 2>&1 || true)
  is "ipmitool reads the power of a BMC" has '^cmp-01 .*ipmi-tool@127.0.0.1:6230 +on ' "$said"
  is "and binds it: the DMI's UUID is readable" lacks '^cmp-01 .*not bound' "$said"
  is "a silent BMC is silent, in ipmitool's words" has '^cmp-03 .*did not answer.*Unable to establish IPMI' "$said"
  is "nothing was not permitted" lacks 'permi|cannot be run|not on PATH|seccomp|EPERM|bad system call' "$said"
  is "nor says the log so" lacks 'not permitted|permission denied|cannot be read' "$(journal -o cat)"
}

logging() {
  local line
  line=$(journal TARGET=rekindle::event::leader -o json | grep '"this member leads"' | tail -n 1)
  is "events have a target in the journal" has '"TARGET":"rekindle::event::leader"' "$line"
  is "and fields" has '"F_HOST":"cmp-01"' "$line"
  is "and are the unit's, under its name" has '"SYSLOG_IDENTIFIER":"rekindled"' "$line"
  is "systemctl status shows the headline" until_so 10 has '^unit ' "$(until_so 10 headline; of StatusText)"
}
headline() { [[ $(of StatusText) == unit* ]]; }

reloading() {
  local pid
  pid=$(of MainPID)
  is "systemctl reload" inside systemctl reload rekindled
  is "the certificates were read again" until_so 5 inside journalctl -u rekindled -q -g '^certificates were read again$'
  is "it is active again, the same process" until_so 5 alive_as "$pid"
}
alive_as() { prop ActiveState active && prop MainPID "$1"; }

killed() {
  local pid boot incarnation
  pid=$(of MainPID) boot=$(started F_BOOT) incarnation=$(started F_INCARNATION)
  inside kill -KILL "$pid"
  is "kill -9: started again" until_so 10 new_life "$pid"
  is "in a new life" more "$(started F_INCARNATION)" "$incarnation"
  is "of the same boot" same "$(started F_BOOT)" "$boot"
  is "which is the machine's" same "$boot" "$(inside cat /proc/sys/kernel/random/boot_id)"
  is "it leads again" until_so 20 has 'leader cmp-01' "$(until_so 20 leads; inside rekindle status || true)"
  is "the other member sees the new life" until_so 20 peer_sees alive
}
leads() { inside rekindle status 2>/dev/null | grep -q 'leader cmp-01'; }

hanging() {
  local pid
  drop_in $'[Service]\nWatchdogSec=2'
  inside systemctl restart rekindled
  pid=$(of MainPID)
  sleep 5 # more than two of its periods: fed, it must not bite
  is "the watchdog is fed" prop MainPID "$pid"
  inside kill -STOP "$pid"
  is "a daemon that hangs is killed and started again" until_so 15 new_life "$pid"
  is "by the watchdog" has 'Watchdog timeout' "$(inside journalctl -u rekindled -o cat --no-pager)"
  no_drop_in
  inside systemctl restart rekindled
}

# What may mend itself (here: a certificate that is not there) is tried for ever; what cannot is not.
failing() {
  inside mv /etc/rekindle/cmp-01.pem /etc/rekindle/away.pem
  inside systemctl stop rekindled
  inside systemctl start --no-block rekindled
  is "no certificate: tried again beyond systemd's usual five times" until_so 30 tried 7
  inside mv /etc/rekindle/away.pem /etc/rekindle/cmp-01.pem
  is "and runs once it is there" until_so 10 prop ActiveState active
  inside systemctl stop rekindled
  inside sed -i.good '1s/^/surprise = 1\n/' /etc/rekindle/rekindle.toml
  is "a refused configuration does not start" rc 1 inside systemctl start rekindled
  is "it is exit code 78" prop ExecMainStatus 78
  local before
  before=$(attempts)
  sleep 1 # five times RestartSec
  is "and it is left at that" same "$(attempts) $(of SubState)" "$before failed"
  is "the reason is in the journal" has 'surprise' "$(journal -o cat)"
  inside mv /etc/rekindle/rekindle.toml.good /etc/rekindle/rekindle.toml
  is "mended, it starts" inside systemctl start rekindled
}
tried() { [[ $(of NRestarts) -ge $1 ]]; }
attempts() { journal -o cat | grep -c '^Starting rekindled.service'; }

stopping() {
  local began=$SECONDS since said
  since=$(inside date +%s)
  is "systemctl stop" inside systemctl stop rekindled
  is "within seconds" more 5 $((SECONDS - began))
  said=$(journal -o cat --since "@$since")
  is "of its own will" has '^rekindled.service: Deactivated successfully' "$said"
  is "as it was asked to" has '^SIGTERM$' "$(journal -o cat --since "@$since" --output-fields=F_REASON -g '^stopping$')"
  is "the socket is gone" rc 1 inside test -e /run/rekindle/admin.sock
  is "the state stays" inside test -e /var/lib/rekindle/incarnation
  inside systemctl start rekindled
  is "both are alive" until_so 20 leader_sees alive
  inside systemctl kill --signal=KILL peer
  inside systemctl stop peer
  # Silent without a word, until it is called dead: the goodbye below must not look the same.
  is "one that is killed is not taken for one that was stopped" until_so 20 leader_sees '(suspect|down)'
  inside systemctl start peer
  is "it comes back" until_so 20 leader_sees alive
  inside systemctl stop peer
  is "one that is stopped said goodbye first" until_so 5 leader_sees absent
}
# The gate: nothing that starts guests runs before a quorate ledger says so, whatever happens to the gate itself.
gating() {
  local said
  is "the gate's unit can be enabled" inside systemctl enable -q rekindle-gate peer-gate
  is "what starts guests requires it" has rekindle-gate.service "$(of Requires nova-compute)"
  inside systemctl stop rekindled
  inside systemctl start --no-block nova-compute
  is "no daemon: it says that it waits, and why" until_so 10 gate_says rekindle-gate 'CLOSED.*no daemon at'
  is "and holds" same "$(held nova-compute rekindle-gate)" "inactive activating"
  inside systemctl kill --signal=KILL rekindle-gate
  is "killed, it is there again" until_so 10 gate_says rekindle-gate 'Scheduled restart job' # RestartSec=1
  is "and asks again" until_so 10 gate_waits_again
  is "and still holds" same "$(held nova-compute rekindle-gate)" "inactive activating"
  inside systemctl start --no-block nova-compute # what waited was told that it failed
  is "whoever starts it again waits again" same "$(held nova-compute rekindle-gate)" "inactive activating"
  inside systemctl start rekindled peer
  is "it opens on a leader's word" until_so 30 gate_says rekindle-gate 'boot gate: open: no open incident'
  is "and what it held starts" until_so 10 active nova-compute
  is "nobody stops it by accident" rc 4 inside systemctl stop rekindle-gate
  is "the cluster knows of it" until_so 20 gate_known '"installed":true,"state":"opened-by-ledger"'
  is "members are alive" until_so 20 leader_sees alive
  is "armed" inside rekindle arm --reason "a drill"
  inside systemctl kill --signal=STOP peer
  is "a host that falls silent is fenced" until_so 60 leader_sees '(fenced|evacuating|stuck)'
  is "by its BMC" same "$(inside cat /opt/bmc2/power)" 0
  inside systemctl kill --signal=CONT peer
  inside systemctl start --no-block peer-compute
  is "its own gate stays closed" until_so 30 gate_says peer-gate 'CLOSED.*incident 1 of cmp-02 is open'
  is "and holds, too" same "$(held peer-compute peer-gate)" "inactive activating"
  is "nobody but root opens it" rc 1 inside setpriv --reuid=nobody --clear-groups --regid=rekindle \
    rekindle --socket /run/peer/admin.sock gate open --state /run/peer-gate --reason "let me"
  is "not without a reason" rc 1 inside rekindle gate open --state /run/peer-gate --reason " "
  is "and it still holds" same "$(held peer-compute peer-gate)" "inactive activating"
  said=$(inside rekindle --socket /run/peer/admin.sock gate open --state /run/peer-gate --reason "seen to it" 2>&1)
  is "opened by hand, it says what the ledger would have said" has 'THE LEDGER WOULD NOT HAVE: incident 1' "$said"
  is "it is loud in the journal" until_so 10 gate_says peer-gate 'OPENED BY HAND by .*seen to it'
  is "and what it held starts by a person's word" until_so 10 active peer-compute
}
# A process of the host: started again when it fails, left alone when somebody stops it. And what the journal has of the above.
watching() {
  local pid line
  is "a process is known to run" until_so 20 process_is '(settling|running)'
  pid=$(of MainPID nova-compute)
  inside systemctl kill --signal=KILL nova-compute
  is "killed, it is started again by the daemon" until_so 40 compute_again "$pid"
  is "which says so" has 'nova-compute failed: restart 1 of 3' "$(journal -o cat)"
  inside systemctl stop nova-compute
  is "stopped by hand, it is known to be so" until_so 20 process_is troubled
  is "and was not started" same "$(of ActiveState nova-compute)" inactive
  # Not head: it would end the pipe early, and the test with it.
  line=$(journal TARGET=rekindle::event::phase F_HOST=cmp-02 F_PHASE=unclean -o json | sed -n 1p)
  is "a change of phase has fields in the journal" has '"F_PHASE":"unclean"' "$line"
  is "its incident among them" has '"F_INCIDENT":"1"' "$line"
  is "and its number" has '"F_NUMBER":"1"' "$line"
}
process_is() { has "\"name\":\"nova-compute\",\"disables\":true,\"standing\":\"$1\"" "$(inside rekindle status --json | tr -d ' \n')"; }
compute_again() { [[ $(of ActiveState nova-compute) == active && $(of MainPID nova-compute) != "$1" ]]; }

# A host with a watchdog: what docs/fencing.md has an operator install, and each file's part in it. There is nothing behind
# its node: opened, it answers ENXIO where the unit lets the daemon at it, and EPERM where not.
self_fencing() {
  local config=(rekindled --config /etc/rekindle/rekindle.toml --check) said
  [[ -n $(dog_major) ]] || { say "NOT TRIED: this kernel has no watchdogs, so no unit can be told of them"; return; }
  inside mknod "/dev/$DOG" c "$(dog_major)" 31
  # Another device, harmless to open.
  inside mkdir -p /dev/net
  inside mknod /dev/net/tun c 10 200
  inside sed -i -e "s|^\[member\]\$|&\nwatchdog = \"/dev/$DOG\"|" -e 's/^\[fencing\]$/&\nself_fence = true/' /etc/rekindle/rekindle.toml
  restarted
  is "without the drop-in the unit hides the watchdog, and the log says what to install" \
    until_so 10 says "$DOG is not there.*rekindled-watchdog.conf"
  inside install -D -m 0644 /opt/rekindled-watchdog.conf /etc/systemd/system/rekindled.service.d/watchdog.conf
  inside systemctl daemon-reload
  is "systemd loads the drop-in" has '/etc/systemd/system/rekindled.service.d/watchdog.conf' "$(of DropInPaths)"
  is "devices are shown again" prop PrivateDevices no
  is "and closed" prop DevicePolicy closed
  # ProtectClock= lets a clock be read.
  is "but for watchdogs" prop DeviceAllow $'char-rtc r\nchar-watchdog rw'
  said=$(inside systemd-analyze verify --man=no rekindled.service 2>&1 || echo "rekindled: refused")
  is "the unit with it is without fault" lacks rekindled "$said"
  is "out of the box systemd would feed the watchdog of a host that hangs in its shutdown" manager RebootWatchdogUSec 10min
  restarted
  is "which is refused, and the log names the other file" until_so 10 says "RebootWatchdogUSec is 10min.*rekindle-system.conf"
  inside install -D -m 0644 /opt/rekindle-system.conf /etc/systemd/system.conf.d/rekindle.conf
  inside systemctl daemon-reload
  inside systemctl daemon-reexec
  for said in RuntimeWatchdogUSec RebootWatchdogUSec KExecWatchdogUSec; do is "with it $said is off" manager "$said" 0; done
  # Its exit code tells of everything that it looks at, and there is no device behind the node: its words are judged.
  said=$(inside "${config[@]}" 2>&1 || true)
  is "the check finds the watchdog fit" has "^ok    member.watchdog: i6300ESB timer at /dev/$DOG" "$said"
  is "and systemd leaving it to us" lacks '^FAIL  member.watchdog' "$said"
  is "and tells that it has reset this host" has '^warn  member.watchdog: before this boot: its watchdog reset it' "$said"
  restarted
  is "the daemon tells it, too" until_so 10 says 'before this boot: its watchdog reset it'
  is "under a lease it opens the device, which the unit allows" until_so 40 says "/dev/$DOG: cannot open it: No such device or address"
  is "it may open no other device" has 'Operation not permitted' "$(as_unit /dev/net/tun)"
  is "whose node it sees, too" inside test -e "/proc/$(of MainPID)/root/dev/net/tun"
}
restarted() { SINCE=$(inside date +%s.%N) && inside systemctl restart rekindled; }
says() { has "$1" "$(journal -o cat --since "@$SINCE")"; }
manager() { same "$(inside systemctl show -p "$1" --value)" "$2"; }
# Opens a device in the unit's control group, whose filter of devices is the unit's. That it is refused is what is wanted: its words
# are judged, and there are none if it is not.
as_unit() {
  # shellcheck disable=SC2016
  inside sh -c 'echo $$ >"/sys/fs/cgroup$2/cgroup.procs" && exec 3<>"$1"' sh "$1" "$(of ControlGroup)" 2>&1 || true
}

held() { echo "$(of ActiveState "$1") $(of ActiveState "$2")"; }
active() { [[ $(of ActiveState "$1") == active ]]; }
gate_says() { has "$2" "$(inside journalctl -u "$1" -o cat --no-pager)"; }
gate_waits_again() { [[ $(of SubState rekindle-gate) == start && $(of NRestarts rekindle-gate) -ge 1 ]]; }
gate_known() { has "$1" "$(inside rekindle status --json | tr -d ' \n')"; }
leader_sees() { has "^cmp-02 +$1 " "$(inside rekindle status || true)"; }

look_first
trap clean_up EXIT
trap 'exit 130' INT TERM
D=$(mktemp -d)
furnish
boot
for part in installing starting permissions fencing logging reloading killed hanging failing stopping gating watching self_fencing; do "$part"; done
[[ $FAILED == 0 ]] || { say "the last of its log:"; journal | tail -n 40; } >&2
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
COUNTED=yes
[[ $FAILED == 0 ]]
