/* Graphs and plans as text. */
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"

/* ---- Graphs ---- */

static qn_node **nodes_of(qn_node *const *roots, size_t count, size_t *n_nodes)
{
    for (size_t i = 0; i < count; i++)
        if (!roots[i] || roots[i]->graph != roots[0]->graph)
            return NULL;
    return count ? graph_reachable(roots[0]->graph, roots, count, n_nodes) : NULL;
}

static int written(qn_context *context, FILE *file)
{
    return ferror(file) ? context_fail(context, QN_ERROR_FILE, "the text cannot be written")
                        : QN_OK;
}

int qn_graph_print(qn_node *const *roots, size_t count, FILE *file)
{
    size_t n_nodes;
    qn_node **nodes = nodes_of(roots, count, &n_nodes);
    if (!nodes)
        return QN_ERROR_INVALID;
    for (size_t i = 0; i < n_nodes; i++) {
        char label[LABEL_TEXT], shape[SHAPE_TEXT];
        fprintf(file, "%%%u = %s(", nodes[i]->id, node_label(nodes[i], label, sizeof label));
        for (size_t j = 0; j < nodes[i]->n_inputs; j++)
            fprintf(file, "%s%%%u", j ? ", " : "", nodes[i]->inputs[j]->id);
        fprintf(file, ")");
        for (int j = 0; j < nodes[i]->n_outputs; j++)
            fprintf(file, "%s %s %s", j ? "," : " :", qn_type_name(nodes[i]->outputs[j].type),
                    shape_text(&nodes[i]->outputs[j].shape, shape, sizeof shape));
        fprintf(file, "\n");
    }
    free(nodes);
    return written(roots[0]->graph->context, file);
}

/* Names come from users: quotes and backslashes would end the text. */
static void print_quoted(const char *text, FILE *file)
{
    for (; *text; text++)
        fprintf(file, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
}

int qn_graph_dot(qn_node *const *roots, size_t count, FILE *file)
{
    size_t n_nodes;
    qn_node **nodes = nodes_of(roots, count, &n_nodes);
    if (!nodes)
        return QN_ERROR_INVALID;
    fprintf(file,
            "digraph quern {\n    rankdir=TB;\n    node [shape=box, fontname=\"sans-serif\"];\n");
    for (size_t i = 0; i < n_nodes; i++) {
        char label[LABEL_TEXT], shape[SHAPE_TEXT];
        fprintf(file, "    n%u [label=\"", nodes[i]->id);
        print_quoted(node_label(nodes[i], label, sizeof label), file);
        fprintf(file, "\\n%s\"%s];\n", shape_text(qn_out(nodes[i], 0), shape, sizeof shape),
                nodes[i]->n_inputs ? "" : ", style=filled, fillcolor=lightgrey");
        for (size_t j = 0; j < nodes[i]->n_inputs; j++)
            fprintf(file, "    n%u -> n%u;\n", nodes[i]->inputs[j]->id, nodes[i]->id);
    }
    fprintf(file, "}\n");
    free(nodes);
    return written(roots[0]->graph->context, file);
}

/* ---- Plans ---- */

const struct step *step_of_root(const qn_plan *plan, const qn_node *root)
{
    int output = 0;
    for (size_t i = 0; i < plan->n_roots; i++)
        if (plan->roots[i].user == root)
            return plan->step_of[value_source(plan->roots[i].node, &output)->id];
    return NULL;
}

const char *step_kernels(const struct step *step, char *text, size_t size)
{
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < step->n_commands && used < size; i++) {
        const struct recorded *command = &step->commands[i];
        used += (size_t)snprintf(text + used, size - used, "%s%s%s%s", i ? ", " : "", command->name,
                                 command->source ? " of " : "",
                                 command->source ? command->source->name : "");
    }
    return text;
}

static void print_slot(const struct slot *slot, FILE *file)
{
    size_t bytes = slot->bytes, offset = 0;
    for (; slot->within; slot = slot->within)
        offset += slot->offset;
    if (slot->tensor)
        fprintf(file, "in %s", slot->tensor->name);
    else if (slot->is_kept)
        fprintf(file, "kept at %zu", slot->offset + offset);
    else
        fprintf(file, "at %zu:%zu", slot->chunk, slot->offset + offset);
    fprintf(file, ", %zu bytes", bytes);
}

/* The element-wise nodes of a step, and what becomes of them. */
static void print_members(const struct step *step, FILE *file)
{
    fprintf(file, is_group(step) ? " fused:" : has_epilogue(step) ? ", then:" : ", of:");
    for (size_t i = 0; i < step->n_members; i++) {
        char label[LABEL_TEXT];
        if (is_group(step) || step->members[i] != step->node)
            fprintf(file, " %s", node_label(step->members[i], label, sizeof label));
    }
}

static void print_output(const qn_plan *plan, const struct step *step, struct output output,
                         FILE *file)
{
    char label[LABEL_TEXT], shape[SHAPE_TEXT];
    const struct value *value = value_of(plan, output.node, output.index);
    fprintf(file, "        -> ");
    if (step->members)
        fprintf(file, "%s: ", node_label(output.node, label, sizeof label));
    fprintf(file, "%s %s ", qn_type_name(value->layout.type),
            shape_text(&value->layout.shape, shape, sizeof shape));
    print_slot(value->slot, file);
    fprintf(file, "%s\n", value->is_used ? "" : ", unused");
}

static void print_step(const qn_plan *plan, const struct step *step, FILE *file)
{
    char label[LABEL_TEXT];
    fprintf(file, "%4zu  %s", step->position,
            step->target ? step->target->tensor->name
                         : node_label(step->node, label, sizeof label));
    if (step->target) {
        fprintf(file, " <- copy");
    } else if (step->variant) {
        const struct qn_op *op = step->node->op;
        size_t chosen = (size_t)(step->variant - op->variants);
        fprintf(file, " [%s", step->variant->name);
        for (size_t i = 0; i < chosen; i++)
            fprintf(file, "; %s %s%s", op->variants[i].name,
                    op->variants[i].needs ? "needs " : "does not fit",
                    op->variants[i].needs ? op->variants[i].needs : "");
        fprintf(file, "]");
    }
    if (step->members)
        print_members(step, file);
    fprintf(file, "\n");
    struct output outputs[STEP_OUTPUTS];
    size_t n_outputs = step->target ? 0 : step_outputs(plan, step, outputs);
    for (size_t i = 0; i < n_outputs; i++)
        print_output(plan, step, outputs[i], file);
    for (size_t i = 0; i < step->n_commands; i++) {
        const struct recorded *command = &step->commands[i];
        fprintf(file, "        %s %s", command->call ? "call" : "kernel", command->name);
        for (int j = 0; j < 3 && command->groups[j]; j++)
            fprintf(file, "%s%zu", j ? " x " : " ", command->groups[j]);
        if (command->groups[0])
            fprintf(file, " groups of %zu", command->local[0]);
        fprintf(file, "\n");
    }
}

int qn_plan_print(const qn_plan *plan, FILE *file)
{
    if (!plan)
        return QN_ERROR_INVALID;
    for (size_t i = 0; i < plan->n_steps; i++)
        print_step(plan, plan->steps[i], file);
    if (plan->notes)
        fprintf(file, "%s", plan->notes);
    const struct qn_memory *memory = &plan->memory;
    fprintf(
        file,
        "%zu steps, %zu commands; arena %.2f MiB, all intermediates %.2f MiB, tensors %.2f MiB\n",
        plan->n_steps, memory->commands, (double)memory->arena / (1 << 20),
        (double)memory->intermediates / (1 << 20), (double)memory->tensors / (1 << 20));
    return written(plan->context, file);
}
