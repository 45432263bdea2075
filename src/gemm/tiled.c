/* The provider for any device: the size of a tile for cl/gemm_tiled.cl. */
#include "cl_sources.h"
#include "device/context.h"
#include "gemm/gemm.h"

enum { MAX_WORK_ITEMS = 65535 /* see op.h */, DEPTH = 16 };

/* Best first: tile and block of y by which a group and a work-item advance, where both sizes of y are at least `least`. */
static const struct tile {
    size_t tile, block, least;
} tiles[] = {
    {128, 8, 512}, /* 256 work-items, 17 KiB of local memory */
    {64, 8, 128},  /* 64 work-items, 8 KiB */
    {32, 4, 0},    /* 64 work-items, 4 KiB */
};

static const struct tile *choose_tile(const struct gemm_problem *p, const struct qn_caps *caps)
{
    const struct tile *tile = tiles;
    for (; tile->least > 0; tile++) {
        size_t side = tile->tile / tile->block;
        if (size_min(p->m, p->n) >= tile->least && side * side <= caps->max_work_group)
            break;
    }
    return tile;
}

void gemm_tiled_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct tile *tile = choose_tile(p, qn_launch_caps(launch));
    size_t side = tile->tile / tile->block, group = side * side;
    size_t count = divide_up(p->m, tile->tile) * divide_up(p->n, tile->tile) * gemm_batch_count(p);

    qn_launch_kernel(launch, &source_gemm_tiled, "gemm_tiled");
    qn_launch_define(launch, "TILE", (long)tile->tile);
    qn_launch_define(launch, "BLOCK", (long)tile->block);
    qn_launch_define(launch, "DEPTH", DEPTH);
    qn_launch_define(launch, "TRANSPOSE_A", p->transpose_a);
    qn_launch_define(launch, "TRANSPOSE_B", p->transpose_b);
    gemm_launch_arguments(launch, p);
    qn_launch_range(launch, (size_t[3]){size_min(count, MAX_WORK_ITEMS / group)}, (size_t[3]){group});
}
