#!/bin/busybox sh
# The first process of a guest of run.sh: a cluster of three members, each a rekindled, on one machine with a watchdog. cmp-01
# lives under it. What is to happen is in the kernel's command line: case=NAME. Lines that begin with "RK " are for run.sh.
#
# Nothing in here resets or stops the machine, and a panic hangs: if it ends by itself, its watchdog ended it.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ RUST_LOG=info
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /run/rk /log
ip link set lo up
CASE=none
for word in $(cat /proc/cmdline); do
  case $word in case=*) CASE=${word#case=} ;; esac
done

say() { echo "RK $*"; }
up() { cut -d. -f1 /proc/uptime; }
fail() {
  say "fault: $*"
  for log in /log/*; do
    echo "--- $log"
    tail -n 40 "$log"
  done
  say "end"
  exec sleep 1000000
}

# until_so SECONDS COMMAND...: asks until it succeeds. Seconds of this machine's own clock.
until_so() {
  END=$(($(up) + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(up)" -lt "$END" ] || return 1
    sleep 0.2
  done
}

load() { insmod "/mods/$1.ko" $2 || fail "the driver $1 was not loaded"; }
state() { cat "/sys/class/watchdog/watchdog${1:-0}/state"; }
guests() { echo "{\"guests\":[$1],\"complete\":true}" >/run/guests; }

# start HOST [FILE]: one daemon, its log begun anew; its process in PID_$HOST.
start() {
  rekindled --config "/etc/rekindle/${2:-$1}.toml" >"/log/$1" 2>&1 &
  eval "PID_$(echo "$1" | tr - _)=$!"
}
rk() { rekindle --socket /run/rk/cmp-01.sock "$@"; }
has_log() { grep -q -- "$2" "/log/$1"; }
leader() { rekindle --socket /run/rk/cmp-02.sock status --json | grep -q '"leader": *"cmp-'; }
others_lead() { rekindle --socket /run/rk/cmp-02.sock status --json | grep -q '"leader": *"cmp-0[23]'; }
# The record of cmp-01 in the ledger, in the words of its voters.
standing() { rekindle --socket /run/rk/cmp-02.sock status --json | grep -q -- "$1"; }
watched() { has_log cmp-01 'the watchdog is fed from now on'; }

cluster() { # the file of cmp-01
  start cmp-02
  start cmp-03
  start cmp-01 "$1"
  until_so 90 rekindle --socket /run/rk/cmp-02.sock init --roster /etc/rekindle/roster.toml ||
    fail "no roster: $(rekindle --socket /run/rk/cmp-02.sock init --roster /etc/rekindle/roster.toml 2>&1)"
  until_so 60 leader || fail "nobody leads"
}
armed() { # the file of cmp-01
  cluster "$1"
  is_armed
}
is_armed() {
  until_so 60 watched || fail "not fed: $(grep -i watchdog /log/cmp-01)"
  until_so 30 standing 'self-fence armed' || fail "the ledger does not know that it runs: $(rk status)"
  [ "$(state)" = active ] || fail "the watchdog is $(state)"
  [ "$(cat /sys/class/watchdog/watchdog0/timeout)" = 10 ] || fail "its time-out is not the one that was set"
  say "armed"
}
# It was not reset for so long: longer than its time-out, and the kernel's clock is the judge.
stays() { # SECONDS WHAT
  sleep "$1"
  say "stays: $2"
}

# --- cases --------------------------------------------------------------------------------------------------------------

# Fed under leases; told to stop with no guest.
lives() {
  load i6300esb
  armed dog
  stays 12 "fed under leases"
  kill -TERM "$PID_cmp_01"
  wait "$PID_cmp_01"
  has_log cmp-01 'the watchdog is disarmed' || fail "it was not disarmed"
  [ "$(state)" = inactive ] || fail "it is $(state) after the polite end"
  until_so 30 standing 'its watchdog was disarmed' || fail "the ledger still counts on it"
  stays 12 "left by a daemon that was told to stop"
}

# Killed, and started again in time: within the time-out the next daemon needs a lease. The one case in which the machine's
# own speed counts: run.sh gives it a clock of its own.
restarted() {
  load i6300esb
  # Another is to lead: an election comes first otherwise, and takes seconds in here.
  cluster plain
  kill -9 "$PID_cmp_01"
  wait "$PID_cmp_01"
  until_so 60 others_lead || fail "neither of the others leads"
  start cmp-01 dog
  is_armed
  others_lead || fail "cmp-01 leads again: this machine is too slow for its cluster"
  kill -9 "$PID_cmp_01"
  wait "$PID_cmp_01"
  [ "$(state)" = active ] || fail "a daemon that was killed left it $(state)"
  KILLED=$(up)
  start cmp-01 dog
  until_so 30 watched || fail "the second daemon did not take it over"
  say "taken over after $(($(up) - KILLED)) s"
  stays 12 "taken over by the next daemon"
}

# Reset by its watchdog, the machine boots again: the daemon tells of it, and --check does. Before, neither does.
reset_before() {
  load i6300esb
  start cmp-01 dog
  until_so 60 has_log cmp-01 'there is a watchdog' || fail "it was not found"
  kill -9 "$PID_cmp_01"
  wait "$PID_cmp_01"
  CHECKED=$(rekindled --config /etc/rekindle/dog.toml --check)
  if [ "$(cat /sys/class/watchdog/watchdog0/bootstatus)" = 0 ]; then
    ! has_log cmp-01 'before this boot' || fail "it tells of a reset that never was"
    ! echo "$CHECKED" | grep 'before this boot' || fail "the check tells of a reset that never was"
    say "stays: nothing is told of a boot that no reset came before"
    # Left open by a process that dies: in two seconds the machine is reset.
    /bin/busybox watchdog -F -T 2 -t 1 /dev/watchdog0 &
    until_so 30 [ "$(state)" = active ] || fail "it was not started"
    kill -9 $!
    exec sleep 1000000
  fi
  has_log cmp-01 'before this boot: its watchdog reset it' || fail "the daemon says nothing of it"
  say "stays: after a reset the daemon tells of it"
  echo "$CHECKED" | grep 'warn  member.watchdog: before this boot: its watchdog reset it' ||
    fail "the check says nothing of it: $CHECKED"
  say "stays: and so does the check"
}

# The others die: no quorum, no lease.
cut_off() {
  load i6300esb
  armed dog
  say "now"
  kill -9 "$PID_cmp_02" "$PID_cmp_03"
  until_so 60 has_log cmp-01 'the watchdog is no longer fed' || fail "it went on feeding"
  say "no longer fed"
}

killed() {
  load i6300esb
  armed dog
  say "now"
  kill -9 "$PID_cmp_01"
}

stopped() {
  load i6300esb
  armed dog
  say "now"
  kill -STOP "$PID_cmp_01"
}

# Told to stop while a guest runs.
with_guests() {
  load i6300esb
  guests '{"server":"6f1c0000-0000-4000-8000-000000000001","running":true,"disks":"shared"}'
  armed dog
  kill -TERM "$PID_cmp_01"
  wait "$PID_cmp_01"
  [ "$(state)" = active ] || fail "it was disarmed under a guest"
  say "now"
}

# Cut off, and its daemon killed and started again every other second: none of them may feed it on.
crashes() {
  load i6300esb
  armed dog
  say "now"
  kill -9 "$PID_cmp_02" "$PID_cmp_03"
  while :; do
    sleep 2
    kill -9 "$PID_cmp_01"
    wait "$PID_cmp_01"
    start cmp-01 dog
  done
}

nowayout() {
  load i6300esb nowayout=1
  armed dog
  kill -TERM "$PID_cmp_01"
  wait "$PID_cmp_01"
  has_log cmp-01 'nowayout' || fail "it was not said"
  say "now"
}

# A software watchdog is refused; a host that never had a lease opens nothing.
untouched() {
  load i6300esb
  load softdog
  cluster soft
  until_so 30 has_log cmp-01 'a software watchdog' || fail "softdog was not refused"
  until_so 30 standing 'no self-fence' || fail "the ledger counts on it"
  [ "$(state 1)" = inactive ] || fail "softdog was opened"
  say "refused"
  kill -9 "$PID_cmp_01" "$PID_cmp_02" "$PID_cmp_03"
  wait "$PID_cmp_01"
  start cmp-01 dog
  until_so 30 has_log cmp-01 'there is a watchdog' || fail "it was not found"
  stays 12 "never had a lease"
  [ "$(state 0)$(state 1)" = inactiveinactive ] || fail "opened without a lease"
}

# Another process holds it; it dies, and leaves it running: taken over, and only then counted on.
held() {
  load i6300esb
  /bin/busybox watchdog -F -T 10 -t 1 /dev/watchdog0 &
  HOLDER=$!
  cluster dog
  until_so 60 has_log cmp-01 'is held by another process' || fail "it was not said that it is held"
  standing 'never said to run' || fail "the ledger counts on it: $(rk status)"
  say "held"
  kill -9 "$HOLDER"
  wait "$HOLDER"
  [ "$(state)" = active ] || fail "its holder left it $(state)"
  until_so 30 watched || fail "it was not taken over"
  until_so 30 standing 'self-fence armed' || fail "the ledger does not know"
  stays 12 "inherited, and fed"
}

# A driver from before the kernel's watchdog core: it has a node, and nobody can say what it is.
older() {
  load ib700wdt
  cluster dog
  until_so 30 has_log cmp-01 'an older driver' || fail "it was not refused: $(cat /log/cmp-01)"
  stays 12 "an older driver's, refused"
}

load watchdog
guests ''
# shellcheck disable=SC2016
socat UNIX-LISTEN:/run/guests.sock,fork 'SYSTEM:while cat /run/guests; do read -r line || exit; done' &
say "up"
case $CASE in
  lives | restarted | reset_before | cut_off | killed | stopped | with_guests | crashes | nowayout | untouched | held | older) "$CASE" ;;
  *) fail "there is no case $CASE" ;;
esac
say "end"
exec sleep 1000000
