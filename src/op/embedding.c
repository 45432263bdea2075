/* Embedding: rows of a table by number. */
#include <quern/op.h>
#include <quern/ops.h>

#include "cl_sources.h"
#include "device/context.h"
#include "graph/graph.h"
#include "op/shape.h"

/* ---- Forward: table, ids -> rows ---- */

static bool infer_embedding(qn_node *node)
{
    char text[SHAPE_TEXT];
    enum qn_type type = node->inputs[0]->outputs[0].type;
    if (!type_is_real(type) || qn_in(node, 0)->rank != 2)
        return qn_node_fail(node, "the table is %s %s; it must be a matrix of f32, f16 or bf16",
                            qn_type_name(type), shape_text(qn_in(node, 0), text, sizeof text));
    if (node->inputs[1]->outputs[0].type != QN_I32 || qn_in(node, 1)->rank >= QN_MAX_RANK)
        return qn_node_fail(node, "ids are %s %s; they must be i32, of rank below %d",
                            qn_type_name(node->inputs[1]->outputs[0].type),
                            shape_text(qn_in(node, 1), text, sizeof text), QN_MAX_RANK);
    qn_shape shape = *qn_in(node, 1);
    shape.size[shape.rank++] = qn_in(node, 0)->size[1];
    node->outputs[0] = (struct qn_value){type, shape};
    return true;
}

static void record_embedding(struct qn_launch *launch, const qn_node *node)
{
    size_t count = qn_shape_count(*qn_in(node, 1));
    qn_launch_kernel(launch, &source_embedding, "embedding");
    qn_launch_type(launch, "T", node->outputs[0].type);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, count);
    qn_launch_ulong(launch, qn_in(node, 0)->size[0]);
    qn_launch_ulong(launch, qn_in(node, 0)->size[1]);
    qn_launch_rows(launch, count);
}

static struct qn_cost cost(const qn_node *node)
{
    size_t count = qn_shape_count(*qn_out(node, 0));
    return (struct qn_cost){.bytes = 2 * (double)qn_type_bytes(node->outputs[0].type, count)};
}

/* ---- Backward: ids, dy -> d_table ---- */

struct backward_attributes {
    size_t rows, width;
};

static bool infer_backward(qn_node *node)
{
    const struct backward_attributes *table = node->attributes;
    node->outputs[0] = (struct qn_value){QN_F32, QN_SHAPE(table->rows, table->width)};
    return true;
}

static void record_backward(struct qn_launch *launch, const qn_node *node)
{
    enum { BLOCK = 16 };
    const struct backward_attributes *table = node->attributes;
    qn_launch_kernel(launch, &source_embedding, "embedding_backward");
    qn_launch_type(launch, "T", node->inputs[1]->outputs[0].type);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, qn_shape_count(*qn_in(node, 0)));
    qn_launch_ulong(launch, table->rows);
    qn_launch_ulong(launch, table->width);
    qn_launch_ulong(launch, BLOCK);
    qn_launch_rows(launch, divide_up(table->rows, BLOCK));
}

static struct qn_cost cost_backward(const qn_node *node)
{
    double added = (double)qn_shape_count(*qn_in(node, 1)),
           all = (double)qn_shape_count(*qn_out(node, 0));
    return (struct qn_cost){.flops = added, .bytes = 4 * (all + 3 * added)};
}

static const struct qn_variant backward_variants[] = {
    {.name = "blocks", .record = record_backward}};

static const struct qn_op backward_op = {.name = "embedding_backward",
                                         .outputs = 1,
                                         .attributes = sizeof(struct backward_attributes),
                                         .infer = infer_backward,
                                         .variants = backward_variants,
                                         .n_variants = 1,
                                         .cost = cost_backward};

struct embedding_attributes {
    int32_t padding; /* the id whose row gets no gradient; QN_NO_PADDING: none */
};

static void gradient(qn_node *node, qn_node *const *d_out, qn_node **d_in)
{
    struct backward_attributes table = {qn_in(node, 0)->size[0], qn_in(node, 0)->size[1]};
    int32_t padding = ((const struct embedding_attributes *)node->attributes)->padding;
    qn_node *ids = node->inputs[1];
    if (padding != QN_NO_PADDING) {
        qn_node *whole = qn_cast(qn_constant(node->graph, padding), QN_I32),
                *none = qn_cast(qn_constant(node->graph, -1), QN_I32);
        ids = qn_where(qn_equal(ids, whole), none, ids);
    }
    d_in[0] = qn_node_new(&backward_op, &table, (qn_node *[]){ids, d_out[0]}, 2);
}

static const struct qn_variant variants[] = {{.name = "rows", .record = record_embedding}};

static const struct qn_op embedding_op = {.name = "embedding",
                                          .outputs = 1,
                                          .attributes = sizeof(struct embedding_attributes),
                                          .infer = infer_embedding,
                                          .variants = variants,
                                          .n_variants = 1,
                                          .gradient = gradient,
                                          .cost = cost};

qn_node *qn_embedding_padded(qn_node *table, qn_node *ids, int32_t padding)
{
    struct embedding_attributes attributes = {padding};
    return qn_node_new(&embedding_op, &attributes, (qn_node *[]){table, ids}, 2);
}

qn_node *qn_embedding(qn_node *table, qn_node *ids)
{
    return qn_embedding_padded(table, ids, QN_NO_PADDING);
}
