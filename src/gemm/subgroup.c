/* The provider for GPUs with sub-groups: tiles of cl/gemm_subgroup.cl, whose sizes these are. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum { ROWS = 8, COLUMNS_OF_ITEM = 4, GROUP = 64 };

/* The least sub-groups there are: their work-items have most registers. */
bool gemm_subgroup_fits(const struct gemm_problem *p, const struct qn_caps *caps)
{
    return caps->device_class == QN_GPU && caps->subgroups &&
           (caps->subgroup_size == 8 || caps->subgroup_size == 16) && caps->float_width == 4 &&
           p->n >= COLUMNS_OF_ITEM;
}

/* Whether a group reads a transposed b once for all its sub-groups, in whose lanes each row of it would be another line of the cache: then all have
 * tiles below each other, and those without a tile, one of seven at the most, compute for nothing. */
static bool shares_b(const struct gemm_problem *p, size_t row_tiles, size_t stack)
{
    return p->transpose_b && 6 * divide_up(row_tiles, stack) * stack <= 7 * row_tiles;
}

void gemm_subgroup_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    size_t subgroup = qn_launch_caps(launch)->subgroup_size, stack = GROUP / subgroup;
    size_t row_tiles = divide_up(p->m, ROWS);
    bool is_shared = shares_b(p, row_tiles, stack);
    if (is_shared)
        row_tiles = divide_up(row_tiles, stack) * stack;

    qn_launch_kernel(launch, &source_gemm_subgroup, "gemm_subgroup");
    qn_launch_define(launch, "SUBGROUP", (long)subgroup);
    qn_launch_define(launch, "GROUP", GROUP);
    qn_launch_define(launch, "TRANSPOSE_A", p->transpose_a);
    qn_launch_define(launch, "TRANSPOSE_B", p->transpose_b);
    qn_launch_define(launch, "SHARES_B", is_shared);
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    size_t tiles = row_tiles * divide_up(p->n, COLUMNS_OF_ITEM * subgroup) * gemm_batch_count(p);
    qn_launch_groups(launch, divide_up(tiles, stack), GROUP);
}
