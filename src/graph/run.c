/* A plan on a device: kernels built and their arguments set once; runs, inputs and results through rings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "graph/plan.h"
#include "graph/state.h"

/* ---- Memory ---- */

struct place {
    cl_mem parent,
        whole; /* a buffer; and a buffer object that is exactly its first bytes, or NULL */
    size_t offset;
};

/* Where byte `offset` of a slot is on the device. */
static struct place find_place(const qn_plan *plan, const struct slot *slot, size_t offset)
{
    for (; slot->within; slot = slot->within)
        offset += slot->offset;
    if (slot->tensor)
        return (struct place){slot->tensor->storage->buffer, slot->tensor->view,
                              slot->tensor->offset + offset};
    if (slot->is_kept)
        return (struct place){plan->kept->buffer, NULL, slot->offset + offset};
    return (struct place){plan->context->arena->chunks[slot->chunk], NULL, slot->offset + offset};
}

/* A sub-buffer for a range; one for all who ask. */
cl_mem plan_buffer(qn_plan *plan, const struct slot *slot, size_t offset, size_t bytes)
{
    struct place place = find_place(plan, slot, offset);
    if (slot->tensor && offset == 0 && bytes == slot->bytes)
        return place.whole;
    for (size_t i = 0; i < plan->n_sub_buffers; i++) {
        const struct sub_buffer *sub = &plan->sub_buffers[i];
        if (sub->parent == place.parent && sub->offset == place.offset && sub->bytes == bytes)
            return sub->buffer;
    }
    struct sub_buffer *sub_buffers =
        context_grow(plan->context, plan->sub_buffers, plan->n_sub_buffers,
                     &plan->sub_buffer_capacity, sizeof *sub_buffers);
    if (!sub_buffers)
        return NULL;
    plan->sub_buffers = sub_buffers;
    cl_int code;
    cl_buffer_region region = {place.offset, bytes};
    cl_mem buffer = clCreateSubBuffer(place.parent, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION,
                                      &region, &code);
    if (device_check(plan->context, code, "a sub-buffer of %zu bytes at %zu", bytes, place.offset))
        return NULL;
    plan->context->counters.device_allocations++;
    plan->sub_buffers[plan->n_sub_buffers++] =
        (struct sub_buffer){place.parent, buffer, place.offset, bytes};
    return buffer;
}

/* ---- Commands ---- */

static const char *op_name(const struct step *step)
{
    if (is_group(step))
        return step->n_members > 1 || step->node->op == &derivative_op ? "fused"
                                                                       : step->node->op->name;
    return step->node->op->name;
}

static struct qn_cost step_cost(const qn_plan *plan, const struct step *step)
{
    struct qn_cost cost = {0};
    if (step->variant && step->node->op->cost)
        cost = step->node->op->cost(step->node);
    if (cost.bytes > 0 && !step->members)
        return cost;
    cost.bytes = 0; /* of a step with fused nodes: what it reads and writes */
    qn_node *fused[FUSE_ROOM], *const *inputs;
    size_t count = step_inputs(step, &inputs, fused);
    for (size_t i = 0; i < count; i++)
        cost.bytes += (double)qn_type_bytes(
            inputs[i]->outputs[0].type, qn_shape_count(value_of(plan, inputs[i], 0)->layout.shape));
    struct output outputs[STEP_OUTPUTS];
    size_t n_outputs = step_outputs(plan, step, outputs);
    for (size_t i = 0; i < n_outputs; i++) {
        const struct qn_value *value = &outputs[i].node->outputs[outputs[i].index];
        cost.bytes += (double)qn_type_bytes(value->type, qn_shape_count(value->shape));
    }
    for (size_t i = 0; i < step->n_members; i++)
        if (node_expression(step->members[i]))
            cost.flops += (double)qn_shape_count(*qn_out(step->members[i], 0));
    return cost;
}

static int bind_kernel(qn_plan *plan, const struct recorded *recorded, const char *name,
                       cl_kernel kernel)
{
    for (size_t i = 0; i < recorded->n_arguments; i++) {
        const struct argument *argument = &recorded->arguments[i];
        cl_int code;
        if (argument->kind == ARGUMENT_SLOT) {
            cl_mem buffer = plan_buffer(plan, argument->slot, argument->offset, argument->size);
            if (!buffer)
                return plan->context->status;
            code = clSetKernelArg(kernel, (cl_uint)i, sizeof buffer, &buffer);
        } else {
            code = clSetKernelArg(kernel, (cl_uint)i, argument->size,
                                  argument->kind == ARGUMENT_BYTES ? argument->bytes : NULL);
        }
        int status = device_check(plan->context, code, "%s: kernel %s, argument %zu", name,
                                  recorded->name, i);
        if (status != QN_OK)
            return status;
    }
    return QN_OK;
}

static int bind_call(qn_plan *plan, const struct recorded *recorded, struct command *command)
{
    command->buffers =
        graph_alloc(plan->graph, (recorded->n_arguments + 1) * sizeof *command->buffers);
    if (!command->buffers)
        return QN_ERROR_MEMORY;
    for (size_t i = 0; i < recorded->n_arguments; i++) {
        const struct argument *argument = &recorded->arguments[i];
        command->buffers[i] = plan_buffer(plan, argument->slot, argument->offset, argument->size);
        if (!command->buffers[i])
            return plan->context->status;
    }
    return QN_OK;
}

static int bind_command(qn_plan *plan, const struct step *step, size_t index,
                        struct command *command, cl_kernel *kernel)
{
    const struct recorded *recorded = &step->commands[index];
    *command = (struct command){.op = op_name(step),
                                .node = step->node->name,
                                .variant = step->variant ? step->variant->name : "",
                                .call = recorded->call,
                                .arguments = recorded->call_arguments,
                                .dims = 1};
    if (index == 0)
        command->cost = step_cost(plan, step);
    if (recorded->call)
        return bind_call(plan, recorded, command);
    for (cl_uint i = 0; i < 3; i++) {
        size_t groups = recorded->groups[i] ? recorded->groups[i] : 1;
        command->local[i] = recorded->local[i] ? recorded->local[i] : 1;
        command->global[i] = groups * command->local[i];
        if (recorded->groups[i])
            command->dims = i + 1;
    }
    command->kernel = *kernel;
    char label[LABEL_TEXT];
    return bind_kernel(plan, recorded, node_label(step->node, label, sizeof label), *kernel);
}

/* The kernels of the commands, in their order; free() them.  NULL and an error without memory. */
static struct kernel_key *list_kernels(const qn_plan *plan, size_t *count)
{
    const struct stage *stage = &plan->stage;
    struct kernel_key *keys = context_alloc(plan->context, plan->memory.commands + 1, sizeof *keys);
    *count = 0;
    for (size_t i = 0; keys && i < stage->n_steps; i++)
        for (size_t j = 0; j < stage->steps[i]->n_commands; j++) {
            const struct recorded *recorded = &stage->steps[i]->commands[j];
            if (!recorded->call)
                keys[(*count)++] =
                    (struct kernel_key){recorded->source, recorded->name, recorded->defines};
        }
    return keys;
}

int plan_dump(const qn_plan *plan)
{
    size_t count;
    struct kernel_key *keys = list_kernels(plan, &count);
    int status = keys ? kernels_dump(plan->context, keys, count) : QN_ERROR_MEMORY;
    free(keys);
    return status;
}

static int bind_commands(qn_plan *plan)
{
    struct stage *stage = &plan->stage;
    size_t n_keys, n_bound = 0;
    struct kernel_key *keys = list_kernels(plan, &n_keys);
    cl_kernel *kernels = context_alloc(plan->context, plan->memory.commands + 1, sizeof *kernels);
    stage->commands =
        graph_alloc(plan->graph, (plan->memory.commands + 1) * sizeof *stage->commands);
    int status = keys && kernels && stage->commands ? QN_OK : QN_ERROR_MEMORY;
    if (status == QN_OK && n_keys)
        status = device_kernels(plan->context, keys, n_keys, kernels);
    if (status == QN_OK) {
        for (size_t i = 0; i < stage->n_steps; i++)
            for (size_t j = 0; j < stage->steps[i]->n_commands; j++) {
                struct command *command = &stage->commands[stage->n_commands++];
                int bound = status == QN_OK
                                ? bind_command(plan, stage->steps[i], j, command, &kernels[n_bound])
                                : status;
                plan->n_constant_commands += stage->steps[i]->is_constant;
                /* Whatever happened, the kernel belongs to the command now. */
                if (!stage->steps[i]->commands[j].call)
                    command->kernel = kernels[n_bound++];
                status = bound;
            }
    }
    free(keys);
    free(kernels);
    return status;
}

/* ---- Rings ---- */

static size_t node_bytes(const qn_node *node)
{
    return qn_type_bytes(node->outputs[0].type, qn_shape_count(node->outputs[0].shape));
}

static cl_mem input_buffer(qn_plan *plan, const struct plan_input *input)
{
    return plan_buffer(plan, value_of(plan, input->node, 0)->slot, 0, node_bytes(input->node));
}

static cl_mem root_buffer(qn_plan *plan, const struct plan_root *root)
{
    const struct qn_layout *layout = &value_of(plan, root->node, 0)->layout;
    return plan_buffer(plan, value_slot(plan, root->node),
                       qn_type_bytes(layout->type, layout->offset), node_bytes(root->node));
}

/* Pinned memory for QN_RING_RUNS copies of every input and of every small root.  The new value of a tensor is in the
 * tensor. */
static int bind_rings(qn_plan *plan)
{
    enum { ALIGNMENT = 64 };
    qn_context *context = plan->context;
    size_t input_bytes = 0;
    for (size_t i = 0; i < plan->n_inputs; i++) {
        if (!input_buffer(plan, &plan->inputs[i]))
            return plan->context->status;
        input_bytes += round_up(node_bytes(plan->inputs[i].node), ALIGNMENT);
    }
    for (size_t i = 0; i < plan->n_roots; i++) {
        if (!root_buffer(plan, &plan->roots[i]))
            return plan->context->status;
        if (node_bytes(plan->roots[i].node) > QN_RING_BYTES || tensor_written(plan->roots[i].node))
            continue;
        plan->roots[i].ring = plan->result_bytes;
        plan->result_bytes += round_up(node_bytes(plan->roots[i].node), ALIGNMENT);
    }
    plan->pinned_bytes = QN_RING_RUNS * (input_bytes + plan->result_bytes);
    if (plan->pinned_bytes == 0)
        return QN_OK;
    cl_int code;
    plan->pinned = clCreateBuffer(context->device->cl, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                  plan->pinned_bytes, NULL, &code);
    int status = device_check(context, code, "pinned memory");
    if (status != QN_OK)
        return status;
    context->counters.device_allocations++;
    plan->mapped =
        clEnqueueMapBuffer(context->device->queue, plan->pinned, CL_TRUE,
                           CL_MAP_READ | CL_MAP_WRITE, 0, plan->pinned_bytes, 0, NULL, NULL, &code);
    status = device_check(context, code, "mapping pinned memory");
    if (status != QN_OK)
        return status;
    char *next = plan->mapped;
    for (size_t i = 0; i < plan->n_inputs; i++)
        for (int j = 0; j < QN_RING_RUNS; j++) {
            plan->inputs[i].staging[j] = next;
            next += round_up(node_bytes(plan->inputs[i].node), ALIGNMENT);
        }
    plan->results = next;
    return QN_OK;
}

int plan_bind(qn_plan *plan)
{
    if (plan->kept_bytes && !(plan->kept = storage_new(plan->context, plan->kept_bytes)))
        return plan->context->status;
    int status = bind_commands(plan);
    return status == QN_OK ? bind_rings(plan) : status;
}

void plan_unbind(qn_plan *plan)
{
    if (!plan->context->device)
        return;
    if (plan->runs || plan->mapped)
        clFinish(plan->context->device->queue);
    for (size_t i = 0; i < plan->stage.n_commands; i++)
        if (plan->stage.commands[i].kernel)
            clReleaseKernel(plan->stage.commands[i].kernel);
    for (size_t i = 0; i < plan->n_sub_buffers; i++)
        clReleaseMemObject(plan->sub_buffers[i].buffer);
    free(plan->sub_buffers);
    storage_release(plan->context, plan->kept);
    for (int i = 0; i < QN_RING_RUNS; i++)
        if (plan->ended[i])
            clReleaseEvent(plan->ended[i]);
    if (plan->mapped) {
        clEnqueueUnmapMemObject(plan->context->device->queue, plan->pinned, plan->mapped, 0, NULL,
                                NULL);
        clFinish(plan->context->device->queue);
    }
    if (plan->pinned)
        clReleaseMemObject(plan->pinned);
}

/* Waits for a run, one of the last QN_RING_RUNS. */
static int wait_for(qn_plan *plan, uint64_t run)
{
    cl_event *ended = &plan->ended[run % QN_RING_RUNS];
    if (!*ended)
        return QN_OK;
    cl_int code = clWaitForEvents(1, ended), state = CL_COMPLETE;
    clGetEventInfo(*ended, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    return device_check(plan->context, state < 0 ? state : code,
                        "run %llu of a plan of %zu commands (profiling waits for each, and names "
                        "the one that fails)",
                        (unsigned long long)run, plan->stage.n_commands);
}

/* ---- Runs ---- */

static struct plan_input *find_input(qn_plan *plan, const qn_node *node)
{
    for (size_t i = 0; i < plan->n_inputs; i++)
        if (plan->inputs[i].user == node)
            return &plan->inputs[i];
    return NULL;
}

int qn_set(qn_plan *plan, const qn_node *input, const void *values)
{
    if (!plan || !input)
        return QN_ERROR_INVALID;
    if (input->op != &input_op)
        return context_fail(plan->context, QN_ERROR_INVALID, "qn_set: %s is no input",
                            input->op->name);
    if (!plan->context->device)
        return context_fail(plan->context, QN_ERROR_INVALID,
                            "qn_set: the context has no device: it was opened on \"none\"");
    struct plan_input *found = find_input(plan, input);
    if (!found)
        return QN_OK; /* no root needs it */
    size_t next = (found->current + 1) % QN_RING_RUNS;
    if (found->used[next] && found->used[next] + QN_RING_RUNS > plan->runs) {
        int status = wait_for(plan, found->used[next]);
        if (status != QN_OK)
            return status;
    }
    memcpy(found->staging[next], values, node_bytes(found->node));
    found->current = next;
    found->is_set = true;
    return QN_OK;
}

static int start_inputs(qn_plan *plan, uint64_t run)
{
    for (size_t i = 0; i < plan->n_inputs; i++) {
        struct plan_input *input = &plan->inputs[i];
        if (!input->is_set)
            return context_fail(plan->context, QN_ERROR_INVALID, "qn_run: input %s was never set",
                                qn_node_name(input->node));
        int status = device_check(
            plan->context,
            clEnqueueWriteBuffer(plan->context->device->queue, input_buffer(plan, input), CL_FALSE,
                                 0, node_bytes(input->node), input->staging[input->current], 0,
                                 NULL, NULL),
            "writing input %s", qn_node_name(input->node));
        if (status != QN_OK)
            return status;
        input->used[input->current] = run;
    }
    return QN_OK;
}

static int start_results(qn_plan *plan, uint64_t run)
{
    char *results = plan->results + run % QN_RING_RUNS * plan->result_bytes;
    for (size_t i = 0; i < plan->n_roots; i++) {
        struct plan_root *root = &plan->roots[i];
        if (root->ring == SIZE_MAX)
            continue;
        char label[LABEL_TEXT];
        int status = device_check(
            plan->context,
            clEnqueueReadBuffer(plan->context->device->queue, root_buffer(plan, root), CL_FALSE, 0,
                                node_bytes(root->node), results + root->ring, 0, NULL, NULL),
            "reading %s", node_label(root->node, label, sizeof label));
        if (status != QN_OK)
            return status;
    }
    return QN_OK;
}

/* Changes when one of the tensors does: versions only grow.  Never 0. */
static uint64_t constant_versions(const qn_plan *plan)
{
    uint64_t sum = 1;
    for (size_t i = 0; i < plan->n_constant; i++)
        sum += plan->constant[i]->storage->version;
    return sum;
}

static int start_commands(qn_plan *plan)
{
    const struct stage *stage = &plan->stage;
    if (plan->context->detect_anomaly)
        return plan_run_looking(plan);
    uint64_t versions = constant_versions(plan);
    size_t first = versions == plan->constant_versions ? plan->n_constant_commands : 0;
    int status = device_enqueue(plan->context, stage->commands + first, stage->n_commands - first);
    plan->constant_versions = status == QN_OK ? versions : 0;
    return status;
}

int qn_run(qn_plan *plan)
{
    if (!plan)
        return QN_ERROR_INVALID;
    qn_context *context = plan->context;
    if (!context->device)
        return context_fail(context, QN_ERROR_INVALID,
                            "qn_run: the context has no device: it was opened on \"none\"");
    uint64_t run = plan->runs + 1;
    cl_event *ended = &plan->ended[run % QN_RING_RUNS];
    int status = wait_for(plan, run); /* the run whose place in the ring this one takes */
    if (*ended)
        clReleaseEvent(*ended);
    *ended = NULL;
    if (status == QN_OK)
        status = start_inputs(plan, run);
    if (status == QN_OK)
        status = start_commands(plan);
    if (status == QN_OK)
        status = start_results(plan, run);
    if (status == QN_OK)
        status = device_check(context,
                              clEnqueueMarkerWithWaitList(context->device->queue, 0, NULL, ended),
                              "ending a run");
    if (status == QN_OK)
        status = device_check(context, clFlush(context->device->queue), "clFlush");
    for (size_t i = 0; i < plan->n_written; i++)
        plan->written[i]->storage->version++;
    plan->has_failed = status != QN_OK;
    if (plan->has_failed)
        clFinish(
            context->device->queue); /* what was begun: the memory of its inputs is free then */
    else
        plan->runs = run;
    plan->context_run = ++context->runs;
    return status;
}

uint64_t qn_runs(const qn_plan *plan)
{
    return plan->runs;
}

/* ---- Results ---- */

static struct plan_root *find_root(qn_plan *plan, const qn_node *node)
{
    for (size_t i = 0; i < plan->n_roots; i++)
        if (plan->roots[i].user == node)
            return &plan->roots[i];
    context_fail(plan->context, QN_ERROR_INVALID, "qn_get: %s is no root of the plan",
                 *qn_node_name(node) ? node->name : node->op->name);
    return NULL;
}

int qn_get(qn_plan *plan, const qn_node *node, void *values)
{
    if (!plan || !node)
        return QN_ERROR_INVALID;
    qn_context *context = plan->context;
    struct plan_root *root = find_root(plan, node);
    if (!root)
        return QN_ERROR_INVALID;
    if (plan->runs == 0 || plan->has_failed)
        return context_fail(context, QN_ERROR_INVALID,
                            plan->has_failed ? "qn_get: the plan's last run failed"
                                             : "qn_get: the plan has not run yet");
    if (root->ring != SIZE_MAX) {
        int status = wait_for(plan, plan->runs);
        if (status == QN_OK)
            memcpy(values,
                   plan->results + plan->runs % QN_RING_RUNS * plan->result_bytes + root->ring,
                   node_bytes(root->node));
        return status;
    }
    if (plan->context_run != context->runs && !value_slot(plan, root->node)->tensor)
        return context_fail(
            context, QN_ERROR_INVALID,
            "qn_get: another plan has run since, and may have overwritten the value");
    char label[LABEL_TEXT];
    return device_check(context,
                        clEnqueueReadBuffer(context->device->queue, root_buffer(plan, root),
                                            CL_TRUE, 0, node_bytes(root->node), values, 0, NULL,
                                            NULL),
                        "reading %s", node_label(root->node, label, sizeof label));
}

float qn_get_f32(qn_plan *plan, const qn_node *node)
{
    float value = NAN;
    if (!plan || !node)
        return NAN;
    if (node->outputs[0].type != QN_F32 || qn_shape_count(node->outputs[0].shape) != 1) {
        context_fail(plan->context, QN_ERROR_INVALID, "qn_get_f32: %s is not one f32 number",
                     *qn_node_name(node) ? node->name : node->op->name);
        return NAN;
    }
    return qn_get(plan, node, &value) == QN_OK ? value : NAN;
}

/* The event of a run among the last QN_RING_RUNS; NULL and an error if it is none of those. */
static cl_event run_event(qn_plan *plan, uint64_t run)
{
    if (run > 0 && run <= plan->runs && run + QN_RING_RUNS > plan->runs &&
        plan->ended[run % QN_RING_RUNS])
        return plan->ended[run % QN_RING_RUNS];
    context_fail(plan->context, QN_ERROR_INVALID, "run %llu of a plan is not among its last %d",
                 (unsigned long long)run, QN_RING_RUNS);
    return NULL;
}

int qn_wait(qn_plan *plan, uint64_t run)
{
    return plan && run_event(plan, run) ? wait_for(plan, run) : QN_ERROR_INVALID;
}

int qn_result(qn_plan *plan, const qn_node *node, uint64_t run, void *values)
{
    if (!plan || !node)
        return QN_ERROR_INVALID;
    struct plan_root *root = find_root(plan, node);
    cl_event event = root ? run_event(plan, run) : NULL;
    if (!event)
        return QN_ERROR_INVALID;
    if (root->ring == SIZE_MAX)
        return context_fail(plan->context, QN_ERROR_INVALID,
                            "qn_result: %s is too large for the ring", qn_node_name(node));
    cl_int state = CL_COMPLETE;
    cl_int code =
        clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    if (code == CL_SUCCESS && state > CL_COMPLETE)
        return QN_NOT_READY;
    int status = wait_for(plan, run); /* ended, well or not */
    if (status == QN_OK)
        memcpy(values, plan->results + run % QN_RING_RUNS * plan->result_bytes + root->ring,
               node_bytes(root->node));
    return status;
}
