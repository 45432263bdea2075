/* The products that are tried. */
#include "cli/tune/tune.h"

#include <stdlib.h>

enum { M, N, K };

static bool add(struct products *products, enum qn_type type, const size_t sizes[3], size_t variant)
{
    const struct gemm_problem problem = {.m = sizes[M],
                                         .n = sizes[N],
                                         .k = sizes[K],
                                         .transpose_a = variant == TN || variant == TT,
                                         .transpose_b = variant == NT || variant == TT};
    struct product product = {.type = type,
                              .sizes = {sizes[M], sizes[N], sizes[K]},
                              .variant = variant,
                              .of = tuning_class_of(type, &problem)};
    for (size_t i = 0; i < products->count; i++)
        if (tuning_class_equal(&products->at[i].of, &product.of))
            return true;
    if (products->count == products->capacity) {
        size_t capacity = products->capacity ? 2 * products->capacity : 64;
        struct product *at = realloc(products->at, capacity * sizeof *at);
        if (!at)
            return false;
        products->at = at;
        products->capacity = capacity;
    }
    products->at[products->count++] = product;
    return true;
}

bool products_add_shapes(struct products *products, enum qn_type type, const char *shapes)
{
    size_t sizes[MOST_SIZES], count;
    do {
        if (!read_shape(&shapes, sizes, &count))
            return false;
        for (size_t variant = NN; variant <= TT; variant++)
            if (!add(products, type, sizes, variant))
                return false;
    } while (*shapes++ == ',');
    return true;
}

/* Rows through a layer: what it gives, and if it is trained, the gradients of rows and weights.  Weights lie in either order. */
static bool add_layer(struct products *products, enum qn_type type, size_t rows, size_t from,
                      size_t to, bool is_trained)
{
    const size_t forward[] = {rows, to, from}, of_rows[] = {rows, from, to},
                 of_weights[] = {from, to, rows}, of_transposed[] = {to, from, rows};
    return add(products, type, forward, NN) && add(products, type, forward, NT) &&
           (!is_trained ||
            (add(products, type, of_rows, NT) && add(products, type, of_rows, NN) &&
             add(products, type, of_weights, TN) && add(products, type, of_transposed, TN)));
}

bool products_add_usual(struct products *products, enum qn_type type)
{
    static const struct {
        size_t rows, from, to;
        bool is_trained;
    } layers[] = {
        {512, 768, 2304, true}, /* GPT-2 124M, 512 tokens; of most time first */
        {512, 3072, 768, true},  {512, 768, 768, true}, {768, 128, 512, true}, /* nanoGPT's */
        {768, 512, 128, true},   {768, 128, 128, true}, {1, 768, 3072, false}, /* a token */
        {1, 3072, 768, false},   {1, 768, 768, false},  {1, 768, 50257, false},
        {512, 768, 50257, true},
    };
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (!add_layer(products, type, layers[i].rows, layers[i].from, layers[i].to,
                       layers[i].is_trained))
            return false;
    return true;
}
