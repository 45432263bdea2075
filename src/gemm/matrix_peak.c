/* What instructions that multiply matrices give at the most: by the functions of cl/gemm_matrix.cl, from registers. */
#include "cl_sources.h"
#include "device/context.h"
#include "device/matrix.h"
#include "gemm/gemm.h"

enum { TILE = 64 }; /* the smaller one of products: it makes the work-group */

struct matrix_peak {
    size_t sub_groups, steps, lanes;
};

static bool infer(qn_node *node)
{
    const struct matrix_peak *peak = node->attributes;
    node->outputs[0] = (struct qn_value){QN_F32, QN_SHAPE(peak->sub_groups * peak->lanes)};
    return true;
}

static void record(struct qn_launch *launch, const qn_node *node)
{
    const struct matrix_peak *peak = node->attributes;
    const struct matrix_set *set = matrix_set(qn_launch_caps(launch)->matrix);
    size_t group = matrix_group(set, TILE), groups = peak->sub_groups * peak->lanes / group;
    qn_launch_kernel(launch, &source_gemm_matrix, "matrix_peak");
    qn_launch_define(launch, "PEAK_CHAINS", GEMM_PEAK_CHAINS);
    gemm_launch_matrix(launch, QN_BF16, TILE, 2);
    qn_launch_define(launch, "TRANSPOSE_A", 0);
    qn_launch_define(launch, "TRANSPOSE_B", 0);
    qn_launch_define(launch, "ALIGNED_A", 1);
    qn_launch_define(launch, "ALIGNED_B", 1);
    qn_launch_type(launch, "T", QN_BF16);
    qn_launch_type(launch, "Y", QN_F32);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_ulong(launch, groups);
    qn_launch_ulong(launch, peak->steps);
    qn_launch_groups(launch, groups, group);
}

static const struct qn_variant variants[] = {{.name = "chains", .record = record}};
static const struct qn_op matrix_peak = {.name = "matrix_peak",
                                         .attributes = sizeof(struct matrix_peak),
                                         .outputs = 1,
                                         .infer = infer,
                                         .variants = variants,
                                         .n_variants = 1};

qn_node *gemm_matrix_peak(qn_node *one, size_t sub_groups, size_t steps, const struct qn_caps *caps)
{
    const struct matrix_peak peak = {sub_groups, steps, matrix_set(caps->matrix)->lanes};
    return qn_node_new(&matrix_peak, &peak, &one, 1);
}
