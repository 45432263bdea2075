/* The provider for few rows on GPUs: the lanes of cl/gemm_skinny.cl. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum { ROWS = 8, LEAST_COLUMNS = 4, SMALL_GROUP = 64, LARGE_GROUP = 256, MANY_COLUMNS = 8192 };

bool gemm_skinny_fits(const struct gemm_problem *p, const struct qn_caps *caps)
{
    return caps->device_class == QN_GPU && caps->float_width == 4 && p->m <= ROWS &&
           p->n >= LEAST_COLUMNS;
}

void gemm_skinny_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    size_t most = qn_launch_caps(launch)->max_work_group;
    size_t group = most >= LARGE_GROUP ? LARGE_GROUP : SMALL_GROUP;
    size_t rows = p->m == 1 ? 1 : ROWS;
    /* Neighbours read neighbours in memory: columns, or steps of k if b is transposed.  Of few columns a group has fewer, no less than
     * memory gives at once: all of a large GPU is to read. */
    bool is_wide = p->n * gemm_batch_count(p) >= MANY_COLUMNS;
    size_t column_lanes = p->transpose_b ? (is_wide ? 4 : 1) : is_wide ? 8 : 2;
    size_t tiles = divide_up(p->n, 4 * column_lanes) * gemm_batch_count(p);

    qn_launch_kernel(launch, &source_gemm_skinny, "gemm_skinny");
    qn_launch_define(launch, "ROWS", (long)rows);
    qn_launch_define(launch, "COLUMN_LANES", (long)column_lanes);
    qn_launch_define(launch, "K_LANES", (long)(group / column_lanes));
    qn_launch_define(launch, "TRANSPOSE_A", p->transpose_a);
    qn_launch_define(launch, "TRANSPOSE_B", p->transpose_b);
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    qn_launch_groups(launch, tiles, group);
}
