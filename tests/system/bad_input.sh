#!/usr/bin/env bash
# Bad input: each case ends with its exit code (docs/exit-codes.md) on all ranks, with one error line
# that names the place and the fix, soon, and nothing that was there before is lost.
#   bad_input.sh FLORENZ [CASE]       only cases whose name contains CASE; tells what they say
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh" "$1"
only=${2:-}
data=$dir/data base=$data/base.yaml
n=0 n_bad=0 pids=()

# One case, told only where it fails.
check() { # number name ranks code regex argument...
    local out=$dir/out.$1 name=$2 ranks=$3 code=$4 regex=$5 why='' text lines
    shift 5
    run "$ranks" "$out" "$@"
    lines=$(grep -c 'florenz: error:' "$out" || true)
    text=$(grep 'florenz: error:' "$out" || true)
    [ "$lines" = 1 ] || why="$lines error lines"
    grep -Eq "^florenz: error: (rank [0-9]+: )?([^ ]*/)?$regex" <<<"$text" || why="$why; the error is not '$regex'"
    [ "$rc" = "$code" ] || why="$why; exit code $rc, not $code"
    if [ -n "$why" ]; then
        echo "FAILED $name (florenz $*): ${why#; }"
        grep -v -e '----' -e '^$' -e 'Primary job' -e 'a non-zero exit' -e 'mpirun detected' -e 'the job to be' \
            -e 'Process name' "$out" | sed 's/^/    | /' | head -n 30
    elif [ -n "$only" ]; then
        printf '%s\n    %s\n' "$name" "$text"
    fi
}
# Cases run six at a time: most of their time mpirun waits before it kills ranks that are gone.
expect() { # name ranks code regex argument...
    case $1 in *"$only"*) ;; *) return 0 ;; esac
    n=$((n + 1))
    check $n "$@" >"$dir/told.$n" &
    pids+=($!)
    [ ${#pids[@]} -lt 6 ] || settle 1
}
# Waits for the first so many cases that run; without a number for all.
settle() { # [number]
    local k=${1:-${#pids[@]}}
    [ "$k" = 0 ] || wait "${pids[@]:0:$k}" || true
    pids=("${pids[@]:$k}")
}
# A config that differs from the good one by a sed expression.
config() { # name ranks regex expression argument...
    local name=$1 ranks=$2 regex=$3 expression=$4 file
    shift 4
    file=$dir/config.$((n + 1))/bad.yaml
    mkdir -p "${file%/*}"
    sed -E "$expression" "$base" >"$file"
    ! cmp -s "$base" "$file" || fail "$name: the expression changes nothing"
    sed -i "s|^  dir: .*|  dir: $dir/run.$((n + 1))|" "$file"
    expect "$name" "$ranks" 64 "$regex" train "$file" "$@"
}
# Training on one shard made for the case.
shard() { # name ranks regex file argument...
    local name=$1 ranks=$2 regex=$3 file=$4
    shift 4
    expect "$name" "$ranks" 65 "$regex" train "$base" --set "run.dir=$dir/run.$((n + 1))" \
        --set "data.train=$file" "$@"
}
# A tar of one picture whose JSON went through sed.
one() { # name expression
    mkdir -p "$dir/one/$1"
    cp "$dir/pair/k.jpg" "$dir/one/$1/k.jpg"
    sed -E "$2" "$dir/pair/k.json" >"$dir/one/$1/k.json"
    pack "$1"
}
pack() { # name
    tar -C "$dir/one/$1" --format=ustar -cf "$dir/$1.tar" .
}
# What a run consists of, apart from its log.
content() { # run
    (cd "$1" && find . -type f ! -name log.txt ! -name lock -print0 | sort -z | xargs -0 sha256sum)
}
# The case must leave the run as it was.
keeps() { # run, then expect's
    local run=$1
    shift
    settle
    content "$run" >"$dir/before"
    expect "$@"
    settle
    content "$run" | diff "$dir/before" - >"$dir/lost" || {
        n_bad=$((n_bad + 1))
        echo "FAILED $1: something is lost or changed" >&2
        cat "$dir/lost" >&2
    }
}

make_data "$data" 8
mkdir "$dir/pair"
(cd "$dir/pair" && tar -xf "$data/train-00000.tar" && first=$(find . -name '*.jpg' | sort | head -n 1) &&
    mv "$first" k.jpg && mv "${first%.jpg}.json" k.json && find . -type f ! -name 'k.*' -delete)
{
    sed -E -e '/^#/d' -e "s|^run:|run:\n  dir: $dir/run|" -e 's/(steps): .*/\1: 4/' \
        -e 's/(global_batch|loss_batch): .*/\1: 8/' -e 's/(micro_batch): .*/\1: 2/' \
        -e "s#train-#$data/train-#" -e "s#: (enc|dec)\.model#: $data/\1.model#" -e '/eval:/d' \
        -e '/every:/d' -e 's/(keep): .*/\1: 2/' "$data/config.yaml"
    printf 'layout:\n  tp: 1\n  pp: 1\n  dp: auto\nnumerics:\n  lanes: 8\n'
} >"$base"
line() { # key's last part
    grep -nE "^  $1:" "$base" | cut -d: -f1
}

# ---- the command line ----
expect 'unknown command' 1 64 'trian: unknown command; see florenz --help' trian "$base"
expect 'unknown option' 2 64 '--profil: unknown option; the nearest one is --profile' train --profil "$base"
expect 'option without a value' 2 64 '--set needs a value' train "$base" --set
expect 'no config' 2 64 'a config is missing; usage: florenz train CONFIG' train
expect 'two configs' 2 64 '.*: unexpected argument; usage: florenz train' train "$base" "$base"
expect 'missing config' 2 64 'open .*/none.yaml: No such file' train "$data/none.yaml"
expect 'a folder as config' 2 64 '.*/data: not a config file' train "$data"
expect '--set without =' 2 64 '--set train.steps: not of the form key=value' train "$base" --set train.steps
expect '--set of an unknown key' 2 64 '--set train.stepz: unknown key; the nearest one is train.steps' \
    train "$base" --set train.stepz=4
expect '--set out of range' 2 64 '--set train.steps: 0 .*1' train "$base" --set train.steps=0
expect 'bad --profile' 2 64 '--profile 9:2: .*A:B' train "$base" --profile 9:2
expect 'unknown --accept-change' 2 64 '--accept-change run.sed: unknown key; the nearest one is run.seed' \
    train "$base" --accept-change run.sed
expect '--accept-change of the model' 2 64 '--accept-change model.enc_layers: .*new run.dir' \
    train "$base" --accept-change model.enc_layers
expect 'bad number' 1 64 '--ranks: many is not a whole number of at least 1' plan "$base" --ranks many
expect 'bad size' 1 64 '--device-memory: lots is not a size like 80GiB' plan "$base" --device-memory lots
expect 'data of no kind' 1 64 'data syn: not one of synth, .*check' data syn
expect 'synth without a place' 1 64 '--out DIR is missing' data synth

# ---- the config ----
config 'unknown key' 2 'bad.yaml:[0-9]+ run.sed: unknown key; the nearest one is run.seed' 's/seed:/sed:/'
config 'key in another section' 2 'bad.yaml:[0-9]+ model.steps: unknown key; the nearest one is train.steps' \
    's/^model:/model:\n  steps: 4/'
config 'unknown section' 2 'bad.yaml:[0-9]+ trian: unknown section' 's/^train:/trian:/'
config 'wrong type' 2 "bad.yaml:$(line steps) train.steps: many is not a whole number" 's/steps: 4/steps: many/'
config 'a fraction' 2 'bad.yaml:[0-9]+ train.steps: 4.5 is not a whole number' 's/steps: 4/steps: 4.5/'
config 'out of range' 2 'bad.yaml:[0-9]+ train.micro_batch: 0 .*1' 's/micro_batch: 2/micro_batch: 0/'
config 'not one of' 2 'bad.yaml:[0-9]+ layout.schedule: gpipe is not one of afab\|1f1b' 's/^layout:/layout:\n  schedule: gpipe/'
config 'no number' 2 'bad.yaml:[0-9]+ optimizer.lr: nan' 's/lr: .*/lr: nan/'
config 'a list for a value' 2 'bad.yaml:[0-9]+ train.steps: a list where one value belongs' 's/steps: 4/steps: [4, 5]/'
config 'too few of a list' 2 'bad.yaml:[0-9]+ optimizer.betas: 1 numbers where 2 belong' 's/^optimizer:/optimizer:\n  betas: [0.9]/'
config 'a level too many' 2 'bad.yaml:[0-9]+ train.steps: a value or a list belongs here' 's/steps: 4/steps: {many: 4}/'
config 'duplicate key' 2 'bad.yaml:[0-9]+ run.seed: the key is there twice \(first in line [0-9]+\)' 's/(  seed: .*)/\1\n\1/'
config 'malformed YAML' 2 'bad.yaml:[0-9]+: .*' 's/steps: 4/steps: [4/'
config 'tabs' 2 'bad.yaml:[0-9]+: found character that cannot start any token' 's/^  steps/\tsteps/'
config 'unknown variant' 2 "bad.yaml:[0-9]+ model.variant: unknown variant 'tiny-gamma'; use one of .*tiny-gemma" 's/tiny-gemma/tiny-gamma/'
config 'sizes that do not go together' 2 'bad.yaml:[0-9]+ model.enc_width: 50 is not a multiple of [0-9]+ heads' \
    's/^model:/model:\n  enc_width: 50/'
config 'more tokens than positions' 2 'bad.yaml:[0-9]+ model.enc_positions: 12 rows; .*need' 's/^model:/model:\n  enc_positions: 12/'
config 'freeze pattern without a match' 2 "bad.yaml:[0-9]+ model.freeze: pattern 'encodr.*' matches no tensor" \
    's/^model:/model:\n  freeze: ["encodr.*"]/'
config 'all frozen' 2 'bad.yaml:[0-9]+ model.freeze: all parameters .* frozen' 's/^model:/model:\n  freeze: ["*"]/'

# ---- layouts ----
config 'tp that does not divide' 3 "bad.yaml:$(line tp) layout.tp: 3 does not divide 4 shards; use 1, 2 or 4" 's/tp: 1/tp: 3/'
config 'tp and ranks' 2 "bad.yaml:$(line tp) layout.tp: tp 4 x pp 1 does not divide 2 ranks; use auto, or start a multiple of 4" 's/tp: 1/tp: 4/'
config 'mesh of another size' 2 'bad.yaml:[0-9]+ layout.dp: tp 1 x pp 1 x dp 3 is 3, but there are 2 ranks; use 2 or auto' 's/dp: auto/dp: 3/'
config 'dp beyond the lanes' 2 'bad.yaml:[0-9]+ layout.dp: 2 is not between 1 and the 1 lanes' 's/lanes: 8/lanes: 1/'
expect 'pp beyond the blocks' 1 64 '--set layout.pp: 64 stages for [0-9]+ blocks of tiny-gemma; use 1 to [0-9]+' \
    plan "$base" --ranks 64 --set layout.pp=64
config 'shards no power of two' 2 'bad.yaml:[0-9]+ numerics.shards: 3 is not a power of two; use 1, 2, 4' 's/^numerics:/numerics:\n  shards: 3/'
config 'shards that do not divide' 2 'bad.yaml:[0-9]+ numerics.shards: 64 does not divide model' 's/^numerics:/numerics:\n  shards: 64/'
config 'loss batch that does not divide' 2 'bad.yaml:[0-9]+ train.loss_batch: 3 does not divide train.global_batch 8' 's/loss_batch: 8/loss_batch: 3/'
config 'micro-batch that does not divide' 2 'bad.yaml:[0-9]+ train.micro_batch: 3 does not divide train.loss_batch 8' 's/micro_batch: 2/micro_batch: 3/'

# ---- data ----
expect 'no shard of this name' 2 64 '--set data.train: no file matches .*/none-\*.tar' train "$base" --set "run.dir=$dir/run.none" --set "data.train=$data/none-*.tar"
config 'no data' 2 'bad.yaml:[0-9]+ data.train: no shards are given; name tar files' 's/^  train: .*/  train: null/'
: >"$dir/empty.tar"
shard 'empty shard' 2 '--set data.train: .*/empty.tar: not a tar file \(it is empty\)' "$dir/empty.tar"
head -c 3000 "$data/train-00000.tar" >"$dir/cut.tar"
shard 'truncated shard' 2 '--set data.train: .*/cut.tar: ' "$dir/cut.tar"
head -c 4096 "$florenz" >"$dir/program.tar"
shard 'not a tar' 2 '--set data.train: .*/program.tar: not a tar file' "$dir/program.tar"
gzip -c "$data/train-00000.tar" >"$dir/gz.tar"
shard 'compressed tar' 2 '--set data.train: .*/gz.tar: compressed with gzip; .*decompress it first' "$dir/gz.tar"
mkdir -p "$dir/one/nothing" && echo text >"$dir/one/nothing/k.txt" && pack nothing
shard 'no images' 2 '--set data.train: .*/nothing.tar: no images' "$dir/nothing.tar"
one listless 's/.*/[]/'
shard 'no annotations' 2 '--set data.train: .*/listless.tar: .*k.json: the list of annotations is empty' "$dir/listless.tar"
one json 's/^\[/[{/'
shard 'corrupt JSON' 2 '--set data.train: .*/json.tar: .*k.json: not JSON: line 1' "$dir/json.tar"
one shape 's/^.*$/{"prompt_ids": [0, 2]}/'
shard 'JSON of another shape' 2 '--set data.train: .*/shape.tar: .*k.json: not a list of annotations' "$dir/shape.tar"
one class 's/"lang"/"long"/g'
shard 'annotation without a language' 2 '--set data.train: .*/class.tar: .*k.json: annotation 0 has no text "lang"' "$dir/class.tar"
one beyond 's/"output_ids":\[2,/"output_ids":[2,99999,/g'
shard 'ids beyond the vocabulary' 2 '.*/beyond.tar: .*k.json: annotation [0-9]+: output_ids\[1\]: id 99999 is beyond the decoder.s vocabulary of [0-9]+' "$dir/beyond.tar"
one negative 's/"prompt_ids":\[0,/"prompt_ids":[0,-5,/g'
shard 'negative ids' 2 '.*/negative.tar: .*k.json: annotation [0-9]+: prompt_ids\[1\]: id -5 is negative' "$dir/negative.tar"
one text 's/"(prompt|output)_ids"/"\1_idz"/g'
shard 'text without a tokenizer' 2 '.*/text.tar: .*k.json: annotation [0-9]+: has prompt as text only' "$dir/text.tar" \
    --set data.enc_tokenizer=null
mkdir -p "$dir/one/jpeg" && cp "$dir/pair/k.json" "$dir/one/jpeg" && head -c 300 "$dir/pair/k.jpg" >"$dir/one/jpeg/k.jpg" && pack jpeg
shard 'corrupt JPEG' 2 '.*/jpeg.tar: .*k.jpg: .*data.on_bad_sample: skip' "$dir/jpeg.tar"
shard 'nothing but bad samples' 2 '.*still no good sample after' "$dir/jpeg.tar" --set data.on_bad_sample=skip
config 'missing tokenizer' 2 'bad.yaml:[0-9]+ data.enc_tokenizer: .*/none.model: No such file' 's/enc.model/none.model/'
config 'tokenizer beyond the vocabulary' 2 'bad.yaml:[0-9]+ data.dec_tokenizer: .* has [0-9]+ ids, but the model.s vocabulary has 64' \
    's/dec_vocab: .*/dec_vocab: 64/'
config 'tokenizer of the other side' 2 'bad.yaml:[0-9]+ data.dec_tokenizer: .*enc.model has bos 0, eos 2 and padding 1' 's/dec.model/enc.model/'
printf 'no tokenizer' >"$dir/words"
expect 'not a tokenizer' 2 65 '--set data.enc_tokenizer: tokenizer .*/words: not a' train "$base" --set "run.dir=$dir/run.words" \
    --set "data.enc_tokenizer=$dir/words"
expect 'check finds bad samples' 1 65 '[0-9]+ problems in the data' data check "$base" --set "data.train=$dir/jpeg.tar"

# ---- the system ----
expect 'a run below a file' 2 71 '--set run.dir: make directory .*/base.yaml/run: Not a directory' train "$base" --set "run.dir=$base/run"
mkdir -p "$dir/blocked/metrics.jsonl"
expect 'a folder for a file' 2 71 'read .*/metrics.jsonl: not a file' train "$base" --set "run.dir=$dir/blocked"
FLORENZ_FAULT=write:1 expect 'disk full at the start' 2 71 '(write .*/config.yaml.new|--set run.dir: sync directory .*): No space left' \
    train "$base" --set "run.dir=$dir/full-1"
FLORENZ_FAULT=write:7 expect 'disk full in the first save' 2 71 '.*: No space left on device' \
    train "$base" --set "run.dir=$dir/full-2"
FLORENZ_FAULT=write:9 expect 'no failed checkpoint is borne' 2 71 \
    'checkpoint.max_failures: 1 checkpoints in a row came to nothing; that of step 2: .*: No space left on device' \
    train "$base" --set "run.dir=$dir/full-4" --set checkpoint.every=2 --set checkpoint.max_failures=1 --set checkpoint.async=off
FLORENZ_FAULT=alloc:20 expect 'no memory' 2 71 '.*' train "$base" --set "run.dir=$dir/full-3"
FLORENZ_FAULT=nonsense expect 'a fault of no kind' 2 64 'fault nonsense is not one of alloc:N' train "$base"

# Four processes, each of which the launcher counts and MPI does not.
real=$florenz
cat >"$dir/alone" <<TEXT
#!/usr/bin/env bash
worst=0
for r in 0 1 2 3; do
    SLURM_STEP_ID=0 SLURM_NTASKS=4 SLURM_PROCID=\$r OMPI_MCA_ess_singleton_isolated=1 "$real" "\$@" &
done
for r in 0 1 2 3; do wait -n || worst=\$?; done
exit \$worst
TEXT
chmod +x "$dir/alone"
settle
florenz=$dir/alone
expect 'every rank is 0 of 1' 1 64 'every rank is 0 of 1: SLURM_NTASKS says 4 processes, MPI says 1; start with' train "$base"
florenz=$real

expect 'a loss that is not finite' 2 65 'step [0-9]+: (loss|gradient norm) is not finite; lower optimizer.lr' \
    train "$base" --set "run.dir=$dir/nan" --set optimizer.lr=1000 --set optimizer.warmup=0 --set train.steps=30

# ---- a run that is there ----
settle
run_well 2 "$dir/out" train "$base"
good=$dir/run
copy() { # name
    rm -rf "${dir:?}/$1"
    cp -r "$good" "$dir/$1"
}
keeps "$good" 'refused change' 2 64 '--set run.seed: 7, but the run was started with [0-9]+; put it back, or add --accept-change run.seed' \
    train "$base" --set train.steps=6 --set run.seed=7
sed -E 's/image_size: 40/image_size: 48/' "$base" >"$data/bad.yaml"
keeps "$good" 'refused change in the file' 2 64 "bad.yaml:$(line image_size) model.image_size: 48, but the run was started with 40" \
    train "$data/bad.yaml" --set train.steps=6
keeps "$good" 'another model' 2 64 '--set model.enc_layers: 3, but the run.s model has [0-9]+ and cannot change; put it back, or start a new run.dir' \
    train "$base" --set train.steps=6 --set model.enc_layers=3
keeps "$good" 'other data' 2 64 '--set data.train: the shards are not those of the run' \
    train "$base" --set train.steps=6 --set "data.train=$data/eval-*.tar"
keeps "$good" 'weights of another model' 2 65 '.*/step-000000004.* is of another model' \
    train "$base" --set "run.dir=$dir/new" --set model.enc_layers=3 --set "checkpoint.init_from=$good/checkpoints/step-000000004"
expect 'weights from nowhere' 2 65 '.*checkpoint.init_from: .*/none.*' train "$base" --set "run.dir=$dir/new" --set "checkpoint.init_from=$dir/none"
copy manifest
truncate -s 20 "$dir/manifest/checkpoints/step-000000004/MANIFEST"
keeps "$dir/manifest" 'damaged manifest' 2 65 '--set run.dir: no checkpoint in .*/manifest/checkpoints can be used' train "$base" --set train.steps=6 --set "run.dir=$dir/manifest"
copy payload
shard_file=$(find "$dir/payload/checkpoints/step-000000004" -name 'rank-*.h5' | sort | head -n 1)
printf 'damage' | dd of="$shard_file" bs=1 seek=$(($(stat -c %s "$shard_file") / 2)) conv=notrunc 2>/dev/null
keeps "$dir/payload" 'damaged checkpoint' 2 65 '.*/payload/checkpoints/step-000000004/.* is damaged between bytes' \
    train "$base" --set train.steps=6 --set "run.dir=$dir/payload"
copy cut
truncate -s -100 "$(find "$dir/cut/checkpoints/step-000000004" -name 'rank-*.h5' | sort | head -n 1)"
keeps "$dir/cut" 'truncated checkpoint' 2 65 '--set run.dir: no checkpoint in .*/cut/checkpoints can be used' train "$base" --set train.steps=6 --set "run.dir=$dir/cut"
expect 'nothing to evaluate' 2 64 '(--set )?run.dir: no checkpoint in .*/new/checkpoints; train first' eval "$base" --set "run.dir=$dir/new"
expect 'nothing held out' 2 64 '.*data.eval: no shards are given' eval "$base"
expect 'no such annotations' 1 64 '--task haiku: data.eval has no such annotations' generate "$base" --task haiku \
    --set "data.eval=$data/eval-*.tar"
copy in-use
"$florenz" train "$base" --set train.steps=100000 --set "run.dir=$dir/in-use" >"$dir/holder" 2>&1 &
holder=$!
tries=0
until grep -q process "$dir/in-use/lock" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "the run that holds the directory does not start"
    sleep 0.1
done
expect 'a run directory in use' 2 64 "--set run.dir: .*/in-use is in use by host .*, process $holder; wait for it, stop it, or give another run.dir" \
    train "$base" --set "run.dir=$dir/in-use"
settle
{ kill -9 $holder && wait $holder; } 2>/dev/null || true

# A failing disk and a checkpoint to continue from: run me again; twice at the same step: no more.
copy full
FLORENZ_FAULT=write:2 expect 'disk full in mid-run' 2 75 'write .*/full/metrics.jsonl: No space left' \
    train "$base" --set train.steps=6 --set "run.dir=$dir/full"
settle
FLORENZ_FAULT=write:2 expect 'disk full at the same step again' 2 71 '.*the same step failed before: not tried again' \
    train "$base" --set train.steps=6 --set "run.dir=$dir/full"
settle
run_well 2 "$dir/out" train "$base" --set train.steps=6 --set "run.dir=$dir/full"
[ "$(series "$dir/full" | cut -d' ' -f1 | xargs)" = '1 2 3 4 5 6' ] || fail "the full disk left a gap"
FLORENZ_FAULT=write:9 run_well 2 "$dir/out" train "$base" --set "run.dir=$dir/full-5" --set checkpoint.every=2
grep -q 'no checkpoint of step 2, training goes on (1 of 3 in a row): .*No space left' "$dir/out" ||
    { cat "$dir/out" >&2; fail "a checkpoint that failed is not told"; }
grep -q '^checkpoints: 1 committed, 0 skipped, 1 failed' "$dir/out" || { cat "$dir/out" >&2; fail "it is not counted"; }

# A disk that is really full, where one can be made: the first checkpoint fits, the second does not.
mkdir "$dir/small"
if mount -t tmpfs -o size=30m none "$dir/small" 2>/dev/null; then
    cleanups+=("umount $dir/small")
    for code in 75 71; do
        expect "a full disk, $code" 2 $code '(write|reserve [0-9]+ bytes for) .*/small/run/checkpoints/.*: No space left on device' \
            train "$base" --set "run.dir=$dir/small/run" --set checkpoint.every=2
        settle
    done
fi

settle
cat "$dir"/told.* >&2
n_bad=$((n_bad + $(cat "$dir"/told.* | grep -c '^FAILED' || true)))
echo "$n cases, $n_bad bad"
[ "$n_bad" = 0 ] && [ "$n" -ge 40 ] || [ -n "$only" ]
