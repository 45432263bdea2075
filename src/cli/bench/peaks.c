/* What the device can do at best, by kernels of our own, here and now: no table of names. */
#include "cli/bench/bench.h"

#include <math.h>
#include <string.h>

#include <quern/op.h>

#include "cl_sources.h"

/* ---- Multiply-adds ---- */

/* CHAINS is that of cl/bench.cl.  The width is a multiple of what any group takes at once. */
enum { FMA_ROWS = 512, FMA_WIDTH = 1 << 18, CHAINS = 10 };

static bool infer_fma(qn_node *node)
{
    node->outputs[0] = (struct qn_value){QN_F32, QN_SHAPE(FMA_ROWS)};
    return true;
}

static void record_fma(struct qn_launch *launch, const qn_node *node)
{
    (void)node;
    qn_launch_kernel(launch, &source_bench, "fma_peak");
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_ulong(launch, FMA_ROWS);
    qn_launch_ulong(launch, FMA_WIDTH);
    qn_launch_rows(launch, FMA_ROWS);
}

static const struct qn_variant fma_variants[] = {{.name = "chains", .record = record_fma}};
static const struct qn_op fma_op = {.name = "fma_peak",
                                    .outputs = 1,
                                    .infer = infer_fma,
                                    .variants = fma_variants,
                                    .n_variants = 1};

static void build_fma(struct operation *operation, const size_t *sizes, size_t variant)
{
    (void)sizes;
    (void)variant;
    qn_node *numbers = operation_filled(operation, QN_SHAPE(2), 0.5);
    operation_result(operation, qn_node_new(&fma_op, NULL, &numbers, 1));
}

/* x/2 + 1/2 comes to rest at 1, in each lane of each chain: a whole number of vectors. */
static void check_fma(struct check *check, struct operation *operation, const size_t *sizes,
                      size_t variant)
{
    (void)sizes;
    (void)variant;
    const float *sums = result_values(operation, 0);
    for (size_t i = 0; i < FMA_ROWS; i++) {
        double lanes = fmax(1, round(sums[i] / CHAINS));
        check_number(check, "sum", i, sums[i], CHAINS * lanes, 0);
    }
}

static double cost_fma(const size_t *sizes, size_t variant)
{
    (void)sizes;
    (void)variant;
    return 2.0 * FMA_ROWS * FMA_WIDTH * CHAINS;
}

static const struct kind fma_kind = {"peaks", "fma",     0,         {""},
                                     FLOPS,   build_fma, check_fma, cost_fma};

/* ---- The others are kinds of their own ---- */

static const struct kind *kind_of(const char *name)
{
    size_t i = 0;
    while (strcmp(kinds[i].name, name) != 0)
        i++;
    return &kinds[i];
}

double share_of_copy(const struct peaks *peaks, const struct row *row)
{
    double rate = 0, distance = INFINITY;
    for (size_t i = 0; i < COPY_PEAKS; i++) {
        double found = fabs(log(row->amount / peaks->copies[i].moved));
        if (peaks->copies[i].rate > 0 && found < distance) {
            distance = found;
            rate = peaks->copies[i].rate;
        }
    }
    return rate > 0 ? row_rate(row) / rate : 0;
}

/* A run of next to nothing, and waiting for it. */
static bool measure_launch(struct bench *bench)
{
    struct row *row = bench_row(bench, TABLE_PEAKS, "launch and wait");
    if (!row)
        return false;
    struct operation operation = {.qn = bench->qn, .graph = qn_graph_new(bench->qn)};
    row->unit = NO_UNIT;
    build_copy(&operation, (const size_t[]){1}, 0);
    operation.plan = qn_plan_new(operation.graph, operation.roots, operation.n_results);
    if (!operation.plan ||
        timing_of_plan(&row->timing, bench->qn, operation.plan, bench->seconds / 2, true) != QN_OK)
        row_void(row, "%s", qn_error(bench->qn));
    qn_clear_error(bench->qn);
    operation_free(&operation);
    bench->peaks.launch_s = row->timing.median;
    report_row(bench, row);
    return true;
}

/* The rate of one variant of a kind, as a peak; 0 if it is void. */
static bool measure(struct bench *bench, const struct kind *kind, const size_t *sizes,
                    size_t variant, double *rate)
{
    if (!bench_operation(bench, TABLE_PEAKS, kind, sizes, variant))
        return false;
    const struct row *row = &bench->rows[bench->n_rows - 1];
    *rate = *row->reason ? 0 : row_rate(row);
    return true;
}

bool bench_peaks(struct bench *bench)
{
    static const size_t copy_floats[COPY_PEAKS] = {1 << 18, 1 << 22, 1 << 25}; /* 1 to 128 MiB */
    static const size_t gemm_sizes[] = {1024, 1024, 1024};
    struct peaks *peaks = &bench->peaks;
    bool is_good = measure(bench, &fma_kind, NULL, 0, &peaks->fma_flops) &&
                   measure(bench, kind_of("gemm"), gemm_sizes, NN, &peaks->gemm_flops);
    for (size_t i = 0; is_good && i < COPY_PEAKS; i++) {
        peaks->copies[i].moved = 8.0 * (double)copy_floats[i];
        is_good = measure(bench, kind_of("copy"), &copy_floats[i], 0, &peaks->copies[i].rate);
    }
    return is_good && measure_launch(bench);
}
