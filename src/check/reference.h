/* What operations should give, in plain double arithmetic: no strides, no blocks, no tricks. */
#ifndef QUERN_REFERENCE_H
#define QUERN_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include <quern/ops.h>

/* Row-major numbers, whole ones too.  All arrays belong to a list: arrays_free() frees them. */
struct array {
    qn_shape shape;
    size_t count;
    double *at;
};

struct array array_new(qn_shape shape);
void *arrays_mark(void);            /* those made so far */
void arrays_free_since(void *mark); /* those made after */
void arrays_free(void);

/* Coordinates of element `index`, and back. */
void array_coordinates(const qn_shape *shape, size_t index, size_t coordinates[QN_MAX_RANK]);
size_t array_position(const qn_shape *shape, const size_t coordinates[QN_MAX_RANK]);

struct array reference_reshape(struct array x, qn_shape shape);
struct array reference_transpose(struct array x, int axis_a, int axis_b);
struct array reference_slice(struct array x, int axis, size_t begin, size_t end);
struct array reference_broadcast(struct array x, qn_shape shape);
struct array reference_concat(const struct array *parts, size_t count, int axis);

/* The shape that both broadcast to. */
qn_shape common_shape(qn_shape a, qn_shape b);

enum reduction { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX };
struct array reference_reduce(struct array x, unsigned axes, enum reduction reduction);

struct array reference_matmul(struct array a, struct array b, bool transpose_a, bool transpose_b);
struct array reference_embedding(struct array table, struct array ids);
struct array reference_softmax(struct array x, int axis);
struct array reference_layer_norm(struct array x, struct array weight, struct array bias,
                                  double epsilon);
struct array reference_cross_entropy(struct array logits, struct array targets,
                                     struct qn_cross_entropy options);
struct array reference_correct(struct array logits, struct array targets);

/* first: the position of the first query among the keys; window 0, lengths and slopes without elements: none. */
struct reference_mask {
    bool is_causal;
    ptrdiff_t first, window;
    struct array lengths, slopes;
};
struct array reference_attention(struct array q, struct array k, struct array v, double scale,
                                 struct reference_mask mask);

/* Output 0 or 1 of qn_top_k. */
struct array reference_top_k(struct array x, size_t k, int output);

/* As qn_sample(): `key` has two numbers. */
struct array reference_sample(struct array logits, struct array key, struct qn_sample options);

double reference_gelu(double x);

#endif
