#!/usr/bin/env bash
# SIGKILL of all ranks, in a step, between two and inside a save, and a continuation on another layout
# each time: the stitched series has the bits of an uninterrupted run, no gap and no doubled step.
#   kill_continue.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
steps=40
make_data "$dir/data" 24
config=$dir/data/config.yaml
options=(--set "train.steps=$steps" --set train.global_batch=8 --set train.loss_batch=8
    --set train.micro_batch=2 --set optimizer.warmup=5 --set checkpoint.every=2 --set checkpoint.keep=2 --set checkpoint.async=on
    --set model.dropout=0.1)

n_steps() { # run
    if [ -f "$1/metrics.jsonl" ]; then grep -c '"loss_bits"' "$1/metrics.jsonl" || true; else echo 0; fi
}
last_step() { # run
    series "$1" 2>/dev/null | tail -n 1 | cut -d' ' -f1
}
train() { # ranks layout...
    local launcher=()
    [ "$1" = 1 ] || launcher=(mpirun -n "$1")
    shift
    exec "${launcher[@]}" "$florenz" train "$config" --set "run.dir=$dir/run" "${options[@]}" "$@"
}
# What a run left when it died: its lock names it, and it has not told the end.
died() { # what
    [ "$rc" != 0 ] || fail "$1: the run was not killed"
    ! grep -q '^parameters ' "$dir/out" || fail "$1: the run came to its end"
    grep -q 'process' "$dir/run/lock" || fail "$1: the lock names nobody"
    echo "  killed $1 after step $(last_step "$dir/run")"
}
# Starts training and kills every rank, and their launcher, some time after so many more steps.
kill_after() { # steps lag ranks layout...
    local more=$1 lag=$2 from pid tries=0
    shift 2
    from=$(n_steps "$dir/run")
    # The steps after the last checkpoint are cut off at the start and come again.
    : >"$dir/out"
    train "$@" >"$dir/out" 2>&1 &
    pid=$!
    until grep -q 'first step done' "$dir/out" && [ "$(n_steps "$dir/run")" -ge $((from / 2 * 2 + more)) ]; do
        tries=$((tries + 1))
        kill -0 $pid 2>/dev/null && [ $tries -lt 1200 ] || { cat "$dir/out" >&2; fail "no step to kill in"; }
        sleep 0.05
    done
    sleep "$lag"
    # shellcheck disable=SC2046
    kill -9 $pid $(pgrep -P $pid) 2>/dev/null || true
    rc=0
    wait $pid 2>/dev/null || rc=$?
    died "on $1 ranks"
}
# The program kills itself at a planned place.
kill_at() { # fault ranks layout...
    local fault=$1
    shift
    rc=0
    { (export FLORENZ_FAULT=$fault; train "$@") >"$dir/out" 2>&1; } 2>/dev/null || rc=$?
    died "at $fault on $1 ranks"
}
continues() { # what was there before
    grep -q '^continues after step [1-9]' "$dir/out" || { cat "$dir/out" >&2; fail "$1: it did not continue"; }
}

echo "uninterrupted, 1 rank"
limit=100 run_well 1 "$dir/whole.out" train "$config" --set "run.dir=$dir/whole" "${options[@]}"

echo "killed and continued"
kill_after 3 0.03 4 --set layout.tp=2 --set layout.pp=2 --set layout.dp=1
kill_at save:9:kill 2 --set layout.dp=2
continues "4 ranks"
kill_after 2 0.11 3 --set layout.pp=3 --set layout.schedule=afab
continues "2 ranks"
kill_at step:4:kill 2 --set layout.tp=2
continues "3 ranks"
kill_at save:30:kill 1
continues "2 ranks"
kill_after 3 0.07 2 --set layout.pp=2
continues "1 rank"

(train 1) >"$dir/out" 2>&1 || { cat "$dir/out" >&2; fail "the last start"; }
continues "2 ranks"

series "$dir/whole" >"$dir/whole.series"
series "$dir/run" >"$dir/run.series"
diff <(seq "$steps") <(cut -d' ' -f1 "$dir/run.series") >&2 || fail "a step is missing or doubled"
diff "$dir/whole.series" "$dir/run.series" >&2 || fail "the series differ"
diff <(grep '^parameters ' "$dir/whole.out") <(grep '^parameters ' "$dir/out") >&2 || fail "the parameters differ"
[ "$(find "$dir/run/checkpoints" -mindepth 1 -maxdepth 1 -name 'step-*' | wc -l)" = 2 ] ||
    fail "not the 2 newest checkpoints are kept"
! find "$dir/run/checkpoints" -name '.*tmp*' | grep -q . || fail "the killed saves left something"

echo "the newest checkpoint is damaged: the one before it is taken"
damaged=$(find "$dir/run/checkpoints/step-0000000$steps" -name 'rank-*.h5' | sort | head -n 1)
before=$(find "$dir/run/checkpoints" -mindepth 1 -maxdepth 1 -name 'step-*' | sort | head -n 1 | sed 's/.*step-0*//')
printf 'damage' | dd of="$damaged" bs=1 seek=$(($(stat -c %s "$damaged") / 2)) conv=notrunc 2>/dev/null
run_well 2 "$dir/out" train "$config" --set "run.dir=$dir/run" "${options[@]}"
grep -q "step $steps is not used, step $before is: .* is damaged between bytes" "$dir/out" ||
    { cat "$dir/out" >&2; fail "the damage is not told"; }
series "$dir/run" | diff "$dir/whole.series" - >&2 || fail "the series differ after the damage"
echo "$steps steps over 4, 2, 3, 2, 1, 2 and 1 ranks: bits equal those of 1 rank"
