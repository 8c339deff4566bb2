#!/bin/bash
# Hosts that fence themselves, with a watchdog that resets them: QEMU guests with the emulated i6300esb (and ib700), Debian's
# kernel with its drivers, and in each guest a cluster of three real daemons, of which cmp-01 lives under the watchdog.
#
#   run.sh [DIR]               every case; DIR holds rekindled and rekindle (target/debug)
#   run.sh --case NAME [DIR]
#
# Instructions are emulated (TCG): no /dev/kvm is needed, nor root. What ended a guest is told by QEMU itself (QMP: WATCHDOG).
# Prints "ok ..." and "FAILED ...", and "N passed, M failed" at the end. guest.sh is what happens inside.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
PATH=$PATH:/usr/sbin:/sbin
KERNEL=target/guest-kernel
# Those that must live, those that must die, and those that must not be touched.
CASES=(lives restarted reset_before cut_off killed untouched stopped with_guests crashes nowayout held older)
if [[ ${1:-} == --case ]]; then
  CASES=("${2:?which case?}")
  shift 2
fi
BIN=$(realpath -m "${1:-target/debug}")

# Guests at once: one for each processor that make test counts on. One that must share its processor with others is so
# slow that its three daemons elect no leader.
AT_ONCE=2
# A guest that has not come to its end by then hangs, in seconds.
PATIENCE=240
# What a host that must die may take, in seconds from the fault to the reset, of the host's clock: the lease (20), the
# watchdog (10, and once more for a daemon that dies), and the emulation's own slowness.
SLACK=6

PASSED=0 FAILED=0 D='' RUNNING=()

look_first() {
  local tool
  for tool in qemu-system-x86_64:qemu-system-x86 cpio:cpio ldd:libc-bin socat:socat strip:binutils busybox:busybox-static; do
    command -v "${tool%%:*}" >/dev/null || die "there is no ${tool%%:*} here: install the package ${tool#*:}"
  done
  for tool in rekindled rekindle; do
    [[ -x $BIN/$tool ]] || die "there is no $BIN/$tool: build it (make build)"
  done
  [[ -e $KERNEL/vmlinux ]] || die "there is no $KERNEL/vmlinux: run scripts/setup.sh test"
}

clean_up() {
  local pid
  trap - EXIT
  for pid in "${RUNNING[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  [[ -z $D ]] || rm -rf --one-file-system "$D"
}

# --- what the guests are made of ------------------------------------------------------------------------------------------

# rekindle_toml HOST ADDRESS [WATCHDOG [LIBVIRT]]
rekindle_toml() {
  local watchdog=''
  [[ -z ${3:-} ]] || watchdog="watchdog = \"$3\""
  cat <<TOML
[member]
host = "$1"
listen = "$2:7946"
state_dir = "/state/$1"
admin_socket = "/run/rk/$1.sock"
system_uuid = "c1234567-89ab-cdef-a123-00000000000${1#cmp-0}"
$watchdog
[cluster]
name = "dogs"
voters = ["cmp-01", "cmp-02", "cmp-03"]
seeds = ["127.0.1.2:7946", "127.0.1.3:7946"]
[libvirt]
uri = "${4:-off}"
[fencing]
self_fence = true
[log]
target = "stderr"
format = "text"
TOML
}

# A program and the libraries it is linked with. The daemon's symbols would only take memory and the time to unpack it.
put() { # FROM TO
  local library
  install -D -m 0755 "$1" "$D/root$2"
  strip --strip-unneeded "$D/root$2" 2>/dev/null || true
  while read -r library; do
    [[ -e $D/root$library ]] || install -D -m 0755 "$library" "$D/root$library"
  done < <(ldd "$1" | grep -oE '/[^ ]+')
}

furnish() {
  local etc=$D/root/etc/rekindle pki=$D/pki host guests='guests+unix:///run/guests.sock'
  mkdir -p "$D/root"/{bin,proc,sys,dev,run,log,mods,state,tmp} "$etc"
  install -D -m 0755 "$(command -v busybox)" "$D/root/bin/busybox"
  install -m 0755 tests/watchdog/guest.sh "$D/root/init"
  install -m 0644 "$KERNEL"/*.ko "$D/root/mods/"
  put "$BIN/rekindled" /bin/rekindled
  put "$BIN/rekindle" /bin/rekindle
  put "$(command -v socat)" /bin/socat
  {
    "$BIN/rekindle" pki init --cluster dogs --dir "$pki"
    for host in cmp-01 cmp-02 cmp-03; do "$BIN/rekindle" pki issue "$host" --dir "$pki" --out "$etc"; done
    "$BIN/rekindle" pki issue --role operator operator --dir "$pki" --out "$etc"
  } >/dev/null
  cp "$pki/ca.pem" "$etc/"
  rekindle_toml cmp-01 127.0.1.1 /dev/watchdog0 "$guests" >"$etc/dog.toml"
  rekindle_toml cmp-01 127.0.1.1 /dev/watchdog1 "$guests" >"$etc/soft.toml"
  rekindle_toml cmp-01 127.0.1.1 '' "$guests" >"$etc/plain.toml"
  rekindle_toml cmp-02 127.0.1.2 >"$etc/cmp-02.toml"
  rekindle_toml cmp-03 127.0.1.3 >"$etc/cmp-03.toml"
  printf '[[host]]\nhost = "cmp-%s"\n' 01 02 03 >"$etc/roster.toml"
  (cd "$D/root" && find . | cpio -o -H newc --quiet) >"$D/initrd"
}

# --- guests -----------------------------------------------------------------------------------------------------------------

# Time by instructions, two nanoseconds each, and none that is waited through: for the guest this is a machine of 500 million
# instructions a second, however slowly it is emulated. Where a daemon must be back within the watchdog's time-out it counts.
pace() { [[ $1 != restarted ]] || echo "-icount shift=1,sleep=off"; }
# The machine goes on after its reset in one case, and is at its end in all others.
after_reset() { [[ $1 == reset_before ]] && echo reset || echo shutdown; }
device() { [[ $1 == older ]] && echo ib700 || echo i6300esb; }

# boot CASE: ends by itself if it is reset; its console and QEMU's own words beside it.
boot() {
  local dir=$D/$1
  mkdir "$dir"
  mkfifo "$dir/qmp.in"
  # Opened for both, so that neither side waits for the other to begin, and QEMU sees no end.
  exec {asks}<>"$dir/qmp.in"
  # shellcheck disable=SC2046 # options of pace()
  # With less room for translated instructions (tb-size, MiB) the daemons' own do not fit: all are translated again and again.
  qemu-system-x86_64 -nodefaults -no-user-config -display none -M pc -accel tcg,thread=single,tb-size=256 -cpu qemu64,+rdrand \
    -m 640 -kernel "$KERNEL/vmlinux" -initrd "$D/initrd" \
    -append "console=ttyS0 quiet panic=0 mitigations=off random.trust_cpu=on case=$1" \
    -device "$(device "$1")" $(pace "$1") \
    -action "watchdog=reset,reboot=$(after_reset "$1"),panic=pause" \
    -serial "file:$dir/console" -qmp stdio <"$dir/qmp.in" >"$dir/qmp" 2>"$dir/errors" &
  RUNNING+=($!)
  echo "$!" >"$dir/pid"
  printf '{"execute":"qmp_capabilities"}\n' >&"$asks"
  exec {asks}>&-
}

marks() { [[ ! -e $D/$1/console ]] || tr -d '\r' <"$D/$1/console" | sed -n 's/^.*RK //p'; }
has_mark() { marks "$1" | grep -qE -- "^$2"; }
runs() { kill -0 "$(cat "$D/$1/pid")" 2>/dev/null; }
bitten() { grep -q '"WATCHDOG"' "$D/$1/qmp"; }
# Seconds since 1970 of QEMU's word about the watchdog.
bitten_at() { sed -n 's/.*"seconds": \([0-9]*\).*"WATCHDOG".*/\1/p;s/.*"WATCHDOG".*"seconds": \([0-9]*\).*/\1/p' "$D/$1/qmp" | head -n 1; }

# follow CASE: until it is at its end, or hangs. Notes when the fault was.
follow() {
  local case=$1 end=$((SECONDS + PATIENCE))
  while [[ $SECONDS -lt $end ]]; do
    if [[ ! -e $D/$case/now ]] && has_mark "$case" now; then
      date +%s >"$D/$case/now"
    fi
    runs "$case" || break
    # One that must live is at its end; one that must die goes on until it is reset.
    ! has_mark "$case" end || dies "$case" || break
    # A fault is told with the daemons' logs, which end with the mark "end".
    ! { has_mark "$case" fault && has_mark "$case" end; } || break
    sleep 0.2
  done
  # What it did not survive by itself is ended here, and is no reset.
  if runs "$case"; then
    kill -KILL "$(cat "$D/$case/pid")"
  fi
}

dies() { case $1 in cut_off | killed | stopped | with_guests | crashes | nowayout) ;; *) return 1 ;; esac; }
# From the fault to the reset, in seconds: lease and time-out, or the time-out, each once more where a daemon dies late.
within() { case $1 in cut_off) echo 30 ;; crashes) echo 40 ;; *) echo 10 ;; esac; }

# --- checks -----------------------------------------------------------------------------------------------------------------

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
    [[ -z $said ]] || printf '%s\n' "$said" | tail -n 40 | sed 's/^/        /'
  fi
}
no_fault() { ! has_mark "$1" fault || { sed -n '/RK fault/,$p' "$D/$1/console"; return 1; }; }
in_time() { # CASE MOST
  [[ -e $D/$1/now ]] || { echo "the fault never came"; marks "$1"; return 1; }
  local took=$(($(bitten_at "$1") - $(cat "$D/$1/now")))
  echo "after $took s; at most $2 and $SLACK"
  [[ $took -le $(($2 + SLACK)) ]]
}
marked() { has_mark "$1" "$2" || { marks "$1"; return 1; }; }
not() { ! "$@"; }

judge() {
  local case=$1
  is "$case: what was expected came" no_fault "$case"
  if dies "$case"; then
    is "$case: its watchdog reset it" bitten "$case"
    is "$case: within the bound" in_time "$case" "$(within "$case")"
    [[ $case != cut_off ]] || is "$case: it says that it is no longer fed, before" marked "$case" 'no longer fed'
  else
    is "$case: it came to its end" marked "$case" end
    if [[ $case == reset_before ]]; then
      is "$case: its watchdog reset it" bitten "$case"
    else
      is "$case: its watchdog did not reset it" not bitten "$case"
    fi
    local stays
    while read -r stays; do is "$case: ${stays#stays: }" true; done < <(marks "$case" | grep '^stays: ')
  fi
}

look_first
trap clean_up EXIT
D=$(mktemp -d)
furnish
for ((i = 0; i < ${#CASES[@]}; i += AT_ONCE)); do
  FOLLOWED=()
  for case in "${CASES[@]:i:AT_ONCE}"; do
    boot "$case"
    follow "$case" &
    FOLLOWED+=($!)
  done
  wait "${FOLLOWED[@]}"
  for case in "${CASES[@]:i:AT_ONCE}"; do judge "$case"; done
done
if [[ -n ${REKINDLE_KEEP:-} ]]; then
  for case in "${CASES[@]}"; do
    mkdir -p "$REKINDLE_KEEP/$case"
    cp "$D/$case"/{console,qmp,errors} "$REKINDLE_KEEP/$case/"
  done
fi
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[[ $FAILED == 0 ]]
