#!/bin/sh
# tools/gpu_bench.sh BUNDLE: on a machine with a GPU, measures the figures of docs/benchmarks.md at full size: kernels,
# decoder steps, encoder passes, positions from 131,000 on, a 180 s clip whole, start to ready, memory, a paced live run. It
# also checks that bits do not depend on how sound arrives, and that tokens are those of transformers. At most 9 minutes;
# logs in ${OUT:-gpu-logs}; a short table at the end. MODEL names a checkpoint; without it a random one (8.9 GB) is written
# to ${TMPDIR:-/tmp}/surtitle-full and kept. PACED: seconds of the live run (120).
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
BUNDLE=$(cd "${1:?usage: tools/gpu_bench.sh BUNDLE}" && pwd) || exit 2
# shellcheck source=tools/gpu_steps.sh
. "$root/tools/gpu_steps.sh"
need_gpu
MODEL=${MODEL:-${TMPDIR:-/tmp}/surtitle-full}
PACED=${PACED:-120}
clips=$logs/clips
mkdir -p "$clips"

[ -f "$MODEL/consolidated.safetensors" ] ||
    step checkpoint 120 "$PYTHON" "$root/tools/make_checkpoint.py" "$MODEL" --size full || exit 1
"$PYTHON" - "$root" "$clips" "$PACED" <<'PYTHON' || exit 1
import sys
sys.path.insert(0, sys.argv[1] + "/tests/golden")
sys.dont_write_bytecode = True
import cases
for name, seconds in (("180", 180.0), ("paced", float(sys.argv[3])), ("short", 0.5)):
    cases.CLIPS[name] = lambda: cases.signal(seconds, 7)
    cases.write_clip(name, f"{sys.argv[2]}/{name}.wav")
PYTHON

fatbins=$(echo "$BUNDLE"/src/gpu/*.fatbin)
# shellcheck disable=SC2086 # names without blanks
step kernels 90 "$BUNDLE/kernel_check" --bench $fatbins
step phases 120 "$BUNDLE/surtitle-bench" --model "$MODEL" --backend cuda --reps 201 --json "$logs/phases.json"

step far 40 "$BUNDLE/run" "$BUNDLE/tests/gpu/far_run" "$MODEL"
step bits 60 "$PYTHON" "$root/tests/gpu/check_exact.py" "$BUNDLE/surtitle" --full "$MODEL" --seconds 6
step transformers 90 "$PYTHON" "$root/tests/gpu/check_transformers.py" "$BUNDLE/surtitle" "$MODEL"

run="$BUNDLE/surtitle --model $MODEL --backend cuda --format tokens --stats"
nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 100 >"$logs/memory.txt" 2>/dev/null &
watcher=$!
# shellcheck disable=SC2086 # a command
{
    for i in 1 2 3; do step "whole-$i" 40 $run --output "$logs/whole-$i.txt" "$clips/180.wav"; done
    for i in 1 2 3 4 5; do step "start-$i" 30 $run --output "$logs/start-$i.txt" "$clips/short.wav"; done
    step paced $((PACED + 30)) $run --pace --latency-report "$logs/latency.json" --output "$logs/paced.txt" \
        "$clips/paced.wav"
}
kill $watcher 2>/dev/null

"$PYTHON" - "$logs" <<'PYTHON' >>"$table"
import glob, json, os, statistics, sys
logs = sys.argv[1]

def stats(pattern):
    runs = []
    for path in sorted(glob.glob(f"{logs}/{pattern}.log")):
        words = [line.split() for line in open(path, errors="replace")]
        runs.append({w[0]: float(w[1]) for w in words if len(w) == 3 and w[1].replace(".", "").isdigit()})
    return [run for run in runs if "wall" in run]

def row(name, values, unit):
    values = [v for v in values if v is not None]
    if values:
        print(f"{name:34} {statistics.median(values):9.3f} {unit:4} ({min(values):.3f} to {max(values):.3f}, "
              f"{len(values)} runs)")

try:
    for p in json.load(open(f"{logs}/phases.json"))["phases"]:
        share = p.get("share_of_read") or p.get("share_of_fma") or 0
        print(f"{p['name']:34} {p['ms']:9.3f} ms   ({p['ms_p5']:.3f} to {p['ms_p95']:.3f}), {100 * share:.1f}% of the probe")
except (OSError, KeyError, ValueError) as error:
    print("no phases:", error)
whole, start, paced = stats("whole-*"), stats("start-*"), stats("paced")
row("180 s whole, load excluded", [r["wall"] for r in whole], "s")
row("180 s whole, all", [r["wall"] + r["load"] for r in whole], "s")
row("its encoder", [r.get("encode") for r in whole], "s")
row("its prefill", [r.get("prefill") for r in whole], "s")
row("its decoder", [r.get("decode") for r in whole], "s")
row("a step of it", [1e3 * r["decode"] / r["steps"] for r in whole if r.get("steps")], "ms")
row("start to ready", [r["load"] for r in start], "s")
row("device memory, its own count", [r.get("device-memory") for r in whole], "MiB")
try:
    row("device memory, nvidia-smi's peak", [max(float(x) for x in open(f"{logs}/memory.txt"))], "MiB")
except (OSError, ValueError):
    pass
same = {open(f, "rb").read() for f in glob.glob(f"{logs}/whole-*.txt")}
print(f"{'the runs said the same':34} {'yes' if len(same) == 1 else 'NO'}")
try:
    report = json.load(open(f"{logs}/latency.json"))
    print(f"{'paced live':34} added {report['added_ms']}, above 80 ms {report['above_80_ms']}, skips {report['skips']}")
except (OSError, KeyError, ValueError) as error:
    print("no latency report:", error)
PYTHON
rm -rf "$clips"

echo
cat "$table"
[ "$failed" -eq 0 ]
