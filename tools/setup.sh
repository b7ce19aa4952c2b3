#!/bin/sh
# tools/setup.sh [--program | --full]: installs the Debian packages that are missing (Debian 12 and later).
#   --program   packages for building and running surtitle (tools/demo.sh)
#   default     also packages for the man page and the tests (tools/check.sh)
#   --full      also clang with its libFuzzer (tools/check.sh --full)
# As root it installs them by apt-get; otherwise it prints the command and ends with 1. No package is ever removed: a package
# that only some tests need is left out, with a line, if it could only be installed by removing another one.
set -eu

required="gcc libc6-dev meson ninja-build pkg-config
    libsndfile1-dev libsoxr-dev libspeexdsp-dev libjansson-dev libutf8proc-dev portaudio19-dev libvterm-dev"
optional=
with_tests() {
    required="$required scdoc libopenblas-dev libcmocka-dev python3 python3-numpy"
    optional="pulseaudio-utils libasound2-plugins tmux vim-tiny less htop"
    # a second sound server would replace PipeWire's at the next login
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
    echo "setup.sh: this is not a Debian system; the build needs the contents of these Debian packages:" $required $optional >&2
    exit 1
fi

# The named packages that are not installed.
missing() {
    for package; do
        # shellcheck disable=SC2016 # dpkg-query's own format, not the shell's
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf ' %s' "$package"
    done
}

would_remove() { LC_ALL=C apt-get -s install -y --no-install-recommends "$@" 2>/dev/null | grep -q '^Remv '; }

# Sets wanted (missing packages that can be installed) and left_out (those that cannot).
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
# Only now: a bare image has no package lists, and old lists name files that no longer exist.
echo 'setup.sh: trying again with new package lists' >&2
apt-get update </dev/null >&2
install
end 0
