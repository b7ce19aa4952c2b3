#!/bin/sh
# tools/compare_backends.sh MODEL CLIP [OPTION...]: compares the CPU's tokens with the GPU's. At the first
# step where they differ the CPU's margin must be below the bound (docs/model.md, "Arithmetic"): 2e-3, or 1e-4 with --kv
# fp32. Both runs get the OPTIONs. PROGRAM names the program. Status 77, with the reason, without a GPU.
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -lt 2 ]; then
    echo 'usage: tools/compare_backends.sh MODEL CLIP [OPTION...]' >&2
    exit 2
fi
model=$1 clip=$2
shift 2
# shellcheck source=tools/gpu_program.sh
. "$root/tools/gpu_program.sh"
need_cuda "$model" "$clip"
bound=0.002
case " $* " in *' --kv fp32 '* | *' --kv=fp32 '*) bound=0.0001 ;; esac
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
for backend in cpu cuda; do
    "$PROGRAM" --model "$model" --backend $backend --format tokens "$@" "$clip" >"$folder/$backend" </dev/null || exit 1
done
paste "$folder/cpu" "$folder/cuda" | awk -F '\t' -v bound=$bound '
    { steps++; low += $3 < bound }
    !split_at && $2 != $6 { split_at = NR; split_margin = $3; why = $2 " here, " $6 " there" }
    !split_at { off = $3 - $7; if (off < 0) off = -off; if (off > largest) largest = off }
    END {
        equal = split_at ? split_at - 1 : steps
        printf "%d of %d steps equal, margins within %.1e; %d steps (%.2f%%) below the bound %g\n", equal, steps, largest,
            low, steps ? 100 * low / steps : 0, bound
        if (split_at) printf "step %d differs: %s, margin %g\n", split_at - 1, why, split_margin
        exit steps == 0 || (split_at && split_margin >= bound) || largest > 2 * bound
    }'
