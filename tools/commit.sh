#!/bin/sh
# Prints the C header that says which commit is built: that of the checkout, or the one that the
# release was made from (.commit, see dist-hook in Makefile.am); "" if neither is known.
#   tools/commit.sh SOURCE-FOLDER
set -e
commit=
if [ -e "$1/.git" ]; then
    commit=$(GIT_OPTIONAL_LOCKS=0 git -C "$1" describe --always --dirty 2>/dev/null) || commit=
elif [ -f "$1/.commit" ]; then
    commit=$(cat "$1/.commit")
fi
printf '#define QUERN_COMMIT "%s"\n' "$(printf %s "$commit" | tr -cd 'A-Za-z0-9._-')"
