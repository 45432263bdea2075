/* Instructions that multiply matrices: which sets there are, and which of them a tiny product is right with. */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cl_sources.h"
#include "device/matrix.h"
#include "device/probe.h"

#define BF16 (1U << QN_BF16)
#define BOTH (1U << QN_BF16 | 1U << QN_F16)
#define AND_TF32 (BOTH | 1U << QN_F32)

/* clang-format off */
static const struct matrix_set sets[QN_MATRICES] = {
    [QN_NO_MATRIX]     = {.name = "none"},
    [QN_AVX512_BF16]   = {.name = "avx512_bf16",  .types = BF16},
    [QN_AMX]           = {.name = "amx",          .types = BF16, .lesser = QN_AVX512_BF16},
    [QN_EMULATED]      = {.name = "emulated",     .types = AND_TF32, .macro = "EMULATED",      .lanes = 32, .part = 64, .pad = 8, .is_async = true},
    [QN_MMA_SYNC_F16]  = {.name = "mma_sync_f16", .types = 1U << QN_F16, .macro = "MMA_SYNC_F16", .lanes = 32, .part = 64, .pad = 8},
    [QN_MMA_SYNC]      = {.name = "mma_sync",     .types = BOTH, .macro = "MMA_SYNC",      .lanes = 32, .part = 64, .pad = 8, .is_async = true,
                          .lesser = QN_MMA_SYNC_F16},
    [QN_MMA_SYNC_TF32] = {.name = "mma_sync_tf32",.types = AND_TF32, .macro = "MMA_SYNC",  .lanes = 32, .part = 64, .pad = 8, .is_async = true,
                          .lesser = QN_MMA_SYNC},
    [QN_WMMA]          = {.name = "wmma",         .types = BOTH, .macro = "WMMA",          .lanes = 32, .part = 32, .pad = 8},
    [QN_MFMA]          = {.name = "mfma",         .types = BOTH, .macro = "MFMA",          .lanes = 64, .part = 64, .pad = 8},
    [QN_MATRIX_MAD_8]  = {.name = "matrix_mad_8", .types = BOTH, .macro = "MATRIX_MAD_8",  .lanes = 8,  .part = 16},
    [QN_MATRIX_MAD_16] = {.name = "matrix_mad_16",.types = BOTH, .macro = "MATRIX_MAD_16", .lanes = 16, .part = 32},
};
/* clang-format on */

const struct matrix_set *matrix_set(enum qn_matrix matrix)
{
    return &sets[matrix];
}

bool matrix_override(enum qn_matrix *matrix, const char *name)
{
    enum qn_matrix asked = QN_NO_MATRIX;
    while (asked < QN_MATRICES && strcmp(name, sets[asked].name) != 0)
        asked++;
    if (asked == QN_MATRICES)
        return false;
    enum qn_matrix most = sets[*matrix].macro ? QN_NO_MATRIX : *matrix; /* of those of CPUs */
    *matrix = sets[asked].macro || asked < most ? asked : most;
    return true;
}

/* ---- A product whose numbers are known ---- */

enum { MOST_M = 48, MOST_N = 48, MOST_K = 136 };

struct product {
    size_t m, n, k;
    bool b_in_pairs; /* rows of words that hold two neighbours of a column */
};

/* Of pairs of bfloat16: 16 words a row.  Of cl/gemm_matrix.cl: no multiples of its tiles and slices, of which there are some. */
static const struct product of_cpus = {16, 16, 32, true}, of_gpus = {MOST_M, MOST_N, MOST_K, false};

struct trial {
    struct probe probe; /* first: a pointer to it is one to the whole */
    const struct product *product;
    uint32_t *b, *y;                                              /* within: */
    uint32_t words[(MOST_M + MOST_N) * MOST_K + MOST_M * MOST_N]; /* a, b, and y of f32 */
    char defines[512];
};

/* Small whole numbers, which 16 bits, TF32 and sums of f32 hold exactly. */
static int a_at(size_t i, size_t k)
{
    return (int)((7 * i + 3 * k) % 13) - 6;
}

static int b_at(size_t k, size_t j)
{
    return (int)((5 * k + 11 * j) % 17) - 8;
}

static void fill(struct trial *trial, enum qn_type type)
{
    const struct product *p = trial->product;
    for (size_t i = 0; i < p->m * p->k; i++)
        type_put(type, trial->words, i, a_at(i / p->k, i % p->k));
    for (size_t k = 0; k < p->k; k++)
        for (size_t j = 0; j < p->n; j++)
            type_put(type, trial->b, p->b_in_pairs ? (k / 2 * p->n + j) * 2 + k % 2 : k * p->n + j,
                     b_at(k, j));
}

static int check(qn_context *context, const struct probe *probe)
{
    const struct trial *trial = (const struct trial *)probe;
    const struct product *p = trial->product;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            int expected = 0;
            for (size_t k = 0; k < p->k; k++)
                expected += a_at(i, k) * b_at(k, j);
            float found;
            memcpy(&found, &trial->y[i * p->n + j], sizeof found);
            if (found != (float)expected)
                return context_fail(context, QN_ERROR_DEVICE,
                                    "a first product of matrices has %g (bits 0x%08" PRIX32
                                    "), not %d",
                                    (double)found, trial->y[i * p->n + j], expected);
        }
    return QN_OK;
}

/* ---- Probes ---- */

static const struct qn_source cpu_source = {
    "probe_matrix.cl",
    "kernel __attribute__((reqd_work_group_size(1, 1, 1))) void probe(global uint *x)\n"
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

size_t matrix_part(const struct matrix_set *set, size_t tile)
{
    return size_min(set->part, tile / 2);
}

size_t matrix_group(const struct matrix_set *set, size_t tile)
{
    size_t side = tile / matrix_part(set, tile);
    return side * side * set->lanes;
}

/* Whether the set is right with numbers of a type. */
static void trial_init(struct trial *trial, enum qn_matrix matrix, enum qn_type type)
{
    enum { TILE = 64 };
    const struct matrix_set *set = &sets[matrix];
    *trial = (struct trial){.probe = {.source = set->macro ? source_gemm_matrix : cpu_source,
                                      .defines = trial->defines,
                                      .items = set->macro ? matrix_group(set, TILE) : 1,
                                      .numbers = trial->words,
                                      .check = check},
                            .product = set->macro ? &of_gpus : &of_cpus};
    const struct product *p = trial->product;
    trial->b = trial->words + qn_type_bytes(type, p->m * p->k) / sizeof *trial->words;
    trial->y = trial->b + qn_type_bytes(type, p->n * p->k) / sizeof *trial->words;
    trial->probe.bytes = (size_t)(trial->y + p->m * p->n - trial->words) * sizeof *trial->words;
    if (set->macro)
        snprintf(trial->defines, sizeof trial->defines,
                 "#define PROBE_M %zu\n#define PROBE_N %zu\n#define PROBE_K %zu\n"
                 "#define T %s\n#define Y float\n#define IS_F16 %d\n#define IS_F32 %d\n"
                 "#define %s 1\n"
                 "#define LANE_COUNT %zu\n#define PART %zu\n#define TILE %d\n#define STAGES %d\n"
                 "#define TRANSPOSE_A 0\n#define TRANSPOSE_B 0\n"
                 "#define ALIGNED_A 1\n#define ALIGNED_B 1\n",
                 p->m, p->n, p->k, type_in_kernels(type), type == QN_F16, type == QN_F32,
                 set->macro, set->lanes, matrix_part(set, TILE), TILE, set->is_async ? 3 : 2);
    else
        snprintf(trial->defines, sizeof trial->defines, "#define MATRIX_AMX %d\n",
                 matrix == QN_AMX);
    fill(trial, type);
}

/* In a context of its own: after a fault in a kernel some drivers' contexts are good for nothing. */
static int try_apart(const qn_context *context, const struct device_info *info,
                     const struct probe *probe)
{
    qn_context apart = {.pretended = context->pretended,
                        .cl_dir = ""}; /* the kernels that are built in */
    int status = device_open_plain(&apart, info, false);
    if (status == QN_OK)
        status = probe_try(&apart, probe);
    device_close(apart.device);
    return status;
}

static bool is_right(const qn_context *context, const struct device_info *info,
                     enum qn_matrix matrix, char *verdict, size_t size)
{
    bool is_well = true;
    for (enum qn_type type = 0; is_well && type < QN_TYPES; type++) {
        if (!(sets[matrix].types >> type & 1))
            continue;
        struct trial trial;
        trial_init(&trial, matrix, type);
        bool is_settled = probe_recall(info, &trial.probe.source, trial.defines, verdict, size);
        if (context && !is_settled)
            is_well = try_apart(context, info, &trial.probe) == QN_OK;
        else
            is_well = !verdict[0] || strcmp(verdict, "ok") == 0;
    }
    return is_well;
}

enum qn_matrix device_matrix(const qn_context *context, const struct device_info *info,
                             enum qn_matrix most)
{
    char verdict[8];
    enum qn_matrix matrix = most;
    while (matrix != QN_NO_MATRIX && !is_right(context, info, matrix, verdict, sizeof verdict))
        matrix = sets[matrix].lesser;
    return matrix;
}

void matrix_problem(const struct device_info *info, enum qn_matrix most, char *problem, size_t size)
{
    char verdict[900];
    problem[0] = '\0';
    if (most != QN_NO_MATRIX && !is_right(NULL, info, most, verdict, sizeof verdict))
        snprintf(problem, size, "%s, when last tried: %s", sets[most].name, verdict);
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
