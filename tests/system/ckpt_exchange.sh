#!/usr/bin/env bash
# Weights in and out: safetensors of every layout through checkpoints and back, on 1, 2 and 4 ranks, bit
# for bit; two folders made one model; a vocabulary rebuilt; training from there; and input that is wrong.
#   ckpt_exchange.sh FLORENZ EXCHANGE_TOOL
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh" "$1"
tool=$2
out=$dir/out
printf 'model:\n  variant: tiny-bart\n' >"$dir/bart.yaml"
printf 'model:\n  variant: tiny-gemma\n' >"$dir/gemma.yaml"

make() { # layout variant folder option...
    "$tool" make "$@" || fail "make $*"
}
imports() { # ranks config run argument...
    run_well "$1" "$out" ckpt import "$2" --set "run.dir=$3" "${@:4}"
}
exports() { # ranks config run folder argument...
    run_well "$1" "$out" ckpt export "$2" --set "run.dir=$3" --to "$4" "${@:5}"
}
equal() { # a b type
    "$tool" equal "$@" >"$out" || fail "not equal: $*: $(cat "$out")"
}
# The digest of every tensor, which no layout changes.
digests() { # step
    h5dump -d /digest/master "$1/index.h5" | sed 1d
}

# ---- F: there and back, whoever reads and writes, and in several files ----
for family in bart gemma; do
    config=$dir/$family.yaml
    make florenz tiny-$family "$dir/f-$family" --max-file-bytes 900000
    [ -f "$dir/f-$family/model.safetensors.index.json" ] || fail "one file only: nothing of an index is tried"
    for ranks in 1 2 4; do
        imports $ranks "$config" "$dir/$family-$ranks" --from "$dir/f-$family"
    done
    exports 2 "$config" "$dir/$family-1" "$dir/out-$family-1"
    exports 1 "$config" "$dir/$family-2" "$dir/out-$family-2" --max-file-bytes 1MB
    exports 4 "$config" "$dir/$family-4" "$dir/out-$family-4"
    for ranks in 1 2 4; do equal "$dir/f-$family" "$dir/out-$family-$ranks" F32; done
    cmp -s "$dir/out-$family-1/model.safetensors" "$dir/out-$family-4/model.safetensors" ||
        fail "$family: the file depends on the ranks"
    grep -q '"torch_dtype": "float32"' "$dir/out-$family-1/config.json" || fail "config.json lacks the type"
done

# ---- narrower types: the values rounded once, and then nothing changes any more ----
for dtype in F16 BF16; do
    exports 1 "$dir/gemma.yaml" "$dir/gemma-1" "$dir/narrow-$dtype" --dtype "${dtype,,}"
    equal "$dir/f-gemma" "$dir/narrow-$dtype" $dtype
    imports 2 "$dir/gemma.yaml" "$dir/back-$dtype" --from "$dir/narrow-$dtype"
    exports 2 "$dir/gemma.yaml" "$dir/back-$dtype" "$dir/narrower-$dtype" --dtype "${dtype,,}"
    equal "$dir/narrow-$dtype" "$dir/narrower-$dtype" $dtype
done
make florenz tiny-gemma "$dir/wide" --inf image_proj_norm.weight --large image_proj_norm.bias
imports 1 "$dir/gemma.yaml" "$dir/run-wide" --from "$dir/wide"
grep -q 'image_proj_norm.weight: 0 NaN and 1 infinite of 64 values' "$out" || fail "an infinite value is not told"
exports 1 "$dir/gemma.yaml" "$dir/run-wide" "$dir/out-wide" --dtype f16
grep -q 'image_proj_norm.bias: 2 of 64 values are too large for F16' "$out" || fail "what becomes infinite is not told"
grep -q '2 values in 1 tensors became infinite' "$out" || fail "what becomes infinite is not counted"

# ---- assembly: O and N hold the same numbers, so the same model comes out ----
make gemma tiny-gemma "$dir/g" --head
for layout in original native; do
    make $layout tiny-bart "$dir/$layout" --head
    imports 2 "$dir/gemma.yaml" "$dir/run-$layout" --from "$dir/$layout" --from "$dir/g"
    exports 1 "$dir/gemma.yaml" "$dir/run-$layout" "$dir/assembled-$layout"
    "$tool" assembled "$dir/assembled-$layout" "$dir/$layout" "$dir/g" >"$out" || fail "$layout: $(cat "$out")"
done
equal "$dir/assembled-original" "$dir/assembled-native"
run_well 1 "$out" ckpt import "$dir/gemma.yaml" --set "run.dir=$dir/none" --from "$dir/g" --from "$dir/native" \
    --layout gemma --layout native --dry-run
grep -q '^image_projection <- .*native model.multi_modal_projector.image_projection.weight transposed$' "$out" ||
    fail "the dry run does not tell what becomes what"
[ ! -e "$dir/none" ] || fail "the dry run wrote something"

# ---- Florence-2 with its own vocabulary, and with another one ----
imports 1 "$dir/bart.yaml" "$dir/run-own" --from "$dir/original"
exports 1 "$dir/bart.yaml" "$dir/run-own" "$dir/own"
make_data "$dir/data" 8
# A byte-level BPE for the old ids and a SentencePiece model for the new ones, where both are built in.
enc=$dir/data/enc.model dec=$dir/data/dec.model n_enc=480 n_dec=1200
fixtures=$here/../reference/fixtures/tokenizers
if "$tool" loads "$fixtures/bart/tokenizer.json" && "$tool" loads "$fixtures/gemma/tokenizer.model"; then
    enc=$fixtures/bart/tokenizer.json dec=$fixtures/gemma/tokenizer.model n_enc=3133 n_dec=2000
fi
sizes=(--set "model.enc_vocab=$((n_enc + 9))" --set "model.dec_vocab=$((n_dec + 10))")
for layout in original native; do
    make $layout tiny-bart "$dir/small-$layout" --rows $n_enc
    run_well 2 "$out" ckpt import "$dir/bart.yaml" --from "$dir/small-$layout" --vocabulary rebuild \
        "${sizes[@]}" --set "run.dir=$dir/run-re-$layout" --out "$dir/re-$layout" --enc-tokenizer "$enc" --dec-tokenizer "$dec"
    grep -Eq "decoder.embed_tokens.weight: (2000|1199) rows are means of the folder's $n_enc, 1[01] new" "$out" ||
        fail "how many rows are means is not told: $(cat "$out")"
    grep -q "encoder.embed_tokens.weight: $n_enc rows of the folder, 9 new" "$out" || fail "9 new rows are not told"
    run_well 1 "$out" ckpt export "$dir/bart.yaml" "$dir/re-$layout/step-000000000" "${sizes[@]}" --to "$dir/re-out-$layout"
    "$tool" rebuilt "$dir/re-out-$layout" "$dir/small-$layout" "$enc" "$dec" >"$out" || fail "$layout: $(cat "$out")"
done
equal "$dir/re-out-original" "$dir/re-out-native"

# ---- training goes on from an import, on another layout; what it makes comes out and in again ----
config=$dir/data/config.yaml
short=(--set train.steps=3 --set train.global_batch=8 --set train.loss_batch=8 --set train.micro_batch=2
    --set optimizer.warmup=1)
mapfile -t same < <(sed -n -E '/^model:/,/^data:/s/^  ([a-z_]+): (.*)/--set\nmodel.\1=\2/p' "$config")
make florenz tiny-gemma "$dir/f-data" "${same[@]}"
imports 2 "$config" "$dir/run-1" --from "$dir/f-data" --set run.seed=5
run_well 4 "$out" train "$config" --set "run.dir=$dir/run-1" "${short[@]}" --set layout.tp=2 --set layout.pp=2
run_well 1 "$out" train "$config" --set "run.dir=$dir/run-2" "${short[@]}" \
    --set "checkpoint.init_from=$dir/run-1/checkpoints/step-000000000"
series "$dir/run-1" >"$dir/series-1"
series "$dir/run-2" | diff "$dir/series-1" - || fail "continued and started from an import, training differs"
exports 2 "$config" "$dir/run-1" "$dir/trained"
exports 1 "$config" "$dir/run-1" "$dir/untrained" --step 0
equal "$dir/f-data" "$dir/untrained"
! "$tool" equal "$dir/f-data" "$dir/trained" >/dev/null 2>&1 || fail "training changed nothing"
imports 1 "$config" "$dir/run-3" --from "$dir/trained"
exports 4 "$config" "$dir/run-3" "$dir/trained-again"
equal "$dir/trained" "$dir/trained-again" F32

# ---- what is wrong is told, and nothing is written ----
n_bad=0
refused() { # code text ranks argument...
    local code=$1 text=$2 ranks=$3
    shift 3
    run "$ranks" "$out" ckpt "$@"
    [ "$rc" = "$code" ] && [ "$(grep -c 'florenz: error:' "$out")" = 1 ] && grep -q "florenz: error:.*$text" "$out" || {
        cat "$out" >&2
        fail "exit code $rc, not $code, or not '$text': ckpt $*"
    }
    n_bad=$((n_bad + 1))
}
import_refused() { # code text config argument...
    refused "$1" "$2" 1 import "$3" --set "run.dir=$dir/bad" "${@:4}"
    [ ! -e "$dir/bad" ] || [ -z "$(ls "$dir/bad/checkpoints")" ] || fail "something was written: ckpt import ${*:3}"
    rm -rf "$dir/bad"
}
gemma=$dir/gemma.yaml bart=$dir/bart.yaml
import_refused 64 'No such file' "$bart" --from "$dir/nothing"
import_refused 64 'one or two are needed' "$bart"
import_refused 64 'is a Gemma-2 model, but' "$bart" --from "$dir/g"
import_refused 64 'is a Gemma-2 model alone' "$gemma" --from "$dir/g"
import_refused 64 'is a Florence-2 model alone' "$gemma" --from "$dir/native"
import_refused 64 'a whole Florenz model' "$gemma" --from "$dir/f-gemma" --from "$dir/g"
import_refused 64 'like' "$gemma" --from "$dir/g" --from "$dir/g"
make gemma tiny-gemma "$dir/strange" --rename model.layers.0.pre_feedforward_layernorm.weight model.x
import_refused 64 "known by its names" "$gemma" --from "$dir/native" --from "$dir/strange"
import_refused 64 '--layout: hf is none of' "$bart" --from "$dir/f-bart" --layout hf
import_refused 64 'only with --vocabulary rebuild' "$bart" --from "$dir/f-bart" --enc-tokenizer x
import_refused 64 '--enc-tokenizer is needed' "$bart" --from "$dir/original" --vocabulary rebuild
import_refused 64 "--enc-tokenizer: .*has $n_enc ids" "$bart" --from "$dir/original" --vocabulary rebuild \
    --set model.dec_vocab=$((n_dec + 10)) --enc-tokenizer "$enc" --dec-tokenizer "$dec"
import_refused 65 '--set model.enc_vocab=509' "$bart" --from "$dir/native" --set model.enc_vocab=900
import_refused 65 'or --vocabulary rebuild' "$bart" --from "$dir/native" --set model.dec_vocab=480
import_refused 65 '--set model.enc_positions=130' "$bart" --from "$dir/f-bart" --set model.enc_positions=140
make florenz tiny-bart "$dir/odd" --rename image_proj_norm.weight image_proj_norm.wait --add extra.weight
import_refused 65 '3 tensors' "$bart" --from "$dir/odd"
for text in 'image_proj_norm.wait: the config.s model has no such tensor' 'extra.weight: the config' \
    'image_proj_norm.weight is in no folder'; do
    grep -q "warning: .*$text" "$out" || fail "not told: $text"
done
make florenz tiny-bart "$dir/untied" --untie
import_refused 65 'are tied and must be equal' "$bart" --from "$dir/untied"
make original tiny-bart "$dir/untied-o" --untie
import_refused 65 'are tied and must be equal' "$bart" --from "$dir/untied-o"
cp -r "$dir/original" "$dir/cut"
truncate -s -100 "$dir/cut/model.safetensors"
import_refused 65 'model.safetensors' "$bart" --from "$dir/cut"
refused 64 'has checkpoints already' 2 import "$bart" --set "run.dir=$dir/bart-1" --from "$dir/f-bart"
make florenz tiny-bart "$dir/nan" --nan image_proj_norm.weight
imports 2 "$bart" "$dir/run-nan" --from "$dir/nan"
grep -q '2 NaN and 0 infinite values in 1 tensors' "$out" || fail "NaN is not counted"

refused 64 'is not empty' 1 export "$bart" --set "run.dir=$dir/bart-1" --to "$dir/out-bart-1"
refused 64 '--to FOLDER is missing' 1 export "$bart" --set "run.dir=$dir/bart-1"
refused 64 'is none of f32' 1 export "$bart" --set "run.dir=$dir/bart-1" --to "$dir/no" --dtype f64
refused 64 'is no size' 1 export "$bart" --set "run.dir=$dir/bart-1" --to "$dir/no" --max-file-bytes 5GiB
refused 64 'no checkpoint in' 1 export "$bart" --set "run.dir=$dir/empty" --to "$dir/no"
refused 64 'No such file' 1 export "$bart" --set "run.dir=$dir/bart-1" --to "$dir/no" --step 7
refused 64 'not of the config' 2 export "$gemma" --set "run.dir=$dir/bart-1" --to "$dir/no"
refused 64 'ckpt trade: no such part' 1 trade
shard=$(find "$dir/bart-2" -name 'rank-00000.h5' | head -n 1)
printf 'x' | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc status=none
refused 65 'rank-00000.h5' 1 export "$bart" --set "run.dir=$dir/bart-2" --to "$dir/no" --step 0
[ ! -e "$dir/no" ] && [ ! -e "$dir/no.tmp" ] || fail "a refused export left something"

echo "weights in and out: every way is bit-exact, $n_bad bad inputs are refused"
