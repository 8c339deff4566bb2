#!/bin/bash
# kernel.sh DIR: Debian's kernel for the guests of run.sh, with its drivers of watchdogs, unpacked into DIR. It is not
# installed: nothing here is to boot from it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib.sh
DIR=$(realpath -m "${1:?usage: kernel.sh DIR}")
DRIVERS=(watchdog i6300esb softdog ib700wdt)

package() { apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1; }

# What a bzImage unpacks when it boots. Booted as it is, a guest is up two seconds earlier: unpacking is slow where every
# instruction is emulated.
unpack() { # BZIMAGE VMLINUX
  python3 - "$1" "$2" <<'PY'
import lzma, sys
image, at = open(sys.argv[1], "rb").read(), -1
while (at := image.find(b"\xfd7zXZ\x00", at + 1)) >= 0:
    try:
        kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[at:])
    except lzma.LZMAError:
        continue
    if kernel[:4] == b"\x7fELF":
        open(sys.argv[2], "wb").write(kernel)
        sys.exit()
sys.exit("no kernel packed by xz is in it")
PY
}

rm -rf "$DIR.new"
mkdir -p "$DIR.new"
chmod 755 "$DIR.new"
name=$(package)
[[ -n $name ]] || die "apt knows no linux-image-amd64: run apt-get update; the guests need a kernel with the driver i6300esb"
(cd "$DIR.new" && apt-get -qq -o Acquire::Retries=3 download "$name") 2>&1 | grep -v 'unsandboxed as root' || true
wanted=("./boot/vmlinuz-${name#linux-image-}")
for driver in "${DRIVERS[@]}"; do
  wanted+=("./lib/modules/${name#linux-image-}/kernel/drivers/watchdog/$driver.ko")
done
dpkg-deb --fsys-tarfile "$DIR.new/$name"_*.deb | tar -x -C "$DIR.new" --transform 's|.*/||' "${wanted[@]}"
unpack "$DIR.new/vmlinuz-${name#linux-image-}" "$DIR.new/vmlinux"
rm "$DIR.new"/*.deb "$DIR.new"/vmlinuz-*
echo "$name" >"$DIR.new/name"
rm -rf "$DIR"
mv "$DIR.new" "$DIR"
