/* A GPT (Radford et al., 2019) in one file, from nothing but operations: its parameters, its graph,
 * AdamW, and sampling.
 *
 *     cc gpt.c $(pkg-config --cflags --libs quern) -o gpt
 *     ./gpt [STEPS [FILE]]
 *
 * It reads the bytes of FILE (or of a rhyme that it knows) as tokens, trains on random windows of
 * them, prints the loss as it goes, and then writes some text of its own.  `quern train gpt` does
 * this with more care. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quern/train.h>

enum { LAYERS = 2, HEADS = 4, WIDTH = 64, CONTEXT = 32, BATCH = 8, BYTES = 256 };

static const char rhyme[] =
    "This is the house that Jack built.\n\n"
    "This is the malt\nThat lay in the house that Jack built.\n\n"
    "This is the rat,\nThat ate the malt\nThat lay in the house that Jack built.\n\n"
    "This is the cat,\nThat killed the rat,\nThat ate the malt\nThat lay in the house that Jack "
    "built.\n\n"
    "This is the dog,\nThat worried the cat,\nThat killed the rat,\nThat ate the malt\n"
    "That lay in the house that Jack built.\n\n"
    "This is the cow with the crumpled horn,\nThat tossed the dog,\nThat worried the cat,\n"
    "That killed the rat,\nThat ate the malt\nThat lay in the house that Jack built.\n";

/* ---- The model ---- */

/* A weight and a bias: of a linear layer, or of a norm. */
struct layer {
    qn_tensor *weight, *bias;
};

struct block {
    struct layer norm_1, attention, projection, norm_2, up, down;
};

struct model {
    qn_store *parameters;
    qn_tensor *tokens, *positions; /* (V, C), (T, C) */
    struct block blocks[LAYERS];
    struct layer norm;
};

/* A matrix, which decays, begins with small random numbers; a vector of `rows` 0, with ones. */
static struct layer layer_new(qn_store *store, const char *name, size_t rows, size_t columns)
{
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    return (struct layer){
        rows ? qn_store_add(store, weight, QN_F32, QN_SHAPE(rows, columns), QN_DECAY)
             : qn_store_add(store, weight, QN_F32, QN_SHAPE(columns), QN_NO_DECAY),
        qn_store_add(store, bias, QN_F32, QN_SHAPE(columns), QN_NO_DECAY)};
}

static void model_new(struct model *model, qn_context *qn)
{
    qn_store *store = model->parameters = qn_store_new(qn, "parameters");
    model->tokens = qn_store_add(store, "tokens", QN_F32, QN_SHAPE(BYTES, WIDTH), QN_DECAY);
    model->positions = qn_store_add(store, "positions", QN_F32, QN_SHAPE(CONTEXT, WIDTH), QN_DECAY);
    for (int i = 0; i < LAYERS; i++) {
        struct block *block = &model->blocks[i];
        const struct {
            struct layer *layer;
            const char *name;
            size_t rows, columns;
        } layers[] = {{&block->norm_1, "norm_1", 0, WIDTH},
                      {&block->attention, "attention", WIDTH, 3 * WIDTH},
                      {&block->projection, "projection", WIDTH, WIDTH},
                      {&block->norm_2, "norm_2", 0, WIDTH},
                      {&block->up, "up", WIDTH, 4 * WIDTH},
                      {&block->down, "down", 4 * WIDTH, WIDTH}};
        for (size_t j = 0; j < sizeof layers / sizeof *layers; j++) {
            char name[48];
            snprintf(name, sizeof name, "%d.%s", i, layers[j].name);
            *layers[j].layer = layer_new(store, name, layers[j].rows, layers[j].columns);
        }
    }
    model->norm = layer_new(store, "norm", 0, WIDTH);
    qn_store_seal(store); /* zeroed */
    for (size_t i = 0; i < qn_store_count(store); i++) {
        qn_tensor *tensor = qn_store_tensor(store, i);
        if (qn_tensor_shape(tensor).rank == 2)
            qn_fill_normal(tensor, 0, 0.02, 1337);
        else if (strstr(qn_tensor_name(tensor), "norm") && strstr(qn_tensor_name(tensor), "weight"))
            qn_fill(tensor, 1);
    }
}

static qn_node *linear(qn_node *x, struct layer layer)
{
    qn_graph *graph = qn_node_graph(x);
    return qn_linear(x, qn_leaf(graph, layer.weight), qn_leaf(graph, layer.bias));
}

static qn_node *norm(qn_node *x, struct layer layer)
{
    qn_graph *graph = qn_node_graph(x);
    return qn_layer_norm(x, qn_leaf(graph, layer.weight), qn_leaf(graph, layer.bias), 1e-5);
}

/* x (B, T, C) -> (B, T, C): each place looks at those before it. */
static qn_node *attention(qn_node *x, const struct block *block)
{
    size_t rows = qn_node_shape(x).size[0], length = qn_node_shape(x).size[1];
    qn_node *parts[3]; /* query, key, value */
    qn_split(linear(x, block->attention), -1, 3, parts);
    for (int i = 0; i < 3; i++)
        parts[i] = qn_reshape(parts[i], QN_SHAPE(rows, length, HEADS, WIDTH / HEADS));
    qn_node *y =
        qn_attention(parts[0], parts[1], parts[2], (struct qn_attention){.is_causal = true});
    return linear(qn_reshape(y, QN_SHAPE(rows, length, WIDTH)), block->projection);
}

/* Logits (B, T, V) of tokens (B, T). */
static qn_node *logits_of(const struct model *model, qn_node *tokens)
{
    qn_graph *graph = qn_node_graph(tokens);
    qn_node *table = qn_leaf(graph, model->tokens);
    qn_node *places =
        qn_slice(qn_leaf(graph, model->positions), 0, 0, qn_node_shape(tokens).size[1]);
    qn_node *x = qn_add(qn_embedding(table, tokens), places);
    for (int i = 0; i < LAYERS; i++) {
        const struct block *block = &model->blocks[i];
        x = qn_add(x, attention(norm(x, block->norm_1), block));
        qn_node *inner = qn_gelu(linear(norm(x, block->norm_2), block->up));
        x = qn_add(x, linear(inner, block->down));
    }
    return qn_matmul_with(norm(x, model->norm), table, (struct qn_matmul){.transpose_b = true});
}

/* ---- Training: gradients, clipping and AdamW are nodes too; a step is one plan ---- */

enum { MOST_PARAMETERS = 12 * LAYERS + 4, MOST_ROOTS = 16 };

static size_t add_updates(const struct model *model, qn_node *loss, qn_tensor *step,
                          qn_store *const moments[2], int steps, qn_node **roots)
{
    qn_graph *graph = qn_node_graph(loss);
    qn_store *store = model->parameters;
    qn_node *leaves[MOST_PARAMETERS], *gradients[MOST_PARAMETERS];
    size_t count = qn_store_count(store), n_roots = 0;
    for (size_t i = 0; i < count; i++)
        leaves[i] = qn_leaf(graph, qn_store_tensor(store, i));
    qn_gradients(loss, NULL, leaves, count, gradients);

    /* A store has a buffer for each group: those that decay and those that do not, updated at once.
     */
    qn_node *packed[QN_GROUPS], *squares = qn_constant(graph, 0);
    for (size_t i = 0; i < qn_store_buffers(store); i++) {
        packed[i] = qn_pack(store, i, gradients);
        squares = qn_add(squares, qn_sum_squares(packed[i]));
    }
    qn_node *length = qn_sqrt(squares), *one = qn_constant(graph, 1);
    qn_node *scale =
        qn_minimum(qn_div(one, qn_offset(length, 1e-6)), one); /* clipped to length 1 */
    qn_node *done = qn_leaf(graph, step), *number = qn_offset(done, 1);
    struct qn_schedule schedule = {
        .kind = QN_COSINE, .rate = 3e-3, .min_rate = 3e-4, .warmup = steps / 10.0, .total = steps};
    qn_node *rate = qn_learning_rate(done, schedule);
    for (size_t i = 0; i < qn_store_buffers(store); i++) {
        bool decays = qn_store_buffer_group(store, i) == QN_DECAY;
        qn_tensor *written[3] = {qn_store_buffer(store, i), qn_store_buffer(moments[0], i),
                                 qn_store_buffer(moments[1], i)};
        qn_node *update =
            qn_adamw(qn_leaf(graph, written[0]), qn_leaf(graph, written[1]),
                     qn_leaf(graph, written[2]), packed[i], rate, scale, number,
                     qn_is_finite(length), (struct qn_adamw){0.9, 0.99, 1e-8, decays ? 0.1 : 0});
        for (int j = 0; j < 3; j++)
            roots[n_roots++] = qn_assign(written[j], qn_output(update, j));
    }
    roots[n_roots++] = qn_assign(step, number);
    return n_roots;
}

static int fail(const char *message)
{
    fprintf(stderr, "gpt: %s\n", message);
    return 1;
}

static int train(const struct model *model, qn_context *qn, qn_dataset *text, int steps)
{
    qn_store *moments[2] = {qn_store_like(model->parameters, "m"),
                            qn_store_like(model->parameters, "v")};
    qn_tensor *step = qn_tensor_new(qn, "step", QN_F32, QN_SCALAR);
    qn_fill(step, 0);
    qn_graph *graph = qn_graph_new(qn);
    qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(BATCH, CONTEXT));
    qn_node *targets = qn_input(graph, "targets", QN_I32, QN_SHAPE(BATCH, CONTEXT));
    qn_node *roots[MOST_ROOTS] = {qn_cross_entropy(logits_of(model, tokens), targets)};
    size_t count = 1 + add_updates(model, roots[0], step, moments, steps, roots + 1);
    qn_plan *plan = qn_plan_new(graph, roots, count);
    int32_t inputs[BATCH * CONTEXT], next[BATCH * CONTEXT];
    for (int i = 0; plan && i < steps; i++) {
        qn_dataset_random(text, 1337, (uint64_t)i, 0, BATCH, inputs, next);
        qn_set(plan, tokens, inputs);
        qn_set(plan, targets, next);
        qn_run(plan);
        if (i % 50 == 0 || i == steps - 1) /* only here the host waits */
            printf("step %4d  loss %.4f\n", i + 1, (double)qn_get_f32(plan, roots[0]));
    }
    qn_plan_free(plan);
    qn_graph_free(graph);
    qn_tensor_free(step);
    qn_store_free(moments[0]);
    qn_store_free(moments[1]);
    return *qn_error(qn) ? fail(qn_error(qn)) : 0;
}

/* ---- Writing: the last CONTEXT bytes give the next one ---- */

static int write_text(const struct model *model, qn_context *qn, const char *prompt, int bytes)
{
    qn_graph *graph = qn_graph_new(qn);
    qn_node *tokens = qn_input(graph, "tokens", QN_I32, QN_SHAPE(1, CONTEXT));
    qn_node *key = qn_input(graph, "key", QN_I32, QN_SHAPE(2)); /* of the random numbers */
    qn_node *last = qn_slice(logits_of(model, tokens), 1, CONTEXT - 1, CONTEXT);
    qn_node *next = qn_sample(qn_reshape(last, QN_SHAPE(1, BYTES)), key,
                              (struct qn_sample){.temperature = 0.8f, .top_k = 50});
    qn_plan *plan = qn_plan_new(graph, &next, 1);
    int32_t window[CONTEXT + 1];
    for (int i = 0; i < CONTEXT; i++)
        window[i] = (unsigned char)prompt[i];
    printf("\n%.*s", CONTEXT, prompt);
    for (int i = 0; plan && i < bytes; i++) {
        qn_set(plan, tokens, window);
        qn_set(plan, key, (int32_t[2]){1337, i});
        qn_run(plan);
        if (qn_get(plan, next, &window[CONTEXT]) != QN_OK)
            break;
        putchar(window[CONTEXT]);
        memmove(window, window + 1, CONTEXT * sizeof *window);
    }
    putchar('\n');
    qn_plan_free(plan);
    qn_graph_free(graph);
    return *qn_error(qn) ? fail(qn_error(qn)) : 0;
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 500;
    qn_context *qn = qn_open(NULL); /* QUERN_DEVICE, or the best there is */
    if (!qn)
        return fail(qn_error(NULL));
    size_t bytes = sizeof rhyme - 1;
    char *file = argc > 2 ? qn_text_read(qn, (const char *[]){argv[2]}, 1, &bytes) : NULL;
    const char *text = file ? file : rhyme;
    qn_tokenizer *tokenizer = qn_tokenizer_byte(qn);
    qn_dataset *dataset =
        qn_dataset_new(tokenizer, argc > 2 ? argv[2] : "the rhyme", text, bytes, CONTEXT);
    struct model model;
    model_new(&model, qn);
    int status = 1;
    if (*qn_error(qn)) /* the first thing that went wrong so far */
        fail(qn_error(qn));
    else if (train(&model, qn, dataset, steps) == 0)
        status = write_text(&model, qn, text, 300);
    qn_store_free(model.parameters);
    qn_dataset_free(dataset);
    qn_tokenizer_free(tokenizer);
    free(file);
    qn_close(qn);
    return status;
}
