/* The choice of shapes.
 *
 * Every shape is a plan on the device, so there can be a few dozen.  Examples are cut into bands by their first length, and each band
 * into shapes by the second: by dynamic programming over the counts of examples by both lengths, so that the places of all examples
 * and a price for each shape sum to the least.  The price is raised until there are few enough: as
 * many as were asked for, or those that it takes to pad little.
 *
 * Batches are full: examples that are left move to the smallest larger shape that holds them, those first that lose least by it. */
#include "text/data/shapes.h"

#include <stdlib.h>
#include <string.h>

/* ---- Where lengths may be cut ---- */

enum { MOST_CUTS = 64, MOST_SHAPES = 48 };

struct cuts {
    uint32_t at[MOST_CUTS]; /* ascending; the last is the longest length */
    size_t count;
};

static size_t longest(const struct example *examples, size_t count, int which)
{
    uint32_t most = 0;
    for (size_t i = 0; i < count; i++)
        most = examples[i].lengths[which] > most ? examples[i].lengths[which] : most;
    return most;
}

/* All lengths that occur; or, of many, so that about equally much text is between two. */
static bool find_cuts(qn_context *context, const struct example *examples, size_t count, int which,
                      struct cuts *cuts)
{
    size_t most = longest(examples, count, which), different = 0;
    uint64_t all = 0, before = 0;
    size_t *counts = context_alloc(context, most + 1, sizeof *counts);
    if (!counts)
        return false;
    for (size_t i = 0; i < count; i++)
        counts[examples[i].lengths[which]]++;
    for (size_t length = 0; length <= most; length++) {
        different += counts[length] > 0;
        all += (uint64_t)counts[length] * length;
    }
    cuts->count = 0;
    for (size_t length = 0; length <= most; length++) {
        before += (uint64_t)counts[length] * length;
        bool is_cut = different <= MOST_CUTS || length == most ||
                      before * (MOST_CUTS - 1) / all > cuts->count;
        if (counts[length] > 0 && is_cut)
            cuts->at[cuts->count++] = (uint32_t)length;
    }
    free(counts);
    return true;
}

/* The first cut that is not below a length. */
static size_t find_cut(const struct cuts *cuts, size_t length)
{
    size_t low = 0, high = cuts->count - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cuts->at[middle] < length)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- Dynamic programming ---- */

struct choice {
    struct cuts first, second;
    uint64_t counts[MOST_CUTS + 1][MOST_CUTS + 1]; /* of examples before both cuts */
    uint64_t price;                                /* of a shape, in places */
    uint64_t cost[MOST_CUTS + 1];                  /* of all bands before a cut */
    size_t band[MOST_CUTS + 1];                    /* where the last of them begins */
    size_t n_shapes;
    uint64_t ids; /* of all examples */
};

/* Cuts of a band: of all shapes before a cut the least cost, and where the last of them begins. */
struct band {
    uint64_t cost[MOST_CUTS + 1], count[MOST_CUTS + 1]; /* of examples before a cut */
    size_t begin[MOST_CUTS + 1];
};

/* The best cuts of the band of first lengths from cut `top` to below `bottom`. */
static uint64_t cut_band(const struct choice *choice, size_t top, size_t bottom, struct band *band)
{
    size_t n_cuts = choice->second.count;
    band->cost[0] = band->count[0] = 0;
    for (size_t right = 1; right <= n_cuts; right++) {
        uint64_t places = choice->first.at[bottom - 1] + (uint64_t)choice->second.at[right - 1];
        band->count[right] = choice->counts[bottom][right] - choice->counts[top][right];
        band->cost[right] = UINT64_MAX;
        for (size_t left = 0; left < right; left++) {
            uint64_t examples = band->count[right] - band->count[left];
            uint64_t cost = band->cost[left] + (examples ? examples * places + choice->price : 0);
            if (cost >= band->cost[right])
                continue;
            band->cost[right] = cost;
            band->begin[right] = left;
        }
    }
    return band->cost[n_cuts];
}

static void cut_bands(struct choice *choice)
{
    struct band band;
    choice->cost[0] = 0;
    for (size_t bottom = 1; bottom <= choice->first.count; bottom++) {
        choice->cost[bottom] = UINT64_MAX;
        for (size_t top = 0; top < bottom; top++) {
            uint64_t cost = choice->cost[top] + cut_band(choice, top, bottom, &band);
            if (cost >= choice->cost[bottom])
                continue;
            choice->cost[bottom] = cost;
            choice->band[bottom] = top;
        }
    }
}

/* How many shapes were chosen; their numbers, by the cuts on both sides, go into `shape_of` if it is not NULL. */
static size_t list_shapes(const struct choice *choice, uint32_t (*shape_of)[MOST_CUTS])
{
    size_t count = 0;
    struct band band;
    for (size_t bottom = choice->first.count; bottom > 0; bottom = choice->band[bottom]) {
        size_t top = choice->band[bottom];
        cut_band(choice, top, bottom, &band);
        for (size_t right = choice->second.count; right > 0; right = band.begin[right]) {
            size_t left = band.begin[right];
            if (band.count[right] == band.count[left])
                continue;
            for (size_t i = top; i < bottom && shape_of; i++)
                for (size_t j = left; j < right; j++)
                    shape_of[i][j] = (uint32_t)count;
            count++;
        }
    }
    return count;
}

/* How many shapes there are at a price. */
static size_t try_price(struct choice *choice, uint64_t price)
{
    choice->price = price;
    cut_bands(choice);
    return choice->n_shapes = list_shapes(choice, NULL);
}

/* Whether no more than a twentieth of all places has no id. */
static bool pads_little(const struct choice *choice)
{
    uint64_t places = choice->cost[choice->first.count] - choice->price * choice->n_shapes;
    return (places - choice->ids) * 20 <= places;
}

/* About the least price at which there are at most so many shapes. */
static void raise_price(struct choice *choice, size_t most_shapes)
{
    uint64_t low = 1, high = 1;
    while (try_price(choice, high) > most_shapes) {
        low = high;
        high *= 2;
    }
    while (high - low > low / 32 + 1) {
        uint64_t middle = low + (high - low) / 2;
        if (try_price(choice, middle) > most_shapes)
            low = middle;
        else
            high = middle;
    }
    try_price(choice, high);
}

/* No more shapes than it takes. */
static void raise_price_further(struct choice *choice)
{
    uint64_t price = choice->price;
    while (choice->n_shapes > 1 && pads_little(choice)) {
        price = choice->price;
        try_price(choice, price + price / 4 + 1);
    }
    if (!pads_little(choice))
        try_price(choice, price);
}

static void count_lengths(struct choice *choice, const struct example *examples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t row = find_cut(&choice->first, examples[i].lengths[FIRST]);
        size_t column = find_cut(&choice->second, examples[i].lengths[SECOND]);
        choice->counts[row + 1][column + 1]++;
        choice->ids += (uint64_t)examples[i].lengths[FIRST] + examples[i].lengths[SECOND];
    }
    for (size_t row = 1; row <= choice->first.count; row++)
        for (size_t column = 1; column <= choice->second.count; column++)
            choice->counts[row][column] += choice->counts[row - 1][column] +
                                           choice->counts[row][column - 1] -
                                           choice->counts[row - 1][column - 1];
}

/* ---- Batches of shapes ---- */

static size_t places_of(const struct shape *shape)
{
    return shape->lengths[FIRST] + shape->lengths[SECOND] + shape->lengths[OTHERS];
}

static void set_rows(struct shape *shape, const struct shape_limits *limits, size_t examples)
{
    size_t most = 1;
    for (int i = 0; i < LENGTHS; i++)
        most = size_max(most, shape->lengths[i]);
    shape->rows =
        limits->tokens ? size_min(size_max(limits->tokens / most, 1), examples) : limits->rows;
}

/* How many batches a shape's examples fill; a few rows less than allowed save moving the rest. */
static void set_batches(struct shape *shape, const struct shape_limits *limits, bool is_last)
{
    size_t batches = divide_up(shape->examples, shape->rows);
    bool is_flexible = limits->tokens > 0 && batches > 0;
    size_t even = is_flexible ? shape->examples / batches : 0;
    if (is_last) {
        shape->rows = is_flexible ? divide_up(shape->examples, batches) : shape->rows;
        shape->batches = batches;
    } else if (is_flexible && 8 * even >= 7 * shape->rows) {
        shape->rows = even;
        shape->batches = batches;
    } else {
        shape->batches = shape->examples / shape->rows;
    }
}

static void measure(struct shape *shapes, size_t n_shapes, const struct example *examples,
                    size_t count)
{
    for (size_t i = 0; i < n_shapes; i++)
        memset(shapes[i].lengths, 0, sizeof shapes[i].lengths);
    for (size_t i = 0; i < count; i++)
        for (int which = 0; which < LENGTHS; which++) {
            size_t *most = &shapes[examples[i].shape].lengths[which];
            *most = size_max(*most, examples[i].lengths[which]);
        }
}

static bool holds(const struct shape *shape, const struct example *example)
{
    return example->lengths[FIRST] <= shape->lengths[FIRST] &&
           example->lengths[SECOND] <= shape->lengths[SECOND] &&
           example->lengths[OTHERS] <= shape->lengths[OTHERS];
}

/* An example that may move, and where to. */
struct move {
    struct example *example;
    uint32_t to;
};

/* Where least is lost: the first shapes are the smallest. */
static int compare_moves(const void *a, const void *b)
{
    const struct move *x = a, *y = b;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    return (x->example->record > y->example->record) - (x->example->record < y->example->record);
}

/* Moves what does not fill a shape's batches to larger shapes, of which the last holds everything. */
static bool move_rest(qn_context *context, struct example *examples, size_t count,
                      struct shape *shapes, size_t at)
{
    struct shape *shape = &shapes[at];
    size_t rest = shape->examples - shape->batches * shape->rows, n_moves = 0;
    if (rest == 0)
        return true;
    struct move *moves = context_alloc(context, shape->examples, sizeof *moves);
    if (!moves)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (examples[i].shape != at)
            continue;
        struct move *move = &moves[n_moves++];
        *move = (struct move){&examples[i], (uint32_t)at + 1};
        while (!holds(&shapes[move->to], move->example))
            move->to++;
    }
    qsort(moves, n_moves, sizeof *moves, compare_moves);
    for (size_t i = 0; i < rest; i++) {
        moves[i].example->shape = moves[i].to;
        shapes[moves[i].to].examples++;
    }
    shape->examples -= rest;
    free(moves);
    return true;
}

static bool fill_batches(qn_context *context, struct example *examples, size_t count,
                         struct shape *shapes, size_t n_shapes, const struct shape_limits *limits)
{
    for (size_t i = 0; i < count; i++)
        shapes[examples[i].shape].examples++;
    for (size_t i = 0; i < n_shapes; i++) {
        bool is_last = i + 1 == n_shapes;
        set_rows(&shapes[i], limits, count);
        set_batches(&shapes[i], limits, is_last);
        if (!is_last && !move_rest(context, examples, count, shapes, i))
            return false;
    }
    return true;
}

/* ---- All of it ---- */

static int compare_shapes(const void *a, const void *b)
{
    const struct shape *x = a, *y = b;
    if (places_of(x) != places_of(y))
        return places_of(x) < places_of(y) ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* Shapes have been sorted, or left out: examples follow, and numbers are again those of the list. */
static bool renumber(qn_context *context, struct shape *shapes, size_t n_shapes, size_t n_before,
                     struct example *examples, size_t count)
{
    uint32_t *numbers = context_alloc(context, n_before, sizeof *numbers);
    if (!numbers)
        return false;
    for (size_t i = 0; i < n_shapes; i++) {
        numbers[shapes[i].number] = (uint32_t)i;
        shapes[i].number = (uint32_t)i;
    }
    for (size_t i = 0; i < count; i++)
        examples[i].shape = numbers[examples[i].shape];
    free(numbers);
    return true;
}

/* Cuts lengths into shapes, and gives examples theirs; how many there are. */
static size_t choose(struct choice *choice, const struct shape_limits *limits,
                     struct example *examples, size_t count)
{
    uint32_t shape_of[MOST_CUTS][MOST_CUTS];
    count_lengths(choice, examples, count);
    raise_price(choice, limits->shapes ? limits->shapes : MOST_SHAPES);
    if (limits->shapes == 0)
        raise_price_further(choice);
    size_t n_shapes = list_shapes(choice, shape_of);
    for (size_t i = 0; i < count; i++)
        examples[i].shape = shape_of[find_cut(&choice->first, examples[i].lengths[FIRST])]
                                    [find_cut(&choice->second, examples[i].lengths[SECOND])];
    return n_shapes;
}

static bool finish(qn_context *context, struct shape *shapes, size_t *n_shapes,
                   struct example *examples, size_t count, const struct shape_limits *limits)
{
    size_t n_before = *n_shapes, n_used = 0;
    struct shape *last = &shapes[n_before - 1];
    measure(shapes, n_before, examples, count);
    qsort(shapes, n_before, sizeof *shapes, compare_shapes);
    if (!renumber(context, shapes, n_before, n_before, examples, count))
        return false;
    for (int which = 0; which < LENGTHS; which++)
        last->lengths[which] = longest(examples, count, which);
    if (!fill_batches(context, examples, count, shapes, n_before, limits))
        return false;
    for (size_t i = 0; i < n_before; i++)
        if (shapes[i].batches > 0)
            shapes[n_used++] = shapes[i];
    *n_shapes = n_used;
    if (!renumber(context, shapes, n_used, n_before, examples, count))
        return false;
    measure(shapes, n_used, examples, count);
    return true;
}

struct shape *shapes_find(qn_context *context, struct example *examples, size_t count,
                          const struct shape_limits *limits, size_t *n_shapes)
{
    struct choice *choice = context_alloc(context, 1, sizeof *choice);
    struct shape *shapes = NULL;
    if (choice && find_cuts(context, examples, count, FIRST, &choice->first) &&
        find_cuts(context, examples, count, SECOND, &choice->second)) {
        *n_shapes = choose(choice, limits, examples, count);
        shapes = context_alloc(context, *n_shapes, sizeof *shapes);
    }
    free(choice);
    for (size_t i = 0; shapes && i < *n_shapes; i++)
        shapes[i].number = (uint32_t)i;
    if (shapes && finish(context, shapes, n_shapes, examples, count, limits))
        return shapes;
    free(shapes);
    return NULL;
}
