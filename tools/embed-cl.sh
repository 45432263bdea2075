#!/bin/sh
# Writes C with the texts of kernel files: for softmax.cl
#     const struct qn_source source_softmax = {"softmax.cl", text_softmax};
# and a list of all of them.
#
# usage: embed-cl.sh header|source FILE.cl ...
# Bytes, not strings: C promises string literals of no more than 4,095 characters.
set -eu

kind=$1
shift
echo "/* Made by tools/embed-cl.sh: edit cl/ instead. */"
case $kind in
header)
    echo '#ifndef QUERN_CL_SOURCES_H'
    echo '#define QUERN_CL_SOURCES_H'
    echo
    echo '#include <quern/op.h>'
    echo
    ;;
source)
    echo '#include "cl_sources.h"'
    ;;
*)
    echo "usage: $0 header|source FILE.cl ..." >&2
    exit 2
    ;;
esac

for file in "$@"; do
    name=$(basename "$file" .cl)
    if [ "$kind" = header ]; then
        echo "extern const struct qn_source source_$name;"
    else
        printf '\nstatic const char text_%s[] = {\n' "$name"
        od -An -v -tx1 "$file" | sed "s/ *\([0-9a-f][0-9a-f]\)/'\\\\x\1',/g"
        printf '0};\nconst struct qn_source source_%s = {"%s.cl", text_%s};\n' "$name" "$name" "$name"
    fi
done

if [ "$kind" = header ]; then
    printf '\n/* All of them; NULL at the end. */\nextern const struct qn_source *const all_sources[];\n\n#endif\n'
else
    printf '\nconst struct qn_source *const all_sources[] = {\n'
    for file in "$@"; do
        echo "    &source_$(basename "$file" .cl),"
    done
    printf '    0,\n};\n'
fi
