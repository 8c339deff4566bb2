#!/bin/bash
# Brings what rekindle needs onto this machine, and says what it brings.
#
#   setup.sh build     to compile: a C compiler, libvirt's headers, the toolchain's components
#   setup.sh demo      and to run the demo: ipmitool, nftables, namespaces
#   setup.sh lint      to compile, and for the checks: cargo-deny (under target/tools), the wasm32 target
#   setup.sh test      all of these, a libvirtd with QEMU, an emulator of Redfish services (under target/redfish-venv), and
#                      VirtualBMC (under target/virtualbmc-venv)
#   setup.sh watchdog  a kernel for the guests of tests/watchdog (under target/guest-kernel)
#
# It looks first, and changes nothing where all is there; that takes a fraction of a second. Packages come by apt-get, as
# root; elsewhere it names what is missing. (The test cloud brings its own: tests/cloud/.)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

WHAT=${1:-test}
case $WHAT in build | demo | lint | test | watchdog) ;; *) die "usage: setup.sh build|demo|lint|test|watchdog" ;; esac
wants() { [[ " $* " == *" $WHAT "* ]]; }

# need PACKAGE PROBE...: notes the Debian package unless the probe succeeds.
MISSING=()
need() { "${@:2}" >/dev/null 2>&1 || MISSING+=("$1"); }
# Daemons are in sbin, which not everybody's PATH has.
has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }

debian_packages() {
  need gcc has cc
  need libc6-dev test -e /usr/include/stdio.h
  need pkg-config has pkg-config
  need libvirt-dev pkg-config --exists libvirt
  if wants demo test; then
    need ipmitool has ipmitool
    need iproute2 has ip
    need nftables has nft
    need util-linux has unshare
    need procps has ps
  fi
  if wants test; then
    need binutils has ld
    need openipmi has ipmi_sim
    need fence-agents has fence_ipmilan
    need tini has tini
    need libvirt-daemon-system has libvirtd
    need libvirt-daemon-driver-qemu compgen -G '/usr/lib*/*/libvirt/connection-driver/libvirt_driver_qemu.so'
    need libvirt-clients has virsh
    need qemu-system-x86 has qemu-system-x86_64
    need python3 has python3
    need python3-libvirt /usr/bin/python3 -c 'import libvirt'
    need python3-venv /usr/bin/python3 -c 'import ensurepip'
    need busybox-static has busybox
    need cpio has cpio
    need socat has socat
    need systemd has systemd-analyze
    need dbus has dbus-daemon
  fi
  [[ ${#MISSING[@]} -gt 0 ]] || return 0
  has apt-get >/dev/null || die "missing, by their Debian names: ${MISSING[*]}; install them, and run this again"
  [[ $EUID == 0 ]] || die "missing; as root: apt-get install --no-install-recommends ${MISSING[*]}"
  say "installing Debian packages: ${MISSING[*]}"
  # Their scripts would start system-wide daemons that nobody asked for. 101 = "not allowed" (invoke-rc.d's contract).
  local policy=/usr/sbin/policy-rc.d log=target/setup/apt.log
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${MISSING[@]}"; } >"$log" 2>&1 </dev/null ||
    { tail -n 20 "$log" >&2; die "apt-get failed; the whole of it is in $log"; }
}

# Debian's kernel with drivers of watchdogs, for the guests of tests/watchdog. Downloaded (70 MB) and unpacked, not installed.
guest_kernel() {
  [[ ! -e target/guest-kernel/vmlinux ]] || return 0
  if ! has apt-get >/dev/null; then
    say "no apt-get, so no kernel for the guests of tests/watchdog: that stage will fail"
    return 0
  fi
  say "fetching a kernel for the guests of tests/watchdog (once)"
  tests/watchdog/kernel.sh target/guest-kernel
}

toolchain() {
  has cargo >/dev/null || die "no cargo: install Rust with rustup, then run this again"
  # By rustup this also installs the toolchain that rust-toolchain.toml names, if that is not done by itself.
  SYSROOT=$(rustc --print sysroot) || { rustup toolchain install </dev/null && SYSROOT=$(rustc --print sysroot); }
  local binary component
  for binary in rustfmt clippy-driver; do
    [[ ! -x $SYSROOT/bin/$binary ]] || continue
    component=${binary%-driver}
    has rustup >/dev/null || die "$component is missing and there is no rustup to add it"
    say "adding the toolchain's $component"
    rustup component add "$component" </dev/null
  done
}

# The target for which the pure crates are compiled as proof. Where it cannot be had, `make purity` says so and goes on.
wasm_target() {
  [[ ! -d $SYSROOT/lib/rustlib/$WASM ]] || return 0
  has rustup >/dev/null || return 0
  say "adding the toolchain's target $WASM"
  timeout 300 rustup target add "$WASM" </dev/null || say "rustup could not add $WASM"
}

# Built with little optimisation: it runs for seconds, and its own release profile would be compiled for many minutes.
cargo_deny() {
  [[ ! -x $DENY ]] || return 0
  say "building cargo-deny $DENY_VERSION under target/tools (once, some minutes)"
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo install --quiet cargo-deny --locked --version "$DENY_VERSION" \
    --root "$TOOLS/cargo-deny-$DENY_VERSION" --target-dir "$TOOLS/build" </dev/null
}

# venv NAME REQUIREMENTS WHAT [OPTION]: programs that are not ours, for the drivers' tests, and nothing that is not in their
# list. Made anew when what is wanted of them changes.
venv() {
  local venv=target/$1 want=$2 log=target/setup/$1.log
  ! cmp -s "$want" "$venv/requirements.txt" || return 0
  say "installing $3 under $venv"
  { /usr/bin/python3 -m venv --clear ${4:+"$4"} "$venv" && "$venv/bin/pip" install --no-deps --requirement "$want"; } >"$log" 2>&1 </dev/null ||
    { tail -n 20 "$log" >&2; die "pip failed; the whole of it is in $log"; }
  cp "$want" "$venv/requirements.txt"
}

mkdir -p target/setup
debian_packages
toolchain
if wants watchdog; then guest_kernel; fi
if wants lint test; then
  wasm_target
  cargo_deny
fi
if wants test; then
  venv redfish-venv tests/tests/redfish/requirements.txt sushy-tools
  # libvirt's own module is Debian's: that of PyPI would have to be compiled.
  venv virtualbmc-venv tests/libvirt/requirements.txt VirtualBMC --system-site-packages
fi
