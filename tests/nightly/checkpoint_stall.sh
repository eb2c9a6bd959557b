#!/usr/bin/env bash
# What training notices of its checkpoints: the same steps without any, with one every few steps written behind the
# training, and with the same ones written before it goes on. Prints the table of docs/benchmarks/checkpoint.md.
#   checkpoint_stall.sh FLORENZ [STEPS [EVERY]]      default: 400 steps, a checkpoint every 10
# RANKS (1) ranks train tiny-gemma with WIDER (4) times its widths, batches of 8 samples. TMPDIR names
# the disk. Three rounds of the three runs in turn (ROUNDS); nothing else should run. Needs python3.
# Exit code: 0 done, 1 a run failed or one saved nothing, 64 bad usage.
set -eu -o pipefail
if [ $# -lt 1 ] || [ ! -x "$1" ]; then
    echo "usage: checkpoint_stall.sh FLORENZ [STEPS [EVERY]]   (see the head of this file)" >&2
    exit 64
fi
here=$(cd "$(dirname "$0")" && pwd)
steps=${2:-400} every=${3:-10} ranks=${RANKS:-1} wider=${WIDER:-4}
# shellcheck source=tests/system/lib.sh
. "$here/../system/lib.sh"
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1 OPENBLAS_NUM_THREADS=1
limit=1200
make_data "$dir/data" 24
widths=(--set "model.enc_width=$((64 * wider))" --set "model.enc_ffn=$((148 * wider))"
    --set "model.dec_width=$((96 * wider))" --set "model.dec_ffn=$((180 * wider))")
common=(--set "train.steps=$steps" --set train.global_batch=8 --set train.loss_batch=8 --set train.micro_batch=2
    --set checkpoint.keep=1 --set model.variant=tiny-gemma "${widths[@]}" --set "layout.dp=$ranks")

train() { # name round option...
    local name=$1 round=$2
    shift 2
    run_well "$ranks" "$dir/out" train "$dir/data/config.yaml" --set "run.dir=$dir/run" "${common[@]}" "$@"
    mv "$dir/run/metrics.jsonl" "$dir/$name-$round.jsonl"
    cp "$dir/out" "$dir/$name-$round.out"
    bytes=$(du -sb "$dir/run/checkpoints" | cut -f1)
    rm -rf "$dir/run"
}
for round in $(seq "${ROUNDS:-3}"); do
    train none "$round" --set checkpoint.every=0
    train behind "$round" --set "checkpoint.every=$every" --set checkpoint.async=on
    train before "$round" --set "checkpoint.every=$every" --set checkpoint.async=off
done
echo "$ranks ranks on $(nproc) cores, $steps steps, a checkpoint of $((bytes / 1000000)) MB every $every steps"
echo
python3 "$here/checkpoint_stall.py" "$dir"
