/* Nodes and graphs: making, merging, walking and naming them. */
#include "graph/graph.h"
#include "graph/origin.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "device/memory.h"

struct block {
    struct block *next;
    size_t used, size;
};

struct intern {
    qn_node **slots; /* open addressing; a power of two */
    size_t size, used;
};

enum { BLOCK_BYTES = 64 * 1024, ALIGN = 16 };

/* ---- Shapes ---- */

size_t qn_shape_count(qn_shape shape)
{
    size_t count = 1;
    for (int i = 0; i < shape.rank; i++)
        if (!size_product(&count, count, shape.size[i]))
            return SIZE_MAX;
    return count;
}

bool qn_shape_equal(qn_shape a, qn_shape b)
{
    return a.rank == b.rank && memcmp(a.size, b.size, (size_t)a.rank * sizeof *a.size) == 0;
}

const char *shape_text(const qn_shape *shape, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < shape->rank && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%zu", i ? "," : "[", shape->size[i]);
    if (used < bytes)
        snprintf(text + used, bytes - used, "%s", shape->rank ? "]" : "[]");
    return text;
}

void element_text(const qn_shape *shape, size_t index, char text[SHAPE_TEXT])
{
    qn_shape at = {.rank = shape->rank};
    for (int axis = shape->rank; axis-- > 0; index /= shape->size[axis])
        at.size[axis] = index % shape->size[axis];
    shape_text(&at, text, SHAPE_TEXT);
}

/* ---- Memory ---- */

void *graph_alloc(qn_graph *graph, size_t bytes)
{
    bytes = round_up(bytes, ALIGN);
    struct block *block = graph->blocks;
    if (!block || block->size - block->used < bytes) {
        size_t head = round_up(sizeof *block, ALIGN), size = size_max(BLOCK_BYTES, head + bytes);
        block = context_alloc(graph->context, 1, size);
        if (!block)
            return NULL;
        *block = (struct block){.next = graph->blocks, .used = head, .size = size};
        graph->blocks = block;
    }
    void *memory = (char *)block + block->used;
    block->used += bytes;
    return memory;
}

qn_graph *qn_graph_new(qn_context *context)
{
    if (!context)
        return NULL;
    qn_graph *graph = context_alloc(context, 1, sizeof *graph);
    if (graph)
        graph->context = context;
    return graph;
}

qn_graph *graph_new_simplifying(qn_context *context)
{
    qn_graph *graph = qn_graph_new(context);
    if (graph && !(graph->intern = context_alloc(context, 1, sizeof *graph->intern))) {
        qn_graph_free(graph);
        return NULL;
    }
    return graph;
}

void qn_graph_free(qn_graph *graph)
{
    if (!graph)
        return;
    while (graph->blocks) {
        struct block *next = graph->blocks->next;
        free(graph->blocks);
        graph->blocks = next;
    }
    if (graph->intern)
        free(graph->intern->slots);
    free(graph->intern);
    free(graph->names);
    free(graph->nodes);
    free(graph);
}

/* ---- Merging equal nodes ---- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001B3u;
    return hash;
}

static uint64_t node_hash(const qn_node *node)
{
    uint64_t hash = hash_bytes(0xCBF29CE484222325u, &node->op, sizeof node->op);
    for (size_t i = 0; i < node->n_inputs; i++)
        hash = hash_bytes(hash, &node->inputs[i]->id, sizeof node->inputs[i]->id);
    hash = hash_bytes(hash, node->attributes, node->op->attributes);
    return hash_bytes(hash, &node->segment, sizeof node->segment);
}

static bool nodes_equal(const qn_node *a, const qn_node *b)
{
    return a->op == b->op && a->segment == b->segment && a->n_inputs == b->n_inputs &&
           (a->n_inputs == 0 ||
            memcmp(a->inputs, b->inputs, a->n_inputs * sizeof *a->inputs) == 0) &&
           (a->op->attributes == 0 || memcmp(a->attributes, b->attributes, a->op->attributes) == 0);
}

static bool intern_grow(qn_graph *graph)
{
    struct intern *intern = graph->intern;
    if (2 * (intern->used + 1) <= intern->size)
        return true;
    struct intern larger = {.size = intern->size ? 2 * intern->size : 1024, .used = intern->used};
    larger.slots = context_alloc(graph->context, larger.size, sizeof *larger.slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < intern->size; i++) {
        if (!intern->slots[i])
            continue;
        size_t slot = node_hash(intern->slots[i]) & (larger.size - 1);
        while (larger.slots[slot])
            slot = (slot + 1) & (larger.size - 1);
        larger.slots[slot] = intern->slots[i];
    }
    free(intern->slots);
    *intern = larger;
    return true;
}

/* The slot of an equal node, or the empty one where `node` belongs; NULL on failure. */
static qn_node **intern_slot(qn_graph *graph, const qn_node *node)
{
    if (!intern_grow(graph))
        return NULL;
    struct intern *intern = graph->intern;
    size_t slot = node_hash(node) & (intern->size - 1);
    while (intern->slots[slot] && !nodes_equal(intern->slots[slot], node))
        slot = (slot + 1) & (intern->size - 1);
    return &intern->slots[slot];
}

/* ---- Nodes ---- */

static bool graph_append(qn_graph *graph, qn_node *node)
{
    qn_node **nodes =
        context_grow(graph->context, graph->nodes, graph->count, &graph->capacity, sizeof *nodes);
    if (!nodes)
        return false;
    graph->nodes = nodes;
    node->id = (uint32_t)graph->count;
    graph->nodes[graph->count++] = node;
    return true;
}

qn_node *node_new(qn_graph *graph, const struct qn_op *op, const void *attributes,
                  qn_node *const *inputs, size_t n_inputs)
{
    if (op->expression &&
        (n_inputs > QN_MAX_OPERANDS || op->attributes > MAX_FLOATS * sizeof(float))) {
        context_fail(
            graph->context, QN_ERROR_INVALID,
            "%s: %zu inputs and %zu bytes of attributes; an expression has at most %d and %zu",
            op->name, n_inputs, op->attributes, QN_MAX_OPERANDS, MAX_FLOATS * sizeof(float));
        return NULL;
    }
    char *memory = graph_alloc(graph, sizeof(qn_node) + n_inputs * sizeof *inputs);
    void *copy = memory && op->attributes ? graph_alloc(graph, op->attributes) : NULL;
    if (!memory || (op->attributes && !copy))
        return NULL;
    qn_node *node = (qn_node *)memory;
    *node = (qn_node){.op = op,
                      .graph = graph,
                      .inputs = (qn_node **)(memory + sizeof *node),
                      .n_inputs = n_inputs,
                      .n_outputs = op->outputs,
                      .attributes = copy,
                      .segment = graph->segment,
                      .origin = graph->origin};
    if (graph->context->keeps_origins && !node->origin)
        node->origin = origin_here(graph);
    for (size_t i = 0; i < n_inputs; i++)
        node->inputs[i] = inputs[i];
    if (copy && attributes)
        memcpy(copy, attributes, op->attributes);

    qn_node **slot = NULL;
    if (graph->intern) {
        slot = intern_slot(graph, node);
        if (!slot)
            return NULL;
        if (*slot)
            return (*slot)->simple;
    }
    if (!op->infer(node) || !graph_append(graph, node))
        return NULL;
    node->simple = node;
    if (!slot)
        return node;
    *slot = node;
    graph->intern->used++;
    if (op->simplify)
        node->simple = op->simplify(node);
    assert(!node->simple || node->simple->outputs[0].type == node->outputs[0].type);
    return node->simple;
}

qn_node *qn_node_new(const struct qn_op *op, const void *attributes, qn_node *const *inputs,
                     size_t n_inputs)
{
    if (n_inputs == 0)
        return NULL;
    for (size_t i = 0; i < n_inputs; i++) {
        if (!inputs[i])
            return NULL;
        if (inputs[i]->graph != inputs[0]->graph) {
            context_fail(inputs[0]->graph->context, QN_ERROR_INVALID,
                         "%s: input %zu belongs to another graph", op->name, i);
            return NULL;
        }
    }
    return node_new(inputs[0]->graph, op, attributes, inputs, n_inputs);
}

bool qn_node_fail(const qn_node *node, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    context_fail(node->graph->context, QN_ERROR_INVALID, "%s: %s", node->op->name, text);
    return false;
}

qn_node *qn_named(qn_node *node, const char *name)
{
    if (!node || !name)
        return node;
    qn_graph *graph = node->graph;
    char *copy = graph_alloc(graph, strlen(name) + 1);
    struct name *names = context_grow(graph->context, graph->names, graph->n_names,
                                      &graph->name_capacity, sizeof *names);
    if (names)
        graph->names = names;
    if (!copy || !names)
        return NULL;
    strcpy(copy, name);
    graph->names[graph->n_names++] = (struct name){copy, node};
    node->name = copy;
    return node;
}

const char *qn_graph_name(const qn_graph *graph, size_t index)
{
    return graph && index < graph->n_names ? graph->names[index].text : NULL;
}

qn_node *qn_graph_find(const qn_graph *graph, const char *name)
{
    for (size_t i = 0; graph && name && i < graph->n_names; i++)
        if (strcmp(graph->names[i].text, name) == 0)
            return graph->names[i].node;
    return NULL;
}

const char *qn_node_name(const qn_node *node)
{
    return node && node->name ? node->name : "";
}

qn_graph *qn_node_graph(const qn_node *node)
{
    return node ? node->graph : NULL;
}

enum qn_type qn_node_type(const qn_node *node)
{
    return node ? node->outputs[0].type : QN_F32;
}

qn_shape qn_node_shape(const qn_node *node)
{
    return node ? node->outputs[0].shape : (qn_shape){0};
}

const char *node_label(const qn_node *node, char *text, size_t bytes)
{
    const char *operation = node->op == &derivative_op
                                ? ((const struct derivative_attributes *)node->attributes)->of->name
                                : node->op->name;
    const char *suffix = node->op == &derivative_op ? "'" : "";
    if (node->name)
        snprintf(text, bytes, "%s (%s%s)", node->name, operation, suffix);
    else
        snprintf(text, bytes, "%s%s", operation, suffix);
    return text;
}

/* ---- Values that are there before the run ---- */

static bool infer_set(qn_node *node)
{
    return node->outputs[0].shape.rank >= 0; /* set by the function that makes it */
}

const struct qn_op input_op = {.name = "input",
                               .outputs = 1,
                               .attributes = sizeof(struct input_attributes),
                               .infer = infer_set};

qn_node *qn_input(qn_graph *graph, const char *name, enum qn_type type, qn_shape shape)
{
    if (!graph)
        return NULL;
    char text[SHAPE_TEXT];
    size_t count = qn_shape_count(shape);
    if (type < 0 || type >= QN_TYPES) {
        context_fail(graph->context, QN_ERROR_INVALID, "input %s: there is no type %d", name,
                     (int)type);
        return NULL;
    }
    if (shape.rank < 0 || shape.rank > QN_MAX_RANK || count == 0 || count > SIZE_MAX / 8) {
        context_fail(graph->context, QN_ERROR_INVALID,
                     "input %s: shape %s has no or too many elements", name,
                     shape.rank < 0 || shape.rank > QN_MAX_RANK
                         ? "of this rank"
                         : shape_text(&shape, text, sizeof text));
        return NULL;
    }
    struct input_attributes attributes = {.serial = (uint32_t)graph->count};
    qn_node *node = node_new(graph, &input_op, &attributes, NULL, 0);
    if (!node)
        return NULL;
    node->outputs[0] = (struct qn_value){.type = type, .shape = shape};
    return qn_named(node, name);
}

static bool leaf_infer(qn_node *node)
{
    const struct leaf_attributes *leaf = node->attributes;
    node->outputs[0] = (struct qn_value){leaf->tensor->type, leaf->tensor->shape};
    node->name = leaf->tensor->name;
    return true;
}

const struct qn_op leaf_op = {.name = "leaf",
                              .outputs = 1,
                              .attributes = sizeof(struct leaf_attributes),
                              .infer = leaf_infer};

qn_node *qn_leaf(qn_graph *graph, qn_tensor *tensor)
{
    if (!graph || !tensor)
        return NULL;
    if (graph->context != tensor->context) {
        context_fail(graph->context, QN_ERROR_INVALID,
                     "leaf %s: the tensor belongs to another context", tensor->name);
        return NULL;
    }
    if (!tensor->storage && graph->context->device) {
        context_fail(graph->context, QN_ERROR_INVALID, "leaf %s: its store is not sealed",
                     tensor->name);
        return NULL;
    }
    /* One node a tensor: who asks for the gradient of a leaf means all uses of the tensor. */
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i]->op == &leaf_op &&
            ((const struct leaf_attributes *)graph->nodes[i]->attributes)->tensor == tensor)
            return graph->nodes[i];
    return qn_named(node_new(graph, &leaf_op, &(struct leaf_attributes){tensor}, NULL, 0),
                    tensor->name);
}

static bool constant_infer(qn_node *node)
{
    node->outputs[0] = (struct qn_value){.type = QN_F32};
    return true;
}

const struct qn_op constant_op = {.name = "constant",
                                  .outputs = 1,
                                  .attributes = sizeof(float),
                                  .infer = constant_infer,
                                  .expression = "a0"};

qn_node *qn_constant(qn_graph *graph, double value)
{
    return graph ? node_new(graph, &constant_op, &(float){(float)value}, NULL, 0) : NULL;
}

bool node_is_constant(const qn_node *node, float *value)
{
    while (node->op->view && node->n_inputs == 1)
        node = node->inputs[0];
    if (node->op != &constant_op)
        return false;
    *value = *(const float *)node->attributes;
    return true;
}

/* ---- One output of several ---- */

static bool output_infer(qn_node *node)
{
    int index = *(const int *)node->attributes;
    if (index < 0 || index >= node->inputs[0]->n_outputs)
        return qn_node_fail(node, "%s has %d outputs: there is no number %d",
                            node->inputs[0]->op->name, node->inputs[0]->n_outputs, index);
    node->outputs[0] = node->inputs[0]->outputs[index];
    return true;
}

const struct qn_op output_op = {
    .name = "output", .outputs = 1, .attributes = sizeof(int), .infer = output_infer};

qn_node *qn_output(qn_node *node, int index)
{
    return index == 0 ? node : qn_node_new(&output_op, &index, &node, 1);
}

/* ---- Element-wise text ---- */

bool node_promote(qn_node *node, size_t first, bool allows_i32)
{
    bool found[QN_TYPES] = {false};
    for (size_t i = first; i < node->n_inputs; i++) {
        enum qn_type type = node->inputs[i]->outputs[0].type;
        float value;
        if (!type_is_real(type) && !(allows_i32 && type == QN_I32))
            return qn_node_fail(node, "input %zu is %s; it must be f32, f16 or bf16%s", i,
                                qn_type_name(type), allows_i32 ? ", or all are i32" : "");
        if (!node_is_constant(node->inputs[i], &value))
            found[type] = true;
    }
    enum qn_type a = node->inputs[first]->outputs[0].type,
                 b = node->inputs[node->n_inputs - 1]->outputs[0].type;
    bool is_mixed = (found[QN_F16] && found[QN_BF16]) || ((a == QN_I32) != (b == QN_I32));
    if (is_mixed)
        return qn_node_fail(node, "inputs are %s and %s: cast one of them", qn_type_name(a),
                            qn_type_name(b));
    enum qn_type type = found[QN_I32]    ? QN_I32
                        : found[QN_F32]  ? QN_F32
                        : found[QN_F16]  ? QN_F16
                        : found[QN_BF16] ? QN_BF16
                                         : QN_F32;
    node->outputs[0] = (struct qn_value){type, *qn_in(node, first)};
    return true;
}

enum qn_type gradient_type(const qn_node *node)
{
    const qn_node *origin = node;
    while (origin->n_inputs == 1 && (origin->op->view || origin->op == &cast_op))
        origin = origin->inputs[0];
    return origin->op == &leaf_op ? QN_F32 : node->outputs[0].type;
}

double bytes_of(const qn_node *node)
{
    double bytes = 0;
    for (size_t i = 0; i < node->n_inputs; i++)
        bytes += (double)qn_type_bytes(node->inputs[i]->outputs[0].type,
                                       qn_shape_count(*qn_in(node, i)));
    for (int i = 0; i < node->n_outputs; i++)
        bytes += (double)qn_type_bytes(node->outputs[i].type, qn_shape_count(*qn_out(node, i)));
    return bytes;
}

static bool derivative_infer(qn_node *node)
{
    const struct derivative_attributes *derivative = node->attributes;
    node->outputs[0] = (struct qn_value){(enum qn_type)derivative->type, *qn_in(node, 0)};
    return true;
}

const struct qn_op derivative_op = {.name = "derivative",
                                    .outputs = 1,
                                    .attributes = sizeof(struct derivative_attributes),
                                    .infer = derivative_infer};

const char *node_expression(const qn_node *node)
{
    if (node->op != &derivative_op)
        return node->op->expression;
    const struct derivative_attributes *derivative = node->attributes;
    return derivative->of->derivative[derivative->input];
}

const float *node_floats(const qn_node *node, size_t *count)
{
    if (node->op != &derivative_op) {
        *count = node->op->attributes / sizeof(float);
        return node->attributes;
    }
    const struct derivative_attributes *derivative = node->attributes;
    *count = derivative->of->attributes / sizeof(float);
    return derivative->a;
}

int node_operand(const qn_node *node, const char *name, size_t length)
{
    enum { Y = QN_MAX_OPERANDS, DY };
    int operand = -1;
    if (length == 2 && name[0] == 'x' && name[1] >= '0' && name[1] < '0' + QN_MAX_OPERANDS)
        operand = name[1] - '0';
    else if (length == 1 && name[0] == 'y')
        operand = Y;
    else if (length == 2 && strncmp(name, "dy", 2) == 0)
        operand = DY;
    if (operand < 0)
        return -1;
    if (node->op != &derivative_op)
        return operand < (int)node->n_inputs ? operand : -1;
    uint32_t operands = ((const struct derivative_attributes *)node->attributes)->operands;
    if (!(operands >> operand & 1))
        return -1;
    int position = 0;
    for (int i = 0; i < operand; i++)
        position += operands >> i & 1;
    return position;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool expression_uses(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *p = strstr(text, name); p; p = strstr(p + 1, name))
        if ((p == text || !is_word(p[-1])) && !is_word(p[length]))
            return true;
    return false;
}

/* ---- Walking ---- */

qn_node **graph_reachable(qn_graph *graph, qn_node *const *roots, size_t n_roots, size_t *count)
{
    bool *marked = context_alloc(graph->context, graph->count + 1, sizeof *marked);
    qn_node **nodes = context_alloc(graph->context, graph->count + 1, sizeof *nodes);
    *count = 0;
    if (!marked || !nodes) {
        free(marked);
        free(nodes);
        return NULL;
    }
    for (size_t i = 0; i < n_roots; i++)
        marked[roots[i]->id] = true;
    for (size_t id = graph->count; id-- > 0;)
        for (size_t i = 0; marked[id] && i < graph->nodes[id]->n_inputs; i++)
            marked[graph->nodes[id]->inputs[i]->id] = true;
    for (size_t id = 0; id < graph->count; id++)
        if (marked[id])
            nodes[(*count)++] = graph->nodes[id];
    free(marked);
    return nodes;
}

bool is_computed_from(const qn_node *node, const qn_node *from, bool *reached)
{
    memset(reached, 0, node->graph->count * sizeof *reached);
    reached[node->id] = true;
    for (size_t id = (size_t)node->id + 1; id-- > from->id;)
        for (size_t i = 0; reached[id] && i < node->graph->nodes[id]->n_inputs; i++)
            reached[node->graph->nodes[id]->inputs[i]->id] = true;
    return reached[from->id];
}

qn_graph *graph_simplified(qn_graph *graph, qn_node *const *roots, size_t count, qn_node **found)
{
    size_t n_nodes;
    qn_node **nodes = graph_reachable(graph, roots, count, &n_nodes);
    qn_node **image = context_alloc(graph->context, graph->count + 1, sizeof *image);
    qn_graph *simple = graph_new_simplifying(graph->context);
    bool ok = nodes && image && simple;
    for (size_t i = 0; ok && i < n_nodes; i++) {
        qn_node *node = nodes[i];
        qn_node **inputs = context_alloc(graph->context, node->n_inputs + 1, sizeof *inputs);
        ok = inputs != NULL;
        for (size_t j = 0; ok && j < node->n_inputs; j++)
            inputs[j] = image[node->inputs[j]->id];
        if (ok) {
            simple->segment = node->segment;
            simple->origin = origin_copy(simple, node->origin, false);
            qn_node *copy = node_new(simple, node->op, node->attributes, inputs, node->n_inputs);
            ok = copy != NULL;
            if (ok && node->op == &input_op)
                copy->outputs[0] = node->outputs[0];
            if (ok && node->name && !copy->name)
                ok = qn_named(copy, node->name) != NULL;
            image[node->id] = copy;
        }
        free(inputs);
    }
    for (size_t i = 0; ok && i < count; i++)
        found[i] = image[roots[i]->id];
    free(nodes);
    free(image);
    if (ok)
        return simple;
    qn_graph_free(simple);
    return NULL;
}
