#!/bin/sh
# `quern tune`, and training by what it writes.  Sizes are tiny: nothing here is a measurement.
command='tune'
. "$SRCDIR/tests/command.sh"
QUERN_CAPS=clblast=0 # whose kernels some drivers compile for half a minute
export QUERN_CAPS

tiny='--layers 1 --heads 2 --width 16 --context 16 --batch 4 --warmup 5 --quiet'

tunes()
{
    exits 0 --shapes 8x8x8,32x16x64 --dtype f32 --dtype bf16 --budget 1m -o tiny.tuning || return 1
    for variant in NN NT TN TT; do
        mentions out.tmp "^| matmul bf16 $variant 32x16x64 | 32x16x64 | [a-z_0-9]* | [0-9.e-]* | .* | [-–0-9.e]* | [–0-9.]* | [-–a-z_/0-9., ]* |\$" || return 1
        mentions tiny.tuning "matmul f32 $variant 8x8x8 [a-z_]*[/0-9]*  [0-9.e-]* ms with 8x8x8, .*; tried: " || return 1
    done
    mentions tiny.tuning '^quern tuning 1$' && mentions out.tmp '^Wrote [0-9]* choices' &&
        mentions err.tmp '^product 16 of 16, ' && ! ls tiny.tuning.* 2>/dev/null
}
# A wrong sum of parts: the default, and each choice that uses it, is void; what is right is chosen, faster or not.
goes_on_without_default()
{
    mkdir -p wrong
    sed 's/floatv sum = 0.0f/floatv sum = 1.0f/' "$SRCDIR/cl/gemm_parts.cl" >wrong/gemm_parts.cl
    QUERN_CAPS=class=gpu,clblast=0 QUERN_CL_DIR=wrong exits 1 --shapes 128x128x4096 --budget 5m -o void.tuning --quiet || return 1
    for name in 'split, the default' split/64 split/32; do
        [ "$(grep -c "matmul f32 NN 128x128x4096: $name: result.* is .*, not " err.tmp)" = 1 ] || {
            echo "$name is not told once:"
            cat err.tmp
            return 1
        }
    done
    mentions out.tmp '^| matmul f32 NN 128x128x4096 | 128x128x4096 | split: void | – | tiled/.* | – | .*tiled/32 [0-9.]*x.*split/64 void' &&
        mentions out.tmp 'export QUERN_TUNING=.*/void.tuning$' &&
        mentions void.tuning '^matmul f32 NN 128x128x4096 tiled/[0-9]*  .* ms with 128x128x4096, split is void; tried: '
}
# Nothing compiles: that is no finding on what is faster, and an earlier choice is doubted.
tells_that_nothing_is_right()
{
    mkdir -p nothing
    echo '#error planted' | cat - "$SRCDIR/cl/common.cl" >nothing/common.cl
    printf '%s\nmatmul f32 NN 8x8x8 skinny\n' "$(head_of tiny.tuning)" >nothing.tuning
    QUERN_CL_DIR=nothing exits 1 --shapes 8x8x8 -o nothing.tuning --quiet || return 1
    mentions err.tmp 'matmul f32 NN 8x8x8: the default: .* does not compile: .*planted' &&
        mentions out.tmp '^Of 4 of 4 products no kernel gave a right result.$' &&
        mentions out.tmp '^Wrote 0 choices: nothing could be compared with a default.$' &&
        mentions nothing.tuning '^matmul f32 NN 8x8x8 default  with 8x8x8, the default is void; tried: ' && ! grep -q 8x8x8.skinny nothing.tuning
}
# Operands that no device has room for.
tells_what_is_too_large()
{
    exits 1 --shapes 2147483647x8x2147483647 --budget 1m -o large.tuning --quiet || return 1
    mentions err.tmp 'matmul f32 NN 2147483648x8x2147483648: operands: ' && mentions out.tmp '^Of 4 of 4 products no kernel gave a right result.$' &&
        mentions large.tuning '^matmul f32 NN 2147483648x8x2147483648 default  with 2147483647x8x2147483647, the default is void; tried: –$'
}
head_of()
{
    sed '/^matmul/d; /^#/d' "$1"
}
# The default is void, and there is no time for more: what an earlier run chose may be right, but not if it was the default.
keeps_what_is_not_refuted()
{
    for earlier in tiled/64 default; do
        printf '%s\nmatmul f32 NN 128x128x4096 %s  as someone wrote\n' "$(head_of void.tuning)" "$earlier" >doubt.tuning
        QUERN_CAPS=class=gpu,clblast=0 QUERN_CL_DIR=wrong exits 1 --shapes 128x128x4096 --budget 0.001 -o doubt.tuning --quiet || return 1
        [ "$(grep -c "^matmul f32 NN 128x128x4096 $earlier  as someone wrote\$" doubt.tuning)" = "$([ $earlier = default ]; echo $?)" ] || {
            echo "after $earlier:"
            cat doubt.tuning
            return 1
        }
    done
}
# Lines of other products, as they stood; not one of a product that is tried again: there, tiles do not fit a CPU, and so are not chosen.
keeps_others()
{
    other='matmul f32 NN 64x16x16 tiled/64  as someone wrote'
    found='matmul f32 NN 64x32x16 default  as it was'
    printf '%s\n%s\n%s\nmatmul f32 NN 8x8x8 tiled/128\n' "$(head_of tiny.tuning)" "$other" "$found" >kept.tuning
    exits 0 --shapes 8x8x8 --budget 1m -o kept.tuning --quiet || return 1
    mentions kept.tuning "^$other\$" && mentions kept.tuning "^$found\$" && mentions out.tmp '^Wrote [0-9]* choices, and kept 1 of earlier runs.  To .*/kept.tuning$' &&
        ! grep -q '^matmul f32 NN 8x8x8 tiled/128' kept.tuning
}
keeps_what_is_not_reached()
{
    printf '%s\nmatmul f32 NN 512x4096x1024 tiled/64\nmatmul f32 NN 8x8x8 tiled/64\n' "$(head_of tiny.tuning)" >kept.tuning
    cp kept.tuning before.tuning
    exits 0 --budget 0.001 -o kept.tuning --quiet || return 1
    cmp kept.tuning before.tuning && mentions out.tmp '^Nothing was found out: kept.tuning is as it was.$'
}
replaces_others()
{
    printf '%s\nmatmul f32 NN 64x16x16 tiled/64\n' "$(head_of tiny.tuning)" | sed "$1" >other.tuning
    cp other.tuning before.tuning
    exits 0 --budget 0.001 -o other.tuning --quiet && cmp other.tuning before.tuning || return 1
    exits 0 --shapes 8x8x8 --budget 1m -o other.tuning --quiet || return 1
    mentions err.tmp 'other.tuning is for another device, driver, class or version: what is found out replaces it' &&
        ! grep -q '^matmul f32 NN 64x16x16' other.tuning && mentions other.tuning '^quern tuning 1$'
}
keeps_mistakes()
{
    printf '%s\nmatmul f32 NN 64x16x17 tiled/64\n' "$(head_of tiny.tuning)" >bad.tuning
    cp bad.tuning bad.kept
    exits 1 --shapes 8x8x8 -o bad.tuning && mentions err.tmp 'bad.tuning, line 3: expected sizes .*; it is not replaced' && cmp bad.tuning bad.kept
}
stops()
{
    exits 0 --budget 0.001 -o short.tuning --quiet || return 1
    mentions out.tmp 'The time was up; --budget gives more: of [0-9]* products, [0-9]* were not reached' &&
        mentions short.tuning '^quern tuning 1$' && [ ! -s err.tmp ] &&
        mentions out.tmp '^Wrote 0 choices: nothing could be compared with a default.$'
}
ends_by_signal()
{
    "$quern" tune --budget 5m -o signal.tuning >out.tmp 2>err.tmp &
    wait_for has_lines err.tmp 2 || return 1
    kill -TERM $!
    wait $!
    [ $? = 143 ] && mentions err.tmp '^ending the trial; again to quit$' && mentions out.tmp '^Ended by a signal: of' && mentions signal.tuning '^quern tuning 1$'
}
is_read()
{
    { sed '/^matmul/d' tiny.tuning && echo 'matmul f32 NN 64x16x16 tiled/64'; } >one.tuning
    # shellcheck disable=SC2086
    QUERN_TUNING=one.tuning "$quern" train gpt --data text --out run --steps 2 $tiny --explain >out.tmp || return 1
    mentions out.tmp tiled && mentions out.tmp 'subgroup needs .* sub-groups of 8 or 16' && mentions run/latest/training.json '"tuning": "[0-9a-f]\{32\}"'
}
resumes()
{
    QUERN_TUNING=$1 "$quern" train gpt --out "$2" --resume --steps "$3" --quiet >out.tmp 2>err.tmp
}
refuses()
{
    ! resumes "$1" "$2" 4 && mentions err.tmp "$3"
}
# One of the two is what the device is.
belongs_to_a_class()
{
    for class in cpu gpu; do
        QUERN_CAPS=class=$class,clblast=0 exits 0 --budget 0.001 -o $class.tuning --quiet || return 1
    done
    ! cmp -s cpu.tuning gpu.tuning && [ "$(grep -c '^device .*, with kernels for [CG]PUs$' cpu.tuning gpu.tuning | grep -c :1)" = 1 ] &&
        ! QUERN_CAPS=class=cpu,clblast=0 QUERN_TUNING=gpu.tuning "$quern" generate run --quiet 2>err.tmp &&
        mentions err.tmp 'gpu.tuning, line 2: it is for "'
}
resumes_by_its_file()
{
    refuses tiny.tuning run 'the run goes on by the tuning file that it began with, .* names one with the hash' &&
        refuses '' run 'but QUERN_TUNING names none' && resumes one.tuning run 4
}
resumes_without()
{
    # shellcheck disable=SC2086
    "$quern" train gpt --data text --out plain --steps 2 $tiny || return 1
    mentions plain/latest/training.json '"tuning": null' &&
        refuses one.tuning plain 'the run has no tuning file' && resumes '' plain 4
}
refuses_device()
{
    sed 's/^device .*/device another, driver 1/' one.tuning >other.tuning
    ! QUERN_TUNING=other.tuning "$quern" generate run --quiet 2>err.tmp &&
        mentions err.tmp 'line 2: it is for "another, driver 1", but this is ".*": make one for this device and driver by `quern tune`'
}
keeps()
{
    exits 1 --shapes 8x8x8 -o text && mentions err.tmp 'text, line 1: expected "quern tuning 1", .*; it is not replaced' && cmp text text.kept
}

awk 'BEGIN { for (i = 0; i < 300; i++) print "the cat saw a dog and ran to tree", i % 7 }' >text
cp text text.kept

check "tunes, checks and writes" tunes
check "what is void is told, and something right is chosen in the default's place" goes_on_without_default
check "nothing that is right" tells_that_nothing_is_right
check "nor operands that fit" tells_what_is_too_large
check "lines of other products are kept" keeps_others
check "and what there was no time to doubt" keeps_what_is_not_refuted
check "and those that were not reached" keeps_what_is_not_reached
check "not those for another device" replaces_others 's/^device .*/device another/'
check "nor those of another version" replaces_others 's/^quern tuning 1/quern tuning 2/'
check "a file with a mistake is not replaced" keeps_mistakes
check "a budget ends it, and what is known is written" stops
check "a signal ends it, and what is known is written" ends_by_signal
check "training reads the file, and keeps its hash" is_read
check "a run goes on by its file only" resumes_by_its_file
check "a run without a file goes on without one" resumes_without
check "a file for another device is refused" refuses_device
check "and one for another class of it" belongs_to_a_class
check "what is no tuning file is not replaced" keeps
check "a shape that is none" usage_error 'no' --shapes 8x8
check "a type that is none" usage_error 'dtype' --dtype i32
check "no device" exits 1 --device none
done_testing
