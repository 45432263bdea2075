#!/bin/sh
# Compiles the kernels of small models for GPUs that need not be here, and holds what they take there against tests/offline.txt.
#
#   tools/check-offline.sh BUILD [TARGET...]     the folder of a build; all targets, or those named
#   UPDATE=1 tools/check-offline.sh BUILD        writes the list anew
#
# A line of the list is a target, a kernel, and the most that it takes in any variant: registers of a work-item, bytes of local memory, bytes
# of a work-item's memory that registers had no room for.  What is less is better, and asks for a new list; what is more, or is
# not listed, has failed.  AMD: clang and ROCm's device libraries.  NVIDIA: clang and libclc, then the ptxas that PTXAS
# names or PATH has; without one only what clang has put into memory is known ("-").  Intel: ocloc.
set -eu

targets='gfx906 gfx90a gfx1030 gfx1100 sm_70 sm_80 sm_90 tgllp dg2 pvc'
clang='clang-15 -x cl -cl-std=CL1.2 -O3 -cl-mad-enable -cl-no-signed-zeros -Xclang -finclude-default-header -Wno-everything'
rocm=/usr/lib/x86_64-linux-gnu/amdgcn/bitcode

# ---- The sources ----

# Models whose every kernel is dumped: each takes one step, in each kind of training that has kernels of its own.
sources()
{
    mkdir -p "$work/sources"
    export QUERN_DUMP_CL="$work/sources" QUERN_CACHE_DIR="$work/cache" POCL_CACHE_DIR="$work/cache/pocl"
    mkdir -p "$POCL_CACHE_DIR"
    # One unit, so that small products have the tiles of large ones; fp16 and sub-groups that no kernel may rely on are not there.
    export QUERN_CAPS=class=gpu,local_memory=32768,fp16=0,subgroups=0,compute_units=1
    cd "$work"
    awk 'BEGIN { for (i = 0; i < 2000; i++) print "the quick brown fox", i, "jumps over the lazy dog", i * i }' >text
    awk '{ print NR % 2 ? "odd" : "even", "\t", $0 }' OFS= text >labels.tsv
    train gpt --data text --width 256 --heads 4 --layers 2 --context 128 --batch 8 --dropout 0.1
    train gpt --data text --width 256 --heads 2 --layers 2 --context 128 --batch 8 --dtype bf16
    train gpt --data text --width 256 --heads 8 --layers 2 --context 128 --batch 8 --dtype f16
    train llama --data text --width 256 --heads 4 --layers 2 --context 128 --batch 8
    for cell in rnn lstm gru; do
        train $cell --data text --width 128 --units 128 --layers 2 --context 64 --batch 32
    done
    train classify --data labels.tsv --model lstm
    train seq2seq --source text --target text --attention additive
    train seq2seq --source text --target text --attention general --model gru
    train transformer --source text --target text --width 256 --heads 4 --inner 512 --layers 2
    for optimizer in sgd adam rmsprop adagrad adafactor muon; do
        train gpt --data text --width 128 --heads 2 --layers 1 --context 64 --batch 4 --optimizer $optimizer
    done
    for model in gpt-1 llama-4 lstm-6; do
        "$build/quern" generate $model --tokens 4 --quiet >/dev/null
    done
    head -n 2 text | "$build/quern" translate transformer-11 --quiet --max-length 4 >/dev/null
}

runs=0
train()
{
    runs=$((runs + 1))
    "$build/quern" train "$@" --out "$1-$runs" --steps 1 --quiet --eval-every 0
}
