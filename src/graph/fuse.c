/* Fusion: runs of element-wise nodes of one shape become one generated kernel.
 *
 * A node joins the group of those that use it when all of them are in one group, so that it needs no memory.  The kernel
 * walks the output in rows of its innermost axis, after axes that lie one in the other for every input were merged; an input
 * is read in vectors where its innermost stride is 1, once a row where it is 0, and lane by lane elsewhere. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"

/* ---- Grouping ---- */

bool is_inlined(const qn_node *input)
{
    float value;
    return node_is_constant(input, &value);
}

static bool contains(qn_node *const *nodes, size_t count, const qn_node *node)
{
    for (size_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

size_t fuse_inputs(const struct step *step, qn_node **inputs)
{
    size_t count = 0;
    for (size_t i = 0; i < step->n_members; i++) {
        const qn_node *node = step->members[i];
        for (size_t j = 0; j < node->n_inputs; j++) {
            qn_node *input = node->inputs[j];
            if (!is_inlined(input) && !contains(step->members, step->n_members, input) &&
                !contains(inputs, count, input) && count < FUSE_ROOM)
                inputs[count++] = input;
        }
    }
    return count;
}

/* Puts a node into a group, unless it becomes too large. */
static bool join(struct step *group, qn_node *node)
{
    if (group->n_members == FUSE_MEMBERS)
        return false;
    memmove(group->members + 1, group->members, group->n_members * sizeof *group->members);
    group->members[0] = node;
    group->n_members++;
    qn_node *inputs[FUSE_ROOM];
    if (fuse_inputs(group, inputs) <= FUSE_INPUTS)
        return true;
    group->n_members--;
    memmove(group->members, group->members + 1, group->n_members * sizeof *group->members);
    return false;
}

static struct step *step_new(qn_plan *plan, qn_node *node)
{
    struct step *step = graph_alloc(plan->graph, sizeof *step);
    if (!step)
        return NULL;
    step->node = node;
    plan->steps[plan->n_steps++] = step;
    return step;
}

int plan_fuse(qn_plan *plan)
{
    /* By node: a group that uses it, and whether others do too, who may be no group. */
    struct step **user = context_alloc(plan->context, plan->n_nodes + 1, sizeof *user);
    bool *several = context_alloc(plan->context, plan->n_nodes + 1, sizeof *several);
    int status = user && several ? QN_OK : QN_ERROR_MEMORY;
    for (size_t i = 0; status == QN_OK && i < plan->n_roots; i++)
        several[plan->roots[i].node->id] = true;

    for (size_t id = plan->n_nodes; status == QN_OK && id-- > 0;) {
        qn_node *node = plan->nodes[id];
        struct step *group = NULL;
        bool is_stored = several[id] || user[id];
        if (node_expression(node) && is_stored) {
            group = user[id];
            bool joins = !several[id] && qn_shape_equal(*qn_out(node, 0), *qn_out(group->node, 0)) &&
                         join(group, node);
            if (!joins) {
                group = step_new(plan, node);
                if (!group ||
                    !(group->members = graph_alloc(plan->graph, FUSE_MEMBERS * sizeof *group->members)))
                    status = QN_ERROR_MEMORY;
                else
                    join(group, node);
            }
            plan->step_of[id] = group;
        } else if (node->op->variants && is_stored) {
            plan->step_of[id] = step_new(plan, node);
            if (plan->step_of[id])
                plan->step_of[id]->variant = plan->variants[id];
            else
                status = QN_ERROR_MEMORY;
        }
        if (!is_stored && node->op != &assign_op)
            continue;
        for (size_t i = 0; i < node->n_inputs; i++) {
            qn_node *input = node->inputs[i];
            if (group && is_inlined(input))
                continue;
            if (!group || (user[input->id] && user[input->id] != group))
                several[input->id] = true;
            user[input->id] = group;
        }
    }
    /* Made from the last to the first; a natural order is the other way round. */
    for (size_t i = 0; i < plan->n_steps / 2; i++) {
        struct step *swap = plan->steps[i];
        plan->steps[i] = plan->steps[plan->n_steps - 1 - i];
        plan->steps[plan->n_steps - 1 - i] = swap;
    }
    free(user);
    free(several);
    return status;
}

/* ---- The kernel's text ---- */

struct text {
    char *begin;
    size_t used, size;
    bool failed;
};

static void put(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(struct text *text, const char *format, ...)
{
    for (;;) {
        va_list arguments;
        va_start(arguments, format);
        size_t room = text->size - text->used;
        int length = vsnprintf(text->begin + text->used, room, format, arguments);
        va_end(arguments);
        if (length >= 0 && (size_t)length < room) {
            text->used += (size_t)length;
            return;
        }
        char *larger = length < 0 ? NULL : realloc(text->begin, 2 * text->size + (size_t)length);
        if (!larger) {
            text->failed = true;
            return;
        }
        text->begin = larger;
        text->size = 2 * text->size + (size_t)length;
    }
}

/* The output's axes after merging, and the strides of the inputs along them.  Only strides decide, not sizes, so that one
 * text serves all batch sizes, 1 too. */
struct walk {
    int rank; /* at least 1 */
    size_t size[QN_MAX_RANK];
    ptrdiff_t stride[FUSE_INPUTS][QN_MAX_RANK];
};

static struct walk walk_of(const qn_shape *shape, const struct qn_layout *const *inputs, size_t n_inputs)
{
    struct walk walk = {0};
    for (int axis = 0; axis < shape->rank; axis++) {
        bool merges = walk.rank > 0;
        for (size_t i = 0; merges && i < n_inputs; i++)
            merges = walk.stride[i][walk.rank - 1] ==
                     inputs[i]->stride[axis] * (ptrdiff_t)shape->size[axis];
        if (!merges)
            walk.rank++;
        walk.size[walk.rank - 1] = (merges ? walk.size[walk.rank - 1] : 1) * shape->size[axis];
        for (size_t i = 0; i < n_inputs; i++)
            walk.stride[i][walk.rank - 1] = inputs[i]->stride[axis];
    }
    if (walk.rank == 0) {
        walk.rank = 1;
        walk.size[0] = 1;
        for (size_t i = 0; i < n_inputs; i++)
            walk.stride[i][0] = 1;
    }
    return walk;
}

static bool is_scalar(const struct walk *walk, size_t input)
{
    for (int axis = 0; axis < walk->rank; axis++)
        if (walk->stride[input][axis] != 0)
            return false;
    return true;
}

static const char *type_word(enum qn_type type)
{
    return type == QN_I32 ? "int" : "float";
}

static int index_of(qn_node *const *nodes, size_t count, const qn_node *node)
{
    for (size_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return (int)i;
    return -1;
}

/* How a member names its operand: a constant, another member, an input. */
static void put_operand(struct text *text, const struct step *step, qn_node *const *inputs,
                        size_t n_inputs, const qn_node *operand)
{
    int member = index_of(step->members, step->n_members, operand);
    int input = index_of(inputs, n_inputs, operand);
    if (is_inlined(operand)) {
        /* The number of the constant among those of the group: see put_constants. */
        int number = 0;
        for (size_t i = 0; i < step->n_members; i++)
            for (size_t j = 0; j < step->members[i]->n_inputs; j++) {
                if (step->members[i]->inputs[j] == operand) {
                    put(text, "k%d", number);
                    return;
                }
                number += is_inlined(step->members[i]->inputs[j]);
            }
    } else if (member >= 0) {
        put(text, "v%d", member);
    } else {
        put(text, "u%d", input);
    }
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A member's expression with its operands, constants and INDEX put in. */
static void put_expression(struct text *text, const struct step *step, size_t member,
                           qn_node *const *inputs, size_t n_inputs)
{
    const qn_node *node = step->members[member];
    size_t n_floats;
    node_floats(node, &n_floats);
    for (const char *p = node_expression(node); *p;) {
        size_t length = 1;
        if (is_letter(*p)) {
            while (is_letter(p[length]) || is_digit(p[length]))
                length++;
        } else if (is_digit(*p)) {
            while (is_letter(p[length]) || is_digit(p[length]) || p[length] == '.')
                length++;
        }
        int operand = is_letter(*p) ? node_operand(node, p, length) : -1;
        if (operand >= 0)
            put_operand(text, step, inputs, n_inputs, node->inputs[operand]);
        else if (length == 2 && p[0] == 'a' && is_digit(p[1]) && (size_t)(p[1] - '0') < n_floats)
            put(text, "a%zu_%c", member, p[1]);
        else if (length == 5 && strncmp(p, "INDEX", 5) == 0)
            put(text, "index");
        else
            put(text, "%.*s", (int)length, p);
        p += length;
    }
}

/* Reads the inputs, computes the members and writes the result; of a whole vector, or of the part at the end of a row. */
static void put_body(struct text *text, const struct step *step, const struct walk *walk,
                     qn_node *const *inputs, size_t n_inputs, bool is_part)
{
    int inner = walk->rank - 1;
    for (size_t i = 0; i < n_inputs; i++) {
        const char *type = type_word(inputs[i]->outputs[0].type);
        if (is_scalar(walk, i))
            continue;
        if (walk->stride[i][inner] == 0)
            put(text, "            %sv u%zu = (%sv)(x%zu[p%zu]);\n", type, i, type, i, i);
        else if (walk->stride[i][inner] == 1 && !is_part)
            put(text, "            %sv u%zu = vloadv(0, x%zu + p%zu + i);\n", type, i, i, i);
        else
            put(text,
                "            %s l%zu[FLOAT_WIDTH];\n"
                "            for (uint j = 0; j < FLOAT_WIDTH; j++)\n"
                "                l%zu[j] = x%zu[p%zu + min(i + j, inner - 1) * s%zu_%d];\n"
                "            %sv u%zu = vloadv(0, l%zu);\n",
                type, i, i, i, i, i, inner, type, i, i);
    }
    bool has_index = false;
    for (size_t i = 0; i < step->n_members; i++)
        has_index = has_index || expression_uses(node_expression(step->members[i]), "INDEX");
    if (has_index)
        put(text, "            uintv index = (uint)(row * inner + i) + convert_uintv(LANES);\n");
    for (size_t i = 0; i < step->n_members; i++) {
        const qn_node *node = step->members[i];
        enum qn_type to = node->outputs[0].type;
        enum qn_type from = node->n_inputs ? node->inputs[0]->outputs[0].type : to;
        bool converts = from != to && strcmp(node_expression(node), "x0") == 0;
        put(text, "            %sv v%zu = %s(", type_word(to), i,
            converts ? (to == QN_I32 ? "convert_intv" : "convert_floatv") : "");
        put_expression(text, step, i, inputs, n_inputs);
        put(text, ");\n");
    }
    size_t last = step->n_members - 1;
    if (!is_part)
        put(text, "            vstorev(v%zu, 0, y + row * inner + i);\n", last);
    else
        put(text,
            "            %s l[FLOAT_WIDTH];\n"
            "            vstorev(v%zu, 0, l);\n"
            "            for (uint j = 0; i + j < end; j++)\n"
            "                y[row * inner + i + j] = l[j];\n",
            type_word(step->node->outputs[0].type), last);
}

/* Each member's own constants, then those put in for inputs: as parameters, or as arguments of the launch. */
static void put_constants(struct text *text, const struct step *step, struct qn_launch *launch)
{
    int number = 0;
    for (size_t i = 0; i < step->n_members; i++) {
        const qn_node *node = step->members[i];
        size_t n_floats;
        const float *floats = node_floats(node, &n_floats);
        for (size_t j = 0; j < n_floats; j++) {
            if (!expression_uses(node_expression(node), (char[]){'a', (char)('0' + j), 0}))
                continue;
            if (launch)
                qn_launch_float(launch, floats[j]);
            else
                put(text, ", float a%zu_%zu", i, j);
        }
        for (size_t j = 0; j < node->n_inputs; j++) {
            float value;
            if (!is_inlined(node->inputs[j]))
                continue;
            node_is_constant(node->inputs[j], &value);
            if (launch)
                qn_launch_float(launch, value);
            else
                put(text, ", float k%d_", number);
            number++;
        }
    }
}

static void put_kernel(struct text *text, const struct step *step, const struct walk *walk,
                       qn_node *const *inputs, size_t n_inputs)
{
    int outer = walk->rank - 1;
    put(text, "#if DEVICE_CPU\n#define CHUNK 4096\n#else\n#define CHUNK FLOAT_WIDTH\n#endif\n\n");
    put(text, "kernel void fused(ulong rows, ulong inner, global %s *y",
        type_word(step->node->outputs[0].type));
    for (int axis = 0; axis < outer; axis++)
        put(text, ", ulong n%d", axis);
    for (size_t i = 0; i < n_inputs; i++) {
        put(text, ", global const %s *x%zu, ulong o%zu", type_word(inputs[i]->outputs[0].type), i, i);
        for (int axis = 0; axis < walk->rank; axis++)
            put(text, ", long s%zu_%d", i, axis);
    }
    put_constants(text, step, NULL);
    put(text, ")\n{\n");
    int number = 0;
    for (size_t i = 0; i < step->n_members; i++)
        for (size_t j = 0; j < step->members[i]->n_inputs; j++)
            if (is_inlined(step->members[i]->inputs[j])) {
                put(text, "    floatv k%d = (floatv)(k%d_);\n", number, number);
                number++;
            }
    for (size_t i = 0; i < n_inputs; i++)
        if (is_scalar(walk, i))
            put(text, "    %sv u%zu = (%sv)(x%zu[o%zu]);\n", type_word(inputs[i]->outputs[0].type), i,
                type_word(inputs[i]->outputs[0].type), i, i);
    put(text, "    ulong chunks = (inner + CHUNK - 1) / CHUNK;\n"
              "    for (ulong item = get_global_id(0); item < rows * chunks; item += get_global_size(0)) {\n"
              "        ulong row = item / chunks, i = item %% chunks * CHUNK, end = min(i + CHUNK, inner);\n");
    for (size_t i = 0; i < n_inputs; i++)
        if (!is_scalar(walk, i))
            put(text, "        ulong p%zu = o%zu;\n", i, i);
    if (outer > 0)
        put(text, "        ulong rest = row;\n");
    for (int axis = outer - 1; axis >= 0; axis--) {
        put(text, "        ulong at%d = rest %% n%d;\n        rest /= n%d;\n", axis, axis, axis);
        for (size_t i = 0; i < n_inputs; i++)
            if (!is_scalar(walk, i))
                put(text, "        p%zu += at%d * s%zu_%d;\n", i, axis, i, axis);
    }
    put(text, "        for (; i + FLOAT_WIDTH <= end; i += FLOAT_WIDTH) {\n");
    put_body(text, step, walk, inputs, n_inputs, false);
    put(text, "        }\n        if (i < end) {\n");
    put_body(text, step, walk, inputs, n_inputs, true);
    put(text, "        }\n    }\n}\n");
}

static void launch_group(struct qn_launch *launch, struct step *step, const struct walk *walk,
                         qn_node *const *inputs, size_t n_inputs)
{
    enum { CHUNK = 4096, GPU_LOCAL = 128, MOST_ITEMS = 65535, CPU_GROUPS = 1024 };
    const struct qn_caps *caps = qn_launch_caps(launch);
    bool is_cpu = caps->device_class == QN_CPU;
    size_t rows = 1, inner = walk->size[walk->rank - 1];
    for (int axis = 0; axis < walk->rank - 1; axis++)
        rows *= walk->size[axis];
    qn_launch_kernel(launch, &step->source, "fused");
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, inner);
    qn_launch_output(launch, 0);
    for (int axis = 0; axis < walk->rank - 1; axis++)
        qn_launch_ulong(launch, walk->size[axis]);
    for (size_t i = 0; i < n_inputs; i++) {
        launch_value(launch, inputs[i]);
        qn_launch_ulong(launch, value_of(launch->plan, inputs[i], 0)->layout.offset);
        for (int axis = 0; axis < walk->rank; axis++)
            qn_launch_ulong(launch, (size_t)walk->stride[i][axis]);
    }
    put_constants(NULL, step, launch);
    size_t local = is_cpu ? 1 : size_min(GPU_LOCAL, caps->max_work_group);
    size_t items = rows * divide_up(inner, is_cpu ? CHUNK : caps->float_width);
    size_t most = is_cpu ? CPU_GROUPS : MOST_ITEMS / local;
    qn_launch_range(launch, (size_t[3]){size_min(divide_up(items, local), most)},
                    (size_t[3]){local});
}

int fuse_record(qn_plan *plan, struct step *step, struct qn_launch *launch)
{
    qn_node *inputs[FUSE_ROOM];
    const struct qn_layout *layouts[FUSE_INPUTS];
    size_t n_inputs = fuse_inputs(step, inputs);
    for (size_t i = 0; i < n_inputs; i++)
        layouts[i] = &value_of(plan, inputs[i], 0)->layout;
    struct walk walk = walk_of(qn_out(step->node, 0), layouts, n_inputs);
    struct text text = {.size = 4096};
    text.begin = context_alloc(plan->context, text.size, 1);
    if (!text.begin)
        return QN_ERROR_MEMORY;
    put_kernel(&text, step, &walk, inputs, n_inputs);
    char *copy = text.failed ? NULL : graph_alloc(plan->graph, text.used + 1);
    if (copy)
        memcpy(copy, text.begin, text.used);
    free(text.begin);
    if (!copy)
        return context_fail(plan->context, QN_ERROR_MEMORY, "out of memory");
    step->source = (struct qn_source){"fused.cl", copy};
    launch_group(launch, step, &walk, inputs, n_inputs);
    return QN_OK;
}
