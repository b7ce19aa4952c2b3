#!/usr/bin/env bash
# tools/check.sh [--full]: builds surtitle and runs its tests; docs/testing.md says what each suite proves.
#   quick   suites unit, golden, cli, live, house: about 5 minutes on 2 cores
#   --full  also the long suite, the CUDA backend on an emulated GPU, the quick suites under ASan and UBSan, threads under
#           TSan, the fuzzers (10 s each), builds with every warning an error (gcc, clang) and one without any optional
#           part: under 45 minutes
# The builds are in build-check*/ and are kept. The last line is "N passed, N failed, N skipped" over all tests; the status
# is non-zero if anything failed or nothing passed.
set -uo pipefail
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
full=
case $* in
'') ;;
--full) full=--full ;;
*)
    echo 'usage: tools/check.sh [--full]' >&2
    exit 2
    ;;
esac
passed=0 failed=0 skipped=0 failures=()
# kernels for one GPU, to save time: the one in this machine, else 9.0
cuda_arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
case $cuda_arch in '' | *[!0-9]*) cuda_arch=90 ;; esac

# step NAME COMMAND...: a build, counted as one pass or one failure.
step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) failures+=("$name")
        return 1
    fi
}

# build FOLDER OPTION...: configures and builds build-FOLDER. CC is taken from the environment.
build() {
    local dir=$root/build-$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        [ $# -eq 0 ] || meson configure "$dir" "$@" || rm -rf "$dir"
    fi
    if ! [ -f "$dir/build.ninja" ]; then
        rm -rf "$dir"
        meson setup "$dir" "$root" "-Dcuda-arch=$cuda_arch" "$@" || return 1
    fi
    ninja -C "$dir" all meson-test-prereq # from Meson 1.7 on, all leaves out what only tests need
}

# suite FOLDER ARGUMENT...: meson test in build-FOLDER; the counts come from its log.
suite() {
    local dir=$root/build-$1 log status counts p f s
    log=$dir/meson-logs/testlog.json
    printf '\n== tests in build-%s\n' "$*"
    shift
    rm -f "$log"
    # one process more than cores: many tests mostly wait
    meson test -C "$dir" --no-rebuild --print-errorlogs --num-processes $(($(nproc) + 1)) "$@" </dev/null
    status=$?
    counts=$(python3 - "$log" <<'PYTHON'
import json, sys
passed = failed = skipped = 0
try:
    for line in open(sys.argv[1], encoding="utf-8"):
        result = json.loads(line)["result"]
        passed += result in ("OK", "EXPECTEDFAIL")
        skipped += result == "SKIP"
        failed += result not in ("OK", "EXPECTEDFAIL", "SKIP")
except OSError:
    pass
print(passed, failed, skipped)
PYTHON
    ) || counts='0 0 0'
    read -r p f s <<<"$counts"
    # an aborted run, or one without tests, counts as one failure
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ] || [ $((p + f + s)) -eq 0 ]; then f=$((f + 1)); fi
    [ "$f" -eq 0 ] || failures+=("tests in $(basename "$dir")")
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

quick() {
    step 'build' build check || return
    suite check --no-suite long --no-suite emulated
}

sanitized() { # without the microphone, because ALSA's plugins leak
    step 'build with ASan and UBSan' build check-asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined \
        -Dportaudio=disabled -Db_lundef=false -Dc_args=-fno-sanitize-recover=all || return
    ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        suite check-asan --no-suite long --no-suite house --timeout-multiplier 6
}

threads() {
    step 'build with TSan' build check-tsan -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false || return
    suite check-tsan pipeline lag session split 'whole program'
}

fuzzers() {
    CC=clang step 'build the fuzzers' build check-fuzz -Dfuzz=true -Dbuildtype=debugoptimized \
        -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fno-sanitize-recover=all || return
    suite check-fuzz --suite fuzz
}

werror() {
    local cc
    for cc in gcc clang; do
        if command -v $cc >/dev/null; then
            CC=$cc step "build with $cc, warnings are errors" build check-werror-$cc --werror
        else
            echo "no $cc here: its build is skipped"
            skipped=$((skipped + 1))
        fi
    done
}

minimal() {
    step 'build without optional parts' build check-minimal -Dauto_features=disabled || return
    suite check-minimal --suite unit --suite cli
}

if step 'set-up' "$root/tools/setup.sh" $full; then
    passed=$((passed - 1)) # the set-up is not a test
    quick
    if [ -n "$full" ]; then
        werror
        minimal
        sanitized
        threads
        fuzzers
        if [ -f "$root/build-check/build.ninja" ]; then suite check --suite long --suite emulated; fi
    fi
fi

printf '\n'
for name in "${failures[@]}"; do echo "failed: $name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
