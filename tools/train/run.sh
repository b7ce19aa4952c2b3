#!/bin/sh
# Train on this machine: [SEED=N] run.sh DIR SECONDS [train.py's options]. Needs root for a memory file system of its
# own; else set POOL to a folder in memory with 20 GB free per GPU. Synthesis and training continue after the caller's end;
# logs are DIR/synth.log and DIR/train.log, the model DIR/out/model. Synthesis runs until it is killed (DIR/synth.pid).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 seconds=$2
shift 2
seed=${SEED:-1}
cores=$(nproc)   # before OMP_NUM_THREADS is set: nproc heeds it
export SURTITLE_TRAIN="${SURTITLE_TRAIN:-$here/../../.carry}" OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export PYTHONUNBUFFERED=1
mkdir -p "$dir/out"
pool=${POOL:-$dir/pool}
mkdir -p "$pool"
[ -n "${POOL:-}" ] || mount -t tmpfs -o size=60G tmpfs "$pool"
gpus=$(python3 -c 'import torch; print(max(1, torch.cuda.device_count()))')
setsid python3 "$here/synth.py" pool "$pool" --workers $((cores - 1 - gpus)) \
    --slots $((15000 * gpus + 5000)) --seed $((seed * 17)) \
    >"$dir/synth.log" 2>&1 </dev/null &
echo $! >"$dir/synth.pid"
setsid python3 "$here/synth.py" heldout "$dir/heldout.npz" --slots 24 >"$dir/heldout.log" 2>&1 </dev/null &
sleep 5   # until the pool's files exist
setsid python3 -m torch.distributed.run --nproc-per-node "$gpus" "$here/train.py" "$pool" "$dir/heldout.npz" \
    "$dir/out" --seconds "$seconds" --seed "$seed" "$@" \
    >"$dir/train.log" 2>&1 </dev/null &
echo $! >"$dir/train.pid"
