#!/bin/sh
# The examples run, and build against an installed library as users would.
. "$SRCDIR/tests/tap.sh"
folder=$(mktemp -d "${TMPDIR:-/tmp}/quern-examples-XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
unset MAKEFLAGS MAKELEVEL MFLAGS

learns()
{
    "$BUILDDIR/examples/gpt" 30 >"$folder/gpt.out" || return 1
    [ -s "$folder/gpt.out" ]
}
installs()
{
    make -s -C "$BUILDDIR" install DESTDIR="$folder/root"
}
finds()
{
    pc=$(find "$folder/root" -name quern.pc)
    [ -n "$pc" ] && PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$folder/root \
        pkg-config "$@" quern
}
builds()
{
    # shellcheck disable=SC2046,SC2086
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror $SANITIZE "$SRCDIR/examples/$1.c" $(finds --cflags) $(finds --libs) -lm \
        -o "$folder/$1"
}
runs_installed()
{
    library=$(find "$folder/root" -name 'libquern.so.0')
    LD_LIBRARY_PATH=$(dirname "$library")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$folder/$1"
}

check "examples/custom_op" "$BUILDDIR/examples/custom_op"
check "examples/gpt" learns
check "make install" installs
check "it installs the program" find "$folder/root" -path '*/bin/quern' -perm -u+x
check "pkg-config finds it" finds --exists
check "examples/custom_op builds with it" builds custom_op
check "and runs" runs_installed custom_op
check "examples/gpt builds with it" builds gpt
done_testing
