/* The provider that hands the product to CLBlast. */
#include "config.h"
#include "device/context.h"
#include "gemm/gemm.h"

#ifdef HAVE_CLBLAST

#define CL_TARGET_OPENCL_VERSION 300
#include <clblast_c.h>

/* Elements from the operand's buffer's beginning to behind its last row; in double, which counts beyond all of them. */
static double extent(const struct gemm_problem *p, size_t offset, size_t rows, size_t row,
                     const size_t *batch)
{
    double end = (double)offset + (double)rows * (double)row;
    for (size_t i = 0; i < GEMM_BATCH_AXES; i++)
        end += (double)(p->batch[i] - 1) * (double)batch[i];
    return end;
}

/* CLBlast counts in int, and wants rows that do not overlap. */
static bool is_possible(const struct gemm_problem *p)
{
    double a_end = extent(p, p->a_offset, p->transpose_a ? p->k : p->m, p->a_row, p->a_batch),
           b_end = extent(p, p->b_offset, p->transpose_b ? p->n : p->k, p->b_row, p->b_batch),
           y_end = (double)p->y_offset + (double)gemm_batch_count(p) * (double)p->m * (double)p->n;
    return a_end < INT32_MAX && b_end < INT32_MAX && y_end < INT32_MAX &&
           p->a_row >= (p->transpose_a ? p->m : p->k) && p->b_row >= (p->transpose_b ? p->k : p->n);
}

bool gemm_clblast_fits(const struct gemm_problem *p, const struct qn_caps *caps)
{
    return caps->clblast && is_possible(p);
}

static int multiply(void *queue, void *const *buffers, const void *arguments)
{
    const struct gemm_problem *p = arguments;
    cl_command_queue cl_queue = queue;
    cl_mem a = buffers[0], b = buffers[1], y = buffers[2];
    CLBlastTranspose transpose_a = p->transpose_a ? CLBlastTransposeYes : CLBlastTransposeNo;
    CLBlastTranspose transpose_b = p->transpose_b ? CLBlastTransposeYes : CLBlastTransposeNo;

    for (size_t i = 0; i < p->batch[0]; i++) {
        size_t a_offset = p->a_offset + i * p->a_batch[0],
               b_offset = p->b_offset + i * p->b_batch[0];
        size_t y_size = p->m * p->n, y_offset = p->y_offset + i * p->batch[1] * y_size;
        CLBlastStatusCode status =
            p->batch[1] == 1
                ? CLBlastSgemm(CLBlastLayoutRowMajor, transpose_a, transpose_b, p->m, p->n, p->k,
                               1.0f, a, a_offset, p->a_row, b, b_offset, p->b_row, 0.0f, y,
                               y_offset, p->n, &cl_queue, NULL)
                : CLBlastSgemmStridedBatched(CLBlastLayoutRowMajor, transpose_a, transpose_b, p->m,
                                             p->n, p->k, 1.0f, a, a_offset, p->a_row, p->a_batch[1],
                                             b, b_offset, p->b_row, p->b_batch[1], 0.0f, y,
                                             y_offset, p->n, y_size, p->batch[1], &cl_queue, NULL);
        if (status != CLBlastSuccess)
            return (int)status;
    }
    return 0;
}

void gemm_clblast_record(struct qn_launch *launch, const struct gemm_problem *p)
{
    if (!is_possible(p)) { /* strides and offsets are known only now */
        gemm_tiled_record(launch, p);
        return;
    }
    qn_launch_call(launch, "gemm_clblast", multiply, p, sizeof *p);
}

#else

bool gemm_clblast_fits(const struct gemm_problem *problem, const struct qn_caps *caps)
{
    (void)problem, (void)caps;
    return false;
}

void gemm_clblast_record(struct qn_launch *launch, const struct gemm_problem *problem)
{
    gemm_tiled_record(launch, problem);
}

#endif
