#!/bin/sh
# check_install.sh SOURCE BUILD CC: installs the build into an empty folder, compiles the library's example against that
# copy alone, by pkg-config, and captions the demo clip with it. The words must be those of the program.
# Status 77: there is no demo model to run it on (the compilation was checked).
set -eu
source=$1 build=$2 cc=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work meson install -C "$build" --no-rebuild >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
pc=$(find "$work" -name surtitle.pc)
[ -n "$pc" ] || {
    echo 'no surtitle.pc was installed'
    exit 1
}
export PKG_CONFIG_PATH="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$work"
# searched for, because not every pkg-config puts the sysroot before a variable
libdir=$(dirname "$(find "$work" -name libsurtitle.so)")
demo=$(find "$work" -type d -path '*/surtitle/demo')
# compiled in a separate folder, so that nothing of the source tree is found
cp "$source/examples/caption_file.c" "$work/"
# shellcheck disable=SC2046,SC2086 # compilers and flags are words
(cd "$work" && $cc -std=c11 -Wall -Wextra -Werror caption_file.c $(pkg-config --cflags --libs surtitle) -o caption_file)

if ! [ -f "$demo/consolidated.safetensors" ]; then
    echo 'compiled; no demo model to run it on'
    exit 77
fi

# an installed program finds its library by itself
program=$(find "$work" -path '*/bin/surtitle')
[ "$(env -u LD_LIBRARY_PATH "$program" --version)" = "$("$build/src/cli/surtitle" --version)" ]

export LD_LIBRARY_PATH="$libdir"
if "$work/caption_file" "$work/missing" "$demo/clip.wav" 2>"$work/error"; then
    echo 'a missing model was no failure'
    exit 1
fi
[ "$(wc -l <"$work/error")" -eq 1 ]
"$work/caption_file" "$demo" "$demo/clip.wav" >"$work/text"
grep -q '[a-z]' "$work/text"
cat "$work/text"
# only the line breaks differ
words() { tr -s '[:space:]' '\n' <"$1" | grep .; }
"$build/src/cli/surtitle" --model "$demo" "$demo/clip.wav" >"$work/program"
[ "$(words "$work/text")" = "$(words "$work/program")" ]
