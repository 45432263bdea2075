/* Gradients: nodes that compute derivatives, added to the same graph (reverse accumulation). */
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "graph/graph.h"
#include "graph/origin.h"
#include "graph/state.h"

/* What is known about each node while walking back: the gradients of its outputs, and whether it leads to a wrt. */
struct walk {
    qn_graph *graph;
    size_t count;                      /* nodes there were before */
    bool *wanted;                      /* by id: depends on some wrt */
    qn_node *(*d_out)[QN_MAX_OUTPUTS]; /* by id */
    qn_node **again;                   /* by id, of nodes that are not kept: what has their value */
};

static bool is_derivable(const struct qn_op *op)
{
    bool is_derivable = op->gradient || op == &output_op;
    for (int i = 0; i < QN_MAX_OPERANDS; i++)
        is_derivable = is_derivable || op->derivative[i];
    return is_derivable;
}

/* ---- Checkpoints ---- */

void qn_checkpoint_begin(qn_graph *graph)
{
    if (graph)
        graph->segment = ++graph->n_segments;
}

void qn_checkpoint_end(qn_graph *graph)
{
    if (graph)
        graph->segment = 0;
}

/* Whether the value is not there any more when the gradients of the graph that is built are computed. */
static bool is_forgotten(const struct walk *walk, const qn_node *node)
{
    return node->segment && !is_computed_again(node) && node->segment != walk->graph->segment;
}

/* Whether a node of a checkpoint depends on more than tensors and numbers: else it is kept.  Its inputs were asked before. */
static bool has_moved(const struct walk *walk, const qn_node *node)
{
    for (size_t i = 0; i < node->n_inputs; i++) {
        const qn_node *input = node->inputs[i];
        bool is_inside = input->segment == node->segment;
        if (input->op == &input_op ||
            (is_inside ? walk->again[input->id] != input : input->n_inputs > 0))
            return true;
    }
    return false;
}

static qn_node *node_again(struct walk *walk, const qn_node *node)
{
    qn_graph *graph = walk->graph;
    if (tensor_written(node)) {
        context_fail(graph->context, QN_ERROR_INVALID,
                     "gradients: a checkpoint writes tensor %s; it would be written again",
                     qn_tensor_name(tensor_written(node)));
        return NULL;
    }
    qn_node **inputs = context_alloc(graph->context, node->n_inputs, sizeof *inputs);
    if (!inputs)
        return NULL;
    for (size_t i = 0; i < node->n_inputs; i++) {
        qn_node *input = node->inputs[i];
        inputs[i] = walk->again[input->id] ? walk->again[input->id] : input;
    }
    graph->origin = origin_copy(graph, node->origin, false);
    qn_node *again = node_new(graph, node->op, node->attributes, inputs, node->n_inputs);
    graph->origin = NULL;
    free(inputs);
    return again;
}

/* Makes the nodes of a checkpoint again, from what came into it.  They stand where the first gradient needs them, so that
 * the plan computes them there. */
static bool compute_again(struct walk *walk, uint32_t segment)
{
    qn_graph *graph = walk->graph;
    uint32_t outer = graph->segment;
    bool ok = true;
    for (size_t id = 0; ok && id < walk->count; id++) {
        qn_node *node = graph->nodes[id];
        if (node->segment != segment)
            continue;
        graph->segment = segment | SEGMENT_AGAIN;
        walk->again[id] = has_moved(walk, node) ? node_again(walk, node) : node;
        graph->segment = outer;
        ok = walk->again[id] != NULL;
    }
    return ok;
}

/* ---- Walking back ---- */

static void add_to(qn_node **sum, qn_node *term)
{
    *sum = *sum ? qn_add(*sum, term) : term;
}

/* The gradient of input i of an element-wise node, by the text op->derivative[i]. */
static qn_node *derivative_node(qn_node *node, size_t i, qn_node *dy)
{
    const char *text = node->op->derivative[i];
    if (!text)
        return NULL;
    struct derivative_attributes attributes = {
        .of = node->op, .input = (uint16_t)i, .type = (uint16_t)node->inputs[i]->outputs[0].type};
    if (node->op->attributes)
        memcpy(attributes.a, node->attributes, node->op->attributes);
    qn_node *operands[QN_MAX_OPERANDS + 2];
    size_t count = 0;
    for (size_t j = 0; j < node->n_inputs; j++) {
        if (!expression_uses(text, (char[]){'x', (char)('0' + j), 0}))
            continue;
        attributes.operands |= 1u << j;
        operands[count++] = node->inputs[j];
    }
    if (expression_uses(text, "y")) {
        attributes.operands |= 1u << QN_MAX_OPERANDS;
        operands[count++] = node;
    }
    if (expression_uses(text, "dy")) {
        attributes.operands |= 2u << QN_MAX_OPERANDS;
        operands[count++] = dy;
    }
    return qn_node_new(&derivative_op, &attributes, operands, count);
}

/* The gradient of an output in the type that it has. */
static qn_node *in_own_type(const qn_node *node, int output, qn_node *gradient)
{
    enum qn_type type = output ? node->outputs[output].type : gradient_type(node);
    bool differs = gradient && type_is_real(type) && qn_node_type(gradient) != type;
    return differs ? qn_cast(gradient, type) : gradient;
}

/* Adds to the gradients of the node's inputs what comes through the node. */
static bool node_back(struct walk *walk, qn_node *node)
{
    qn_node **d_out = walk->d_out[node->id];
    if (node->op == &output_op) {
        int index = *(const int *)node->attributes;
        add_to(&walk->d_out[node->inputs[0]->id][index], d_out[0]);
        return true;
    }
    if (!is_derivable(node->op)) {
        char label[LABEL_TEXT];
        context_fail(walk->graph->context, QN_ERROR_INVALID, "gradients: %s has no gradient",
                     node_label(node, label, sizeof label));
        return false;
    }
    if (is_forgotten(walk, node) && !walk->again[node->id] && !compute_again(walk, node->segment))
        return false;
    qn_node *there = walk->again[node->id] ? walk->again[node->id] : node;
    qn_node **d_in = context_alloc(walk->graph->context, node->n_inputs, sizeof *d_in);
    if (!d_in)
        return false;
    walk->graph->origin = origin_copy(walk->graph, node->origin, true);
    for (int i = 0; i < node->n_outputs; i++)
        d_out[i] = in_own_type(node, i, d_out[i]);
    if (node->op->gradient)
        node->op->gradient(there, d_out, d_in);
    else
        for (size_t i = 0; i < node->n_inputs; i++)
            if (walk->wanted[node->inputs[i]->id])
                d_in[i] = derivative_node(there, i, d_out[0]);
    walk->graph->origin = NULL;
    for (size_t i = 0; i < node->n_inputs; i++)
        if (d_in[i] && walk->wanted[node->inputs[i]->id])
            add_to(&walk->d_out[node->inputs[i]->id][0], d_in[i]);
    free(d_in);
    return walk->graph->context->status == QN_OK;
}

static bool has_gradient(qn_node *const *d_out)
{
    for (int i = 0; i < QN_MAX_OUTPUTS; i++)
        if (d_out[i])
            return true;
    return false;
}

static qn_node *zeros_like(qn_node *node)
{
    return qn_broadcast(qn_constant(node->graph, 0), node->outputs[0].shape);
}

static int walk_back(struct walk *walk, qn_node *of, qn_node *seed, qn_node *const *wrt, size_t n,
                     qn_node **out)
{
    for (size_t i = 0; i < n; i++)
        walk->wanted[wrt[i]->id] = true;
    for (size_t id = 0; id < walk->count; id++)
        for (size_t i = 0; i < walk->graph->nodes[id]->n_inputs; i++)
            if (walk->wanted[walk->graph->nodes[id]->inputs[i]->id])
                walk->wanted[id] = true;

    walk->d_out[of->id][0] = seed;
    for (size_t id = of->id + 1; id-- > 0;)
        if (walk->wanted[id] && has_gradient(walk->d_out[id]) && walk->graph->nodes[id]->n_inputs &&
            !node_back(walk, walk->graph->nodes[id]))
            return walk->graph->context->status ? (int)walk->graph->context->status
                                                : QN_ERROR_INVALID;

    for (size_t i = 0; i < n; i++) {
        out[i] = walk->d_out[wrt[i]->id][0];
        if (!out[i])
            out[i] = zeros_like(wrt[i]);
        if (!out[i])
            return walk->graph->context->status;
    }
    return QN_OK;
}

int qn_gradients(qn_node *of, qn_node *seed, qn_node *const *wrt, size_t count, qn_node **out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = NULL;
    for (size_t i = 0; i < count; i++)
        if (!wrt[i])
            return QN_ERROR_INVALID;
    if (!of)
        return QN_ERROR_INVALID;
    qn_graph *graph = of->graph;
    char text[SHAPE_TEXT];
    if (!seed && qn_shape_count(*qn_out(of, 0)) != 1)
        return context_fail(
            graph->context, QN_ERROR_INVALID,
            "gradients: of a value of shape %s; give a seed, or reduce it to one number",
            shape_text(qn_out(of, 0), text, sizeof text));
    if (seed && !qn_shape_equal(*qn_out(of, 0), *qn_out(seed, 0)))
        return context_fail(graph->context, QN_ERROR_INVALID,
                            "gradients: the seed's shape is not %s",
                            shape_text(qn_out(of, 0), text, sizeof text));
    if (!seed)
        seed = qn_reshape(qn_constant(graph, 1), *qn_out(of, 0));

    struct walk walk = {.graph = graph, .count = graph->count};
    walk.wanted = context_alloc(graph->context, walk.count, sizeof *walk.wanted);
    walk.d_out = context_alloc(graph->context, walk.count, sizeof *walk.d_out);
    walk.again = context_alloc(graph->context, walk.count, sizeof *walk.again);
    bool has_memory = walk.wanted && walk.d_out && walk.again;
    int status = has_memory && seed ? walk_back(&walk, of, seed, wrt, count, out)
                                    : (int)graph->context->status;
    free(walk.wanted);
    free(walk.d_out);
    free(walk.again);
    return status;
}
