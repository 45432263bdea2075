/* The operation matmul: y = op(a) op(b), where op may swap the last two axes. */
#include <string.h>

#include <quern/op.h>
#include <quern/ops.h>

#include "device/context.h"
#include "gemm/tuning.h"
#include "graph/graph.h"
#include "op/matmul.h"
#include "op/shape.h"

struct attributes {
    uint32_t transpose_a, transpose_b;
    uint32_t keep_b;
    uint32_t packed_columns; /* of b, which is a pack node; 0: it is a matrix */
    uint32_t type;           /* of the result */
};

static const struct attributes *attributes_of(const qn_node *node)
{
    return node->attributes;
}

/* ---- Sizes ---- */

/* A matrix of an operand: rows and columns after the transposition. */
struct matrix {
    size_t rows, columns;
};

static struct matrix matrix_of(const qn_shape *shape, bool transpose)
{
    size_t rows = shape->size[shape->rank - 2], columns = shape->size[shape->rank - 1];
    return transpose ? (struct matrix){columns, rows} : (struct matrix){rows, columns};
}

/* b after its transposition, packed or not. */
static struct matrix right_of(const qn_node *node, const qn_shape *b)
{
    const struct attributes *attributes = attributes_of(node);
    if (attributes->packed_columns)
        return (struct matrix){matrix_of(qn_in(node, 0), attributes->transpose_a).columns,
                               attributes->packed_columns};
    return matrix_of(b, attributes->transpose_b);
}

enum { TEXT = 160 };

/* "4x33x67", or "67x33 transposed". */
static const char *operand_text(const qn_shape *shape, bool transpose, char text[TEXT])
{
    size_t used = 0;
    for (int i = 0; i < shape->rank; i++)
        used += (size_t)snprintf(text + used, TEXT - used, i ? "x%zu" : "%zu", shape->size[i]);
    if (transpose)
        snprintf(text + used, TEXT - used, " transposed");
    return text;
}

static bool infer(qn_node *node)
{
    const struct attributes *attributes = attributes_of(node);
    const qn_shape *a = qn_in(node, 0), *b = qn_in(node, 1);
    char a_text[TEXT], b_text[TEXT];
    operand_text(a, attributes->transpose_a, a_text);
    operand_text(b, attributes->transpose_b, b_text);

    enum qn_type a_type = node->inputs[0]->outputs[0].type,
                 b_type = node->inputs[1]->outputs[0].type;
    if (!type_is_real(a_type) || (a_type != b_type && !attributes->packed_columns))
        return qn_node_fail(node, "of %s and %s; both must be f32, f16 or bf16",
                            qn_type_name(a_type), qn_type_name(b_type));
    if (a->rank < 2 || (b->rank < 2 && !attributes->packed_columns))
        return qn_node_fail(node, "operands need two axes (%s times %s)", a_text, b_text);

    struct matrix left = matrix_of(a, attributes->transpose_a), right = right_of(node, b);
    if (left.columns != right.rows)
        return qn_node_fail(node, "inner sizes %zu and %zu differ (%s times %s)", left.columns,
                            right.rows, a_text, b_text);
    if (b->rank > 2) {
        bool same = a->rank == b->rank;
        for (int i = 0; same && i < a->rank - 2; i++)
            same = a->size[i] == b->size[i];
        if (!same)
            return qn_node_fail(node, "leading axes differ (%s times %s)", a_text, b_text);
    }
    if (left.rows == 0 || left.columns == 0 || right.columns == 0)
        return qn_node_fail(node, "an operand is empty (%s times %s)", a_text, b_text);
    qn_shape y = *a;
    y.size[y.rank - 2] = left.rows;
    y.size[y.rank - 1] = right.columns;
    if (qn_shape_count(y) == SIZE_MAX)
        return qn_node_fail(node, "the result is too large (%s times %s)", a_text, b_text);
    node->outputs[0] = (struct qn_value){(enum qn_type)attributes->type, y};
    return true;
}

static struct qn_cost cost(const qn_node *node)
{
    double y = (double)qn_shape_count(*qn_out(node, 0));
    struct matrix left = matrix_of(qn_in(node, 0), attributes_of(node)->transpose_a);
    return (struct qn_cost){.flops = 2 * y * (double)left.columns, .bytes = bytes_of(node)};
}

/* ---- From strides to problems ---- */

struct axis {
    size_t size, a_stride, b_stride;
};

/* The node as one problem, but for its leading axes: the fewest that say the same, outermost first,
 * go to `axes`.  Those that share one b and lie evenly spaced become more rows of a. */
static struct gemm_problem problem_of(const qn_node *node, const struct qn_layout *a,
                                      const struct qn_layout *b, struct axis axes[QN_MAX_RANK],
                                      size_t *n_axes)
{
    const struct attributes *attributes = attributes_of(node);
    int leading = a->shape.rank - 2;
    bool b_is_packed = attributes->packed_columns, b_is_shared = b->shape.rank <= 2;
    struct matrix left = matrix_of(&a->shape, attributes->transpose_a);
    struct gemm_problem problem = {
        .m = left.rows,
        .n = right_of(node, &b->shape).columns,
        .k = left.columns,
        .transpose_a = attributes->transpose_a,
        .transpose_b = attributes->transpose_b,
        .b_is_packed = b_is_packed,
        .a_row = (size_t)a->stride[a->shape.rank - 2],
        .b_row = b_is_packed ? 0 : (size_t)b->stride[b->shape.rank - 2],
        .a_offset = a->offset,
        .b_offset = b->offset,
        .batch = {1, 1},
    };

    if (b_is_shared && !problem.transpose_a) {
        for (; leading > 0; leading--) {
            size_t size = a->shape.size[leading - 1], stride = (size_t)a->stride[leading - 1];
            if (size == 1)
                continue;
            if (problem.m == 1)
                problem.a_row = stride;
            else if (stride != problem.m * problem.a_row)
                break;
            problem.m *= size;
        }
    }

    *n_axes = 0;
    for (int i = 0; i < leading; i++) {
        struct axis axis = {a->shape.size[i], (size_t)a->stride[i],
                            b_is_shared ? 0 : (size_t)b->stride[i]};
        struct axis *outer = *n_axes > 0 ? &axes[*n_axes - 1] : NULL;
        if (axis.size == 1)
            continue;
        if (outer && outer->a_stride == axis.size * axis.a_stride &&
            outer->b_stride == axis.size * axis.b_stride) {
            axis.size *= outer->size;
            *outer = axis;
        } else {
            axes[(*n_axes)++] = axis;
        }
    }
    return problem;
}

/* Leading axes that strides cannot merge into GEMM_BATCH_AXES become one launch for each index.  tile: see struct gemm_problem. */
static void record(struct qn_launch *launch, const qn_node *node, size_t tile,
                   void (*provider)(struct qn_launch *, const struct gemm_problem *))
{
    struct axis axes[QN_MAX_RANK];
    size_t n_axes;
    struct gemm_problem problem =
        problem_of(node, qn_launch_layout(launch, 0), qn_launch_layout(launch, 1), axes, &n_axes);

    problem.tile = tile;
    size_t outer_axes = n_axes > GEMM_BATCH_AXES ? n_axes - GEMM_BATCH_AXES : 0, launches = 1;
    for (size_t i = n_axes, to = GEMM_BATCH_AXES; i-- > outer_axes;) {
        to--;
        problem.batch[to] = axes[i].size;
        problem.a_batch[to] = axes[i].a_stride;
        problem.b_batch[to] = axes[i].b_stride;
    }
    for (size_t i = 0; i < outer_axes; i++)
        launches *= axes[i].size;

    for (size_t i = 0; i < launches; i++) {
        struct gemm_problem part = problem;
        part.y_offset = i * gemm_batch_count(&problem) * problem.m * problem.n;
        for (size_t axis = outer_axes, rest = i; axis-- > 0; rest /= axes[axis].size) {
            part.a_offset += rest % axes[axis].size * axes[axis].a_stride;
            part.b_offset += rest % axes[axis].size * axes[axis].b_stride;
        }
        provider(launch, &part);
    }
}

/* ---- Variants: one for each provider ---- */

/* The problem, if its operands are contiguous; *n_axes as of problem_of(). */
static struct gemm_problem problem_of_shapes(const qn_node *node, size_t *n_axes)
{
    struct qn_layout a = layout_of(node->inputs[0]->outputs[0].type, qn_in(node, 0)),
                     b = layout_of(node->inputs[1]->outputs[0].type, qn_in(node, 1));
    struct axis axes[QN_MAX_RANK];
    return problem_of(node, &a, &b, axes, n_axes);
}

/* What the tuning file says; NULL: nothing, as of batches, of a b that was packed for one variant, and of what is rounded to TF32. */
static const struct tuning_choice *tuned(const qn_node *node)
{
    const struct tuning *tuning = node->graph->context->tuning;
    enum qn_type type = node->inputs[0]->outputs[0].type;
    if (!tuning || attributes_of(node)->packed_columns)
        return NULL;
    size_t n_axes;
    struct gemm_problem problem = problem_of_shapes(node, &n_axes);
    struct tuning_class of = tuning_class_of(type, &problem);
    bool is_tf32 = type == QN_F32 && gemm_matrix_fits(type, &problem, &node->graph->context->caps);
    return n_axes == 0 && !is_tf32 ? tuning_find(tuning, &of) : NULL;
}

static bool is_tuned_to(const qn_node *node, const char *variant)
{
    const struct tuning_choice *choice = tuned(node);
    return choice && strcmp(choice->variant, variant) == 0;
}

static size_t tuned_tile(const qn_node *node, const char *variant)
{
    return is_tuned_to(node, variant) ? tuned(node)->tile : 0;
}

static bool fits(const qn_node *node, const struct qn_caps *caps,
                 bool (*provider)(const struct gemm_problem *, const struct qn_caps *))
{
    size_t n_axes;
    struct gemm_problem problem = problem_of_shapes(node, &n_axes);
    return provider(&problem, caps);
}

/* Whether b lies there as it is. */
static bool has_matrix(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    return !attributes_of(node)->packed_columns;
}

/* Whoever asked for it: the user, or with the user's leave the tuning file. */
static bool clblast_fits(const qn_node *node, const struct qn_caps *caps)
{
    bool is_wanted = caps->gemm == QN_GEMM_CLBLAST ||
                     (caps->gemm == QN_GEMM_AUTO && is_tuned_to(node, "clblast"));
    return is_wanted && node->inputs[0]->outputs[0].type == QN_F32 && has_matrix(node, caps) &&
           fits(node, caps, gemm_clblast_fits);
}
static void clblast_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, 0, gemm_clblast_record);
}

static bool matrix_fits(const qn_node *node, const struct qn_caps *caps)
{
    size_t n_axes;
    struct gemm_problem problem = problem_of_shapes(node, &n_axes);
    return has_matrix(node, caps) &&
           gemm_matrix_fits(node->inputs[0]->outputs[0].type, &problem, caps);
}
static void matrix_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, tuned_tile(node, "matrix"), gemm_matrix_record);
}

static bool cpu_bf16_fits(const qn_node *node, const struct qn_caps *caps)
{
    return node->inputs[0]->outputs[0].type == QN_BF16 && has_matrix(node, caps) &&
           fits(node, caps, gemm_cpu_bf16_fits);
}
static void cpu_bf16_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, 0, gemm_cpu_bf16_record);
}

static bool cpu_fits(const qn_node *node, const struct qn_caps *caps)
{
    return fits(node, caps, gemm_cpu_fits);
}
static size_t cpu_workspace(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    return gemm_cpu_workspace(node->outputs[0].type, qn_shape_count(*qn_out(node, 0)));
}
static void cpu_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, 0, gemm_cpu_record);
}

static bool skinny_fits(const qn_node *node, const struct qn_caps *caps)
{
    return has_matrix(node, caps) && fits(node, caps, gemm_skinny_fits);
}
static void skinny_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, 0, gemm_skinny_record);
}

static bool subgroup_fits(const qn_node *node, const struct qn_caps *caps)
{
    return has_matrix(node, caps) && fits(node, caps, gemm_subgroup_fits);
}
static void subgroup_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, 0, gemm_subgroup_record);
}

/* Of what is a single matrix but for strides, which may turn one axis into a batch: parts take the other. */
static bool split_fits(const qn_node *node, const struct qn_caps *caps)
{
    size_t n_axes;
    struct gemm_problem problem = problem_of_shapes(node, &n_axes);
    return has_matrix(node, caps) && n_axes == 0 && qn_in(node, 0)->rank <= 3 &&
           gemm_split_fits(&problem, caps);
}
static size_t split_workspace(const qn_node *node, const struct qn_caps *caps)
{
    (void)caps;
    size_t n_axes;
    struct gemm_problem problem = problem_of_shapes(node, &n_axes);
    return gemm_split_parts(&problem) * qn_shape_count(*qn_out(node, 0)) * sizeof(float);
}
static void split_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, tuned_tile(node, "split"), gemm_split_record);
}

static void tiled_record(struct qn_launch *launch, const qn_node *node)
{
    record(launch, node, tuned_tile(node, "tiled"), gemm_tiled_record);
}

/* The rows of a result are all its rows, one matrix after the other. */
static int epilogue_rows(const qn_node *node)
{
    return qn_out(node, 0)->rank - 1;
}

static const struct qn_variant variants[] = {
    {.name = "clblast",
     .needs = "f32, and --gemm clblast or a tuning file that says so",
     .fits = clblast_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .record = clblast_record},
    {.name = "cpu_bf16",
     .needs = "bfloat16, a CPU that multiplies pairs of them, and more than eight rows",
     .fits = cpu_bf16_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .record = cpu_bf16_record},
    {.name = "cpu",
     .needs = "a CPU with vectors",
     .fits = cpu_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .workspace = cpu_workspace,
     .record = cpu_record},
    {.name = "skinny",
     .needs = "a GPU, and at most eight rows",
     .fits = skinny_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .record = skinny_record},
    {.name = "split",
     .needs = "a GPU, one b for all, few results and an even k of 1,024 or more",
     .fits = split_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .workspace = split_workspace,
     .record = split_record},
    {.name = "matrix",
     .needs = "16 bits, or f32 and --gemm tf32, a GPU with instructions for matrices of them (see "
              "`quern devices`), and more than eight rows and columns",
     .fits = matrix_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .record = matrix_record},
    {.name = "subgroup",
     .needs = "a GPU whose sub-groups of 8 or 16 read each other's registers",
     .fits = subgroup_fits,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .record = subgroup_record},
    {.name = "tiled",
     .needs = "a b that is not packed",
     .fits = has_matrix,
     .strides = {QN_ROWS, QN_ROWS},
     .epilogue = epilogue_rows,
     .record = tiled_record},
};

/* The user's word goes before the tuning file's. */
static const char *preferred(const qn_node *node)
{
    const struct qn_caps *caps = &node->graph->context->caps;
    if (caps->gemm == QN_GEMM_CLBLAST && clblast_fits(node, caps))
        return "clblast";
    const struct tuning_choice *choice = tuned(node);
    return choice ? choice->variant : NULL;
}

/* ---- Gradients ---- */

static qn_node *product(qn_node *a, bool transpose_a, qn_node *b, bool transpose_b,
                        enum qn_type type)
{
    return matmul_to(
        a, b, (struct qn_matmul){.transpose_a = transpose_a, .transpose_b = transpose_b}, type);
}

/* (..., rows, columns) as one matrix: its leading axes become rows. */
static qn_node *folded(qn_node *x)
{
    qn_shape shape = qn_node_shape(x);
    size_t columns = shape.size[shape.rank - 1];
    return qn_reshape(x, (qn_shape){2, {qn_shape_count(shape) / columns, columns}});
}

static void gradient(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    const struct attributes *attributes = attributes_of(node);
    bool transpose_a = attributes->transpose_a, transpose_b = attributes->transpose_b;
    qn_node *a = node->inputs[0], *b = node->inputs[1], *dy = d_out[0];
    const qn_shape *a_shape = qn_in(node, 0), *b_shape = qn_in(node, 1);
    bool b_is_shared = b_shape->rank < a_shape->rank;
    if (transpose_a) {
        qn_node *b_for_all = b;
        if (b_is_shared) {
            qn_shape shape = *a_shape;
            shape.size[shape.rank - 2] = b_shape->size[0];
            shape.size[shape.rank - 1] = b_shape->size[1];
            b_for_all = qn_broadcast(b, shape);
        }
        d_in[0] = product(b_for_all, transpose_b, dy, true, gradient_type(a));
    } else {
        d_in[0] = product(dy, false, b, !transpose_b, gradient_type(a));
    }

    /* One b for all: its gradient is the sum over the batch, which is one long product if the batch
     * is but more rows. */
    qn_node *left = a, *right = dy;
    bool sum = b_is_shared && transpose_a;
    if (b_is_shared && !transpose_a) {
        left = folded(a);
        right = folded(dy);
    }
    enum qn_type type = sum ? QN_F32 : gradient_type(b);
    qn_node *d_b = transpose_b ? product(right, true, left, transpose_a, type)
                               : product(left, !transpose_a, right, false, type);
    d_in[1] = sum && d_b ? qn_sum(d_b, QN_AXIS(a_shape->rank - 2) - 1) : d_b;
}

/* ---- pack: b as gemm_cpu_record() reads it ---- */

struct pack_attributes {
    uint32_t transpose;
};

static struct gemm_problem pack_problem(const qn_node *node, const struct qn_layout *b)
{
    const struct pack_attributes *attributes = node->attributes;
    struct matrix right = matrix_of(&b->shape, attributes->transpose);
    return (struct gemm_problem){.k = right.rows,
                                 .n = right.columns,
                                 .transpose_b = attributes->transpose,
                                 .b_row = (size_t)b->stride[0],
                                 .b_offset = b->offset};
}

static bool infer_pack(qn_node *node)
{
    struct qn_layout b = layout_of(QN_F32, qn_in(node, 0));
    struct gemm_problem problem = pack_problem(node, &b);
    size_t size = gemm_cpu_packed_size(problem.k, problem.n, &node->graph->context->caps);
    node->outputs[0] = (struct qn_value){QN_F32, QN_SHAPE(size)};
    return true;
}

static void record_pack(struct qn_launch *launch, const qn_node *node)
{
    struct gemm_problem problem = pack_problem(node, qn_launch_layout(launch, 0));
    gemm_cpu_pack(launch, &problem);
}

static const struct qn_variant pack_variants[] = {{.strides = {QN_ROWS}, .record = record_pack}};

static const struct qn_op pack_op = {
    .name = "pack",
    .outputs = 1,
    .attributes = sizeof(struct pack_attributes),
    .infer = infer_pack,
    .variants = pack_variants,
    .n_variants = 1,
};

/* Whether the variant for CPUs will multiply, and gains by it. */
static bool packs(const qn_node *node)
{
    const struct attributes *attributes = attributes_of(node);
    const qn_context *context = node->graph->context;
    const qn_shape *y = qn_out(node, 0);
    return attributes->keep_b && !attributes->packed_columns && qn_in(node, 1)->rank == 2 &&
           y->size[y->rank - 1] <= UINT32_MAX &&
           gemm_cpu_packs(qn_shape_count(*y) / y->size[y->rank - 1]) &&
           cpu_fits(node, &context->caps) && !cpu_bf16_fits(node, &context->caps) &&
           !(context->caps.gemm == QN_GEMM_CLBLAST && clblast_fits(node, &context->caps)) &&
           (!context->only_variant || strcmp(context->only_variant, "cpu") == 0);
}

/* ---- The operation ---- */

static qn_node *simplify(qn_node *node);

static const struct qn_op matmul_op = {
    .name = "matmul",
    .outputs = 1,
    .attributes = sizeof(struct attributes),
    .infer = infer,
    .variants = variants,
    .n_variants = sizeof variants / sizeof *variants,
    .preferred = preferred,
    .gradient = gradient,
    .simplify = simplify,
    .cost = cost,
};

/* Takes in the transpositions of its operands; packs b apart if it is to be kept. */
static qn_node *simplify(qn_node *node)
{
    struct attributes attributes = *attributes_of(node);
    qn_node *inputs[] = {node->inputs[0], node->inputs[1]};
    bool changed = false;
    if (transposes_last_two(inputs[0])) {
        inputs[0] = inputs[0]->inputs[0];
        attributes.transpose_a ^= 1;
        changed = true;
    }
    if (transposes_last_two(inputs[1])) {
        inputs[1] = inputs[1]->inputs[0];
        attributes.transpose_b ^= 1;
        changed = true;
    }
    if (packs(node)) {
        struct pack_attributes pack = {attributes.transpose_b};
        attributes.packed_columns = (uint32_t)qn_out(node, 0)->size[qn_out(node, 0)->rank - 1];
        attributes.transpose_b = 0;
        inputs[1] = qn_node_new(&pack_op, &pack, &inputs[1], 1);
        changed = true;
    }
    return changed ? qn_node_new(&matmul_op, &attributes, inputs, 2) : node;
}

qn_node *matmul_to(qn_node *a, qn_node *b, struct qn_matmul options, enum qn_type type)
{
    struct attributes attributes = {.transpose_a = options.transpose_a,
                                    .transpose_b = options.transpose_b,
                                    .keep_b = options.keep_b,
                                    .type = type};
    return qn_node_new(&matmul_op, &attributes, (qn_node *[]){a, b}, 2);
}

qn_node *qn_matmul_with(qn_node *a, qn_node *b, struct qn_matmul options)
{
    return a ? matmul_to(a, b, options, qn_node_type(a)) : NULL;
}

qn_node *qn_matmul(qn_node *a, qn_node *b)
{
    return qn_matmul_with(a, b, (struct qn_matmul){0});
}

qn_node *qn_linear(qn_node *x, qn_node *weight, qn_node *bias)
{
    qn_node *y = qn_matmul(x, weight);
    if (!y || !bias)
        return NULL;
    size_t columns = qn_out(y, 0)->size[qn_out(y, 0)->rank - 1];
    if (qn_out(bias, 0)->rank != 1 || qn_out(bias, 0)->size[0] != columns) {
        char text[TEXT];
        qn_node_fail(y, "the bias is %s, not %zu numbers",
                     operand_text(qn_out(bias, 0), false, text), columns);
        return NULL;
    }
    return qn_add(y, bias);
}
