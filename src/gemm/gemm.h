/* Matrix multiplication: one problem, and the providers that can solve it.
 *
 * The operands are those of the node being recorded: inputs 0 and 1 are a and b, output 0 is y,
 * which is contiguous. */
#ifndef QUERN_GEMM_H
#define QUERN_GEMM_H

#include <quern/op.h>
#include <quern/ops.h>

enum { GEMM_BATCH_AXES = 2 };

/* y = op(a) op(b), op(a) m x k, op(b) k x n, for each index of the batch.
 * Strides and offsets count elements.  Rows of the stored a (m x k, or k x m if transposed) are
 * a_row apart; likewise b. */
struct gemm_problem {
    size_t m, n, k;
    bool transpose_a, transpose_b;
    bool
        b_is_packed; /* as gemm_cpu_pack() does it; transpose_b, b_row and b_offset mean nothing then */
    size_t a_row, b_row;
    size_t a_offset, b_offset, y_offset;
    size_t batch[GEMM_BATCH_AXES]; /* outer, inner */
    size_t a_batch[GEMM_BATCH_AXES], b_batch[GEMM_BATCH_AXES];
    size_t tile;       /* the side that is wanted; 0, or none of the provider's: as it chooses */
    bool to_workspace; /* y is the node's workspace, in f32, and nothing comes after the product */
};

/* CPUs: one work-item a group, packed panels, explicit vectors; few rows (generating text) at the
 * speed of memory.  cl/gemm_cpu.cl */
bool gemm_cpu_fits(const struct gemm_problem *problem, const struct qn_caps *caps);
size_t gemm_cpu_workspace(enum qn_type type,
                          size_t count); /* bytes, for so many results of a type */
void gemm_cpu_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* The same for bfloat16 by instructions that multiply pairs of them (qn_caps.matrix), for more than few rows.
 * cl/gemm_cpu_bf16.cl */
bool gemm_cpu_bf16_fits(const struct gemm_problem *problem, const struct qn_caps *caps);
void gemm_cpu_bf16_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* b (k x n), made ready once for many products: whether it pays for products of so many rows, the floats that it takes, and how it is
 * made. */
bool gemm_cpu_packs(size_t rows);
size_t gemm_cpu_packed_size(size_t k, size_t n, const struct qn_caps *caps);
void gemm_cpu_pack(struct qn_launch *launch, const struct gemm_problem *problem);

/* GPUs: instructions that multiply small matrices of a type (qn_caps.matrix): whether they are there, and whether a product is made by them, which
 * has more than few rows and columns; of f32 for QN_GEMM_TF32 alone.  cl/gemm_matrix.cl */
bool gemm_matrix_is_there(enum qn_type type, const struct qn_caps *caps);
bool gemm_matrix_fits(enum qn_type type, const struct gemm_problem *problem,
                      const struct qn_caps *caps);
void gemm_matrix_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* The same instructions on fragments of 16 x 16 of bf16 that stay in registers, for `quern bench`: of a multiple of 16 sub-groups, for each
 * work-item GEMM_PEAK_CHAINS x 16 x steps if the one is 1. */
enum { GEMM_PEAK_CHAINS = 4 };
qn_node *gemm_matrix_peak(qn_node *one, size_t sub_groups, size_t steps,
                          const struct qn_caps *caps);

/* Any device: tiles in local memory, a block of results in the registers of each work-item.
 * cl/gemm_tiled.cl */
void gemm_tiled_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* The same in parts of k, each with sums of its own in the workspace, which are added in their order: for GPUs, of products with too
 * few tiles and many steps of k.  Their number depends on the sizes alone.  cl/gemm_parts.cl */
bool gemm_split_fits(const struct gemm_problem *problem, const struct qn_caps *caps);
size_t gemm_split_parts(const struct gemm_problem *problem);
void gemm_split_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* GPUs, at most eight rows (generating text): b is read once, in parts of k.  cl/gemm_skinny.cl */
bool gemm_skinny_fits(const struct gemm_problem *problem, const struct qn_caps *caps);
void gemm_skinny_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* GPUs whose sub-groups read each other's registers (Intel's): blocks of results in registers, nothing in local memory but,
 * at times, a transposed b.  cl/gemm_subgroup.cl */
bool gemm_subgroup_fits(const struct gemm_problem *problem, const struct qn_caps *caps);
void gemm_subgroup_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* CLBlast: takes no epilogue. */
bool gemm_clblast_fits(const struct gemm_problem *problem, const struct qn_caps *caps);
void gemm_clblast_record(struct qn_launch *launch, const struct gemm_problem *problem);

/* ---- For the providers ---- */

size_t gemm_batch_count(const struct gemm_problem *problem);

/* Defines T, the type of the operands, and Y, that of the results. */
void gemm_launch_types(struct qn_launch *launch, const struct gemm_problem *problem);

/* Defines what cl/gemm_matrix.cl is compiled for, but for how its operands lie. */
void gemm_launch_matrix(struct qn_launch *launch, enum qn_type type, size_t tile, size_t stages);

/* The arguments with which every kernel of ours begins (see cl/gemm_*.cl): a, b, y; what the
 * epilogue needs; sizes, strides and offsets. */
void gemm_launch_arguments(struct qn_launch *launch, const struct gemm_problem *problem);

#endif
