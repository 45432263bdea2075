#!/bin/sh
# Runs tests on other drivers than the default one, on devices that pretend to be smaller, and under checkers.
#
#   tools/check-drivers.sh BUILD         the folder of a build whose tests are made (make check TESTS=)
#   tools/check-drivers.sh --sanitized   prints what must have been made in its folder sanitized/
#
# `./bootstrap.sh check-drivers` installs what this needs: PoCL, Rusticl, Intel's runtime, oclgrind.  What each run printed is in
# BUILD/drivers/*.log; a run that finds no device has failed.
set -eu

floor=local_memory=32768,max_work_group=64,fp16=0,subgroups=0

# A name, which begins with the driver or checker; QUERN_CAPS; the test, or quern, and its arguments.  What takes longest comes first.
runs()
{
    cat <<END
intel-operations         - quern check --dtype f32 --chosen --as-is
intel-gpu-16-bits        class=gpu quern check --dtype f16 --chosen --as-is --op shape reduce rows positions choose matmul_ta matmul_tb matmul_shared linear attention recurrent
pocl-gpu-f32             class=gpu,$floor quern check --dtype f32 --chosen --as-is --op shape reduce choose rows adamw recurrent matmul attention
pocl-variants            - quern check --dtype f32 --op shape reduce choose rows recurrent matmul_tb attention_causal
intel-gpu-golden         class=gpu,$floor golden.t
intel-gpu-training       class=gpu,$floor training.t
intel-gpu-models         class=gpu golden_models.t
intel-gpu-matrix         class=gpu,subgroups=0,matrix=emulated quern check --dtype f16 --op matmul_tb matmul_ta epilogue --variant matrix
intel-gpu-subgroups-8    class=gpu quern check --dtype f32 --op matmul matmul_tb --variant subgroup
intel-gpu-subgroups-16   class=gpu,subgroup_size=16 quern check --dtype bf16 --op matmul_tb matmul_tab matmul_batch_tb epilogue_tb matmul_kept_ta linear --variant subgroup
intel-floor-golden       $floor golden.t
intel-golden             - golden.t
intel-models             - golden_models.t
intel-recurrent          - golden_rnn.t
intel-seq2seq            - golden_seq2seq.t
intel-gpu-classifier     class=gpu,$floor classifier.t
intel-training           - training.t
intel-device             - device.t
pocl-gpu-models          class=gpu,$floor golden_models.t
pocl-gpu-recurrent       class=gpu,$floor golden_rnn.t
pocl-gpu-seq2seq         class=gpu,$floor golden_seq2seq.t
pocl-gpu-bf16            class=gpu,$floor quern check --dtype bf16 --chosen --as-is --op shape reduce choose rows recurrent matmul attention
pocl-width-1             float_width=1 quern check --dtype f32 --as-is --op one special two two_i32 numbers
pocl-width-16            float_width=16 quern check --dtype f32 --as-is --op one special two two_i32 numbers
pocl-avx512-bf16         matrix=avx512_bf16,local_memory=32768 quern check --dtype bf16 --op matmul --chosen --as-is
pocl-no-matrix           matrix=none quern check --dtype bf16 --op matmul --chosen --as-is
pocl-gpu-matrix          class=gpu,matrix=emulated quern check --dtype bf16 --op matmul_tb epilogue_ta --variant matrix
pocl-gpu-matrix-tf32     class=gpu,subgroups=0,matrix=emulated quern check --dtype f32 --gemm tf32 --as-is --op matmul_ta matmul_tb epilogue_ta --variant matrix
pocl-gpu-tiles           class=gpu,subgroups=0,compute_units=1 quern check --dtype f32 --as-is --op matmul --variant tiled
pocl-gpu-matrix-split    class=gpu,subgroups=0,matrix=emulated quern check --dtype bf16 --as-is --op matmul --variant split
pocl-floor-rows          $floor quern check --op rows --chosen --as-is
sanitized-training       - training.t
sanitized-memory         - faults.t memory
sanitized-lost           - faults.t lost
sanitized-rows           - quern check --op rows --as-is
sanitized-graph          - graph.t
sanitized-plans          - plans.t
sanitized-io             - io.t
sanitized-text           - text.t
sanitized-batches        - batches.t
sanitized-tokenizers     - tokenizers.t
sanitized-config         - config.t
sanitized-data           - data.t
sanitized-corpora        - corpora.t
END
    for rows in device.t $llvmpipe; do
        echo "llvmpipe-${rows%.t}" - "$(case $rows in *.t) echo "$rows" ;; *) echo "quern check --dtype f32 --op $rows" ;; esac)"
    done
    echo llvmpipe-16-bits - quern check --dtype bf16 --op softmax matmul_tb
    for rows in $oclgrind; do
        echo "oclgrind-$rows" - quern check --dtype f32 --op "$rows"
    done
}

# Operations that are tried on llvmpipe, which is slow; and under oclgrind, which is slower.
llvmpipe='shape lstm adamw softmax layer_norm cross_entropy sum_last matmul_tb attention_causal'
oclgrind='special two_i32 transpose concat_first split adamw softmax cross_entropy rotary top_k_values sum_first sum_last argmax_last
matmul_kept_ta gru_lengths lstm_reverse_lengths'

# What Automake's driver would make of a run's TAP.
results()
{
    sed -n -e 's/^ok.*# SKIP.*/:test-result: SKIP/p' -e 's/^ok.*/:test-result: PASS/p' \
        -e 's/^not ok.*/:test-result: FAIL/p' "$1.log"
    if [ -s "$1.races" ]; then
        echo ':test-result: FAIL what oclgrind has found'
    elif [ "$2" != 0 ] && ! grep -q '^not ok' "$1.log"; then
        echo ":test-result: ERROR it ended with $2"
    elif ! grep -q '^1\.\.[1-9]' "$1.log"; then
        echo ':test-result: ERROR no test ran'
    fi
}

# run NAME CAPS TEST [ARGUMENTS], TEST in tests/, or quern itself: leaves NAME.log, .err and .trs in BUILD/drivers.
run()
{
    name=$1
    QUERN_CAPS=${2#-}
    test=tests/$3
    [ "$3" != quern ] || test=quern
    shift 3
    export QUERN_CAPS
    cd "$build/drivers"
    rm -f "$name".*
    case $name in
    intel-*)
        # shellcheck disable=SC1091
        . "$build/intel/env"
        export QUERN_DEVICE=Intel
        ;;
    llvmpipe-*) export QUERN_DEVICE=rusticl ;;
    oclgrind-*) set -- oclgrind --data-races --log "$name.races" "$build/$test" "$@" ;;
    sanitized-*) # PoCL alone: the address sanitizer stops at drivers that are loaded with RTLD_DEEPBIND
        test=sanitized/$test
        # They look at the host's code, so kernels need not be fast.
        export OCL_ICD_VENDORS=/etc/OpenCL/vendors/pocl.icd POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable
        ;;
    pocl-*) # kernels that this device would not choose: what they compute, not how they are compiled
        export OCL_ICD_VENDORS=/etc/OpenCL/vendors/pocl.icd POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable
        ;;
    esac
    [ "${1-}" = oclgrind ] || set -- "$build/$test" "$@"
    began=$(date +%s)
    status=0
    timeout 1200 "$@" >"$name.log" 2>"$name.err" || status=$?
    results "$name" "$status" >"$name.trs"
    failed=$(grep -cE 'FAIL|ERROR' "$name.trs" || true)
    printf '%-26s %5d passed, %d failed, %d skipped, %d s\n' "$name" \
        "$(grep -c PASS "$name.trs" || true)" "$failed" "$(grep -c SKIP "$name.trs" || true)" \
        $(($(date +%s) - began))
    [ "$failed" = 0 ] || {
        grep -E -A 5 '^(not ok|Bail out!)' "$name.log" | grep -v '^ok' | head -n 40
        tail -n 20 "$name.err"
        [ ! -s "$name.races" ] || head -n 20 "$name.races"
        return 1
    }
}

if [ "$1" = --sanitized ]; then
    runs | awk '/^sanitized/ { print $3 == "quern" ? $3 : "tests/" $3 }' | sort -u
    exit
fi
build=$(cd "$1" && pwd)
shift
SRCDIR=$(cd "$(dirname "$0")/.." && pwd)
BUILDDIR=$build
export SRCDIR BUILDDIR
# What sanitizers know as no fault of ours.  Threads of drivers that end while LeakSanitizer looks at their own storage crash it, now and then.
export LSAN_OPTIONS="suppressions=$SRCDIR/tests/lsan.supp:print_suppressions=0:use_tls=0"
# Nothing that was compiled before hides what does not compile now; and the user's caches stay as they are.
export QUERN_CACHE_DIR="$build/drivers/cache" POCL_CACHE_DIR="$build/drivers/cache/pocl"
export MESA_SHADER_CACHE_DIR="$build/drivers/cache/mesa" RUSTICL_ENABLE=llvmpipe

if [ $# -gt 0 ]; then
    run "$@"
    exit
fi
rm -rf "$build/drivers/cache"
mkdir -p "$build/drivers/cache/pocl"
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
without='^$'
[ -e "$build/intel/env" ] || without='^intel-' # it could not be fetched
runs | grep -v "$without" | xargs -P "$cores" -L 1 "$SRCDIR/tools/check-drivers.sh" "$build"
