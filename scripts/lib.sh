# Shared by the scripts beside it; sourced from the root of the repository.
# shellcheck shell=bash

# Where rustup puts cargo, for shells that have not read its profile.
[[ ! -d ${CARGO_HOME:-$HOME/.cargo}/bin ]] || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

WASM=wasm32-unknown-unknown
TOOLS=$PWD/target/tools
DENY_VERSION=0.20.2
DENY=$TOOLS/cargo-deny-$DENY_VERSION/bin/cargo-deny

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }
die() {
  say "$*" >&2
  exit 1
}
