#!/bin/bash
# All tests, stage by stage (`make test`). A failed stage, but for the first, does not keep the later ones from running;
# what failed is said again at the end, and the last line counts all tests: "N passed, M failed".
#
#   test.sh            all stages, in order
#   test.sh long       the same with many more simulated clusters
#   test.sh only NAME  one stage
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

LOGS=target/test-logs
SIMULATION=15 # minutes
LONG='' # stages that only `make test-long` has
PASSED=0 FAILED=0 SUMMARY=() BROKEN=() ONLY='' STAGES=''
case ${1:-} in
  "") ;;
  long)
    export REKINDLE_SIM_SEEDS=${REKINDLE_SIM_SEEDS:-5000} REKINDLE_CHAOS_SEEDS=${REKINDLE_CHAOS_SEEDS:-12}
    # Scenarios of 60 hosts and more, minutes of CPU each.
    export REKINDLE_SIM_HEAVY=1 SIMULATION=60
    LONG=yes
    ;;
  only) ONLY=${2:?which stage?} ;;
  *) die "usage: test.sh [long | only STAGE]" ;;
esac

# Ends whatever runs, and everything it started: `timeout` hands the signal to its whole process group.
stop() {
  # shellcheck disable=SC2046 # numbers
  kill -TERM $(jobs -pr) || say "some of it had ended by itself"
  say "stopped"
  exit 130
}
trap stop INT TERM

# stage NAME MINUTES COMMAND...: at most so long; its output is shown, and kept in target/test-logs/NAME.log.
stage() {
  local name=$1 minutes=$2 began=$SECONDS rc=0 passed failed running shown verdict=ok
  shift 2
  STAGES+=" $name"
  [[ -z $ONLY || $ONLY == "$name" ]] || return 0
  # Without what it installs all the others would fail, each in its own way.
  [[ " ${BROKEN[*]} " != *" setup "* ]] || return 0
  printf '\n=== %s\n' "$name"
  # Into the file, and shown from there: counted is what was written, whenever it is shown.
  : >"$LOGS/$name.log"
  timeout -k 20 "${minutes}m" "$@" >>"$LOGS/$name.log" 2>&1 </dev/null &
  running=$!
  tail -q -n +1 -s 0.2 -f --pid="$running" "$LOGS/$name.log" &
  shown=$!
  wait "$running" || rc=$?
  wait "$shown" || say "not all of it could be shown: $LOGS/$name.log has it"
  # The counts on cargo's own closing lines.
  read -r passed failed < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 \2/p' "$LOGS/$name.log" |
    awk '{p += $1; f += $2} END {print p + 0, f + 0}')
  # Or on a script's own.
  [[ $passed != 0 || $failed != 0 ]] ||
    read -r passed failed < <(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$LOGS/$name.log" | tail -n 1; echo "0 0")
  if [[ $rc != 0 ]]; then
    verdict="FAILED ($([[ $rc == 124 || $rc == 137 ]] && echo "not done within $minutes minutes" || echo "exit $rc"))"
    # A stage that is no test, or did not compile, counts as one.
    [[ $failed -gt 0 ]] || failed=1
    BROKEN+=("$name")
  elif [[ "$1 ${2:-}" == "cargo test" && $passed == 0 ]]; then
    verdict="FAILED (no test ran)" failed=1
    BROKEN+=("$name")
  fi
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
  SUMMARY+=("$(printf '%-12s %4d s  %5d passed  %s' "$name" $((SECONDS - began)) "$passed" "$verdict")")
  printf -- '--- %s: %s, %d s\n' "$name" "$verdict" $((SECONDS - began))
}

# Always the whole workspace, narrowed by target: another choice of packages would choose other features of what they
# share, and build it all again.
tests() { stage "$1" "$2" cargo test --workspace --locked --no-fail-fast "${@:3}"; }

mkdir -p "$LOGS"
stage setup 20 scripts/setup.sh test
# What the cloud is made of comes over the network, beside what follows; "cloud-setup" waits for it, and says what failed.
if [[ -z $ONLY && ${#BROKEN[@]} == 0 ]]; then
  timeout -k 20 15m tests/cloud/cloud.sh install >"$LOGS/cloud-ahead.log" 2>&1 </dev/null &
fi
stage format 2 scripts/check.sh format
stage units 1 scripts/check.sh units
stage suites 1 scripts/check.sh suites
stage targets 1 scripts/check.sh targets
stage docs 1 scripts/check.sh docs
stage lints 20 scripts/check.sh lints
stage deny 5 scripts/check.sh deny
# The binaries with the tests, which share their features: a build of their own would build half of all crates again.
stage build 20 cargo build --workspace --locked --lib --bins --tests --examples
stage purity 5 scripts/check.sh purity
tests imports 2 --test purity
tests unit 10 --lib --bins
tests doc 10 --doc
tests simulation "$SIMULATION" --test cluster --test scenarios --test named --test absence --test brakes --test detect --test formed --test gate --test groups \
  --test health --test hooks --test lost --test models --test pace --test processes --test replay \
  --test reserve --test second --test restore --test seats --test signs
# Each guard switched off once: the oracle must see it. Features of its own: coordinator and sim are built again for it,
# about a minute; nothing else links them.
stage mutants 8 cargo test --workspace --locked --features rekindle-sim/mutants --test mutants -- --nocapture
tests fuzz 5 --test fuzz
tests fakes 5 --test fakes_bmc --test fakes_cloud
# The driver `ipmi` against lying, lossy and slow BMCs in virtual time, OpenIPMI's, and our own over UDP.
tests fences 5 --test fence_ipmi
# The driver against lying services and an emulator: most of it is waiting.
tests redfish 5 --test redfish
stage demo 3 target/debug/demo
tests daemon 15 --test daemon
stage systemd 4 tests/systemd/run.sh target/debug
if [[ -n $LONG || $ONLY == watchdog ]]; then
  # Guests of emulated instructions, minutes each: what is emulated is no faster on a quiet machine.
  stage watchdog 25 bash -c 'scripts/setup.sh watchdog && tests/watchdog/run.sh target/debug'
fi
tests chaos 10 --test chaos
tests libvirt 10 --test libvirt --test libvirt_cluster
stage cloud-setup 15 tests/cloud/cloud.sh install
# One case of each kind; `make cloud-test` has more, `make cloud-test-long` all.
tests cloud 15 --test cloud -- a_dead_host every_state killed_after_the_first_evacuate

[[ ${#SUMMARY[@]} -gt 0 ]] || die "there is no stage $ONLY; there are:$STAGES"
printf '\n'
printf '%s\n' "${SUMMARY[@]}"
[[ ${#BROKEN[@]} == 0 ]] || printf 'failed: %s (their output: %s/NAME.log)\n' "${BROKEN[*]}" "$LOGS"
printf 'all stages: %d s\n' "$SECONDS"
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[[ $FAILED == 0 ]]
