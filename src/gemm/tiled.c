/* The provider for any device: the size of a tile for cl/gemm_tiled.cl. */
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

/* The largest tile that is not mostly empty and gives each compute unit some.  The numbers are the
 * same with all. */
static const struct tile *choose_tile(const struct gemm_problem *p, const struct qn_caps *caps)
{
    size_t i = 0;
    for (; i < TILES - 1; i++)
        if (group_of(&tiles[i]) <= caps->max_work_group &&
            2 * size_min(p->m, p->n) > tiles[i].tile &&
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
    gemm_launch_types(launch);
    gemm_launch_arguments(launch, p);
    qn_launch_range(launch, (size_t[3]){size_min(count_of(tile, p), QN_MAX_ITEMS / group)},
                    (size_t[3]){group});
}
