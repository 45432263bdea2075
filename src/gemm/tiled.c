/* The provider for any device: the size of a tile for cl/gemm_tiled.cl, and products in parts. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

/* A group makes tile x tile numbers of y, a work-item block x block of them, from `depth` columns
 * of a at a time.  Best first; the last fits all.  A work-item fetches tile depth / group = 8
 * numbers of each operand. */
static const struct tile {
    size_t tile, block, depth;
} tiles[] = {
    {128, 8, 16}, /* 256 work-items, 17 KiB of local memory */
    {64, 8, 8},   /* 64 work-items, 4 KiB */
    {32, 4, 16},  /* 64 work-items, 5 KiB */
};
enum { TILES = sizeof tiles / sizeof *tiles };

static size_t group_of(const struct tile *tile)
{
    return tile->tile / tile->block * (tile->tile / tile->block);
}

static size_t count_of(const struct tile *tile, const struct gemm_problem *p)
{
    return divide_up(p->m, tile->tile) * divide_up(p->n, tile->tile) * gemm_batch_count(p);
}

static bool tile_fits(const struct tile *tile, const struct qn_caps *caps)
{
    return group_of(tile) <= caps->max_work_group;
}

/* The one that is wanted; else the largest that is not mostly empty and gives each compute unit some.  The numbers are the
 * same with all. */
static const struct tile *choose_tile(const struct gemm_problem *p, const struct qn_caps *caps)
{
    size_t i = 0;
    for (; i < TILES; i++)
        if (tiles[i].tile == p->tile && tile_fits(&tiles[i], caps))
            return &tiles[i];
    for (i = 0; i < TILES - 1; i++)
        if (tile_fits(&tiles[i], caps) && 2 * size_min(p->m, p->n) > tiles[i].tile &&
            count_of(&tiles[i], p) >= 2 * caps->compute_units)
            break;
    return &tiles[i];
}

void gemm_tiled_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct tile *tile = choose_tile(p, qn_launch_caps(launch));
    size_t group = group_of(tile);

    qn_launch_kernel(launch, &source_gemm_tiled, "gemm_tiled");
    qn_launch_define(launch, "TILE", (long)tile->tile);
    qn_launch_define(launch, "BLOCK", (long)tile->block);
    qn_launch_define(launch, "DEPTH", (long)tile->depth);
    qn_launch_define(launch, "TRANSPOSE_A", p->transpose_a);
    qn_launch_define(launch, "TRANSPOSE_B", p->transpose_b);
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    qn_launch_groups(launch, count_of(tile, p), group);
}

/* ---- In parts ---- */

enum {
    SPLIT_TILE = 64,
    ENOUGH_TILES = 512, /* of that side, for a large GPU */
    LEAST_PART = 512,   /* steps of k */
    MOST_PARTS = 16
};

static size_t all_rows(const struct gemm_problem *p)
{
    return gemm_batch_count(p) * p->m;
}

/* A power of two that divides k. */
size_t gemm_split_parts(const struct gemm_problem *p)
{
    size_t count = divide_up(all_rows(p), SPLIT_TILE) * divide_up(p->n, SPLIT_TILE), parts = 1;
    while (parts < MOST_PARTS && parts * count < ENOUGH_TILES && p->k % (2 * parts) == 0 &&
           p->k / (2 * parts) >= LEAST_PART)
        parts *= 2;
    return parts;
}

bool gemm_split_fits(const struct gemm_problem *p, const struct qn_caps *caps)
{
    return caps->device_class == QN_GPU && caps->float_width == 4 && gemm_split_parts(p) > 1;
}

/* The parts are a batch of products, or the outer axis of one, and lie one after the other in the workspace. */
void gemm_split_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    size_t parts = gemm_split_parts(p);
    struct gemm_problem part = *p;
    part.k = p->k / parts;
    part.batch[0] = parts;
    part.a_batch[0] = p->transpose_a ? part.k * p->a_row : part.k;
    part.b_batch[0] = p->transpose_b ? part.k : part.k * p->b_row;
    part.to_workspace = true;
    if (gemm_matrix_fits(qn_launch_layout(launch, 0)->type, &part, caps))
        gemm_matrix_record(launch, &part);
    else if (gemm_subgroup_fits(&part, caps))
        gemm_subgroup_record(launch, &part);
    else
        gemm_tiled_record(launch, &part);

    qn_launch_kernel(launch, &source_gemm_parts, "gemm_parts");
    gemm_launch_types(launch, p);
    qn_launch_workspace(launch);
    qn_launch_output(launch, 0);
    qn_launch_fused(launch);
    qn_launch_uint(launch, parts);
    qn_launch_ulong(launch, all_rows(p));
    qn_launch_ulong(launch, p->n);
    qn_launch_items(launch, all_rows(p) * divide_up(p->n, qn_launch_caps(launch)->float_width));
}
