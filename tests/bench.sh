#!/bin/sh
# `quern bench`: rows and JSON, what voids a row, and mistakes.  Sizes are tiny: nothing here is a measurement.
command='bench --seconds 0.05'
. "$SRCDIR/tests/command.sh"
unset POCL_EXTRA_BUILD_FLAGS # its rows run for a while
# The largest copy, whose 256 MiB are made and checked in each run, is left out but for one.
export QUERN_CAPS=max_allocation=67108864

# The number of a row's key in json.tmp; "void" if the row is.
value_of()
{
    awk -v id="\"id\": \"$1\"" -v key="\"$2\":" '
        index($0, id) { is_in = 1 }
        is_in && index($0, "\"status\": \"void\"") { print "void"; exit }
        is_in && index($0, key) { gsub(/[^-+.0-9e]/, "", $2); print $2; exit }' json.tmp
}
is_positive()
{
    value=$(value_of "$1" "$2")
    awk -v value="$value" 'BEGIN { exit !(value + 0 > 0) }' || {
        echo "$2 of $1 is \"$value\""
        cat json.tmp
        return 1
    }
}
has_rows()
{
    for variant in NN NT TN TT; do
        mentions out.tmp "^| gemm $variant | 64x64x64 | [0-9.e+-]* | [0-9.e+-]* | [0-9.e+-]* GFLOP/s | [0-9]*% |\$" ||
            return 1
    done
}
is_json()
{
    ! command -v python3 >/dev/null || python3 -m json.tool json.tmp >json.out
}
estimates_are_of_rounds()
{
    python3 - "$1" <<'END'
import json, statistics, sys
row, = [r for r in json.load(open("json.tmp"))["results"] if r["id"] == sys.argv[1]]
rounds = row["samples_s"]
medians, bests = sorted(map(statistics.median, rounds)), sorted(map(min, rounds))
assert len(rounds) == 10 and all(rounds), row
assert abs(row["median_s"] - statistics.median(medians)) < 1e-12, row
assert row["median_ci_s"] == [medians[1], medians[8]], row
assert row["quiet_s"] == bests[2] and row["quiet_ci_s"] == [bests[0], bests[5]], row
END
}

# Kernels of a row of json.tmp: all of one run, most seconds first, one of them named by the text.
has_kernels()
{
    command -v python3 >/dev/null || return 0
    python3 - "$@" <<'END'
import json, sys
row, = [r for r in json.load(open("json.tmp"))["results"] if r["id"] == sys.argv[1]]
kernels = row["kernels"]
assert kernels and any(k["name"].startswith(sys.argv[2]) for k in kernels), kernels
assert [k["seconds"] for k in kernels] == sorted((k["seconds"] for k in kernels), reverse=True), kernels
for k in kernels:
    assert sorted(k) == ["bytes", "flops", "launches", "name", "seconds"], k
    assert k["launches"] >= 1 and k["seconds"] >= 0, k
    assert all(k[cost] is None or k[cost] > 0 for cost in ("flops", "bytes")), k
if "flops" in sys.argv[3:]:
    assert sum(k["flops"] or 0 for k in kernels) == row["amount"], kernels
END
}
has_reference()
{
    command -v python3 >/dev/null || return 0
    python3 - <<'END'
import json
row = json.load(open("json.tmp"))["results"][-1]
assert len(row["losses"]) == len(row["reference_losses"]) == 8, row
assert all(abs(a - b) <= 2e-3 for a, b in zip(row["losses"], row["reference_losses"])), row
END
}

no_sensors()
{
    QUERN_SYSFS=$PWD/nothing exits 1 memory --shapes 8 --longest 0.000001 --json json.tmp
}
# A folder like /sys, with a CPU's clock and temperature; a GPU's place on the PCI bus is nothing to a CPU.
fake_sensors()
{
    mkdir -p sys/devices/system/cpu/cpu0/cpufreq sys/class/hwmon/hwmon0 || return 1
    echo 1980000 >sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq
    echo coretemp >sys/class/hwmon/hwmon0/name
    echo 41000 >sys/class/hwmon/hwmon0/temp1_input
    QUERN_SYSFS=$PWD/sys QUERN_PCI=0000:65:00.0 exits 1 memory --shapes 8 --longest 0.000001 --json json.tmp
}
# A library before OpenCL's, with which a CPU that waits has another clock than one at work.
idle_clock()
{
    cat >idle.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
static int is_at_work;
#define OF_LIBRARY(name) (*(void **)&real = dlsym(RTLD_NEXT, name))
int clEnqueueNDRangeKernel(void *queue, void *kernel, unsigned dims, void *offset, void *global, void *local, unsigned count,
                           void *wait, void *event)
{
    int (*real)(void *, void *, unsigned, void *, void *, void *, unsigned, void *, void *);
    OF_LIBRARY("clEnqueueNDRangeKernel");
    is_at_work = 1;
    return real(queue, kernel, dims, offset, global, local, count, wait, event);
}
int clEnqueueReadBuffer(void *queue, void *buffer, unsigned blocking, size_t offset, size_t size, void *to, unsigned count,
                        void *wait, void *event)
{
    int (*real)(void *, void *, unsigned, size_t, size_t, void *, unsigned, void *, void *);
    OF_LIBRARY("clEnqueueReadBuffer");
    is_at_work = is_at_work && !blocking;
    return real(queue, buffer, blocking, offset, size, to, count, wait, event);
}
int clFinish(void *queue)
{
    int (*real)(void *);
    OF_LIBRARY("clFinish");
    is_at_work = 0;
    return real(queue);
}
int open(const char *path, int flags, ...)
{
    int (*real)(const char *, int, ...);
    OF_LIBRARY("open");
    return real(!is_at_work && strstr(path, "scaling_cur_freq") ? getenv("IDLE_CLOCK") : path, flags, 0600);
}
END
    ${CC:-cc} -shared -fPIC -w -o idle.so idle.c -ldl && [ "$(LD_PRELOAD=$PWD/idle.so "$quern" --version 2>&1)" = "$("$quern" --version)" ]
}
# Of each kind of row.
clock_of()
{
    echo 800000 >idle_clock
    LD_PRELOAD=$PWD/idle.so IDLE_CLOCK=$PWD/idle_clock QUERN_SYSFS=$PWD/sys exits 0 "$@" --json json.tmp || return 1
    mentions out.tmp '^While rows were timed: clock 1980 MHz,'
}
# A report of almost nothing, with what it says of how it was made.
reports()
{
    exits 1 memory --shapes 8 --longest 0.000001 --json "$1"
}
differ()
{
    first=$1 second=$2 said=$3
    shift 3
    "$quern" bench compare "$first" "$second" "$@" >out.tmp 2>err.tmp && mentions out.tmp "$said"
}
tells_tuning()
{
    printf 'quern tuning 1\ndevice x\n' >x.tuning
    QUERN_TUNING=x.tuning exits 1 memory || return 1
    sed -n 's/.*but this is "\(.*\)": make one.*/quern tuning 1\ndevice \1/p' err.tmp >a.tuning
    QUERN_TUNING=a.tuning reports a.json || return 1
    echo 'matmul f32 NN 64x64x64 tiled/32' >>a.tuning
    QUERN_TUNING=a.tuning reports b.json || return 1
    differ a.json b.json '^| options.tuning | [0-9a-f]\{32\} | [0-9a-f]\{32\} |$' &&
        mentions json.tmp '"tuning": null'
}
tells_kernels()
{
    mkdir -p edited
    cp "$SRCDIR/cl/softmax.cl" edited
    QUERN_CL_DIR=edited reports a.json || return 1
    grep '"kernels": "' json.tmp >built.tmp
    grep '"kernels": "' a.json | cmp - built.tmp || return 1
    echo '// edited' >>edited/softmax.cl
    QUERN_CL_DIR=edited reports b.json || return 1
    differ a.json b.json '^| build.kernels | [0-9a-f]\{32\} | [0-9a-f]\{32\} |$'
}
tells_rows()
{
    exits 0 memory rows --suite quick --longest 0.000001 --json a.json || return 1
    differ a.json json.tmp '^| options.suite | quick | standard |$' &&
        mentions out.tmp '^| options.groups | .*memory.*rows.* | .*memory.* |$' && mentions out.tmp '^| options.shapes | .* | 8 |$'
}
# Two devices that differ in nothing but their numbers.  Runs on both at once are two runs.
of_twin()
{
    POCL_DEVICES='pthread pthread' OCL_ICD_VENDORS=$pocl exits 1 memory --shapes 8 --longest 0.000001 --device "$1" --json "$2" &&
        mentions "$2" "\"selector\": \"$1\""
}
tells_twins()
{
    of_twin 0:0 a.json && of_twin 0:1 b.json || return 1
    for name in a b; do
        sed -e 's/"started": .*/"started": "today",/' -e 's/"finished": .*/"finished": "today",/' $name.json >$name.dated.json
    done
    differ a.dated.json b.dated.json '^| device.selector | 0:0 | 0:1 |$' && ! grep 'are the same run' out.tmp
}
leaves_out_large()
{
    QUERN_CAPS=max_allocation=2000000 exits 0 memory --shapes 1000,1000000 --json json.tmp
}

# A softmax of 0.9 x is still one, of other numbers.
voids_wrong_kernel()
{
    mkdir cl
    sed 's/exp_of(/exp_of(0.9f * /' "$SRCDIR/cl/softmax.cl" >cl/softmax.cl
    QUERN_CL_DIR=cl exits 1 rows --shapes 8x64 --json json.tmp
}
voids_broken_kernel()
{
    mkdir -p broken
    sed 's/exp_of(/forgotten(/' "$SRCDIR/cl/softmax.cl" >broken/softmax.cl
    QUERN_CL_DIR=broken exits 1 rows --shapes 8x64 && mentions out.tmp '^| softmax | 8x64 | void: softmax.cl does not compile: [^^]*forgotten[^^]*; [^^]* \.\.\. |$'
}
# Attention that forgets everything changes what is likeliest.
voids_wrong_text()
{
    mkdir -p forgets
    sed 's/store_lanes(sums/store_lanes(0.0f * sums/' "$SRCDIR/cl/attention_decode_cpu.cl" >forgets/attention_decode_cpu.cl
    sed -e 's/part\[d\] = /&0.0f * /' -e 's/store(sums/store(0.0f * sums/' "$SRCDIR/cl/attention_decode_gpu.cl" >forgets/attention_decode_gpu.cl
    QUERN_CL_DIR=forgets exits 1 generate --shapes 64 && mentions out.tmp 'void: token .* is likelier'
}
# What the gate that forgets gets would be too much.
voids_wrong_lstm()
{
    mkdir -p forgetful
    sed 's/d_cell \* before \* f \* (1.0f - f)/d_cell * before * f/' "$SRCDIR/cl/recurrent.cl" >forgetful/recurrent.cl
    QUERN_CL_DIR=forgetful exits 1 rnn --shapes 1x33x5x3 && mentions out.tmp 'lstm forward+backward .* void: the gradients along'
}
refuses_rates()
{
    echo "$1" >bad.json
    exits 1 gemm --shapes 8x8x8 --against bad.json && mentions err.tmp 'bad.json: result 0: expected an object'
}
against()
{
    echo '[{"case": "gemm 64x64x64 NT float32", "best_s": 1, "mean_s": 1, "rate": 1000000, "unit": "GFLOP/s"}]' >torch.json
    exits 0 gemm --shapes 64x64x64 --against torch.json &&
        mentions out.tmp '^| gemm NT | 64x64x64 .* | 1e+06 GFLOP/s | 0.00 |$' &&
        mentions out.tmp '^| gemm NN | 64x64x64 .* | | |$'
}

# Shares of GFLOP/s are of the greater of both, which are in the report.
is_held_to_greater()
{
    command -v python3 >/dev/null || return 0
    python3 - "$@" <<'END'
import json, sys
report = json.load(open("json.tmp"))
peaks, rows = report["peaks"], [r for r in report["results"] if r["id"].startswith(sys.argv[1] + "/")]
greater = max(peaks["fma_flops_per_s"], peaks["gemm_flops_per_s"])
assert rows and peaks["flops_per_s"] == greater, peaks
for row in rows:
    rate = row.get("model_flops_per_s") or row["rate"]
    assert abs(row["of_peak"] / (rate / greater) - 1) < 1e-9, (row, peaks)
END
}
# fma as if it were much faster, or much slower, than any product.
with_fma()
{
    mkdir -p fma
    sed "s,i < width;,i < width $1;," "$SRCDIR/cl/bench.cl" >fma/bench.cl
    ! cmp -s fma/bench.cl "$SRCDIR/cl/bench.cl" && QUERN_CL_DIR=fma exits 0 gemm --shapes 64x64x64 --json json.tmp &&
        python3 -c 'import json; p = json.load(open("json.tmp"))["peaks"]; assert p["fma_flops_per_s"] '"$2"' p["gemm_flops_per_s"], p' &&
        is_held_to_greater gemm
}

# A library before OpenCL's, with which the device is a GPU.
gpu_library()
{
    cat >gpu.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
int clGetDeviceInfo(void *device, unsigned what, size_t size, void *value, size_t *size_returned)
{
    int (*real)(void *, unsigned, size_t, void *, size_t *);
    *(void **)&real = dlsym(RTLD_NEXT, "clGetDeviceInfo");
    int code = real(device, what, size, value, size_returned);
    if (what == 0x1000 && value && !code) /* CL_DEVICE_TYPE: CL_DEVICE_TYPE_GPU */
        *(unsigned long long *)value = 4;
    return code;
}
END
    ${CC:-cc} -shared -fPIC -w -o gpu.so gpu.c -ldl && LD_PRELOAD=$PWD/gpu.so "$quern" devices | grep -q 'class *GPU'
}
# On a GPU whose fma does this share of its steps: what a run is said to do.
fma_amount()
{
    mkdir -p share
    sed "s,i < width;,i < width / $1;," "$SRCDIR/cl/bench.cl" >share/bench.cl
    LD_PRELOAD=$PWD/gpu.so QUERN_CAPS=matrix=none,max_allocation=3000000 QUERN_CL_DIR=share \
        exits 1 memory --shapes 8 --longest 0.000001 --json json.tmp && [ "$(value_of peak/fma amount)" = "$2" ]
}
slow_fma_amount()
{
    POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable fma_amount "$@"
}

# Instructions of GPUs that multiply matrices, as plain OpenCL that is not optimised, with the kernels of a folder.  What is as large as the
# peaks of products, or as long as fma, would take minutes.
emulated()
{
    wanted=$1 kernels=$2
    shift 2
    sed 's,i < width;,i < width / 64;,' "$SRCDIR/cl/bench.cl" >"$kernels/bench.cl"
    QUERN_CAPS=class=gpu,matrix=emulated,max_allocation=3000000 POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable QUERN_CL_DIR=$kernels \
        exits "$wanted" "$@"
}
multiplies_matrices()
{
    mkdir -p short && emulated 0 short gemm --shapes 64x64x64 --json json.tmp
}
# TF32 is further from f32 than f32 may be.
is_right_in_tf32()
{
    mkdir -p short && emulated 0 short "$@" --gemm tf32
}
# Operands cut off in place of rounded: off by as much as TF32 may be off, but not where each is rounded as it should be.
voids_truncation()
{
    mkdir -p truncates
    sed 's/(bits + 0x1000) & 0xFFFFE000 : bits/bits \& 0xFFFFE000 : bits/' "$SRCDIR/cl/gemm_matrix.cl" >truncates/gemm_matrix.cl
    ! cmp -s truncates/gemm_matrix.cl "$SRCDIR/cl/gemm_matrix.cl" && emulated 1 truncates gemm --shapes 9x9x32 --gemm tf32 &&
        mentions out.tmp '^| gemm NN | 9x9x32 | void: result' && ! grep '^| gemm_bf16 .*void' out.tmp
}
is_held_to_instructions()
{
    command -v python3 >/dev/null || return 0
    python3 - <<'END'
import json
report = json.load(open("json.tmp"))
peaks, results = report["peaks"], {row["id"]: row for row in report["results"]}
peak, row = results["peak/matrix bf16/emulated"], results["gemm_bf16/64x64x64/NN"]
assert peaks["gemm_bf16_flops_per_s"] is None, peaks
assert peaks["bf16_flops_per_s"] == peaks["matrix_bf16_flops_per_s"] == peak["rate"], peaks
assert abs(row["of_peak"] / (row["rate"] / peak["rate"]) - 1) < 1e-9, (row, peak)
END
}
# Chains that begin with what they should not.
voids_wrong_instructions()
{
    mkdir -p chains
    sed 's/all += y\[c\] - .*;/all += y[c];/' "$SRCDIR/cl/gemm_matrix.cl" >chains/gemm_matrix.cl
    emulated 1 chains gemm --shapes 64x64x64 --json wrong.json
}
no_instructions()
{
    QUERN_CAPS=matrix=none,max_allocation=3000000 exits 0 gemm --shapes 64x64x64 --json json.tmp && ! grep 'matrix bf16' out.tmp
}

all_peaks()
{
    QUERN_CAPS='' exits 0 gemm --shapes 64x64x64 --json json.tmp
}
check "a gemm of one shape" all_peaks
check "all copies are peaks" is_positive peak/copy/33554432 median_s
check "a line of the table for each transposition" has_rows
check "the JSON is JSON" is_json
check "it has a positive median" is_positive gemm/64x64x64/NT median_s
check "it has a positive peak" is_positive peak/fma rate
check "its kernel did that work, in one launch" has_kernels gemm/64x64x64/NT 'matmul ' flops
check "it has the commit" mentions json.tmp '"commit": '
if command -v python3 >/dev/null; then
    check "the estimates are those of the rounds' samples" estimates_are_of_rounds gemm/64x64x64/NT
    check "shares are of the product where it does more than fma" with_fma '* 8' '<'
    check "and of fma where that does more" with_fma '/ 64' '>'
else
    skip "the estimates: no python3"
fi
if gpu_library 2>/dev/null; then
    check "a fast GPU has much to do in a run of fma" fma_amount 256 85899345920.0
    check "a slow one little" slow_fma_amount 16 2684354560.0
else
    skip "how much a GPU has to do: no library can be put before OpenCL's"
fi
check "instructions that multiply matrices" multiplies_matrices
check "have a peak" is_positive 'peak/matrix bf16/emulated' median_s
check "of which bf16 is a share" is_held_to_instructions
check "as is said" mentions out.tmp '^of bf16 of the greater of matrix bf16 and gemm_bf16;'
check "the peaks that the device has no room for" mentions out.tmp '^- peak/gemm_bf16/1024x1024x1024/NN: a buffer of 4.0 MiB is larger'
check "a peak that is wrong" voids_wrong_instructions
check "is void" mentions out.tmp '^| matrix bf16 | emulated | void: mean\[0\] is .*, not 128 (allowed'
check "and nothing a share of it" mentions out.tmp '^| gemm_bf16 NN | 64x64x64 | [^|]*|[^|]*|[^|]*| |$'
check "both reports" differ json.tmp wrong.json '^- peak/matrix bf16/emulated is void in B: mean\[0\] is .*, not 128'
check "have what was left out, too" mentions out.tmp '^- peak/gemm_bf16/1024x1024x1024/NN is left out in B: a buffer of'
check "and a page" differ json.tmp wrong.json 'void in B' --html page.html
check "with the reason" mentions page.html '>mean\[0\] is .*, not 128'
check "and the other" mentions page.html '<td>left out</td><td>a buffer of 4.0 MiB'
check "products of TF32" is_right_in_tf32 gemm --shapes 9x9x32
check "and what is made of them" is_right_in_tf32 rnn --shapes 1x17x3x3
check "truncation is not rounding" voids_truncation
check "a device without such instructions" no_instructions
check "says of what bf16 is a share" mentions out.tmp '^of bf16 of the best gemm_bf16;'
check "memory" exits 0 memory --shapes 1000
check "a size given twice is one row" exits 0 memory --shapes 1000,01000 --json json.tmp
check "once" test "$(grep -c '"copy/1000"' json.tmp)" = 1
check "attention" exits 0 attention --shapes 1x2x33x16
check "recurrent layers" exits 0 rnn --shapes 2x33x5x3
check "a wrong gradient of a recurrent layer is void" voids_wrong_lstm
check "a shape that seq2seq has not" usage_error '"64x25" is no shape of seq2seq: 64x24' seq2seq --shapes 64x25
check "too many layers" usage_error 'is no shape of rnn: LAYERSxUNITSxLENGTHxBATCH' rnn --shapes 5x8x8x8
check "rows of two sizes" exits 0 rows --shapes 9x70
check "rows of three sizes, and of one" exits 0 rows --shapes 31x16x7,1001
check "training of one recipe, and its losses" exits 0 train --shapes 12x64 --json json.tmp
check "it has tokens a second" is_positive train/nanogpt-char-cpu/4L4H128-T64-B12 tokens_per_s
check "and the losses that these are held to" has_reference
check "and the share of the same peak" is_held_to_greater train
check "and what its kernels take of a step" has_kernels train/nanogpt-char-cpu/4L4H128-T64-B12 'attention_backward '
check "generating, and its tokens" exits 0 generate --shapes 64 --json json.tmp
check "what kernels take of a token" has_kernels generate/nanogpt-char-cpu/4L4H128-T64 'attention '
check "text of a model whose attention is wrong is void" voids_wrong_text
check "another program's rates" against
check "a rate that cannot be" refuses_rates '[{"case": "gemm 8x8x8 NN float32", "rate": 1e308, "unit": "GFLOP/s"}]'
check "a rate that is text" refuses_rates '[{"case": "gemm 8x8x8 NN float32", "rate": "1", "unit": "GFLOP/s"}]'
check "rates that are no objects" refuses_rates '[1, 2]'
check "a kernel that is wrong fails" voids_wrong_kernel
check "its row is void, with a reason" mentions out.tmp '^| softmax | 8x64 | void: result\[[0-9]*\] is .*, not '
check "in the JSON, too" test "$(value_of softmax/8x64 median_s)" = void
check "a kernel that does not compile is void for what the compiler says" voids_broken_kernel
check "the other rows are not" is_positive layer_norm/8x64/forward median_s
check "the quick suite of a group" exits 0 memory --suite quick --json json.tmp
check "has its row" is_positive add/4194304 median_s
check "and no other" test "$(grep -c '"id": "[^p]' json.tmp)" = 1
check "rows that would take too long" exits 0 memory --suite quick --longest 0.000001 --json json.tmp
check "are left out, with the reason" mentions out.tmp "^- add/4194304: its [23]0 runs at the least would take .* at the device's peak (--longest)\$"
check "a copy that was too slow" mentions out.tmp '^- peak/copy/262144: its [23]0 runs .* as the first did (--longest)$'
check "in the JSON, too" mentions json.tmp '"reason": "its [23]0 runs'
check "a row that the device has no room for" leaves_out_large
check "is left out" mentions out.tmp '^- copy/1000000: a buffer of 3.8 MiB is larger than the device allows'
check "a smaller one is not" is_positive copy/1000 median_s
check "shapes of which none is timed" exits 1 memory --shapes 8 --longest 0.000001
check "are no success" mentions err.tmp '^quern bench: no row of --shapes was timed: all were left out$'
check "a suite that there is not" usage_error 'suite' --suite huge
check "a suite and shapes" usage_error 'suite' gemm --shapes 8x8x8 --suite quick
check "no sensors" no_sensors
check "are said, and why" mentions out.tmp '^Clock, temperature and power: not available: .*nothing has neither'
check "and are null" mentions json.tmp '"source": null'
if "$quern" devices | grep -A3 '^\*' | grep -q 'class *CPU'; then
    check "sensors of a CPU" fake_sensors
    check "are read" mentions out.tmp '^While rows were timed: clock 1980 MHz, temperature 41 °C, power not available (sysfs:cpu).$'
    check "once for each visit of a row" test "$(grep -c '"clock_mhz": 1980' json.tmp)" -ge 10
    if idle_clock 2>/dev/null; then
        check "while the device works" clock_of memory --shapes 8
        check "on steps of training" clock_of train --shapes 12x64
        check "and on prompts" clock_of generate --shapes 64
    else
        skip "whether the device works: no library can be put before OpenCL's"
    fi
else
    skip "sensors of a CPU: the device is none"
fi
check "a report" reports json.tmp
check "it says which tuning file was read" tells_tuning
check "of which kernels it is" tells_kernels
check "and of which suite, groups and shapes" tells_rows
pocl=/etc/OpenCL/vendors/pocl.icd
if [ -f "$pocl" ]; then
    check "of which of two devices alike" tells_twins
else
    skip "two devices alike: no PoCL"
fi
check "an unknown group" usage_error 'no group "gem"; did you mean gemm?' gem
check "a shape of no recipe" usage_error 'is no shape of train: one of 12x64' train --shapes 3x3
check "shapes without a group" usage_error '--shapes needs the one group' --shapes 64x64x64
check "a shape of another group" usage_error '"64x64" is no shape of gemm' gemm --shapes 64x64x64,64x64
check "a shape that is none" usage_error '"0x1x1" is no shape of gemm' gemm --shapes 0x1x1
check "a recipe that there is not" usage_error '"7x7" is no shape of train' train --shapes 12x64,7x7
check "a file that is not there" exits 1 gemm --against nothing.json
echo '{"schema": "quern.bench.compare/2"}' >kept.json
check "a file of something else" exits 1 gemm --shapes 8x8x8 --json kept.json
check "is not replaced" mentions err.tmp 'kept.json is there, and is no report of quern bench: name another file, or remove this one first$'
check "and nothing is measured" test ! -s out.tmp
check "a file that cannot be written" exits 1 gemm --shapes 8x8x8 --json nothing/json

done_testing
