#!/bin/sh
# Each public header compiles alone, as C and as C++; the library exports qn_ names only.
. "$SRCDIR/tests/tap.sh"

compiles()
{
    compiler=$1
    language=$2
    header=$3
    echo "#include <quern/$header>" |
        $compiler -x "$language" -I"$SRCDIR/include" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -
}
exports_qn_only()
{
    names=$(nm -D --defined-only "$BUILDDIR/.libs/libquern.so" | sed 's/.* //')
    [ -n "$names" ] && ! printf '%s\n' "$names" | grep -v '^qn_'
}

# PoCL brings a clang++, where there is no other.
cxx=
for compiler in c++ g++ clang++ clang++-15 clang++-19; do
    if [ -z "$cxx" ] && command -v "$compiler" >/dev/null; then
        cxx=$compiler
    fi
done

for path in "$SRCDIR"/include/quern/*.h; do
    header=$(basename "$path")
    check "$header in C11" compiles "${CC:-cc} -std=c11" c "$header"
    if [ -n "$cxx" ]; then
        check "$header in C++" compiles "$cxx" c++ "$header"
    else
        skip "$header in C++: no compiler"
    fi
done
if [ -f "$BUILDDIR/.libs/libquern.so" ] && command -v nm >/dev/null; then
    check "libquern exports qn_ names only" exports_qn_only
else
    skip "exported names: no shared library, or no nm"
fi
done_testing
