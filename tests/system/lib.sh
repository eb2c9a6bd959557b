# What the system tests share; read by `. lib.sh FLORENZ`. Leaves $florenz, $dir (removed at the end).
# shellcheck shell=bash
florenz=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/fz-system-XXXXXX")
name=$(basename "$0" .sh)
cleanups=()
finish() {
    local rc=$? step
    for step in "${cleanups[@]}"; do $step || true; done
    rm -rf "$dir"
    exit $rc
}
trap finish EXIT
export OMPI_MCA_btl_vader_single_copy_mechanism=none

fail() {
    echo "$name: $*" >&2
    exit 1
}
# The smallest data that trains: a config of a tiny model beside its shards.
make_data() { # folder images
    "$florenz" data synth --out "$1" --images "$2" --images-per-shard $(($2 / 2)) --seed 3 \
        --image-size 40 --threads 1 2>"$dir/synth.out" || { cat "$dir/synth.out" >&2; exit 1; }
}
# Runs florenz on so many ranks (1: without a launcher) and no longer than 20 s; rc is its code.
run() { # ranks out argument...
    local ranks=$1 out=$2 launcher=()
    shift 2
    [ "$ranks" = 1 ] || launcher=(mpirun -n "$ranks")
    rc=0
    timeout -k 2 "${limit:-20}" "${launcher[@]}" "$florenz" "$@" >"$out" 2>&1 || rc=$?
}
run_well() { # ranks out argument...
    run "$@"
    [ "$rc" = 0 ] || { cat "$2" >&2; fail "exit code $rc: florenz ${*:3}"; }
}
# One line a step: number and bits.
series() { # run
    grep '"loss_bits"' "$1/metrics.jsonl" | sed -E \
        's/.*"step": ?([0-9]+).*"loss_bits": ?"([0-9a-f]+)".*"grad_norm_bits": ?"([0-9a-f]+)".*/\1 \2 \3/'
}
