/* The peak of GPUs that have instructions which multiply matrices: what these do from registers. */
#include "cli/bench/bench.h"

#include "gemm/gemm.h"

enum { FRAGMENT = 16 };

/* What a run does, the same with all sets of instructions: enough to keep the largest GPUs busy.  The emulation, which is there for tests, does
 * little. */
enum { INSTRUCTIONS, EMULATION };
static const struct work {
    size_t sub_groups, steps;
} works[] = {[INSTRUCTIONS] = {1 << 15, 128}, [EMULATION] = {16, 2}};

static void build_peak(struct operation *operation, const size_t *sizes, size_t variant)
{
    const struct work *work = &works[variant];
    (void)sizes;
    qn_node *one = operation_filled(operation, QN_SHAPE(1), 1);
    operation_result(operation,
                     gemm_matrix_peak(one, work->sub_groups, work->steps, &operation->qn->caps));
}

/* Sums of ones are whole numbers that f32 holds. */
static void check_peak(struct check *check, struct operation *operation, const size_t *sizes,
                       size_t variant)
{
    const float *means = result_values(operation, 0);
    size_t count = qn_tensor_bytes(operation->results[0]) / sizeof *means;
    double expected = (double)(GEMM_PEAK_CHAINS * FRAGMENT * works[variant].steps);
    (void)sizes;
    for (size_t i = 0; i < count; i++)
        check_number(check, "mean", i, means[i], expected, 0);
}

static double cost_peak(const size_t *sizes, size_t variant)
{
    const struct work *work = &works[variant];
    double of_step = 2.0 * FRAGMENT * FRAGMENT * FRAGMENT * GEMM_PEAK_CHAINS;
    (void)sizes;
    return of_step * (double)work->steps * (double)work->sub_groups;
}

const struct kind matrix_peak_kind = {
    "peaks", "matrix bf16", 0,          {[INSTRUCTIONS] = "", [EMULATION] = "emulated"},
    FLOPS,   build_peak,    check_peak, cost_peak};

bool matrix_peak_variant(const qn_context *qn, size_t *variant)
{
    *variant = qn->caps.matrix == QN_EMULATED ? EMULATION : INSTRUCTIONS;
    return gemm_matrix_is_there(QN_BF16, &qn->caps);
}
