/* Plans: from a graph to steps, and what the planner says of them. */
#include "graph/plan.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "graph/origin.h"
#include "graph/state.h"

/* ---- Layouts ---- */

struct qn_layout layout_of(enum qn_type type, const qn_shape *shape)
{
    struct qn_layout layout = {.type = type, .shape = *shape};
    ptrdiff_t stride = 1;
    for (int i = shape->rank; i-- > 0;) {
        layout.stride[i] = stride;
        stride *= (ptrdiff_t)shape->size[i];
    }
    return layout;
}

bool layout_is_contiguous(const struct qn_layout *layout)
{
    ptrdiff_t stride = 1;
    for (int i = layout->shape.rank; i-- > 0;) {
        if (layout->shape.size[i] != 1 && layout->stride[i] != stride)
            return false;
        stride *= (ptrdiff_t)layout->shape.size[i];
    }
    return true;
}

bool layout_is_rows(const struct qn_layout *layout)
{
    int last = layout->shape.rank - 1;
    for (int i = 0; i < last; i++)
        if (layout->stride[i] < 0)
            return false;
    return last < 0 || layout->stride[last] == 1 || layout->shape.size[last] == 1;
}

/* Along axes that lie one in the other. */
static bool merged_stride(const struct qn_layout *layout, int begin, int end, ptrdiff_t *stride)
{
    ptrdiff_t next = 0;
    bool is_first = true;
    *stride = end > begin ? layout->stride[end - 1] : 0;
    for (int i = end; i-- > begin;) {
        if (layout->shape.size[i] == 1)
            continue;
        if (is_first)
            *stride = layout->stride[i];
        else if (layout->stride[i] != next)
            return false;
        is_first = false;
        next = layout->stride[i] * (ptrdiff_t)layout->shape.size[i];
    }
    return true;
}

bool row_strides(const struct qn_layout *layout, int rows, ptrdiff_t stride[2])
{
    return merged_stride(layout, 0, rows, &stride[0]) &&
           merged_stride(layout, rows, layout->shape.rank, &stride[1]);
}

qn_node *value_source(qn_node *node, int *output)
{
    for (;;) {
        if (node->op == &output_op) {
            *output = *(const int *)node->attributes;
            node = node->inputs[0];
            if (!node->op->view)
                return node;
        }
        if (!node->op->view && node->op != &assign_op)
            return node;
        *output = 0;
        node = node->inputs[0];
    }
}

void plan_note(qn_plan *plan, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t old = plan->notes ? strlen(plan->notes) : 0;
    char *notes = realloc(plan->notes, old + strlen(line) + 1);
    if (!notes)
        return; /* only words are lost */
    strcpy(notes + old, line);
    plan->notes = notes;
}

/* ---- Variants and copies ---- */

/* The simple graph's nodes, made again in the plan's graph with copies where strides do not suit. */
struct legal {
    qn_plan *plan;
    qn_node **writes;          /* of the simple graph: those in part, up to a NULL */
    bool *reached;             /* by id in the simple graph: room for is_computed_from() */
    qn_node **image;           /* by id in the simple graph */
    qn_node **copy;            /* by id in the plan's graph: its copy, if there is one */
    struct qn_layout *layouts; /* by id in the plan's graph, and output */
    size_t capacity;
    const struct qn_variant **variants; /* by id in the plan's graph */
};

static bool legal_grow(struct legal *legal, size_t count)
{
    if (count < legal->capacity)
        return true;
    size_t capacity = 2 * count + 64;
    qn_context *context = legal->plan->context;
    qn_node **copy = context_alloc(context, capacity, sizeof *copy);
    struct qn_layout *layouts =
        context_alloc(context, capacity, QN_MAX_OUTPUTS * sizeof *legal->layouts);
    const struct qn_variant **variants = context_alloc(context, capacity, sizeof *variants);
    if (!copy || !layouts || !variants) {
        free(copy);
        free(layouts);
        free(variants);
        return false;
    }
    if (legal->capacity) {
        memcpy(copy, legal->copy, legal->capacity * sizeof *copy);
        memcpy(layouts, legal->layouts, legal->capacity * QN_MAX_OUTPUTS * sizeof *layouts);
        memcpy(variants, legal->variants, legal->capacity * sizeof *variants);
    }
    free(legal->copy);
    free(legal->layouts);
    free(legal->variants);
    legal->copy = copy;
    legal->layouts = layouts;
    legal->variants = variants;
    legal->capacity = capacity;
    return true;
}

static struct qn_layout *legal_layout(struct legal *legal, const qn_node *node, int output)
{
    return &legal->layouts[(size_t)node->id * QN_MAX_OUTPUTS + (size_t)output];
}

static qn_node *legal_new(struct legal *legal, const qn_node *model, qn_node *const *inputs,
                          size_t n_inputs, const struct qn_op *op, const void *attributes)
{
    qn_graph *graph = legal->plan->graph;
    graph->segment = model->segment;
    graph->origin = origin_copy(graph, model->origin, false);
    qn_node *node = node_new(graph, op, attributes, inputs, n_inputs);
    return node && legal_grow(legal, graph->count) ? node : NULL;
}

/* A contiguous copy of a node; one for all who ask. */
static qn_node *legal_copy(struct legal *legal, qn_node *node, const char *why)
{
    if (legal->copy[node->id])
        return legal->copy[node->id];
    qn_node *copy = legal_new(legal, node, &node, 1, &copy_op, NULL);
    if (!copy)
        return NULL;
    *legal_layout(legal, copy, 0) = layout_of(copy->outputs[0].type, qn_out(copy, 0));
    legal->copy[node->id] = copy;
    char label[LABEL_TEXT];
    plan_note(legal->plan, "%s: copied, since %s\n", node_label(node, label, sizeof label), why);
    return copy;
}

static bool suits(const qn_plan *plan, const struct qn_layout *layout, enum qn_strides strides)
{
    if (strides == QN_STRIDED)
        return true;
    if (strides == QN_ROWS)
        return layout_is_rows(layout);
    size_t offset = qn_type_bytes(layout->type, layout->offset);
    return layout_is_contiguous(layout) && offset % plan->context->caps.alignment == 0;
}

/* The first variant that fits: of that name, or of any if it is NULL. */
static const struct qn_variant *first_fitting(const qn_plan *plan, const qn_node *node,
                                              const char *name)
{
    for (size_t i = 0; i < node->op->n_variants; i++) {
        const struct qn_variant *variant = &node->op->variants[i];
        if ((!name || strcmp(variant->name, name) == 0) &&
            (!variant->fits || variant->fits(node, &plan->context->caps)))
            return variant;
    }
    return NULL;
}

static const struct qn_variant *choose(const qn_plan *plan, const qn_node *node)
{
    const char *names[] = {plan->context->only_variant,
                           node->op->preferred ? node->op->preferred(node) : NULL};
    const struct qn_variant *chosen = NULL;
    for (size_t i = 0; !chosen && i < sizeof names / sizeof *names; i++)
        if (names[i])
            chosen = first_fitting(plan, node, names[i]);
    return chosen ? chosen : first_fitting(plan, node, NULL);
}

static bool legal_views(struct legal *legal, qn_node *node, const qn_node *model)
{
    struct qn_layout input = *legal_layout(legal, node->inputs[0], 0);
    for (int i = 0; i < node->n_outputs; i++)
        if (!model->op->view(model, i, &input, legal_layout(legal, node, i)))
            return false;
    return true;
}

/* Whether a write makes the value that a tensor has then. */
static bool is_write_of(qn_node *write, const qn_node *source, int output)
{
    int found = 0;
    return value_source(write, &found) == source && found == output;
}

/* Whether a value is in memory of the tensor, or may be: a value that is assigned may be computed there. */
static bool may_be_in(const qn_plan *plan, qn_node *value, const qn_tensor *tensor)
{
    int output = 0;
    const qn_node *source = value_source(value, &output);
    if (source->op == &leaf_op)
        return tensors_overlap(((const struct leaf_attributes *)source->attributes)->tensor,
                               tensor);
    for (size_t i = source->id; i < plan->graph->count; i++) {
        const qn_tensor *written = tensor_written(plan->graph->nodes[i]);
        if (written && tensors_overlap(written, tensor) &&
            is_write_of(plan->graph->nodes[i], source, output))
            return true;
    }
    return false;
}

/* What is written from: a copy, if it is in a tensor, so that two can change places; or if it may be in the tensor of which
 * it shall be a part. */
static qn_node *legal_written(struct legal *legal, qn_node *value, const qn_node *write)
{
    int output = 0;
    bool is_legal =
        value_source(value, &output)->op != &leaf_op &&
        (write->op == &assign_op || !may_be_in(legal->plan, value, tensor_written(write)));
    return is_legal ? value : legal_copy(legal, value, "it is in a tensor, and written to one");
}

/* What is read: a copy, if it is the old value of a tensor that is written in part, and the reader may have to wait for such a
 * write: it is computed from one, or may share a kernel with what is. */
static qn_node *legal_read(struct legal *legal, qn_node *value, const qn_node *reader,
                           const struct qn_variant *variant)
{
    int output = 0;
    const qn_node *source = value_source(value, &output);
    bool is_written = false,
         waits = node_expression(reader) || (variant && (variant->epilogue || variant->prologue));
    for (qn_node **write = legal->writes; source->op == &leaf_op && *write; write++) {
        is_written |= tensors_overlap(((const struct leaf_attributes *)source->attributes)->tensor,
                                      tensor_written(*write));
        waits = waits || is_computed_from(reader, *write, legal->reached);
    }
    return is_written && waits ? legal_copy(legal, value, "it is written before it is read")
                               : value;
}

static qn_node *legal_node(struct legal *legal, const qn_node *model)
{
    qn_node *inputs_here[QN_MAX_OPERANDS], **inputs = inputs_here;
    qn_plan *plan = legal->plan;
    if (model->n_inputs > QN_MAX_OPERANDS &&
        !(inputs = graph_alloc(plan->graph, model->n_inputs * sizeof *inputs)))
        return NULL;
    const struct qn_variant *variant = model->op->variants ? choose(plan, model) : NULL;
    if (model->op->variants && !variant) {
        qn_node_fail(model, "no variant of it fits this device");
        return NULL;
    }
    for (size_t i = 0; i < model->n_inputs; i++) {
        inputs[i] = legal->image[model->inputs[i]->id];
        enum qn_strides strides = QN_STRIDED;
        if (variant)
            strides = i < QN_MAX_OPERANDS ? variant->strides[i] : QN_CONTIGUOUS;
        else if (model->op == &assign_op)
            strides = QN_CONTIGUOUS;
        if (!suits(plan, legal_layout(legal, inputs[i], 0), strides))
            inputs[i] = legal_copy(legal, inputs[i], "its reader does not take its strides");
        else if (!model->op->view)
            inputs[i] = legal_read(legal, inputs[i], model, variant);
        if (!inputs[i])
            return NULL;
    }
    if (tensor_written(model) && !(inputs[0] = legal_written(legal, inputs[0], model)))
        return NULL;
    struct qn_layout layout;
    if (model->op->view && !model->op->view(model, 0, legal_layout(legal, inputs[0], 0), &layout) &&
        !(inputs[0] = legal_copy(legal, inputs[0], "no strides can say the view of it")))
        return NULL;

    qn_node *node = legal_new(legal, model, inputs, model->n_inputs, model->op, model->attributes);
    if (!node)
        return NULL;
    if (model->name && !node->name && !qn_named(node, model->name))
        return NULL;
    legal->variants[node->id] = variant;
    if (model->op == &input_op)
        node->outputs[0] = model->outputs[0];
    if (model->op->view)
        return legal_views(legal, node, model) ? node : NULL;
    if (model->op == &output_op)
        *legal_layout(legal, node, 0) =
            *legal_layout(legal, inputs[0], *(const int *)model->attributes);
    else if (model->op == &assign_op)
        *legal_layout(legal, node, 0) = *legal_layout(legal, inputs[0], 0);
    else
        for (int i = 0; i < node->n_outputs; i++)
            *legal_layout(legal, node, i) = layout_of(node->outputs[i].type, qn_out(node, i));
    return node;
}

/* Whether the node's value is gone when the run has ended: another was written over it. */
static bool is_overwritten(const qn_plan *plan, qn_node *node)
{
    int output = 0;
    const qn_node *source = value_source(node, &output);
    for (size_t i = source->op == &leaf_op ? 0 : source->id; i < plan->graph->count; i++) {
        qn_node *write = plan->graph->nodes[i];
        if (tensor_written(write) && !is_write_of(write, source, output) &&
            may_be_in(plan, node, tensor_written(write)))
            return true;
    }
    return false;
}

/* What is there when the run has ended, without gaps.  (A copy may be assigned, too.) */
static qn_node *legal_root(struct legal *legal, qn_node *node)
{
    while (node && (!suits(legal->plan, legal_layout(legal, node, 0), QN_CONTIGUOUS) ||
                    is_overwritten(legal->plan, node)))
        node = legal_copy(legal, node, "it is a result");
    return node;
}

static int plan_legalise(qn_plan *plan, qn_graph *simple, qn_node *const *roots)
{
    size_t count;
    qn_node **nodes = graph_reachable(simple, roots, plan->n_roots, &count);
    struct legal legal = {.plan = plan};
    legal.image = context_alloc(plan->context, simple->count + 1, sizeof *legal.image);
    legal.writes = context_alloc(plan->context, simple->count + 1, sizeof *legal.writes);
    legal.reached = context_alloc(plan->context, simple->count + 1, sizeof *legal.reached);
    bool ok = nodes && legal.image && legal.writes && legal.reached && legal_grow(&legal, count);
    for (size_t i = 0, n_writes = 0; ok && i < count; i++)
        if (nodes[i]->op == &write_op)
            legal.writes[n_writes++] = nodes[i];
    for (size_t i = 0; ok && i < count; i++)
        ok = (legal.image[nodes[i]->id] = legal_node(&legal, nodes[i])) != NULL;
    for (size_t i = 0; ok && i < plan->n_roots; i++)
        ok = (plan->roots[i].node = legal_root(&legal, legal.image[roots[i]->id])) != NULL;

    plan->nodes = plan->graph->nodes;
    plan->n_nodes = plan->graph->count;
    plan->variants = graph_alloc(plan->graph, (plan->n_nodes + 1) * sizeof *plan->variants);
    plan->values =
        graph_alloc(plan->graph, (plan->n_nodes + 1) * QN_MAX_OUTPUTS * sizeof *plan->values);
    plan->step_of = graph_alloc(plan->graph, (plan->n_nodes + 1) * sizeof *plan->step_of);
    plan->steps = graph_alloc(plan->graph, (plan->n_nodes + 1) * sizeof *plan->steps);
    ok = ok && plan->variants && plan->values && plan->step_of && plan->steps;
    for (size_t i = 0; ok && i < plan->n_nodes; i++) {
        plan->variants[i] = legal.variants[i];
        for (int output = 0; output < plan->nodes[i]->n_outputs; output++)
            value_of(plan, plan->nodes[i], output)->layout =
                *legal_layout(&legal, plan->nodes[i], output);
    }
    free(nodes);
    free(legal.image);
    free(legal.writes);
    free(legal.reached);
    free(legal.copy);
    free(legal.layouts);
    free(legal.variants);
    return ok ? QN_OK : QN_ERROR_INVALID;
}

/* ---- Making plans ---- */

static int plan_roots(qn_plan *plan, qn_node *const *roots, size_t count)
{
    plan->roots = graph_alloc(plan->graph, (count + 1) * sizeof *plan->roots);
    if (!plan->roots)
        return QN_ERROR_MEMORY;
    plan->n_roots = count;
    for (size_t i = 0; i < count; i++)
        plan->roots[i] = (struct plan_root){.user = roots[i], .ring = SIZE_MAX};
    return QN_OK;
}

/* The inputs of the user's graph that the plan reads, by the serial numbers that both have. */
static int plan_inputs(qn_plan *plan, const qn_graph *user)
{
    plan->inputs = graph_alloc(plan->graph, (plan->n_nodes + 1) * sizeof *plan->inputs);
    if (!plan->inputs)
        return QN_ERROR_MEMORY;
    for (size_t i = 0; i < plan->n_nodes; i++) {
        if (plan->nodes[i]->op != &input_op)
            continue;
        const struct input_attributes *input = plan->nodes[i]->attributes;
        plan->inputs[plan->n_inputs++] =
            (struct plan_input){.user = user->nodes[input->serial], .node = plan->nodes[i]};
    }
    return QN_OK;
}

static int plan_make(qn_plan *plan, qn_graph *graph, qn_node *const *roots, size_t count)
{
    qn_node **found = context_alloc(plan->context, count + 1, sizeof *found);
    qn_graph *simple = found ? graph_simplified(graph, roots, count, found) : NULL;
    int status = simple ? plan_roots(plan, roots, count) : QN_ERROR_INVALID;
    if (status == QN_OK)
        status = plan_legalise(plan, simple, found);
    free(found);
    qn_graph_free(simple);
    if (status == QN_OK)
        status = plan_inputs(plan, graph);
    if (status == QN_OK)
        status = plan_fuse(plan);
    if (status == QN_OK)
        status = plan_order(plan);
    if (status == QN_OK)
        status = plan_place(plan);
    if (status == QN_OK)
        status = plan_record(plan);
    if (status == QN_OK)
        status = plan_dump(plan);
    if (status == QN_OK && plan->context->device)
        status = plan_bind(plan);
    return status;
}

qn_plan *qn_plan_new(qn_graph *graph, qn_node *const *roots, size_t count)
{
    if (!graph)
        return NULL;
    qn_context *context = graph->context;
    bool ok = context->status == QN_OK;
    for (size_t i = 0; i < count; i++) {
        if (!roots[i]) {
            context_fail(context, QN_ERROR_INVALID, "plan: root %zu is NULL", i);
            ok = false;
        } else if (roots[i]->graph != graph) {
            context_fail(context, QN_ERROR_INVALID, "plan: root %zu belongs to another graph", i);
            ok = false;
        }
    }
    qn_plan *plan = ok ? context_alloc(context, 1, sizeof *plan) : NULL;
    if (!plan)
        return NULL;
    plan->context = context;
    plan->graph = qn_graph_new(context);
    if (plan->graph && plan_make(plan, graph, roots, count) == QN_OK)
        return plan;
    context_fail(context, QN_ERROR_INVALID, "plan: it cannot be made");
    qn_plan_free(plan);
    return NULL;
}

void qn_plan_free(qn_plan *plan)
{
    if (!plan)
        return;
    plan_unbind(plan);
    qn_graph_free(plan->graph);
    free(plan->slots);
    free(plan->notes);
    free(plan);
}

struct qn_memory qn_plan_memory(const qn_plan *plan)
{
    return plan->memory;
}
