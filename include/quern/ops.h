/* The operations of a graph.  Each takes nodes of one graph and returns a new node of it, or NULL: see quern.h.  All have
 * gradients but those that say otherwise.  "axis" counts from 0, or from the end if negative.
 *
 * Real numbers are f32, f16 or bf16; "f32" of one that says so.  All is computed in f32 and rounded to the type of the operands, to
 * the nearest, also where operations share a kernel: so fusion changes nothing in the numbers.  Of f32 and 16 bits together element-wise operations make
 * f32; constants take the type of the others; sums and means are f32.  The others want operands of one type.  Gradients have the
 * type of what they belong to, but those of leaves are f32. */
#ifndef QUERN_OPS_H
#define QUERN_OPS_H

#include <quern/quern.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Element-wise: real numbers (arithmetic, comparisons and where also i32); shapes broadcast as in NumPy ---- */

qn_node *qn_add(qn_node *a, qn_node *b); /* a + b */
qn_node *qn_sub(qn_node *a, qn_node *b); /* a - b */
qn_node *qn_mul(qn_node *a, qn_node *b); /* a b */
qn_node *qn_div(qn_node *a, qn_node *b); /* a / b */
qn_node *qn_maximum(qn_node *a,
                    qn_node *b); /* max(a, b); the gradient goes to a where they are equal */
qn_node *qn_minimum(qn_node *a, qn_node *b); /* min(a, b); the same */
qn_node *qn_pow(qn_node *a,
                qn_node *b); /* a^b; the gradient of b is NaN where a < 0, and 0 where a is 0 */

qn_node *qn_scale(qn_node *x, double factor);           /* factor x */
qn_node *qn_offset(qn_node *x, double term);            /* x + term */
qn_node *qn_clamp(qn_node *x, double low, double high); /* min(max(x, low), high) */
qn_node *qn_neg(qn_node *x);                            /* -x */
qn_node *qn_abs(qn_node *x);                            /* |x|; gradient 0 at 0 */
qn_node *qn_square(qn_node *x);                         /* x^2 */
qn_node *qn_sqrt(qn_node *x);                           /* x^1/2 */
qn_node *qn_rsqrt(qn_node *x);                          /* x^-1/2 */
qn_node *qn_reciprocal(qn_node *x);                     /* 1 / x */
qn_node *qn_exp(qn_node *x);                            /* e^x */
qn_node *qn_expm1(qn_node *x);                          /* e^x - 1, exact near 0 */
qn_node *qn_log(qn_node *x);                            /* natural logarithm */
qn_node *qn_sin(qn_node *x);
qn_node *qn_cos(qn_node *x);
qn_node *qn_tanh(qn_node *x);
qn_node *qn_sigmoid(qn_node *x); /* 1 / (1 + e^-x) */
qn_node *qn_relu(qn_node *x);    /* max(x, 0); gradient 0 at 0 */
qn_node *
qn_gelu(qn_node *x); /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): "gelu_new" of Hugging Face */
qn_node *qn_gelu_erf(qn_node *x); /* x/2 (1 + erf(x / sqrt(2))): "gelu" of Hugging Face */
qn_node *qn_silu(qn_node *x);     /* x / (1 + e^-x) */
qn_node *qn_swiglu(qn_node *gate, qn_node *up); /* silu(gate) up (Shazeer, 2020) */
qn_node *qn_is_finite(qn_node *x); /* 1 where x is neither infinite nor NaN, else 0; no gradient */

/* Comparisons give 1 or 0, of i32 as f32; no gradient. */
qn_node *qn_less(qn_node *a, qn_node *b);          /* a < b */
qn_node *qn_less_equal(qn_node *a, qn_node *b);    /* a <= b */
qn_node *qn_greater(qn_node *a, qn_node *b);       /* a > b */
qn_node *qn_greater_equal(qn_node *a, qn_node *b); /* a >= b */
qn_node *qn_equal(qn_node *a, qn_node *b);         /* a == b */
qn_node *qn_not_equal(qn_node *a, qn_node *b);     /* a != b */

qn_node *qn_where(qn_node *condition, qn_node *a,
                  qn_node *b);                   /* a where condition is not 0, else b */
qn_node *qn_cast(qn_node *x, enum qn_type type); /* towards zero to i32; real numbers and i32 */

/* Zeroes each element with probability p and divides the others by 1 - p (Srivastava et al., 2014).  `key` is an i32 vector
 * of two: a seed and a number that changes each step; `stream` tells the dropouts of a model apart.  The mask is a pure
 * function of key, stream and position (Philox 4x32-10, Salmon et al., 2011), so that backward makes it again. */
qn_node *qn_dropout(qn_node *x, double p, qn_node *key, uint32_t stream);

/* Numbers that are a pure function of key and stream, as of qn_dropout(), and position: uniform in [0, 1); normal with mean 0
 * and deviation 1.  No gradient. */
qn_node *qn_uniform(qn_shape shape, qn_node *key, uint32_t stream);
qn_node *qn_normal(qn_shape shape, qn_node *key, uint32_t stream);

/* ---- Reductions: over the axes whose bits are set (bit i: axis i); QN_ALL: all.  The axes vanish from the shape. ---- */

#define QN_ALL (~0u)
#define QN_AXIS(i) (1u << (i))

qn_node *qn_sum(qn_node *x, unsigned axes);
qn_node *qn_mean(qn_node *x, unsigned axes);
qn_node *qn_max(qn_node *x, unsigned axes); /* the gradient is shared evenly among the greatest */
/* The mean square of x - mean, times n / (n - correction) for n elements: as torch.var(). */
qn_node *qn_variance(qn_node *x, unsigned axes, double correction);
qn_node *qn_logsumexp(qn_node *x, unsigned axes); /* log sum exp(x), without overflow */
qn_node *qn_sum_squares(qn_node *x); /* the sum of x^2 over all of x, without storing the squares */

/* ---- Shape: no copy where strides can say it ---- */

qn_node *qn_reshape(qn_node *x, qn_shape shape);           /* the same elements in the same order */
qn_node *qn_transpose(qn_node *x, int axis_a, int axis_b); /* swaps two axes */
qn_node *qn_slice(qn_node *x, int axis, size_t begin,
                  size_t end);                     /* elements begin to end - 1 of an axis */
qn_node *qn_flip(qn_node *x, int axis);            /* the last element first */
qn_node *qn_broadcast(qn_node *x, qn_shape shape); /* as NumPy's broadcast_to */
qn_node *qn_concat(qn_node *const *parts, size_t count, int axis);
int qn_split(qn_node *x, int axis, size_t count,
             qn_node **parts); /* `count` equal parts; 0, or negative */

/* ---- Along an axis ---- */

qn_node *qn_cumsum(qn_node *x, int axis); /* of f32: element i is the sum of those up to i */
qn_node *qn_argmax(
    qn_node *x,
    int axis); /* i32, of f32: where the greatest is, the first of equals; the axis vanishes; no gradient */

/* ---- Tables ---- */

qn_node *qn_range(qn_graph *graph, size_t count); /* i32 0, 1, ..., count - 1; no gradient */

/* f32 1 where a class is the id, else 0: i32 (...) -> (..., classes).  No gradient. */
qn_node *qn_one_hot(qn_node *ids, size_t classes);

/* table[ids]: (V, C), i32 (...) -> (..., C).  Ids outside 0..V-1 give zeros and no gradient.  The gradient of the table
 * adds up repeated ids in their order, always the same. */
qn_node *qn_embedding(qn_node *table, qn_node *ids);

enum { QN_NO_PADDING = -1 };
/* The same, but row `padding` gets no gradient. */
qn_node *qn_embedding_padded(qn_node *table, qn_node *ids, int32_t padding);

/* ---- Matrices ---- */

struct qn_matmul {
    bool transpose_a, transpose_b; /* swap the last two axes of a, of b */
    /* Many runs read one b: what a device makes of it first is kept while b does not change.  That takes as much memory again,
     * and is done while all that a plan keeps is an eighth of the device's. */
    bool keep_b;
};

/* op(a) op(b): (..., M, K), (..., K, N) -> (..., M, N).  Leading axes are equal, or b has none.  Element-wise operations on
 * the result are computed by the kernel that multiplies. */
qn_node *qn_matmul(qn_node *a, qn_node *b);
qn_node *qn_matmul_with(qn_node *a, qn_node *b, struct qn_matmul options);

/* x weight + bias: (..., K), (K, N), (N) -> (..., N). */
qn_node *qn_linear(qn_node *x, qn_node *weight, qn_node *bias);

/* ---- Rows ---- */

qn_node *qn_softmax(qn_node *x, int axis);     /* exp(x - max) / sum exp(x - max) */
qn_node *qn_log_softmax(qn_node *x, int axis); /* x - max - log sum exp(x - max) */

/* (x - mean) / sqrt(var + epsilon) * weight + bias over the last axis; var divides by its size (Ba et al., 2016). */
qn_node *qn_layer_norm(qn_node *x, qn_node *weight, qn_node *bias, double epsilon);

/* x / sqrt(mean(x^2) + epsilon) * weight over the last axis (Zhang and Sennrich, 2019). */
qn_node *qn_rms_norm(qn_node *x, qn_node *weight, double epsilon);

struct qn_cross_entropy {
    int32_t ignore_index;  /* targets that count for nothing */
    float label_smoothing; /* e */
    bool sum;              /* add up instead of dividing by the number of targets that count */
    qn_node *
        gradient_scale; /* qn_linear_cross_entropy(): an f32 number by which the gradients that are computed with the loss are
                              * multiplied as long as they are stored, so that f16 can hold them; NULL: 1 */
    qn_node *bias;      /* qn_linear_cross_entropy(): (V), added to the logits; NULL: none */
};

/* -log softmax(logits)[target], or with smoothing (1 - e) (that) + e/V sum_c -log softmax(logits)[c]: logits (..., V),
 * i32 targets (...) -> one number.  No probabilities are stored.  qn_cross_entropy() ignores QN_IGNORE and takes the mean. */
qn_node *qn_cross_entropy(qn_node *logits, qn_node *targets);
qn_node *qn_cross_entropy_with(qn_node *logits, qn_node *targets, struct qn_cross_entropy options);

/* qn_cross_entropy_with(x weight^T + bias, ...), for x (..., C) and weight (V, C), with the logits of at most
 * `chunk_rows` rows in memory at a time (0: of all).  In chunks the gradients are computed with the
 * loss, wanted or not. */
qn_node *qn_linear_cross_entropy(qn_node *x, qn_node *weight, qn_node *targets,
                                 struct qn_cross_entropy options, size_t chunk_rows);

/* The number of targets among the rows whose greatest logit is theirs; no gradient. */
qn_node *qn_correct(qn_node *logits, qn_node *targets);

/* ---- Positions ---- */

/* Llama 3.1's: frequencies that turn less than `low` times over `length` positions are divided by `factor`, those that turn
 * more than `high` times stay as they are, those between are mixed of both. */
struct qn_rotary_scaling {
    double factor; /* 0: none */
    double low, high, length;
};

struct qn_rotary {
    double theta; /* 0: 10000 */
    size_t size;  /* R: how many of the D entries turn; 0: all */
    bool
        is_interleaved; /* pairs are (2i, 2i + 1), as in GPT-J, instead of (i, i + R/2), as in Llama and GPT-NeoX */
    struct qn_rotary_scaling scaling;
};

/* Rotary position embedding (Su et al., 2021): x (B, T, H, D), i32 positions (T) or (B, T).  The pair i of entries (a, b) at
 * position t becomes (a cos - b sin, b cos + a sin) of the angle t theta^(-2i/R), unless scaled.  Its error is below 1e-5 turns
 * for every i32 t. */
qn_node *qn_rotary(qn_node *x, qn_node *positions, struct qn_rotary options);

/* sin(t 10000^(-2i/D)) and cos(the same) of i32 positions t (...) -> (..., D): in turns (Vaswani et al., 2017), or all sines
 * first (`halves`, as in Marian).  No gradient. */
qn_node *qn_sinusoidal(qn_node *positions, size_t size, bool halves);

/* ---- Attention ---- */

enum {
    QN_MAX_HEAD_SIZE = 256
}; /* of D: what the kernels' blocks in local and private memory were measured for */

struct qn_attention {
    bool is_causal; /* query i sees keys up to its own position only */
    float scale;    /* 0: 1/sqrt(D) */
    qn_node *
        position; /* i32 (1), is_causal only: the position of the first query among the keys; NULL: Tk - Tq, that is
                        * the last query sees the last key.  For caches that are not full yet.  No gradient then. */
    qn_node *
        table; /* i32 (B, Tk): where the keys of a row are: k and v are (1, S, G, D), all rows', and key j of row b is number
                     * table[b, j] of them, so that keys are shared, and rows put in another order, without a copy; NULL: each row
                     * has its own.  Numbers beyond S are those of the nearest.  For few queries.  No gradient then. */
    size_t window; /* is_causal only: a query sees so many keys, its own included; 0: all */
    qn_node *
        lengths; /* i32 (B): rows have so many keys, none beyond is seen; NULL: Tk.  A query that sees none gives zeros. */
    qn_node *
        slopes; /* f32 (H): slope (j - i) is added to the score of a key at j and a query at i (ALiBi: Press et al., 2022);
                        * NULL: none.  No gradient of the slopes. */
};

/* softmax(scale q k^T) v, head by head: q (B, Tq, H, D), k and v (B, Tk, G, D) -> (B, Tq, H, D).  Each of the G heads of k and v
 * serves H / G neighbouring heads of q.  Tq x Tk is never stored (Dao et al., 2022). */
qn_node *qn_attention(qn_node *q, qn_node *k, qn_node *v, struct qn_attention options);

/* ---- Recurrences ---- */

enum qn_cell { QN_RNN_TANH, QN_RNN_RELU, QN_LSTM, QN_GRU };

/* Parameters as PyTorch lays them out, for G gates: 1; LSTM 4 (i, f, g, o); GRU 3 (r, z, n). */
struct qn_recurrent {
    enum qn_cell cell;
    bool reverse;       /* from the last element of a row to the first */
    qn_node *weight_ih; /* W (G H, I) */
    qn_node *weight_hh; /* U (G H, H) */
    qn_node *bias_ih;   /* b (G H), or NULL */
    qn_node *bias_hh;   /* c (G H), or NULL */
    qn_node *h_0, *c_0; /* (B, H): the states to begin with (c_0: LSTM); NULL: zeros */
    qn_node *lengths;   /* i32 (B): rows have so many elements; NULL: T */
};

struct qn_sequence {
    qn_node *out; /* (T, B, H): the state at each element; zeros beyond a row's length */
    qn_node
        *h_n; /* (B, H): the state after the last element, which is the first one if `reverse` */
    qn_node *c_n; /* the same of the cell; NULL if it is no LSTM */
};

/* A layer in one direction over x (T, B, I); all members are NULL after an error.
 *
 *     RNN     h' = tanh or relu of (W x + b + U h + c)
 *     LSTM    i, f, g, o = W x + b + U h + c;  c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c')      (s: sigmoid)
 *     GRU     r = s(Wr x + br + Ur h + cr), z = s(Wz x + bz + Uz h + cz), n = tanh(Wn x + bn + r (Un h + cn));  h' = (1 - z) n + z h
 *
 * (Elman, 1990; Hochreiter and Schmidhuber, 1997, with Gers et al.'s forget gate, 2000; Cho et al., 2014.)  W x is one product over all
 * elements, as are the gradients of W and U; the products with U are computed by the kernel that computes the gates. */
struct qn_sequence qn_recurrent(qn_node *x, const struct qn_recurrent *options);
size_t qn_cell_gates(enum qn_cell cell); /* G */

/* ---- Choosing, of f32; no gradients ---- */

/* The k greatest of each row, greatest first, the first of equals first: (..., V) -> output 0 values, output 1 i32 indices
 * (..., k). */
qn_node *qn_top_k(qn_node *x, size_t k);

struct qn_sample {
    float temperature; /* logits are divided by it; 0: the greatest */
    size_t top_k;      /* only the k greatest; 0: all */
    float
        top_p; /* only the fewest that have this much probability together (Holtzman et al., 2020); 0 or 1: all */
};

/* Draws from softmax(logits / temperature), cut to top_k, then top_p: (B, V) -> i32 (B).  `key` as for qn_dropout(). */
qn_node *qn_sample(qn_node *logits, qn_node *key, struct qn_sample options);

/* ---- Optimizers ---- */

struct qn_adamw {
    double beta1, beta2, epsilon, weight_decay;
};

/* AdamW (Loshchilov and Hutter, 2019) on a whole buffer: outputs 0, 1, 2 are the new parameters, first and second moments.
 * All of parameters, m, v, gradient have one shape.  f32 numbers: learning_rate; scale, which multiplies the gradient;
 * t, the number of this update, from 1; gate: where it is 0 nothing changes.  No gradient. */
qn_node *qn_adamw(qn_node *parameters, qn_node *m, qn_node *v, qn_node *gradient,
                  qn_node *learning_rate, qn_node *scale, qn_node *t, qn_node *gate,
                  struct qn_adamw options);

/* The gradients of all tensors of a buffer of a store, laid out like the buffer: gradients[i] belongs to
 * qn_store_tensor(store, i).  Where it can, each gradient is computed at its place.  No gradient. */
qn_node *qn_pack(const qn_store *store, size_t buffer, qn_node *const *gradients);

#ifdef __cplusplus
}
#endif
#endif
