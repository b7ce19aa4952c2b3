#!/bin/sh
# tools/gpu_check.sh BUNDLE: on a machine with a GPU, tests what tools/gpu_bundle.sh built: every kernel against its
# reference; the backend against the golden answers, the fp64 reference and the CPU; faults; compute-sanitizer. At most
# 9 minutes; logs in ${OUT:-gpu-logs}; a short table at the end. Status 1 if anything failed, 77 without a GPU.
set -u
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
BUNDLE=$(cd "${1:?usage: tools/gpu_check.sh BUNDLE}" && pwd) || exit 2
# shellcheck source=tools/gpu_steps.sh
. "$root/tools/gpu_steps.sh"
need_gpu
fatbins=$(echo "$BUNDLE"/src/gpu/*.fatbin)
small=$logs/small
mkdir -p "$small"

# shellcheck disable=SC2086 # names without blanks
step kernels 260 "$BUNDLE/kernel_check" $fatbins
step golden 90 "$PYTHON" "$root/tests/golden/check_golden.py" "$BUNDLE/surtitle" --backend cuda
step exact 200 "$PYTHON" "$root/tests/gpu/check_exact.py" "$BUNDLE/surtitle" --demo "$root/models/demo"
step faults 90 "$PYTHON" "$root/tests/gpu/check_faults.py" "$BUNDLE/surtitle" "$BUNDLE/kernel_check" \
    "$BUNDLE/tests/gpu/fail_cuda.so"
"$PYTHON" "$root/tools/make_checkpoint.py" "$small/tiny" --size tiny --gain 1.5 >/dev/null
step no-memory 60 "$BUNDLE/run" "$BUNDLE/tests/gpu/test_faults" "$small/tiny"
step not-finite 60 "$PYTHON" "$root/tests/cli/test_not_finite.py" "$BUNDLE/surtitle" "$small/tiny" --backend cuda
step backend 60 "$BUNDLE/run" "$BUNDLE/tests/unit/test_backend" "$small/tiny" cuda
step session 90 "$BUNDLE/run" "$BUNDLE/tests/unit/test_session" "$small/tiny" cuda

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$sanitizer" ]; then
    sanitize() { # sanitize NAME TOOL PROGRAM...
        name=$1 tool=$2
        shift 2
        step "$name" 60 "$BUNDLE/run" "$sanitizer" --tool "$tool" --error-exitcode 9 --report-api-errors no \
            --print-limit 20 "$@"
    }
    for tool in memcheck racecheck; do
        golden=odd-cut-1200-fp16
        [ $tool = memcheck ] || golden=odd-blip-480-fp16 # few steps: 46 took more memory than the host had
        "$PYTHON" "$root/tests/golden/cases.py" $golden "$small" >/dev/null
        sanitize "$tool-program" $tool "$BUNDLE/src/cli/surtitle" --backend cuda --model "$small/model" \
            --format tokens "$small/clip.wav"
        for only in 'rows 84 k 252 n' 'head 40 x' 'k_split k 252' 'k_unroll heads 3' 'k_softmax n 9'; do
            # shellcheck disable=SC2086
            sanitize "$tool-$(echo "$only" | tr ' ' '-')" $tool "$BUNDLE/tests/kernels/kernel_check" --one-process \
                --only "$only" $fatbins
        done
    done
else
    echo "skip sanitizer: there is no compute-sanitizer here" | tee -a "$table"
fi
rm -rf "$small"

echo
cat "$table"
[ "$failed" -eq 0 ]
