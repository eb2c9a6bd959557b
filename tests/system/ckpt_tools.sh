#!/usr/bin/env bash
# The tools that look at checkpoints: list, show, verify, diff, rebuild-index, gc and view on a run of two ranks
# with frozen weights, and on damage of every kind: exit codes, and file, tensor and bytes in what is said.
#   ckpt_tools.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
out=$dir/out
make_data "$dir/data" 8
config=$dir/data/config.yaml
options=(--set train.global_batch=4 --set train.loss_batch=4 --set train.micro_batch=2 --set optimizer.warmup=1
    --set checkpoint.every=2 --set checkpoint.keep=0 --set model.freeze=recipe)
run_well 2 "$out" train "$config" --set "run.dir=$dir/run" "${options[@]}" --set train.steps=4 --set layout.tp=2
run_well 1 "$out" train "$config" --set "run.dir=$dir/other" "${options[@]}" --set train.steps=4

tool() { # expected-code argument...
    local code=$1
    shift
    run 1 "$out" ckpt "$@"
    [ "$rc" = "$code" ] || { cat "$out" >&2; fail "exit code $rc, not $code: ckpt $*"; }
}
says() { # text
    grep -qF -- "$1" "$out" || { cat "$out" >&2; fail "nothing says: $1"; }
}
# A copy to be damaged: $c its directory of checkpoints, $step and $old its steps, $base.
fresh() {
    rm -rf "$dir/copy"
    cp -r "$dir/run" "$dir/copy"
    c=$dir/copy/checkpoints
    step=$c/step-000000004
    old=$c/step-000000002
    base=$(echo "$c"/base-*)
}
flip() { # file byte
    local was
    was=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((was ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
fresh

# ---- what is whole ----
tool 0 list "$c"
[ "$(grep -c ' ok$' "$out")" = 3 ] || fail "not two steps and a base that are ok: $(cat "$out")"
says 'tp 2 pp 1 dp 1'
says 'latest: step-000000004'
tool 0 list "$dir/copy" --json
says '"state":"ok","tensors":33,"layout":"tp 2 pp 1 dp 1"'
tool 0 show "$step" --tensors
says 'written on     2 ranks: tp 2, pp 1, dp 1'
grep -Eq '^language_model.model.encoder.embed_tokens.weight +\([0-9]+, 64\)  trained  master [0-9a-f]{16}  exp_avg ' "$out" ||
    fail "show does not list the embedding: $(cat "$out")"
tool 0 show "$c" --json --config-diff "$dir/copy/config.yaml"
says '"config_diff":[]'
tool 0 show "$step" --config-diff "$config" --json
says '{"key":"train.global_batch","stored":"4","file":"16","change":"refused"}'
tool 0 show "$base"
tool 0 verify "$c" --deep
tool 0 verify "$base"
tool 64 verify "$dir/nowhere"
tool 64 verify "$dir/data"
tool 64 verify
tool 64 show "$step" --tensor
tool 64 nonsense

# ---- two layouts of one computation are equal, two steps are not ----
tool 0 diff "$c" "$dir/other"
says 'equal: 271 equal, 0 differences'
tool 1 diff "$step" "$old"
says 'weights of language_model.model.encoder.embed_tokens.weight: differs'
tool 1 diff "$step" "$old" --deep --json
says '"equal":false'
says '"first":[{"element":0,'
run_well 1 "$out" ckpt export "$config" "$step" --to "$dir/exported"
run_well 1 "$out" ckpt import "$config" --from "$dir/exported" --out "$dir/imported"
tool 1 diff "$dir/imported" "$step"
says 'vision_tower.blocks.0.0.channel_block.channel_attn.fn.proj.bias: trained in A, frozen in B'
says 'exp_avg of language_model.model.encoder.embed_tokens.weight: only B has it'
! grep -q '^weights' "$out" || fail "weights that were exported and imported differ: $(cat "$out")"

# ---- payload ----
verify_is() { # code text [path]
    tool "$1" verify "${3:-$step}"
    says "$2"
}
size=$(stat -c %s "$step/s00/rank-00001.h5")
arena=$((size / 2))
flip "$step/s00/rank-00001.h5" "$arena"
verify_is 1 'rank-00001.h5 is damaged between bytes'
says 'of tensor language_model.'
says 'step-000000002 can take its place'
rm -r "$old"
verify_is 2 'rank-00001.h5 is damaged between bytes'
fresh
flip "$step/s00/rank-00001.h5" $((size - 1))
verify_is 1 'rank-00001.h5 is damaged outside its payload'
fresh
truncate -s -1 "$step/s00/rank-00000.h5"
verify_is 1 "rank-00000.h5 has $(($(stat -c %s "$step/s00/rank-00000.h5"))) bytes, its manifest says"
fresh
rm "$step/s00/rank-00000.h5"
verify_is 1 'rank-00000.h5 is missing'
tool 0 list "$c"
grep -q '^step-000000004 .*damaged (.*rank-00000.h5 is missing' "$out" || fail "list does not tell of the file that is missing"
fresh
cp "$old/s00/rank-00000.h5" "$step/s00/"
verify_is 1 'is the file of rank 0 of 2, step 2'
fresh
mv "$step/s00/rank-00000.h5" "$dir/swap" && mv "$step/s00/rank-00001.h5" "$step/s00/rank-00000.h5" && mv "$dir/swap" "$step/s00/rank-00001.h5"
verify_is 1 'rank-00000.h5 '
verify_is 1 'is the file of rank 1 of 2, step 4'
fresh
mv "$step" "$c/step-000000009"
verify_is 1 'holds step-000000004: give it that name' "$c"
fresh
flip "$base/s00/rank-00001.h5" 400000
verify_is 2 'rank-00001.h5 is damaged between bytes' "$c"
says 'weight of tensor'
fresh
rm -r "$base"
verify_is 2 'is missing: the frozen weights of' "$step"

# ---- manifest and index come back from the shards, byte for byte ----
mend() { # what is to be rebuilt...
    local at
    tool 1 verify "$step"
    says 'mends it'
    for at in "$@"; do
        tool 0 rebuild-index "$at" --dry-run
        says 'can be rebuilt'
        tool 0 rebuild-index "$at"
    done
    tool 0 verify "$c" --deep
    diff -r "$dir/run/checkpoints" "$c" >"$out" || fail "what is rebuilt is not what it was: $(cat "$out")"
}
tool 0 rebuild-index "$old"
says 'nothing is to be done'
fresh && flip "$step/MANIFEST" 30 && mend "$step"
fresh && rm "$step/MANIFEST" && mend "$step"
fresh && flip "$step/index.h5" 100000 && mend "$step"
fresh && rm "$step/index.h5" && mend "$step"
fresh && truncate -s 1000 "$step/index.h5" && mend "$step"
fresh && rm "$base/index.h5" && mend "$base"
fresh && rm "$c"/*/MANIFEST "$c"/*/index.h5 && mend "$base" "$step" "$old"
fresh && rm "$step/index.h5" "$dir/copy/config.yaml"
tool 0 rebuild-index "$step"
says 'the config is lost'
tool 0 verify "$step" --deep
fresh && rm "$step/index.h5"
tool 64 rebuild-index "$step" --config "$config"
says "the run's config"
fresh && rm "$step/MANIFEST" && flip "$step/s00/rank-00001.h5" "$arena"
verify_is 1 'cannot be rebuilt: ' "$step"
tool 65 rebuild-index "$step"
says 'rank-00001.h5 is damaged between bytes'
fresh && rm "$step/MANIFEST" "$step/s00/rank-00001.h5"
tool 65 rebuild-index "$step"
says 'a hole: elements'
[ ! -e "$step/MANIFEST" ] || fail "a step that lacks a shard was rebuilt"
# A run goes on from what was rebuilt.
fresh && rm "$c"/*/MANIFEST "$c"/*/index.h5
for at in "$base" "$step"; do tool 0 rebuild-index "$at"; done
run_well 2 "$out" train "$config" --set "run.dir=$dir/copy" "${options[@]}" --set train.steps=5 --set layout.pp=2
[ "$(series "$dir/copy" | wc -l)" = 5 ] || fail "the run did not go on from what was rebuilt: $(cat "$out")"

# ---- one file ----
fresh
tool 0 view "$c"
says '/step-000000004/view.h5: 271 datasets'
tool 0 view "$old" --out "$dir/view.h5"
h5ls "$step/view.h5/master/language_model.model.encoder.embed_tokens.weight" | grep -q '{480, 64}' ||
    fail "the view does not have the embedding whole"
h5dump -d /weight/vision_tower.convs.0.proj.bias "$dir/view.h5" >"$out"
! grep -qi nan "$out" || fail "the view does not find the base's shards: $(cat "$out")"
tool 0 verify "$c"
tool 64 view "$base"
tool 64 view "$step" --out "$dir/nowhere/view.h5"

# ---- what nobody needs ----
fresh
cp -r "$base" "$c/base-0000000000000000"
mkdir -p "$c/.step-000000006.tmp-1-2-3/s00"
tool 0 gc "$c" --dry-run
says '2 directories'
[ -d "$c/base-0000000000000000" ] || fail "a dry run removed something"
tool 0 gc "$c"
diff -r "$dir/run/checkpoints" "$c" >"$out" || fail "gc left something, or took too much: $(cat "$out")"
flip "$step/index.h5" 100000 # not acceptable: the older one is the newest that is
tool 0 gc "$c" --keep 1
for at in "$old" "$base" "$step"; do [ -d "$at" ] || fail "gc took the newest acceptable step"; done
fresh
tool 0 gc "$c" --keep 1
[ ! -d "$old" ] || fail "gc --keep 1 left two steps"
for at in "$base" "$step"; do [ -d "$at" ] || fail "gc --keep 1 took $at"; done
rm "$dir/copy/lock"
mkdir "$c/.step-000000006.tmp-1-2-3"
tool 0 gc "$c"
[ -d "$c/.step-000000006.tmp-1-2-3" ] || fail "gc took a young unfinished save that no lock tells to be dead"
echo "tools of checkpoints: all damage was named, all that can be rebuilt was"
