# TAP for shell scripts, to be sourced: `check NAME COMMAND ...` is a test that the command succeeds; done_testing ends.
run=0
failures=0

check()
{
    name=$1
    shift
    run=$((run + 1))
    if found=$("$@" 2>&1); then
        echo "ok $run - $name"
    else
        failures=$((failures + 1))
        echo "not ok $run - $name"
        printf '%s\n' "$found" | sed 's/^/# /'
    fi
}

skip()
{
    run=$((run + 1))
    echo "ok $run # SKIP $1"
}

# Waits until a command succeeds, half a minute at most.
wait_for()
{
    for _ in $(seq 300); do
        "$@" 2>/dev/null && return
        sleep 0.1
    done
    echo "waited in vain: $*"
    return 1
}
has_lines()
{
    [ "$(wc -l <"$1")" -ge "$2" ]
}

done_testing()
{
    echo "1..$run"
    [ "$failures" = 0 ]
}
