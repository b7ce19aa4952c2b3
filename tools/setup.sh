#!/bin/sh
# tools/setup.sh [--program | --full]: installs the Debian packages that are missing (Debian 12 and later).
#   --program   what building and running surtitle needs (tools/demo.sh)
#   without     also what the man page and the tests need (tools/check.sh)
#   --full      also clang with its libFuzzer (tools/check.sh --full)
# As root it installs them by apt-get; otherwise it prints the line that does and ends with 1. No package is ever
# removed: what some tests alone need is left out, with a line, where it could only be had by removing another package.
set -eu

required="gcc libc6-dev meson ninja-build pkg-config
    libsndfile1-dev libsoxr-dev libspeexdsp-dev libjansson-dev libutf8proc-dev portaudio19-dev libvterm-dev"
optional=
with_tests() {
    required="$required scdoc libopenblas-dev libcmocka-dev python3 python3-numpy"
    optional="pulseaudio-utils libasound2-plugins tmux vim-tiny less htop"
    # a sound server beside PipeWire's would take its place at the next login
    command -v pipewire-pulse >/dev/null 2>&1 || optional="$optional pulseaudio"
}

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
'') with_tests ;;
--program) ;;
--full)
    with_tests
    required="$required clang libclang-rt-$(clang_version)-dev"
    ;;
*)
    echo 'usage: tools/setup.sh [--program | --full]' >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # the lists are words
    echo "setup.sh: this is no Debian system; the build needs what these Debian packages hold:" $required $optional >&2
    exit 1
fi

# Of the packages named, those that are not installed.
missing() {
    for package; do
        # shellcheck disable=SC2016 # dpkg-query's own format, not the shell's
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf ' %s' "$package"
    done
}

would_remove() { LC_ALL=C apt-get -s install -y --no-install-recommends "$@" 2>/dev/null | grep -q '^Remv '; }

# Sets wanted, to the missing packages that can be added, and left_out.
choose() {
    # shellcheck disable=SC2086 # the lists are words
    wanted=$(missing $required) extra=$(missing $optional) left_out=
    # shellcheck disable=SC2086
    if [ -n "$extra" ] && would_remove $wanted $extra; then
        for package in $extra; do
            if would_remove $wanted "$package"; then
                left_out="$left_out $package"
            else
                wanted="$wanted $package"
            fi
        done
    else
        wanted=$wanted$extra
    fi
}

end() {
    if [ -n "$left_out" ]; then
        echo "setup.sh: left out, because other packages would be removed (tests that need it are skipped):$left_out" >&2
    fi
    exit "$1"
}

install() {
    choose
    [ -n "$wanted" ] || end 0
    echo "setup.sh: installing$wanted" >&2
    # shellcheck disable=SC2086 # the list is words
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-remove $wanted </dev/null >&2
}

if [ "$(id -u)" -ne 0 ]; then
    choose
    [ -n "$wanted" ] || end 0
    echo 'setup.sh: some packages are missing; this installs them, and removes none:' >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends --no-remove$wanted" >&2
    end 1
fi
install && end 0
# A bare image has no lists of packages, and old lists name files that are gone: fetch them only then.
echo 'setup.sh: once more, with fresh lists of packages' >&2
apt-get update </dev/null >&2
install
end 0
