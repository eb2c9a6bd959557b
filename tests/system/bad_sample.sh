#!/usr/bin/env bash
# Bad samples in the training data: stop ends with 65 and names one; skip replaces them on all ranks,
# counts them, and the bits are still those of one rank.
#   bad_sample.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
make_data "$dir/data" 12
config=$dir/data/config.yaml

# One picture is cut off, another's ids lie beyond the vocabulary.
mkdir "$dir/shard"
tar -C "$dir/shard" -xf "$dir/data/train-00000.tar"
mapfile -t keys < <(find "$dir/shard" -name '*.jpg' -printf '%f\n' | sed 's/\.jpg$//' | sort)
truncate -s 200 "$dir/shard/${keys[1]}.jpg"
sed -i -E 's/"prompt_ids":\[0,/"prompt_ids":[0,99999,/g' "$dir/shard/${keys[3]}.json"
tar -C "$dir/shard" --format=ustar --sort=name -cf "$dir/data/train-00000.tar" .

options=(--set train.steps=6 --set train.global_batch=8 --set train.loss_batch=8
    --set train.micro_batch=2 --set checkpoint.every=3)
for ranks in 1 2; do
    run $ranks "$dir/out" train "$config" --set "run.dir=$dir/stop-$ranks" "${options[@]}"
    [ "$rc" = 65 ] || { cat "$dir/out" >&2; fail "stop on $ranks ranks: exit code $rc, not 65"; }
    [ "$(grep -c 'florenz: error:' "$dir/out")" = 1 ] || { cat "$dir/out" >&2; fail "not one error line"; }
    grep -Eq "error: .*train-00000.tar: (.*/)?(${keys[1]}.jpg|${keys[3]}.json): .*\(data.on_bad_sample: skip would replace it\)" \
        "$dir/out" || { cat "$dir/out" >&2; fail "stop on $ranks ranks does not name the sample"; }
done

options+=(--set data.on_bad_sample=skip)
run_well 1 "$dir/one.out" train "$config" --set "run.dir=$dir/one" "${options[@]}"
run_well 4 "$dir/four.out" train "$config" --set "run.dir=$dir/four" "${options[@]}" \
    --set layout.tp=2 --set layout.dp=2
run_well 2 "$dir/two.out" train "$config" --set "run.dir=$dir/two" "${options[@]}" --set layout.pp=2 \
    --set data.ahead=1 --set data.threads=2
replaced() { # run
    grep -o '"replaced":[0-9]*' "$1/metrics.jsonl" | cut -d: -f2 | xargs
}
for run in four two; do
    diff <(series "$dir/one") <(series "$dir/$run") >&2 || fail "$run ranks: other bits than one"
    [ "$(replaced "$dir/one")" = "$(replaced "$dir/$run")" ] ||
        fail "$run ranks: replaced $(replaced "$dir/$run"), one rank $(replaced "$dir/one")"
done
total=$(replaced "$dir/one" | tr ' ' '\n' | awk '{n += $1} END {print n}')
[ "$total" -gt 0 ] || fail "nothing was replaced"
for run in one four two; do
    grep -q "; $total samples replaced" "$dir/$run.out" || fail "$run: the log does not count $total samples"
    grep -Eq "warning: .*train-00000.tar.*: replaced by another draw" "$dir/$run.out" ||
        fail "$run: the log does not name the sample"
done
echo "$total bad samples of 48 replaced, the same on 1, 4 and 2 ranks"
