#!/bin/sh
# abi.sh HEADER SRC OUT DEPFILE COMPILER...: writes OUT, which defines SUR_GPU_ABI as a hash of HEADER and of all headers
# of ours that it includes (the compiler says which), and DEPFILE, so that OUT is made anew when one of them changes.
set -eu
header=$1 src=$2 out=$3 depfile=$4
shift 4
rule=$("$@" -MM -MT "$out" -I "$src" -x c "$header")
printf '%s\n' "$rule" >"$depfile"
files=$(printf '%s\n' "$rule" | sed 's/^[^:]*://; s/\\$//')
# shellcheck disable=SC2086 # several names; the compiler escapes blanks in them, which the build does not have
hash=$(cat $files | sha256sum | cut -c 1-16)
printf '/* Made by abi.sh. */\n#define SUR_GPU_ABI UINT64_C(0x%s)\n' "$hash" >"$out"
