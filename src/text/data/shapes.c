/* The choice of shapes.
 *
 * Every shape is a plan on the device, so there can be a few dozen.  Examples are cut into bands by their first length, and each band
 * into shapes by the second: by dynamic programming over the counts of examples by both lengths, so that the places of all examples
 * and a price for each shape sum to the least; the price is raised until there are few enough.  Then each example has the smallest
 * shape that holds it, of whatever band, and shapes are moved as long as that saves places.
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

/* What is counted, tried and chosen. */
struct choice {
    struct cuts first, second;
    uint64_t cells[MOST_CUTS][MOST_CUTS];          /* examples by the cuts that hold them */
    uint64_t counts[MOST_CUTS + 1][MOST_CUTS + 1]; /* before both cuts */
    uint64_t ids;                                  /* of all examples */
    bool is_shape[MOST_CUTS][MOST_CUTS];           /* a shape of these two lengths */
    size_t n_shapes;
    uint64_t smallest[MOST_CUTS + 1][MOST_CUTS + 1]; /* see cover() */
    uint64_t price;                                  /* of a shape, in places */
    uint64_t cost[MOST_CUTS + 1];                    /* of all bands before a cut */
    size_t band[MOST_CUTS + 1];                      /* where the last of them begins */
};

static void count_lengths(struct choice *choice, const struct example *examples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t *lengths = examples[i].lengths;
        choice->cells[find_cut(&choice->first, lengths[FIRST])]
                     [find_cut(&choice->second, lengths[SECOND])]++;
        choice->ids += (uint64_t)lengths[FIRST] + lengths[SECOND];
    }
    for (size_t row = 1; row <= choice->first.count; row++)
        for (size_t column = 1; column <= choice->second.count; column++)
            choice->counts[row][column] =
                choice->cells[row - 1][column - 1] + choice->counts[row - 1][column] +
                choice->counts[row][column - 1] - choice->counts[row - 1][column - 1];
    memset(choice->smallest, 0xFF, sizeof choice->smallest);
}

/* ---- Bands ---- */

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

/* The shapes that were chosen. */
static void list_shapes(struct choice *choice)
{
    struct band band;
    memset(choice->is_shape, 0, sizeof choice->is_shape);
    choice->n_shapes = 0;
    for (size_t bottom = choice->first.count; bottom > 0; bottom = choice->band[bottom]) {
        cut_band(choice, choice->band[bottom], bottom, &band);
        for (size_t right = choice->second.count; right > 0; right = band.begin[right]) {
            bool is_used = band.count[right] > band.count[band.begin[right]];
            choice->is_shape[bottom - 1][right - 1] = is_used;
            choice->n_shapes += is_used;
        }
    }
}

/* How many shapes there are at a price. */
static size_t try_price(struct choice *choice, uint64_t price)
{
    choice->price = price;
    cut_bands(choice);
    list_shapes(choice);
    return choice->n_shapes;
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

/* ---- Moving shapes ---- */

enum { CORNER_BITS = 12 }; /* of the two cuts of a shape */

/* The places of all examples, each in the smallest shape that holds it: which that is, by the cuts of the example, is left in
 * `smallest`, below the places of that shape. */
static uint64_t cover(struct choice *choice)
{
    uint64_t cost = 0;
    for (size_t row = choice->first.count; row-- > 0;)
        for (size_t column = choice->second.count; column-- > 0;) {
            uint64_t below = choice->smallest[row + 1][column],
                     behind = choice->smallest[row][column + 1],
                     least = below < behind ? below : behind;
            if (choice->is_shape[row][column]) {
                uint64_t places = choice->first.at[row] + (uint64_t)choice->second.at[column];
                uint64_t own = places << CORNER_BITS | row * MOST_CUTS | column;
                least = own < least ? own : least;
            }
            choice->smallest[row][column] = least;
            cost += choice->cells[row][column] * (least >> CORNER_BITS);
        }
    return cost;
}

/* The shape of the longest lengths, which holds every example, must stay. */
static bool must_stay(const struct choice *choice, size_t row, size_t column)
{
    return row + 1 == choice->first.count && column + 1 == choice->second.count;
}

/* Moves a shape to the best of the cuts around it; whether that is better than where it was. */
static bool move_shape(struct choice *choice, size_t row, size_t column, uint64_t *cost)
{
    enum { FAR = 2 };
    size_t best_row = row, best_column = column;
    choice->is_shape[row][column] = false;
    for (size_t i = row - size_min(row, FAR); i <= row + FAR && i < choice->first.count; i++)
        for (size_t j = column - size_min(column, FAR);
             j <= column + FAR && j < choice->second.count; j++) {
            if (choice->is_shape[i][j])
                continue;
            choice->is_shape[i][j] = true;
            uint64_t found = cover(choice);
            choice->is_shape[i][j] = false;
            if (found >= *cost)
                continue;
            *cost = found;
            best_row = i;
            best_column = j;
        }
    choice->is_shape[best_row][best_column] = true;
    return best_row != row || best_column != column;
}

static void move_shapes(struct choice *choice)
{
    uint64_t cost = cover(choice);
    for (bool has_moved = true; has_moved;) {
        has_moved = false;
        for (size_t row = 0; row < choice->first.count; row++)
            for (size_t column = 0; column < choice->second.count; column++)
                if (choice->is_shape[row][column] && !must_stay(choice, row, column))
                    has_moved |= move_shape(choice, row, column, &cost);
    }
}

/* Removes the shape that is missed least, if there are no more than so many places then; whether it did. */
static bool remove_shape(struct choice *choice, uint64_t most_places)
{
    bool *least = NULL;
    for (size_t row = 0; row < choice->first.count; row++)
        for (size_t column = 0; column < choice->second.count; column++) {
            bool *is_shape = &choice->is_shape[row][column];
            if (!*is_shape || must_stay(choice, row, column))
                continue;
            *is_shape = false;
            uint64_t places = cover(choice);
            *is_shape = true;
            if (places > most_places)
                continue;
            most_places = places;
            least = is_shape;
        }
    if (!least)
        return false;
    *least = false;
    choice->n_shapes--;
    return true;
}

/* At most so many shapes, of which one holds every example; or, of 0, as few as pad little. */
static void choose_shapes(struct choice *choice, size_t most_shapes)
{
    bool *longest_of_all = &choice->is_shape[choice->first.count - 1][choice->second.count - 1];
    size_t most = most_shapes ? most_shapes : MOST_SHAPES;
    raise_price(choice, most);
    choice->n_shapes += !*longest_of_all;
    *longest_of_all = true;
    if (choice->n_shapes > most)
        remove_shape(choice, UINT64_MAX);
    move_shapes(choice);
    if (most_shapes > 0)
        return;
    while (remove_shape(choice, choice->ids + choice->ids / 19)) /* a twentieth of all */
        ;
    move_shapes(choice);
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

/* Gives each example the smallest shape that holds it; how many shapes have any. */
static size_t assign(struct choice *choice, struct example *examples, size_t count)
{
    enum { NONE = UINT16_MAX };
    uint16_t numbers[1 << CORNER_BITS];
    size_t n_shapes = 0;
    memset(numbers, 0xFF, sizeof numbers);
    cover(choice);
    for (size_t i = 0; i < count; i++) {
        uint64_t smallest =
            choice->smallest[find_cut(&choice->first, examples[i].lengths[FIRST])]
                            [find_cut(&choice->second, examples[i].lengths[SECOND])];
        uint16_t *number = &numbers[smallest & ((1 << CORNER_BITS) - 1)];
        if (*number == NONE)
            *number = (uint16_t)n_shapes++;
        examples[i].shape = *number;
    }
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
        count_lengths(choice, examples, count);
        choose_shapes(choice, limits->shapes);
        *n_shapes = assign(choice, examples, count);
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
