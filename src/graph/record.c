/* Recording: what a step's commands are, with all their arguments, before there are kernels. */
#include <string.h>

#include "graph/plan.h"
#include "graph/state.h"

/* ---- What operations call ---- */

static struct recorded *command_new(struct qn_launch *launch)
{
    struct step *step = launch->step;
    enum { ROOM = 8 };
    if (step->n_commands % ROOM == 0) {
        struct recorded *commands =
            graph_alloc(launch->plan->graph, (step->n_commands + ROOM) * sizeof *commands);
        if (!commands) {
            launch->status = QN_ERROR_MEMORY;
            return NULL;
        }
        if (step->n_commands)
            memcpy(commands, step->commands, step->n_commands * sizeof *commands);
        step->commands = commands;
    }
    return launch->current = &step->commands[step->n_commands++];
}

void qn_launch_kernel(struct qn_launch *launch, const struct qn_source *source, const char *name)
{
    struct recorded *command = launch->status == QN_OK ? command_new(launch) : NULL;
    if (command)
        *command = (struct recorded){.source = source, .name = name, .defines = ""};
}

void qn_launch_call(struct qn_launch *launch, const char *name, qn_call *function,
                    const void *arguments, size_t bytes)
{
    struct recorded *command = launch->status == QN_OK ? command_new(launch) : NULL;
    void *copy = command ? graph_alloc(launch->plan->graph, bytes + 1) : NULL;
    if (!copy) {
        launch->status = QN_ERROR_MEMORY;
        return;
    }
    if (bytes)
        memcpy(copy, arguments, bytes);
    *command = (struct recorded){.name = name, .call = function, .call_arguments = copy};
    for (size_t i = 0; i < launch->step->node->n_inputs; i++)
        qn_launch_input(launch, i);
    for (int i = 0; i < launch->step->node->n_outputs; i++)
        qn_launch_output(launch, i);
    if (launch->step->workspace)
        qn_launch_workspace(launch);
}

void qn_launch_define_text(struct qn_launch *launch, const char *macro, const char *text)
{
    if (launch->status == QN_OK && !text)
        launch->status = QN_ERROR_MEMORY;
    if (launch->status != QN_OK)
        return;
    const char *old = launch->current->defines;
    size_t bytes = strlen(old) + strlen(macro) + strlen(text) + sizeof "#define  \n";
    char *defines = graph_alloc(launch->plan->graph, bytes);
    if (defines)
        snprintf(defines, bytes, "%s#define %s %s\n", old, macro, text);
    else
        launch->status = QN_ERROR_MEMORY;
    launch->current->defines = defines;
}

void qn_launch_define(struct qn_launch *launch, const char *macro, long value)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    qn_launch_define_text(launch, macro, text);
}

void qn_launch_type(struct qn_launch *launch, const char *macro, enum qn_type type)
{
    qn_launch_define_text(launch, macro, type_in_kernels(type));
}

static void add_argument(struct qn_launch *launch, const struct argument *argument)
{
    if (launch->status != QN_OK)
        return;
    struct recorded *command = launch->current;
    enum { ROOM = 8 };
    if (command->n_arguments % ROOM == 0) {
        struct argument *arguments =
            graph_alloc(launch->plan->graph, (command->n_arguments + ROOM) * sizeof *arguments);
        if (!arguments) {
            launch->status = QN_ERROR_MEMORY;
            return;
        }
        if (command->n_arguments)
            memcpy(arguments, command->arguments, command->n_arguments * sizeof *arguments);
        command->arguments = arguments;
    }
    command->arguments[command->n_arguments++] = *argument;
}

/* A variant that takes strides is told the offset of its input; the others get a buffer that begins there. */
static void add_input(struct qn_launch *launch, qn_node *node, enum qn_strides strides)
{
    if (launch->status != QN_OK)
        return; /* what is fused has no memory of its own, and failed to say so */
    const struct qn_layout *layout = &value_of(launch->plan, node, 0)->layout;
    struct argument argument = {.kind = ARGUMENT_SLOT, .slot = value_slot(launch->plan, node)};
    argument.size = argument.slot->bytes;
    if (strides == QN_CONTIGUOUS) {
        argument.offset = qn_type_bytes(layout->type, layout->offset);
        argument.size = qn_type_bytes(layout->type, qn_shape_count(layout->shape));
    }
    add_argument(launch, &argument);
}

void launch_value(struct qn_launch *launch, qn_node *node)
{
    add_input(launch, node, QN_STRIDED);
}

void qn_launch_input(struct qn_launch *launch, size_t index)
{
    const struct qn_variant *variant = launch->step->variant;
    add_input(launch, launch->step->node->inputs[index],
              variant && index < QN_MAX_OPERANDS ? variant->strides[index] : QN_CONTIGUOUS);
}

/* The node whose value output 0 of the step's kernels is. */
static const qn_node *result_node(const struct step *step)
{
    return has_epilogue(step) ? step->members[step->n_members - 1] : step->node;
}

enum qn_type qn_launch_result(const struct qn_launch *launch)
{
    return result_node(launch->step)->outputs[0].type;
}

void qn_launch_output(struct qn_launch *launch, int index)
{
    struct step *step = launch->step;
    const qn_node *node = index == 0 ? result_node(step) : step->node;
    struct slot *slot = step->target ? step->target : value_of(launch->plan, node, index)->slot;
    add_argument(launch,
                 &(struct argument){.kind = ARGUMENT_SLOT, .slot = slot, .size = slot->bytes});
}

void qn_launch_workspace(struct qn_launch *launch)
{
    struct slot *slot = launch->step->workspace;
    add_argument(launch,
                 &(struct argument){.kind = ARGUMENT_SLOT, .slot = slot, .size = slot->bytes});
}

static void add_bytes(struct qn_launch *launch, const void *bytes, size_t size)
{
    struct argument argument = {.kind = ARGUMENT_BYTES, .size = size};
    memcpy(argument.bytes, bytes, size);
    add_argument(launch, &argument);
}

void qn_launch_uint(struct qn_launch *launch, size_t value)
{
    if (value > UINT32_MAX && launch->status == QN_OK) {
        char label[LABEL_TEXT];
        launch->status = context_fail(
            launch->plan->context, QN_ERROR_INVALID,
            "%s: a size of %zu does not fit 32 bits, which is all that variant %s can do",
            node_label(launch->step->node, label, sizeof label), value,
            launch->step->variant ? launch->step->variant->name : "");
    }
    add_bytes(launch, &(cl_uint){(cl_uint)value}, sizeof(cl_uint));
}

void qn_launch_ulong(struct qn_launch *launch, size_t value)
{
    add_bytes(launch, &(cl_ulong){value}, sizeof(cl_ulong));
}

void qn_launch_int(struct qn_launch *launch, int32_t value)
{
    add_bytes(launch, &value, sizeof value);
}

void qn_launch_float(struct qn_launch *launch, double value)
{
    add_bytes(launch, &(cl_float){(cl_float)value}, sizeof(cl_float));
}

void qn_launch_local(struct qn_launch *launch, size_t bytes)
{
    add_argument(launch, &(struct argument){.kind = ARGUMENT_LOCAL, .size = bytes});
}

void qn_launch_range(struct qn_launch *launch, const size_t groups[3], const size_t local[3])
{
    if (launch->status != QN_OK)
        return;
    for (int i = 0; i < 3; i++) {
        launch->current->groups[i] = groups[i];
        launch->current->local[i] = local[i];
    }
}

void qn_launch_groups(struct qn_launch *launch, size_t groups, size_t local)
{
    size_t most = qn_launch_caps(launch)->max_items / local;
    qn_launch_range(launch, (size_t[3]){size_min(groups, size_max(most, 1))}, (size_t[3]){local});
}

enum {
    GPU_GROUP = 128,
    CPU_GROUPS = 1024, /* enough to balance any number of cores */
};

static size_t group_size(const struct qn_caps *caps)
{
    size_t group = 1;
    while (caps->device_class == QN_GPU && 2 * group <= size_min(GPU_GROUP, caps->max_work_group))
        group *= 2;
    return group;
}

void qn_launch_rows(struct qn_launch *launch, size_t rows)
{
    size_t group = group_size(qn_launch_caps(launch));
    qn_launch_groups(launch, group == 1 ? size_min(rows, CPU_GROUPS) : rows, group);
}

void qn_launch_items(struct qn_launch *launch, size_t items)
{
    qn_launch_rows(launch, divide_up(items, group_size(qn_launch_caps(launch))));
}

size_t flat_chunk(const struct qn_caps *caps)
{
    enum { CPU_CHUNK = 4096 };
    return caps->device_class == QN_CPU ? CPU_CHUNK : caps->float_width;
}

void qn_launch_flat(struct qn_launch *launch, size_t count)
{
    qn_launch_items(launch, divide_up(count, flat_chunk(qn_launch_caps(launch))));
}

const struct qn_caps *qn_launch_caps(const struct qn_launch *launch)
{
    return &launch->plan->context->caps;
}

const struct qn_layout *qn_launch_layout(const struct qn_launch *launch, size_t input)
{
    return &value_of(launch->plan, launch->step->node->inputs[input], 0)->layout;
}

bool qn_launch_output_used(const struct qn_launch *launch, int index)
{
    return value_of(launch->plan, launch->step->node, index)->is_used;
}

bool qn_launch_in_place(const struct qn_launch *launch, size_t input)
{
    struct slot *slot = value_slot(launch->plan, launch->step->node->inputs[input]);
    size_t offset;
    return slot->within && slot->within == value_of(launch->plan, launch->step->node, 0)->slot &&
           launch->step->node->op->place(launch->step->node, input, &offset) &&
           offset == slot->offset;
}

/* ---- Steps ---- */

static void record_copy(struct qn_launch *launch)
{
    const qn_node *node = launch->step->node;
    size_t count = qn_shape_count(*qn_out(node, 0));
    record_copy_rows(launch, 0, 1, count, count, 0);
}

int plan_record(qn_plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++) {
        struct step *step = plan->steps[i];
        struct qn_launch launch = {.plan = plan, .step = step};
        if (is_group(step))
            emit_group(&launch);
        else if (step->target)
            record_copy(&launch);
        else
            step->variant->record(&launch, step->node);
        if (launch.status != QN_OK)
            return launch.status == QN_ERROR_MEMORY
                       ? context_fail(plan->context, QN_ERROR_MEMORY, "out of memory")
                       : launch.status;
        plan->memory.commands += step->n_commands;
    }
    plan->stage = (struct stage){.steps = plan->steps, .n_steps = plan->n_steps};
    return QN_OK;
}
