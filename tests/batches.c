/* Batches of examples: which there are, what is in them, how much of them is padding, and that they come again.  Needs no device;
 * Multi30k is found through $QUERN_SHARED. */
#define _DEFAULT_SOURCE

#include <quern/data.h>

#include <fcntl.h>
#include <sys/time.h>

#include "tap.h"

#include "files.h"
#include "host.h"
#include "text/data/batches.h"

enum { MOST_EXAMPLES = 4000 };

/* ---- A data set ---- */

static char reports[4000];

static void report(void *user, const char *message)
{
    (void)user;
    const char *name =
        strrchr(message, '/'); /* without the folder, which has another name each time */
    size_t used = strlen(reports);
    snprintf(reports + used, sizeof reports - used, "%s%s", used ? "\n" : "",
             name ? name + 1 : message);
}

static qn_records *open_file(enum qn_record_format format, const char *text,
                             const char *const *fields, size_t n_fields)
{
    const char *path = write_text("f", text);
    reports[0] = '\0';
    qn_records *records = qn_records_open(qn, &(struct qn_record_options){.format = format,
                                                                          .paths = &path,
                                                                          .n_paths = 1,
                                                                          .fields = fields,
                                                                          .n_fields = n_fields,
                                                                          .report = report});
    if (!records)
        bail_out("%s", qn_error(qn));
    return records;
}

/* Numbers that are the same on every machine. */
static uint32_t draw(uint32_t below)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Pairs of texts of which one is about as long as the other: each with its number in front. */
static qn_records *open_pairs(size_t count)
{
    static char text[MOST_EXAMPLES * 200];
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t words = 1 + draw(5) + draw(5) + draw(20) * (draw(10) == 0);
        for (int side = 0; side < 2; side++) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%04zu", i);
            for (uint32_t word = draw(3); word < words; word++)
                used += (size_t)snprintf(text + used, sizeof text - used, " %04u", draw(100));
            text[used++] = side ? '\n' : '\t';
        }
    }
    text[used] = '\0';
    return open_file(QN_TSV, text, (const char *const[]){"1", "2"}, 2);
}

/* Words are numbers; ids 0 to 2 are special. */
static qn_tokenizer *number_tokenizer(size_t count)
{
    static char text[MOST_EXAMPLES * 8];
    static const char *const specials[] = {"<pad>", "<bos>", "<eos>"};
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%04zu ", i);
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_SPACE, .specials = specials, .n_specials = 3};
    qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
    qn_tokenizer *tokenizer = NULL;
    if (counter && qn_word_counter_add(counter, "numbers", text, used) == QN_OK)
        tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    if (!tokenizer)
        bail_out("%s", qn_error(qn));
    return tokenizer;
}

static struct {
    qn_tokenizer *tokenizer;
    struct qn_batch_field pair[2];
} set;

static void make_set(void)
{
    set.tokenizer = number_tokenizer(MOST_EXAMPLES);
    set.pair[0] = (struct qn_batch_field){.name = "source",
                                          .tokenizer = set.tokenizer,
                                          .is_sequence = true,
                                          .begin = -1,
                                          .end = 2,
                                          .pad = -1};
    set.pair[1] = (struct qn_batch_field){.name = "target",
                                          .tokenizer = set.tokenizer,
                                          .is_sequence = true,
                                          .begin = 1,
                                          .end = 2,
                                          .pad = -1};
}

static qn_batches *open_batches(qn_records *records, struct qn_batch_options options)
{
    options.fields = set.pair;
    options.n_fields = 2;
    return qn_batches_new(records, &options);
}

/* ---- What is in a batch ---- */

/* A row against the text of its record, encoded here. */
static bool is_right_row(qn_records *records, const struct qn_batch *batch,
                         struct qn_batch_shape shape, size_t row)
{
    struct qn_field_text texts[QN_MAX_FIELDS];
    if (qn_records_read(records, batch->records[row], texts) != QN_OK)
        return false;
    bool is_right = true;
    for (size_t f = 0; f < 2; f++) {
        const struct qn_batch_field *field = &set.pair[f];
        const int32_t *ids = batch->ids[f] + row * shape.length[f];
        int32_t *expected;
        size_t count, at = 0;
        if (qn_encode(field->tokenizer, "text", texts[f].text, texts[f].bytes, &expected, &count) !=
            QN_OK)
            return false;
        is_right &= field->begin < 0 || ids[at++] == field->begin;
        is_right &= memcmp(ids + at, expected, count * sizeof *ids) == 0;
        at += count;
        is_right &= ids[at++] == field->end && batch->lengths[f][row] == (int32_t)at;
        while (at < shape.length[f])
            is_right &= ids[at++] == field->pad;
        free(expected);
    }
    return is_right;
}

static bool is_empty_row(const struct qn_batch *batch, struct qn_batch_shape shape, size_t row)
{
    bool is_empty = true;
    for (size_t f = 0; f < 2; f++) {
        is_empty &= batch->lengths[f][row] == 0;
        for (size_t i = 0; i < shape.length[f]; i++)
            is_empty &= batch->ids[f][row * shape.length[f] + i] == -1;
    }
    return is_empty;
}

/* An epoch: the records in their order, and how often there was each shape. */
struct epoch {
    size_t records[MOST_EXAMPLES], count, batches[100], tokens, places, partial;
    bool is_right, is_within, is_ascending;
};

static struct epoch *read_epoch(qn_records *records, qn_batches *batches, uint64_t first,
                                size_t tokens)
{
    struct epoch *epoch = calloc(1, sizeof *epoch);
    size_t last = qn_batches_shapes(batches) - 1, before = 0;
    epoch->is_right = epoch->is_within = epoch->is_ascending = true;
    for (size_t i = 0; i < qn_batches_per_epoch(batches); i++) {
        struct qn_batch batch;
        if (qn_batches_next(batches, &batch) != QN_OK)
            bail_out("%s", qn_error(qn));
        struct qn_batch_shape shape = qn_batches_shape(batches, batch.shape);
        for (size_t row = 0; row < shape.rows; row++)
            epoch->is_right &= row < batch.examples ? is_right_row(records, &batch, shape, row)
                                                    : is_empty_row(&batch, shape, row);
        epoch->is_right &=
            batch.number == first + i && batch.examples > 0 && batch.examples <= shape.rows;
        for (size_t f = 0; f < 2; f++)
            epoch->is_within &= tokens == 0 || shape.rows * shape.length[f] <= tokens;
        epoch->is_ascending &= batch.shape >= before;
        before = batch.shape;
        epoch->partial += batch.examples < shape.rows;
        epoch->is_within &= batch.examples == shape.rows || batch.shape == last;
        memcpy(epoch->records + epoch->count, batch.records,
               batch.examples * sizeof *batch.records);
        epoch->count += batch.examples;
        epoch->batches[batch.shape]++;
        epoch->tokens += batch.tokens;
        epoch->places += shape.rows * (shape.length[0] + shape.length[1]);
    }
    return epoch;
}

static bool has_each_once(const struct epoch *epoch, size_t count)
{
    static bool seen[MOST_EXAMPLES];
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < epoch->count; i++) {
        if (seen[epoch->records[i]])
            return false;
        seen[epoch->records[i]] = true;
    }
    return epoch->count == count;
}

static bool same_order(const struct epoch *a, const struct epoch *b)
{
    return a->count == b->count &&
           memcmp(a->records, b->records, a->count * sizeof *a->records) == 0;
}

/* ---- Epochs ---- */

/* How much is padding is known by trying. */
static const struct epoch_case {
    const char *what;
    size_t count;
    struct qn_batch_options options;
    size_t most_padding; /* percent */
} epoch_cases[] = {
    {"shuffled, by tokens", 3000, {.tokens = 300, .is_shuffled = true, .seed = 7}, 6},
    {"shuffled, by rows", 3000, {.rows = 16, .is_shuffled = true, .seed = 7}, 7},
    {"in order, by tokens", 1000, {.tokens = 300}, 9},
    {"in order, by rows", 1000, {.rows = 32}, 17},
    {"six shapes", 3000, {.tokens = 300, .shapes = 6, .is_shuffled = true}, 17},
    {"a single shape", 500, {.tokens = 300, .shapes = 1, .is_shuffled = true}, 80},
    {"batches of a row", 300, {.rows = 1, .is_shuffled = true}, 13},
    {"tokens for less than a row", 300, {.tokens = 2, .is_shuffled = true}, 13},
    {"fewer examples than a batch has rows", 5, {.rows = 64}, 97},
    {"tokens for all at once", 40, {.tokens = 100000}, 80},
    {"a single example", 1, {.tokens = 100, .is_shuffled = true}, 0},
};

static void test_epochs(const struct epoch_case *test)
{
    qn_records *records = open_pairs(test->count);
    qn_batches *batches = open_batches(records, test->options);
    if (!batches)
        bail_out("%s", qn_error(qn));
    size_t per_epoch = qn_batches_per_epoch(batches), tokens = test->options.tokens;
    size_t most_shapes = test->options.shapes ? test->options.shapes : 48;
    struct epoch *first = read_epoch(records, batches, 0, tokens > 2 ? tokens : 0);
    struct epoch *second = read_epoch(records, batches, per_epoch, tokens > 2 ? tokens : 0);
    ok(first->is_right && second->is_right && qn_batches_examples(batches) == test->count &&
           has_each_once(first, test->count) && has_each_once(second, test->count),
       "%s: each example once in each epoch, its ids, lengths and padding", test->what);
    ok(first->is_within && second->is_within && first->partial <= 1 &&
           memcmp(first->batches, second->batches, sizeof first->batches) == 0,
       "%s: batches are full but for the last, and as many of each shape in each epoch",
       test->what);
    double padding = 100.0 * (double)qn_batches_padding(batches) / (double)first->places;
    ok(qn_batches_tokens(batches) == first->tokens &&
           qn_batches_padding(batches) == first->places - first->tokens &&
           qn_batches_shapes(batches) <= most_shapes && padding <= (double)test->most_padding,
       "%s: %zu batches of %zu shapes, %.1f%% padding", test->what, per_epoch,
       qn_batches_shapes(batches), padding);
    bool is_same = same_order(first, second);
    ok(test->options.is_shuffled ? !is_same || test->count == 1 : is_same && first->is_ascending,
       "%s: the order of the second epoch", test->what);
    free(second);
    free(first);
    qn_batches_free(batches);
    qn_records_close(records);
}

/* Until it has made as many batches as it may. */
static void wait_for_thread(qn_batches *batches)
{
    for (uint64_t made = 0; made < SLOTS - 1;) {
        pthread_mutex_lock(&batches->prefetch.lock);
        made = batches->prefetch.made - batches->prefetch.taken;
        pthread_mutex_unlock(&batches->prefetch.lock);
    }
}

/* A run that goes on at any batch has what it would have had. */
static void test_seek(void)
{
    enum { BATCHES = 400 };
    static size_t shapes[BATCHES], firsts[BATCHES];
    struct qn_batch batch;
    qn_records *records = open_pairs(1000);
    struct qn_batch_options options = {.tokens = 200, .is_shuffled = true, .seed = 3};
    qn_batches *batches = open_batches(records, options);
    for (size_t i = 0; i < BATCHES; i++) {
        if (qn_batches_next(batches, &batch) != QN_OK)
            bail_out("%s", qn_error(qn));
        shapes[i] = batch.shape;
        firsts[i] = batch.records[0];
    }
    bool is_same = BATCHES > 2 * qn_batches_per_epoch(batches);
    for (size_t i = 0; i < 300; i++) {
        uint32_t number = draw(BATCHES - 5), after = draw(5);
        is_same &= qn_batches_seek(batches, number) == QN_OK;
        for (uint32_t j = 0; j < after; j++)
            is_same &= qn_batches_next(batches, &batch) == QN_OK && batch.number == number + j &&
                       batch.shape == shapes[number + j] && batch.records[0] == firsts[number + j];
    }
    ok(is_same, "seeking to 300 places of the first epochs");
    is_same = qn_batches_seek(batches, UINT64_MAX / 2) == QN_OK &&
              qn_batches_next(batches, &batch) == QN_OK && batch.number == UINT64_MAX / 2;
    ok(is_same, "and to a far one");
    qn_batches_seek(batches, 0);
    wait_for_thread(batches);
    qn_batches_seek(batches, 0);
    ok(batches->prefetch.made - batches->prefetch.taken == SLOTS - 1,
       "seeking to what comes next loses nothing");
    qn_batches_free(batches);

    options.seed = 4;
    batches = open_batches(records, options);
    bool is_other = false;
    for (size_t i = 0; i < 20; i++)
        is_other |= qn_batches_next(batches, &batch) == QN_OK && batch.records[0] != firsts[i];
    ok(is_other, "another seed gives another order");
    qn_batches_free(batches);
    qn_records_close(records);
}

/* Each of 5 things is at each place equally often, and so is what follows the first. */
static void test_order(void)
{
    bool is_permutation = true;
    for (uint64_t count = 1; count < 300; count++) {
        bool seen[300] = {false};
        for (uint64_t i = 0; i < count; i++) {
            uint64_t at = order_permute((struct order){count, 9, 1}, i, count);
            is_permutation &= at < count && !seen[at];
            seen[at] = true;
        }
    }
    ok(is_permutation, "permutations of 1 to 299 things");
    enum { EPOCHS = 20000, THINGS = 5 };
    int counts[THINGS][THINGS] = {{0}}, least = EPOCHS, most = 0, pairs = 0;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint64_t at[THINGS];
        for (uint64_t i = 0; i < THINGS; i++)
            counts[i][at[i] = order_permute((struct order){1, epoch, 0}, i, THINGS)]++;
        pairs += at[1] == (at[0] + 1) % THINGS;
    }
    for (int i = 0; i < THINGS * THINGS; i++) {
        int count = counts[i / THINGS][i % THINGS];
        least = count < least ? count : least;
        most = count > most ? count : most;
    }
    /* Five standard deviations: of a fifth of 20,000 57, of a quarter 61. */
    ok(least > 4000 - 285 && most < 4000 + 285 && abs(pairs - 5000) < 305,
       "places of 5 things in 20,000 orders: %d to %d times, pairs %d", least, most, pairs);
    ok(order_permute((struct order){1, 0, 0}, 12345678901234u, (uint64_t)1 << 45) < (uint64_t)1
                                                                                        << 45 &&
           order_permute((struct order){1, 0, 0}, UINT64_MAX - 1, UINT64_MAX) < UINT64_MAX,
       "orders of very many things");
}

/* ---- Fields ---- */

static bool is_row(const struct qn_batch *batch, size_t field, size_t row, size_t length,
                   const int32_t *expected)
{
    bool is_same =
        memcmp(batch->ids[field] + row * length, expected, length * sizeof *expected) == 0;
    for (size_t i = 0; i < length && !is_same; i++)
        note("field %zu: id %zu is %d, expected %d", field, i,
             (int)batch->ids[field][row * length + i], (int)expected[i]);
    return is_same;
}

static void test_labels(void)
{
    qn_records *records = open_file(QN_TSV, "b\t0001 0002\na\t0003\nc\t0001\nb\t9999\n",
                                    (const char *const[]){"2", "1"}, 2);
    qn_labels *labels = qn_labels_new(qn, (const char *const[]){"a", "b"}, 2);
    const struct qn_batch_field fields[] = {
        {.name = "text",
         .tokenizer = set.tokenizer,
         .is_sequence = true,
         .begin = -1,
         .end = -1,
         .pad = 0},
        {.name = "label", .labels = labels, .begin = 5, .end = 5, .pad = -100}};
    qn_batches *batches = qn_batches_new(
        records, &(struct qn_batch_options){.fields = fields, .n_fields = 2, .rows = 3});
    struct qn_batch batch;
    ok(batches && strstr(reports, "f:3: label: \"c\" is none of the 2 labels\n") &&
           strstr(reports, "f:4: text: word \"9999\" is none of the 4003 that the model knows") &&
           qn_batches_skipped(batches) == 2 && qn_batches_examples(batches) == 2,
       "records with labels and words that are none are skipped");
    struct qn_batch_shape shape = qn_batches_shape(batches, 0);
    bool is_good = batches && qn_batches_next(batches, &batch) == QN_OK;
    ok(is_good && shape.rows == 2 && shape.length[0] == 2 && shape.length[1] == 1 &&
           qn_batches_tokens(batches) == 3 && qn_batches_padding(batches) == 1 &&
           batch.tokens == 3 && is_row(&batch, 0, 0, 4, (const int32_t[]){6, 0, 4, 5}) &&
           is_row(&batch, 1, 0, 2, (const int32_t[]){0, 1}) && batch.lengths[1][1] == 1,
       "texts and their labels, in no more rows than there are");
    qn_batches_free(batches);
    qn_labels_free(labels);
    qn_records_close(records);
}

static void test_tags(void)
{
    qn_records *records =
        open_file(QN_COLUMNS, "0007 O\n0008 B\n\n0009 B\n0010 I\n0011 I\n0012 O\n",
                  (const char *const[]){"1", "2"}, 2);
    qn_labels *labels = qn_labels_of_words(records, 1, 9);
    const struct qn_batch_field fields[] = {{.name = "words",
                                             .tokenizer = set.tokenizer,
                                             .is_sequence = true,
                                             .begin = -1,
                                             .end = -1,
                                             .pad = 0},
                                            {.name = "tags",
                                             .labels = labels,
                                             .is_sequence = true,
                                             .begin = -1,
                                             .end = -1,
                                             .pad = -100}};
    qn_batches *batches = qn_batches_new(
        records, &(struct qn_batch_options){.fields = fields, .n_fields = 2, .rows = 1});
    struct qn_batch batch;
    ok(batches && qn_batches_next(batches, &batch) == QN_OK &&
           is_row(&batch, 0, 0, 2, (const int32_t[]){10, 11}) &&
           is_row(&batch, 1, 0, 2, (const int32_t[]){2, 0}) &&
           qn_batches_next(batches, &batch) == QN_OK &&
           is_row(&batch, 1, 0, 4, (const int32_t[]){0, 1, 1, 2}) &&
           qn_batches_padding(batches) == 0,
       "words and their tags");
    qn_batches_free(batches);
    qn_labels_free(labels);
    qn_records_close(records);
}

static void test_most(void)
{
    qn_records *records =
        open_file(QN_LINES, "0001 0002 0003 0004 0005\n0001\n0001 0002\n", NULL, 0);
    struct qn_batch_field field = {.name = "text",
                                   .tokenizer = set.tokenizer,
                                   .is_sequence = true,
                                   .begin = 1,
                                   .end = 2,
                                   .most = 4};
    struct qn_batch_options options = {.fields = &field, .n_fields = 1, .tokens = 4};
    struct qn_batch batch;
    qn_batches *batches = qn_batches_new(records, &options);
    ok(batches && qn_batches_examples(batches) == 2 && qn_batches_skipped(batches) == 1,
       "long examples are left out");
    qn_batches_free(batches);
    field.cuts = true;
    options.shapes = 1;
    batches = qn_batches_new(records, &options);
    bool is_cut = batches && qn_batches_examples(batches) == 3;
    for (int i = 0; i < 3; i++)
        is_cut = is_cut && qn_batches_next(batches, &batch) == QN_OK;
    ok(is_cut && is_row(&batch, 0, 0, 4, (const int32_t[]){1, 4, 5, 2}),
       "or cut, and keep their end");
    qn_batches_free(batches);
    qn_records_close(records);
}

/* Three sequences: the third has the longest of its shape. */
static void test_three(void)
{
    qn_records *records = open_file(QN_TSV, "0001\t0001\t0001 0002 0003\n0002\t0002\t0001\n",
                                    (const char *const[]){"1", "2", "3"}, 3);
    struct qn_batch_field fields[3];
    for (size_t i = 0; i < 3; i++)
        fields[i] = (struct qn_batch_field){.name = "text",
                                            .tokenizer = set.tokenizer,
                                            .is_sequence = true,
                                            .begin = -1,
                                            .end = -1};
    qn_batches *batches = qn_batches_new(
        records, &(struct qn_batch_options){.fields = fields, .n_fields = 3, .tokens = 6});
    struct qn_batch_shape shape = qn_batches_shape(batches, 0);
    ok(batches && shape.rows == 2 && shape.length[0] == 1 && shape.length[2] == 3 &&
           qn_batches_padding(batches) == 2,
       "three sequences");
    qn_batches_free(batches);
    qn_records_close(records);
}

/* ---- Mistakes ---- */

static void test_refused(void)
{
    qn_records *records = open_file(QN_LINES, "0001 0002 0003\nx\n", NULL, 0);
    qn_labels *labels = qn_labels_new(qn, (const char *const[]){"a"}, 1);
    const struct qn_batch_field good = {
        .name = "text", .tokenizer = set.tokenizer, .is_sequence = true, .begin = -1, .end = -1};
    struct qn_batch_field fields[7];
    for (size_t i = 0; i < 7; i++)
        fields[i] = good;
    fields[1].name = NULL;
    fields[2].labels = labels;
    fields[3].tokenizer = NULL;
    fields[4].is_sequence = false;
    fields[5].begin = fields[5].end = 1;
    fields[5].most = 2;
    fields[6] = (struct qn_batch_field){.name = "label", .labels = labels};
    const struct {
        struct qn_batch_options options;
        const char *message;
    } cases[] = {
        {{.fields = fields, .n_fields = 2, .rows = 1}, "batches of 2 fields, and records have 1"},
        {{.n_fields = 1, .rows = 1}, "batches of 1 fields, and records have 1"},
        {{.fields = fields, .n_fields = 1}, "batches of 0 tokens and 0 rows: give one of both"},
        {{.fields = fields, .n_fields = 1, .tokens = 2, .rows = 3},
         "batches of 2 tokens and 3 rows: give one"},
        {{.fields = fields, .n_fields = 1, .rows = 1 << 25},
         "batches of 33554432 rows: at most 16777216"},
        {{.fields = fields + 1, .n_fields = 1, .rows = 1}, "field \"\" has no name"},
        {{.fields = fields + 2, .n_fields = 1, .rows = 1},
         "field \"text\" needs a tokenizer or labels, and not both"},
        {{.fields = fields + 3, .n_fields = 1, .rows = 1},
         "field \"text\" needs a tokenizer or labels, and not both"},
        {{.fields = fields + 4, .n_fields = 1, .rows = 1},
         "field \"text\" is made by a tokenizer, but no sequence"},
        {{.fields = fields + 5, .n_fields = 1, .rows = 1},
         "field \"text\" may be too short for a single id of its text"},
        {{.fields = fields + 6, .n_fields = 1, .rows = 1}, "no field is a sequence"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(!qn_batches_new(records, &cases[i].options) && says(cases[i].message), "refused: %s",
           cases[i].message);
    fields[0].most = 2;
    ok(!qn_batches_new(records, &cases[2].options) && says("give one"), "refused again");
    ok(!qn_batches_new(records,
                       &(struct qn_batch_options){.fields = fields, .n_fields = 1, .rows = 1}) &&
           says("/f: no example is left of 2 records: 1 are longer than the most, 1 are damaged; "
                "the first: "),
       "no example is left");
    ok(!qn_batches_new(NULL, &cases[0].options) && !qn_batches_new(records, NULL),
       "no records, no options");
    qn_batches_free(NULL);
    qn_labels_free(labels);
    qn_records_close(records);
}

static void test_strict(void)
{
    const char *path = write_text("f", "0001\n0002\nx y\n0003\n");
    qn_records *records = qn_records_open(
        qn, &(struct qn_record_options){.paths = &path, .n_paths = 1, .is_strict = true});
    struct qn_batch_field field = {
        .name = "text", .tokenizer = set.tokenizer, .is_sequence = true, .begin = -1, .end = -1};
    ok(!qn_batches_new(records,
                       &(struct qn_batch_options){.fields = &field, .n_fields = 1, .rows = 1}) &&
           says("/f:3: text: word \"x\" is none of"),
       "a damaged record is fatal if so wanted");
    qn_records_close(records);
}

/* What a tokenizer's cleaning leaves nothing of. */
static void test_cleaned(void)
{
    qn_records *records = open_file(QN_LINES, "\x01\x02\na\n", NULL, 0);
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_CHARACTERS, .cleaning = {QN_CLEAN_CONTROLS}, .n_cleaning = 1};
    qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
    qn_word_counter_add(counter, "text", "abc", 3);
    qn_tokenizer *tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    struct qn_batch_field field = {
        .name = "text", .tokenizer = tokenizer, .is_sequence = true, .begin = 0, .end = -1};
    qn_batches *batches = qn_batches_new(
        records, &(struct qn_batch_options){.fields = &field, .n_fields = 1, .rows = 1});
    ok(batches && qn_batches_examples(batches) == 1 &&
           strcmp(reports, "f:1: text: nothing is left of it") == 0,
       "a text that cleaning leaves nothing of");
    qn_batches_free(batches);
    qn_tokenizer_free(tokenizer);
    qn_records_close(records);
}

static int read_until_failure(qn_batches *batches)
{
    struct qn_batch batch;
    for (int i = 0; i < 1000; i++)
        if (qn_batches_next(batches, &batch) != QN_OK)
            return i;
    return 1000;
}

static void test_changed(void)
{
    qn_records *records = open_pairs(500);
    qn_batches *batches =
        open_batches(records, (struct qn_batch_options){.rows = 4, .is_shuffled = true});
    struct qn_batch batch;
    bool is_good = qn_batches_next(batches, &batch) == QN_OK;
    if (truncate(in_folder("f"), 100) != 0)
        bail_out("cannot cut a file");
    is_good = is_good && read_until_failure(batches) < SLOTS + 1;
    ok(is_good && says("/f has changed while it was used: open the data set again"),
       "a file that is cut while it is used");
    ok(qn_batches_seek(batches, 0) == QN_OK && qn_batches_next(batches, &batch) < 0 &&
           says("/f has changed"),
       "which stays so");
    ok(!open_batches(records, (struct qn_batch_options){.rows = 4}) &&
           says("/f has changed while it was used"),
       "and is found in the first pass");
    qn_batches_free(batches);
    qn_records_close(records);

    records = open_pairs(500);
    batches = open_batches(records, (struct qn_batch_options){.rows = 4});
    utimes(in_folder("f"), (struct timeval[]){{1, 0}, {1, 0}});
    ok(read_until_failure(batches) < SLOTS + 1 && says("/f has changed"),
       "a file that is written while it is used");
    qn_batches_free(batches);
    qn_records_close(records);
}

/* Other contents of the same size and time: what is made of them is held against what was. */
static void test_replaced(void)
{
    struct stat status;
    qn_records *records = open_file(QN_LINES, "0001 0002\n0003 0004\n", NULL, 0);
    struct qn_batch_field field = {
        .name = "text", .tokenizer = set.tokenizer, .is_sequence = true, .begin = -1, .end = -1};
    qn_batches *batches = qn_batches_new(
        records, &(struct qn_batch_options){.fields = &field, .n_fields = 1, .rows = 1});
    wait_for_thread(batches);
    if (stat(in_folder("f"), &status) != 0)
        bail_out("cannot look at a file");
    write_text("f", "x 2 3 4 5\nx 2 3 4 5\n");
    utimensat(AT_FDCWD, in_folder("f"), (const struct timespec[]){status.st_atim, status.st_mtim},
              0);
    ok(read_until_failure(batches) < SLOTS + 1 &&
           says(": text: the file has changed while it was used: open the data set again"),
       "a file with other contents of the same size and time");
    qn_batches_free(batches);
    qn_records_close(records);
}

/* ---- The thread ---- */

static void test_freed(void)
{
    qn_records *records = open_pairs(300);
    struct qn_batch batch;
    bool is_good = true;
    for (uint32_t i = 0; i < 200 && is_good; i++) {
        qn_batches *batches = open_batches(
            records, (struct qn_batch_options){.rows = 2, .is_shuffled = true, .seed = i});
        is_good = batches != NULL;
        for (uint32_t j = draw(6); j > 0 && is_good; j--)
            is_good = draw(4) == 0 ? qn_batches_seek(batches, draw(1000)) == QN_OK
                                   : qn_batches_next(batches, &batch) == QN_OK;
        qn_batches_free(batches);
    }
    ok(is_good, "200 data sets freed at any moment");
    qn_records_close(records);
}

/* Two data sets of the same records and tokenizer, which is used besides. */
static void test_shared(void)
{
    qn_records *records = open_pairs(1000);
    struct qn_batch_options options = {.tokens = 100, .is_shuffled = true, .seed = 1};
    qn_batches *one = open_batches(records, options), *two = open_batches(records, options);
    struct epoch *first = read_epoch(records, one, 0, 100),
                 *second = read_epoch(records, two, 0, 100);
    ok(first->is_right && second->is_right && same_order(first, second),
       "two data sets side by side");
    free(second);
    free(first);
    qn_batches_free(two);
    qn_batches_free(one);
    qn_records_close(records);
}

/* The copies of tokenizers that threads use. */
static void test_copies(void)
{
    static const char text[] =
        "the cat's mat, that  cat \xC3\xA4\xE2\x82\xAC\nthe 12 mats <unk> x\xF0\x9F\x98\x80";
    static const char *const specials[] = {"<unk>", "<s>"};
    for (int splitting = 0; splitting <= QN_SPLIT_PUNCTUATION + 1; splitting++) {
        struct qn_vocabulary vocabulary = {.splitting = (enum qn_splitting)splitting,
                                           .merges = 20,
                                           .byte_fallback = splitting == QN_SPLIT_MARK,
                                           .specials = specials,
                                           .n_specials = 2,
                                           .cleaning = {QN_CLEAN_NFC},
                                           .n_cleaning = splitting == QN_SPLIT_SPACE};
        bool is_byte = splitting > QN_SPLIT_PUNCTUATION;
        qn_word_counter *counter = is_byte ? NULL : qn_word_counter_new(qn, &vocabulary);
        if (counter)
            qn_word_counter_add(counter, "text", text, 30);
        qn_tokenizer *tokenizer = counter ? qn_word_counter_finish(counter) : qn_tokenizer_byte(qn);
        qn_tokenizer *copy = tokenizer ? tokenizer_copy(tokenizer, qn) : NULL;
        int32_t *ids[2];
        size_t counts[2];
        bool is_same =
            copy && qn_tokenizer_same(tokenizer, copy) &&
            qn_encode(tokenizer, "text", text, sizeof text - 1, &ids[0], &counts[0]) == QN_OK &&
            qn_encode(copy, "text", text, sizeof text - 1, &ids[1], &counts[1]) == QN_OK &&
            counts[0] == counts[1] && memcmp(ids[0], ids[1], counts[0] * sizeof **ids) == 0;
        ok(is_same, "a copy of a tokenizer, %s %d: %s",
           tokenizer ? qn_tokenizer_kind(tokenizer) : "none", splitting, qn_error(qn));
        free(ids[0]);
        free(ids[1]);
        qn_tokenizer_free(copy);
        qn_tokenizer_free(tokenizer);
        qn_word_counter_free(counter);
    }
}

/* ---- Multi30k ---- */

static qn_tokenizer *learn_pairs(const char *const paths[2])
{
    static const char *const specials[] = {"<unk>", "<pad>", "<bos>", "<eos>"};
    const struct qn_vocabulary vocabulary = {
        .splitting = QN_SPLIT_MARK, .merges = 6000, .specials = specials, .n_specials = 4};
    qn_word_counter *counter = qn_word_counter_new(qn, &vocabulary);
    for (int i = 0; i < 2; i++)
        if (qn_word_counter_add_file(counter, paths[i]) != QN_OK)
            bail_out("%s", qn_error(qn));
    qn_tokenizer *tokenizer = qn_word_counter_finish(counter);
    qn_word_counter_free(counter);
    return tokenizer;
}

static void test_multi30k(void)
{
    const char *const paths[] = {shared_path("data/translation/multi30k/train.en"),
                                 shared_path("data/translation/multi30k/train.de")};
    if (!paths[0] || !paths[1]) {
        skip("Multi30k is not there");
        return;
    }
    qn_tokenizer *tokenizer = learn_pairs(paths);
    const struct qn_batch_field fields[] = {{.name = "source",
                                             .tokenizer = tokenizer,
                                             .is_sequence = true,
                                             .begin = -1,
                                             .end = 3,
                                             .pad = 1},
                                            {.name = "target",
                                             .tokenizer = tokenizer,
                                             .is_sequence = true,
                                             .begin = 2,
                                             .end = 3,
                                             .pad = 1}};
    qn_records *records = qn_records_open(
        qn, &(struct qn_record_options){.paths = paths, .n_paths = 2, .is_strict = true});
    static const struct {
        size_t shapes, most; /* padding, in tenths of a percent */
    } cases[] = {{8, 135}, {16, 88}, {24, 68}, {32, 59}, {0, 50}, {64, 33}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qn_batches *batches =
            qn_batches_new(records, &(struct qn_batch_options){.fields = fields,
                                                               .n_fields = 2,
                                                               .tokens = 1600,
                                                               .shapes = cases[i].shapes,
                                                               .is_shuffled = true});
        double tokens = (double)qn_batches_tokens(batches),
               padding = (double)qn_batches_padding(batches);
        ok(batches && qn_batches_examples(batches) == 29000 &&
               1000 * padding <= (double)cases[i].most * (padding + tokens),
           "Multi30k at 1,600 tokens: %zu shapes, %zu batches, %.2f%% padding",
           qn_batches_shapes(batches), qn_batches_per_epoch(batches),
           100 * padding / (padding + tokens));
        qn_batches_free(batches);
    }
    qn_records_close(records);
    qn_tokenizer_free(tokenizer);
}

int main(void)
{
    make_test_folder();
    atexit(remove_test_folder);
    open_host();
    make_set();
    for (size_t i = 0; i < sizeof epoch_cases / sizeof *epoch_cases; i++)
        test_epochs(&epoch_cases[i]);
    test_seek();
    test_order();
    test_labels();
    test_tags();
    test_most();
    test_three();
    test_refused();
    test_strict();
    test_cleaned();
    test_changed();
    test_replaced();
    test_freed();
    test_shared();
    test_copies();
    test_multi30k();
    qn_tokenizer_free(set.tokenizer);
    qn_close(qn);
    return done_testing();
}
