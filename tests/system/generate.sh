#!/usr/bin/env bash
# florenz generate: the same lines on every layout, greedy and by beams; what the cache gives is what the
# whole text gives; files and held-out images; bad input.
#   generate.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh" "$1"
data=$dir/data out=$dir/out
options=(--set "run.dir=$dir/run" --set train.steps=30 --set train.global_batch=8 --set train.loss_batch=4
    --set train.micro_batch=4 --set optimizer.warmup=2)

make_data "$data" 8
run_well 1 "$out" train "$data/config.yaml" "${options[@]}"

# ---- layouts ----
beams=(--beams 4 --length-penalty 0.8 --no-repeat-ngram 3 --min-tokens 4 --max-tokens 14 --prefix auto)
lines() { # name ranks argument...
    local file=$dir/$1.jsonl ranks=$2
    shift 2
    run_well "$ranks" "$out" generate "$data/config.yaml" "${options[@]}" --images 4 --jsonl "$file" "$@"
    [ -s "$file" ] || fail "$file is empty"
}
alike() { # reference name
    cmp "$dir/$1.jsonl" "$dir/$2.jsonl" || fail "$2: other lines than $1"
}
lines beams 1 "${beams[@]}"
lines beams-tp2 2 "${beams[@]}" --set layout.tp=2
lines beams-tp2-pp2 4 "${beams[@]}" --set layout.tp=2 --set layout.pp=2
lines beams-dp2-tp2 4 "${beams[@]}" --set layout.tp=2 --set layout.dp=2
for layout in tp2 tp2-pp2 dp2-tp2; do alike beams beams-$layout; done
lines greedy 1
lines greedy-dp3 3
alike greedy greedy-dp3
n=$(wc -l <"$dir/greedy.jsonl")
[ "$n" -ge 9 ] || fail "$n lines: too few for more than two batches"
grep -q '"score":-' "$dir/beams.jsonl" || fail "no scores"
! cmp -s "$dir/greedy.jsonl" "$dir/beams.jsonl" || fail "four beams give greedy's lines"

# ---- without a cache ----
ids() { grep -oE '"ids":\[[0-9,]*\]' "$dir/$1.jsonl"; }
lines german 1 --lang de
lines slow 1 --lang de --no-cache
ids german >"$dir/ids"
ids slow | cmp - "$dir/ids" || fail "without a cache: other ids"

# ---- prefixes ----
grep '"class":"caption/de"' "$dir/beams.jsonl" | grep -q '"text":"Das Bild zeigt' || fail "no German prefix"
lines stripped 1 "${beams[@]}" --strip-prefix
! grep -q '"text":"Das Bild zeigt' "$dir/stripped.jsonl" || fail "the prefix is not stripped"
ids beams >"$dir/ids"
ids stripped | cmp - "$dir/ids" || fail "--strip-prefix changes the ids"

# ---- files: asked the same about the same pictures, the same is answered ----
mkdir "$dir/pictures"
for shard in "$data"/eval-*.tar; do tar -C "$dir/pictures" -xf "$shard" --wildcards '*.jpg'; done
mapfile -t pictures < <(grep -oE '"image":"[^"]*"' "$dir/german.jsonl" | cut -d'"' -f4 | sed "s|^|$dir/pictures/|" | uniq)
run_well 1 "$out" generate "$data/config.yaml" "${options[@]}" --lang de --jsonl "$dir/files.jsonl" --image "${pictures[@]}"
[ ! -e "$dir/run/generate.html" ] || fail "a page that nobody asked for"
text() { sed -E 's/.*"image":"([^"]*\/)?([^"\/]*)".*("prompt":"[^"]*","text":"([^"\\]|\\.)*").*/\2 \3/' "$dir/$1.jsonl" | sort -u; }
text german >"$dir/texts"
text files | cmp - "$dir/texts" || fail "files: other texts than the same pictures of data.eval"
run_well 1 "$out" generate "$data/config.yaml" "${options[@]}" --prompt '<LANG_DE><CAPTION>' --jsonl - "${pictures[0]}"
grep '^{' "$out" | grep -q '"class":null,"prompt":"The target language is German. What does the image describe?"' ||
    fail "the macros of --prompt are not replaced"
run_well 1 "$out" generate "$data/config.yaml" "${options[@]}" --out "$dir/own.html" --beams 2 "${pictures[0]}"
grep -q 'base64' "$dir/own.html" || fail "no picture on the page"

# ---- what is right: a reference that is what the model says, and one that differs in an id ----
line=$(head -n 1 "$dir/german.jsonl")
said=$(ids german | head -n 1 | cut -d: -f2)
[ "$said" != "[1]" ] || fail "the model says nothing"
mkdir "$dir/known"
for key in same other; do
    cp "${pictures[0]}" "$dir/known/$key.jpg"
    [ $key = same ] || said="[7${said:2}"
    printf '[{%s,"output_ids":%s,"lang":"de","type":"caption"}]' \
        "$(grep -oE '"prompt":"[^"]*"' <<<"$line")" "$said" >"$dir/known/$key.json"
done
tar -C "$dir/known" --format=ustar -cf "$dir/known.tar" {other,same}.{jpg,json}
lines known 1 --set "data.eval=$dir/known.tar"
grep '"image":"same.jpg"' "$dir/known.jsonl" | grep -q '"right":true' || fail "what is right is not found right"
grep '"image":"other.jpg"' "$dir/known.jsonl" | grep -q '"right":false' || fail "what is wrong is found right"

# ---- bad input ----
refused() { # code regex argument...
    local code=$1 regex=$2
    shift 2
    run 2 "$out" generate "$data/config.yaml" "${options[@]}" "$@"
    [ "$rc" = "$code" ] || { cat "$out" >&2; fail "generate $*: exit code $rc, not $code"; }
    [ "$(grep -c 'florenz: error:' "$out")" = 1 ] || fail "generate $*: not one error line"
    grep -Eq "florenz: error: (rank [0-9]+: )?$regex" "$out" || { cat "$out" >&2; fail "generate $*: the error is not '$regex'"; }
}
printf 'no picture' >"$dir/words.jpg"
refused 64 "--image: open $dir/none.jpg: No such file" --image "$dir/none.jpg"
refused 65 "$dir/words.jpg: .*" --image "$dir/words.jpg"
refused 64 ".*it.*" --image "${pictures[0]}" --lang it
refused 64 '--task caption, --lang it: data.eval has no such annotations' --lang it
refused 64 '[0-9]+ beams: at most 600' --beams 601
refused 64 'a text of at least 9 tokens and at most 4' --min-tokens 9 --max-tokens 4
refused 64 '--early-stopping: perhaps is not true, false or never' --early-stopping perhaps
refused 64 '--length-penalty: much is not a number' --length-penalty much
refused 64 '--no-cache: plain greedy search alone' --no-cache --beams 2
refused 64 '--images: of data.eval, but pictures are named' --images 3 "${pictures[0]}"
refused 71 '--jsonl: open .*/none/x.jsonl: No such file' --jsonl "$dir/none/x.jsonl"
echo "generate: the same on every layout, with and without a cache, from shards and from files"
