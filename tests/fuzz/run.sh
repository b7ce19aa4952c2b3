#!/bin/sh
# run.sh FUZZER CORPUS FOUND: ten seconds of fuzzing from the corpus; new inputs and crashes go to FOUND.
set -eu
fuzzer=$1 corpus=$2 found=$3
mkdir -p "$found" "$corpus"
exec "$fuzzer" -max_total_time=10 -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$found/" "$found" "$corpus"
