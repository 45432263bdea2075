/* Times single operations on one device: `make bench`, or bench/bench [DEVICE].
 *
 * Each is run twice first; results that differ by a bit, or are not finite, void its row.  Then it
 * warms up, and many samples of several runs each are taken.  "of best" compares with what the
 * device reaches here: with the GFLOP/s of the fastest matmul or the GB/s of the copy, whichever
 * share is larger; above 100%, it came from a cache. */
#include "config.h"

#include <quern/ops.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SAMPLES = 21, MOST_TENSORS = 4, MOST_SIZES = 4 };
static const double warm_up_seconds = 0.3, sample_seconds = 0.03;

struct bench {
    qn_context *qn;
    qn_graph *graph;
    qn_tensor *tensors[MOST_TENSORS]; /* the operands, then the result */
    size_t n_tensors;
};

static qn_tensor *tensor_new(struct bench *bench, enum qn_type type, qn_shape shape)
{
    qn_tensor *tensor = qn_tensor_new(bench->qn, "operand", type, shape);
    if (tensor)
        bench->tensors[bench->n_tensors++] = tensor;
    return tensor;
}

static qn_node *numbers(struct bench *bench, qn_shape shape)
{
    qn_tensor *tensor = tensor_new(bench, QN_F32, shape);
    if (!tensor || qn_fill_normal(tensor, 0, 1, bench->n_tensors) != QN_OK)
        return NULL;
    return qn_leaf(bench->graph, tensor);
}

static qn_node *indices(struct bench *bench, size_t count, size_t below)
{
    qn_tensor *tensor = tensor_new(bench, QN_I32, QN_SHAPE(count));
    int32_t *values = malloc(count * sizeof *values);
    for (size_t i = 0; values && i < count; i++)
        values[i] = (int32_t)(i * 2654435761u % below);
    int status = tensor && values ? qn_tensor_write(tensor, values) : QN_ERROR_MEMORY;
    free(values);
    return status == QN_OK ? qn_leaf(bench->graph, tensor) : NULL;
}

/* ---- The operations; s[] are the sizes of the row ---- */

static qn_node *build_copy(struct bench *bench, const size_t *s)
{
    return qn_offset(numbers(bench, QN_SHAPE(s[0], s[1])), 1);
}
static qn_node *build_matmul(struct bench *bench, const size_t *s) /* M, N, K */
{
    return qn_matmul(numbers(bench, QN_SHAPE(s[0], s[2])), numbers(bench, QN_SHAPE(s[2], s[1])));
}
static qn_node *build_attention(struct bench *bench, const size_t *s) /* B, T, H, D */
{
    qn_node *q = numbers(bench, QN_SHAPE(s[0], s[1], s[2], s[3]));
    qn_node *k = numbers(bench, QN_SHAPE(s[0], s[1], s[2], s[3]));
    qn_node *v = numbers(bench, QN_SHAPE(s[0], s[1], s[2], s[3]));
    return qn_attention(q, k, v, (struct qn_attention){.is_causal = true});
}
static qn_node *build_softmax(struct bench *bench, const size_t *s)
{
    return qn_softmax(numbers(bench, QN_SHAPE(s[0], s[1])), -1);
}
static qn_node *build_layer_norm(struct bench *bench, const size_t *s)
{
    qn_node *x = numbers(bench, QN_SHAPE(s[0], s[1]));
    return qn_layer_norm(x, numbers(bench, QN_SHAPE(s[1])), numbers(bench, QN_SHAPE(s[1])), 1e-5);
}
static qn_node *build_cross_entropy(struct bench *bench, const size_t *s)
{
    return qn_cross_entropy(numbers(bench, QN_SHAPE(s[0], s[1])), indices(bench, s[0], s[1]));
}
static qn_node *build_gelu(struct bench *bench, const size_t *s)
{
    return qn_gelu(numbers(bench, QN_SHAPE(s[0], s[1])));
}
static qn_node *build_sum(struct bench *bench, const size_t *s)
{
    return qn_sum(numbers(bench, QN_SHAPE(s[0], s[1])), QN_AXIS(0));
}
static qn_node *build_embedding(struct bench *bench, const size_t *s) /* V, C, rows */
{
    return qn_embedding(numbers(bench, QN_SHAPE(s[0], s[1])), indices(bench, s[2], s[0]));
}

struct row {
    const char *name;
    qn_node *(*build)(struct bench *bench, const size_t *sizes);
    size_t sizes[MOST_SIZES];
    double flops, bytes; /* of a run */
};

/* clang-format off */
#define MATMUL(m, n, k) \
    {"matmul", build_matmul, {m, n, k}, 2.0 * m * n * k, 4.0 * (m * k + k * n + m * n)}
#define ATTENTION(b, t, h, d) /* causal: half of both products */ \
    {"attention", build_attention, {b, t, h, d}, 2.0 * b * t * t * h * d, 16.0 * b * t * h * d}
#define ROWS(name, m, n, flops, reads) \
    {#name, build_##name, {m, n}, flops * (double)m * n, 4.0 * m * n * reads}

static const struct row rows[] = {
    ROWS(copy, 8192, 2048, 0.0, 2), /* these two first: they set the best */
    MATMUL(1024, 1024, 1024),
    MATMUL(768, 384, 128), /* nanoGPT's recipe: q, k, v; up; logits */
    MATMUL(768, 512, 128),
    MATMUL(768, 65, 128),
    MATMUL(256, 3072, 768), /* GPT-2: up; one token */
    MATMUL(1, 3072, 768),
    ATTENTION(12, 64, 4, 32),
    ATTENTION(1, 1024, 12, 64),
    ROWS(softmax, 4096, 1024, 4.0, 2),
    ROWS(layer_norm, 4096, 768, 8.0, 2),
    ROWS(cross_entropy, 1024, 8192, 4.0, 1),
    ROWS(gelu, 4096, 3072, 10.0, 2),
    ROWS(sum, 4096, 3072, 1.0, 1),
    {"embedding", build_embedding, {50257, 768, 4096}, 0, 8.0 * 4096 * 768},
};
/* clang-format on */

/* ---- Timing ---- */

static double now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds for `runs` runs, to their end; negative on failure. */
static double time_of(struct bench *bench, qn_plan *plan, int runs)
{
    double begin = now();
    for (int i = 0; i < runs; i++)
        if (qn_run(plan) != QN_OK)
            return -1;
    return qn_finish(bench->qn) == QN_OK ? now() - begin : -1;
}

static bool is_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* Whether two runs give the same bits, all finite; else *reason. */
static bool is_sound(struct bench *bench, qn_plan *plan, const qn_tensor *result,
                     const char **reason)
{
    size_t bytes = qn_tensor_bytes(result);
    float *first = malloc(bytes), *second = malloc(bytes);
    *reason = "failed";
    if (first && second && time_of(bench, plan, 1) >= 0 && qn_tensor_read(result, first) == QN_OK &&
        time_of(bench, plan, 1) >= 0 && qn_tensor_read(result, second) == QN_OK) {
        *reason = NULL;
        if (!is_finite(first, bytes / sizeof *first))
            *reason = "not finite";
        else if (memcmp(first, second, bytes) != 0)
            *reason = "two runs differ";
    }
    free(first);
    free(second);
    return *reason == NULL;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The median of the seconds of a run, and half the distance of the quartiles. */
static bool sample(struct bench *bench, qn_plan *plan, double *median, double *spread)
{
    double begin = now(), one = 0, seconds[SAMPLES];
    while (now() - begin < warm_up_seconds) {
        one = time_of(bench, plan, 1);
        if (one < 0)
            return false;
    }
    int runs = one < sample_seconds ? (int)(sample_seconds / one) + 1 : 1;
    for (int i = 0; i < SAMPLES; i++) {
        seconds[i] = time_of(bench, plan, runs) / runs;
        if (seconds[i] < 0)
            return false;
    }
    qsort(seconds, SAMPLES, sizeof *seconds, compare);
    *median = seconds[SAMPLES / 2];
    *spread = (seconds[SAMPLES * 3 / 4] - seconds[SAMPLES / 4]) / 2;
    return true;
}

struct best {
    double flops, bytes; /* a second */
};

static void print_row(const struct row *row, double median, double spread, struct best *best)
{
    double flops = row->flops / median, bytes = row->bytes / median;
    if (row->build == build_matmul && flops > best->flops)
        best->flops = flops;
    if (row->build == build_copy)
        best->bytes = bytes;
    double of_flops = best->flops > 0 ? flops / best->flops : 0;
    double of_bytes = best->bytes > 0 ? bytes / best->bytes : 0;
    printf("%10.4f  %4.1f%%  %9.2f  %8.2f  %6.0f%%\n", 1e3 * median, 100 * spread / median,
           1e-9 * flops, 1e-9 * bytes, 100 * fmax(of_flops, of_bytes));
}

/* Returns whether the row could be timed. */
static bool run_row(qn_context *qn, const struct row *row, struct best *best)
{
    struct bench bench = {.qn = qn, .graph = qn_graph_new(qn)};
    char name[64];
    int length = snprintf(name, sizeof name, "%s", row->name);
    for (int i = 0; i < MOST_SIZES && row->sizes[i]; i++)
        length += snprintf(name + length, sizeof name - (size_t)length, "%c%zu", i ? 'x' : ' ',
                           row->sizes[i]);
    printf("%-26s", name);
    fflush(stdout);

    qn_plan *plan = NULL;
    qn_node *node = row->build(&bench, row->sizes);
    qn_tensor *result =
        node ? qn_tensor_new(qn, "result", qn_node_type(node), qn_node_shape(node)) : NULL;
    qn_node *root = qn_assign(result, node);
    const char *reason = "failed";
    double median, spread;
    bool is_good = false;
    if (root)
        plan = qn_plan_new(bench.graph, &root, 1);
    if (plan && is_sound(&bench, plan, result, &reason) && sample(&bench, plan, &median, &spread)) {
        print_row(row, median, spread, best);
        is_good = true;
    } else {
        printf("void: %s\n", *qn_error(qn) ? qn_error(qn) : reason);
        qn_clear_error(qn);
    }
    qn_plan_free(plan);
    qn_graph_free(bench.graph);
    qn_tensor_free(result);
    for (size_t i = 0; i < bench.n_tensors; i++)
        qn_tensor_free(bench.tensors[i]);
    return is_good;
}

int main(int argc, char **argv)
{
    qn_context *qn = qn_open(argc > 1 ? argv[1] : NULL);
    if (!qn) {
        fprintf(stderr, "bench: %s\n", qn_error(NULL));
        return 1;
    }
    printf("Quern %s, %s\n", PACKAGE_VERSION, qn_device_name(qn));
    printf("%-26s%10s  %5s  %9s  %8s  %7s\n", "", "ms", "+-", "GFLOP/s", "GB/s", "of best");
    struct best best = {0, 0};
    bool is_good = true;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        is_good &= run_row(qn, &rows[i], &best);
    qn_close(qn);
    return is_good ? 0 : 1;
}
