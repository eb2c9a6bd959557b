#!/usr/bin/env bash
# The published models through this program and through their public implementations, on 20 pictures: largest
# difference of a logit, and whether the captions are the same.
#   published.sh FOLDER [option of published.py]...
# FOLDER/models/NAME/     config.json and safetensors of a published Florenz or Florence-2, as downloaded
# FOLDER/pictures/        JPEG, PNG or WebP files; the first 20 by name are taken
# FOLDER/tokenizer.json   Florence-2's; without it the prompt is a few made-up ids
# FOLDER/authors/         a checkout of the authors' repository; without it Florenz models are held against
#                         florenz_reference.py. Their code wants an old `transformers`: PYTHON names an
#                         interpreter that has it, and AUTHORS_PYTHON one for Florenz folders alone.
# FLORENZ is the program, by default build/release/florenz, with a launcher before it if wanted
# (FLORENZ="mpirun -n 8 build/release/florenz"). The comparison takes the memory of two fp32 copies of a model.
# Exit code: 0 all within the bound, 1 one beyond it, 2 one could not be compared, 64 bad usage.
set -u
here=$(cd "$(dirname "$0")" && pwd)
usage() {
    echo "usage: published.sh FOLDER [option of published.py]...   (see the head of this file)" >&2
    exit 64
}
if [ $# -lt 1 ] || [ ! -d "$1/models" ] || [ ! -d "$1/pictures" ]; then usage; fi
folder=$(cd "$1" && pwd)
shift
florenz=${FLORENZ:-$here/../../build/release/florenz}
python=${PYTHON:-$here/.env/bin/python}
"$python" -c 'import torch, transformers, safetensors, PIL' || {
    echo "published.sh: $python lacks a package; tests/reference/environment makes .env, or set PYTHON" >&2
    exit 64
}
work=$(mktemp -d "${TMPDIR:-/tmp}/fz-published-XXXXXX")
trap 'rm -rf "$work"' EXIT
options=()
[ ! -f "$folder/tokenizer.json" ] || options+=(--tokenizer "$folder/tokenizer.json")
printf '%-32s %-10s %8s %8s %12s %12s %12s %11s %7s\n' \
    model against pictures places "worst logit" "mean" "text mean" "same token" captions
worst=0
for model in "$folder"/models/*/; do
    with=$python
    extra=()
    if [ -d "$folder/authors" ] && grep -qE '"(gemma_config|use_encoder_tokenizer)"' "$model/config.json"; then
        with=${AUTHORS_PYTHON:-$python}
        extra=(--authors "$folder/authors")
    fi
    rc=0
    "$with" -W ignore "$here/published.py" --florenz "$florenz" --model "${model%/}" --pictures "$folder/pictures" \
        --work "$work/$(basename "$model")" "${extra[@]}" "${options[@]}" "$@" 2>"$work/err" || rc=$?
    case $rc in
    0) ;;
    10) rc=1 ;;
    *) tail -n 3 "$work/err" >&2; rc=2 ;;
    esac
    [ $rc -le $worst ] || worst=$rc
    rm -rf "${work:?}/$(basename "$model")"
done
exit $worst
