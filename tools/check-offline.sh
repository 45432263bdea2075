#!/bin/sh
# Compiles the kernels of small models for GPUs that need not be here, and holds what they take there against tests/offline.txt.
#
#   tools/check-offline.sh BUILD [TARGET...]     the folder of a build; all targets, or those named
#   UPDATE=1 tools/check-offline.sh BUILD        writes the list anew, where nothing takes more than is listed, and what is new has no spills
#   UPDATE=1 GROWS='gfx906:norm dg2:norm' ...    and where these kernels do
#
# A line of the list is a target, a kernel, and the most that it takes in any of its variants: registers of a work-item, bytes of local
# memory, and bytes of other memory for what registers had no room for, of a work-item (Intel: of a hardware thread).  "-" is not
# told by the compiler, "?" by none that was there.  More than is listed fails, and so does less, until the list is written anew: it
# only shrinks.  A kernel of cl/ for GPUs that none of the targets has fails, too.  All compilers are those of Debian 12.
#
# AMD: clang 19 (15 has no more than 128 registers for gfx11), with ROCm's device libraries.  Intel: ocloc 22.43 (later ones write files of
# another form), and kernels that ask for sub-groups of the least size there is; it tells no registers, of which each thread has all.
# NVIDIA: clang 19, with libclc, which knows what it keeps in memory; where PTXAS or PATH names a ptxas that knows the target, its
# assembler has the last word of both memories, and of registers if it is of the release that the list's first line names.
set -eu

targets='dg2 pvc tgllp sm_80 sm_90 gfx90a gfx1100 gfx906 gfx1030 sm_70' # what takes longest comes first
options='-cl-std=CL1.2 -cl-mad-enable -cl-no-signed-zeros'                # as src/device/program.c has them
clang="clang-19 -x cl $options -O3 -Xclang -finclude-default-header -Wno-everything -S"
rocm=$(find /usr/lib -path '*/amdgcn/bitcode/ockl.bc' | sort | head -n 1)
rocm=${rocm%/*}
root=$(cd "$(dirname "$0")/.." && pwd)
list=$root/tests/offline.txt

# ---- The sources ----

# What kernels may count on beside what every device has, as the target's driver reports it: the least sub-group that they may ask for;
# instructions that multiply matrices.  The first word is for all plans, the others are for products of matrices alone, by instructions
# that devices have but that are not used by themselves, or by other devices only: what is without them is compiled, too.
more_of()
{
    case $1 in
    tgllp) echo subgroups=1,subgroup_size=8 ;;
    dg2) echo subgroups=1,subgroup_size=8 subgroups=1,subgroup_size=8,local_memory=65536,max_work_group=1024,matrix=matrix_mad_8 ;;
    pvc) echo subgroups=1,subgroup_size=16 subgroups=1,subgroup_size=16,local_memory=65536,matrix=matrix_mad_16 ;;
    gfx90a) echo subgroups=0 subgroups=0,local_memory=65536,matrix=mfma ;;
    gfx1100) echo subgroups=0 subgroups=0,local_memory=65536,max_work_group=1024,matrix=wmma ;;
    sm_80) echo local_memory=49152,matrix=mma_sync_tf32 local_memory=49152,matrix=mma_sync_f16 ;;
    sm_90) echo local_memory=49152,matrix=mma_sync_tf32 ;;
    *) echo subgroups=0 ;;
    esac
}

# Plans of models, whose kernels are dumped, in the current folder: in sources/, by file and variant.  Nothing is compiled or run for them.  The
# device has what every one has, $1, and one unit, so that small products get the tiles of large ones.
dump()
{
    dumps_to_sources "$1"
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
    keep_one_of_each
}

# The same of products by the instructions that $1 names.
dump_products()
{
    dumps_to_sources "$1"
    "$build/tests/offline" products
    find sources -type f ! -name 'gemm_matrix-*' -exec rm {} +
    keep_one_of_each
}

dumps_to_sources()
{
    mkdir sources
    export QUERN_DUMP_CL="$PWD/sources"
    export QUERN_CAPS="class=gpu,local_memory=32768,fp16=0,subgroups=0,compute_units=1,$1"
}

# Of products by the same kernel, with the same macros but for what is fused, that with most behind it.
keep_one_of_each()
{
    # shellcheck disable=SC2012,SC2045
    for source in $(ls -S sources/gemm_*.cl); do
        kind=$(awk '/^\/\/\/\/ / { own = 1 } own && /^#line/ { exit } own && /^#define [A-Z_0-9]+ [a-z0-9]+$/ && !/FUSED/ { printf "%s", $2 $3 }' "$source")
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

# What all of them have in common, and each.
split()
{
    # shellcheck disable=SC2012
    awk '/^\/\/\/\/ / { exit } { print }' "$(ls sources/*.cl | head -n 1)" >common
    own sources/*.cl >kernels
}

own()
{
    awk 'FNR == 1 { seen = 0 } seen { print } /^\/\/\/\/ / { seen = 1 }' "$@"
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

# Its registers are those of one release of ptxas: that of the list, which without one gets that which is there.
release_of_ptxas()
{
    [ -z "$ptxas" ] || "$ptxas" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p'
}

listed_release()
{
    listed=$(sed -n 's/^# Registers of sm_\*: ptxas \([0-9.]*\)$/\1/p' "$list")
    echo "${listed:-$(release_of_ptxas)}"
}

nvidia()
{
    $clang -target nvptx64-nvidia-nvcl -Xclang -target-cpu -Xclang "$1" -Xclang -target-feature -Xclang +ptx78 \
        -Xclang -mlink-builtin-bitcode -Xclang /usr/lib/clc/nvptx64--nvidiacl.bc "$all" -o "$work/$1.ptx"
    awk 'function bytes() { match($0, /\[[0-9]+\]/); return substr($0, RSTART + 1, RLENGTH - 2) }
        /\.entry / { name = $0; sub(/.*\.entry /, "", name); sub(/\(.*/, "", name); local = spills = 0; within = 1 }
        within && /^\t\.local / { spills += bytes() }
        within && /^\t\.shared / { local += bytes() }
        !within && /^\.shared / { print "check-offline: local memory of no kernel: " $0 >"/dev/stderr"; exit 1 }
        within && /^}/ { print name, "?", local, spills; within = 0 }' "$work/$1.ptx"
    [ -n "$ptxas" ] || return 0
    "$ptxas" -arch="$1" -v "$work/$1.ptx" -o "$work/$1.cubin" 2>"$work/$1.err" || {
        grep -q "Value '$1' is not defined" "$work/$1.err" || fail "$work/$1.err"
        echo "check-offline: $ptxas does not know $1: its spills are clang's alone" >&2
        return 0
    }
    awk -v is_listed="$([ "$(release_of_ptxas)" != "$(listed_release)" ] || echo 1)" '
        function before(what) { match($0, "[0-9]+ " what); return RSTART ? substr($0, RSTART) + 0 : 0 }
        /Compiling entry function/ { split($0, word, "\047") }
        /bytes stack frame/ { spills = $1 }
        / Used [0-9]+ registers/ { print word[2], is_listed ? before("registers") : "?", before("bytes smem"), spills }' "$work/$1.err"
}

# A program for each file of cl/: as large as those of plans.  With all kernels in one the compiler spills what it does not otherwise.
intel()
{
    device=$1
    [ "$1" != dg2 ] || device=dg2-g10
    for folder in $(more_of "$1"); do
        # shellcheck disable=SC2012
        for file in $(ls "$work/$folder/sources" | sed 's/-.*//' | sort -u); do
            program=$work/$1-$file
            { cat "$work/$folder/common" && own "$work/$folder/sources/$file"-*.cl; } >"$program.cl"
            ocloc compile -file "$program.cl" -device "$device" -options "$options" -output k -output_no_suffix -out_dir "$program" \
                >"$program.err" 2>&1 || fail "$program.err"
            ocloc disasm -file "$program/k" -device "$device" -dump "$program/parts" >"$program.err" 2>&1 || fail "$program.err"
            [ -e "$program/parts/PTM.txt" ] || {
                echo "check-offline: this ocloc writes no PTM.txt, from which memory and spills are read; 22.43, of Debian 12, does" >&2
                exit 1
            }
            rm "$program.cl"
            memory_in_ptm "$program/parts/PTM.txt"
        done
    done
}

# Tokens 15 and 18 of a kernel have such sizes in their second words, in hexadecimal bytes, the lowest first.
memory_in_ptm()
{
    awk 'function byte(text) { return 16 * (index(digits, substr("0" text, length(text), 1)) - 1) + index(digits, substr(text, length(text))) - 1 }
        function word() { return byte($6) + 256 * (byte($7) + 256 * (byte($8) + 256 * byte($9))) }
        function finish() { if (name) print name, "-", local, spills }
        BEGIN { digits = "0123456789abcdef" }
        $1 == "KernelName" { finish(); name = $2; local = 0; spills = 0 }
        $2 == "Token" { token = $3 }
        $1 == "Hex" && token == 15 { local = word() }
        $1 == "Hex" && token == 18 { spills = word() }
        END { finish() }' "$1"
}

fail()
{
    tail -n 20 "$1" >&2
    exit 1
}

# The most that variants of a kernel take, as lines of the list; their names end in what tells them apart.  Instructions that are not used by
# themselves have lines of their own.
measure()
{
    target=$1
    all=$work/$target.cl
    # shellcheck disable=SC2046 # words
    set -- $(more_of "$target")
    cat "$work/$1/common" >"$all"
    cat "$work/$1/kernels" >>"$all"
    shift
    for more in "$@"; do
        cat "$work/$more/kernels" >>"$all"
        set=${more##*=}
        # shellcheck disable=SC2012
        ls "$work/$more/sources" | sed "s|\(gemm_matrix\)-\(.*\)\.cl|\1_\2 \1/${set#matrix_}|"
    done >"$work/$target.sets"
    set -- "$target"
    case $1 in
    gfx*) amd "$1" ;;
    sm_*) nvidia "$1" ;;
    *) intel "$1" ;;
    esac >"$work/$1.raw"
    awk -v target="$1" '
        function most(table, name, value) { if (!(name in table) || table[name] == "?" || value + 0 > table[name] + 0) table[name] = value }
        FILENAME ~ /sets$/ { of_set[$1] = $2; next }
        { if ($1 in of_set) $1 = of_set[$1]; else sub(/_[0-9a-f]+$/, "", $1) }
        { most(registers, $1, $2); most(local, $1, $3); most(spills, $1, $4) }
        END { for (name in registers) printf "%-8s %-24s %5s %6s %6s\n", target, name, registers[name], local[name], spills[name] }' \
        "$work/$1.sets" "$work/$1.raw" | LC_ALL=C sort >"$work/$1.found"
    [ -s "$work/$1.found" ] || {
        echo "check-offline: the compiler for $1 gave no kernel" >&2
        exit 1
    }
}

# ---- The list ----

# Kernels of cl/ that no GPU runs, and one of a product that is of gemm_matrix but for its arguments.
not_listed='attention_backward gemm_cpu gemm_cpu_bf16 gemm_pack recurrent_cpu recurrent_pack probe'

# Names of all kernels of cl/.
kernels_of_cl()
{
    awk '/^kernel / { text = "" ; within = 1 }
        within {
            text = text " " $0
            if (match(text, /void +[a-z0-9_]+\(/)) { name = substr(text, RSTART, RLENGTH - 1); sub(/void +/, "", name); print name; within = 0 }
        }' "$root"/cl/*.cl | sort -u
}

all_are_found()
{
    missing=
    for kernel in $(kernels_of_cl); do
        grep -q " $kernel " "$work/found" || case " $not_listed " in
        *" $kernel "*) ;;
        *) missing="$missing $kernel" ;;
        esac
    done
    [ -z "$missing" ] || {
        echo "compiled for no target:$missing; plan it in tests/offline.c"
        return 1
    }
}

# Compares what was found with what is listed.  To write the list anew, more must be allowed by name, and so must spills of what is not listed;
# what no compiler told stays.
compare()
{
    awk -v update="${UPDATE-}" -v grows="${GROWS-}" -v anew="$work/anew" '
        function is_number(text) { return text ~ /^[0-9]+$/ }
        function compare(what, found, listed,    is_less, is_new) {
            if (found == "?" && listed != "") return listed
            if (found == listed || listed == "?") return found
            is_less = is_number(found) && is_number(listed) && found + 0 < listed + 0
            is_new = (listed == "" || (is_number(found) && !is_number(listed))) && !(what == "bytes of spills" && found + 0 > 0)
            if (update && (is_less || is_new || index(" " grows " ", " " $1 ":" $2 " "))) return found
            cure = update ? "; make it take less, or allow it: UPDATE=1 GROWS=" $1 ":" $2 : is_less || is_new ? "; write the list anew: UPDATE=1" : ""
            print $1, $2 ": " found, what ", listed: " (listed == "" ? "none" : listed) cure
            failed = 1
        }
        NR == FNR { registers[$1 $2] = $3; memory[$1 $2] = $4; spills[$1 $2] = $5; unseen[$1 $2] = $1 " " $2; next }
        {
            key = $1 $2
            delete unseen[key]
            printf "%-8s %-24s %5s %6s %6s\n", $1, $2, compare("registers", $3, registers[key]),
                compare("bytes of local memory", $4, memory[key]), compare("bytes of spills", $5, spills[key]) >anew
        }
        END {
            for (key in unseen) {
                print unseen[key] ": listed, but not compiled" (update ? "; its line goes" : "")
                failed = failed || !update
            }
            exit failed
        }' "$work/listed" "$work/found"
}

# ---- All together ----

build=$(cd "$1" && pwd)
shift
ptxas=${PTXAS-$(command -v ptxas || true)}
if [ "${1-}" = --measure ]; then
    work=$2
    measure "$3"
    exit
fi
if [ $# -gt 0 ]; then
    targets=$*
    [ -z "${UPDATE-}" ] || {
        echo "check-offline: the list is written anew for all targets at once" >&2
        exit 1
    }
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/quern-offline-XXXXXX")
trap 'rm -rf "$work"' EXIT
for target in $targets; do
    dump=dump
    for more in $(more_of "$target"); do
        [ -d "$work/$more" ] || {
            mkdir "$work/$more"
            (
                cd "$work/$more"
                $dump "$more"
                split
            )
        }
        dump=dump_products
    done
done
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# shellcheck disable=SC2086 # words
printf '%s\n' $targets | xargs -P "$cores" -n 1 "$0" "$build" --measure "$work"
for target in $targets; do
    cat "$work/$target.found"
done | LC_ALL=C sort >"$work/found"
# shellcheck disable=SC2086 # words
pattern=$(printf '%s ' $targets | sed 's/ $//; s/ /|/g')
grep -E "^($pattern) " "$list" >"$work/listed" || true # none
compare
[ $# -gt 0 ] || all_are_found
if [ -n "${UPDATE-}" ]; then
    release=$(listed_release)
    [ -z "$release" ] || echo "# Registers of sm_*: ptxas $release" >"$list.new"
    cat "$work/anew" >>"$list.new"
    mv "$list.new" "$list"
fi
echo "$(cat "$work"/*.cl | grep -c '^kernel') kernels of $targets: as listed"
