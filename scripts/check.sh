#!/bin/bash
# The checks that are no tests. None writes outside target/.
#
#   check.sh format    rustfmt; shell and Python scripts parse
#   check.sh lints     clippy, with and without libvirt; rustdoc (dead links); a warning fails
#   check.sh deny      licences, bans and sources of all that is linked; known holes, where their database can be had
#   check.sh purity    proto, coordinator and sim compile for a machine without an operating system
#   check.sh units     systemd can read the units
#   check.sh suites    no suite of tests is left out of test.sh
#   check.sh targets   the benches of detection and recovery call a missed target missed
#   check.sh docs      no dead link between the documents; each is within reach of README.md
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

format() {
  cargo fmt --all --check
  local file count=0
  while IFS= read -r -d '' file; do
    case $file in
      *.py) python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$file" ;;
      *) bash -n "$file" ;;
    esac
    count=$((count + 1))
  done < <(find . \( -path ./target -o -path ./.git \) -prune -o -type f \( -name '*.sh' -o -name '*.py' -o -path ./.ci/run \) -print0)
  say "rustfmt and $count scripts: well formed"
}

lints() {
  cargo clippy --workspace --all-targets --locked -- -D warnings
  cargo clippy --workspace --all-targets --no-default-features --locked -- -D warnings
  RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
}

deny() {
  "$DENY" --workspace --locked check --hide-inclusion-graph licenses bans sources
  local log=target/setup/advisories.log
  mkdir -p target/setup
  if timeout 120 "$DENY" --workspace --locked fetch db >"$log" 2>&1 </dev/null; then
    "$DENY" --workspace --locked check --disable-fetch advisories
  else
    say "advisories: NOT CHECKED, their database could not be fetched here (see $log)"
  fi
}

purity() {
  if [[ ! -d $(rustc --print sysroot)/lib/rustlib/$WASM ]]; then
    say "$WASM: NOT CHECKED, this toolchain has no such target and rustup could not add it"
    return
  fi
  cargo check --target "$WASM" --locked -p rekindle-proto -p rekindle-coordinator -p rekindle-sim
}

units() {
  local dir said
  if ! command -v systemd-analyze >/dev/null; then
    say "units: NOT CHECKED, there is no systemd-analyze here"
    return
  fi
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'" EXIT
  # The daemon need not be installed to have its unit checked.
  local unit
  for unit in rekindled rekindle-gate; do
    sed 's|^ExecStart=/usr/bin/rekindled\?\>|ExecStart=/bin/true|' "systemd/$unit.service" >"$dir/$unit.service"
    said=$(systemd-analyze verify --man=no "$dir/$unit.service" 2>&1) || { echo "$said"; return 1; }
    # What it does not know it only warns of.
    [[ $said != *"$unit.service"* ]] || { echo "$said"; return 1; }
  done
  # The drop-in for hosts with a watchdog.
  mkdir "$dir/rekindled.service.d"
  cp systemd/rekindled-watchdog.conf "$dir/rekindled.service.d/watchdog.conf"
  said=$(systemd-analyze verify --man=no "$dir/rekindled.service" 2>&1) || { echo "$said"; return 1; }
  [[ $said != *rekindled.service* ]] || { echo "$said"; return 1; }
}

suites() {
  local name bad=0
  while IFS= read -r name; do
    grep -qE -- "--test $name( |\$|\")" scripts/test.sh || { say "the suite $name is in no stage of scripts/test.sh"; bad=1; }
  done < <(cargo metadata --no-deps --locked --format-version 1 | /usr/bin/python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"]:
        if target["kind"] == ["test"]:
            print(target["name"])')
  return $bad
}

# -B: nothing is written beside the scripts.
targets() { /usr/bin/python3 -B tests/bench/targets_test.py; }

# Links to other files of ours in a document, without the part after #. A document without any is none the worse: grep
# fails then, and says nothing else.
links() { grep -oE '\]\([^)#: ]+[)#]' "$1" | sed 's/^](//; s/[)#]$//' || true; }

docs() {
  local file target bad=0
  for file in *.md docs/*.md tests/*/*.md; do
    while IFS= read -r target; do
      [[ -e $(dirname "$file")/$target ]] || { say "$file links to $target, which is not there"; bad=1; }
    done < <(links "$file")
  done
  for file in docs/*; do
    links README.md | grep -qxF "$file" || { say "README.md does not link to $file"; bad=1; }
  done
  return $bad
}

case ${1:-} in
  format | lints | deny | purity | units | suites | targets | docs) "$1" ;;
  *) die "usage: check.sh format|lints|deny|purity|units|suites|targets|docs" ;;
esac
