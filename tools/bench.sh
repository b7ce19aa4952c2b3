#!/bin/sh
# tools/bench.sh [MODEL [CLIP]]: runs both backends on one clip and prints one table: medians of RUNS (3) runs in seconds,
# and how many times faster than speech that is (xRT). wall and xRT do not include the load. Default: the demo model and its
# clip. PROGRAM names the program. Status 77, with the reason, if the CUDA backend cannot be used.
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
model=${1:-$root/models/demo}
clip=${2:-$root/models/demo/clip.wav}
# shellcheck source=tools/gpu_program.sh
. "$root/tools/gpu_program.sh"
need_cuda "$model" "$clip"
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
printf '%-8s %9s %9s %9s %9s %9s %9s %9s %10s\n' backend audio load encode prefill decode ms/step wall xRT
for backend in cpu cuda; do
    : >"$folder/stats"
    for run in $(seq "${RUNS:-3}"); do
        "$PROGRAM" --model "$model" --backend $backend --format tokens --stats --output "$folder/$backend.$run" "$clip" \
            2>"$folder/run" </dev/null || {
            cat "$folder/run" >&2
            exit 1
        }
        awk 'NF == 3 { v[$1] = $2 } END { print v["audio"], v["load"], v["encode"], v["prefill"], v["decode"],
            1000 * v["decode"] / (v["steps"] > 0 ? v["steps"] : 1), v["wall"],
            v["audio"] / (v["wall"] > 0 ? v["wall"] : 1e-9) }' "$folder/run" >>"$folder/stats"
    done
    printf '%-8s' $backend
    for field in 1 2 3 4 5 6 7 8; do
        cut -d ' ' -f $field "$folder/stats" | sort -n | awk '{ v[NR] = $1 } END { printf " %9.3f", v[int((NR + 1) / 2)] }'
    done
    printf '\n'
done
