/* Two operations of a program's own, with gradients: what a built-in operation can do, these can.
 *
 *     soft_cap     limit tanh(x / limit): logits that never pass a limit (Gemma Team, 2024).
 *                  Element-wise, so a line of OpenCL C, a line for its derivative, and Quern
 *                  fuses it.
 *     unit_rows    x / sqrt(sum x^2 + epsilon): rows of length one, whose products are cosines.
 *                  A kernel of its own, and one for its gradient.
 *
 * The program holds both against plain C, and their gradients against finite differences.
 *
 *     cc custom_op.c $(pkg-config --cflags --libs quern) -lm -o custom_op */
#include <math.h>
#include <stdio.h>

#include <quern/op.h>
#include <quern/ops.h>

/* ---- soft_cap: an expression in x0, its derivative in x0, y (the result), dy; a0 is the limit
 * ---- */

static bool infer_soft_cap(qn_node *node)
{
    if (qn_node_type(node->inputs[0]) != QN_F32)
        return qn_node_fail(node, "x is %s, not f32", qn_type_name(qn_node_type(node->inputs[0])));
    node->outputs[0] = node->inputs[0]->outputs[0]; /* the type and shape of x */
    return true;
}

static const struct qn_op soft_cap_op = {
    .name = "soft_cap",
    .outputs = 1,
    .attributes = sizeof(float),
    .infer = infer_soft_cap,
    .expression = "a0 * tanh(x0 / a0)",
    .derivative = {"dy * (1.0f - y * y / (a0 * a0))"},
};

static qn_node *soft_cap(qn_node *x, double limit)
{
    return qn_node_new(&soft_cap_op, &(float){(float)limit}, &x, 1);
}

/* ---- unit_rows: kernels ----
 *
 * A work-group has a row, and takes the next when there are more rows than groups.  Quern compiles
 * cl/common.cl before this text: floatv, load_row() and group_sum() mean the right thing on a CPU,
 * where a group is one work-item with wide vectors, and on a GPU, where many share local memory. */
static const struct qn_source unit_rows_source = {
    "unit_rows.cl",
    "/* y = r x, r = 1 / sqrt(sum x^2 + epsilon). */\n"
    "kernel void unit_rows(global float *y, global const float *x, ulong rows, ulong width,\n"
    "                      float epsilon)\n"
    "{\n"
    "    GROUP_SCRATCH(scratch);\n"
    "    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {\n"
    "        global const float *in = x + row * width;\n"
    "        floatv squares = 0.0f;\n"
    "        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {\n"
    "            floatv v = load_row(in, i, width, 0.0f);\n"
    "            squares += v * v;\n"
    "        }\n"
    "        float r = 1.0f / sqrt(group_sum(sum_lanes(squares), scratch) + epsilon);\n"
    "        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP)\n"
    "            store_row(load_row(in, i, width, 0.0f) * r, y + row * width, i, width);\n"
    "    }\n"
    "}\n"
    "\n"
    "/* dx = r (dy - x r^2 sum(x dy)). */\n"
    "kernel void unit_rows_backward(global float *dx, global const float *x,\n"
    "                               global const float *dy, ulong rows, ulong width,\n"
    "                               float epsilon)\n"
    "{\n"
    "    GROUP_SCRATCH(scratch);\n"
    "    for (ulong row = get_group_id(0); row < rows; row += get_num_groups(0)) {\n"
    "        global const float *in = x + row * width, *slope = dy + row * width;\n"
    "        floatv squares = 0.0f, products = 0.0f;\n"
    "        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {\n"
    "            floatv v = load_row(in, i, width, 0.0f);\n"
    "            squares += v * v;\n"
    "            products += v * load_row(slope, i, width, 0.0f);\n"
    "        }\n"
    "        float r = 1.0f / sqrt(group_sum(sum_lanes(squares), scratch) + epsilon);\n"
    "        float along = r * r * group_sum(sum_lanes(products), scratch);\n"
    "        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP) {\n"
    "            floatv across = load_row(slope, i, width, 0.0f) - load_row(in, i, width, 0.0f) * "
    "along;\n"
    "            store_row(across * r, dx + row * width, i, width);\n"
    "        }\n"
    "    }\n"
    "}\n"};

/* ---- unit_rows: how it is launched, and its gradient ---- */

struct unit_rows {
    double epsilon;
};

static bool infer_unit_rows(qn_node *node)
{
    if (qn_in(node, 0)->rank == 0 || qn_node_type(node->inputs[0]) != QN_F32)
        return qn_node_fail(node, "x must have rows of f32");
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

/* Both kernels have the output, then the inputs, then the same numbers.  Sizes are arguments: a new
 * shape compiles nothing. */
static void launch_rows(struct qn_launch *launch, const qn_node *node, const char *kernel)
{
    enum { GPU_GROUP = 128 };
    const struct qn_caps *caps = qn_launch_caps(launch);
    const struct unit_rows *options = node->attributes;
    size_t width = qn_in(node, 0)->size[qn_in(node, 0)->rank - 1];
    size_t rows = qn_shape_count(*qn_in(node, 0)) / width, local = 1;
    while (caps->device_class == QN_GPU && 2 * local <= GPU_GROUP &&
           2 * local <= caps->max_work_group)
        local *= 2; /* group_sum() wants a power of two */

    qn_launch_kernel(launch, &unit_rows_source, kernel);
    qn_launch_output(launch, 0);
    for (size_t i = 0; i < node->n_inputs; i++)
        qn_launch_input(launch, i);
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, width);
    qn_launch_float(launch, options->epsilon);
    qn_launch_groups(launch, rows, local);
}

static void record_unit_rows(struct qn_launch *launch, const qn_node *node)
{
    launch_rows(launch, node, "unit_rows");
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    launch_rows(launch, node, "unit_rows_backward");
}

/* x, dy -> dx: an operation like any other. */
static const struct qn_variant backward_variants[] = {{.name = "rows", .record = record_backward}};
static const struct qn_op unit_rows_backward_op = {
    .name = "unit_rows_backward",
    .outputs = 1,
    .attributes = sizeof(struct unit_rows),
    .infer = infer_unit_rows,
    .variants = backward_variants,
    .n_variants = 1,
};

static void gradient_unit_rows(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    qn_node *inputs[] = {node->inputs[0], d_out[0]};
    d_in[0] = qn_node_new(&unit_rows_backward_op, node->attributes, inputs, 2);
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_unit_rows}};
static const struct qn_op unit_rows_op = {
    .name = "unit_rows",
    .outputs = 1,
    .attributes = sizeof(struct unit_rows),
    .infer = infer_unit_rows,
    .variants = variants,
    .n_variants = 1,
    .gradient = gradient_unit_rows,
};

static qn_node *unit_rows(qn_node *x, double epsilon)
{
    return qn_node_new(&unit_rows_op, &(struct unit_rows){epsilon}, &x, 1);
}

/* ---- Trying them ---- */

enum { QUERIES = 5, KEYS = 7, WIDTH = 37 };
static const double epsilon = 1e-6, limit = 0.5;

/* The same in double. */
static double expected_score(const float *query, const float *key)
{
    double product = 0, query_squares = epsilon, key_squares = epsilon;
    for (int i = 0; i < WIDTH; i++) {
        product += (double)query[i] * key[i];
        query_squares += (double)query[i] * query[i];
        key_squares += (double)key[i] * key[i];
    }
    return limit * tanh(product / sqrt(query_squares * key_squares) / limit);
}

static double greatest_error(const float *scores, const float *queries, const float *keys)
{
    double most = 0;
    for (int i = 0; i < QUERIES; i++)
        for (int j = 0; j < KEYS; j++) {
            double expected = expected_score(queries + i * WIDTH, keys + j * WIDTH);
            most = fmax(most, fabs(scores[i * KEYS + j] - expected));
        }
    return most;
}

static int fail(const qn_context *context)
{
    fprintf(stderr, "%s\n", qn_error(context));
    return 1;
}

int main(void)
{
    qn_context *qn = qn_open(NULL);
    if (!qn)
        return fail(NULL);
    qn_tensor *queries = qn_tensor_new(qn, "queries", QN_F32, QN_SHAPE(QUERIES, WIDTH));
    qn_tensor *keys = qn_tensor_new(qn, "keys", QN_F32, QN_SHAPE(KEYS, WIDTH));
    qn_fill_normal(queries, 0, 1, 1);
    qn_fill_normal(keys, 0, 1, 2);

    /* Cosines of all pairs, capped; and a number that depends on all of them. */
    qn_graph *graph = qn_graph_new(qn);
    qn_node *leaves[] = {qn_leaf(graph, queries), qn_leaf(graph, keys)};
    qn_node *cosines = qn_matmul_with(unit_rows(leaves[0], epsilon), unit_rows(leaves[1], epsilon),
                                      (struct qn_matmul){.transpose_b = true});
    qn_node *scores = soft_cap(cosines, limit);
    qn_node *sum = qn_sum_squares(scores);
    qn_plan *plan = qn_plan_new(graph, &scores, 1);
    if (!plan)
        return fail(qn); /* any mistake above ends here */
    float found[QUERIES * KEYS], query_values[QUERIES * WIDTH], key_values[KEYS * WIDTH];
    qn_run(plan);
    qn_get(plan, scores, found);
    qn_tensor_read(queries, query_values);
    qn_tensor_read(keys, key_values);

    double slope_error;
    if (qn_check_gradients(sum, leaves, 2, 1, &slope_error) != QN_OK)
        return fail(qn);
    double error = greatest_error(found, query_values, key_values);
    printf("%s\nscores: greatest error %.1e\ngradients: greatest relative error %.1e\n",
           qn_device_name(qn), error, slope_error);

    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_tensor_free(queries);
    qn_tensor_free(keys);
    qn_close(qn);
    /* A few roundings of numbers below 1; finite differences in f32 are good to two or three
     * digits. */
    return !(error < 1e-6 && slope_error < 1e-2);
}
