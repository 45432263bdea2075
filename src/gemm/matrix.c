/* The provider for GPUs with instructions that multiply matrices: the tile of cl/gemm_matrix.cl and its slices. */
#include "cl_sources.h"
#include "device/context.h"
#include "device/matrix.h"
#include "gemm/gemm.h"

enum { LARGE = 128, SMALL = 64, LINE = 64 /* bytes of a slice */, FEW = 8, RUN = 16 /* bytes */ };

/* Bytes of local memory for so many slices of each operand; the emulation's lanes tell each other eight words.  Sums take the place of slices: of each
 * sub-group 16 rows. */
static size_t memory_of(enum qn_matrix matrix, size_t tile, size_t stages)
{
    const struct matrix_set *set = matrix_set(matrix);
    size_t group = matrix_group(set, tile), exchanged = matrix == QN_EMULATED ? group * 32 : 0;
    size_t staged = group / set->lanes * 16 * (matrix_part(set, tile) + set->pad) * sizeof(float);
    return size_max(2 * stages * tile * LINE + exchanged, staged);
}

/* 0 where not even two fit: one is multiplied while the next arrives. */
static size_t stages_of(const struct qn_caps *caps, size_t tile)
{
    size_t stages = !matrix_set(caps->matrix)->is_async ? 2 : tile == LARGE ? 3 : 4;
    while (stages >= 2 && memory_of(caps->matrix, tile, stages) > caps->local_memory)
        stages--;
    return stages < 2 ? 0 : stages;
}

static bool tile_fits(const struct qn_caps *caps, size_t tile)
{
    return matrix_group(matrix_set(caps->matrix), tile) <= caps->max_work_group &&
           stages_of(caps, tile) > 0;
}

bool gemm_matrix_is_there(enum qn_type type, const struct qn_caps *caps)
{
    const struct matrix_set *set = matrix_set(caps->matrix);
    return caps->device_class == QN_GPU && set->macro && (set->types >> type & 1) &&
           tile_fits(caps, SMALL);
}

bool gemm_matrix_fits(enum qn_type type, const struct gemm_problem *p, const struct qn_caps *caps)
{
    bool is_wanted = type != QN_F32 || caps->gemm == QN_GEMM_TF32;
    return is_wanted && gemm_matrix_is_there(type, caps) && size_min(p->m, p->n) > FEW;
}

static size_t count_of(const struct gemm_problem *p, size_t tile)
{
    return divide_up(p->m, tile) * divide_up(p->n, tile) * gemm_batch_count(p);
}

/* The numbers are the same with both. */
static size_t choose_tile(const struct gemm_problem *p, const struct qn_caps *caps)
{
    if ((p->tile == LARGE || p->tile == SMALL) && tile_fits(caps, p->tile))
        return p->tile;
    bool is_large = tile_fits(caps, LARGE) && 2 * size_min(p->m, p->n) > LARGE &&
                    count_of(p, LARGE) >= caps->compute_units;
    return is_large ? LARGE : SMALL;
}

/* Whether what begins at a multiple of so many numbers, 16 bytes, within a row begins at one of 16 bytes in memory. */
static bool is_aligned(const struct gemm_problem *p, const struct qn_caps *caps, size_t run,
                       size_t row, size_t offset, const size_t *batch)
{
    bool is_batch_aligned = true;
    for (size_t i = 0; i < GEMM_BATCH_AXES; i++)
        is_batch_aligned = is_batch_aligned && (p->batch[i] == 1 || batch[i] % run == 0);
    return is_batch_aligned && row % run == 0 && offset % run == 0 && caps->alignment % RUN == 0;
}

void gemm_launch_matrix(struct qn_launch *launch, enum qn_type type, size_t tile, size_t stages)
{
    const struct matrix_set *set = matrix_set(qn_launch_caps(launch)->matrix);
    qn_launch_define(launch, set->macro, 1);
    qn_launch_define(launch, "LANE_COUNT", (long)set->lanes);
    qn_launch_define(launch, "PART", (long)matrix_part(set, tile));
    qn_launch_define(launch, "TILE", (long)tile);
    qn_launch_define(launch, "STAGES", (long)stages);
    qn_launch_define(launch, "IS_F16", type == QN_F16);
    qn_launch_define(launch, "IS_F32", type == QN_F32);
}

void gemm_matrix_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    size_t tile = choose_tile(p, caps), group = matrix_group(matrix_set(caps->matrix), tile);
    enum qn_type type = qn_launch_layout(launch, 0)->type;
    size_t run = RUN / qn_type_bytes(type, 1);

    qn_launch_kernel(launch, &source_gemm_matrix, "gemm_matrix");
    gemm_launch_matrix(launch, type, tile, stages_of(caps, tile));
    qn_launch_define(launch, "TRANSPOSE_A", p->transpose_a);
    qn_launch_define(launch, "TRANSPOSE_B", p->transpose_b);
    qn_launch_define(launch, "ALIGNED_A",
                     is_aligned(p, caps, run, p->a_row, p->a_offset, p->a_batch));
    qn_launch_define(launch, "ALIGNED_B",
                     is_aligned(p, caps, run, p->b_row, p->b_offset, p->b_batch));
    gemm_launch_types(launch, p);
    gemm_launch_arguments(launch, p);
    qn_launch_groups(launch, count_of(p, tile), group);
}
