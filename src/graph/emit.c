/* The kernel of a fused group, as text.
 *
 * It walks the output in rows of its innermost axis, after axes that lie one in the other for every input were merged.  An
 * input is read in vectors where its innermost stride is 1, once a row where it is 0, and lane by lane elsewhere.  Sizes,
 * strides and constants are arguments, so that the text depends on what is computed alone. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"

/* ---- Text that grows ---- */

struct text {
    char *begin;
    size_t used, size;
    bool failed;
};

static void put(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(struct text *text, const char *format, ...)
{
    while (!text->failed) {
        va_list arguments;
        va_start(arguments, format);
        size_t room = text->size - text->used;
        int length = vsnprintf(text->begin + text->used, room, format, arguments);
        va_end(arguments);
        if (length >= 0 && (size_t)length < room) {
            text->used += (size_t)length;
            return;
        }
        size_t size = 2 * text->size + (length < 0 ? 0 : (size_t)length);
        char *larger = realloc(text->begin, size);
        text->failed = !larger;
        if (larger) {
            text->begin = larger;
            text->size = size;
        }
    }
}

/* ---- What the text is made of ---- */

/* A number of a member: its attribute a`index`, or its input `index`, which is a constant. */
struct constant {
    const qn_node *member;
    bool is_input;
    size_t index;
    float value;
};

enum { MOST_CONSTANTS = FUSE_MEMBERS * (MAX_FLOATS + QN_MAX_OPERANDS) };

struct emitter {
    struct text text;
    const struct step *step;
    qn_node *inputs[FUSE_ROOM];
    size_t n_inputs;
    struct constant constants[MOST_CONSTANTS];
    size_t n_constants;
    /* The output's axes after merging, and the strides of the inputs along them.  Only strides decide, not sizes: one text
     * serves all batch sizes, 1 too. */
    int rank; /* at least 1 */
    size_t size[QN_MAX_RANK];
    ptrdiff_t stride[FUSE_INPUTS][QN_MAX_RANK];
};

static void add_constants(struct emitter *emitter, const qn_node *member)
{
    size_t n_floats;
    const float *floats = node_floats(member, &n_floats);
    for (size_t i = 0; i < n_floats; i++)
        if (expression_uses(node_expression(member), (char[]){'a', (char)('0' + i), 0}))
            emitter->constants[emitter->n_constants++] =
                (struct constant){.member = member, .index = i, .value = floats[i]};
    for (size_t i = 0; i < member->n_inputs; i++) {
        float value;
        if (node_is_constant(member->inputs[i], &value))
            emitter->constants[emitter->n_constants++] =
                (struct constant){.member = member, .is_input = true, .index = i, .value = value};
    }
}

static size_t find_constant(const struct emitter *emitter, const qn_node *member, bool is_input,
                            size_t index)
{
    size_t i = 0;
    while (emitter->constants[i].member != member || emitter->constants[i].is_input != is_input ||
           emitter->constants[i].index != index)
        i++;
    return i;
}

static void merge_axes(struct emitter *emitter, const qn_plan *plan)
{
    const qn_shape *shape = qn_out(emitter->step->node, 0);
    for (int axis = 0; axis < shape->rank; axis++) {
        bool merges = emitter->rank > 0;
        for (size_t i = 0; merges && i < emitter->n_inputs; i++)
            merges = emitter->stride[i][emitter->rank - 1] ==
                     value_of(plan, emitter->inputs[i], 0)->layout.stride[axis] *
                         (ptrdiff_t)shape->size[axis];
        if (!merges)
            emitter->size[emitter->rank++] = 1;
        emitter->size[emitter->rank - 1] *= shape->size[axis];
        for (size_t i = 0; i < emitter->n_inputs; i++)
            emitter->stride[i][emitter->rank - 1] =
                value_of(plan, emitter->inputs[i], 0)->layout.stride[axis];
    }
    if (emitter->rank > 0)
        return;
    emitter->rank = 1; /* a scalar is a vector of one */
    emitter->size[0] = 1;
    for (size_t i = 0; i < emitter->n_inputs; i++)
        emitter->stride[i][0] = 1;
}

/* Whether an input is one number for all elements. */
static bool is_scalar(const struct emitter *emitter, size_t input)
{
    for (int axis = 0; axis < emitter->rank; axis++)
        if (emitter->stride[input][axis] != 0)
            return false;
    return true;
}

/* ---- Expressions ---- */

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

/* How a member's text names its operand: a constant, another member, or an input. */
static void put_operand(struct emitter *emitter, const qn_node *member, size_t operand)
{
    const struct step *step = emitter->step;
    const qn_node *input = member->inputs[operand];
    int number = index_of(step->members, step->n_members, input);
    if (is_inlined(input))
        put(&emitter->text, "(floatv)(c%zu)", find_constant(emitter, member, true, operand));
    else if (number >= 0)
        put(&emitter->text, "v%d", number);
    else
        put(&emitter->text, "u%d", index_of(emitter->inputs, emitter->n_inputs, input));
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A name or a number is one word, so that the x0 of 0x0 is none. */
static size_t word_length(const char *p)
{
    size_t length = 1;
    if (is_letter(*p) || is_digit(*p))
        while (is_letter(p[length]) || is_digit(p[length]) || p[length] == '.')
            length++;
    return length;
}

/* A member's expression with its operands, constants and INDEX put in. */
static void put_expression(struct emitter *emitter, const qn_node *member)
{
    size_t n_floats;
    node_floats(member, &n_floats);
    for (const char *p = node_expression(member); *p;) {
        size_t length = word_length(p);
        int operand = is_letter(*p) ? node_operand(member, p, length) : -1;
        if (operand >= 0)
            put_operand(emitter, member, (size_t)operand);
        else if (length == 2 && p[0] == 'a' && is_digit(p[1]) && (size_t)(p[1] - '0') < n_floats)
            put(&emitter->text, "c%zu",
                find_constant(emitter, member, false, (size_t)(p[1] - '0')));
        else if (length == 5 && strncmp(p, "INDEX", 5) == 0)
            put(&emitter->text, "index");
        else
            put(&emitter->text, "%.*s", (int)length, p);
        p += length;
    }
}

/* A cast says only "x0": what it does is in its types. */
static const char *conversion(const qn_node *member)
{
    enum qn_type to = member->outputs[0].type;
    enum qn_type from = member->n_inputs ? member->inputs[0]->outputs[0].type : to;
    if (from == to || strcmp(node_expression(member), "x0") != 0)
        return "";
    return to == QN_I32 ? "convert_intv" : "convert_floatv";
}

/* ---- The kernel ---- */

static void put_parameters(struct emitter *emitter)
{
    struct text *text = &emitter->text;
    put(text, "kernel void fused(ulong rows, ulong inner, global %s *y",
        type_word(emitter->step->node->outputs[0].type));
    for (int axis = 0; axis < emitter->rank - 1; axis++)
        put(text, ", ulong n%d", axis);
    for (size_t i = 0; i < emitter->n_inputs; i++) {
        put(text, ", global const %s *x%zu, ulong o%zu",
            type_word(emitter->inputs[i]->outputs[0].type), i, i);
        for (int axis = 0; axis < emitter->rank; axis++)
            put(text, ", long s%zu_%d", i, axis);
    }
    for (size_t i = 0; i < emitter->n_constants; i++)
        put(text, ", float c%zu", i);
    put(text, ")\n");
}

/* Where each input's row begins: p0, p1, ... */
static void put_row(struct emitter *emitter)
{
    struct text *text = &emitter->text;
    for (size_t i = 0; i < emitter->n_inputs; i++)
        if (!is_scalar(emitter, i))
            put(text, "        ulong p%zu = o%zu;\n", i, i);
    if (emitter->rank > 1)
        put(text, "        ulong rest = row;\n");
    for (int axis = emitter->rank - 2; axis >= 0; axis--) {
        put(text, "        ulong at%d = rest %% n%d;\n        rest /= n%d;\n", axis, axis, axis);
        for (size_t i = 0; i < emitter->n_inputs; i++)
            if (!is_scalar(emitter, i))
                put(text, "        p%zu += at%d * s%zu_%d;\n", i, axis, i, axis);
    }
}

static void put_load(struct emitter *emitter, size_t i, bool is_part)
{
    int inner = emitter->rank - 1;
    const char *type = type_word(emitter->inputs[i]->outputs[0].type);
    if (emitter->stride[i][inner] == 0)
        put(&emitter->text, "            %sv u%zu = (%sv)(x%zu[p%zu]);\n", type, i, type, i, i);
    else if (emitter->stride[i][inner] == 1 && !is_part)
        put(&emitter->text, "            %sv u%zu = vloadv(0, x%zu + p%zu + i);\n", type, i, i, i);
    else
        put(&emitter->text,
            "            %s l%zu[FLOAT_WIDTH];\n"
            "            for (uint j = 0; j < FLOAT_WIDTH; j++)\n"
            "                l%zu[j] = x%zu[p%zu + min(i + j, inner - 1) * s%zu_%d];\n"
            "            %sv u%zu = vloadv(0, l%zu);\n",
            type, i, i, i, i, i, inner, type, i, i);
}

/* Reads the inputs, computes the members and writes the result; of a whole vector, or of the part at the end of a row. */
static void put_body(struct emitter *emitter, bool is_part)
{
    struct text *text = &emitter->text;
    const struct step *step = emitter->step;
    bool has_index = false;
    for (size_t i = 0; i < emitter->n_inputs; i++)
        if (!is_scalar(emitter, i))
            put_load(emitter, i, is_part);
    for (size_t i = 0; i < step->n_members; i++)
        has_index = has_index || expression_uses(node_expression(step->members[i]), "INDEX");
    if (has_index)
        put(text, "            uintv index = (uint)(row * inner + i) + convert_uintv(LANES);\n");
    for (size_t i = 0; i < step->n_members; i++) {
        put(text, "            %sv v%zu = %s(", type_word(step->members[i]->outputs[0].type), i,
            conversion(step->members[i]));
        put_expression(emitter, step->members[i]);
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

static void put_kernel(struct emitter *emitter)
{
    struct text *text = &emitter->text;
    put_parameters(emitter);
    put(text, "{\n");
    for (size_t i = 0; i < emitter->n_inputs; i++) {
        const char *type = type_word(emitter->inputs[i]->outputs[0].type);
        if (is_scalar(emitter, i))
            put(text, "    %sv u%zu = (%sv)(x%zu[o%zu]);\n", type, i, type, i, i);
    }
    put(text, "    ulong chunks = (inner + FLAT_CHUNK - 1) / FLAT_CHUNK;\n"
              "    for (ulong item = get_global_id(0); item < rows * chunks; item += "
              "get_global_size(0)) {\n"
              "        ulong row = item / chunks, i = item %% chunks * FLAT_CHUNK;\n"
              "        ulong end = min(i + FLAT_CHUNK, inner);\n");
    put_row(emitter);
    put(text, "        for (; i + FLOAT_WIDTH <= end; i += FLOAT_WIDTH) {\n");
    put_body(emitter, false);
    put(text, "        }\n        if (i < end) {\n");
    put_body(emitter, true);
    put(text, "        }\n    }\n}\n");
}

/* ---- The launch ---- */

static void launch_kernel(const struct emitter *emitter, struct qn_launch *launch)
{
    size_t rows = 1, inner = emitter->size[emitter->rank - 1];
    for (int axis = 0; axis < emitter->rank - 1; axis++)
        rows *= emitter->size[axis];
    qn_launch_kernel(launch, &emitter->step->source, "fused");
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, inner);
    qn_launch_output(launch, 0);
    for (int axis = 0; axis < emitter->rank - 1; axis++)
        qn_launch_ulong(launch, emitter->size[axis]);
    for (size_t i = 0; i < emitter->n_inputs; i++) {
        launch_value(launch, emitter->inputs[i]);
        qn_launch_ulong(launch, value_of(launch->plan, emitter->inputs[i], 0)->layout.offset);
        for (int axis = 0; axis < emitter->rank; axis++)
            qn_launch_ulong(launch, (size_t)emitter->stride[i][axis]);
    }
    for (size_t i = 0; i < emitter->n_constants; i++)
        qn_launch_float(launch, emitter->constants[i].value);
    qn_launch_items(launch, rows * divide_up(inner, flat_chunk(qn_launch_caps(launch))));
}

int emit_group(qn_plan *plan, struct step *step, struct qn_launch *launch)
{
    struct emitter *emitter = context_alloc(plan->context, 1, sizeof *emitter);
    if (!emitter)
        return QN_ERROR_MEMORY;
    enum { FIRST_SIZE = 4096 };
    emitter->step = step;
    emitter->n_inputs = fuse_inputs(step, emitter->inputs);
    for (size_t i = 0; i < step->n_members; i++)
        add_constants(emitter, step->members[i]);
    merge_axes(emitter, plan);
    emitter->text.begin = context_alloc(plan->context, FIRST_SIZE, 1);
    emitter->text.size = FIRST_SIZE;
    emitter->text.failed = !emitter->text.begin;
    put_kernel(emitter);
    char *copy = emitter->text.failed ? NULL : graph_alloc(plan->graph, emitter->text.used + 1);
    if (copy) {
        memcpy(copy, emitter->text.begin, emitter->text.used);
        step->source = (struct qn_source){"fused.cl", copy};
        launch_kernel(emitter, launch);
    }
    free(emitter->text.begin);
    free(emitter);
    return copy ? launch->status : context_fail(plan->context, QN_ERROR_MEMORY, "out of memory");
}
