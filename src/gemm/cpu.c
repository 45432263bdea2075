/* The providers for CPUs: sizes of tiles for cl/gemm_cpu.cl and cl/gemm_cpu_bf16.cl. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum {
    K_BLOCK = 256,  /* a panel of b of so many rows stays in the first-level cache */
    ROW_PART = 192, /* so many rows of a block of a ... */
    COLUMN_TILE =
        512,        /* ... and so many columns of one of b are packed at a time, if there is room */
    ROW_TILE = 512, /* a taller tile of y leaves the caches before the next block of k adds to it */
    TILES = 2,      /* for each core, at least: more share the work better, but pack more */
    LEAST_LOCAL_MEMORY = 32768,
    FEW_ROWS = 8, /* no more: b is not packed, but read once */
    FEW_ROWS_COLUMNS = 512,
    FEW_ROWS_TILES = 4
};

/* The panels of cl/gemm_cpu.cl: their widths, and the floats between one and the next. */
struct panels {
    size_t rows, columns, a_gap, b_gap;
};

static struct panels panels_of(const struct qn_caps *caps)
{
    size_t width = caps->float_width;
    return (struct panels){width == 16 ? 12 : 6, 2 * width, width, 16};
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

/* Sums of results that are narrower than they. */
size_t gemm_cpu_workspace(enum qn_type type, size_t count)
{
    return type == QN_F32 ? 0 : count * sizeof(float);
}

/* How y is cut, and floats of local memory. */
struct tiling {
    size_t rows, columns, row_part, k_block; /* rows 0: all */
    size_t a_panels, b_panels, tile;
};

static void launch_tiles(struct qn_launch *launch, const struct gemm_problem *p,
                         struct tiling tiling, size_t tiles)
{
    qn_launch_kernel(launch, &source_gemm_cpu, "gemm_cpu");
    qn_launch_define(launch, "B_IS_PACKED", p->b_is_packed);
    bool is_narrow = qn_launch_result(launch) != QN_F32;
    qn_launch_define(launch, "IS_NARROW", is_narrow);
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    qn_launch_uint(launch, tiling.rows);
    qn_launch_uint(launch, tiling.columns);
    qn_launch_uint(launch, tiling.row_part);
    qn_launch_uint(launch, tiling.k_block);
    qn_launch_local(launch, size_max(tiling.a_panels, 1) * sizeof(float));
    qn_launch_local(launch, size_max(tiling.b_panels, 1) * sizeof(float));
    qn_launch_local(launch, tiling.tile * sizeof(float));
    if (is_narrow)
        qn_launch_workspace(launch);
    qn_launch_groups(launch, tiles, 1);
}

static void record_few_rows(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);

    /* Wide parts read b in long runs; narrow ones give each core some.  The numbers are the same. */
    size_t column_tile = FEW_ROWS_COLUMNS, tiles;
    for (;;) {
        tiles = divide_up(p->n, column_tile) * gemm_batch_count(p);
        if (tiles >= FEW_ROWS_TILES * caps->compute_units || column_tile <= 4 * caps->float_width)
            break;
        column_tile /= 2;
    }
    launch_tiles(launch, p, (struct tiling){.columns = column_tile, .tile = p->m * column_tile},
                 tiles);
}

/* Cuts y into at least `least` tiles of at most so many rows and columns, where it is large enough.  Each tile
 * packs its rows of a and its columns of b: of all ways to cut, the one that packs least. */
static void cut(const struct gemm_problem *p, struct panels panel, size_t most_rows,
                size_t most_columns, size_t least, struct tiling *tiling)
{
    size_t batch = gemm_batch_count(p), row_panels = divide_up(p->m, panel.rows),
           column_panels = divide_up(p->n, panel.columns), least_packed = SIZE_MAX;
    size_t least_across = divide_up(p->n, most_columns), least_down = divide_up(p->m, most_rows),
           most_down = size_max(least_down, size_min(row_panels, divide_up(least, batch)));
    for (size_t down = least_down; down <= most_down; down++) {
        size_t across = size_max(least_across, divide_up(divide_up(least, batch), down));
        across = size_min(across, column_panels);
        bool is_enough = down * across * batch >= least || across == column_panels;
        size_t packed = down * p->n + across * p->m;
        if (!is_enough || packed >= least_packed)
            continue;
        least_packed = packed;
        tiling->rows = even_part(p->m, divide_up(p->m, down), panel.rows);
        tiling->columns = even_part(p->n, divide_up(p->n, across), panel.columns);
    }
}

/* Half of the local memory, less a tile: for blocks of a, and for those of b. */
static size_t half_of_memory(const struct qn_caps *caps, struct panels panel)
{
    return (caps->local_memory / sizeof(float) - panel.rows * panel.columns) / 2;
}

/* The block of k is a fact of numbers (it splits sums), the tiles are not: they may follow the number of cores. */
static size_t block_of_k(size_t k, const struct qn_caps *caps, struct panels panel)
{
    size_t k_block = K_BLOCK;
    while (panel.columns * k_block + panel.b_gap > half_of_memory(caps, panel))
        k_block /= 2;
    return even_part(k, k_block, 4);
}

static void record_panels(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    struct panels panel = panels_of(caps);
    struct tiling tiling = {.tile = panel.rows * panel.columns};
    size_t half = half_of_memory(caps, panel), k_block = block_of_k(p->k, caps, panel);
    size_t a_panel = panel.rows * k_block + panel.a_gap,
           b_panel = panel.columns * k_block + panel.b_gap;

    cut(p, panel, ROW_TILE, size_min(COLUMN_TILE, half / b_panel * panel.columns),
        TILES * caps->compute_units, &tiling);
    tiling.k_block = k_block;
    tiling.row_part =
        even_part(tiling.rows, size_min(ROW_PART, half / a_panel * panel.rows), panel.rows);
    tiling.a_panels = tiling.row_part / panel.rows * a_panel;
    tiling.b_panels = p->b_is_packed ? 0 : tiling.columns / panel.columns * b_panel;
    launch_tiles(launch, p, tiling,
                 divide_up(p->m, tiling.rows) * divide_up(p->n, tiling.columns) *
                     gemm_batch_count(p));
}

void gemm_cpu_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    bool is_vector = p->m == 1 && p->a_row == 1; /* a column that is a row as well */
    if (!p->b_is_packed && p->m <= FEW_ROWS && (!p->transpose_a || !p->transpose_b || is_vector))
        record_few_rows(launch, p);
    else
        record_panels(launch, p);
}

bool gemm_cpu_packs(size_t rows)
{
    return rows > FEW_ROWS;
}

size_t gemm_cpu_packed_size(size_t k, size_t n, const struct qn_caps *caps)
{
    struct panels panel = panels_of(caps);
    size_t k_block = block_of_k(k, caps, panel);
    return divide_up(k, k_block) * divide_up(n, panel.columns) *
           (panel.columns * k_block + panel.b_gap);
}

void gemm_cpu_pack(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    struct panels panel = panels_of(caps);
    size_t k_block = block_of_k(p->k, caps, panel);
    qn_launch_kernel(launch, &source_gemm_cpu, "gemm_pack");
    qn_launch_define(launch, "B_IS_PACKED", true);
    qn_launch_define(launch, "IS_NARROW", false);
    gemm_launch_types(launch, p);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_uint(launch, p->n);
    qn_launch_uint(launch, p->k);
    qn_launch_uint(launch, p->transpose_b);
    qn_launch_ulong(launch, p->b_row);
    qn_launch_ulong(launch, p->b_offset);
    qn_launch_uint(launch, k_block);
    qn_launch_items(launch, divide_up(p->k, k_block) * divide_up(p->n, panel.columns));
}

/* ---- Pairs of bfloat16 ---- */

enum {
    PAIRS_ROWS = 32,    /* of y and ... */
    PAIRS_COLUMNS = 32, /* ... columns, in registers at once */
    PAIRS_K_BLOCK = 512,
    PAIRS_LANES = 16 /* columns of a panel of b, and words between panels and rows */
};

bool gemm_cpu_bf16_fits(const struct gemm_problem *p, const struct qn_caps *caps)
{
    return caps->device_class == QN_CPU && caps->float_width == 16 &&
           (caps->matrix == QN_AVX512_BF16 || caps->matrix == QN_AMX) &&
           caps->local_memory >= LEAST_LOCAL_MEMORY && p->m > FEW_ROWS;
}

/* Bytes of local memory for a block of k of so many: a part of a, panels of b, sums. */
struct pairs_memory {
    size_t a, b, sums;
};

static struct pairs_memory pairs_memory(size_t rows, size_t columns, size_t k_block)
{
    return (struct pairs_memory){
        PAIRS_ROWS * (k_block / 2 + PAIRS_LANES) * sizeof(uint32_t),
        columns / PAIRS_LANES * (k_block / 2 + 1) * PAIRS_LANES * sizeof(uint32_t),
        round_up(rows, PAIRS_ROWS) * (columns + PAIRS_LANES) * sizeof(float)};
}

static bool pairs_fit(const struct qn_caps *caps, size_t rows, size_t columns, size_t k_block)
{
    struct pairs_memory memory = pairs_memory(rows, columns, k_block);
    return memory.a + memory.b + memory.sums <= caps->local_memory;
}

void gemm_cpu_bf16_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    size_t k_block = PAIRS_K_BLOCK, most_rows = ROW_TILE, most_columns = COLUMN_TILE;
    while (!pairs_fit(caps, most_rows, most_columns, k_block)) {
        if (most_rows > PAIRS_ROWS && most_rows >= most_columns)
            most_rows /= 2;
        else if (most_columns > PAIRS_COLUMNS)
            most_columns /= 2;
        else
            k_block /= 2;
    }
    k_block = even_part(p->k, k_block, 2 * PAIRS_LANES);
    struct tiling tiling = {0};
    cut(p, (struct panels){.rows = PAIRS_ROWS, .columns = PAIRS_COLUMNS}, most_rows, most_columns,
        TILES * caps->compute_units, &tiling);
    struct pairs_memory memory = pairs_memory(tiling.rows, tiling.columns, k_block);

    qn_launch_kernel(launch, &source_gemm_cpu_bf16, "gemm_cpu_bf16");
    qn_launch_define(launch, "MATRIX_AMX", caps->matrix == QN_AMX);
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    qn_launch_uint(launch, tiling.rows);
    qn_launch_uint(launch, tiling.columns);
    qn_launch_uint(launch, k_block);
    qn_launch_local(launch, memory.a);
    qn_launch_local(launch, memory.b);
    qn_launch_local(launch, memory.sums);
    size_t tiles =
        divide_up(p->m, tiling.rows) * divide_up(p->n, tiling.columns) * gemm_batch_count(p);
    qn_launch_groups(launch, tiles, 1);
}
