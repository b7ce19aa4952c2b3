#!/bin/sh
# check_32_bits.sh SOURCE CC...: configuring for a 32-bit processor fails with one line that says why.
set -eu
source=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

{
    echo '[binaries]'
    printf "c = ["
    for word; do printf "'%s', " "$word"; done
    echo "'-m32']"
    echo '[built-in options]'
    echo "c_link_args = ['-nostdlib']" # the 32-bit C library need not be here
    printf '%s\n' '[host_machine]' "system = 'linux'" "cpu_family = 'x86'" "cpu = 'i686'" "endian = 'little'"
} >"$work/cross"
if meson setup "$work/build" "$source" --cross-file "$work/cross" >"$work/log" 2>&1; then
    echo 'a 32-bit build was configured'
    exit 1
fi
if ! grep -q 'ERROR: .*surtitle needs a 64-bit processor' "$work/log"; then
    cat "$work/log"
    exit 1
fi
