/* The provider for CPUs: sizes of tiles for cl/gemm_packed.cl. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum {
    MAX_GROUPS = 65535, /* one work-item each: see op.h */
    K_BLOCK = 256,      /* a panel of b of so many rows stays in the first-level cache */
    ROW_TILE = 192,     /* so many rows of a panel of a stay in the second-level cache */
    COLUMN_TILE = 512,
    LEAST_LOCAL_MEMORY = 32768
};

/* The panels of cl/gemm_packed.cl. */
struct panels {
    size_t rows, row_step, columns;
};

static struct panels panels_of(const struct qn_caps *caps)
{
    size_t rows = caps->float_width == 16 ? 12 : 6;
    return (struct panels){rows, round_up(rows, 4), 2 * caps->float_width};
}

/* The least multiple of `unit` of which no more are needed to cover `size` than of `most`. */
static size_t even_part(size_t size, size_t most, size_t unit)
{
    return round_up(divide_up(size, divide_up(size, most)), unit);
}

bool gemm_packed_fits(const struct gemm_problem *problem, const struct qn_caps *caps)
{
    (void)problem;
    return caps->device_class == QN_CPU && caps->float_width >= 4 &&
           caps->local_memory >= LEAST_LOCAL_MEMORY;
}

void gemm_packed_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    struct panels panel = panels_of(caps);
    size_t local_floats = caps->local_memory / sizeof(float) - panel.rows * panel.columns;

    /* The block of k is a fact of numbers (it splits sums), the tiles are not: they may follow the
     * number of cores. */
    size_t k_block = K_BLOCK;
    while (k_block * (panel.columns + 4 * panel.row_step) > local_floats)
        k_block /= 2;
    size_t row_panels = (local_floats / k_block - panel.columns) / panel.row_step;
    size_t row_tile = even_part(p->m, size_min(ROW_TILE, row_panels * panel.rows), panel.rows);
    size_t column_tile = even_part(p->n, COLUMN_TILE, panel.columns), tiles;
    k_block = even_part(p->k, k_block, 4);

    for (;;) {
        tiles = divide_up(p->m, row_tile) * divide_up(p->n, column_tile) * gemm_batch_count(p);
        bool rows_shrink = row_tile >= 4 * panel.rows,
             columns_shrink = column_tile >= 4 * panel.columns;
        if (tiles >= 4 * caps->compute_units || (!rows_shrink && !columns_shrink))
            break;
        if (rows_shrink && (row_tile >= column_tile || !columns_shrink))
            row_tile = round_up(row_tile / 2, panel.rows);
        else
            column_tile = round_up(column_tile / 2, panel.columns);
    }

    qn_launch_kernel(launch, &source_gemm_packed, "gemm_packed");
    gemm_launch_arguments(launch, p);
    qn_launch_uint(launch, row_tile);
    qn_launch_uint(launch, column_tile);
    qn_launch_uint(launch, k_block);
    qn_launch_local(launch, row_tile / panel.rows * panel.row_step * k_block * sizeof(float));
    qn_launch_local(launch, panel.columns * k_block * sizeof(float));
    qn_launch_local(launch, panel.rows * panel.columns * sizeof(float));
    qn_launch_range(launch, (size_t[3]){size_min(tiles, MAX_GROUPS)}, (size_t[3]){1});
}
