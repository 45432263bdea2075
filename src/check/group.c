/* Rows of a group in one plan, with each variant that fits. */
#include "check/group.h"

#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "device/memory.h"
#include "graph/plan.h"

#include "check/case.h"

#define TAP_SHARED
#include "tests/tap.h"

/* ---- Guard zones ---- */

enum { SENTINEL = 0x7FC0DEAD /* a NaN */ };

/* The end of what the plan uses of a chunk, and a guard zone. */
static size_t used_of(const qn_plan *plan, size_t chunk)
{
    size_t end = 0;
    for (size_t i = 0; i < plan->n_slots; i++)
        if (plan->slots[i]->chunk == chunk)
            end = size_max(end, plan->slots[i]->offset + plan->slots[i]->bytes);
    return size_min(round_up(end, 4) + GUARD, plan->context->arena->bytes[chunk] / 4 * 4);
}

static void fill_arena(const qn_plan *plan)
{
    const struct arena *arena = plan->context->arena;
    for (size_t chunk = 0; arena && chunk < arena->count; chunk++) {
        uint32_t word = SENTINEL;
        clEnqueueFillBuffer(plan->context->device->queue, arena->chunks[chunk], &word, sizeof word,
                            0, used_of(plan, chunk), 0, NULL, NULL);
    }
}

/* Whether all words outside of intermediates are as they were. */
static bool guards_hold(const qn_plan *plan)
{
    const struct arena *arena = plan->context->arena;
    bool hold = true;
    for (size_t chunk = 0; arena && hold && chunk < arena->count; chunk++) {
        size_t n_words = used_of(plan, chunk) / 4;
        uint32_t *words = malloc(4 * n_words + 4);
        bool *is_used = calloc(n_words + 1, sizeof *is_used);
        if (!words || !is_used)
            bail_out("out of memory");
        cl_int code = clEnqueueReadBuffer(plan->context->device->queue, arena->chunks[chunk],
                                          CL_TRUE, 0, 4 * n_words, words, 0, NULL, NULL);
        for (size_t i = 0; i < plan->n_slots; i++) {
            const struct slot *slot = plan->slots[i];
            if (slot->chunk == chunk)
                memset(is_used + slot->offset / 4, true, divide_up(slot->bytes, 4));
        }
        for (size_t i = 0; hold && i < n_words; i++)
            hold = is_used[i] || words[i] == SENTINEL;
        if (code != CL_SUCCESS || !hold)
            note("chunk %zu was written where no intermediate is", chunk);
        hold = hold && code == CL_SUCCESS;
        free(words);
        free(is_used);
    }
    return hold;
}

static bool tensors_hold(struct check *checks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < checks[i].n_operands; j++) {
            qn_tensor *tensor = checks[i].takes_part ? checks[i].tensor[j] : NULL;
            if (!tensor)
                continue;
            size_t bytes = qn_tensor_bytes(tensor);
            void *values = malloc(bytes);
            if (!values)
                bail_out("out of memory");
            bool same = qn_tensor_read(tensor, values) == QN_OK &&
                        memcmp(values, checks[i].memory[j], bytes) == 0;
            free(values);
            if (!same) {
                note("%s %s: tensor %zu was written", checks[i].row->name, checks[i].shapes, j);
                return false;
            }
        }
    return true;
}

/* ---- A group ---- */

struct group {
    const char *name;
    qn_graph *graph;
    struct check *checks;
    size_t count;
    bool is_row;  /* one row of the group */
    bool is_lost; /* the device is: nothing more runs on it */
};

static qn_plan *plan_of(struct group *group)
{
    qn_node **roots = calloc(group->count * (MAX_INPUTS + 1) + 1, sizeof *roots);
    size_t n_roots = 0;
    if (!roots)
        bail_out("out of memory");
    for (size_t i = 0; i < group->count; i++) {
        struct check *check = &group->checks[i];
        if (!check->takes_part)
            continue;
        roots[n_roots++] = check->out;
        for (size_t j = 0; j < check->n_operands; j++)
            if (check->gradient[j])
                roots[n_roots++] = check->gradient[j];
    }
    qn_plan *plan = n_roots ? qn_plan_new(group->graph, roots, n_roots) : NULL;
    free(roots);
    return plan;
}

static void set_inputs(qn_plan *plan, const struct check *check)
{
    for (size_t i = 0; i < check->n_operands; i++)
        if (!check->tensor[i])
            qn_set(plan, check->whole[i], check->memory[i]);
    if (!check->seed)
        return;
    enum qn_type type = qn_node_type(check->seed);
    void *weight = malloc(qn_type_bytes(type, check->weight.count));
    if (!weight)
        bail_out("out of memory");
    for (size_t i = 0; i < check->weight.count; i++)
        type_put(type, weight, i, check->weight.at[i]);
    qn_set(plan, check->seed, weight);
    free(weight);
}

/* A message of several lines, as of a compiler. */
static void note_lines(const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        note("%.*s", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

/* The bits of all roots, added up in some way. */
static uint64_t fingerprint(qn_plan *plan)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < plan->n_roots; i++) {
        qn_node *root = (qn_node *)plan->roots[i].user;
        void *mark = arrays_mark();
        double *numbers = numbers_of(plan, root);
        size_t bytes = qn_shape_count(qn_node_shape(root)) * sizeof *numbers;
        for (size_t j = 0; j < bytes; j++)
            hash = (hash ^ ((unsigned char *)numbers)[j]) * 0x100000001B3u;
        arrays_free_since(mark);
    }
    return hash;
}

/* Plans and runs the checks that take part; NULL and an error if that fails. */
static qn_plan *run_plan(struct group *group, const char *forced)
{
    qn_context *context = group->graph->context;
    context->only_variant = *forced ? forced : NULL;
    qn_plan *plan = plan_of(group);
    context->only_variant = NULL;
    for (size_t i = 0; plan && i < group->count; i++)
        if (group->checks[i].takes_part)
            set_inputs(plan, &group->checks[i]);
    if (plan)
        fill_arena(plan);
    if (plan && qn_run(plan) == QN_OK && qn_finish(context) == QN_OK)
        return plan;
    qn_plan_free(plan);
    return NULL;
}

static void compare_plan(struct group *group, qn_plan *plan, const char *forced)
{
    const char *space = *forced ? " " : "";
    for (size_t i = 0; i < group->count; i++)
        if (group->checks[i].takes_part)
            check_compare(&group->checks[i], plan, forced);
    ok(guards_hold(plan), "%s%s%s: nothing is written outside of intermediates", group->name, space,
       forced);
    ok(tensors_hold(group->checks, group->count), "%s%s%s: tensors that are read stay as they are",
       group->name, space, forced);
    uint64_t before = fingerprint(plan);
    qn_run(plan);
    ok(before == fingerprint(plan), "%s%s%s: a second run gives the same bits", group->name, space,
       forced);
}

static void fail_check(const struct check *check, const char *forced)
{
    const char *space = *forced ? " " : "";
    qn_context *context = check->graph->context;
    ok(false, "%s %s%s%s: it cannot be run", check->row->name, check->shapes, space, forced);
    note_lines(qn_error(context));
    check_explain(check, forced);
    qn_clear_error(context);
}

/* All of a group in one plan; if that cannot be, one after the other, so that one that does not compile loses no others. */
static void run_variant(struct group *group, const char *forced)
{
    qn_context *context = group->graph->context;
    qn_plan *plan = run_plan(group, forced);
    if (plan)
        compare_plan(group, plan, forced);
    qn_plan_free(plan);
    group->is_lost = context->status == QN_ERROR_DEVICE && !group->is_row;
    if (plan && *qn_error(context)) {
        ok(false, "%s %s: %s", group->name, forced, qn_error(context));
        qn_clear_error(context);
    }
    for (size_t i = 0; !plan && !group->is_lost && i < group->count; i++) {
        struct group one = {
            .name = group->name, .graph = group->graph, .checks = &group->checks[i], .count = 1};
        if (!group->checks[i].takes_part)
            continue;
        qn_clear_error(context);
        qn_plan *alone = run_plan(&one, forced);
        group->is_lost = context->status == QN_ERROR_DEVICE;
        if (alone)
            compare_plan(&one, alone, forced);
        else
            fail_check(&group->checks[i], forced);
        qn_plan_free(alone);
    }
}

/* Beginnings of the names of rows of operations that take f32 only; of operands that would no longer differ in 16 bits; and of gradients
 * that are small differences of probabilities near 1. */
static const char *const of_f32[] = {"cumsum", "argmax",  "top_",        "sample",
                                     "adamw",  "max_all", "softmax_high"};

static bool has_type(const struct row *row, enum qn_type type)
{
    bool is_f32 = false;
    for (size_t i = 0; i < sizeof of_f32 / sizeof *of_f32; i++)
        is_f32 = is_f32 || strncmp(row->name, of_f32[i], strlen(of_f32[i])) == 0;
    return type == QN_F32 || !is_f32;
}

bool is_wanted(const struct check_options *options, const struct row *row, enum qn_type type)
{
    bool is_named = options->n_names == 0;
    for (size_t i = 0; !is_named && i < options->n_names; i++)
        is_named =
            strcmp(options->names[i], row->group) == 0 || strcmp(options->names[i], row->name) == 0;
    return is_named && (!options->gradients_only || row->wrt) && has_type(row, type);
}

/* Names of variants that fit some node of the graph but are not its first, each once. */
static size_t alternatives(const qn_graph *graph, const struct check *checks, size_t count,
                           const char **names, size_t most)
{
    size_t found = 0;
    for (size_t id = 0; id < graph->count; id++)
        for (size_t i = 0; i < graph->nodes[id]->op->n_variants; i++) {
            const char *name = graph->nodes[id]->op->variants[i].name;
            bool is_known = false, is_wanted = false;
            for (size_t j = 0; j < found; j++)
                is_known = is_known || strcmp(names[j], name) == 0;
            for (size_t j = 0; !is_known && j < count; j++)
                is_wanted =
                    is_wanted || (checks[j].is_built && check_has_alternative(&checks[j], name));
            if (is_wanted && found < most)
                names[found++] = name;
        }
    return found;
}

bool run_group(qn_context *context, const struct check_options *options, enum qn_type type,
               const struct row *rows, size_t n_rows)
{
    struct group group = {
        .name = rows->group, .graph = qn_graph_new(context), .is_row = n_rows == 1};
    group.checks = calloc(n_rows * MAX_CASES, sizeof *group.checks);
    if (!group.graph || !group.checks)
        bail_out("out of memory");
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; is_wanted(options, &rows[i], type) && j < MAX_CASES && rows[i].cases[j];
             j++) {
            struct check *check = &group.checks[group.count++];
            *check = (struct check){.options = options,
                                    .type = type,
                                    .row = &rows[i],
                                    .shapes = rows[i].cases[j],
                                    .graph = group.graph};
            check_build(check);
            check->takes_part = check->is_built;
        }
    const char *names[64];
    size_t n_names =
        options->chosen_only ? 0 : alternatives(group.graph, group.checks, group.count, names, 64);
    bool takes_part = !options->variant && group.count;
    for (size_t i = 0; options->variant && i < group.count; i++) {
        struct check *check = &group.checks[i];
        check->takes_part =
            check->is_built && strcmp(check_variant(check, ""), options->variant) == 0;
        takes_part = takes_part || check->takes_part;
    }
    if (takes_part)
        run_variant(&group, "");
    for (size_t i = 0; !group.is_lost && i < n_names; i++) {
        if (options->variant && strcmp(options->variant, names[i]) != 0)
            continue;
        for (size_t j = 0; j < group.count; j++)
            group.checks[j].takes_part =
                group.checks[j].is_built && check_has_alternative(&group.checks[j], names[i]);
        run_variant(&group, names[i]);
    }
    for (size_t i = 0; i < group.count; i++)
        check_free(&group.checks[i]);
    free(group.checks);
    qn_graph_free(group.graph);
    arrays_free();
    return !group.is_lost;
}
