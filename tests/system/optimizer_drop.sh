#!/usr/bin/env bash
# checkpoint.optimizer=drop: moments begin at zero where the run goes on, once, however often it is
# continued afterwards and at whatever layout.
#   optimizer_drop.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
make_data "$dir/data" 24
options=(--set train.global_batch=8 --set train.loss_batch=8 --set train.micro_batch=2
    --set optimizer.warmup=0 --set optimizer.schedule=constant --set checkpoint.keep=0)
drop=(--set checkpoint.optimizer=drop)
train() { # ranks name last-step option...
    local ranks=$1 run=$dir/$2 last=$3
    shift 3
    run_well "$ranks" "$dir/out" train "$dir/data/config.yaml" --set "run.dir=$run" \
        --set "train.steps=$last" "${options[@]}" "$@"
}

train 1 kept 3
cp -r "$dir/kept" "$dir/whole"
cp -r "$dir/kept" "$dir/parts"
train 1 kept 6
! grep -q 'moments' "$dir/out" || fail "moments are spoken of where they are kept"
train 1 whole 6 "${drop[@]}"
grep -q 'its moments are not used, they start at zero' "$dir/out" || { cat "$dir/out" >&2; fail "not dropped"; }
train 2 parts 4 "${drop[@]}" --set layout.tp=2
grep -q 'its moments are not used' "$dir/out" || { cat "$dir/out" >&2; fail "not dropped on 2 ranks"; }
train 2 parts 5 "${drop[@]}" --set layout.dp=2
! grep -q 'its moments are not used' "$dir/out" || fail "dropped twice"
train 1 parts 6 # back on keep: they are kept as they are, and AdamW goes on counting from step 3

series "$dir/whole" >"$dir/whole.series"
series "$dir/parts" | diff "$dir/whole.series" - >&2 || fail "continued again, the run differs"
[ "$(series "$dir/kept" | sed -n 4p)" = "$(sed -n 4p "$dir/whole.series")" ] ||
    fail "step 4 begins from other weights" # the moments are used after its loss
[ "$(series "$dir/kept" | sed -n 5p)" != "$(sed -n 5p "$dir/whole.series")" ] || fail "nothing was dropped"
h5dump -a state/moments_start "$dir/parts/checkpoints/step-000000006/index.h5" | grep -q '(0): 3' ||
    fail "the checkpoint does not say since when it has moments"
echo "moments dropped once: 6 steps in parts have the bits of 6 steps"
