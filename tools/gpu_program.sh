# shellcheck shell=sh disable=SC2034,SC2154 # names of the script that sources this
# Sourced, with root set. Sets PROGRAM, unless the environment has it, to the first of the builds that runs.
if [ -z "${PROGRAM:-}" ]; then
    for candidate in "$root/build-gpu/src/cli/surtitle" "$root/build/src/cli/surtitle" "$root/gpu-bundle/surtitle"; do
        [ -z "${PROGRAM:-}" ] && "$candidate" --version >/dev/null 2>&1 && PROGRAM=$candidate
    done
fi
[ -n "${PROGRAM:-}" ] || {
    echo "there is no program: build it (meson setup build && ninja -C build), or set PROGRAM" >&2
    exit 2
}

# need_cuda MODEL CLIP: ends the script with status 77 and the reason if --backend cuda cannot be used.
need_cuda() {
    reason=$("$PROGRAM" --backend cuda --model "$1" --format tokens --output /dev/null "$2" 2>&1 </dev/null) && return
    [ $? -eq 5 ] || {
        echo "$reason" >&2
        exit 1
    }
    echo "skipped: $reason"
    exit 77
}
