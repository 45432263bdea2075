/* The provider for few rows on CPUs: the size of a part of y for cl/gemm_skinny.cl. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum { MAX_GROUPS = 65535 /* one work-item each: see op.h */, MAX_ROWS = 8, MAX_COLUMNS = 512 };

bool gemm_skinny_fits(const struct gemm_problem *problem, const struct qn_caps *caps)
{
    return caps->device_class == QN_CPU && caps->float_width >= 4 && problem->m <= MAX_ROWS &&
           !problem->transpose_a && caps->local_memory >= MAX_ROWS * MAX_COLUMNS * sizeof(float);
}

void gemm_skinny_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);

    /* Wide parts read b in long runs; narrow ones give each core some.  The numbers are the same.
     */
    size_t column_tile = MAX_COLUMNS, tiles;
    for (;;) {
        tiles = divide_up(p->n, column_tile) * gemm_batch_count(p);
        if (tiles >= 4 * caps->compute_units || column_tile <= 4 * caps->float_width)
            break;
        column_tile /= 2;
    }

    qn_launch_kernel(launch, &source_gemm_skinny, "gemm_skinny");
    gemm_launch_arguments(launch, p);
    qn_launch_uint(launch, column_tile);
    qn_launch_local(launch, p->m * column_tile * sizeof(float));
    qn_launch_range(launch, (size_t[3]){size_min(tiles, MAX_GROUPS)}, (size_t[3]){1});
}
