/* What the providers of matrix multiplication share. */
#include "gemm/gemm.h"

size_t gemm_batch_count(const struct gemm_problem *problem)
{
    return problem->batch[0] * problem->batch[1];
}

void gemm_launch_types(struct qn_launch *launch, const struct gemm_problem *p)
{
    qn_launch_type(launch, "T", qn_launch_layout(launch, 0)->type);
    qn_launch_type(launch, "Y", p->to_workspace ? QN_F32 : qn_launch_result(launch));
}

void gemm_launch_arguments(struct qn_launch *launch, const struct gemm_problem *p)
{
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    if (p->to_workspace) {
        qn_launch_workspace(launch);
    } else {
        qn_launch_output(launch, 0);
        qn_launch_fused(launch);
    }
    qn_launch_uint(launch, p->m);
    qn_launch_uint(launch, p->n);
    qn_launch_uint(launch, p->k);
    qn_launch_uint(launch, p->transpose_a);
    qn_launch_uint(launch, p->transpose_b);
    qn_launch_ulong(launch, p->a_row);
    qn_launch_ulong(launch, p->b_row);
    qn_launch_ulong(launch, p->a_offset);
    qn_launch_ulong(launch, p->b_offset);
    qn_launch_ulong(launch, p->y_offset);
    qn_launch_uint(launch, gemm_batch_count(p));
    qn_launch_uint(launch, p->batch[1]);
    qn_launch_ulong(launch, p->a_batch[0]);
    qn_launch_ulong(launch, p->a_batch[1]);
    qn_launch_ulong(launch, p->b_batch[0]);
    qn_launch_ulong(launch, p->b_batch[1]);
}
