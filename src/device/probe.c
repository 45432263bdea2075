/* Probes: tiny programs that are built, run and checked once, and whose verdict is remembered on disk. */
#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "device/cache.h"
#include "device/device.h"

/* A kernel that one group of `items` work-items runs, on some numbers and as many bytes of local memory; and whether what it made
 * of them is right: 0, or a negative status and an error. */
struct probe {
    struct qn_source source;
    const char *defines;
    size_t items, bytes;
    void *numbers;
    int (*check)(qn_context *context, const struct probe *probe);
};

static cl_int run(const struct device *device, const struct probe *probe, cl_kernel kernel,
                  cl_mem buffer)
{
    cl_int code = clSetKernelArg(kernel, 0, sizeof buffer, &buffer);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 1, probe->bytes, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueWriteBuffer(device->queue, buffer, CL_TRUE, 0, probe->bytes, probe->numbers,
                                    0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueNDRangeKernel(device->queue, kernel, 1, NULL, &probe->items, &probe->items,
                                      0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueReadBuffer(device->queue, buffer, CL_TRUE, 0, probe->bytes, probe->numbers,
                                   0, NULL, NULL);
    return code;
}

static int build_and_run(qn_context *context, const struct probe *probe)
{
    const struct device *device = context->device;
    struct qn_counters before = context->counters;
    cl_kernel kernel;
    int status = device_kernels(
        context, &(struct kernel_key){&probe->source, "probe", probe->defines}, 1, &kernel);
    context->counters = before;
    if (status != QN_OK)
        return status;
    cl_int code;
    cl_mem buffer = clCreateBuffer(device->cl, CL_MEM_READ_WRITE, probe->bytes, NULL, &code);
    if (buffer) {
        code = run(device, probe, kernel, buffer);
        clReleaseMemObject(buffer);
    }
    clReleaseKernel(kernel);
    status = device_check(context, code, "running a first kernel");
    return status == QN_OK ? probe->check(context, probe) : status;
}

static struct digest verdict_name(const struct device_info *info, const struct qn_source *source,
                                  const char *defines)
{
    return digest_text(digest_text(digest_device(info), defines), source->text);
}

/* "ok", what went wrong, or "". */
static void recall(struct digest name, char *verdict, size_t size)
{
    size_t bytes;
    char *found = cache_read(CACHE_DEVICE, name, &bytes);
    snprintf(verdict, size, "%s", found ? found : "");
    free(found);
}

static int try_and_remember(qn_context *context, const struct probe *probe)
{
    int status = build_and_run(context, probe);
    const char *verdict = status == QN_OK ? "ok" : context->error;
    if (status != QN_ERROR_MEMORY && status != QN_ERROR_DEVICE_MEMORY)
        cache_write(CACHE_DEVICE,
                    verdict_name(&context->device->info, &probe->source, probe->defines), verdict,
                    strlen(verdict));
    return status;
}

/* ---- Whether it computes at all ---- */

static const struct qn_source first_source = {
    "probe.cl", "kernel void probe(global float *x, local float *shared)\n"
                "{\n"
                "    uint i = get_local_id(0), n = get_local_size(0);\n"
                "    shared[i] = x[i] * x[i];\n"
                "    barrier(CLK_LOCAL_MEM_FENCE);\n"
                "    x[i] = shared[n - 1 - i] + sqrt(x[i]);\n"
                "}\n"};

enum { FIRST_ITEMS = 8 };

static int check_first(qn_context *context, const struct probe *probe)
{
    const float *x = probe->numbers;
    for (size_t i = 0; i < probe->items; i++) {
        size_t mirrored = probe->items - 1 - i;
        float expected = (float)(mirrored * mirrored * mirrored * mirrored + i);
        if (!(fabsf(x[i] - expected) < 0.01f)) /* a NaN is not right either */
            return context_fail(context, QN_ERROR_DEVICE, "a first kernel computed %g, not %g",
                                x[i], expected);
    }
    return QN_OK;
}

void device_probe_verdict(const struct device_info *info, char *verdict, size_t size)
{
    recall(verdict_name(info, &first_source, ""), verdict, size);
}

int device_probe(qn_context *context)
{
    char verdict[8];
    device_probe_verdict(&context->device->info, verdict, sizeof verdict);
    if (strcmp(verdict, "ok") == 0)
        return QN_OK;
    size_t items = size_min(FIRST_ITEMS, context->device->info.caps.max_work_group);
    float x[FIRST_ITEMS];
    for (size_t i = 0; i < items; i++)
        x[i] = (float)(i * i);
    return try_and_remember(context, &(struct probe){.source = first_source,
                                                     .defines = "",
                                                     .items = items,
                                                     .bytes = items * sizeof *x,
                                                     .numbers = x,
                                                     .check = check_first});
}

/* ---- Instructions that multiply matrices ---- */

/* Words of two bfloat16: a, 16 x 32, 16 words a row; b, 32 x 16, in rows of 16 words that hold two neighbours of a column.  Then
 * 16 x 16 results of f32. */
enum { MATRIX_ROWS = 16, MATRIX_K = 32, MATRIX_WORDS = 256, MATRIX_COUNT = 3 * MATRIX_WORDS };

static const struct qn_source matrix_source = {
    "probe_matrix.cl",
    "kernel __attribute__((reqd_work_group_size(1, 1, 1))) void probe(global uint *x, local uint "
    "*shared)\n"
    "{\n"
    "    global uint *a = x, *b = x + 256, *y = x + 512;\n"
    "#if !defined(__x86_64__)\n" /* compilers to SPIR may die of the assembler: nothing is right then */
    "#elif MATRIX_AMX\n"
    "    uchar tiles[64] __attribute__((aligned(64)));\n"
    "    for (uint i = 0; i < 64; i++)\n"
    "        tiles[i] = i == 0 ? 1 : i >= 16 && i < 32 && i % 2 == 0 ? 64 : i >= 48 && i < 56 ? 16 "
    ": 0;\n"
    "    __asm__ volatile(\"ldtilecfg (%0)\\n tilezero %%tmm0\\n tileloadd (%1,%4,1), %%tmm1\\n\"\n"
    "                     \"tileloadd (%2,%4,1), %%tmm2\\n tdpbf16ps %%tmm2, %%tmm1, %%tmm0\\n\"\n"
    "                     \"tilestored %%tmm0, (%3,%4,1)\\n tilerelease\"\n"
    "                     : : \"r\"(tiles), \"r\"(a), \"r\"(b), \"r\"(y), \"r\"(64ul) : "
    "\"memory\");\n"
    "#else\n"
    "    for (uint i = 0; i < 16; i++) {\n"
    "        float16 sum = (float16)(0.0f);\n"
    "        for (uint k = 0; k < 16; k++) {\n"
    "            uint16 pair = (uint16)(a[16 * i + k]), row = vload16(k, b);\n"
    "            __asm__(\"vdpbf16ps %2, %1, %0\" : \"+v\"(sum) : \"v\"(pair), \"v\"(row));\n"
    "        }\n"
    "        vstore16(as_uint16(sum), i, y);\n"
    "    }\n"
    "#endif\n"
    "}\n"};

static const char *matrix_defines(enum qn_matrix matrix)
{
    return matrix == QN_AMX ? "#define MATRIX_AMX 1\n" : "#define MATRIX_AMX 0\n";
}

/* Small whole numbers, which bfloat16 and sums of f32 hold exactly. */
static int matrix_a(size_t i, size_t k)
{
    return (int)((7 * i + 3 * k) % 13) - 6;
}

static int matrix_b(size_t k, size_t j)
{
    return (int)((5 * k + 11 * j) % 17) - 8;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint32_t two_bf16(int first, int second)
{
    return bits_of((float)first) >> 16 | (bits_of((float)second) & 0xFFFF0000U);
}

static int check_matrix(qn_context *context, const struct probe *probe)
{
    const uint32_t *y = (const uint32_t *)probe->numbers + 2 * MATRIX_WORDS;
    for (size_t i = 0; i < MATRIX_ROWS; i++)
        for (size_t j = 0; j < MATRIX_ROWS; j++) {
            int expected = 0;
            for (size_t k = 0; k < MATRIX_K; k++)
                expected += matrix_a(i, k) * matrix_b(k, j);
            if (y[MATRIX_ROWS * i + j] != bits_of((float)expected))
                return context_fail(context, QN_ERROR_DEVICE,
                                    "a first product of matrices has 0x%" PRIX32 ", not %d",
                                    y[MATRIX_ROWS * i + j], expected);
        }
    return QN_OK;
}

static int probe_matrix(qn_context *context, enum qn_matrix matrix)
{
    uint32_t words[MATRIX_COUNT] = {0};
    for (size_t i = 0; i < MATRIX_ROWS; i++)
        for (size_t k = 0; k < MATRIX_K; k += 2) {
            words[MATRIX_ROWS * i + k / 2] = two_bf16(matrix_a(i, k), matrix_a(i, k + 1));
            words[MATRIX_WORDS + MATRIX_ROWS * (k / 2) + i] =
                two_bf16(matrix_b(k, i), matrix_b(k + 1, i));
        }
    return try_and_remember(context, &(struct probe){.source = matrix_source,
                                                     .defines = matrix_defines(matrix),
                                                     .items = 1,
                                                     .bytes = sizeof words,
                                                     .numbers = words,
                                                     .check = check_matrix});
}

enum qn_matrix device_matrix(qn_context *context, const struct device_info *info,
                             enum qn_matrix most)
{
    enum qn_matrix matrix = most;
    for (; matrix != QN_NO_MATRIX; matrix--) {
        char verdict[8];
        recall(verdict_name(info, &matrix_source, matrix_defines(matrix)), verdict, sizeof verdict);
        bool is_known = verdict[0] != '\0';
        if (is_known ? strcmp(verdict, "ok") == 0
                     : !context || probe_matrix(context, matrix) == QN_OK)
            break;
        if (context)
            qn_clear_error(context);
    }
    return matrix;
}

/* ---- What the host's processor has ---- */

enum qn_matrix host_matrix(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 }; /* of leaf 7, edx */
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bf16") || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return QN_NO_MATRIX;
    /* Linux gives a process the space for tiles when it asks; threads that are there have it too. */
    if ((d & AMX_BF16) && (d & AMX_TILE) &&
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA) == 0)
        return QN_AMX;
    return QN_AVX512_BF16;
#else
    return QN_NO_MATRIX;
#endif
}
