#!/bin/sh
# The program when memory, a call of OpenCL or the device fails under it: it says so, and the run can be gone on with.
. "$SRCDIR/tests/tap.sh"
quern=$BUILDDIR/quern
faulty=$BUILDDIR/tests/faulty
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 1
cd "$folder" || exit 1
trap 'cd /; rm -rf "$folder"' EXIT

awk 'BEGIN { for (i = 0; i < 300; i++) print "the stone turns", i % 7, "times and grinds", i % 11, "grains" }' >text
options='--layers 1 --heads 2 --width 16 --context 16 --batch 4 --warmup 5 --steps 12 --eval-every 4 --eval-batches 2'

# All calls of OpenCL and of the allocator in our code.
called()
{
    nm "$BUILDDIR/.libs/libinternal.a" 2>/dev/null |
        sed -n 's/^ *U \(cl[A-Z][A-Za-z]*\|malloc\|calloc\|realloc\|strdup\|free\)$/\1/p' | sort -u
}
all_wrapped()
{
    [ -n "$(called)" ] || return 1
    for name in $(called); do
        grep -qx -e "--wrap=$name" "$SRCDIR/tests/shim.wrap" || {
            echo "tests/shim.wrap lacks $name"
            return 1
        }
    done
}

# train FOLDER: with the layer, until something fails or the end.
train()
{
    rm -rf "$1"
    # shellcheck disable=SC2086
    "$faulty" train gpt --data text --out "$1" --quiet $options >out.tmp 2>err.tmp
}
same_model()
{
    cmp whole/latest/model.safetensors "$1/latest/model.safetensors" &&
        cmp whole/latest/optimizer.safetensors "$1/latest/optimizer.safetensors"
}

# fails FAULT CAUSE: the run ends with a message that has CAUSE, and what it saved goes on to the model of a run without faults; or
# the fault did no harm.
fails()
{
    status=0
    QUERN_FAULT=$1 train failed || status=$?
    if [ "$status" = 0 ]; then
        same_model failed
        return
    fi
    [ "$status" = 1 ] || {
        echo "exit status $status:"
        cat err.tmp
        return 1
    }
    grep -q '^quern train gpt: ' err.tmp && grep -qE -e "$2" err.tmp || {
        echo "no clear message:"
        cat err.tmp
        return 1
    }
    # No checkpoint yet: nothing is lost.
    if [ -e failed/latest ]; then
        grep -q 'is whole; go on from it with: quern train gpt --out failed --resume' err.tmp &&
            "$quern" train gpt --out failed --resume --quiet && same_model failed
    fi
}

check "every call of OpenCL and of the allocator goes through the layer" all_wrapped

# KIND, how many, what the message must have
# shellcheck disable=SC2086
for fault in 'lost 8 CL_' 'late 8 CL_' 'call 6 CL_' 'command 4 memory' 'memory 10 memory'; do
    set -- $fault
    QUERN_FAULT=$1:-1 QUERN_FAULT_CALLS=$folder/calls train whole
    calls=$(cat calls)
    i=0
    while [ "$i" -lt "$2" ]; do
        i=$((i + 1))
        check "$1: call $((calls * i / ($2 + 1))) of $calls fails: a clear message, and the run goes on to the same model" \
            fails "$1:$((calls * i / ($2 + 1)))" "$3"
    done
done
done_testing
