#!/usr/bin/env bash
# tools/check_debian.sh [--cache DIR] [--arm64] RELEASE [ARGUMENT...]
# Runs tools/check.sh ARGUMENT... on a copy of this tree in a bare Debian RELEASE, 12 or 13, in a chroot. With --arm64 it
# compiles the tree there for aarch64 and runs meson test ARGUMENT... (default: the unit tests) under qemu-user.
#   --cache DIR   keeps the bare system and the downloaded packages, 1 GB per release (~/.cache/surtitle)
# The status is that of the tests, or 77 if it cannot run: it needs root, debootstrap and, for --arm64, qemu-user with
# binfmt_misc (packages debootstrap, qemu-user-static, binfmt-support).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/surtitle
arm64=

usage() {
    echo 'usage: tools/check_debian.sh [--cache DIR] [--arm64] 12|13 [ARGUMENT...]' >&2
    exit 2
}

skip() {
    echo "check_debian.sh: skipped: $*" >&2
    exit 77
}

while [ $# -gt 0 ]; do
    case $1 in
    --cache)
        [ $# -ge 2 ] || usage
        cache=$2
        shift 2
        ;;
    --arm64)
        arm64=1
        shift
        ;;
    *) break ;;
    esac
done
case ${1:-} in
12) name=bookworm ;;
13) name=trixie ;;
*) usage ;;
esac
release=$1
shift

[ "$(id -u)" -eq 0 ] || skip 'only root may chroot'
command -v debootstrap >/dev/null || skip 'there is no debootstrap'
[ -z "$arm64" ] || [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || skip 'the kernel does not run programs for aarch64 by qemu-user'

mkdir -p "$cache/archives/partial"
cache=$(cd "$cache" && pwd)
bare=$cache/debian-$release run=$cache/run-$release${arm64:+-arm64}
exec 9>"$run.lock"
flock -n 9 || skip "another run uses $run"
if ! [ -d "$bare" ]; then
    rm -rf "$bare.part"
    debootstrap --variant=minbase --include=ca-certificates "$name" "$bare.part" http://deb.debian.org/debian
    mv "$bare.part" "$bare"
fi
rm -rf --one-file-system "$run"
cp -a --reflink=auto "$bare" "$run"
cp /etc/resolv.conf "$run/etc/resolv.conf"
mkdir -p "$run/root/surtitle"
# the working tree: uncommitted files too, but no ignored ones
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T -) |
    tar -x -C "$run/root/surtitle"

cat >"$run/root/arm64.sh" <<'SCRIPT'
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg --add-architecture arm64
apt-get -q update
apt-get -q install -y --no-install-recommends meson ninja-build pkg-config python3-numpy gcc libc6-dev gcc-aarch64-linux-gnu \
    libc6-dev:arm64 \
    libsndfile1-dev:arm64 libsoxr-dev:arm64 libspeexdsp-dev:arm64 libjansson-dev:arm64 libutf8proc-dev:arm64 \
    portaudio19-dev:arm64 libvterm-dev:arm64 libcmocka-dev:arm64
cat >/root/cross <<'CROSS'
[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
nm = 'aarch64-linux-gnu-nm'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
[properties]
pkg_config_libdir = '/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig'
needs_exe_wrapper = false
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
CROSS
cd /root/surtitle
meson setup build --cross-file /root/cross --werror
ninja -C build all meson-test-prereq
[ $# -gt 0 ] || set -- --suite unit
# emulation makes a test up to a hundred times slower
meson test -C build --no-rebuild --print-errorlogs --timeout-multiplier 30 "$@"
SCRIPT

command=(/root/surtitle/tools/check.sh)
[ -z "$arm64" ] || command=(sh /root/arm64.sh)
# in namespaces of its own, so that mounts and processes end with the run
# shellcheck disable=SC2016 # the inner shell's own
exec unshare --mount --pid --fork --kill-child sh -euc '
run=$1 archives=$2
shift 2
mount -t proc proc "$run/proc"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$run/dev/pts"
mkdir -p "$run/dev/shm"
mount -t tmpfs shm "$run/dev/shm"
mount --bind "$archives" "$run/var/cache/apt/archives"
echo '\''APT::Keep-Downloaded-Packages "true";'\'' >"$run/etc/apt/apt.conf.d/keep"
exec chroot "$run" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
' sh "$run" "$cache/archives" "${command[@]}" "$@"
