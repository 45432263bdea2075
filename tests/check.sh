#!/bin/sh
# `quern check`: TAP that is well formed, rows that are wrong or do not compile, and mistakes.  tests/ops-*.sh run all rows.
command='check'
. "$SRCDIR/tests/command.sh"
mkdir wrong broken deadly
sed 's|sum += |sum += 0.01f + |' "$SRCDIR/cl/softmax.cl" >wrong/softmax.cl
sed 's|float all = |dx[-100000000000] = 1.0f; float all = |' "$SRCDIR/cl/softmax.cl" >deadly/softmax.cl
sed 's|kernel void|kernel viod|' "$SRCDIR/cl/softmax.cl" >broken/softmax.cl

# Numbered tests, comments, and the plan at the end, as many as the summary says.
is_tap()
{
    awk '/^#/ { next }
        /^1\.\.[0-9]+$/ { plan = substr($0, 4); next }
        plan != "" || !/^(not )?ok [0-9]+ (- |# SKIP )/ { print "no TAP: " $0; bad = 1; next }
        { sub(/^not /, ""); if ($2 != ++count) { print "number " $2 ", not " count; bad = 1 } }
        END { exit bad || count == 0 || plan != count }' out.tmp &&
        mentions err.tmp ", driver .*: $(grep -c -E '^(not )?ok ' out.tmp) tests, $(grep -c '^not ok ' out.tmp) failed\$"
}
passes()
{
    exits 0 --op softmax && is_tap && ! grep -v -e '^ok ' -e '^# ' -e '^1\.\.' out.tmp
}
has_both()
{
    exits 0 --op relu softmax_first --chosen --dtype f32 && is_tap && mentions out.tmp '^ok [0-9]* - relu ' && mentions out.tmp '^ok [0-9]* - softmax_first '
}
only_gradients()
{
    exits 0 --op softmax --grad --as-is && mentions out.tmp 'gradient of 0: error' && ! grep 'rows: error' out.tmp
}
# A CPU transposes without tiles, which are for GPUs.
only_the_chosen()
{
    exits 0 --op flips --dtype f32 && mentions out.tmp '^ok [0-9]* - flips f32 .* tiled: error [^,]*, allowed [^,]*$' &&
        exits 0 --op flips --dtype f32 --chosen && mentions out.tmp '^ok [0-9]* - flips f32 .* cpu: error' &&
        ! grep -v class=gpu out.tmp | grep tiled
}
only_as_it_is()
{
    exits 0 --op flips --dtype f32 --as-is && is_tap && ! grep 'QUERN_CAPS="[^"]' out.tmp || return 1
    QUERN_CAPS=float_width=1 exits 0 --op flips --dtype f32 --as-is && [ "$(grep -c 'QUERN_CAPS="[^"]' out.tmp)" = 1 ]
}
is_reported()
{
    QUERN_CL_DIR=wrong exits 1 --op softmax --gemm own --seed 7 --as-is && is_tap || return 1
    for line in '^not ok 1 - softmax f32 3x5x37 rows: error [0-9.]*e-0[1-9], allowed 1.0e-06' '^# at \[[0-9,]*\]: found [-0-9.e]*, expected [-0-9.e]*$' \
        '^# variant rows, kernels softmax of softmax.cl$' "^# again: QUERN_CL_DIR='wrong' quern check .*--gemm own --op softmax --dtype f32 --seed 7\$"; do
        mentions out.tmp "$line" || return 1
    done
}
# Products of other operations are rounded, too; what is pretended has no instructions for matrices.
allows_for_tf32()
{
    QUERN_CAPS=class=gpu,subgroups=0,matrix=emulated POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable \
        exits 0 --op rnn --chosen --dtype f32 --gemm tf32 && is_tap && mentions out.tmp '^ok [0-9]* - rnn .*, allowed [^,]*e-03' &&
        mentions out.tmp 'matrix=none"$'
}
# softmax and layer_norm share a plan.
loses_no_others()
{
    QUERN_CL_DIR=broken exits 1 --op softmax layer_norm --as-is && is_tap &&
        mentions out.tmp '^not ok 1 - softmax 3x5x37: it cannot be run$' && mentions out.tmp '^# softmax.cl does not compile' &&
        mentions out.tmp '^ok [0-9]* - layer_norm ' && ! grep '^not ok [0-9]* - layer_norm' out.tmp
}
# On a CPU the driver, and all of its process, dies of a write outside of memory; the rows before and after are tested all the same.
survives_deaths()
{
    QUERN_CL_DIR=deadly exits 1 --op softmax layer_norm --dtype f32 --as-is && is_tap &&
        mentions out.tmp '^# rows: the driver ended the process: signal 11 ' &&
        mentions out.tmp '^not ok 1 - softmax: the driver ended the process: signal 11 ' &&
        mentions out.tmp '^ok [0-9]* - layer_norm ' && ! grep '^not ok [0-9]* - layer_norm' out.tmp
}
# A source of its own for each set of macros; and a folder that is not there is told.
is_dumped()
{
    mkdir sources
    QUERN_DUMP_CL=sources exits 0 --op softmax --dtype f32 --as-is && grep -q 'kernel void softmax(' sources/softmax-*.cl &&
        QUERN_DUMP_CL=nowhere exits 1 --op softmax --dtype f32 && mentions out.tmp '^# QUERN_DUMP_CL: cannot write nowhere/.*: No such file'
}
is_listed()
{
    exits 0 --list && mentions out.tmp '^rows softmax$' && mentions out.tmp '^matmul matmul_ta$' || return 1
    exits 0 --list --op softmax argmax_last --dtype bf16 && [ "$(cat out.tmp)" = 'rows softmax' ]
}
unknown_row()
{
    exits 2 --op softmux && mentions err.tmp 'there is no "softmux"'
}
unknown_device()
{
    exits 1 --device nosuch && mentions out.tmp '^Bail out! no device "nosuch"'
}
bad_tuning()
{
    echo nothing >bad.tuning
    QUERN_TUNING=bad.tuning exits 1 --op softmax && mentions out.tmp '^Bail out! tuning file bad.tuning, line 1: '
}
no_device()
{
    exits 1 --device none && mentions out.tmp '^Bail out! no device'
}

# The macros of a source end with it, and so would those of cl/common.cl that had the same name as one of its macros or functions.
macros_of()
{
    sed -n 's/^ *# *define *\([A-Za-z_0-9]*\).*/\1/p' "$1"
}
takes_no_name()
{
    macros_of "$SRCDIR/cl/common.cl" | sort -u >common.tmp
    for source in "$SRCDIR"/cl/*.cl; do
        [ "${source##*/}" != common.cl ] || continue
        {
            macros_of "$source"
            sed -n 's/^\(static \)\{0,1\}inline .*[ *]\([a-zA-Z_0-9]*\)(.*/\2/p' "$source"
        } | sort -u | comm -12 - common.tmp | sed "s|^|${source##*/}: |"
    done >taken.tmp
    [ -s common.tmp ] && ! grep . taken.tmp
}
check "no source takes a name of cl/common.cl" takes_no_name
check "rows that are right" passes
check "several rows" has_both
check "gradients only" only_gradients
check "chosen variants only" only_the_chosen
check "no pretences" only_as_it_is
check "sources for another compiler" is_dumped
check "a row that is wrong, with all that a vendor needs" is_reported
check "products that are rounded to TF32" allows_for_tf32
check "a kernel that does not compile loses no other row" loses_no_others
if "$quern" devices | grep -A3 '^\*' | grep -q 'class *CPU'; then
    check "a driver that dies loses no other row" survives_deaths
else
    skip "a driver that dies: GPUs do not die of a write outside of memory"
fi
check "the list" is_listed
check "a row that there is not" unknown_row
no_variant()
{
    exits 1 --op softmax --variant cpu && mentions err.tmp '0 tests, 0 failed: no row has such a variant' && [ "$(grep -c '^ok' out.tmp)" = 0 ]
}
check "a variant that no row has" no_variant
check "a device that there is not" unknown_device
check "no device" no_device
check "a bad tuning file" bad_tuning
done_testing
