# For tests of one command of the program, to be sourced with its name and first options in $command: a folder of its own, and what it
# says.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
# What a compiler makes of kernels is what tests/ops-*.sh and the tests of the library are for; of the program, kernels that PoCL does not
# optimise, which compile three times as fast, tell as much.
export POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 1
cd "$folder" || exit 1
trap 'cd /; rm -rf "$folder"' EXIT

# The exit status of the command with these words; out.tmp and err.tmp have what it says.
exits()
{
    expected=$1
    shift
    status=0
    # shellcheck disable=SC2086
    "$quern" $command "$@" >out.tmp 2>err.tmp || status=$?
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
