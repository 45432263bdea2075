#!/bin/sh
# Whether `quern bench` and `quern bench compare` tell what was done to a kernel: softmax is made wrong, then a tenth slower, then nothing is.
# Of an idle machine, by hand: it measures, so it is no test.
#
#   bench/verdicts.sh QUERN [SECONDS]         the program; how long to sample a row (default 5)
#
# Runs alternate (A, B, A, B), both with kernels from a folder; what both pairs say is believed.  Exits with 1 if a verdict is not as it should be.
set -eu
quern=$(realpath "$1")
seconds=${2:-5}
kernel=$(realpath "$(dirname "$0")/../cl/softmax.cl")
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
    sed "$2" "$kernel" >"$1/softmax.cl"
    [ "$1" = same ] || ! cmp -s "$kernel" "$1/softmax.cl" || {
        echo "softmax.cl has no line to change for $1"
        exit 1
    }
}
measure()
{
    QUERN_CL_DIR=$work/$1 "$quern" bench rows --shapes 2048x1024 --seconds "$seconds" -q --json "$2.json" >"$2.out"
}
compare()
{
    "$quern" bench compare "$1.json" "$2.json" >"$1-$2.txt"
    echo "$1 against $2:"
    grep '^| [a-z_]*/' "$1-$2.txt" || true
}
# All rows of a comparison that are neither the peaks nor softmax, or softmax alone, and what they may be called.
others_are()
{
    ! grep '^| [a-z_]*/' "$1" | grep -v -e '^| peak/' -e '^| softmax/' | grep -v -e "$2"
}
softmax_is()
{
    grep '^| softmax/' "$1" | grep -q -e "$2"
}
only_softmax_is_void()
{
    [ "$(grep ' void: ' wrong.out | grep -c '^| softmax ')" = 1 ] && [ "$(grep -c ' void: ' wrong.out)" = 1 ]
}

changed same ''
changed wrong 's/exp_of(/exp_of(0.9f * /'
# The first kernel computes a tenth of the rows once more, when all are done: a row that is repeated at once would come from a cache.
changed slow '0,/for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0))/s//for (ulong turn = get_group_id(0), row = turn; turn < rows + rows \/ 10;\
         turn += get_num_groups(0), row = turn % rows)/'

measure wrong wrong || true
says "a wrong softmax makes its row void, and no other" only_softmax_is_void
for pair in 1 2; do
    measure same "same$pair"
    measure slow "slow$pair"
    compare "same$pair" "slow$pair"
    says "a softmax that does a tenth more is slower" softmax_is "same$pair-slow$pair.txt" ' slower |'
    says "other rows are neither slower nor faster" others_are "same$pair-slow$pair.txt" ' same |\| unclear |'
done
compare same1 same2
says "two equal runs are the same, or unclear" others_are same1-same2.txt ' same |\| unclear |'
says "softmax, too" softmax_is same1-same2.txt ' same |\| unclear |'
exit $((failures > 0))
