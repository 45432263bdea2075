#!/bin/sh
# Whether `quern bench` and `quern bench compare` tell what was done to a kernel: attention is made wrong, then a tenth slower, then nothing is.
# By hand, since it measures: six minutes.
#
#   bench/verdicts.sh QUERN [SECONDS [SHAPE]]     the program; how long to sample a row in a run (default 1); batch x heads x context x width
#
# The shape has ten heads, or a multiple, one in ten of which the slow kernel computes twice; a GPU needs as many as keep it busy.  Runs are made by
# turns, all with kernels from a folder.  Exits with 1 if a verdict is not as it should be.
set -eu
quern=$(realpath "$1")
seconds=${2:-1}
shape=${3:-1x10x128x64} # less than a cache that a core has for itself
class=cpu
"$quern" devices | grep -A3 '^\*' | grep -q 'class *CPU' || class=gpu
kernel=$(realpath "$(dirname "$0")/../cl/attention_$class.cl")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0

says()
{
    verdict=$1
    shift
    if "$@"; then
        echo "as it should be: $verdict"
    else
        echo "NOT AS IT SHOULD BE: $verdict"
        failures=$((failures + 1))
    fi
}
changed()
{
    mkdir "$1"
    sed "$2" "$kernel" >"$1/${kernel##*/}"
    [ "$1" = same ] || ! cmp -s "$kernel" "$1/${kernel##*/}" || {
        echo "${kernel##*/} has no line to change for $1"
        exit 1
    }
}
measure()
{
    QUERN_CL_DIR=$work/$1 "$quern" bench attention --shapes "$shape" --seconds "$seconds" -q --json "$2.json" >"$2.out"
}
# The runs of one kernel against those of another, by turns.
compare()
{
    # shellcheck disable=SC2046
    "$quern" bench compare --turns $(for turn in $turns; do echo "$1$turn.json" "$2$turn.json"; done) >"$1-$2.txt"
    echo "$1 against $2:"
    grep '^| [a-z_]*/' "$1-$2.txt"
}
# What a row is called, or what all are called that are no peaks.
row_is()
{
    grep "^| $2 |" "$1" | grep -q -e "$3"
}
all_are()
{
    ! grep '^| [a-z_]*/' "$1" | grep -v -e '^| peak/' | grep -v -q -e "$2"
}
# Its gradients need its values, decoding has kernels of its own.
only_attention_is_void()
{
    grep ' void: ' wrong.out
    [ "$(grep ' void: ' wrong.out | grep -c '^| attention ')" = 2 ] && [ "$(grep -c ' void: ' wrong.out)" = 2 ]
}

changed same ''
changed wrong 's/scale \* LOG2_E/0.9f * &/'
changed slow 's/item < .*batch \* heads \* \(parts\|blocks\);/item < batch * heads * \1 * 11 \/ 10;/
    s/uint b = item \/ \(parts\|blocks\) \/ heads,/uint b = item \/ \1 \/ heads % batch,/'

measure wrong wrong || true
says "wrong attention makes its rows void, and no others" only_attention_is_void
turns='1 2 3 4 5 6'
for turn in $turns; do
    for kernels in same slow; do
        measure "$kernels" "$kernels$turn"
    done
    measure same "again$turn"
done
compare same slow
says "attention that does a tenth more is slower" row_is same-slow.txt "attention/$shape/forward" ' slower |'
says "decoding is neither slower nor faster" row_is same-slow.txt "attention_decode/$shape" ' same |\| unclear |'
compare same again
says "equal runs are the same, or unclear" all_are same-again.txt ' same |\| unclear |'
exit $((failures > 0))
