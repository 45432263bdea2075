/* The provider for GPUs with sub-groups: tiles of cl/gemm_subgroup.cl, whose sizes these are. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum { SUBGROUP = 16, ROWS = 8, COLUMNS = 4 * SUBGROUP, GROUP = 64 };

bool gemm_subgroup_fits(const struct gemm_problem *p, const struct qn_caps *caps)
{
    return caps->device_class == QN_GPU && caps->subgroups && caps->subgroup_size > 0 &&
           caps->subgroup_size <= SUBGROUP && caps->float_width == 4 && p->n >= 4;
}

void gemm_subgroup_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    size_t tiles = divide_up(p->m, ROWS) * divide_up(p->n, COLUMNS) * gemm_batch_count(p);

    qn_launch_kernel(launch, &source_gemm_subgroup, "gemm_subgroup");
    qn_launch_define(launch, "GROUP", GROUP);
    qn_launch_define(launch, "TRANSPOSE_A", p->transpose_a);
    qn_launch_define(launch, "TRANSPOSE_B", p->transpose_b);
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    qn_launch_range(launch,
                    (size_t[3]){size_min(divide_up(tiles, GROUP / SUBGROUP), QN_MAX_ITEMS / GROUP)},
                    (size_t[3]){GROUP});
}
