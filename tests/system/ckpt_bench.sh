#!/usr/bin/env bash
# florenz ckpt bench: all four rows, both ways, nothing left behind; and what it refuses.
#   ckpt_bench.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
out=$dir/out
mkdir "$dir/disk"
empty() { rmdir "$dir/disk" 2>/dev/null || fail "something is left behind"; mkdir "$dir/disk"; }
refuses() { # text argument...
    local text=$1
    run 1 "$out" ckpt bench "${@:2}"
    [ "$rc" = 64 ] || { cat "$out" >&2; fail "exit code $rc, not 64: ckpt bench ${*:2}"; }
    grep -qF -- "$text" "$out" || { cat "$out" >&2; fail "nothing says: $text"; }
}

limit=60 run_well 1 "$out" ckpt bench "$dir/disk" --bytes 1MiB --rounds 1 --json --io direct
empty
for row in raw_direct raw_buffered checkpoint safetensors; do
    grep -Eq "\"$row\": ?\{\"write_mb_s\": ?[0-9.]+, ?\"write_share\": ?[0-9.]+, ?\"read_mb_s\": ?[0-9.]+" "$out" ||
        { cat "$out" >&2; fail "$row is not there"; }
done
grep -Eq '"bytes": ?201326592' "$out" || { cat "$out" >&2; fail "it says another number of bytes"; }
# A full disk on the way.
FLORENZ_FAULT=write:50 limit=60 run 1 "$out" ckpt bench "$dir/disk" --bytes 1MiB --rounds 1
[ "$rc" = 71 ] || { cat "$out" >&2; fail "exit code $rc, not 71, when the disk is full"; }
grep -q 'No space left on device' "$out" || { cat "$out" >&2; fail "a full disk is not told"; }
empty

refuses 'is no size; write 4GiB' "$dir/disk" --bytes 4X
refuses 'none of auto, direct, buffered' "$dir/disk" --io fast
refuses 'No such file' "$dir/nowhere"
run 2 "$out" ckpt bench "$dir/disk"
[ "$rc" = 64 ] || fail "two processes: exit code $rc"
grep -q 'one process, not 2' "$out" || { cat "$out" >&2; fail "two processes are not refused"; }
empty
