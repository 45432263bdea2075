#!/bin/sh
# From a fresh machine to a program that runs.
#
#   ./bootstrap.sh         installs what is missing and builds build/quern
#   ./bootstrap.sh demo    then trains a small GPT for two minutes, and lets it write
#   ./bootstrap.sh demo translate
#                          trains an English-German Transformer for five minutes instead, on descriptions of Debian's packages
#   ./bootstrap.sh check   then runs all tests
#   ./bootstrap.sh check-drivers
#                          then runs tests on Intel's runtime and on Rusticl too, on devices that pretend to
#                          have less, under sanitizers and under oclgrind
#   ./bootstrap.sh check-offline
#                          then compiles kernels for ten GPUs of AMD, Intel and NVIDIA, none of which need be here
#
# Packages are installed by apt, as root or through sudo.  On systems without apt it only names what is missing.
set -eu

# Debian's name, and what it is for.  What stands here and is not installed gets installed; of names with a bar between them, the first
# that there is.
packages='
gcc                 compiles C
libc6-dev           headers of C
make                runs the build
autoconf            makes ./configure
automake            makes Makefile.in
libtool             builds the shared library
pkg-config          finds the libraries
ocl-icd-opencl-dev  the OpenCL loader
opencl-headers      headers of OpenCL
libclblast-dev      matrix multiplication on GPUs
libjansson-dev      JSON
libpcre2-dev        patterns of tokenizers
libutf8proc-dev     Unicode
libdw-dev           places in the source, for --detect-anomaly
pocl-opencl-icd     OpenCL on the CPU: a device for every machine
'
demo_packages='
bible-kjv           the text to train on
'
driver_packages='
mesa-opencl-icd     Rusticl on llvmpipe: stands in for a GPU
oclgrind            finds races and bad accesses of kernels
python3-venv        fetches the runtime of Intel
'
offline_packages='
clang-19            compiles kernels for AMD and NVIDIA
rocm-device-libs|rocm-device-libs-17    what kernels call on AMD
libclc-15-dev|libclc-19-dev             what kernels call on NVIDIA
intel-opencl-icd    ocloc, which compiles kernels for Intel
'
libraries='OpenCL clblast jansson libpcre2-8 libutf8proc'

usage()
{
    sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

say()
{
    printf '\n== %s\n' "$*"
}

die()
{
    printf 'bootstrap.sh: %s\n' "$*" >&2
    exit 1
}

# ---- Packages ----

is_installed()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root()
{
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# Runs apt-get, asking nothing; what it prints is shown if it fails.
apt()
{
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" \
        </dev/null >build/apt.log 2>&1; then
        tail -n 30 build/apt.log >&2
        return 1
    fi
}

# The first of names with a bar between them that is installed or that apt knows; the last if it knows none.
choose_name()
{
    for name in $(echo "$1" | tr '|' ' '); do
        if is_installed "$name" || apt-cache show "$name" >/dev/null 2>&1; then
            break
        fi
    done
    echo "$name"
}

# Which of the given "name  reason" lines are missing.
find_missing()
{
    missing=
    reasons=
    while read -r name reason; do
        case $name in
        *'|'*) name=$(choose_name "$name") ;;
        esac
        if [ -n "$name" ] && ! is_installed "$name"; then
            missing="$missing $name"
            reasons="$reasons$(printf '   %-20s%s' "$name" "$reason")
"
        fi
    done <<EOF
$1
EOF
}

# Installs them.
install_packages()
{
    find_missing "$1"
    [ -n "$missing" ] || return 0

    say "Installing by apt:"
    printf '%s' "$reasons"
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "not root, and there is no sudo.  As root: apt-get install$missing"
    fi
    # Lists of packages that are absent or old name files that the mirror does not have.
    # shellcheck disable=SC2086
    apt install --no-install-recommends $missing 2>/dev/null || {
        apt update || die "apt-get update failed"
        find_missing "$1"
        apt install --no-install-recommends $missing || die "apt-get install$missing failed"
    }
}

# Where there is no apt: says what is missing.
name_packages()
{
    missing=
    for tool in cc make autoconf automake libtoolize pkg-config; do
        command -v "$tool" >/dev/null || missing="$missing $tool"
    done
    for library in $libraries; do
        pkg-config --exists "$library" 2>/dev/null || missing="$missing $library"
    done
    [ -z "$missing" ] && return
    printf 'There is no apt-get here.  Missing:%s\n' "$missing" >&2
    printf 'Please install these, by your names for them:\n%s' "$packages" >&2
    exit 1
}

need()
{
    if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
        install_packages "$1"
    else
        name_packages
    fi
}

# ---- Building ----

# Runs a command, keeping what it prints in a log, which is shown if it fails.
logged()
{
    log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null || {
        tail -n 40 "$log" >&2
        die "failed: $*  (all of it: $log)"
    }
}

configure_in_build()
{
    ../configure --quiet
}

configure_sanitized()
{
    ../../configure --quiet --enable-sanitizers CFLAGS=-O1
}

build()
{
    if [ ! -f configure ]; then
        say "Making configure"
        logged build/autoreconf.log autoreconf --install
    fi
    if [ ! -f build/Makefile ]; then
        say "Configuring in build/"
        (cd build && logged configure.log configure_in_build)
    fi
    make -s -C build -j "$cores" || die "the build failed"
}

# ---- The demo ----

# Shows a command as it would be typed, and runs it.
show()
{
    line='  '
    for word in "$@"; do
        case $word in
        *' '*) line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    echo "$line"
    echo
    "$@"
}

# The value of key $1 in the JSON objects of the log, one a line.
logged_values()
{
    sed -n "s/.*\"$1\": *\([-+.0-9eE]*\).*/\1/p" "$log_file"
}

demo()
{
    text=build/bible.txt
    run=build/demo
    log_file=$run/log.jsonl

    if ! command -v bible >/dev/null; then
        need "$demo_packages"
    fi
    command -v bible >/dev/null || die "there is no program \"bible\" (Debian: bible-kjv)"
    if [ ! -s "$text" ]; then
        bible -f gen1:1-rev22:21 >"$text.new"
        mv "$text.new" "$text"
    fi

    say "Training a small GPT, letter by letter, for two minutes on the King James Bible:"
    rm -rf "$run"
    # More steps than two minutes allow: the clock ends the run.
    show build/quern train gpt --data "$text" --out "$run" --tokenizer char --time 2m \
        --steps 50k --log "$log_file"

    say "What it writes:"
    show build/quern generate "$run" --tokens 400 --samples 2 --prompt 'And the LORD '

    say "What happened"
    logged_values loss | awk '
        NR == 1 { first = $1 }
        { last = $1 }
        END { printf "   loss             %.3f at first, %.3f after %d steps\n", first, last, NR }'
    logged_values valid_loss | awk '
        NR == 1 || $1 < best { best = $1 }
        END { if (NR) printf "   validation loss  %.3f at best, on text that it never saw\n", best }'
    logged_values tokens_per_second | awk '
        { sum += $1 }
        END { if (NR) printf "   speed            %.0f tokens/s\n", sum / NR }'
    echo "   model folder     $run  (Hugging Face's form: other programs load it)"
    echo "   log              $log_file"
    echo "Go on with:"
    echo "   build/quern generate $run --prompt 'In the beginning'"
    echo "   build/quern train gpt --out $run --resume --time 10m"
}

demo_translate()
{
    data=build/descriptions
    run=build/demo-translate
    log_file=$run/log.jsonl

    command -v apt-get >/dev/null || die "the texts come from the package lists of Debian, which there are none of here"
    if [ ! -s "$data/train.de" ]; then
        say "Fetching descriptions of Debian's packages, in English and German:"
        tools/debian-descriptions.sh "$data"
    fi
    echo "   $(wc -l <"$data/train.en") pairs to train on, $(wc -l <"$data/test.en") to test"

    say "Training a small Transformer to translate them, for five minutes:"
    rm -rf "$run"
    show build/quern train transformer --source "$data/train.en" --target "$data/train.de" \
        --valid-source "$data/valid.en" --valid-target "$data/valid.de" --out "$run" --layers 2 --width 128 --inner 256 \
        --warmup 400 --eval-every 400 --time 5m

    say "What it makes of descriptions that it never saw:"
    build/quern translate "$run" --data "$data/test.en" --attention "$run/attention.svg" >"$run/found.de"
    show build/quern score bleu --reference "$data/test.de" "$run/found.de"
    paste "$data/test.en" "$data/test.de" "$run/found.de" | head -n 8 |
        awk -F '\t' '{ printf "\n   %s\n   right: %s\n   found: %s\n", $1, $2, $3 }'

    say "What happened"
    logged_values valid_bleu | awk '
        NR == 1 || $1 > best { best = $1 }
        END { if (NR) printf "   BLEU             %.1f at best, while training\n", best }'
    echo "   model folder     $run  (a MarianMTModel of Hugging Face)"
    echo "   attention        $run/attention.svg, of the first line"
    echo "Many descriptions are alike, so that BLEU is higher than text of other kinds would have."
    echo "Go on with:"
    echo "   echo 'shared library for fast images' | build/quern translate $run"
    echo "   build/quern train transformer --out $run --resume --time 30m"
}

# ---- The tests ----

check()
{
    say "Running all tests (those that pass are not shown)"
    rm -f build/check.passed
    { make -s -C build -j "$cores" check 2>&1 && : >build/check.passed; } | grep -v '^PASS:' || true
    [ ! -f build/check.passed ] || return 0

    say "What failed (all of it: build/tests/*.log)"
    for log in build/tests/*.log; do
        grep -qE '^(not ok|Bail out!)' "$log" || continue
        echo "$log:"
        grep -E -A 5 '^(not ok|Bail out!)' "$log" | grep -v '^ok'
    done
    exit 1
}

check_drivers()
{
    need "$driver_packages"
    say "Fetching Intel's OpenCL runtime into build/intel/"
    mkdir -p build/drivers
    rm -f build/drivers/intel.trs
    tools/intel-opencl.sh build/intel &
    intel=$!
    say "Building the tests, and in build/sanitized/ those that run with sanitizers"
    logged build/tests.log make -s -C build -j "$cores" check TESTS=
    mkdir -p build/sanitized
    [ -f build/sanitized/Makefile ] || (cd build/sanitized && logged configure.log configure_sanitized)
    # shellcheck disable=SC2046 # words
    logged build/sanitized/tests.log make -s -C build/sanitized -j "$cores" $(tools/check-drivers.sh --sanitized)
    wait "$intel" || {
        rm -rf build/intel/env
        say "Intel's runtime cannot be fetched: what would run on it is SKIPPED"
        echo ':test-result: SKIP there is no runtime of Intel' >build/drivers/intel.trs
    }
    say "Running tests on other drivers and under checkers (all of it: build/drivers/*.log)"
    tools/check-drivers.sh build
}

check_offline()
{
    need "$offline_packages"
    say "Compiling kernels for GPUs that need not be here"
    mkdir -p build/drivers
    echo ':test-result: FAIL' >build/drivers/offline.trs
    make -s -C build tests/offline || exit 1
    tools/check-offline.sh build || exit 1
    echo ':test-result: PASS' >build/drivers/offline.trs
}

# ---- All together ----

cd "$(dirname "$0")"
case $* in
'' | demo | 'demo translate' | check | check-drivers | check-offline) ;;
*) usage ;;
esac

cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
mkdir -p build
need "$packages"
build
case $* in
demo) demo ;;
'demo translate') demo_translate ;;
check) check ;;
check-drivers) check_drivers ;;
check-offline) check_offline ;;
*) echo "Built: build/quern  (try: build/quern devices, or ./bootstrap.sh demo)" ;;
esac
