#!/usr/bin/env bash
# Each file of recipes/ is taken by `florenz plan` with the published counts, and fine-tuning at another image
# size starts with exactly the weights that pre-training left (shown on a tiny model).
#   recipes.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
recipes=$here/../../recipes

planned() { # recipe parameters trained micro_batches
    run_well 1 "$dir/out" plan "$recipes/$1.yaml" --ranks 16 --json
    local what
    for what in "\"parameters\": ?$2," "\"trained\": ?$3," "\"micro_batches\": ?$4,"; do
        grep -qE "$what" "$dir/out" || { head -c 300 "$dir/out" >&2; fail "$1: no $what"; }
    done
}
planned 0.4b-pretrain 428838400 337631232 32
planned 0.4b-finetune 428838400 337631232 32
planned 1.0b-pretrain 1039697920 676864000 32
planned 1.0b-finetune 1039697920 676864000 32
planned 3.5b-pretrain 3485001498 1097649690 32
planned 3.5b-finetune 3485001498 1097649690 32
planned 11.2b-pretrain 11221849642 2534813738 32
planned 11.2b-finetune 11221849642 2534813738 32
[ "$(find "$recipes" -name '*.yaml' | wc -l)" = 8 ] || fail "a recipe that nothing checks"

# What a recipe must not say.
sed 's/^  micro_batch: .*/  micro_batch: 24/' "$recipes/3.5b-pretrain.yaml" >"$dir/broken.yaml"
run 1 "$dir/out" plan "$dir/broken.yaml" --ranks 8
[ "$rc" = 64 ] && grep -q 'broken.yaml:[0-9]* train.micro_batch' "$dir/out" || fail "micro_batch 24 is taken: $(cat "$dir/out")"

# From one image size to another.
make_data "$dir/data" 16
config=$dir/data/config.yaml
digest() { sed -nE 's/.*parameters ([0-9a-f]{16}) after step.*/\1/p' "$1"; }
options=(--set train.global_batch=4 --set train.loss_batch=4 --set train.micro_batch=2 --set model.freeze=recipe)
run_well 1 "$dir/first" train "$config" --set "run.dir=$dir/pretrain" --set train.steps=2 "${options[@]}"
start=$dir/pretrain/checkpoints/step-000000002
again() { # out setting...
    local out=$1
    shift
    run 2 "$out" train "$config" --set "run.dir=$out-run" --set train.steps=1 --set optimizer.lr=0 "${options[@]}" \
        --set checkpoint.init_from="$start" "$@"
}
again "$dir/finetune" --set model.image_size=104
[ "$rc" = 0 ] || { cat "$dir/finetune" >&2; fail "init_from at another image size: exit code $rc"; }
[ -n "$(digest "$dir/first")" ] || { cat "$dir/first" >&2; fail "no digest of the parameters"; }
[ "$(digest "$dir/first")" = "$(digest "$dir/finetune")" ] || fail "the weights are not those of $start"
again "$dir/wider" --set model.enc_ffn=152
[ "$rc" != 0 ] || fail "weights of another width are taken"
grep -q 'encoder.layers.0.fc1' "$dir/wider" || { cat "$dir/wider" >&2; fail "the tensor is not named"; }
