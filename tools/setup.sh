# shellcheck shell=bash disable=SC2034
# Sourced by launch/demo and tests/run: what the build needs, found or installed. Not run by itself.
#
# As root on Debian or Ubuntu missing packages are installed by name. Without root the package
# manager is never called: what modules, pkg-config and PATH offer is used, and a table says what
# is found, missing or off, with what to ask for.

# need | what it is | how it is found (pc:NAME or cmd:NAME or sp:NAME) | Debian/Ubuntu package | module
fz_needs='
required|C compiler|cmd:cc|gcc|gcc
required|C++ compiler|cmd:c++|g++|gcc
required|CMake >= 3.22|cmd:cmake|cmake|cmake
required|Ninja|cmd:ninja|ninja-build|ninja
required|pkg-config|cmd:pkg-config|pkg-config|pkgconf
required|MPI (Open MPI)|cmd:mpicc|libopenmpi-dev openmpi-bin|openmpi
required|HDF5 (serial)|pc:hdf5-serial,hdf5|libhdf5-dev|hdf5
required|CBLAS|pc:openblas,cblas|libopenblas-dev|openblas
required|libyaml|pc:yaml-0.1|libyaml-dev|libyaml
required|jansson|pc:jansson|libjansson-dev|jansson
required|libarchive|pc:libarchive|libarchive-dev|libarchive
required|libjpeg-turbo|pc:libjpeg|libjpeg-dev|libjpeg-turbo
required|hwloc|pc:hwloc|libhwloc-dev|hwloc
optional|PNG|pc:libpng|libpng-dev|libpng
optional|WebP|pc:libwebp|libwebp-dev|libwebp
optional|SentencePiece|pc:sentencepiece|libsentencepiece-dev|sentencepiece
optional|PCRE2|pc:libpcre2-8|libpcre2-dev|pcre2
optional|ISA-L (fast CRC)|pc:libisal|libisal-dev|isa-l
optional|gnuplot (plots)|cmd:gnuplot|gnuplot-nox fonts-dejavu-core|gnuplot
'
fz_test_needs='
required|cmocka|pc:cmocka|libcmocka-dev|cmocka
optional|shellcheck|cmd:shellcheck|shellcheck|shellcheck
optional|clang (libFuzzer)|cmd:clang|clang|llvm
optional|h5py|py:h5py|python3-h5py|py-h5py
optional|HDF5 tools|cmd:h5ls|hdf5-tools|hdf5
optional|Slurm|cmd:slurmctld|slurmctld slurmd slurm-client munge|slurm
'

fz_found() { # how
    case "$1" in
    cmd:*) command -v "${1#cmd:}" >/dev/null 2>&1 ;;
    py:*) python3 -c "import ${1#py:}" >/dev/null 2>&1 ;;
    pc:*)
        command -v pkg-config >/dev/null 2>&1 || return 1
        local name
        for name in $(printf '%s' "${1#pc:}" | tr ',' ' '); do
            pkg-config --exists "$name" 2>/dev/null && return 0
        done
        return 1
        ;;
    esac
}

fz_can_install() {
    [ "$(id -u)" = 0 ] && [ "${FZ_NO_INSTALL:-0}" != 1 ] && command -v apt-get >/dev/null 2>&1
}

fz_table() { # needs
    local kind what how packages module state
    printf '  %-9s %-18s %-9s %s\n' state what need 'ask for'
    printf '%s\n' "$1" | while IFS='|' read -r kind what how packages module; do
        [ -n "$kind" ] || continue
        if fz_found "$how"; then
            printf '  %-9s %-18s %-9s\n' found "$what" "$kind"
        else
            state=missing
            [ "$kind" = optional ] && state=off
            printf '  %-9s %-18s %-9s module load %s, or as root: apt-get install %s\n' \
                "$state" "$what" "$kind" "$module" "$packages"
        fi
    done
}

# Installs or reports. 0: everything required is there; 1: the table has been printed.
fz_setup() { # needs
    local kind what how packages module missing='' lacking=''
    while IFS='|' read -r kind what how packages module; do
        [ -n "$kind" ] || continue
        fz_found "$how" && continue
        missing="$missing $packages"
        [ "$kind" = required ] && lacking="$lacking $what,"
        : "$module"
    done <<LIST
$1
LIST
    [ -n "$missing" ] || return 0
    if fz_can_install; then
        echo "setup: installing$missing"
        local log=/tmp/florenz-setup.$$.log package
        export DEBIAN_FRONTEND=noninteractive
        fz_quietly 'setup (package lists)' "$log" apt-get update -qq || true
        # shellcheck disable=SC2086
        if ! fz_quietly setup "$log" apt-get install -y -qq --no-install-recommends $missing; then
            # One optional package that a distribution lacks must not stop the others.
            for package in $missing; do
                echo "setup: installing $package"
                fz_quietly setup "$log" apt-get install -y -qq --no-install-recommends "$package" ||
                    echo "setup: $package is not to be had"
            done
        fi
        lacking=''
        while IFS='|' read -r kind what how packages module; do
            [ "$kind" = required ] && ! fz_found "$how" && lacking="$lacking $what,"
        done <<LIST
$1
LIST
    else
        echo "setup: not installing anything (no root, or no apt-get); this is what there is:"
        fz_table "$1"
    fi
    if [ -n "$lacking" ]; then
        echo "setup: cannot build without:${lacking%,}" >&2
        return 1
    fi
    return 0
}

# Runs a command with its output in a log, printing a line every 15 s so that nobody waits in doubt.
fz_quietly() { # what logfile command...
    local what=$1 log=$2 started pid rc
    shift 2
    started=$(date +%s)
    "$@" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 1
        done
        kill -0 "$pid" 2>/dev/null &&
            echo "$what: still at it, $(($(date +%s) - started)) s: $(tail -n 1 "$log" | cut -c1-80)"
    done
    rc=0
    wait "$pid" || rc=$?
    if [ "$rc" != 0 ]; then
        tail -n 40 "$log" >&2
        echo "$what: failed (exit $rc); the whole log is $log" >&2
    fi
    return "$rc"
}

fz_build() { # root preset [target]
    local root=$1 preset=$2 target=${3:-all}
    mkdir -p "$root/build"
    [ -f "$root/build/$preset/build.ninja" ] || echo "configure: cmake --preset $preset"
    (cd "$root" && fz_quietly configure "build/configure-$preset.log" cmake --preset "$preset") || return 1
    grep -E '^-- [A-Za-z]+: off' "$root/build/configure-$preset.log" || true
    echo "build: cmake --build build/$preset --target $target"
    (cd "$root" && fz_quietly build "build/build-$preset.log" \
        cmake --build "build/$preset" --target "$target")
}
