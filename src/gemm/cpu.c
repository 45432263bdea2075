/* The provider for CPUs: sizes of tiles for cl/gemm_cpu.cl. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum {
    K_BLOCK = 256,  /* a panel of b of so many rows stays in the first-level cache */
    ROW_TILE = 192, /* so many rows of a panel of a stay in the second-level cache */
    COLUMN_TILE = 512,
    LEAST_LOCAL_MEMORY = 32768,
    FEW_ROWS = 8, /* no more: b is not packed, but read once */
    FEW_ROWS_COLUMNS = 512
};

/* The panels of cl/gemm_cpu.cl. */
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

bool gemm_cpu_fits(const struct gemm_problem *problem, const struct qn_caps *caps)
{
    (void)problem;
    return caps->device_class == QN_CPU && caps->float_width >= 4 &&
           caps->local_memory >= LEAST_LOCAL_MEMORY;
}

/* How y is cut, and floats of local memory. */
struct tiling {
    size_t rows, columns, k_block; /* rows 0: all */
    size_t a_panels, b_panel, tile;
};

static void launch_tiles(struct qn_launch *launch, const struct gemm_problem *p,
                         struct tiling tiling, size_t tiles)
{
    qn_launch_kernel(launch, &source_gemm_cpu, "gemm_cpu");
    gemm_launch_arguments(launch, p);
    qn_launch_uint(launch, tiling.rows);
    qn_launch_uint(launch, tiling.columns);
    qn_launch_uint(launch, tiling.k_block);
    qn_launch_local(launch, size_max(tiling.a_panels, 1) * sizeof(float));
    qn_launch_local(launch, size_max(tiling.b_panel, 1) * sizeof(float));
    qn_launch_local(launch, tiling.tile * sizeof(float));
    qn_launch_range(launch, (size_t[3]){size_min(tiles, QN_MAX_ITEMS)}, (size_t[3]){1});
}

static size_t least_tiles(const struct qn_caps *caps)
{
    return 4 * caps->compute_units;
}

static void record_few_rows(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);

    /* Wide parts read b in long runs; narrow ones give each core some.  The numbers are the same. */
    size_t column_tile = FEW_ROWS_COLUMNS, tiles;
    for (;;) {
        tiles = divide_up(p->n, column_tile) * gemm_batch_count(p);
        if (tiles >= least_tiles(caps) || column_tile <= 4 * caps->float_width)
            break;
        column_tile /= 2;
    }
    launch_tiles(launch, p, (struct tiling){.columns = column_tile, .tile = p->m * column_tile},
                 tiles);
}

static void record_packed(struct qn_launch *launch, const struct gemm_problem *p)
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
        if (tiles >= least_tiles(caps) || (!rows_shrink && !columns_shrink))
            break;
        if (rows_shrink && (row_tile >= column_tile || !columns_shrink))
            row_tile = round_up(row_tile / 2, panel.rows);
        else
            column_tile = round_up(column_tile / 2, panel.columns);
    }

    launch_tiles(launch, p,
                 (struct tiling){.rows = row_tile,
                                 .columns = column_tile,
                                 .k_block = k_block,
                                 .a_panels = row_tile / panel.rows * panel.row_step * k_block,
                                 .b_panel = panel.columns * k_block,
                                 .tile = panel.rows * panel.columns},
                 tiles);
}

void gemm_cpu_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    if (p->m <= FEW_ROWS && !p->transpose_a)
        record_few_rows(launch, p);
    else
        record_packed(launch, p);
}
