#!/usr/bin/env bash
# Compares every #include "folder/..." of a folder's sources with tools/layers.txt.
set -eu
cd "$(dirname "$0")/.."
bad=0
while IFS=: read -r folder allowed; do
    case "$folder" in '#'* | '') continue ;; esac
    [ -d "$folder" ] || continue
    while IFS=: read -r file include; do
        to=${include%%/*}
        [ "$to" = "$folder" ] && continue
        case " $allowed " in
        *" $to "*) ;;
        *)
            echo "$file includes $include: $folder may include only:$allowed (tools/layers.txt)"
            bad=1
            ;;
        esac
    done < <(grep -rEo --include='*.[ch]' --include='*.cc' '^#include "[^"]+"' "$folder" |
        sed -E 's/#include "([^"]+)"/\1/')
done < tools/layers.txt
# Only dist/ calls MPI, only launch/ reads the environment.
if grep -rnE --include='*.[ch]' '\bMPI_[A-Z][a-z]|\bMPI_Init|<mpi\.h>' core model data parallel checkpoint launch |
    grep -vE '/\*|\* '; then
    echo "MPI is called outside dist/"
    bad=1
fi
if grep -rnE --include='*.[ch]' '\bgetenv\(' core dist model data parallel checkpoint; then
    echo "the environment is read outside launch/"
    bad=1
fi
exit $bad
