#!/usr/bin/env bash
# florenz score: what it says of a text is what eval says, is the sum over the text's tokens, and has the same
# bytes on every layout; lines it cannot use are named.
#   score.sh FLORENZ
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/lib.sh
. "$here/lib.sh"
make_data "$dir/data" 16
config=$dir/data/config.yaml
options=(--set "run.dir=$dir/run" --set train.global_batch=4 --set train.loss_batch=4 --set train.micro_batch=2)
run_well 1 "$dir/out" train "$config" "${options[@]}" --set train.steps=2 --set optimizer.lr=0.02 --set optimizer.warmup=0

# The first pictures of the held-out shard, each with its first annotation.
mkdir "$dir/x"
tar xf "$(find "$dir/data" -name 'eval-*.tar' | sort | head -n 1)" -C "$dir/x"
for picture in $(find "$dir/x" -name '*.jpg' | sort | head -n 3); do
    tr -d '\n' <"${picture%.jpg}.json" | sed -E "s|^[^{]*\{([^}]*)\}.*|{\"image\": \"$picture\", \1}\n|"
done >"$dir/lines"
vocabulary=$(sed -nE 's/.*dec_vocab: *([0-9]+).*/\1/p' "$config" | head -n 1)
[ -n "$vocabulary" ] || fail "no dec_vocab in $config"
score() { # ranks out setting...
    local ranks=$1 out=$2
    shift 2
    rc=0
    local launcher=()
    [ "$ranks" = 1 ] || launcher=(mpirun -n "$ranks")
    timeout -k 2 60 "${launcher[@]}" "$florenz" score "$config" "$dir/lines" "${options[@]}" "$@" >"$out" 2>"$dir/err" || rc=$?
}
score 1 "$dir/one" --top "$vocabulary"
[ "$rc" = 0 ] || { cat "$dir/err" >&2; fail "exit code $rc"; }
[ "$(wc -l <"$dir/one")" = 3 ] || fail "not three lines"

# log_prob against the tokens' own, out of the lists over the whole vocabulary.
sed -E 's/.*"ids": ?\[([^]]*)\].*"log_prob": ?([^,]*),.*"top": ?\[(.*)\]\}/\2;\1;\3/' "$dir/one" | awk -F';' '
    { n = split($2, id, /, */); gsub(/ /, "", $3); m = split($3, place, /\]\],\[\[/); sum = 0; found = 0
      for (i = 1; i <= n; i++) {
          list = place[i]; gsub(/^\[+|\]+$/, "", list); k = split(list, pair, /\],\[/)
          for (j = 1; j <= k; j++) { split(pair[j], x, ","); if (x[1] == id[i]) { sum += x[2]; found++ } }
      }
      if (n != m || found != n || (sum - $1)^2 > 1e-6) { print "line " NR ": " found " of " n " tokens in " m " places, sum " sum ", log_prob " $1; bad = 1 } }
    END { exit bad || NR != 3 }' || fail "log_prob is not the sum over the tokens"

# The first line is eval's first sample.
run_well 1 "$dir/eval" eval "$config" "${options[@]}" --samples 1 --json
of_eval=$(sed -nE 's/.*"labels": ?([0-9]+).*/\1/p' "$dir/eval")
loss=$(sed -nE 's/.*"step"[^{]*"loss": ?([0-9.]+),"samples.*/\1/p;s/.*"step"[^{]*"loss": ?([0-9.]+), "samples.*/\1/p' "$dir/eval" | head -n 1)
head -n 1 "$dir/one" | sed -E 's/.*"log_prob": ?([^,]*),.*/\1/' |
    awk -v loss="$loss" -v n="$of_eval" '{ exit !(loss > 0 && (loss * n + $1)^2 < 1e-4) }' ||
    fail "eval says $loss over $of_eval labels: $(cut -c1-300 "$dir/one" | head -n 1)"

score 1 "$dir/a" --top 3
score 2 "$dir/b" --top 3 --set layout.tp=2
cmp "$dir/a" "$dir/b" || fail "tensor 2 gives other bytes"
score 4 "$dir/b" --top 3 --set layout.tp=2 --set layout.pp=2
cmp "$dir/a" "$dir/b" || fail "tensor 2 x pipeline 2 gives other bytes"

refused() { # ranks what line
    printf '%s\n' "$3" >"$dir/lines"
    score "$1" "$dir/b" --set "layout.pp=$1"
    [ "$rc" != 0 ] || fail "taken: $3"
    grep -q "$2" "$dir/err" || { cat "$dir/err" >&2; fail "not \"$2\": $3"; }
}
refused 2 'lines:1: .*no/such.jpg' '{"image": "no/such.jpg", "prompt_ids": [0, 2], "output_ids": [2, 1]}'
refused 1 'lines:1: has no image' '{"prompt_ids": [0, 2], "output_ids": [2, 1]}'
refused 1 'lines:1: not JSON' '{"image"'
refused 1 '99999 is beyond' "{\"image\": \"$picture\", \"prompt_ids\": [0, 2], \"output_ids\": [2, 99999]}"
refused 1 'neither output_ids nor output' "{\"image\": \"$picture\", \"prompt_ids\": [0, 2]}"
