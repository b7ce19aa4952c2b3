#!/bin/sh
# tools/setup.sh [--full]: sees to it that what surtitle is built and tested with is installed (Debian 12 and later).
# As root it installs what is missing by apt-get; otherwise it prints the line that does and ends with 1.
# --full adds what tools/check.sh --full needs (clang and its libFuzzer). Nothing missing: nothing is done.
set -eu

packages="gcc libc6-dev meson ninja-build pkg-config
    libsndfile1-dev libsoxr-dev libspeexdsp-dev libjansson-dev libutf8proc-dev libopenblas-dev
    portaudio19-dev pulseaudio pulseaudio-utils libasound2-plugins libvterm-dev scdoc
    libcmocka-dev tmux vim-tiny less htop python3 python3-numpy"

# libFuzzer is in a package named after clang's version: the installed clang's, or the one this Debian would install.
clang_version() {
    if command -v clang >/dev/null 2>&1; then
        clang -dumpversion | cut -d . -f 1
        return
    fi
    # shellcheck disable=SC1091 # a file of the system
    debian=$(. /etc/os-release && echo "${VERSION_ID:-}")
    case $debian in
    12) echo 14 ;;
    *) echo 19 ;;
    esac
}

case ${1:-} in
'') ;;
--full) packages="$packages clang libclang-rt-$(clang_version)-dev" ;;
*)
    echo "usage: tools/setup.sh [--full]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # the list is words
    echo "setup.sh: this is no Debian system; the build needs what these Debian packages hold:" $packages >&2
    exit 1
fi

missing=
for package in $packages; do
    # shellcheck disable=SC2016 # dpkg-query's own format, not the shell's
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "setup.sh: some packages are missing; this installs them:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi

echo "setup.sh: installing$missing" >&2
install() {
    # shellcheck disable=SC2086 # the list is words
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing </dev/null >&2
}
# A bare image has no lists of packages, and old lists name files that are gone: fetch them only then.
install && exit
echo "setup.sh: once more, with fresh lists of packages" >&2
apt-get update </dev/null >&2
install
