/* Nodes of a plan, made again in a graph of another context. */
#include "graph/transcript.h"

#include <stdlib.h>

bool is_computed(const qn_node *node)
{
    return node->op->variants || (node_expression(node) && node->op != &constant_op);
}

int transcript_begin(struct transcript *transcript, const qn_plan *plan, qn_context *context)
{
    *transcript = (struct transcript){
        .graph = qn_graph_new(context),
        .inside = context_alloc(context, plan->n_nodes + 1, sizeof *transcript->inside),
        .outside = context_alloc(context, plan->n_nodes + 1, sizeof *transcript->outside)};
    return transcript->graph && transcript->inside && transcript->outside ? QN_OK : QN_ERROR_MEMORY;
}

void transcript_end(struct transcript *transcript)
{
    free(transcript->inside);
    free(transcript->outside);
    free(transcript->given);
    qn_graph_free(transcript->graph);
}

static qn_node *given_node(struct transcript *transcript, qn_node *source, int output)
{
    for (size_t i = 0; i < transcript->n_given; i++)
        if (transcript->given[i].source == source && transcript->given[i].output == output)
            return transcript->given[i].input;
    struct given *given = context_grow(transcript->graph->context, transcript->given,
                                       transcript->n_given, &transcript->capacity, sizeof *given);
    if (!given)
        return NULL;
    transcript->given = given;
    const struct qn_value *value = &source->outputs[output];
    qn_node *input = qn_input(transcript->graph, qn_node_name(source), value->type, value->shape);
    transcript->given[transcript->n_given++] = (struct given){source, input, output};
    return input;
}

static qn_node *transcribe(struct transcript *transcript, qn_node *node);

static qn_node *copy_node(struct transcript *transcript, const qn_node *node)
{
    qn_node *inputs_here[QN_MAX_OPERANDS], **inputs = inputs_here;
    if (node->n_inputs > QN_MAX_OPERANDS &&
        !(inputs = graph_alloc(transcript->graph, node->n_inputs * sizeof *inputs)))
        return NULL;
    for (size_t i = 0; i < node->n_inputs; i++)
        if (!(inputs[i] = transcribe(transcript, node->inputs[i])))
            return NULL;
    transcript->graph->origin = node->origin;
    qn_node *copy = node_new(transcript->graph, node->op, node->attributes, inputs, node->n_inputs);
    return copy && node->name ? qn_named(copy, node->name) : copy;
}

/* What a node is in the graph: computed there, or else seen through views from what is given. */
static qn_node *transcribe(struct transcript *transcript, qn_node *node)
{
    if (transcript->inside[node->id])
        return transcript->inside[node->id];
    qn_node **outside = &transcript->outside[node->id];
    if (*outside)
        return *outside;
    if (node->op == &assign_op)
        *outside = transcribe(transcript, node->inputs[0]);
    else if (node->op == &output_op && !transcript->inside[node->inputs[0]->id] &&
             is_computed(node->inputs[0]))
        *outside = given_node(transcript, node->inputs[0], *(const int *)node->attributes);
    else if (is_computed(node) || node->op == &leaf_op || node->op == &input_op)
        *outside = given_node(transcript, node, 0);
    else
        *outside = copy_node(transcript, node);
    return *outside;
}

int transcribe_connected(struct transcript *transcript, const qn_plan *plan, size_t begin,
                         size_t end)
{
    for (size_t id = begin; id < end; id++)
        if (is_computed(plan->nodes[id]) &&
            !(transcript->inside[id] = copy_node(transcript, plan->nodes[id])))
            return QN_ERROR_INVALID;
    return QN_OK;
}

int transcribe_alone(struct transcript *transcript, struct unit *unit, size_t number)
{
    bool ok = true;
    transcript->graph->segment = (uint32_t)number + 1;
    for (size_t i = 0; ok && i < unit->n_nodes; i++) {
        qn_node *copy = copy_node(transcript, unit->nodes[i]);
        ok = copy != NULL;
        transcript->inside[unit->nodes[i]->id] = copy;
    }
    for (size_t i = 0; ok && i < unit->n_outputs; i++) {
        struct output output = unit->outputs[i];
        unit->roots[i] = qn_output(transcript->inside[output.node->id], output.index);
        ok = unit->roots[i] != NULL;
    }
    for (size_t i = 0; i < unit->n_nodes; i++)
        transcript->inside[unit->nodes[i]->id] = NULL;
    transcript->graph->segment = 0;
    return ok ? QN_OK : QN_ERROR_INVALID;
}

qn_plan *plan_transcript(struct transcript *transcript, qn_node *const *roots, size_t count,
                         bool is_unfused)
{
    qn_context *context = transcript->graph->context;
    bool was_unfused = context->is_unfused;
    context->is_unfused = is_unfused;
    qn_plan *plan = qn_plan_new(transcript->graph, roots, count);
    context->is_unfused = was_unfused;
    return plan;
}
