/* Attention without its matrix of probabilities, and its gradients.
 *
 * Both classes of devices compute probabilities anew in the backward pass, from the logarithms of
 * their denominators (output 1 of the forward pass).  Kernels know no "causal": query i sees keys 0
 * to start + i, and start is beyond them all where nothing is hidden; of these the last `window`, which is as long as any text
 * where there is none. */
#include <limits.h>
#include <math.h>

#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"

enum {
    GPU_ROWS = 8,          /* of work-items, of cl/attention_gpu.cl */
    LEAST_BLOCK = 8,       /* of cl/attention_gpu.cl, which counts blocks in 32 bits */
    GPU_DECODE_GROUP = 64, /* of cl/attention_decode_gpu.cl, and */
    GPU_DECODE_ROWS = 8,   /* at most */
    FEW_QUERIES = 8,       /* no more: each on its own, not in the lanes of a vector */
    /* Of cl/attention_decode_*.cl: keys that an item has, which splits sums and so depends on no
     * number of cores; on a CPU, numbers of the heads that it has. */
    DECODE_CHUNK = 128,
    CPU_DECODE_NUMBERS = 1024,
    CPU_DECODE_HEADS = 32, /* at most */
    CPU_ITEMS = 4,         /* work-items a core, at least, where there is enough to do */
    /* Where heads are few, keys or queries whose gradients one work-item makes: multiples of KEYS
     * and of COLUMNS of cl/attention_cpu.cl. */
    BACKWARD_KEY_PART = 144,
    BACKWARD_QUERY_PART = 64,
    MOST_KEYS = INT32_MAX / 4
};

/* Of both operations. */
struct attention_attributes {
    uint32_t is_causal, has_position, has_table, has_lengths, has_slopes;
    uint32_t window; /* 0: none */
    float scale;
};

/* Of q, k, v, out and their gradients. */
static enum qn_type type_of(const qn_node *node)
{
    return node->inputs[0]->outputs[0].type;
}

/* Of the table of places, if there is one. */
static size_t table_input(const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    return 3 + attributes->has_position;
}

static bool has_table(const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    return attributes->has_table;
}

/* The axes of q, k and v; of a table, as many keys as a row of it has. */
struct sizes {
    size_t batch, heads, kv_heads, queries, keys, head_size;
};

static struct sizes sizes_of(const qn_node *node)
{
    const qn_shape *q = qn_in(node, 0), *k = qn_in(node, 1),
                   *keys = has_table(node) ? qn_in(node, table_input(node)) : k;
    return (struct sizes){.batch = q->size[0],
                          .queries = q->size[1],
                          .heads = q->size[2],
                          .head_size = q->size[3],
                          .keys = keys->size[1],
                          .kv_heads = k->size[2]};
}

/* The last key that query 0 sees, if no position says it. */
static int32_t first_position(const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    struct sizes s = sizes_of(node);
    return attributes->is_causal ? (int32_t)s.keys - (int32_t)s.queries : (int32_t)s.keys;
}

/* Of the inputs that come after the others, if they are there: those of a row's keys, and of the heads' slopes. */
static size_t lengths_input(const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    return node->n_inputs - attributes->has_slopes - attributes->has_lengths;
}

static size_t slopes_input(const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    return node->n_inputs - attributes->has_slopes;
}

/* ---- Shapes ---- */

static bool check_mask(const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    struct sizes s = sizes_of(node);
    if (attributes->window && !attributes->is_causal)
        return qn_node_fail(node, "a window means nothing where is_causal is false");
    if (attributes->has_table) {
        const struct qn_value *table = &node->inputs[table_input(node)]->outputs[0];
        if (table->type != QN_I32 || table->shape.rank != 2 || table->shape.size[0] != s.batch ||
            table->shape.size[1] > MOST_KEYS)
            return qn_node_fail(node, "the table is not i32, a row of it for each of %zu rows",
                                s.batch);
    }
    if (attributes->has_lengths) {
        const qn_node *lengths = node->inputs[lengths_input(node)];
        if (lengths->outputs[0].type != QN_I32 ||
            !qn_shape_equal(lengths->outputs[0].shape, QN_SHAPE(s.batch)))
            return qn_node_fail(node, "lengths are not i32, one for each of %zu rows", s.batch);
    }
    if (attributes->has_slopes) {
        const qn_node *slopes = node->inputs[slopes_input(node)];
        if (slopes->outputs[0].type != QN_F32 ||
            !qn_shape_equal(slopes->outputs[0].shape, QN_SHAPE(s.heads)))
            return qn_node_fail(node, "slopes are not f32, one for each of %zu heads", s.heads);
    }
    return true;
}

static bool check_operands(qn_node *node)
{
    static const char *const names[] = {"q", "k", "v"};
    for (size_t i = 0; i < 3; i++) {
        if (!type_is_real(type_of(node)) || node->inputs[i]->outputs[0].type != type_of(node))
            return qn_node_fail(node, "%s is %s; q, k and v must all be f32, f16 or bf16", names[i],
                                qn_type_name(node->inputs[i]->outputs[0].type));
        if (qn_in(node, i)->rank != 4)
            return qn_node_fail(node, "%s has %d axes, not 4: (B, T, H, D)", names[i],
                                qn_in(node, i)->rank);
    }
    const qn_shape *q = qn_in(node, 0), *k = qn_in(node, 1);
    if (!qn_shape_equal(*k, *qn_in(node, 2)))
        return qn_node_fail(node, "k and v differ in shape");
    size_t rows = has_table(node) ? 1 : q->size[0];
    if (k->size[0] != rows)
        return qn_node_fail(node, "%zu rows of q, %zu of k, expected %zu", q->size[0], k->size[0],
                            rows);
    if (q->size[3] != k->size[3])
        return qn_node_fail(node, "heads of q have %zu numbers, of k %zu", q->size[3], k->size[3]);
    if (q->size[3] < 1 || q->size[3] > QN_MAX_HEAD_SIZE)
        return qn_node_fail(node, "heads of %zu numbers: 1 to %d can be", q->size[3],
                            QN_MAX_HEAD_SIZE);
    if (k->size[2] == 0 || q->size[2] % k->size[2] != 0)
        return qn_node_fail(node, "%zu heads of q are no multiple of %zu of k", q->size[2],
                            k->size[2]);
    if (q->size[1] > MOST_KEYS || k->size[1] > MOST_KEYS)
        return qn_node_fail(node, "%zu queries and %zu keys are too many", q->size[1], k->size[1]);
    if (q->size[0] * q->size[2] * divide_up(q->size[1], LEAST_BLOCK) > INT32_MAX ||
        k->size[0] * k->size[2] * divide_up(k->size[1], LEAST_BLOCK) > INT32_MAX)
        return qn_node_fail(node, "%zu x %zu queries and %zu x %zu keys are too many",
                            q->size[0] * q->size[2], q->size[1], k->size[0] * k->size[2],
                            k->size[1]);
    return check_mask(node);
}

static bool infer_attention(qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    if (!check_operands(node))
        return false;
    if (attributes->has_position &&
        (node->inputs[3]->outputs[0].type != QN_I32 || qn_shape_count(*qn_in(node, 3)) != 1))
        return qn_node_fail(node, "the position is not one i32");
    if (attributes->has_position && !attributes->is_causal)
        return qn_node_fail(node, "a position means nothing where is_causal is false");
    struct sizes s = sizes_of(node);
    node->outputs[0] = node->inputs[0]->outputs[0];
    node->outputs[1] = (struct qn_value){QN_F32, QN_SHAPE(s.batch, s.heads, s.queries)};
    return true;
}

/* Whether it has dq, dk and dv side by side in one output (B, T, dq | dk | dv). */
static bool is_joined(const qn_node *node)
{
    return node->op->outputs == 1;
}

static bool infer_attention_backward(qn_node *node)
{
    if (!check_operands(node))
        return false;
    if (is_joined(node)) {
        struct sizes s = sizes_of(node);
        node->outputs[0] = (struct qn_value){
            type_of(node), QN_SHAPE(s.batch, s.queries, (s.heads + 2 * s.kv_heads) * s.head_size)};
        return true;
    }
    for (int i = 0; i < 3; i++)
        node->outputs[i] = node->inputs[i]->outputs[0];
    return true;
}

/* ---- What kernels share ---- */

static void launch_strides(struct qn_launch *launch, size_t input)
{
    const struct qn_layout *layout = qn_launch_layout(launch, input);
    qn_launch_ulong(launch, layout->offset);
    for (int axis = 0; axis < 3; axis++)
        qn_launch_ulong(launch, (size_t)layout->stride[axis]);
}

/* MASK_PARAMETERS of cl/common.cl. */
static void launch_mask(struct qn_launch *launch, const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    qn_launch_input(launch, attributes->has_lengths ? lengths_input(node) : 0);
    qn_launch_input(launch, attributes->has_slopes ? slopes_input(node) : 0);
    qn_launch_uint(launch, attributes->has_lengths);
    qn_launch_uint(launch, attributes->has_slopes);
    qn_launch_int(launch, attributes->window ? (int32_t)attributes->window : MOST_KEYS);
}

/* From q_offset to the mask. */
static void launch_sizes(struct qn_launch *launch, const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    struct sizes s = sizes_of(node);
    for (size_t input = 0; input < 3; input++)
        launch_strides(launch, input);
    qn_launch_uint(launch, s.batch);
    qn_launch_uint(launch, s.heads);
    qn_launch_uint(launch, s.kv_heads);
    qn_launch_uint(launch, s.queries);
    qn_launch_uint(launch, s.keys);
    qn_launch_float(launch, attributes->scale);
    qn_launch_int(launch, first_position(node));
    launch_mask(launch, node);
}

/* The first arguments of attention_forward and attention_decode.  Buffers that are not used must be
 * some buffer. */
static void launch_forward(struct qn_launch *launch, const qn_node *node)
{
    const struct attention_attributes *attributes = node->attributes;
    bool keep_lse = qn_launch_output_used(launch, 1);
    for (size_t input = 0; input < 3; input++)
        qn_launch_input(launch, input);
    qn_launch_input(launch, attributes->has_position ? 3 : 0);
    qn_launch_output(launch, 0);
    qn_launch_output(launch, keep_lse ? 1 : 0);
    launch_sizes(launch, node);
    qn_launch_uint(launch, attributes->has_position);
    qn_launch_uint(launch, keep_lse);
}

/* What kernels are compiled for: numbers of a head, and their type. */
static void define_heads(struct qn_launch *launch, const qn_node *node)
{
    qn_launch_define(launch, "D", (long)sizes_of(node).head_size);
    qn_launch_type(launch, "T", type_of(node));
    qn_launch_define(launch, "IS_NARROW", type_of(node) != QN_F32);
}

/* Rows and columns of a block of cl/attention_gpu.cl: three blocks of D columns fit 32 KiB. */
static size_t gpu_block(size_t head_size)
{
    return head_size <= 64 ? 32 : head_size <= 128 ? 16 : LEAST_BLOCK;
}

/* Columns of work-items: where sub-groups share a thread's registers, 128 numbers are left for each, which half a block's
 * columns would not fit. */
static size_t gpu_columns(const struct qn_caps *caps, size_t head_size)
{
    bool has_few_registers = caps->subgroup_size > 0 && caps->max_work_group >= 16 * GPU_ROWS;
    return has_few_registers && gpu_block(head_size) >= 16 ? 16 : 8;
}

static void define_gpu_block(struct qn_launch *launch, size_t head_size)
{
    qn_launch_define(launch, "BLOCK", (long)gpu_block(head_size));
    qn_launch_define(launch, "COLUMNS", (long)gpu_columns(qn_launch_caps(launch), head_size));
}

/* A work-group has a block of the positions of a head. */
static void launch_blocks(struct qn_launch *launch, size_t heads, size_t positions,
                          size_t head_size)
{
    qn_launch_groups(launch, heads * divide_up(positions, gpu_block(head_size)),
                     GPU_ROWS * gpu_columns(qn_launch_caps(launch), head_size));
}

static bool is_cpu(const struct qn_caps *caps)
{
    return caps->device_class == QN_CPU && caps->float_width >= 4;
}

static bool fits_cpu(const qn_node *node, const struct qn_caps *caps)
{
    return is_cpu(caps) && !has_table(node);
}

static bool fits_gpu(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    return !has_table(node);
}

/* ---- Forward ---- */

/* Most queries of a block of cl/attention_cpu.cl: the second-level cache holds it. */
static size_t cpu_block(size_t head_size)
{
    return head_size <= 64 ? 256 : head_size <= 128 ? 128 : 64;
}

static void begin_forward(struct qn_launch *launch, const qn_node *node,
                          const struct qn_source *source)
{
    qn_launch_kernel(launch, source, "attention_forward");
    define_heads(launch, node);
    qn_launch_define(launch, "BACKWARD", 0);
    launch_forward(launch, node);
}

/* Numbers do not depend on how many queries a work-item has: so the number of cores may choose. */
static void record_cpu(struct qn_launch *launch, const qn_node *node)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    struct sizes s = sizes_of(node);
    size_t heads = s.batch * s.heads, block = cpu_block(s.head_size), part = block;
    while (part > 2 * caps->float_width &&
           heads * divide_up(s.queries, part) < CPU_ITEMS * caps->compute_units)
        part /= 2;
    begin_forward(launch, node, &source_attention_cpu);
    qn_launch_define(launch, "BLOCK", (long)block);
    qn_launch_uint(launch, part);
    qn_launch_groups(launch, heads * divide_up(s.queries, part), 1);
}

static void record_gpu(struct qn_launch *launch, const qn_node *node)
{
    struct sizes s = sizes_of(node);
    begin_forward(launch, node, &source_attention_gpu);
    define_gpu_block(launch, s.head_size);
    launch_blocks(launch, s.batch * s.heads, s.queries, s.head_size);
}

/* ---- Few queries ---- */

/* Not without a position, so that short texts in training need no other kernels than long ones. */
static bool fits_decode(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    const struct attention_attributes *attributes = node->attributes;
    return has_table(node) || (attributes->has_position && sizes_of(node).queries <= FEW_QUERIES);
}

static bool fits_decode_cpu(const qn_node *node, const struct qn_caps *caps)
{
    return is_cpu(caps) && fits_decode(node, caps);
}

static size_t decode_workspace(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    struct sizes s = sizes_of(node);
    size_t chunks = divide_up(s.keys, DECODE_CHUNK);
    return chunks > 1 ? s.batch * s.heads * s.queries * chunks * (s.head_size + 2) * sizeof(float)
                      : 0;
}

/* A work-group of `group` has a chunk of one of so many tiles of heads and queries, of `size` of them, which is what `macro` defines. */
static void record_decode(struct qn_launch *launch, const qn_node *node,
                          const struct qn_source *source, const char *macro, size_t size,
                          size_t tiles, size_t group)
{
    const struct attention_attributes *attributes = node->attributes;
    struct sizes s = sizes_of(node);
    size_t chunks = divide_up(s.keys, DECODE_CHUNK);
    bool keep_lse = qn_launch_output_used(launch, 1);

    qn_launch_kernel(launch, source, "attention_decode");
    define_heads(launch, node);
    qn_launch_define(launch, macro, (long)size);
    qn_launch_define(launch, "TABLE", has_table(node));
    launch_forward(launch, node);
    if (chunks > 1)
        qn_launch_workspace(launch);
    else
        qn_launch_output(launch, 0);
    qn_launch_uint(launch, DECODE_CHUNK);
    qn_launch_input(launch, has_table(node) ? table_input(node) : 0);
    qn_launch_uint(launch, qn_in(node, 1)->size[1]);
    qn_launch_groups(launch, tiles * chunks, group);
    if (chunks == 1)
        return;

    qn_launch_kernel(launch, &source_attention_merge, "attention_merge");
    define_heads(launch, node);
    qn_launch_input(launch, attributes->has_position ? 3 : 0);
    qn_launch_output(launch, 0);
    qn_launch_output(launch, keep_lse ? 1 : 0);
    qn_launch_uint(launch, s.batch);
    qn_launch_uint(launch, s.heads);
    qn_launch_uint(launch, s.queries);
    qn_launch_uint(launch, s.keys);
    qn_launch_int(launch, first_position(node));
    launch_mask(launch, node);
    qn_launch_uint(launch, attributes->has_position);
    qn_launch_uint(launch, keep_lse);
    qn_launch_workspace(launch);
    qn_launch_uint(launch, DECODE_CHUNK);
    qn_launch_groups(launch, s.batch * s.heads * s.queries, group);
}

static void record_decode_cpu(struct qn_launch *launch, const qn_node *node)
{
    struct sizes s = sizes_of(node);
    size_t heads = size_max(1, CPU_DECODE_NUMBERS / s.head_size);
    heads = size_min(heads, CPU_DECODE_HEADS);
    record_decode(launch, node, &source_attention_decode_cpu, "HEADS", heads,
                  s.batch * divide_up(s.heads, heads) * s.queries, 1);
}

static void record_decode_gpu(struct qn_launch *launch, const qn_node *node)
{
    struct sizes s = sizes_of(node);
    size_t of_keys = s.heads / s.kv_heads * s.queries, rows = 1; /* that read the same ones */
    while (rows < GPU_DECODE_ROWS && rows < of_keys)
        rows *= 2;
    record_decode(launch, node, &source_attention_decode_gpu, "ROWS", rows,
                  s.batch * s.kv_heads * divide_up(of_keys, rows), GPU_DECODE_GROUP);
}

/* ---- Backward: q, k, v, out, lse, d_out -> dq, dk, dv ---- */

enum { Q, K, V, OUT, LSE, D_OUT };

static int gradient_output(const qn_node *node, int gradient)
{
    return is_joined(node) ? 0 : gradient;
}

/* GRADIENT_PARAMETERS of cl/common.cl. */
static void launch_gradient_rows(struct qn_launch *launch, const qn_node *node)
{
    struct sizes s = sizes_of(node);
    size_t dq = s.heads * s.head_size, dkv = s.kv_heads * s.head_size, row = dq + 2 * dkv;
    qn_launch_ulong(launch, 0);
    qn_launch_ulong(launch, is_joined(node) ? dq : 0);
    qn_launch_ulong(launch, is_joined(node) ? dq + dkv : 0);
    qn_launch_ulong(launch, is_joined(node) ? row : dq);
    qn_launch_ulong(launch, is_joined(node) ? row : dkv);
}

static void record_backward_part(struct qn_launch *launch, const qn_node *node, size_t key_part,
                                 size_t query_part, bool want_dq, bool want_dkv)
{
    struct sizes s = sizes_of(node);
    qn_launch_kernel(launch, &source_attention_cpu, "attention_backward");
    define_heads(launch, node);
    qn_launch_define(launch, "BACKWARD", 1);
    qn_launch_define(launch, "BLOCK", (long)cpu_block(s.head_size));
    for (size_t input = Q; input <= D_OUT; input++)
        qn_launch_input(launch, input);
    for (int output = 0; output < 3; output++)
        qn_launch_output(launch, gradient_output(node, output));
    launch_sizes(launch, node);
    launch_strides(launch, OUT);
    launch_strides(launch, D_OUT);
    qn_launch_uint(launch, key_part);
    qn_launch_uint(launch, query_part);
    qn_launch_uint(launch, want_dq);
    qn_launch_uint(launch, want_dkv);
    launch_gradient_rows(launch, node);
    if (type_of(node) != QN_F32)
        qn_launch_workspace(launch);
    qn_launch_groups(
        launch,
        s.batch * s.kv_heads * divide_up(s.keys, key_part) * divide_up(s.queries, query_part), 1);
}

/* A work-item for each head makes five products of a pair of blocks; two passes make seven, but
 * have more work-items.  The numbers are the same: so the number of cores may choose. */
static void record_backward_cpu(struct qn_launch *launch, const qn_node *node)
{
    const struct qn_caps *caps = qn_launch_caps(launch);
    struct sizes s = sizes_of(node);
    size_t heads = s.batch * s.kv_heads, cores = size_max(caps->compute_units, 1);
    if (divide_up(heads, cores) * cores * 5 <= heads * 7) {
        record_backward_part(launch, node, s.keys, s.queries, true, true);
    } else {
        record_backward_part(launch, node, BACKWARD_KEY_PART, s.queries, false, true);
        record_backward_part(launch, node, s.keys, BACKWARD_QUERY_PART, true, false);
    }
}

/* Where dk and dv are added up, if they are narrower than sums. */
static size_t backward_workspace_cpu(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    return type_of(node) == QN_F32 ? 0 : 2 * qn_shape_count(*qn_in(node, K)) * sizeof(float);
}

static size_t backward_workspace_gpu(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    return qn_shape_count(*qn_in(node, LSE)) * sizeof(float);
}

static void launch_backward_gpu(struct qn_launch *launch, const qn_node *node, const char *name)
{
    qn_launch_kernel(launch, &source_attention_gpu, name);
    define_heads(launch, node);
    qn_launch_define(launch, "BACKWARD", 1);
    define_gpu_block(launch, sizes_of(node).head_size);
    for (size_t input = Q; input <= V; input++)
        qn_launch_input(launch, input);
}

static void record_backward_gpu(struct qn_launch *launch, const qn_node *node)
{
    struct sizes s = sizes_of(node);

    launch_backward_gpu(launch, node, "attention_backward_q");
    qn_launch_input(launch, OUT);
    qn_launch_input(launch, LSE);
    qn_launch_input(launch, D_OUT);
    qn_launch_output(launch, gradient_output(node, 0));
    launch_sizes(launch, node);
    launch_strides(launch, OUT);
    launch_strides(launch, D_OUT);
    qn_launch_workspace(launch);
    launch_gradient_rows(launch, node);
    launch_blocks(launch, s.batch * s.heads, s.queries, s.head_size);

    launch_backward_gpu(launch, node, "attention_backward_kv");
    qn_launch_input(launch, LSE);
    qn_launch_input(launch, D_OUT);
    qn_launch_output(launch, gradient_output(node, 1));
    qn_launch_output(launch, gradient_output(node, 2));
    launch_sizes(launch, node);
    launch_strides(launch, D_OUT);
    qn_launch_workspace(launch);
    launch_gradient_rows(launch, node);
    launch_blocks(launch, s.batch * s.kv_heads, s.keys, s.head_size);
}

/* ---- Cost ---- */

/* `products` of D numbers for each pair of a query and a key that it sees. */
static struct qn_cost cost_of(const qn_node *node, int products)
{
    const struct attention_attributes *attributes = node->attributes;
    struct sizes s = sizes_of(node);
    double queries = (double)s.queries, keys = (double)s.keys, pairs = queries * keys;
    if (attributes->is_causal)
        pairs -= keys >= queries ? queries * (queries - 1) / 2 : pairs - keys * (keys + 1) / 2;
    if (attributes->window)
        pairs = fmin(pairs, queries * attributes->window);
    struct qn_cost cost = {.flops =
                               2.0 * products * pairs * (double)(s.batch * s.heads * s.head_size)};
    cost.bytes = bytes_of(node);
    return cost;
}

static struct qn_cost cost_attention(const qn_node *node)
{
    return cost_of(node, 2);
}

static struct qn_cost cost_attention_backward(const qn_node *node)
{
    return cost_of(node, 5);
}

/* ---- The operations ---- */

static const struct qn_variant backward_variants[] = {
    {.name = "cpu",
     .needs = "a CPU with vectors",
     .fits = fits_cpu,
     .strides = {QN_ROWS, QN_ROWS, QN_ROWS, QN_ROWS, QN_CONTIGUOUS, QN_ROWS},
     .workspace = backward_workspace_cpu,
     .record = record_backward_cpu},
    {.name = "gpu",
     .strides = {QN_ROWS, QN_ROWS, QN_ROWS, QN_ROWS, QN_CONTIGUOUS, QN_ROWS},
     .workspace = backward_workspace_gpu,
     .record = record_backward_gpu},
};

static qn_node *joined_backward(qn_node *node);

#define BACKWARD(n_outputs)                                                                        \
    .name = "attention_backward", .outputs = n_outputs,                                            \
    .attributes = sizeof(struct attention_attributes), .infer = infer_attention_backward,          \
    .variants = backward_variants,                                                                 \
    .n_variants = sizeof backward_variants / sizeof *backward_variants,                            \
    .cost = cost_attention_backward
static const struct qn_op attention_backward_op = {BACKWARD(3), .joined = joined_backward},
                          joined_backward_op = {BACKWARD(1)};

/* Only where there are as many queries as keys, dq, dk and dv are rows of one value. */
static qn_node *joined_backward(qn_node *node)
{
    return qn_node_new(&joined_backward_op, node->attributes, node->inputs, node->n_inputs);
}

static void gradient_attention(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const struct attention_attributes *attributes = node->attributes;
    if (attributes->has_position || attributes->has_table || d_out[1]) {
        qn_node_fail(node, attributes->has_position ? "no gradient where a position is given"
                           : attributes->has_table
                               ? "no gradient where a table is given"
                               : "the logarithms of denominators have no gradient");
        return;
    }
    qn_node *operands[D_OUT + 3] = {node->inputs[Q],    node->inputs[K], node->inputs[V], node,
                                    qn_output(node, 1), d_out[0]};
    size_t count = D_OUT + 1;
    for (size_t i = lengths_input(node); i < node->n_inputs; i++)
        operands[count++] = node->inputs[i];
    qn_node *gradients = qn_node_new(&attention_backward_op, attributes, operands, count);
    for (int i = 0; gradients && i < 3; i++)
        d_in[i] = qn_output(gradients, i);
}

static const struct qn_variant variants[] = {
    {.name = "cpu_decode",
     .needs = "a CPU with vectors; a table, or a position and at most 8 queries",
     .fits = fits_decode_cpu,
     .strides = {QN_ROWS, QN_ROWS, QN_ROWS},
     .workspace = decode_workspace,
     .record = record_decode_cpu},
    {.name = "cpu",
     .needs = "a CPU with vectors, no table",
     .fits = fits_cpu,
     .strides = {QN_ROWS, QN_ROWS, QN_ROWS},
     .record = record_cpu},
    {.name = "gpu_decode",
     .needs = "a table, or a position and at most 8 queries",
     .fits = fits_decode,
     .strides = {QN_ROWS, QN_ROWS, QN_ROWS},
     .workspace = decode_workspace,
     .record = record_decode_gpu},
    {.name = "gpu",
     .needs = "no table",
     .fits = fits_gpu,
     .strides = {QN_ROWS, QN_ROWS, QN_ROWS},
     .record = record_gpu},
};

static const struct qn_op attention_op = {
    .name = "attention",
    .outputs = 2,
    .attributes = sizeof(struct attention_attributes),
    .infer = infer_attention,
    .variants = variants,
    .n_variants = sizeof variants / sizeof *variants,
    .gradient = gradient_attention,
    .cost = cost_attention,
};

qn_node *qn_attention(qn_node *q, qn_node *k, qn_node *v, struct qn_attention options)
{
    if (!q)
        return NULL;
    struct attention_attributes attributes = {
        .is_causal = options.is_causal,
        .has_position = options.position != NULL,
        .has_table = options.table != NULL,
        .has_lengths = options.lengths != NULL,
        .has_slopes = options.slopes != NULL,
        .window = options.window < MOST_KEYS ? (uint32_t)options.window : 0,
        .scale = options.scale};
    qn_node *operands[7] = {q, k, v};
    size_t count = 3;
    if (options.position)
        operands[count++] = options.position;
    if (options.table)
        operands[count++] = options.table;
    if (options.lengths)
        operands[count++] = options.lengths;
    if (options.slopes)
        operands[count++] = options.slopes;
    if (attributes.scale == 0 && qn_node_shape(q).rank == 4 && qn_node_shape(q).size[3] > 0)
        attributes.scale = (float)(1.0 / sqrt((double)qn_node_shape(q).size[3]));
    return qn_node_new(&attention_op, &attributes, operands, count);
}
