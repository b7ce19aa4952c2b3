#!/bin/sh
# tools/live_hour.sh [MINUTES [OPTION...]]: captions MINUTES (60) of speech, the bundled clips one after the other, at the
# speed of speech with the bundled model on the CPU. OPTIONs are passed to surtitle. It uses real-time priority if the system
# grants it (chrt), because other programs on the machine make steps late.
# Fails unless every step came within 80 ms, nothing was skipped or lost, no step is missing, words came all the time, and
# resident memory stayed within 1 MB of its size after the first tenth and the first minute.
# Prints a row for docs/benchmarks.md on standard output, everything else on standard error.
set -eu
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
program=$root/build/src/cli/surtitle
minutes=${1:-60}
[ $# -eq 0 ] || shift
case $minutes in
'' | *[!0-9]* | 0*)
    echo 'usage: tools/live_hour.sh [MINUTES [OPTION...]]' >&2
    exit 2
    ;;
esac
"$root/tools/setup.sh"
{
    [ -f "$root/build/build.ninja" ] || meson setup "$root/build" "$root"
    ninja -C "$root/build" src/cli/surtitle
} >&2
commit=$(git -C "$root" describe --always --dirty=+ 2>/dev/null || echo unknown)

box=$(mktemp -d "${TMPDIR:-/tmp}/surtitle-hour.XXXXXX")
pid=
leave() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$box"
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

python3 - "$root/models/demo" "$minutes" "$box/speech.wav" <<'PYTHON'
import sys, wave
folder, minutes, path = sys.argv[1:]
speech = b""
for name in ["clip", "espeak", "flite"]:
    with wave.open(f"{folder}/{name}.wav") as w:
        assert (w.getframerate(), w.getnchannels(), w.getsampwidth()) == (16000, 1, 2), name
        speech += w.readframes(w.getnframes()) + bytes(16000)  # and half a second without a word
left = int(minutes) * 60 * 16000 * 2
with wave.open(path, "wb") as w:
    w.setparams((1, 2, 16000, 0, "NONE", ""))
    while left > 0:
        w.writeframes(speech[:left])
        left -= len(speech)
PYTHON

first=
if chrt -f 10 true 2>/dev/null; then
    first='chrt -f 10'
    echo 'live_hour.sh: with real-time priority (chrt -f 10)' >&2
else
    echo 'live_hour.sh: without real-time priority: the system does not grant it (chrt -f 10)' >&2
fi
# shellcheck disable=SC2086 # a command and its words, or nothing
$first "$program" --model "$root/models/demo" --backend cpu --pace --format jsonl --output "$box/captions" --stats \
    --latency-report "$box/report" "$@" "$box/speech.wav" 2>"$box/said" &
pid=$!
began=$(date +%s)
while kb=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$pid/status" 2>/dev/null) && [ -n "$kb" ]; do
    echo "$(($(date +%s) - began)) $kb" >>"$box/memory"
    sleep 1
done
status=0
wait "$pid" || status=$?
pid=
cat "$box/said" >&2
[ "$status" -eq 0 ] || {
    echo "live_hour.sh: surtitle ended with $status" >&2
    exit 1
}

python3 - "$box" "$minutes" "$commit" "$first" "$*" <<'PYTHON'
import datetime, json, math, os, sys
box, minutes, commit, first, options = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
with open(f"{box}/report") as f:
    r = json.load(f)
with open(f"{box}/said") as f:
    stats = {line.split()[0]: line.split()[1] for line in f if len(line.split()) == 3}
with open(f"{box}/captions") as f:
    events = [json.loads(line) for line in f]
with open(f"{box}/memory") as f:
    memory = [tuple(map(int, line.split())) for line in f]
faults, seconds = [], minutes * 60
steps = math.ceil(seconds * 16000 / 1280) + 11  # docs/model.md, "Steps"


def check(good, what):
    if not good:
        faults.append(what)


times = [0] + [e["t1"] for e in events if e["type"] == "text"] + [seconds]
pause = max(b - a for a, b in zip(times, times[1:]))
# by then the rings of samples and rows were touched, and all weights that these words need
settled = [kb for s, kb in memory if s >= max(seconds / 10, min(60, seconds / 2))]
growth = max(settled) - settled[0] if settled else None
check(r["above_80_ms"] == 0, f"{r['above_80_ms']} steps came more than 80 ms late")
check(r["skips"] == 0 and r["skipped_ms"] == 0, f"{r['skipped_ms']} ms were skipped")
check(not any(e["type"] == "skip" for e in events), "the captions have skips")
check(r["lost_frames"] == 0, f"{r['lost_frames']} samples were dropped")
check(int(stats["steps"]) == steps, f"{stats['steps']} steps, not {steps}")
check(r["startup_steps"] == 0 and r["steps"] > steps - 30, f"{r['steps']} steps were measured, of {steps}")
check(events[-1]["type"] == "end" and abs(events[-1]["t"] - seconds) < 0.001, f"the last line is {events[-1]}")
check(abs(float(stats["wall"]) - seconds) < 2, f"{stats['wall']} s for {seconds} s of speech")
check(pause < 10, f"{pause:.1f} s without a word")
check(growth is not None and growth < 1024, f"resident memory grew by {growth} KB")
with open("/proc/cpuinfo") as f:
    cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
command = " ".join(["tools/live_hour.sh", str(minutes), options]).strip()
a = r["added_ms"]
print(f"| {minutes} min of paced speech through the demo model{', real-time priority' if first else ''} "
      f"| {len(os.sched_getaffinity(0))} cores of {cpu} | {datetime.date.today()} | {commit} | `{command}` "
      f"| added latency p50 {a['p50']:.1f}, p90 {a['p90']:.1f}, p99 {a['p99']:.1f}, p99.9 {a['p99.9']:.1f}, "
      f"max {a['max']:.1f} ms; {r['above_80_ms']} of {r['steps']} steps above 80 ms; {r['skips']} skips; "
      f"{r['lost_frames']} samples lost; longest queue {r['longest_queue_ms']:.0f} ms; "
      f"resident memory {settled[0] if settled else 0} KB, +{growth} KB |")
for fault in faults:
    print("live_hour.sh: failed:", fault, file=sys.stderr)
sys.exit(1 if faults else 0)
PYTHON
