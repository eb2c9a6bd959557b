#!/usr/bin/env bash
# Saving and loading a model with its optimizer state beside plain files on the same disk in the same run, and beside
# torch.save and PyTorch's Distributed Checkpoint on tensors of the same shapes. Prints the tables of
# docs/benchmarks/checkpoint.md.
#   checkpoint_speed.sh BUILD [VARIANT [ROUNDS]]     default: 1.0b, 3 rounds
# BUILD is a build folder. RANKS (2) processes work, SAVE_AT (1x1x2: pipeline x data x tensor) is how they save and
# LOAD_AT (2x1x1) how they load elsewhere. TMPDIR names the disk. Needed: 12 bytes a parameter of memory and twice
# as much of the disk; for 1.0b 10 and 20 GB. Nothing else should run. PYTHON, or tests/reference/.env, has torch;
# without it PyTorch's rows are left out.
# Exit code: 0 done, 1 something failed, 64 bad usage.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -lt 1 ] || [ ! -x "$1/tests/checkpoint_speed" ]; then
    echo "usage: checkpoint_speed.sh BUILD [VARIANT [ROUNDS]]   (see the head of this file)" >&2
    exit 64
fi
build=$1 variant=${2:-1.0b} rounds=${3:-3}
ranks=${RANKS:-2}
python=${PYTHON:-$here/../reference/.env/bin/python}
dir=$(mktemp -d "${TMPDIR:-/tmp}/fz-speed-XXXXXX")
trap 'rm -rf "$dir"' EXIT
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_rmaps_base_oversubscribe=1 OPENBLAS_NUM_THREADS=1

mpirun -n "$ranks" "$build/tests/checkpoint_speed" "$dir" "$variant" "$rounds" \
    "${SAVE_AT:-1x1x2}" "${LOAD_AT:-2x1x1}" "$dir/list"
if [ -x "$python" ]; then
    "$python" "$here/../reference/checkpoint_speed.py" "$dir/list" "$dir" "$rounds" "$ranks"
else
    echo "checkpoint_speed.sh: no $python, so no rows of PyTorch" >&2
fi
echo
"$build/tests/parallel_test_ckpt_scale" --measure | sed -n '/ranks (pp/,/^$/p;/^|/p' || {
    echo "checkpoint_speed.sh: planning is slower than its limits" >&2
    exit 1
}
