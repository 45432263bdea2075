#!/bin/sh
# `quern bench`: rows and JSON, what voids a row, and mistakes.  Sizes are tiny: nothing here is a measurement.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 1
cd "$folder" || exit 1
trap 'cd /; rm -rf "$folder"' EXIT

# The exit status of `quern bench` with these words; out.tmp and err.tmp have what it says.
exits()
{
    expected=$1
    shift
    status=0
    "$quern" bench --seconds 0.05 "$@" >out.tmp 2>err.tmp || status=$?
    [ "$status" = "$expected" ] || {
        echo "exit status $status, expected $expected"
        cat out.tmp err.tmp
        return 1
    }
}
mentions()
{
    grep -q -e "$2" "$1" || {
        echo "no \"$2\" in:"
        cat "$1"
        return 1
    }
}
usage_error()
{
    message=$1
    shift
    exits 2 "$@" && mentions err.tmp "$message"
}

# The number of a row's key in json.tmp; "void" if the row is.
value_of()
{
    awk -v id="\"id\": \"$1\"" -v key="\"$2\":" '
        index($0, id) { is_in = 1 }
        is_in && index($0, "\"status\": \"void\"") { print "void"; exit }
        is_in && index($0, key) { gsub(/[^-+.0-9e]/, "", $2); print $2; exit }' json.tmp
}
is_positive()
{
    value=$(value_of "$1" "$2")
    awk -v value="$value" 'BEGIN { exit !(value + 0 > 0) }' || {
        echo "$2 of $1 is \"$value\""
        cat json.tmp
        return 1
    }
}
has_rows()
{
    for variant in NN NT TN TT; do
        mentions out.tmp "^| gemm $variant | 64x64x64 | [0-9.e+-]* | [0-9.e+-]* | [0-9.e+-]* GFLOP/s | [0-9]*% |\$" ||
            return 1
    done
}
is_json()
{
    ! command -v python3 >/dev/null || python3 -m json.tool json.tmp >json.out
}
median_lies_between()
{
    python3 - "$1" <<'END'
import json, statistics, sys
row, = [r for r in json.load(open("json.tmp"))["results"] if r["id"] == sys.argv[1]]
low, high = row["ci95_s"]
assert abs(row["median_s"] - statistics.median(row["samples_s"])) < 1e-12, row
assert len(row["samples_s"]) >= 10 and low <= row["median_s"] <= high and low > min(row["samples_s"]), row
END
}

# A softmax of 0.9 x is still one, of other numbers.
voids_wrong_kernel()
{
    mkdir cl
    sed 's/exp(/exp(0.9f * /' "$SRCDIR/cl/softmax.cl" >cl/softmax.cl
    QUERN_CL_DIR=cl exits 1 rows --shapes 8x64 --json json.tmp
}
compares()
{
    echo '[{"case": "gemm 64x64x64 NT float32", "best_s": 1, "mean_s": 1, "rate": 1000000, "unit": "GFLOP/s"}]' >torch.json
    exits 0 gemm --shapes 64x64x64 --against torch.json &&
        mentions out.tmp '^| gemm NT | 64x64x64 .* | 1e+06 GFLOP/s | 0.00 |$' &&
        mentions out.tmp '^| gemm NN | 64x64x64 .* | | |$'
}

check "a gemm of one shape" exits 0 gemm --shapes 64x64x64 --json json.tmp
check "a line of the table for each transposition" has_rows
check "the JSON is JSON" is_json
check "it has a positive median" is_positive gemm/64x64x64/NT median_s
check "it has a positive peak" is_positive fma rate
if command -v python3 >/dev/null; then
    check "the median is that of the samples, and inside its interval" median_lies_between gemm/64x64x64/NT
else
    skip "the median: no python3"
fi
check "memory" exits 0 memory --shapes 1000
check "attention" exits 0 attention --shapes 1x2x33x16
check "rows of two sizes" exits 0 rows --shapes 9x70
check "rows of three sizes, and of one" exits 0 rows --shapes 31x16x7,1001
check "training of one recipe, and its losses" exits 0 train --shapes 12x64 --json json.tmp
check "it has tokens a second" is_positive train/nanogpt-char-cpu/4L4H128-T64-B12 tokens_per_s
check "generating, and its tokens" exits 0 generate --shapes 64
check "another program's rates" compares
check "a kernel that is wrong fails" voids_wrong_kernel
check "its row is void, with a reason" mentions out.tmp '^| softmax | 8x64 | void: result\[[0-9]*\] is .*, not '
check "in the JSON, too" test "$(value_of softmax/8x64 median_s)" = void
check "the other rows are not" is_positive layer_norm/8x64/forward median_s
check "an unknown group" usage_error 'no group "gem"; did you mean gemm?' gem
check "shapes without a group" usage_error '--shapes needs the one group' --shapes 64x64x64
check "a shape of another group" usage_error '"64x64" is no shape of gemm' gemm --shapes 64x64x64,64x64
check "a shape that is none" usage_error '"0x1x1" is no shape of gemm' gemm --shapes 0x1x1
check "a recipe that there is not" usage_error '"7x7" is no shape of train' train --shapes 12x64,7x7
check "a file that is not there" exits 1 gemm --against nothing.json
check "a file that cannot be written" exits 1 gemm --shapes 8x8x8 --json nothing/json
done_testing
