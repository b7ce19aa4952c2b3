# shellcheck shell=sh disable=SC2034,SC2154 # names of the script that sources this
# Sourced by the GPU scripts, with root and BUNDLE set: steps with one time limit each and one for all together
# (TOTAL_SECONDS, 530), one log each and a common table. Sets PYTHON. Logs go to ${OUT:-gpu-logs}.
PYTHON=${PYTHON:-python3}
total_seconds=${TOTAL_SECONDS:-530}
logs=${OUT:-$root/gpu-logs}
mkdir -p "$logs"
started=$(date +%s)
table=$logs/table.txt
: >"$table"
failed=0

# step NAME SECONDS COMMAND...: output goes to $logs/NAME.log, the result to a line of the table.
step() {
    name=$1 limit=$2
    shift 2
    left=$((total_seconds - ($(date +%s) - started)))
    if [ "$left" -lt 5 ]; then
        echo "LATE $name: no time left" | tee -a "$table"
        failed=$((failed + 1))
        return 1
    fi
    [ "$limit" -le "$left" ] || limit=$left
    begin=$(date +%s)
    status=0
    timeout -k 5 "$limit" "$@" >"$logs/$name.log" 2>&1 </dev/null || status=$?
    took=$(($(date +%s) - begin))
    last=$(tail -n 1 "$logs/$name.log")
    case $status in
    0) line="ok   $name ($took s): $last" ;;
    77) line="skip $name: $last" ;;
    124 | 137) line="LATE $name: stopped after $took s: $last" ;;
    *) line="FAIL $name ($took s, status $status): $last" ;;
    esac
    case $status in
    0 | 77) ;;
    *)
        failed=$((failed + 1))
        grep -E '^(FAIL|LATE)|ERROR' "$logs/$name.log" | head -n 12
        ;;
    esac
    echo "$line" | tee -a "$table"
    return "$status"
}

# Prints the device, or ends the script with status 77 and the reason.
need_gpu() {
    if ! command -v nvidia-smi >/dev/null 2>&1 || ! device=$(nvidia-smi --query-gpu=name,driver_version,memory.total \
        --format=csv,noheader 2>/dev/null) || [ -z "$device" ]; then
        echo "skipped: nvidia-smi sees no GPU here"
        exit 77
    fi
    echo "device: $device; surtitle at $(cat "$BUNDLE/commit" 2>/dev/null || echo '?'); $(date -u +%Y-%m-%dT%H:%MZ)" |
        tee -a "$table"
}
