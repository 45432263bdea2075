#!/bin/sh
# Short descriptions of Debian's packages, in English and as its translators have them in German: pairs of lines to translate.
#
#   tools/debian-descriptions.sh DIR
#
# Writes DIR/{train,valid,test}.{en,de}: 500 pairs each to validate and to test, the others to train, in an order that depends on nothing
# but the texts.  They come from the package lists of the mirrors that apt knows, in lists of our own: neither root nor what is
# installed is touched.  The descriptions are free as the packages are, the translations by the Debian Description Translation Project.
set -eu
export LC_ALL=C

[ $# = 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$1
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"

apt-get -q -o Dir::State="$dir/apt" -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$dir/apt/cache" \
    -o Acquire::Languages=de,en -o Acquire::IndexTargets::deb::Packages::DefaultEnabled=false update >"$dir/apt.log" 2>&1 || {
    tail -n 20 "$dir/apt.log" >&2
    echo "the lists of packages cannot be fetched" >&2
    exit 1
}

# Description-md5 names a description; the line behind it is the short one, of either language.
list()
{
    for file in "$dir"/apt/lists/*i18n_Translation-"$1"*; do
        /usr/lib/apt/apt-helper cat-file "$file"
    done | awk -v key="Description-$1: " '/^Description-md5: / { md5 = $2 } index($0, key) == 1 { print md5 "\t" substr($0, length(key) + 1) }' |
        sort -t "$(printf '\t')" -k 1,1 -u
}
list en >"$dir/en.tsv"
list de >"$dir/de.tsv"
join -t "$(printf '\t')" "$dir/en.tsv" "$dir/de.tsv" | awk -F '\t' '$2 != "" && $3 != "" && $2 != $3 && !($2 in seen) { seen[$2] = 1; print $2 "\t" $3 }' >"$dir/pairs.tsv"
pairs=$(wc -l <"$dir/pairs.tsv")
[ "$pairs" -gt 3000 ] || {
    echo "there are only $pairs translated descriptions" >&2
    exit 1
}
for side in 1=en 2=de; do
    cut -f "${side%=*}" "$dir/pairs.tsv" >"$dir/all"
    head -n 500 "$dir/all" >"$dir/valid.${side#*=}"
    sed -n '501,1000p' "$dir/all" >"$dir/test.${side#*=}"
    tail -n +1001 "$dir/all" >"$dir/train.${side#*=}"
done
rm -f "$dir/all"
