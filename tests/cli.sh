#!/bin/sh
# The program's frame: map, help, man page and completion, exit statuses.  Needs no device.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern

# The exit status of `quern` with these words, what it says on stdout, and on stderr.
exits()
{
    expected=$1
    shift
    status=0
    "$quern" "$@" >cli-out.tmp 2>cli-err.tmp || status=$?
    [ "$status" = "$expected" ] || {
        echo "exit status $status, expected $expected"
        cat cli-out.tmp cli-err.tmp
        return 1
    }
}
silent()
{
    [ ! -s "$1" ] || {
        cat "$1"
        return 1
    }
}
mentions()
{
    grep -qF -e "$2" "$1" || {
        echo "no \"$2\" in:"
        cat "$1"
        return 1
    }
}
data_only()
{
    exits 0 "$@" && silent cli-err.tmp
}
usage_error()
{
    message=$1
    shift
    exits 2 "$@" && silent cli-out.tmp && mentions cli-err.tmp "$message"
}
fits_screen()
{
    data_only "$@" && awk 'length > 80 || NR > 24 { exit 1 }' cli-out.tmp
}
up_to_date()
{
    file=$1
    shift
    data_only "$@" && diff "$SRCDIR/$file" cli-out.tmp
}
completes()
{
    expected=$1
    shift
    found=$(bash -c '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _quern; echo "${COMPREPLY[@]}"' \
        "$SRCDIR/doc/completion/quern" "$@")
    [ "$found" = "$expected" ] || {
        echo "found \"$found\", expected \"$expected\""
        return 1
    }
}
refuses_full_disk()
{
    ! "$quern" --version >/dev/full
}

refuses_closed_stdout()
{
    ! "$quern" --version >&-
}

check "quern prints a map that fits a screen" fits_screen
check "quern --help prints it too" fits_screen --help
check "quern --version" data_only --version
check "quern help generate" data_only help generate
check "an alias" data_only sample --help
for command in devices 'train gpt' 'train llama' generate evaluate inspect bench; do
    # shellcheck disable=SC2086
    check "quern $command --help" data_only $command --help
    check "has examples" mentions cli-out.tmp Examples
done
check "an unknown command" usage_error 'did you mean "generate"?' genrate
check "a command without its model" usage_error 'quern train gpt' train
check "an unknown model" usage_error 'no model "bird"' train bird
check "an unknown option" usage_error 'did you mean --steps?' train gpt --stpes 3
check "an option in the place of a command" usage_error 'no option --foo' --foo
check "an operand that is empty" usage_error 'DIR is empty' generate ''
check "a number out of range" usage_error '--top-p takes more than 0 to 1, not 0' generate x --top-p 0
check "an option that is missing" usage_error '--data FILE... is missing' train gpt --out x
check "a word for a number" usage_error '--layers takes a whole number, not "six"' \
    train gpt --data x --out y --layers six
check "an operand that is missing" usage_error 'DIR is missing' generate
check "a disk that is full" refuses_full_disk
check "a stdout that is closed" refuses_closed_stdout
check "doc/quern.1 is what the tables say (else: make man)" up_to_date doc/quern.1 help --man
check "doc/completion/quern, too" up_to_date doc/completion/quern help --completion bash
if command -v bash >/dev/null; then
    check "completes commands" completes generate quern gen
    check "completes models" completes gpt quern train gp
    check "completes options" completes '--warmup' quern train gpt --wa
    check "completes choices" completes own quern train gpt --gemm o
    check "completes options of an alias" completes --top-k quern sample --top-k
else
    skip "completion: no bash"
fi
rm -f cli-out.tmp cli-err.tmp
done_testing
