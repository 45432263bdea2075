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
        mentions out.tmp "^| matmul bf16 $variant 32x16x64 | 32x16x64 | [a-z_0-9]* | [0-9.e-]* | .* | [0-9.]* |\$" || return 1
        mentions tiny.tuning "matmul f32 $variant 8x8x8 [a-z_]*[/0-9]*  [0-9.e-]* ms" || return 1
    done
    mentions tiny.tuning '^quern tuning 1$' && mentions out.tmp "export QUERN_TUNING=.*/tiny.tuning\$" &&
        mentions err.tmp '^product 16 of 16, ' && ! ls tiny.tuning.* 2>/dev/null
}
stops()
{
    exits 0 --budget 0.001 -o short.tuning --quiet || return 1
    mentions out.tmp 'The time was up; --budget gives more: of [0-9]* products, [0-9]* were not reached' &&
        mentions short.tuning '^quern tuning 1$' && [ ! -s err.tmp ]
}
ends_by_signal()
{
    "$quern" tune --budget 5m -o signal.tuning >out.tmp 2>err.tmp &
    wait_for has_lines err.tmp 2 || return 1
    kill -TERM $!
    wait $!
    [ $? = 143 ] && mentions out.tmp '^Ended by a signal: of' && mentions signal.tuning '^quern tuning 1$'
}
is_read()
{
    { sed '/^matmul/d' tiny.tuning && echo 'matmul f32 NN 64x16x16 tiled/64'; } >one.tuning
    # shellcheck disable=SC2086
    QUERN_TUNING=one.tuning "$quern" train gpt --data text --out run --steps 2 $tiny --explain >out.tmp || return 1
    mentions out.tmp tiled && mentions run/latest/training.json '"tuning": "[0-9a-f]\{32\}"'
}
resumes()
{
    QUERN_TUNING=$1 "$quern" train gpt --out "$2" --resume --steps "$3" --quiet >out.tmp 2>err.tmp
}
refuses()
{
    ! resumes "$1" "$2" 4 && mentions err.tmp "$3"
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
    exits 1 --shapes 8x8x8 -o text && mentions err.tmp 'text is no tuning file, and is not replaced' && cmp text text.kept
}

awk 'BEGIN { for (i = 0; i < 300; i++) print "the cat saw a dog and ran to tree", i % 7 }' >text
cp text text.kept

check "tunes, checks and writes" tunes
check "a budget ends it, and what is known is written" stops
check "a signal ends it, and what is known is written" ends_by_signal
check "training reads the file, and keeps its hash" is_read
check "a run goes on by its file only" resumes_by_its_file
check "a run without a file goes on without one" resumes_without
check "a file for another device is refused" refuses_device
check "what is no tuning file is not replaced" keeps
check "a shape that is none" usage_error 'no' --shapes 8x8
check "a type that is none" usage_error 'dtype' --dtype i32
check "no device" exits 1 --device none
done_testing
