/* Fused nodes as text: the kernel of a group, or the macros by which an operation's kernel computes its epilogue or prologue.
 *
 * A group's kernel walks the output in rows of its innermost axis, after axes that lie one in the other for every input were
 * merged.  An operation has rows of its own (see qn_variant.epilogue).  An input is read in vectors where its innermost
 * stride is 1, once where it is 0, and lane by lane elsewhere.  Sizes, strides and constants are arguments, so that the text
 * depends on what is computed alone. */
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
    const qn_plan *plan;
    const struct step *step;
    qn_node *const *members; /* those that are element-wise */
    size_t n_members;
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

static void merge_axes(struct emitter *emitter)
{
    const qn_plan *plan = emitter->plan;
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

/* A value in registers; in memory it is a type_in_kernels(). */
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

/* Whether a member's value is wanted outside. */
static bool is_stored(const struct emitter *emitter, size_t member)
{
    return value_of(emitter->plan, emitter->members[member], 0)->is_used;
}

/* How a member's text names its operand: a constant, another member, what an epilogue is given, or an
 * input. */
static void put_operand(struct emitter *emitter, const qn_node *member, size_t operand)
{
    const qn_node *input = member->inputs[operand];
    int number = index_of(emitter->members, emitter->n_members, input);
    if (input == emitter->step->node && has_epilogue(emitter->step))
        put(&emitter->text, "product");
    else if (is_inlined(input))
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

/* Numbers of 16 bits are rounded where they are computed, stored or not: so fusion changes nothing in them. */
static const char *rounding(enum qn_type type)
{
    return type == QN_F16 ? "rounded_to_f16" : type == QN_BF16 ? "rounded_to_bf16" : "";
}

/* A cast says only "x0": what it does is in its types. */
static const char *conversion(const qn_node *member)
{
    enum qn_type to = member->outputs[0].type;
    enum qn_type from = member->n_inputs ? member->inputs[0]->outputs[0].type : to;
    if (strcmp(node_expression(member), "x0") != 0 || (from == QN_I32) == (to == QN_I32))
        return "";
    return to == QN_I32 ? "convert_intv" : "convert_floatv";
}

/* What the value of a member goes through: a number that is only handed on is rounded already. */
static const char *rounding_of(const qn_node *member)
{
    enum qn_type to = member->outputs[0].type;
    bool is_same = member->n_inputs && member->inputs[0]->outputs[0].type == to &&
                   strcmp(node_expression(member), "x0") == 0;
    return is_same ? "" : rounding(to);
}

/* ---- The kernel ---- */

static void put_parameters(struct emitter *emitter)
{
    struct text *text = &emitter->text;
    put(text, "kernel SUBGROUPS_OF_16 void fused(ulong rows, ulong inner");
    for (size_t i = 0; i < emitter->n_members; i++)
        if (is_stored(emitter, i))
            put(text, ", global %s *y%zu", type_in_kernels(emitter->members[i]->outputs[0].type),
                i);
    for (int axis = 0; axis < emitter->rank - 1; axis++)
        put(text, ", ulong n%d", axis);
    for (size_t i = 0; i < emitter->n_inputs; i++) {
        put(text, ", global const %s *x%zu, ulong o%zu",
            type_in_kernels(emitter->inputs[i]->outputs[0].type), i, i);
        for (int axis = 0; axis < emitter->rank; axis++)
            put(text, ", long s%zu_%d", i, axis);
    }
    for (size_t i = 0; i < emitter->n_constants; i++)
        put(text, ", float c%zu", i);
    put(text, ")\n");
}

/* Whether the result of the operation itself is wanted outside, though there is an epilogue. */
static bool stores_product(const struct emitter *emitter)
{
    return has_epilogue(emitter->step) && value_of(emitter->plan, emitter->step->node, 0)->is_used;
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
        put(&emitter->text, "            %sv u%zu = (%sv)(load(x%zu + p%zu));\n", type, i, type, i,
            i);
    else if (emitter->stride[i][inner] == 1 && !is_part)
        put(&emitter->text, "            %sv u%zu = loadv(0, x%zu + p%zu + i);\n", type, i, i, i);
    else
        put(&emitter->text,
            "            %sv u%zu = load_strided(x%zu + p%zu, i, inner - 1, s%zu_%d);\n", type, i,
            i, i, i, inner);
}

static void put_store(struct emitter *emitter, size_t i, bool is_part)
{
    if (!is_part)
        put(&emitter->text, "            storev(v%zu, 0, y%zu + row * inner + i);\n", i, i);
    else
        put(&emitter->text,
            "            store_part(v%zu, y%zu + row * inner + i, (uint)(end - i));\n", i, i);
}

static bool uses_index(const struct emitter *emitter)
{
    for (size_t i = 0; i < emitter->n_members; i++)
        if (expression_uses(node_expression(emitter->members[i]), "INDEX"))
            return true;
    return false;
}

/* What is computed: v0, v1, ...; each line begins and ends as the text around it wants. */
static void put_members(struct emitter *emitter, const char *begin, const char *end)
{
    for (size_t i = 0; i < emitter->n_members; i++) {
        const qn_node *member = emitter->members[i];
        put(&emitter->text, "%s%sv v%zu = %s(%s(", begin, type_word(member->outputs[0].type), i,
            rounding_of(member), conversion(member));
        put_expression(emitter, member);
        put(&emitter->text, "));%s", end);
    }
}

/* Reads the inputs, computes the members and writes the results; of a whole vector, or of the part at the end of a row. */
static void put_body(struct emitter *emitter, bool is_part)
{
    for (size_t i = 0; i < emitter->n_inputs; i++)
        if (!is_scalar(emitter, i))
            put_load(emitter, i, is_part);
    if (uses_index(emitter))
        put(&emitter->text,
            "            uintv index = (uint)(row * inner + i) + convert_uintv(LANES);\n");
    put_members(emitter, "            ", "\n");
    for (size_t i = 0; i < emitter->n_members; i++)
        if (is_stored(emitter, i))
            put_store(emitter, i, is_part);
}

static void put_kernel(struct emitter *emitter)
{
    struct text *text = &emitter->text;
    put_parameters(emitter);
    put(text, "{\n");
    for (size_t i = 0; i < emitter->n_inputs; i++) {
        const char *type = type_word(emitter->inputs[i]->outputs[0].type);
        if (is_scalar(emitter, i))
            put(text, "    %sv u%zu = (%sv)(load(x%zu + o%zu));\n", type, i, type, i, i);
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

/* ---- The macros ---- */

static void put_result(struct text *text, const char *name, const qn_node *node, bool is_parameter)
{
    if (is_parameter)
        put(text, "global %s *y%s, ", type_in_kernels(node->outputs[0].type), name);
    else
        put(text, "y%s, ", name);
}

/* The parameters of an operation's kernel for its fused nodes, or the same as arguments. */
static void put_list(struct emitter *emitter, bool is_parameters)
{
    struct text *text = &emitter->text;
    put(text, is_parameters ? "ulong fused_width, " : "fused_width, ");
    for (size_t i = 0; i < emitter->n_inputs; i++) {
        const char *type = type_in_kernels(emitter->inputs[i]->outputs[0].type);
        if (is_parameters)
            put(text, "global const %s *x%zu, ulong o%zu, long s%zu_0, long s%zu_1, ", type, i, i,
                i, i);
        else
            put(text, "x%zu, o%zu, s%zu_0, s%zu_1, ", i, i, i, i);
    }
    for (size_t i = 0; i < emitter->n_constants; i++)
        put(text, is_parameters ? "float c%zu, " : "c%zu, ", i);
    if (stores_product(emitter))
        put_result(text, "_product", emitter->step->node, is_parameters);
    for (size_t i = 0; i + 1 < emitter->n_members; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        if (is_stored(emitter, i))
            put_result(text, number, emitter->members[i], is_parameters);
    }
}

static void put_row_load(struct emitter *emitter, size_t i)
{
    struct text *text = &emitter->text;
    enum qn_type type = emitter->inputs[i]->outputs[0].type;
    const char *word = type_word(type);
    ptrdiff_t stride = emitter->stride[i][1];
    if (stride == 0)
        put(text, "%sv u%zu = (%sv)(load(x%zu + o%zu + at_row * s%zu_0)); ", word, i, word, i, i,
            i);
    else if (stride == 1 && type != QN_I32)
        put(text,
            "floatv u%zu = load_row(x%zu + o%zu + at_row * s%zu_0, at_column, at_end, 0.0f); ", i,
            i, i, i);
    else
        put(text,
            "%sv u%zu = load_strided(x%zu + o%zu + at_row * s%zu_0, at_column, at_end - 1, "
            "s%zu_1); ",
            word, i, i, i, i, i);
}

/* FUSED(v, row, column, end), whose operands may have the names of what is declared here: they are read first. */
static void put_fused(struct emitter *emitter)
{
    struct text *text = &emitter->text;
    put(text, "{ ulong at_row = (row), at_column = (column), at_end = (end); ");
    for (size_t i = 0; i < emitter->n_inputs; i++)
        put_row_load(emitter, i);
    if (uses_index(emitter))
        put(text,
            "uintv index = (uint)(at_row * fused_width + at_column) + convert_uintv(LANES); ");
    if (has_epilogue(emitter->step))
        put(text, "floatv product = %s(v); ", rounding(emitter->step->node->outputs[0].type));
    put_members(emitter, "", " ");
    if (stores_product(emitter))
        put(text, "store_row(product, y_product + at_row * fused_width, at_column, at_end); ");
    for (size_t i = 0; i + 1 < emitter->n_members; i++)
        if (is_stored(emitter, i))
            put(text, "store_row(v%zu, y%zu + at_row * fused_width, at_column, at_end); ", i, i);
    put(text, "v = v%zu; }", emitter->n_members - 1);
}

/* ---- Launches ---- */

static struct emitter *emitter_new(struct qn_launch *launch)
{
    enum { FIRST_SIZE = 4096 };
    struct emitter *emitter = context_alloc(launch->plan->context, 1, sizeof *emitter);
    if (!emitter)
        return NULL;
    const struct step *step = launch->step;
    emitter->plan = launch->plan;
    emitter->step = step;
    emitter->members = step->members + (has_epilogue(step) ? 1 : 0);
    emitter->n_members = step->n_members - (is_group(step) ? 0 : 1);
    qn_node *inputs[FUSE_ROOM];
    size_t count = fuse_inputs(emitter->members, emitter->n_members, inputs);
    for (size_t i = 0; i < count; i++)
        if (inputs[i] != step->node)
            emitter->inputs[emitter->n_inputs++] = inputs[i];
    for (size_t i = 0; i < emitter->n_members; i++)
        add_constants(emitter, emitter->members[i]);
    emitter->text.begin = context_alloc(launch->plan->context, FIRST_SIZE, 1);
    emitter->text.size = FIRST_SIZE;
    emitter->text.failed = !emitter->text.begin;
    return emitter;
}

static void emitter_free(struct emitter *emitter)
{
    if (emitter)
        free(emitter->text.begin);
    free(emitter);
}

static void launch_input(const struct emitter *emitter, struct qn_launch *launch, size_t i)
{
    launch_value(launch, emitter->inputs[i]);
    qn_launch_ulong(launch, value_of(launch->plan, emitter->inputs[i], 0)->layout.offset);
    for (int axis = 0; axis < emitter->rank; axis++)
        qn_launch_ulong(launch, (size_t)emitter->stride[i][axis]);
}

static void launch_kernel(const struct emitter *emitter, struct qn_launch *launch)
{
    size_t rows = 1, inner = emitter->size[emitter->rank - 1];
    for (int axis = 0; axis < emitter->rank - 1; axis++)
        rows *= emitter->size[axis];
    qn_launch_kernel(launch, &emitter->step->source, "fused");
    qn_launch_ulong(launch, rows);
    qn_launch_ulong(launch, inner);
    for (size_t i = 0; i < emitter->n_members; i++)
        if (is_stored(emitter, i))
            launch_value(launch, emitter->members[i]);
    for (int axis = 0; axis < emitter->rank - 1; axis++)
        qn_launch_ulong(launch, emitter->size[axis]);
    for (size_t i = 0; i < emitter->n_inputs; i++)
        launch_input(emitter, launch, i);
    for (size_t i = 0; i < emitter->n_constants; i++)
        qn_launch_float(launch, emitter->constants[i].value);
    qn_launch_items(launch, rows * divide_up(inner, flat_chunk(qn_launch_caps(launch))));
}

void emit_group(struct qn_launch *launch)
{
    struct emitter *emitter = emitter_new(launch);
    char *copy = NULL;
    if (emitter) {
        merge_axes(emitter);
        put_kernel(emitter);
        if (!emitter->text.failed)
            copy = graph_alloc(launch->plan->graph, emitter->text.used + 1);
    }
    if (copy) {
        memcpy(copy, emitter->text.begin, emitter->text.used);
        launch->step->source = (struct qn_source){GENERATED_SOURCE, copy};
        launch_kernel(emitter, launch);
    } else {
        launch->status = QN_ERROR_MEMORY;
    }
    emitter_free(emitter);
}

/* Ends the text as that of a macro. */
static void define(struct emitter *emitter, struct qn_launch *launch, const char *macro)
{
    if (emitter->text.failed)
        launch->status = QN_ERROR_MEMORY;
    else
        qn_launch_define_text(launch, macro, emitter->text.begin);
    emitter->text.used = 0;
}

bool qn_launch_fused(struct qn_launch *launch)
{
    const struct step *step = launch->step;
    if (!step->members || launch->status != QN_OK)
        return false;
    struct emitter *emitter = emitter_new(launch);
    if (!emitter) {
        launch->status = QN_ERROR_MEMORY;
        return false;
    }
    const qn_shape *shape = qn_out(emitter->members[0], 0);
    int rows = has_epilogue(step) ? step->variant->epilogue(step->node)
                                  : step->variant->prologue(step->node);
    size_t width = 1;
    for (int i = rows; i < shape->rank; i++)
        width *= shape->size[i];
    emitter->rank = 2;
    for (size_t i = 0; i < emitter->n_inputs; i++)
        row_strides(&value_of(launch->plan, emitter->inputs[i], 0)->layout, rows,
                    emitter->stride[i]);
    put_list(emitter, true);
    define(emitter, launch, "FUSED_PARAMETERS");
    put_list(emitter, false);
    define(emitter, launch, "FUSED_ARGUMENTS");
    put_fused(emitter);
    define(emitter, launch, "FUSED(v, row, column, end)");

    qn_launch_ulong(launch, width);
    for (size_t i = 0; i < emitter->n_inputs; i++)
        launch_input(emitter, launch, i);
    for (size_t i = 0; i < emitter->n_constants; i++)
        qn_launch_float(launch, emitter->constants[i].value);
    if (stores_product(emitter))
        launch_value(launch, step->node);
    for (size_t i = 0; i + 1 < emitter->n_members; i++)
        if (is_stored(emitter, i))
            launch_value(launch, emitter->members[i]);
    emitter_free(emitter);
    return true;
}
