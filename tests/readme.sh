#!/bin/sh
# The C program of README.md compiles against the library, and runs.
. "$SRCDIR/tests/tap.sh"

extract()
{
    awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$SRCDIR/README.md" >readme-example.c
    [ -s readme-example.c ]
}
compiles()
{
    "$BUILDDIR/libtool" --silent --tag=CC --mode=link ${CC:-cc} -std=c11 -Wall -Wextra -Werror $SANITIZE \
        -I"$SRCDIR/include" -o readme-example readme-example.c "$BUILDDIR/libquern.la" -lm
}
runs()
{
    ./readme-example
}

check "README.md has a program" extract
check "it compiles" compiles
check "it runs" runs
rm -rf readme-example readme-example.c .libs/readme-example .libs/lt-readme-example
done_testing
