#!/usr/bin/env bash
# The commands around training: data synth | index | check, plan, eval, generate, --profile, --help.
#   data_tools.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
out=$dir/out
says() { # regex what
    grep -Eq -- "$1" "$out" || { cat "$out" >&2; fail "$2"; }
}
sums() { # folder
    (cd "$1" && find . -type f ! -name "*.idx" -print0 | sort -z | xargs -0 sha256sum)
}
# Standard output alone, as a program would read it.
json() { # file argument...
    local file=$1
    shift
    "$florenz" "$@" >"$file" 2>"$out" || { cat "$file" "$out" >&2; fail "florenz $*: exit code $?"; }
    [ "$(wc -l <"$file")" -ge 1 ] || fail "florenz $*: no output"
    [ "$(head -c 1 "$file")" = '{' ] && [ "$(tail -c 2 "$file")" = '}' ] || fail "florenz $*: not one object"
    ! command -v python3 >/dev/null || python3 -m json.tool "$file" >/dev/null || fail "florenz $*: not JSON"
}
has() { # file regex
    tr -d ' \n' <"$1" | grep -Eq -- "$2" || { head -c 2000 "$1" >&2; fail "$1 has no $2"; }
}

echo "help"
for command in '' train eval generate plan data bench 'data synth' 'data index' 'data check' 'data build'; do
    # shellcheck disable=SC2086
    run 1 "$out" $command --help
    [ "$rc" = 0 ] || { cat "$out" >&2; fail "florenz $command --help: exit code $rc"; }
    says '^usage: florenz' "florenz $command --help shows no usage"
done
run_well 1 "$out" train --help-config
says 'layout.tp' 'train --help-config does not know layout.tp'
run_well 1 "$out" --version
says '^florenz [0-9]+\.[0-9]+' 'no version'

echo "data synth"
make_data "$dir/data" 16
make_data "$dir/again" 16
diff <(sums "$dir/data") <(sums "$dir/again") >&2 || fail "data synth: the same seed, other bytes"
run 1 "$out" data synth --out "$dir/data" --images 16
[ "$rc" = 64 ] || fail "data synth into a full directory: exit code $rc, not 64"
says '--force' 'data synth does not name --force'
diff <(sums "$dir/data") <(sums "$dir/again") >&2 || fail "data synth: a refusal changes files"
"$florenz" data synth --out "$dir/other" --images 16 --images-per-shard 8 --seed 4 --image-size 40 --threads 2 2>"$out" ||
    fail "data synth: seed 4"
! cmp -s "$dir/data/train-00000.tar" "$dir/other/train-00000.tar" || fail "data synth: another seed, the same bytes"
config=$dir/data/config.yaml

echo "data index"
run_well 1 "$out" data index "$dir/data/train-*.tar"
says '2 shards, 16 images, 144 samples' 'data index counts wrong'
[ -s "$dir/data/train-00000.tar.idx" ] || fail "data index writes nothing"

echo "data check"
run_well 1 "$out" data check "$config"
says '144' 'data check does not count the samples'
head -c 6000 "$dir/data/train-00001.tar" >"$dir/cut.tar"
run 1 "$out" data check "$config" --set "data.train=$dir/cut.tar"
[ "$rc" = 65 ] || { cat "$out" >&2; fail "data check of a damaged shard: exit code $rc, not 65"; }
says 'cut.tar' 'data check does not name the shard'

echo "plan"
run_well 1 "$out" plan 11.2b --ranks 16
says '^11.2b: 1[01][0-9]{9} parameters' 'plan 11.2b: parameters'
says 'legal layouts of 16 ranks' 'plan 11.2b: no layouts'
json "$dir/plan.json" plan 11.2b --ranks 16 --json
has "$dir/plan.json" '"variant":"11.2b"'
[ "$(grep -c '"rank":' "$dir/plan.json")" -ge 1 ] || fail "plan --json: no ranks"
json "$dir/tiny.json" plan "$config" --ranks 4 --set layout.tp=2 --set layout.pp=2 --json
has "$dir/tiny.json" '"tp":2'
run_well 1 "$out" plan 11.2b --ranks 16 --device-memory 8GiB
says 'too big' 'plan --device-memory marks nothing'

echo "train --profile"
options=(--set "run.dir=$dir/run" --set train.steps=8 --set train.global_batch=8 --set train.loss_batch=8
    --set train.micro_batch=2 --set train.eval_every=4 --set train.eval_samples=16)
run_well 2 "$out" train "$config" "${options[@]}" --profile 3:5
says '^steps 3 to 5, rank 0:' 'no span table'
says '^decoder.layer' 'the span table has no blocks'
grep -q '"eval_loss"' "$dir/run/metrics.jsonl" || fail "no held-out losses in the metrics"
[ "$(grep -c '"eval_loss"' "$dir/run/metrics.jsonl")" = 2 ] || fail "not 2 held-out losses"
run_well 1 "$out" train "$config" "${options[@]}" --print-config
says '^  steps: 8$' '--print-config does not show --set'

echo "eval"
json "$dir/eval.json" eval "$config" "${options[@]}" --json
has "$dir/eval.json" '"step":8'
has "$dir/eval.json" '"class":"caption/fr","seen":false'
has "$dir/eval.json" '"class":"caption/de","seen":true'
mpirun -n 2 "$florenz" eval "$config" "${options[@]}" --json >"$dir/eval-2.json" 2>"$out" || fail "eval on 2 ranks"
diff "$dir/eval.json" "$dir/eval-2.json" >&2 || fail "eval: other losses on 2 ranks"

echo "generate"
json "$dir/generate.json" generate "$config" "${options[@]}" --images 2 --lang en --out "$dir/page.html" --json
has "$dir/generate.json" '"captions":\['
[ -s "$dir/page.html" ] && [ -s "$dir/page.jsonl" ] || fail "generate writes no page"
run_well 2 "$out" generate "$config" "${options[@]}" --images 2 --lang en --out "$dir/page-2.html" --set layout.tp=2
cmp -s "$dir/page.jsonl" "$dir/page-2.jsonl" || fail "generate: other texts on 2 ranks"
echo "data synth, index, check, plan, train --profile, eval and generate work"
