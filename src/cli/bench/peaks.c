/* What the device can do at best, by kernels of our own, here and now: no table of names. */
#include "cli/bench/bench.h"

#include <math.h>
#include <string.h>

#include <quern/op.h>

#include "cl_sources.h"
#include "device/context.h"

/* ---- Multiply-adds ---- */

/* CHAINS is that of cl/bench.cl.  The width is a multiple of what any group takes at once. */
enum { FMA_WIDTH = 1 << 18, CHAINS = 10 };

/* Much: enough for the largest GPUs to be busy for a millisecond; a CPU would have enough for a second, and a slow GPU for so long that its driver
 * takes it to hang. */
enum { LITTLE, MUCH };
static const size_t fma_rows[] = {[LITTLE] = 1 << 9, [MUCH] = 1 << 14};

struct fma {
    size_t rows;
};

static bool infer_fma(qn_node *node)
{
    const struct fma *fma = node->attributes;
    node->outputs[0] = (struct qn_value){QN_F32, QN_SHAPE(fma->rows)};
    return true;
}

static void record_fma(struct qn_launch *launch, const qn_node *node)
{
    const struct fma *fma = node->attributes;
    qn_launch_kernel(launch, &source_bench, "fma_peak");
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_ulong(launch, fma->rows);
    qn_launch_ulong(launch, FMA_WIDTH);
    qn_launch_rows(launch, fma->rows);
}

static const struct qn_variant fma_variants[] = {{.name = "chains", .record = record_fma}};
static const struct qn_op fma_op = {.name = "fma_peak",
                                    .attributes = sizeof(struct fma),
                                    .outputs = 1,
                                    .infer = infer_fma,
                                    .variants = fma_variants,
                                    .n_variants = 1};

static void build_fma(struct operation *operation, const size_t *sizes, size_t variant)
{
    const struct fma fma = {fma_rows[variant]};
    (void)sizes;
    qn_node *numbers = operation_filled(operation, QN_SHAPE(2), 0.5);
    operation_result(operation, qn_node_new(&fma_op, &fma, &numbers, 1));
}

/* x/2 + 1/2 comes to rest at 1, in each lane of each chain: a whole number of vectors. */
static void check_fma(struct check *check, struct operation *operation, const size_t *sizes,
                      size_t variant)
{
    (void)sizes;
    const float *sums = result_values(operation, 0);
    for (size_t i = 0; i < fma_rows[variant]; i++) {
        double lanes = fmax(1, round(sums[i] / CHAINS));
        check_number(check, "sum", i, sums[i], CHAINS * lanes, 0);
    }
}

static double cost_fma(const size_t *sizes, size_t variant)
{
    (void)sizes;
    return 2.0 * (double)fma_rows[variant] * FMA_WIDTH * CHAINS;
}

static const struct kind fma_kind = {"peaks", "fma",     0,         {[LITTLE] = "", [MUCH] = ""},
                                     FLOPS,   build_fma, check_fma, cost_fma};

/* Much, if the second run of little - the first may compile - is so short that much is over in less than a second. */
static void choose_fma(qn_context *qn, struct row *row, row_run *run, void *of)
{
    static const double short_seconds = 2e-2;
    bool is_good = run(of) && qn_finish(qn) == QN_OK;
    double began = seconds_now();
    is_good = is_good && run(of) && qn_finish(qn) == QN_OK;
    if (!is_good || seconds_now() - began >= short_seconds)
        return;
    row->variant = MUCH;
    row->amount = cost_fma(NULL, MUCH);
}

/* A CPU always has little, so that its runs can be compared however long they take.  What fails here fails again as a row, which says why. */
static bool bench_fma(struct bench *bench)
{
    if (!bench_operation(bench, TABLE_PEAKS, &fma_kind, NULL, LITTLE))
        return false;
    struct row *row = &bench->rows[bench->n_rows - 1];
    if (!bench->qn->caps.is_cpu)
        row->with(bench->qn, row, choose_fma);
    qn_clear_error(bench->qn);
    return true;
}

/* ---- A run of next to nothing, and waiting for it ---- */

static const size_t one_number[] = {1};

static void build_launch(struct operation *operation, const size_t *sizes, size_t variant)
{
    (void)sizes;
    build_copy(operation, one_number, variant);
}

static void check_launch(struct check *check, struct operation *operation, const size_t *sizes,
                         size_t variant)
{
    (void)sizes;
    check_copy(check, operation, one_number, variant);
}

static double cost_launch(const size_t *sizes, size_t variant)
{
    (void)sizes;
    (void)variant;
    return 0;
}

static const struct kind launch_kind = {"peaks",      "launch and wait", 0,          {""}, NO_UNIT,
                                        build_launch, check_launch,      cost_launch};

/* ---- The others are kinds of their own ---- */

static const struct kind *kind_of(const char *name)
{
    size_t i = 0;
    while (strcmp(kinds[i].name, name) != 0)
        i++;
    return &kinds[i];
}

bool bench_peaks(struct bench *bench)
{
    static const size_t copy_floats[COPY_PEAKS] = {1 << 18, 1 << 22, 1 << 25}; /* 1 to 128 MiB */
    static const size_t gemm_sizes[][3] = {{1024, 1024, 1024}, {4096, 4096, 4096}};
    size_t n_gemms =
        bench->suite == FULL ? 2 : 1; /* what is fast with 1024 may idle for the most part */
    size_t variant;
    bool is_good = bench_fma(bench);
    if (is_good && matrix_peak_variant(bench->qn, &variant))
        is_good = bench_operation(bench, TABLE_PEAKS, &matrix_peak_kind, NULL, variant);
    for (size_t i = 0; is_good && i < n_gemms; i++)
        is_good = bench_operation(bench, TABLE_PEAKS, kind_of("gemm"), gemm_sizes[i], NN) &&
                  bench_operation(bench, TABLE_PEAKS, kind_of("gemm_bf16"), gemm_sizes[i], NN);
    for (size_t i = 0; is_good && i < COPY_PEAKS; i++)
        is_good = bench_operation(bench, TABLE_PEAKS, kind_of("copy"), &copy_floats[i], 0);
    return is_good && bench_operation(bench, TABLE_PEAKS, &launch_kind, NULL, 0);
}

/* The best of the rows of peaks, each of which has this rate. */
static struct peaks read_peaks(const struct bench *bench, double (*rate)(const struct row *))
{
    struct peaks peaks = {0};
    const struct kind *gemm = kind_of("gemm"), *gemm_bf16 = kind_of("gemm_bf16");
    size_t copies = 0;
    for (size_t i = 0; i < bench->n_rows && bench->rows[i].table == TABLE_PEAKS; i++) {
        const struct row *row = &bench->rows[i];
        double found = rate(row);
        if (row->kind == &fma_kind)
            peaks.fma_flops = found;
        else if (row->kind == &matrix_peak_kind)
            peaks.matrix_bf16_flops = found;
        else if (row->kind == gemm)
            peaks.gemm_flops = fmax(peaks.gemm_flops, found);
        else if (row->kind == gemm_bf16)
            peaks.gemm_bf16_flops = fmax(peaks.gemm_bf16_flops, found);
        else if (row->kind == &launch_kind)
            peaks.launch_s = row->timing.median.value;
        else
            peaks.copies[copies++] = (struct copy_peak){row->amount, found};
    }
    return peaks;
}

/* ---- Shares of them ---- */

/* Of the copy whose bytes are nearest to the row's. */
static double copy_peak(const struct peaks *peaks, const struct row *row)
{
    double rate = 0, distance = INFINITY;
    for (size_t i = 0; i < COPY_PEAKS; i++) {
        double found = fabs(log(row->amount / peaks->copies[i].moved));
        if (peaks->copies[i].rate > 0 && found < distance) {
            distance = found;
            rate = peaks->copies[i].rate;
        }
    }
    return rate;
}

/* Flops or bytes of a run, and what the peak would make of these in a second; 0: neither is known. */
static double work_of(const struct row *row)
{
    return row->unit == TOKENS ? row->model_flops : row->amount;
}

/* A product of our own alone would be held to itself: multiply-adds in registers tell what its loads and its order cost.  Where
 * other units than theirs multiply matrices, the product may be faster. */
double flops_peak(const struct peaks *peaks)
{
    return fmax(peaks->fma_flops, peaks->gemm_flops);
}

/* Where there is no peak of instructions, as on CPUs, our own best product alone. */
double bf16_flops_peak(const struct peaks *peaks)
{
    return fmax(peaks->matrix_bf16_flops, peaks->gemm_bf16_flops);
}

static double peak_of(const struct peaks *peaks, const struct row *row)
{
    if (row->table == TABLE_GENERATION || row->unit == NO_UNIT)
        return 0;
    if (row->unit == BYTES)
        return copy_peak(peaks, row);
    return row->kind == kind_of("gemm_bf16") ? bf16_flops_peak(peaks) : flops_peak(peaks);
}

/* Of rows that were left out after their first round, too; 0: it is void. */
static double best_rate_so_far(const struct row *row)
{
    double best = INFINITY;
    if (row_is_void(row))
        return 0;
    for (size_t i = 0; i < row->timing.count; i++)
        best = fmin(best, row->timing.samples[i]);
    return row->amount / best;
}

double seconds_at_peak(const struct bench *bench, const struct row *row)
{
    struct peaks peaks = read_peaks(bench, best_rate_so_far);
    double peak = peak_of(&peaks, row);
    return peak > 0 ? work_of(row) / peak : 0;
}

static double rate_of_figures(const struct row *row)
{
    return *row->reason ? 0 : row_rate(row);
}

void set_peaks(struct bench *bench)
{
    bench->peaks = read_peaks(bench, rate_of_figures);
    for (size_t i = 0; i < bench->n_rows; i++) {
        struct row *row = &bench->rows[i];
        double peak = *row->reason ? 0 : peak_of(&bench->peaks, row);
        if (peak > 0 && row->table != TABLE_PEAKS)
            row->of_peak = work_of(row) / row->timing.median.value / peak;
    }
}
