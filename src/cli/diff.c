/* quern diff: what two devices, or two settings of one, compute differently. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <quern/train.h>

#include "cli/cli.h"
#include "cli/device_json.h"
#include "cli/train/run.h"

/* A, or B: a setting, and a step of training on it. */
struct side {
    const char *setting;
    char *words; /* a copy, cut where its commas were */
    struct qn_options device;
    qn_context *qn;
    qn_lm *lm;
    qn_trainer *trainer;
    qn_node *inputs, *targets;
};

/* ---- Settings ---- */

static int set_key(struct side *side, const char *key, char *value, const struct options *options)
{
    if (strcmp(key, "caps") == 0) {
        side->device.caps = value;
        for (char *colon = value; (colon = strchr(colon, ':'));)
            *colon = ',';
    } else if (strcmp(key, "cl") == 0) {
        side->device.cl_dir = value;
    } else if (strcmp(key, "gemm") == 0) {
        side->device.gemm = value;
    } else if (strcmp(key, "variant") == 0) {
        side->device.variant = value;
    } else {
        return usage_error(options,
                           "%s: there is no key \"%s\"; there are caps, cl, gemm and variant",
                           side->setting, key);
    }
    return EXIT_SUCCESS;
}

static int read_setting(struct side *side, const struct options *options)
{
    side->words = strdup(side->setting);
    if (!side->words)
        return failure(options, "out of memory");
    char *next = side->words, *word = strsep(&next, ",");
    int status = EXIT_SUCCESS;
    side->device.keep_origins = true;
    side->device.device = *word ? word : NULL;
    while (status == EXIT_SUCCESS && (word = strsep(&next, ","))) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        if (value && *value)
            status = set_key(side, word, value, options);
        else if (value || *word)
            status =
                usage_error(options, "%s: \"%s\" has no value: KEY=VALUE", side->setting, word);
    }
    return status;
}

/* ---- The model ---- */

/* Odd sizes: what kernels do behind the last whole tile counts, too. */
static struct qn_lm_config built_in(size_t context)
{
    return (struct qn_lm_config){.vocab_size = 131,
                                 .n_positions = context,
                                 .n_embd = 72,
                                 .n_layer = 2,
                                 .n_head = 3,
                                 .n_inner = 250,
                                 .layer_norm_epsilon = 1e-5,
                                 .embd_pdrop = 0.1,
                                 .resid_pdrop = 0.1,
                                 .activation = QN_GELU,
                                 .tie_word_embeddings = true,
                                 .bos_token_id = -1,
                                 .eos_token_id = -1};
}

static bool make_model(struct side *side, const struct options *options)
{
    const char *model = options_string(options, "model");
    if (model) {
        char *folder = qn_model_folder(side->qn, model);
        side->lm = folder ? qn_lm_load(side->qn, folder) : NULL;
        free(folder);
        return side->lm;
    }
    struct qn_lm_config config = built_in((size_t)options_integer(options, "context"));
    side->lm = qn_lm_new(side->qn, &config);
    return side->lm &&
           qn_lm_initialise(side->lm, (uint64_t)options_integer(options, "seed")) == QN_OK;
}

static bool make_step(struct side *side, const struct options *options)
{
    enum qn_type type;
    type_named(options_string(options, "dtype"), &type);
    struct qn_training training = {.schedule = {.kind = QN_CONSTANT, .rate = 1e-3},
                                   .optimizer = qn_optimizer_defaults(QN_ADAMW),
                                   .clip = 1,
                                   .seed = (uint64_t)options_integer(options, "seed"),
                                   .loss_scale = type == QN_F16 ? 1024 : 0};
    side->trainer = qn_trainer_new(qn_lm_parameters(side->lm), &training);
    if (!side->trainer)
        return false;
    qn_graph *graph = qn_trainer_graph(side->trainer);
    qn_shape shape = QN_SHAPE((size_t)options_integer(options, "batch"),
                              (size_t)options_integer(options, "context"));
    side->inputs = qn_input(graph, "inputs", QN_I32, shape);
    side->targets = qn_input(graph, "targets", QN_I32, shape);
    struct qn_lm_forward forward = {.type = type,
                                    .loss_scale = qn_trainer_loss_scale(side->trainer),
                                    .dropout_key = qn_trainer_key(side->trainer)};
    return qn_trainer_minimise(side->trainer,
                               qn_lm_loss(side->lm, side->inputs, side->targets, forward)) == QN_OK;
}

static int open_side(struct side *side, const struct options *options)
{
    int status = read_setting(side, options);
    if (status != EXIT_SUCCESS)
        return status;
    side->qn = qn_open_with(&side->device);
    if (!side->qn)
        return failure(options, "%s: %s", side->setting, qn_error(NULL));
    if (!make_model(side, options) || !make_step(side, options))
        return failure(options, "%s: %s", side->setting, qn_error(side->qn));
    return EXIT_SUCCESS;
}

static void close_side(struct side *side)
{
    qn_trainer_free(side->trainer);
    qn_lm_free(side->lm);
    qn_close(side->qn);
    free(side->words);
}

/* Random tokens, and each the one that follows. */
static bool set_batch(struct side *side, uint64_t seed)
{
    size_t count = qn_shape_count(qn_node_shape(side->inputs));
    size_t vocabulary = qn_lm_config(side->lm)->vocab_size;
    int32_t *tokens = calloc(count + 1, sizeof *tokens);
    if (!tokens)
        return false;
    for (size_t i = 0; i <= count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u; /* Knuth's */
        tokens[i] = (int32_t)((seed >> 33) % vocabulary);
    }
    qn_plan *plan = qn_trainer_plan(side->trainer);
    bool is_set = qn_set(plan, side->inputs, tokens) == QN_OK &&
                  qn_set(plan, side->targets, tokens + 1) == QN_OK;
    free(tokens);
    return is_set;
}

/* Steps that A takes alone, so that moments are not zero. */
static bool warm_up(struct side *side)
{
    enum { STEPS = 2 };
    bool ok = true;
    for (int i = 0; ok && i < STEPS; i++)
        ok = qn_trainer_pass(side->trainer) == QN_OK;
    return ok && qn_finish(side->qn) == QN_OK;
}

/* ---- Reports ---- */

static const char *kind_text(const struct qn_difference *found)
{
    switch (found->kind) {
    case QN_NODE_DIFFERS:
        return "node";
    case QN_FUSED_DIFFERS:
        return found->is_a ? "fused step of A" : "fused step of B";
    case QN_RUN_DIFFERS:
        return "whole run";
    case QN_NO_DIFFERENCE:
        break;
    }
    return "none";
}

static void append_word(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);
    bool is_plain =
        *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789_-./,:+@%=")];
    if (is_plain) {
        snprintf(text + used, size - used, " %s", word);
        return;
    }
    snprintf(text + used, size - used, " '");
    for (; *word; word++) {
        used = strlen(text);
        snprintf(text + used, size - used, *word == '\'' ? "'\\''" : "%c", *word);
    }
    used = strlen(text);
    snprintf(text + used, size - used, "'");
}

/* The command line once more. */
static void repeat_command(const struct options *options, char *text, size_t size)
{
    int count;
    char *const *words = options_words(options, &count);
    snprintf(text, size, "quern diff");
    for (int i = 0; i < count; i++)
        append_word(text, size, words[i]);
}

static void print_side(const char *name, const struct side *side,
                       const struct qn_difference_side *found)
{
    printf("%s         %s: %s\n", name, side->setting, qn_device_name(side->qn));
    if (*found->kernels)
        printf("          %s%s%s\n", found->variant, *found->variant ? ": " : "", found->kernels);
}

static void print_difference(const struct side *sides, const struct qn_difference *found,
                             const char *command)
{
    if (found->kind == QN_NO_DIFFERENCE) {
        printf("No difference beyond rounding in %zu nodes, %zu fused steps and the whole run:\n"
               "A         %s: %s\nB         %s: %s\n",
               found->nodes, found->fused, sides[0].setting, qn_device_name(sides[0].qn),
               sides[1].setting, qn_device_name(sides[1].qn));
        return;
    }
    const struct side *wrong = found->is_a ? &sides[0] : &sides[1];
    printf("differs   %s: %s\n", kind_text(found), found->what);
    printf("by        %.4g units in the last place, where rounding costs at most %.4g (a unit is "
           "%.3g)\n",
           found->ulps, found->allowed, found->unit);
    printf("element   %s of %s, the first of %zu that differ: %.9g, not %.9g\n", found->element,
           found->output, found->different, found->side[1].value, found->side[0].value);
    if (*found->inputs)
        printf("inputs    %s\n", found->inputs);
    if (*found->built)
        printf("built by  %s\n", found->built);
    if (found->kind == QN_FUSED_DIFFERS) {
        print_side(found->is_a ? "A" : "B", wrong, &found->side[1]);
        printf("          against its nodes, each in a kernel of its own, on A\n");
    }
    if (found->kind != QN_FUSED_DIFFERS || !found->is_a)
        print_side("A", &sides[0], &found->side[0]);
    if (found->kind != QN_FUSED_DIFFERS)
        print_side("B", &sides[1], &found->side[1]);
    printf("again     %s\n", command);
}

static json_t *number_json(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

static json_t *side_json(const struct side *side, const struct qn_difference_side *found)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "setting", text_json(side->setting), "device",
                     text_json(qn_device_name(side->qn)), "variant", text_json(found->variant),
                     "kernels", text_json(found->kernels), "value", number_json(found->value));
}

static void print_json(const struct side *sides, const struct qn_difference *found,
                       const char *command)
{
    json_t *all = json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o}",
        "differs", kind_text(found), "nodes", (json_int_t)found->nodes, "fused",
        (json_int_t)found->fused, "what", text_json(found->what), "built", text_json(found->built),
        "inputs", text_json(found->inputs), "output", text_json(found->output), "element",
        text_json(found->element), "ulps", number_json(found->ulps), "allowed",
        number_json(found->allowed), "unit", number_json(found->unit), "different",
        (json_int_t)found->different, "elements", (json_int_t)found->elements, "a",
        side_json(&sides[0], &found->side[0]), "b", side_json(&sides[1], &found->side[1]),
        "command", text_json(command));
    json_dumpf(all, stdout, JSON_INDENT(2));
    json_decref(all);
    printf("\n");
}

/* ---- The command ---- */

static int compare(struct side *sides, const struct options *options)
{
    struct qn_difference found;
    char command[4096];
    uint64_t seed = (uint64_t)options_integer(options, "seed");
    bool ok = set_batch(&sides[0], seed) && warm_up(&sides[0]) &&
              qn_diff(qn_trainer_plan(sides[0].trainer), qn_trainer_plan(sides[1].trainer),
                      &found) == QN_OK;
    for (int i = 0; !ok && i < 2; i++)
        if (*qn_error(sides[i].qn))
            return failure(options, "%s: %s", sides[i].setting, qn_error(sides[i].qn));
    if (!ok)
        return failure(options, "out of memory");
    repeat_command(options, command, sizeof command);
    if (options_flag(options, "json"))
        print_json(sides, &found, command);
    else
        print_difference(sides, &found, command);
    if (fflush(stdout) != 0)
        return failure(options, "the report cannot be written");
    return found.kind == QN_NO_DIFFERENCE ? EXIT_SUCCESS : EXIT_FAILED;
}

int command_diff(const struct options *options)
{
    struct side sides[2] = {0};
    if (options_operands(options) != 2)
        return usage_error(options, "expected two settings, A and B");
    int status = EXIT_SUCCESS;
    for (size_t i = 0; status == EXIT_SUCCESS && i < 2; i++) {
        sides[i].setting = options_operand_at(options, i);
        status = open_side(&sides[i], options);
    }
    if (status == EXIT_SUCCESS)
        status = compare(sides, options);
    close_side(&sides[0]);
    close_side(&sides[1]);
    return status;
}
