/* Data sets of examples: records of files, as ids, in batches of few shapes.  All of it runs on the host. */
#ifndef QUERN_DATA_H
#define QUERN_DATA_H

#include <quern/text.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QN_MAX_FIELDS = 8 };

/* ---- Records ----
 *
 * A record is a few fields of UTF-8 text, at most QN_MAX_FIELDS:
 *
 *     QN_LINES    a line of each file: file i has field i ("parallel lines" where there are several)
 *     QN_TSV      a line, its fields parted by tabs, without quotes
 *     QN_JSONL    a JSON object on a line (JSON Lines); a field is a string, an integer, true or false, or the first of an array of such
 *     QN_COLUMNS  the lines up to an empty one, a token each, its columns parted by tabs, or, in records without a tab, by spaces
 *                 (CoNLL): a field is a column's values, joined by single spaces.  In records with tabs, lines without one that
 *                 begin with # are comments
 *
 * Lines end in LF, CRLF or with the file; a byte order mark at its beginning is passed over.  Files are read by offset, never as a
 * whole, and may be larger than memory: of a record 8 bytes are kept for each file it is in, and of QN_COLUMNS 16 more. */
enum qn_record_format { QN_LINES, QN_TSV, QN_JSONL, QN_COLUMNS };

/* "lines", "tsv", "jsonl", "columns"; -1 (and no error) for others.  And by the end of a file's name: .tsv, .jsonl (or .ndjson),
 * .conll (or .conllu, .bio); else lines. */
int qn_record_format_named(const char *name);
enum qn_record_format qn_record_format_of(const char *path);

struct qn_record_options {
    enum qn_record_format format;
    const char *const *paths; /* QN_LINES: one for each field; else one after the other */
    size_t n_paths;
    const char *const *names; /* what messages call them; NULL: by their paths */
    const char *const *fields; /* QN_TSV, QN_COLUMNS: numbers of columns, from "1"; QN_JSONL: keys; QN_LINES: not used */
    size_t n_fields;
    /* A damaged record is skipped and counted, and told about if `report` is not NULL; or, if `is_strict`, the error of
     * qn_records_open().  Damaged is what
     *
     * - is not UTF-8, has a NUL, or is longer than 2^24 - 1 bytes;
     * - is an empty line (but between records of QN_COLUMNS), or has a wanted field that is empty: white space counts as nothing;
     * - lacks a wanted field, column or key, or has a column with a space inside, which would make it two tokens;
     * - is no JSON object, nests deeper than 2,048, has a key twice, or has another kind of value at a wanted key.
     *
     * Messages begin with FILE:LINE: and do not end in a line end. */
    bool is_strict;
    void (*report)(void *user, const char *message);
    void *user;
};

/* Reads all files once.  NULL if a file cannot be read, is empty, no regular file or larger than a tebibyte, if no record is good, or
 * if files of QN_LINES have not equally many lines.
 *
 * Files must not change while records are open: what reads them says so then, by size and time of change, and fails. */
typedef struct qn_records qn_records;
qn_records *qn_records_open(qn_context *context, const struct qn_record_options *options);
void qn_records_close(qn_records *records);

/* Moves a share of the records, drawn by `seed`, into a data set of their own, to be closed like the other.  NULL, and an error, if there
 * are none on one side; without memory the records are only good to be closed then. */
qn_records *qn_records_hold_out(qn_records *records, double share, uint64_t seed);

size_t qn_records_count(const qn_records *records);
size_t qn_records_skipped(const qn_records *records); /* damaged ones */
size_t qn_records_bytes(const qn_records *records, size_t file);  /* of one of the files, from 0 */
uint64_t qn_records_hash(const qn_records *records, size_t file); /* FNV-1a, 64 bits, of its contents */

/* The fields of a record, from 0: texts with a NUL behind, borrowed until the next call for these records. */
struct qn_field_text {
    const char *text;
    size_t bytes;
};
int qn_records_read(qn_records *records, size_t record,
                    struct qn_field_text fields[QN_MAX_FIELDS]);

/* Where it stands, "FILE:LINE", for messages; borrowed until the next call.  NULL (and no error) if there is no such record. */
const char *qn_records_place(qn_records *records, size_t record);

/* The line of its file that it begins in, from 1: to write results beside what was skipped.  0 (and no error): no such record. */
size_t qn_records_line(const qn_records *records, size_t record);

/* ---- Labels ---- */

/* The different values of a field, or of its words (parted by spaces: tags of tokens), in the order of their bytes: class i is the
 * one of number i.  NULL if there are more than `most`. */
typedef struct qn_labels qn_labels;
qn_labels *qn_labels_of(qn_records *records, size_t field, size_t most);
qn_labels *qn_labels_of_words(qn_records *records, size_t field, size_t most);

/* Class i is names[i].  NULL if there is none, or one is empty or there twice. */
qn_labels *qn_labels_new(qn_context *context, const char *const *names, size_t count);
void qn_labels_free(qn_labels *labels);
size_t qn_labels_count(const qn_labels *labels);
const char *qn_labels_name(const qn_labels *labels, size_t label); /* NULL (and no error): none */
int32_t qn_labels_find(const qn_labels *labels, const char *name); /* -1 (and no error): none */

/* ---- Batches ---- */

/* What becomes of a field. */
struct qn_batch_field {
    const char *name;        /* for messages: "source" */
    qn_tokenizer *tokenizer; /* ids of its text; or */
    const qn_labels *labels; /* one id: that of its label; or, if `is_sequence`, one for each of its words */
    bool is_sequence;
    int32_t begin, end, pad; /* ids before and behind a sequence, -1: none; and in places that have none */
    size_t most;             /* ids of a sequence at most, `begin` and `end` counted in; 0: any number */
    bool cuts;               /* longer ones are cut (`end` stays); else the example is left out and counted */
};

struct qn_batch_options {
    const struct qn_batch_field *fields; /* one for each field of the records */
    size_t n_fields;
    size_t tokens; /* rows times the longest field of a batch at most this (but at least one row); or, if it is 0, */
    size_t rows;   /* so many rows, if there are so many examples */
    size_t shapes; /* at most so many shapes; 0: as few as pad about a twentieth, but 48 at most */
    bool is_shuffled; /* by `seed`, each epoch anew; else batches of short examples come first, the same in each epoch */
    uint64_t seed;
};

/* All examples of an epoch, each once, in batches of few shapes, chosen so that little is padded: by all lengths of the first two
 * sequences; others get the longest of their shape.  Batches are full but for the last one of the largest shape: what would be left of
 * another is in a larger shape, or, with `tokens`, is saved by a few rows less.  So each epoch has equally many batches of each shape,
 * and which examples are in batch number n, counted on from epoch to epoch, is a pure function of the data, the options and n.
 *
 * All records are read and encoded once to learn their lengths; of an example 24 bytes are kept until then, and 8 afterwards.  A thread
 * then makes the next batches while one is used.  Records and labels must live as long; they and tokenizers (which are copied) may be used meanwhile.
 *
 * Damaged is here: a label that is none; a character or word that a tokenizer has no token for; a text that cleaning leaves nothing
 * of.  That is skipped or an error as the records' options say.  NULL, too, if no example is left. */
typedef struct qn_batches qn_batches;
qn_batches *qn_batches_new(qn_records *records, const struct qn_batch_options *options);
void qn_batches_free(qn_batches *batches); /* at any moment */

struct qn_batch_shape {
    size_t rows, length[QN_MAX_FIELDS]; /* in ids; 1 of a label */
};
size_t qn_batches_shapes(const qn_batches *batches);
struct qn_batch_shape qn_batches_shape(const qn_batches *batches, size_t shape); /* small ones first */

size_t qn_batches_per_epoch(const qn_batches *batches);
size_t qn_batches_examples(const qn_batches *batches); /* of an epoch */
size_t qn_batches_skipped(const qn_batches *batches);  /* records too long or damaged */
size_t qn_batches_tokens(const qn_batches *batches);   /* of an epoch, of all sequences: ids, padding not counted */
size_t qn_batches_padding(const qn_batches *batches);  /* places of sequences of an epoch that have no id */

/* A batch, borrowed until the next call of qn_batches_next(): ids (rows, length) and lengths (rows) for each field, row by row; rows
 * behind `examples` are all padding, of length 0. */
struct qn_batch {
    uint64_t number;
    size_t shape, examples;
    const int32_t *ids[QN_MAX_FIELDS], *lengths[QN_MAX_FIELDS];
    const size_t *records; /* which they are, one for each example */
    size_t tokens;         /* as qn_batches_tokens() */
};

/* Batch number n comes next: to go on with a run.  If it does so anyway, nothing that was made ahead is lost. */
int qn_batches_seek(qn_batches *batches, uint64_t number);

/* The next batch, of number 0 at first; there is always one.  Fails without memory and if a file has changed, and then stays so. */
int qn_batches_next(qn_batches *batches, struct qn_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
