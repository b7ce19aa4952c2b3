#!/bin/sh
# tools/validate_cuda.sh [MODEL CLIP...]: checks that the GPU is found and that every switch of the CUDA backend gives
# the same text. Default: the demo model and its clips. PROGRAM names the program. Status 77, with the reason, if the
# backend cannot be used.
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tools/gpu_program.sh
. "$root/tools/gpu_program.sh"
model=$root/models/demo
if [ $# -ge 2 ]; then
    model=$1
    shift
else
    [ $# -eq 0 ] || {
        echo 'usage: tools/validate_cuda.sh [MODEL CLIP...]' >&2
        exit 2
    }
    set -- "$model"/*.wav
fi
need_cuda "$model" "$1"
"$PROGRAM" --backend cuda --model "$model" --log-level info --output /dev/null "$1" 2>&1 </dev/null | head -n 3
passed=0 failed=0

caption() { "$PROGRAM" --model "$model" --format text "$@" 2>&1 </dev/null; }
# same CLIP OPTION...: compares the text with the CPU's, in $want.
same() {
    clip=$1
    shift
    if [ "$(caption "$@" "$clip")" = "$want" ]; then
        passed=$((passed + 1))
        echo "ok   $(basename "$clip") $*"
    else
        failed=$((failed + 1))
        echo "FAIL $(basename "$clip") $*: $(caption "$@" "$clip" | head -c 200)"
    fi
}

for clip; do
    want=$(caption --backend cpu "$clip")
    echo "     $(basename "$clip") by the CPU: $(printf %s "$want" | tr '\n' ' ' | head -c 100)"
    same "$clip" --backend auto
    same "$clip" --backend cuda
    same "$clip" --backend cuda --kv fp32
    same "$clip" --encode-on cuda --decode-on cpu
    same "$clip" --encode-on cpu --decode-on cuda
    same "$clip" --backend cuda --vram-limit 4096
    same "$clip" --backend cuda --gemm lt
    same "$clip" --backend cuda --gemm blas
    same "$clip" --backend cuda --window-attention gemm
    same "$clip" --backend cuda --gemm lt --window-attention gemm --kv fp32
    for gemm in own lt; do
        what="$(basename "$clip") on standard input, live, --gemm $gemm"
        if [ "$("$PROGRAM" --model "$model" --format text --backend cuda --gemm $gemm - <"$clip" 2>&1)" = "$want" ]; then
            passed=$((passed + 1))
            echo "ok   $what"
        else
            failed=$((failed + 1))
            echo "FAIL $what"
        fi
    done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
