#!/bin/sh
# Compiles the kernels of small models for GPUs that need not be here, and holds what they take there against tests/offline.txt.
#
#   tools/check-offline.sh BUILD [TARGET...]     the folder of a build; all targets, or those named
#   UPDATE=1 tools/check-offline.sh BUILD        writes the list anew
#
# A line of the list is a target, a kernel, and the most that it takes in any of its variants: registers of a work-item, bytes of local
# memory, and bytes of other memory for what registers had no room for, of a work-item (Intel: of a hardware thread); "-" is not
# known.  More than is listed fails, and so does less, until the list is written anew: it only shrinks.  All compilers are Debian's.
# AMD: clang 19 (15 has no more than 128 registers for gfx11), with ROCm's device libraries.  NVIDIA: clang, with libclc, which
# knows what it keeps in memory; where PTXAS or PATH names a ptxas that knows the target, its spills must not be more, either.
# Intel: ocloc, and kernels that ask for sub-groups of the least size there is.
set -eu

targets='tgllp dg2 pvc gfx906 gfx90a gfx1030 gfx1100 sm_70 sm_80 sm_90' # what takes longest comes first
options='-cl-std=CL1.2 -cl-mad-enable -cl-no-signed-zeros'                # as src/device/program.c has them
clang="clang-19 -x cl $options -O3 -Xclang -finclude-default-header -Wno-everything -S"
rocm=/usr/lib/x86_64-linux-gnu/amdgcn/bitcode
list=$(cd "$(dirname "$0")/.." && pwd)/tests/offline.txt

# ---- The sources ----

# What kernels may count on beside what every device has, as the target's driver reports it: the least sub-group that they may ask for;
# instructions that multiply matrices.
more_of()
{
    case $1 in
    tgllp | dg2) echo subgroups=1,subgroup_size=8 ;;
    pvc) echo subgroups=1,subgroup_size=16 ;;
    sm_80 | sm_90) echo local_memory=49152,matrix=mma_sync ;;
    *) echo subgroups=0 ;;
    esac
}

# Plans of models, whose kernels are dumped, in the current folder: in sources/, by file and variant.  Nothing is compiled or run for them.  The
# device has what every one has, $1, and one unit, so that small products get the tiles of large ones.
dump()
{
    mkdir sources
    export QUERN_DUMP_CL="$PWD/sources"
    export QUERN_CAPS="class=gpu,local_memory=32768,fp16=0,subgroups=0,compute_units=1,$1"
    awk 'BEGIN { for (i = 0; i < 400; i++) print "the quick brown fox", i, "jumps over the lazy dog", i * i }' >text
    plan gpt --data text --width 256 --heads 4 --layers 1 --context 128 --batch 8 --dropout 0.1
    plan llama --data text --width 256 --heads 2 --layers 1 --context 128 --batch 8 --dtype bf16
    for cell in rnn lstm gru; do
        plan $cell --data text --width 128 --units 128 --layers 1 --context 64 --batch 32
    done
    "$build/tests/offline"
    plan transformer --source text --target text --tokenizer char --width 256 --heads 8 --inner 512 --layers 1 --dropout 0
    # Of what is fused by the graph, of which there is no end, the largest.
    # shellcheck disable=SC2012
    ls -S sources/fused-*.cl | tail -n +9 | xargs rm
    # Of products of a kernel, a tile, a layout and types, that with most behind it.
    # shellcheck disable=SC2012,SC2045
    for source in $(ls -S sources/gemm_*.cl); do
        kind=$(awk '/^\/\/\/\/ / { own = 1 } own && /^#line/ { exit } own && /^#define (TILE|ROWS|K_LANES|PEAK_CHAINS|TRANSPOSE_A|TRANSPOSE_B|T|Y) / { printf "%s", $2 $3 }' "$source")
        kind=$(basename "$source" | cut -d- -f1)-$kind
        [ ! -e "$kind" ] || rm "$source"
        : >"$kind"
    done
}

plan()
{
    "$build/quern" train "$@" --device none --explain --out none --quiet >/dev/null 2>plan.err ||
        grep -q 'the device is "none"' plan.err || {
        cat plan.err >&2
        exit 1
    }
}

# One program of all of them: what they have in common, then each.
join()
{
    awk '/^\/\/\/\/ / { exit } { print }' sources/fused-*.cl
    awk 'FNR == 1 { seen = 0 } seen { print } /^\/\/\/\/ / { seen = 1 }' sources/*.cl
}

# ---- Compilers: lines of kernel, registers, local memory, spills ----

amd()
{
    case $1 in
    gfx11*) # Debian's libraries know no gfx11: those of gfx1036 and of any device, by name
        set -- "$1" -nogpulib
        for library in opencl ocml ockl oclc_isa_version_1036 oclc_abi_version_400 oclc_correctly_rounded_sqrt_off \
            oclc_daz_opt_off oclc_finite_only_off oclc_unsafe_math_off oclc_wavefrontsize64_off; do
            set -- "$@" -Xclang -mlink-builtin-bitcode -Xclang "$rocm/$library.bc"
        done
        ;;
    *) set -- "$1" "--rocm-device-lib-path=$rocm" ;;
    esac
    target=$1
    shift
    $clang -target amdgcn-amd-amdhsa -mcpu="$target" -mcode-object-version=4 "$@" "$all" -o "$work/$target.s"
    awk '/^ +\.group_segment_fixed_size:/ { local = $2 }
        /^ +\.private_segment_fixed_size:/ { spills = $2 }
        /^ +\.symbol:/ { name = $2; gsub(/\.kd|\047/, "", name) }
        /^ +\.vgpr_count:/ { registers = $2 }
        /^ +\.wavefront_size:/ { print name, registers, local, spills }' "$work/$target.s"
}

nvidia()
{
    $clang -target nvptx64-nvidia-nvcl -Xclang -target-cpu -Xclang "$1" -Xclang -target-feature -Xclang +ptx78 \
        -Xclang -mlink-builtin-bitcode -Xclang /usr/lib/clc/nvptx64--nvidiacl.bc "$all" -o "$work/$1.ptx"
    awk '/\.entry / { name = $0; sub(/.*\.entry /, "", name); sub(/\(.*/, "", name); spills = 0; within = 1 }
        within && /^\t\.local / { match($0, /\[[0-9]+\]/); spills += substr($0, RSTART + 1, RLENGTH - 2) }
        within && /^}/ { print name, "-", "-", spills; within = 0 }' "$work/$1.ptx"
    ptxas=${PTXAS-$(command -v ptxas || true)}
    [ -n "$ptxas" ] || return 0
    "$ptxas" -arch="$1" -v "$work/$1.ptx" -o "$work/$1.cubin" 2>"$work/$1.err" || {
        grep -q "Value '$1' is not defined" "$work/$1.err" || fail "$work/$1.err"
        echo "check-offline: $ptxas does not know $1: its spills are clang's alone" >&2
        return 0
    }
    awk '/Compiling entry function/ { split($0, word, "\047") } /bytes stack frame/ { print word[2], "-", "-", $1 }' "$work/$1.err"
}

intel()
{
    device=$1
    [ "$1" != dg2 ] || device=dg2-g10
    ocloc compile -file "$all" -device "$device" -options "$options" -output k -output_no_suffix -out_dir "$work/$1" \
        >"$work/$1.err" 2>&1 || fail "$work/$1.err"
    ocloc disasm -file "$work/$1/k" -device "$device" -dump "$work/$1/parts" >"$work/$1.err" 2>&1 || fail "$work/$1.err"
    # Tokens 15 and 18 of a kernel have such sizes in their second words, in hexadecimal bytes, the lowest first.
    awk 'function byte(text) { return 16 * (index(digits, substr("0" text, length(text), 1)) - 1) + index(digits, substr(text, length(text))) - 1 }
        function word() { return byte($6) + 256 * (byte($7) + 256 * (byte($8) + 256 * byte($9))) }
        function finish() { if (name) print name, "-", local, spills }
        BEGIN { digits = "0123456789abcdef" }
        $1 == "KernelName" { finish(); name = $2; local = 0; spills = 0 }
        $2 == "Token" { token = $3 }
        $1 == "Hex" && token == 15 { local = word() }
        $1 == "Hex" && token == 18 { spills = word() }
        END { finish() }' "$work/$1/parts/PTM.txt"
}

fail()
{
    tail -n 20 "$1" >&2
    exit 1
}

# The most that variants of a kernel take, as lines of the list; their names end in what tells them apart.
measure()
{
    all=$work/$(more_of "$1")/all.cl
    case $1 in
    gfx*) amd "$1" ;;
    sm_*) nvidia "$1" ;;
    *) intel "$1" ;;
    esac >"$work/$1.raw"
    awk -v target="$1" '
        function most(table, name, value) { if (!(name in table) || value == "-" || value + 0 > table[name] + 0) table[name] = value }
        { sub(/_[0-9a-f]+$/, "", $1); most(registers, $1, $2); most(local, $1, $3); most(spills, $1, $4) }
        END { for (name in registers) printf "%-8s %-24s %5s %6s %6s\n", target, name, registers[name], local[name], spills[name] }' \
        "$work/$1.raw" | LC_ALL=C sort >"$work/$1.found"
    [ -s "$work/$1.found" ] || {
        echo "check-offline: the compiler for $1 gave no kernel" >&2
        exit 1
    }
}

# ---- All together ----

build=$(cd "$1" && pwd)
shift
if [ "${1-}" = --measure ]; then
    work=$2
    measure "$3"
    exit
fi
[ $# = 0 ] || targets=$*
work=$(mktemp -d "${TMPDIR:-/tmp}/quern-offline-XXXXXX")
trap 'rm -rf "$work"' EXIT
for target in $targets; do
    more=$(more_of "$target")
    [ ! -d "$work/$more" ] || continue
    mkdir "$work/$more"
    (
        cd "$work/$more"
        dump "$more"
        join >all.cl
    )
done
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# shellcheck disable=SC2086 # words
printf '%s\n' $targets | xargs -P "$cores" -n 1 "$0" "$build" --measure "$work"
for target in $targets; do
    cat "$work/$target.found"
done | LC_ALL=C sort >"$work/found"
if [ -n "${UPDATE-}" ]; then
    [ $# = 0 ] || fail /dev/null
    cp "$work/found" "$list"
fi
# shellcheck disable=SC2086 # words
pattern=$(printf '%s ' $targets | sed 's/ $//; s/ /|/g')
grep -E "^($pattern) " "$list" >"$work/listed"
awk -v pattern="$targets" '
    function compare(what, found, listed) {
        if (found == "-" || found == listed) return
        less = listed != "" && found + 0 < listed + 0
        print $1, $2 ": " found, what ", listed: " (listed == "" ? "none" : listed) (less ? "; write the list anew (UPDATE=1)" : "")
        failed = 1
    }
    NR == FNR { registers[$1 $2] = $3; memory[$1 $2] = $4; spills[$1 $2] = $5; unseen[$1 $2] = $1 " " $2; next }
    { compare("registers", $3, registers[$1 $2]); compare("bytes of local memory", $4, memory[$1 $2]); compare("bytes of spills", $5, spills[$1 $2]); delete unseen[$1 $2] }
    END { for (key in unseen) { print unseen[key] ": listed, but not compiled"; failed = 1 } exit failed }' "$work/listed" "$work/found"
echo "$(grep -c '^kernel' "$work/$more/all.cl") kernels, for each of $targets: as listed"
