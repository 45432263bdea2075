# For tests of one command of the program, to be sourced with its name and first options in $command: a folder of its own, and what it
# says.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
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
