#!/usr/bin/env bash
# Full-size weights in and out: random safetensors of the published sizes are imported, exported and compared,
# bit for bit, with times beside dd's on the same disk in the same run, and the most memory taken.
#   exchange_full.sh FLORENZ EXCHANGE_TOOL [VARIANT]...      default: 0.4b 1.0b (1.7 and 4.2 GB each way)
# TMPDIR names the disk; 6 times the model's bytes are needed there. One line a variant and way.
set -eu
florenz=$1 tool=$2
shift 2
[ $# -gt 0 ] || set -- 0.4b 1.0b
dir=$(mktemp -d "${TMPDIR:-/tmp}/fz-exchange-XXXXXX")
trap 'rm -rf "$dir"' EXIT
export OPENBLAS_NUM_THREADS=1

now() { date +%s.%N; }
# The files' pages leave the cache, so that reading means the disk.
evict() { # path...
    sync
    find "$@" -type f -exec dd if={} iflag=nocache count=0 status=none \;
}
# Seconds and the most memory of a command, in seconds and peak_kib.
timed() { # command...
    local start
    start=$(now)
    if [ -x /usr/bin/time ]; then
        /usr/bin/time -o "$dir/rss" -f %M "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; exit 1; }
        peak_kib=$(tail -n 1 "$dir/rss")
    else
        "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; exit 1; }
        peak_kib=0
    fi
    seconds=$(echo "$(now) - $start" | bc)
}
rate() { # bytes: GB/s of the last timed command
    echo "scale=3; $1 / $seconds / 1000000000" | bc
}
larger() { # a b
    [ "$(echo "$1 > $2" | bc)" = 1 ] && echo "$1" || echo "$2"
}
# What dd makes of a file of this disk: the better of direct and buffered, fsync included.
probe() { # file bytes
    local blocks=$(($2 / 16777216)) direct
    evict "$1"
    timed dd "if=$1" of=/dev/null bs=16M iflag=direct
    read_rate=$(rate "$2")
    evict "$1"
    timed dd "if=$1" of=/dev/null bs=16M
    read_rate=$(larger "$read_rate" "$(rate "$2")")
    timed dd if=/dev/zero "of=$dir/probe" bs=16M "count=$blocks" oflag=direct conv=fsync
    direct=$(rate $((blocks * 16777216)))
    rm "$dir/probe"
    timed dd if=/dev/zero "of=$dir/probe" bs=16M "count=$blocks" conv=fsync
    write_rate=$(larger "$direct" "$(rate $((blocks * 16777216)))")
    rm "$dir/probe"
}
tell() { # variant way bytes
    local slower=$read_rate share
    [ "$(echo "$write_rate < $read_rate" | bc)" = 1 ] && slower=$write_rate
    share=$(echo "100 * $(rate "$3") / $slower" | bc)
    printf '%-5s %-7s %.2f GB in %.2f s: %.2f GB/s; dd reads %.2f, writes %.2f: %d %% of the slower; most memory %d MiB\n' \
        "$1" "$2" "$(echo "$3 / 1000000000" | bc -l)" "$seconds" "$(rate "$3")" "$read_rate" "$write_rate" "$share" \
        $((peak_kib / 1024))
}

for variant in "$@"; do
    printf 'model:\n  variant: %s\nrun:\n  dir: %s\n' "$variant" "$dir/run" >"$dir/config.yaml"
    "$tool" make florenz "$variant" "$dir/in" --max-file-bytes 100000000000
    file=$dir/in/model.safetensors
    bytes=$(stat -c %s "$file")
    probe "$file" "$bytes"
    evict "$dir/in"
    timed "$florenz" ckpt import "$dir/config.yaml" --from "$dir/in"
    tell "$variant" import "$bytes"
    probe "$file" "$bytes"
    evict "$dir/run"
    timed "$florenz" ckpt export "$dir/config.yaml" --to "$dir/out-f32"
    tell "$variant" export "$bytes"
    "$tool" equal "$dir/in" "$dir/out-f32" F32
    rm -r "$dir/out-f32"
    timed "$florenz" ckpt export "$dir/config.yaml" --to "$dir/out-bf16" --dtype bf16 --max-file-bytes 500MB
    "$tool" equal "$dir/in" "$dir/out-bf16" BF16
    rm -r "$dir/in" "$dir/run" "$dir/out-bf16"
done
