#!/usr/bin/env bash
# tools/download_model.sh [--type TYPE] [--dir DIR] [--revision REV] [--dry-run]
# Downloads Voxtral-Mini-4B-Realtime-2602 (Mistral AI, Apache-2.0) from Hugging Face to where surtitle looks for it:
# $XDG_DATA_HOME/surtitle/model (default ~/.local/share/surtitle/model). An interrupted download is resumed by the next run.
#
# TYPE: bf16 is Mistral's own folder, 8.9 GB; q8_0 (4.7 GB), q6_k (3.7), q5_k_m (3.3) and q4_k_m (2.8) are GGUF files
# that transcribe.cpp's authors made from it (docs/quantisation.md). Default: the type that the folder already contains,
# else bf16 if an NVIDIA GPU has 12 GB, else q4_k_m. A folder contains one model.
#
# What is checked, and against what:
#   pinned here     the number of bytes of tensors in consolidated.safetensors
#   not pinned      commit, sizes and sums: the host's own statements over https, from its API (lfs.sha256; for a small
#                   file its git blob id). They prove that the files are those of the host, not who made them. The script
#                   prints them; --revision takes a commit that you trust.
# All files come from one commit. A file gets its own name only after the checks; until then its name ends in .part. A file
# that is already there is checked by its sum, and downloaded again if the sum differs.
# Only one run at a time may work in a folder.
set -euo pipefail
export LC_ALL=C

host=https://huggingface.co
repo=mistralai/Voxtral-Mini-4B-Realtime-2602
files=(params.json tekken.json consolidated.safetensors)
gguf_repo=handy-computer/Voxtral-Mini-4B-Realtime-2602-gguf
gguf_stem=Voxtral-Mini-4B-Realtime-2602
gpu_mib=11900 # the least that nvidia-smi shows for a card of 12 GB
tensor_bytes=8859358720
revision=main
dir=
type=
dry_run=

fail() {
    echo "download_model.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --dir | --revision | --type)
        [ -n "${2:-}" ] || fail "$1 needs a value"
        case $1 in
        --dir) dir=$2 ;;
        --type) type=$2 ;;
        *) revision=$2 ;;
        esac
        shift 2
        ;;
    --dry-run)
        dry_run=1
        shift
        ;;
    *)
        echo 'usage: tools/download_model.sh [--type bf16|q8_0|q6_k|q5_k_m|q4_k_m] [--dir DIR] [--revision REV] [--dry-run]' >&2
        exit 2
        ;;
    esac
done
[[ $revision =~ ^[A-Za-z0-9._-]+$ ]] || fail "not a revision: $revision"
if [ -z "$dir" ]; then # where surtitle looks: it ignores relative paths in these variables, too
    if [[ ${XDG_DATA_HOME:-} = /* ]]; then
        dir=$XDG_DATA_HOME/surtitle/model
    elif [[ ${HOME:-} = /* ]]; then
        dir=$HOME/.local/share/surtitle/model
    else
        fail 'neither XDG_DATA_HOME nor HOME is an absolute path: say where to with --dir DIR'
    fi
fi
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

# The name of the GGUF file of a type.
gguf_name() { echo "$gguf_stem-${1^^}.gguf"; }

# The most memory of an NVIDIA GPU, in MiB; 0: there is none.
largest_gpu() {
    local smi
    for smi in nvidia-smi /usr/lib/wsl/lib/nvidia-smi; do
        "$smi" --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null && break
    done | awk '$1 + 0 > most { most = $1 + 0 } END { print most + 0 }'
}

# Which types of the model the folder holds, whole or in part, one a line.
held_types() {
    local held
    for held in "${files[@]}"; do
        if [ -e "$dir/$held" ] || [ -e "$dir/$held.part" ]; then
            echo bf16
            break
        fi
    done
    for held in q8_0 q6_k q5_k_m q4_k_m; do
        if [ -e "$dir/$(gguf_name "$held")" ] || [ -e "$dir/$(gguf_name "$held").part" ]; then echo "$held"; fi
    done
}

held=$(held_types)
if [ -z "$type" ]; then
    if [ -n "$held" ]; then
        type=${held%%$'\n'*}
    elif [ "$(largest_gpu)" -ge "$gpu_mib" ]; then
        type=bf16
        echo 'bf16 (8.9 GB), for an NVIDIA GPU with 12 GB of memory is there; --type q4_k_m fetches 2.8 GB'
    else
        type=q4_k_m
        echo 'q4_k_m (2.8 GB), for no NVIDIA GPU with 12 GB of memory is there; --type bf16 fetches all 8.9 GB'
    fi
fi
case $type in
bf16) ;;
q8_0 | q6_k | q5_k_m | q4_k_m)
    repo=$gguf_repo
    files=("$(gguf_name "$type")")
    ;;
*) fail "--type $type: one of bf16, q8_0, q6_k, q5_k_m, q4_k_m" ;;
esac
for other in $held; do
    [ "$other" = "$type" ] || fail "$dir: holds the model as $other; a folder holds one: remove it, or say --dir DIR"
done

# Bytes free where a folder is or will be.
free_bytes() {
    local at=$1
    while [ ! -d "$at" ]; do at=$(dirname "$at"); done
    df -Pk "$at" | awk 'NR == 2 { printf "%.0f\n", $4 * 1024 }'
}

size_of() { if [ -f "$1" ]; then stat -c %s "$1"; else echo 0; fi; }

# Prints a line "FILE COMMIT SIZE SUM" a file; SUM has 64 digits (SHA-256) or 40 (git blob id).
metadata() {
    curl --silent --show-error --fail --proto '=https' --tlsv1.2 --retry 5 \
        "$host/api/models/$repo/revision/$revision?blobs=true" | python3 -c '
import json, re, sys
info = json.load(sys.stdin)
known = {f["rfilename"]: f for f in info["siblings"]}
for name in sys.argv[1:]:
    f = known[name]
    commit, size, sum = info["sha"], int(f["size"]), (f.get("lfs") or {}).get("sha256") or f["blobId"]
    assert re.fullmatch("[0-9a-f]{40}", commit) and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", sum) and 0 < size < 1 << 40
    print(name, commit, size, sum)' "$@" 2>/dev/null
}

# sum_matches FILE SIZE SUM
sum_matches() {
    local sum
    if [ ${#3} -eq 64 ]; then
        sum=$(sha256sum <"$1")
    else
        sum=$({ printf 'blob %s\0' "$2" && cat "$1"; } | sha1sum)
    fi
    [ "${sum%% *}" = "$3" ]
}

# fetch FILE COMMIT SIZE SUM
fetch() {
    local to=$dir/$1 part=$dir/$1.part header
    if [ "$(size_of "$part")" -gt "$3" ]; then rm -f "$part"; fi
    if [ "$(size_of "$part")" -lt "$3" ]; then
        curl --fail --location --proto '=https' --proto-redir '=https' --tlsv1.2 --retry 5 --continue-at - \
            --output "$part" "$host/$repo/resolve/$2/$1" || fail "$1: broken off; run it again to go on"
    fi
    [ "$(size_of "$part")" -eq "$3" ] || fail "$1: $(size_of "$part") bytes came, $3 were promised; run it again"
    if ! sum_matches "$part" "$3" "$4"; then
        rm -f "$part"
        fail "$1: its sum is not the host's ($4); it was deleted"
    fi
    if [ "$1" = consolidated.safetensors ]; then
        header=$(od -A n -t u8 -N 8 --endian=little "$part" | tr -d ' ')
        [ "$(size_of "$part")" = $((8 + header + tensor_bytes)) ] || fail "$1: not $tensor_bytes bytes of tensors"
    fi
    case $1 in *.gguf) [ "$(head -c 4 "$part")" = GGUF ] || fail "$1: is no GGUF file" ;; esac
    mv "$part" "$to"
    echo "$1: $3 bytes, sum $4"
}

if [ -n "$dry_run" ]; then
    echo "to:      $dir ($(free_bytes "$dir") bytes free)"
    for file in "${files[@]}"; do echo "from:    $host/$repo/resolve/$revision/$file"; done
    echo "checks:  size and sum as $host says$([ "$type" != bf16 ] || echo "; $tensor_bytes bytes of tensors")"
    exit 0
fi

for command in curl python3; do
    command -v "$command" >/dev/null || fail "$command is missing: apt-get install ca-certificates $command"
done
lines=$(metadata "${files[@]}") || fail "$host does not say commit, size and sum of the files of $repo at $revision"
mkdir -p "$dir" 2>/dev/null || fail "$dir: this folder cannot be made"
exec 9<"$dir"
flock --nonblock 9 || fail "$dir: another download is at work there, or the folder cannot be locked"
plan=() need=0
while read -r file commit size sum; do
    for path in "$dir/$file" "$dir/$file.part"; do
        if [ -e "$path" ] && [ ! -f "$path" ]; then fail "$path: is no regular file"; fi
    done
    [ ! -L "$dir/$file.part" ] || fail "$dir/$file.part: is a symbolic link"
    if [ "$(size_of "$dir/$file")" -eq "$size" ]; then
        if sum_matches "$dir/$file" "$size" "$sum"; then
            echo "$file: is there, sum $sum"
            continue
        fi
        echo "$file: is there with another sum than the host's: it is fetched again"
    fi
    plan+=("$file $commit $size $sum")
    need=$((need + size - $(size_of "$dir/$file.part")))
done <<<"$lines"
[ "$(free_bytes "$dir")" -gt "$need" ] || fail "$dir: $need bytes are needed, $(free_bytes "$dir") are free"
for entry in ${plan[@]+"${plan[@]}"}; do
    # shellcheck disable=SC2086 # four words without blanks
    fetch $entry
done
echo "the model ($type) is in $dir"
