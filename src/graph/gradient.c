/* Gradients: nodes that compute derivatives, added to the same graph (reverse accumulation). */
#include <stdlib.h>
#include <string.h>

#include <quern/ops.h>

#include "graph/graph.h"
#include "graph/origin.h"

/* What is known about each node while walking back: the gradients of its outputs, and whether it leads to a wrt. */
struct walk {
    qn_graph *graph;
    size_t count;                      /* nodes there were before */
    bool *wanted;                      /* by id: depends on some wrt */
    qn_node *(*d_out)[QN_MAX_OUTPUTS]; /* by id */
};

static bool is_derivable(const struct qn_op *op)
{
    bool is_derivable = op->gradient || op == &output_op;
    for (int i = 0; i < QN_MAX_OPERANDS; i++)
        is_derivable = is_derivable || op->derivative[i];
    return is_derivable;
}

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
    qn_node **d_in = context_alloc(walk->graph->context, node->n_inputs, sizeof *d_in);
    if (!d_in)
        return false;
    walk->graph->origin = origin_copy(walk->graph, node->origin, true);
    for (int i = 0; i < node->n_outputs; i++)
        d_out[i] = in_own_type(node, i, d_out[i]);
    if (node->op->gradient)
        node->op->gradient(node, d_out, d_in);
    else
        for (size_t i = 0; i < node->n_inputs; i++)
            if (walk->wanted[node->inputs[i]->id])
                d_in[i] = derivative_node(node, i, d_out[0]);
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
    int status = walk.wanted && walk.d_out && seed ? walk_back(&walk, of, seed, wrt, count, out)
                                                   : (int)graph->context->status;
    free(walk.wanted);
    free(walk.d_out);
    return status;
}
