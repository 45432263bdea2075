/* Runs that look at each value as soon as it is computed. */
#include <math.h>
#include <string.h>

#include "cl_sources.h"
#include "graph/origin.h"
#include "graph/plan.h"

/* The types that have numbers that are not finite. */
static const enum qn_type reals[] = {QN_F32, QN_F16, QN_BF16};
enum { REALS = sizeof reals / sizeof *reals };

/* The kernels that look, by type, and their one number. */
struct search {
    qn_plan *plan;
    cl_kernel kernels[REALS];
    cl_mem first;
};

static const cl_uint NOTHING = UINT32_MAX;

static int search_begin(struct search *search, qn_plan *plan)
{
    qn_context *context = plan->context;
    struct kernel_key keys[REALS];
    char defines[REALS][32];
    for (size_t i = 0; i < REALS; i++) {
        snprintf(defines[i], sizeof defines[i], "#define T %s\n", type_in_kernels(reals[i]));
        keys[i] = (struct kernel_key){&source_check, "find_not_finite", defines[i]};
    }
    *search = (struct search){.plan = plan, .first = device_buffer(context, sizeof(cl_uint))};
    return search->first ? device_kernels(context, keys, REALS, search->kernels)
                         : (int)context->status;
}

static void search_end(struct search *search)
{
    for (size_t i = 0; i < REALS; i++)
        if (search->kernels[i])
            clReleaseKernel(search->kernels[i]);
    if (search->first)
        device_buffer_free(search->plan->context, search->first, sizeof(cl_uint));
}

/* The first element that is not finite, or NOTHING. */
static int find(struct search *search, cl_mem buffer, enum qn_type type, size_t count,
                cl_uint *first)
{
    cl_kernel kernel = search->kernels[0];
    for (size_t i = 0; i < REALS; i++)
        if (reals[i] == type)
            kernel = search->kernels[i];
    qn_context *context = search->plan->context;
    cl_command_queue queue = context->device->queue;
    cl_ulong elements = count;
    size_t items = size_min(divide_up(count, flat_chunk(&context->caps)), context->caps.max_items);
    *first = NOTHING;
    cl_int code =
        clEnqueueWriteBuffer(queue, search->first, CL_TRUE, 0, sizeof *first, first, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 0, sizeof buffer, &buffer);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 1, sizeof elements, &elements);
    if (code == CL_SUCCESS)
        code = clSetKernelArg(kernel, 2, sizeof search->first, &search->first);
    if (code == CL_SUCCESS)
        code = clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, NULL, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueReadBuffer(queue, search->first, CL_TRUE, 0, sizeof *first, first, 0, NULL,
                                   NULL);
    return device_check(context, code, "looking for what is not finite");
}

static int report(const qn_plan *plan, const qn_node *node, int output, cl_uint first, double value)
{
    char label[LABEL_TEXT], at[SHAPE_TEXT], shape[SHAPE_TEXT], built[ORIGIN_TEXT];
    bool is_given = node->op == &leaf_op || node->op == &input_op;
    element_text(qn_out(node, output), first, at);
    origin_text(node->origin, built);
    return context_fail(plan->context, QN_ERROR_NOT_FINITE, "%s: element %s of %s is %g%s%s%s%s%s",
                        node_label(node, label, sizeof label), at,
                        shape_text(qn_out(node, output), shape, sizeof shape), value,
                        is_given ? ", before anything was computed"
                                 : ", though all before it is finite",
                        *built ? "; built by " : "", built,
                        *built && node->origin->is_gradient ? " (gradient)" : "",
                        node->op == &input_op ? ": look at the batch" : "");
}

/* Whether the value of a node's output is finite: QN_OK, or an error that says where it is not. */
static int look(struct search *search, qn_node *node, int output)
{
    qn_plan *plan = search->plan;
    const struct value *value = value_of(plan, node, output);
    size_t count = qn_shape_count(*qn_out(node, output));
    enum qn_type type = node->outputs[output].type;
    if (!type_is_real(type) || !value->slot || !value->is_used)
        return QN_OK;
    cl_mem buffer = plan_buffer(plan, value->slot, qn_type_bytes(type, value->layout.offset),
                                qn_type_bytes(type, count));
    cl_uint first;
    int status = buffer ? find(search, buffer, type, count, &first) : (int)plan->context->status;
    if (status != QN_OK || first == NOTHING)
        return status;
    uint32_t number = 0; /* of any type */
    size_t bytes = qn_type_bytes(type, 1);
    cl_int code = clEnqueueReadBuffer(plan->context->device->queue, buffer, CL_TRUE, first * bytes,
                                      bytes, &number, 0, NULL, NULL);
    status = device_check(plan->context, code, "reading what is not finite");
    return status == QN_OK ? report(plan, node, output, first, type_get(type, &number, 0)) : status;
}

static int look_at_given(struct search *search)
{
    const qn_plan *plan = search->plan;
    int status = QN_OK;
    for (size_t id = 0; status == QN_OK && id < plan->n_nodes; id++)
        if (plan->nodes[id]->op == &leaf_op || plan->nodes[id]->op == &input_op)
            status = look(search, plan->nodes[id], 0);
    return status;
}

int plan_run_looking(qn_plan *plan)
{
    struct search search;
    const struct stage *stage = &plan->stage;
    struct output outputs[STEP_OUTPUTS];
    int status = search_begin(&search, plan);
    if (status == QN_OK)
        status = look_at_given(&search);
    for (size_t i = 0, command = 0; status == QN_OK && i < stage->n_steps; i++) {
        struct step *step = stage->steps[i];
        status = device_enqueue(plan->context, stage->commands + command, step->n_commands);
        command += step->n_commands;
        size_t count = step->target ? 0 : step_outputs(plan, step, outputs);
        for (size_t j = 0; status == QN_OK && j < count; j++)
            status = look(&search, outputs[j].node, outputs[j].index);
    }
    search_end(&search);
    return status;
}
