/* State: writes of tensors as nodes, and the packing of gradients into buffers. */
#include <stdlib.h>

#include <quern/ops.h>

#include "cl_sources.h"
#include "device/store.h"
#include "graph/graph.h"
#include "graph/state.h"
#include "op/shape.h"

/* ---- Assign ---- */

static bool check_tensor(const qn_node *node, const qn_tensor *tensor, const qn_node *value)
{
    if (tensor->context != node->graph->context)
        return qn_node_fail(node, "tensor %s belongs to another context", tensor->name);
    if (tensor->type != value->outputs[0].type)
        return qn_node_fail(node, "tensor %s is %s, the value %s", tensor->name,
                            qn_type_name(tensor->type), qn_type_name(value->outputs[0].type));
    return true;
}

static bool infer_assign(qn_node *node)
{
    const qn_tensor *tensor = ((const struct assign_attributes *)node->attributes)->tensor;
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    if (!check_tensor(node, tensor, node->inputs[0]))
        return false;
    if (!qn_shape_equal(tensor->shape, *qn_in(node, 0)))
        return qn_node_fail(node, "tensor %s is %s, the value %s", tensor->name,
                            shape_text(&tensor->shape, a, sizeof a),
                            shape_text(qn_in(node, 0), b, sizeof b));
    node->outputs[0] = node->inputs[0]->outputs[0];
    return true;
}

const struct qn_op assign_op = {.name = "assign",
                                .outputs = 1,
                                .attributes = sizeof(struct assign_attributes),
                                .infer = infer_assign};

qn_node *qn_assign(qn_tensor *tensor, qn_node *node)
{
    if (!tensor)
        return NULL;
    return qn_node_new(&assign_op, &(struct assign_attributes){tensor}, &node, 1);
}

/* ---- Write: a slice of a tensor ---- */

static bool infer_write(qn_node *node)
{
    const struct write_attributes *write = node->attributes;
    const qn_shape *whole = &write->tensor->shape, *part = qn_in(node, 0);
    if (!check_tensor(node, write->tensor, node->inputs[0]))
        return false;
    if (node->inputs[1]->outputs[0].type != QN_I32 || qn_shape_count(*qn_in(node, 1)) != 1)
        return qn_node_fail(node, "the place in tensor %s must be one i32", write->tensor->name);
    bool fits = whole->rank == part->rank && write->axis < (size_t)whole->rank;
    for (int i = 0; fits && i < whole->rank; i++)
        fits = (size_t)i == write->axis ? part->size[i] <= whole->size[i]
                                        : part->size[i] == whole->size[i];
    char a[SHAPE_TEXT], b[SHAPE_TEXT];
    if (!fits)
        return qn_node_fail(node, "%s is no slice along axis %zu of tensor %s, which is %s",
                            shape_text(part, a, sizeof a), write->axis, write->tensor->name,
                            shape_text(whole, b, sizeof b));
    node->outputs[0] = (struct qn_value){write->tensor->type, *whole};
    return true;
}

static void record_write(struct qn_launch *launch, const qn_node *node)
{
    const struct write_attributes *write = node->attributes;
    const qn_shape *whole = &write->tensor->shape, *part = qn_in(node, 0);
    size_t outer = 1, inner = 1;
    for (size_t i = 0; i < (size_t)whole->rank; i++)
        if (i != write->axis)
            *(i < write->axis ? &outer : &inner) *= whole->size[i];
    begin_copy(launch, "write_slice", write->tensor->type);
    qn_launch_output(launch, 0);
    qn_launch_input(launch, 0);
    qn_launch_input(launch, 1);
    qn_launch_ulong(launch, outer);
    qn_launch_ulong(launch, part->size[write->axis]);
    qn_launch_ulong(launch, inner);
    qn_launch_ulong(launch, whole->size[write->axis]);
    qn_launch_items(launch, outer * divide_up(part->size[write->axis] * inner,
                                              flat_chunk(qn_launch_caps(launch))));
}

static const struct qn_variant write_variants[] = {{.name = "copy", .record = record_write}};

const struct qn_op write_op = {.name = "write",
                               .outputs = 1,
                               .attributes = sizeof(struct write_attributes),
                               .infer = infer_write,
                               .variants = write_variants,
                               .n_variants = 1};

qn_node *qn_write(qn_tensor *tensor, qn_node *node, int axis, qn_node *at)
{
    if (!tensor || !node || (axis = axis_of("write", node, axis)) < 0)
        return NULL;
    return qn_node_new(&write_op, &(struct write_attributes){tensor, (size_t)axis},
                       (qn_node *[]){node, at}, 2);
}

qn_tensor *tensor_written(const qn_node *node)
{
    if (node->op == &assign_op)
        return ((const struct assign_attributes *)node->attributes)->tensor;
    return node->op == &write_op ? ((const struct write_attributes *)node->attributes)->tensor
                                 : NULL;
}

/* ---- Copy: the same values without gaps ---- */

static bool infer_copy(qn_node *node)
{
    node->outputs[0] = node->inputs[0]->outputs[0];
    return node->outputs[0].type != QN_U8 ||
           qn_node_fail(node, "of u8, which is not copied, as a result or for strides");
}

const struct qn_op copy_op = {
    .name = "copy", .outputs = 1, .infer = infer_copy, .expression = "x0"};

/* ---- Pack ---- */

struct pack_attributes {
    const qn_store *store;
    size_t buffer;
};

/* The entries of a buffer are the node's inputs, in order. */
static const struct store_entry *next_entry(const struct pack_attributes *pack, size_t *index)
{
    while (*index < pack->store->count && pack->store->entries[*index].buffer != pack->buffer)
        ++*index;
    return *index < pack->store->count ? &pack->store->entries[(*index)++] : NULL;
}

static bool infer_pack(qn_node *node)
{
    const struct pack_attributes *pack = node->attributes;
    size_t index = 0;
    for (size_t i = 0; i < node->n_inputs; i++) {
        const struct store_entry *entry = next_entry(pack, &index);
        char a[SHAPE_TEXT], b[SHAPE_TEXT];
        if (node->inputs[i]->outputs[0].type != QN_F32 ||
            !qn_shape_equal(*qn_in(node, i), entry->tensor->shape))
            return qn_node_fail(node, "the gradient of %s is %s %s, the tensor f32 %s",
                                entry->tensor->name, qn_type_name(node->inputs[i]->outputs[0].type),
                                shape_text(qn_in(node, i), a, sizeof a),
                                shape_text(&entry->tensor->shape, b, sizeof b));
    }
    node->outputs[0] = (struct qn_value){QN_F32, pack->store->buffers[pack->buffer].whole->shape};
    return true;
}

static bool place_pack(const qn_node *node, size_t input, size_t *offset)
{
    const struct store_entry *entry = NULL;
    for (size_t i = 0, index = 0; i <= input; i++)
        entry = next_entry(node->attributes, &index);
    *offset = entry->offset;
    return true;
}

static void record_pack(struct qn_launch *launch, const qn_node *node)
{
    const struct pack_attributes *pack = node->attributes;
    size_t index = 0, end = 0, total = qn_out(node, 0)->size[0];
    for (size_t i = 0; i <= node->n_inputs; i++) {
        const struct store_entry *entry = next_entry(pack, &index);
        size_t begin = entry ? entry->offset / sizeof(float) : total;
        if (begin > end) {
            begin_copy(launch, "zero", QN_F32);
            qn_launch_output(launch, 0);
            qn_launch_ulong(launch, end);
            qn_launch_ulong(launch, begin - end);
            qn_launch_flat(launch, begin - end);
        }
        if (!entry)
            break;
        size_t count = qn_shape_count(entry->tensor->shape);
        if (!qn_launch_in_place(launch, i))
            record_copy_rows(launch, i, 1, count, count, begin);
        end = begin + count;
    }
}

static const struct qn_variant pack_variants[] = {{.name = "copy", .record = record_pack}};

static const struct qn_op pack_op = {.name = "pack",
                                     .outputs = 1,
                                     .attributes = sizeof(struct pack_attributes),
                                     .infer = infer_pack,
                                     .variants = pack_variants,
                                     .n_variants = 1,
                                     .place = place_pack};

qn_node *qn_pack(const qn_store *store, size_t buffer, qn_node *const *gradients)
{
    if (!store)
        return NULL;
    if (!store->is_sealed || buffer >= store->n_buffers ||
        store->buffers[buffer].group == QN_FROZEN) {
        context_fail(store->context, QN_ERROR_INVALID,
                     "pack: store %s has no buffer %zu that is trained", store->name, buffer);
        return NULL;
    }
    struct pack_attributes pack = {store, buffer};
    qn_node **inputs = context_alloc(store->context, store->count, sizeof *inputs);
    size_t count = 0, index = 0;
    for (const struct store_entry *entry; inputs && (entry = next_entry(&pack, &index));)
        inputs[count++] = gradients[entry - store->entries];
    qn_node *node = inputs ? qn_node_new(&pack_op, &pack, inputs, count) : NULL;
    free(inputs);
    return node;
}
