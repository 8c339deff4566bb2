#!/bin/bash
# Brings what the cloud needs onto a bare Debian 12, as root: Debian gives the broker, the database, the BMC simulator
# and libvirt; OpenStack itself is a venv with pinned versions. Does nothing when all is there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

PACKAGES=(
  rabbitmq-server mariadb-server-core mariadb-client-core # broker, database
  openipmi ipmitool                                       # ipmi_sim, and a client for it
  libvirt-daemon libvirt-clients python3-libvirt tini     # one libvirtd per host, with its test driver
  gcc libc6-dev python3-dev python3-venv                  # uwsgi is compiled
)

debian_packages() {
  local p missing=() policy=/usr/sbin/policy-rc.d ours=0
  for p in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) == "install ok installed" ]] || missing+=("$p")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  [[ $EUID == 0 ]] || die "these Debian packages are missing and only root can install them: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  # Their maintainer scripts would start daemons that listen on all addresses.
  [[ -e $policy ]] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; ours=1; }
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300) rc=0
  { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >"$LOG/apt.log" 2>&1 </dev/null || rc=$?
  [[ $ours == 0 ]] || rm -f "$policy"
  [[ $rc == 0 ]] || { tail -n 20 "$LOG/apt.log" >&2; die "apt-get failed; see $LOG/apt.log"; }
}

venv() {
  local want uv=$CLOUD_VENV-uv
  want=$(cat "$CLOUD_SRC"/{requirements,constraints}.txt <("$PYTHON" -VV; echo "$CLOUD_VENV") | sha256sum | cut -d' ' -f1)
  if [[ $(cat "$CLOUD_VENV/.hash" 2>/dev/null) != "$want" ]]; then
    say "installing OpenStack into $CLOUD_VENV"
    # uv installs these 160 packages in seconds; pip alone takes minutes.
    [[ -x $uv/bin/uv ]] || { "$PYTHON" -m venv --clear "$uv" && "$uv/bin/pip" -q install uv; } || die "cannot install uv"
    rm -f "$CLOUD_VENV/.hash"
    "$uv/bin/uv" venv -q --clear --python "$PYTHON" "$CLOUD_VENV"
    "$uv/bin/uv" pip install -q --python "$CLOUD_VENV/bin/python" -r "$CLOUD_SRC/requirements.txt" \
      -c "$CLOUD_SRC/constraints.txt"
    echo "$want" >"$CLOUD_VENV/.hash"
  fi
  # Nova loads drivers only from below nova.virt; the libvirt module is Debian's, for the same Python. The links
  # are made anew each time: the venv may have been made from another work tree.
  local site f
  site=$("$CLOUD_VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  ln -sfn "$CLOUD_SRC/rekindle_fake.py" "$site/nova/virt/rekindle_fake.py"
  ln -sfn "$CLOUD_SRC/guests.py" "$site/rekindle_guests.py"
  for f in /usr/lib/python3/dist-packages/libvirt{.py,mod.*.so}; do ln -sfn "$f" "$site/${f##*/}"; done
}

mkdir -p "$LOG"
exec 8>"$CLOUD_VENV.lock"
flock 8
debian_packages
stage "Debian packages"
venv
stage "OpenStack venv"
