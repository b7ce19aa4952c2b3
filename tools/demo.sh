#!/bin/sh
# tools/demo.sh [OPTION...]: builds surtitle in build-demo/, without the tests, and captions the bundled clip at the
# speed of speech with the bundled model. Options are passed to surtitle. Captions go to standard output, everything else to standard
# error.
set -eu
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build-demo

"$root/tools/setup.sh" --program
{
    [ -f "$build/build.ninja" ] || meson setup "$build" "$root" -Dtests=false
    ninja -C "$build" src/cli/surtitle
    echo "demo.sh: this is $build/src/cli/surtitle --pace${*:+ $*} $root/models/demo/clip.wav"
} >&2
exec "$build/src/cli/surtitle" --pace "$@" "$root/models/demo/clip.wav"
