#!/bin/sh
# `quern diff`: what is equal is told to be, an error planted in one kernel is named, and mistakes.
command='diff'
. "$SRCDIR/tests/command.sh"

are_equal()
{
    exits 0 "$@" && mentions out.tmp '^No difference beyond rounding in [1-9][0-9]* nodes, [1-9][0-9]* fused steps and the whole run'
}
# Edits FILE of the kernels by a sed command and expects `quern diff` to report WHAT.
is_found()
{
    what=$1
    file=$2
    edit=$3
    shift 3
    rm -rf edited
    mkdir edited
    sed "$edit" "$SRCDIR/cl/$file" >edited/"$file"
    ! cmp -s "$SRCDIR/cl/$file" edited/"$file" || {
        echo "nothing was edited"
        return 1
    }
    exits 1 , ,cl=edited "$@" && mentions out.tmp "$what"
}
has_all()
{
    for line in 'element   \[' 'inputs    f32 \[2,33,72\], f32 \[72\], f32 \[72\]' 'built by .*gpt_graph.c:' 'A         ,: .*driver' \
        'B         ,cl=edited: .*driver' 'rows: norm of norm.cl' 'again     quern diff , ,cl=edited$'; do
        mentions out.tmp "$line" || return 1
    done
}
# Of A, and so by A's edited kernels: B's are right.
is_found_in_a()
{
    exits 1 ,cl=edited , && mentions out.tmp '^differs   fused step of A: matmul, transformer.h.0.mlp.c_fc (add), gelu$'
}
is_json()
{
    exits 1 , ,cl=edited --json || return 1
    for line in '"differs": "fused step of B"' '"what": "matmul, transformer.h.0.mlp.c_fc (add), gelu"' '"output": "f32 \[2,33,250\]"' \
        '"element": "\[' '"ulps": [1-9]' '"command": "quern diff , ,cl=edited --json"' '"kernels": "gemm_cpu of gemm_cpu.cl"'; do
        mentions out.tmp "$line" || return 1
    done
}

check "a device equals itself" are_equal , ,
check "... in bf16" are_equal , , --dtype bf16 --batch 1 --context 17
check "kernels for CPUs equal those for GPUs" are_equal ,caps=class=cpu ,caps=class=gpu:subgroups=0:local_memory=32768
check "other products of matrices" are_equal ,gemm=own ,gemm=own,variant=tiled

check "an error in a kernel of forward" is_found '^differs   node: transformer.h.0.ln_1 (layer_norm)$' norm.cl 's|/ width - mean_d|/ (width - 1) - mean_d|'
check "... with all that a vendor needs" has_all
check "... of backward" is_found '^differs   node: layer_norm_backward$' norm.cl 's|IF_CENTERED(-g) - v \* gv)|IF_CENTERED(-g) - v * gv * 1.01f)|'
check "... of backward, that loses a row" is_found '^differs   node: embedding_backward$' embedding.cl 's|at < count; at++|at + 1 < count; at++|'
check "... of the loss, in f16" is_found '^differs   node: cross_entropy' cross_entropy.cl 's|log_sum\[row\] = m + log_of_sum|log_sum[row] = m + 1.01f * log_of_sum|' --dtype f16
check "... of the optimizer" is_found '^differs   node: adamw$' adamw.cl 's|rest2 \* g \* g|rest2 * g * g * 1.01f|'
check "... of a product" is_found '^differs   node: matmul$' gemm_cpu.cl 's|uint depth = min(k_block, k - k_begin);|uint depth = min(k_block, k - k_begin) - 1;|'
# What is left of a row behind whole vectors: of 8, rows of 250 numbers have such a rest, those of 72 have none.
export QUERN_CAPS=float_width=8
check "... of what follows a product in its kernel" is_found '^differs   fused step of B: matmul, transformer.h.0.mlp.c_fc (add), gelu$' gemm_cpu.cl \
    's|FUSED(v, row, j, end);|FUSED(v, 0 * row, j, end);|'
check "... as JSON" is_json
check "... on the side of A" is_found_in_a
unset QUERN_CAPS

check "one setting" usage_error 'expected two settings' ,
no_variant()
{
    exits 1 , ,variant=nowhere && mentions err.tmp 'no operation of the model has the variant'
}
check "a variant that there is not" no_variant
check "three settings" usage_error 'expected two settings' , , ,
check "a key that there is not" usage_error 'there is no key "kernels"; there are caps, cl, gemm and variant' , ,kernels=x
check "a key without a value" usage_error '"caps" has no value' , ,caps
no_folder()
{
    exits 1 , ,cl=nowhere && mentions err.tmp ',cl=nowhere: QUERN_CL_DIR: nowhere: No such file'
}
no_model()
{
    exits 1 , , --model nowhere && mentions err.tmp 'nowhere'
}
no_device()
{
    exits 1 nosuch , && mentions err.tmp 'nosuch'
}
check "a folder of kernels that there is not" no_folder
check "a model that there is not" no_model
check "a device that there is not" no_device
done_testing
