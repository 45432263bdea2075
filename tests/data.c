/* Data sets of examples: records of every format, what is damaged in them, and labels.  Needs no device; some sets are found
 * through $QUERN_SHARED. */
#define _DEFAULT_SOURCE

#include <quern/data.h>

#include <fcntl.h>
#include <sys/time.h>

#include "tap.h"

#include "files.h"
#include "host.h"
#include "text/data/records.h"

/* ---- Records ---- */

static char reports[20000];

static void report(void *user, const char *message)
{
    const char *name =
        strrchr(message, '/'); /* without the folder, which has another name each time */
    size_t used = strlen(reports);
    snprintf(reports + used, sizeof reports - used, "%s%s", used ? "\n" : "",
             name ? name + 1 : message);
    (*(size_t *)user)++;
}

static size_t reported;

static qn_records *open_records(struct qn_record_options options, bool is_strict)
{
    reports[0] = '\0';
    reported = 0;
    options.is_strict = is_strict;
    options.report = report;
    options.user = &reported;
    return qn_records_open(qn, &options);
}

/* All fields of all records: "a|b\nc|d". */
static const char *contents(qn_records *records, size_t n_fields)
{
    static char text[20000];
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < qn_records_count(records); i++) {
        struct qn_field_text fields[QN_MAX_FIELDS];
        if (qn_records_read(records, i, fields) != QN_OK)
            return qn_error(qn);
        for (size_t f = 0; f < n_fields; f++)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%.*s",
                                 f ? "|" : (i ? "\n" : ""), (int)fields[f].bytes, fields[f].text);
    }
    return text;
}

static bool same(const char *found, const char *expected)
{
    bool is_same = strcmp(found, expected) == 0;
    if (!is_same)
        note("found \"%s\", expected \"%s\"", found, expected);
    return is_same;
}

/* A file, its fields, and what is good and bad in it. */
static const struct file_case {
    const char *what;
    enum qn_record_format format;
    const char *text, *fields[3];
    const char *contents, *reports;
} file_cases[] = {
    {"lines", QN_LINES, "a b\nc\n", {0}, "a b\nc", ""},
    {"CRLF, no last LF", QN_LINES, "a\r\nb", {0}, "a\nb", ""},
    {"a byte order mark",
     QN_LINES,
     "\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo\n",
     {0},
     "one\n\xEF\xBB\xBFtwo",
     ""},
    {"a return inside a line", QN_LINES, "a\rb\r\r\n", {0}, "a\rb\r", ""},
    {"empty lines",
     QN_LINES,
     "a\n\n \t\xC2\xA0\nb\n",
     {0},
     "a\nb",
     "f:2: an empty line\nf:3: an empty line"},
    {"not UTF-8",
     QN_LINES,
     "a\nb\xC3\xA4\xFF\nc",
     {0},
     "a\nc",
     "f:2: byte 0xFF at column 3 is not UTF-8: convert the file (iconv -t utf-8)"},
    {"a cut sequence, a surrogate",
     QN_LINES,
     "\xE2\x82\n\xED\xA0\x80\nx",
     {0},
     "x",
     "f:1: byte 0xE2 at column 1 is not UTF-8: convert the file (iconv -t utf-8)\n"
     "f:2: byte 0xED at column 1 is not UTF-8: convert the file (iconv -t utf-8)"},
    {"fields of TSV",
     QN_TSV,
     "pos\tgood film\t1\nneg\tbad\t2\r\n",
     {"2", "1"},
     "good film|pos\nbad|neg",
     ""},
    {"one field twice", QN_TSV, "a\tb\n", {"2", "2"}, "b|b", ""},
    {"TSV keeps quotes and spaces", QN_TSV, "\"a\" \t b", {"1", "2"}, "\"a\" | b", ""},
    {"TSV with too few and empty fields",
     QN_TSV,
     "a\tb\nc\n\td\ne\t \ng\th\n",
     {"1", "2"},
     "a|b\ng|h",
     "f:2: no field 2: the line has 1, parted by tabs\nf:3: field \"1\" is empty\nf:4: field \"2\" "
     "is empty"},
    {"keys of JSON",
     QN_JSONL,
     "{\"t\": \"a\\u00e4\\n\", \"l\": 3, \"x\": null}\n{\"l\": true, \"t\": [\"b\", \"c\"]}",
     {"t", "l"},
     "a\xC3\xA4\n|3\nb|true",
     ""},
    {"JSON that is none",
     QN_JSONL,
     "{\"t\": \"a\"}\n{\"t\": \"a\"\n[1]\n\"t\"\n{\"t\": \"a\"} 1\n{\"t\":1,\"t\":2}\n",
     {"t"},
     "a",
     "f:2: not JSON: column 9: \"'}' expected near end of file\"\n"
     "f:3: expected a JSON object {...}, found array of 1\n"
     "f:4: expected a JSON object {...}, found string \"t\"\n"
     "f:5: not JSON: column 12: \"end of file expected near '1'\"\n"
     "f:6: not JSON: column 10: \"duplicate object key near '\\\"t\\\"'\""},
    {"JSON without its keys",
     QN_JSONL,
     "{\"u\": 1}\n{\"t\": {}}\n{\"t\": []}\n{\"t\": 0.5}\n{\"t\": \"\"}\n{\"t\": "
     "\"\\u0000\"}\n{\"t\":\"a\"}\n",
     {"t"},
     "a",
     "f:1: no key \"t\"\n"
     "f:2: \"t\": expected a string, an array of strings or an integer, found object of 0\n"
     "f:3: \"t\": expected a string, an array of strings or an integer, found array of 0\n"
     "f:4: \"t\": expected a string, an array of strings or an integer, found 0.5\n"
     "f:5: field \"t\" is empty\n"
     "f:6: not JSON: column 14: \"\\\\u0000 is not allowed without JSON_ALLOW_NUL near "
     "'\\\"\\\\u0000\\\"'\""},
    {"columns by spaces",
     QN_COLUMNS,
     "\n\n# NN B\n1  NP I\n\n \nb X O\n",
     {"1", "3"},
     "# 1|B I\nb|O",
     ""},
    {"columns by tabs, CRLF, comments",
     QN_COLUMNS,
     "# text = a b\r\n1\ta\tX\r\n2\tb\tY\r\n\r\n1\t#\tZ\r\n\r\n",
     {"2", "3"},
     "a b|X Y\n#|Z",
     ""},
    {"columns that lack, or hold too much",
     QN_COLUMNS,
     "a X\nb\n\n1\ta b\n\n1\tc\n2\t\n\n# no\n#to\tkens\n# at all\n\nc Y\n",
     {"1", "2"},
     "#to|kens\nc|Y",
     "f:2: no column 2: the line has 1, parted by spaces\n"
     "f:4: column 2 has a space inside, \"a b\", which would make it two tokens\n"
     "f:7: column 2 is empty"},
};
enum { FILE_CASES = sizeof file_cases / sizeof *file_cases };

static size_t count_fields(const char *const fields[3])
{
    size_t count = 0;
    while (count < 3 && fields[count])
        count++;
    return count;
}

static void test_file(const struct file_case *file)
{
    const char *path = write_text("f", file->text);
    size_t n_fields = count_fields(file->fields);
    struct qn_record_options options = {.format = file->format,
                                        .paths = &path,
                                        .n_paths = 1,
                                        .fields = file->fields,
                                        .n_fields = n_fields};
    qn_records *records = open_records(options, false);
    bool is_good = records && same(contents(records, n_fields ? n_fields : 1), file->contents) &&
                   same(reports, file->reports) && qn_records_skipped(records) == reported;
    qn_records_close(records);
    if (!records)
        note("%s", qn_error(qn));
    qn_clear_error(qn);
    records = open_records(options, true);
    if (*file->reports) { /* the first of them is fatal then */
        char first[1000];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(file->reports, "\n"), file->reports);
        is_good = is_good && !records && says(first);
    }
    is_good = is_good && (*file->reports || records);
    qn_records_close(records);
    ok(is_good, "%s", file->what);
}

/* Two files side by side. */
static qn_records *open_lines(const char *a, const char *b)
{
    const char *const paths[] = {write_text("a", a), write_text("b", b)};
    return open_records((struct qn_record_options){.paths = paths, .n_paths = 2}, false);
}

static void test_parallel(void)
{
    qn_records *records = open_lines("a\nb\n\nd\ne", "A\r\nB\xFF\nC\nD\nE\n");
    ok(records && same(contents(records, 2), "a|A\nd|D\ne|E") &&
           same(reports,
                "b:2: byte 0xFF at column 2 is not UTF-8: convert the file (iconv -t utf-8)\n"
                "a:3: an empty line") &&
           qn_records_count(records) == 3 && qn_records_skipped(records) == 2,
       "parallel lines: what is damaged in one is skipped in both");
    ok(records && strstr(qn_records_place(records, 0), "/a:1") &&
           strstr(qn_records_place(records, 1), "/a:4") &&
           strstr(qn_records_place(records, 2), "/a:5") && !qn_records_place(records, 3) &&
           qn_records_line(records, 1) == 4 && qn_records_line(records, 3) == 0,
       "places of records");
    ok(qn_records_bytes(records, 0) == 8 && qn_records_bytes(records, 1) == 12 &&
           qn_records_bytes(records, 2) == 0,
       "bytes of both files");
    uint64_t hash = qn_records_hash(records, 0), other = qn_records_hash(records, 1);
    qn_records_close(records);
    records = open_lines("a\nb\n\nd\nf", "A\r\nB\xFF\nC\nD\nE\n");
    ok(records && qn_records_hash(records, 0) != hash && qn_records_hash(records, 1) == other,
       "the hash tells the contents");
    struct qn_field_text fields[QN_MAX_FIELDS];
    ok(qn_records_read(records, 3, fields) < 0 && says("record 3 of 3"),
       "a record that is not there");
    qn_records_close(records);
    ok(!open_lines("a\nb\nc", "A\nB\n") && says("/a has 3 lines, but ") &&
           !open_lines("a\n", "b\nc\nd\n") &&
           says("/b has 3: each line belongs to the same line of the other file"),
       "parallel files with different numbers of lines");
}

/* Several files of other formats are one after the other. */
static void test_several(void)
{
    const char *const paths[] = {write_text("a", "x\ty\nz\n"), write_text("b", "\n"),
                                 write_text("c", "\n1\t2\n3\t4")};
    const char *const fields[] = {"2"};
    const struct qn_record_options options = {
        .format = QN_TSV, .paths = paths, .n_paths = 3, .fields = fields, .n_fields = 1};
    qn_records *records = open_records(options, false);
    ok(records && same(contents(records, 1), "y\n2\n4") &&
           same(reports, "a:2: no field 2: the line has 1, parted by tabs\nb:1: an empty line\n"
                         "c:1: an empty line") &&
           strstr(qn_records_place(records, 1), "/c:2") &&
           strstr(qn_records_place(records, 0), "/a:1"),
       "files one after the other");
    qn_records_close(records);
}

static void fill(char *text, size_t bytes, char letter)
{
    memset(text, letter, bytes);
    text[bytes] = '\n';
}

static void mark(qn_records *records, bool seen[], size_t *twice)
{
    for (size_t i = 0; i < qn_records_count(records); i++) {
        struct qn_field_text fields[QN_MAX_FIELDS];
        size_t line = qn_records_line(records, i) - 1;
        bool is_read = qn_records_read(records, i, fields) == QN_OK &&
                       strtoul(fields[0].text, NULL, 10) == line;
        *twice += !is_read || seen[line];
        seen[line] = true;
    }
}

/* Both sides together are all of it, in files one after the other or side by side. */
static void test_held_out(void)
{
    static char text[1000 * 5 + 1];
    for (size_t i = 0; i < 1000; i++)
        sprintf(text + 5 * i, "%04zu\n", i);
    const char *const paths[] = {write_text("f", text), write_text("g", text)};
    const char *const fields[] = {"1"};
    struct qn_record_options options = {
        .paths = paths, .n_paths = 2, .fields = fields, .n_fields = 1};
    for (int is_parallel = 0; is_parallel < 2; is_parallel++) {
        bool seen[1000] = {false};
        size_t twice = 0;
        options.format = is_parallel ? QN_LINES : QN_TSV;
        options.n_paths = is_parallel ? 2 : 1;
        qn_records *records = open_records(options, true),
                   *held_out = qn_records_hold_out(records, 0.1, 1);
        size_t count = qn_records_count(held_out);
        mark(records, seen, &twice);
        mark(held_out, seen, &twice);
        /* Five standard deviations of 1,000 draws: 47. */
        ok(count + qn_records_count(records) == 1000 && twice == 0 && count > 53 && count < 147,
           "%zu of 1,000 records are held out, and none is on both sides", count);
        ok(qn_records_hash(held_out, 0) == qn_records_hash(records, 0) &&
               strstr(qn_records_place(held_out, 0), "/f:"),
           "they are of the same file");
        qn_records_close(records);
        ok(qn_records_read(held_out, count - 1, (struct qn_field_text[QN_MAX_FIELDS]){{0}}) ==
               QN_OK,
           "and read when the others are closed");
        qn_records_close(held_out);
    }
    options.format = QN_TSV;
    options.n_paths = 2;
    qn_records *records = open_records(options, true),
               *held_out = qn_records_hold_out(records, 0.5, 2);
    size_t first = 0;
    for (size_t i = 0; i < qn_records_count(held_out); i++)
        first += strstr(qn_records_place(held_out, i), "/f:") != NULL;
    ok(qn_records_count(records) + qn_records_count(held_out) == 2000 && first > 400 && first < 600,
       "of two files half of each, %zu of the first", first);
    qn_records_close(held_out);
    ok(!qn_records_hold_out(records, 0, 1) &&
           says(" good records is held out: hold out another share than 0") &&
           !qn_records_hold_out(records, 1, 1) &&
           says(" good records are held out: hold out another share than 1"),
       "none or all of them are held out");
    qn_records_close(records);
}

/* Lines around the largest that a record may have. */
static void test_huge(void)
{
    enum { MOST = (1 << 24) - 1 };
    char *text = malloc(4 * (size_t)MOST + 100);
    size_t used = 0;
    const size_t lengths[] = {3, MOST, MOST + 1, 2, 2 * (size_t)MOST, 1};
    for (size_t i = 0; i < 6; i++) {
        fill(text + used, lengths[i], (char)('a' + i));
        used += lengths[i] + 1;
    }
    const char *path = write_file("f", text, used);
    qn_records *records =
        open_records((struct qn_record_options){.paths = &path, .n_paths = 1}, false);
    struct qn_field_text fields[QN_MAX_FIELDS];
    static const char problem[] = "longer than 16777215 bytes, the most that a record may have";
    char expected[400];
    snprintf(expected, sizeof expected, "f:3: %s\nf:5: %s", problem, problem);
    ok(records && qn_records_count(records) == 4 && same(reports, expected) &&
           qn_records_read(records, 1, fields) == QN_OK && fields[0].bytes == MOST &&
           fields[0].text[MOST - 1] == 'b' && !fields[0].text[MOST],
       "lines up to 2^24 - 1 bytes");
    ok(records && qn_records_read(records, 3, fields) == QN_OK && same(fields[0].text, "f") &&
           strstr(qn_records_place(records, 3), "/f:6"),
       "and what follows longer ones");
    qn_records_close(records);
    for (size_t at = 999; at < used; at += 1000) /* tokens of a sentence */
        text[at] = '\n';
    memcpy(text + used, "\n\nx\n", 4);
    path = write_file("f", text, used + 4);
    const char *const columns[] = {"1"};
    records = open_records(
        (struct qn_record_options){
            .format = QN_COLUMNS, .paths = &path, .n_paths = 1, .fields = columns, .n_fields = 1},
        false);
    snprintf(expected, sizeof expected, "f:1: %s", problem);
    ok(records && same(contents(records, 1), "x") && same(reports, expected),
       "a huge block of lines");
    qn_records_close(records);
    free(text);
}

/* JSON that nests deeper than any parser should follow. */
static void test_deep(void)
{
    enum { DEPTH = 100000 };
    static char text[2 * DEPTH + 100];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"t\":");
    memset(text + used, '[', DEPTH);
    snprintf(text + used + DEPTH, 50, "\n{\"t\": \"a\"}\n");
    const char *path = write_text("f", text), *const keys[] = {"t"};
    qn_records *records = open_records(
        (struct qn_record_options){
            .format = QN_JSONL, .paths = &path, .n_paths = 1, .fields = keys, .n_fields = 1},
        false);
    ok(records && same(contents(records, 1), "a") &&
           strstr(reports, "f:1: not JSON: column 2053: \"maximum parsing depth reached"),
       "deep JSON");
    qn_records_close(records);
}

static void test_refused(void)
{
    const char *good = write_text("f", "1\t2\n"), *empty = write_text("e", ""),
               *bad = write_text("b", "\n\n");
    const char *nowhere = in_folder("nowhere"), *pipe = in_folder("pipe"), *folder = test_folder;
    if (mkfifo(pipe, 0600) != 0)
        bail_out("cannot make a pipe");
    const char *const wrong[] = {"0", "1x", "", "-1", "99999999999999999999"};
    const struct {
        const char *what, *path;
        size_t n_fields;
        const char *field, *message;
    } cases[] = {
        {"a file that is not there", nowhere, 1, "1", "/nowhere: No such file or directory"},
        {"a folder", folder, 1, "1", "it is a folder, expected a file"},
        {"a pipe", pipe, 1, "1",
         "/pipe: it is no regular file, which examples are read from again and again: write them "
         "to a file first"},
        {"a device", "/dev/null", 1, "1", "/dev/null: it is no regular file"},
        {"an empty file", empty, 1, "1", "/e: it is empty"},
        {"no good record", bad, 1, "1", "/b: no record is good, of 2; the first: "},
        {"no field", good, 0, "1",
         "records of 1 files and 0 fields: expected at least one file, and 1 to 8 fields"},
        {"too many fields", good, 9, "1", "records of 1 files and 9 fields"},
        {"field 0", good, 1, wrong[0], "field \"0\": expected the number of a column, from 1"},
        {"field 1x", good, 1, wrong[1], "field \"1x\": expected"},
        {"an empty field", good, 1, wrong[2], "field \"\": expected"},
        {"field -1", good, 1, wrong[3], "field \"-1\": expected"},
        {"a huge field", good, 1, wrong[4], "field \"99999999999999999999\": expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *fields[9];
        for (size_t f = 0; f < 9; f++)
            fields[f] = cases[i].field;
        struct qn_record_options options = {.format = QN_TSV,
                                            .paths = &cases[i].path,
                                            .n_paths = 1,
                                            .fields = fields,
                                            .n_fields = cases[i].n_fields};
        ok(!open_records(options, false) && says(cases[i].message), "refused: %s", cases[i].what);
    }
    if (truncate(in_folder("f"), (off_t)1 << 40) == 0) {
        ok(!open_records((struct qn_record_options){.paths = &good, .n_paths = 1}, false) &&
               says("/f: it is larger than a tebibyte: split it"),
           "refused: a huge file");
    } else {
        skip("no file may be so large here");
    }
    ok(!open_records((struct qn_record_options){0}, false) &&
           says("records of 0 files and 0 fields"),
       "refused: no file");
    ok(!qn_records_open(qn, NULL) && !qn_records_open(NULL, &(struct qn_record_options){0}),
       "refused: no options, no context");
    qn_records_close(NULL);
}

/* Other contents of a file, at the time of the old ones. */
static void replace(const char *name, const char *text)
{
    const char *path = in_folder(name);
    struct stat status;
    if (stat(path, &status) != 0)
        bail_out("cannot look at %s", path);
    write_text(name, text);
    utimensat(AT_FDCWD, path, (const struct timespec[]){status.st_atim, status.st_mtim}, 0);
}

/* A file that is changed while it is read: which is seen, and, in between, what it would lead to. */
static void test_changed(void)
{
    struct qn_field_text fields[QN_MAX_FIELDS];
    struct record record = {.context = qn};
    const char *path = write_text("f", "one\ntwo\nthree\n");
    qn_records *records =
        open_records((struct qn_record_options){.paths = &path, .n_paths = 1}, false);
    replace("f", "one\n \xFF \nthree\n");
    ok(records && qn_records_read(records, 1, fields) < 0 &&
           says("/f:2: byte 0xFF at column 2 is not UTF-8: convert the file (iconv -t utf-8): the "
                "file has changed while it was used: open the data set again"),
       "a file with other contents of the same size and time");
    if (truncate(path, 4) != 0)
        bail_out("cannot cut a file");
    ok(qn_records_read(records, 2, fields) < 0 &&
           says("/f has changed while it was used: open the data set again"),
       "a file that was cut");
    ok(records_read(records, 2, &record) < 0 && says("/f: it has become shorter while it was used"),
       "a file that is cut at this moment");
    replace("f", "one\ntwo\nthree\n");
    utimes(path, (struct timeval[]){{1, 0}, {1, 0}});
    ok(qn_records_read(records, 0, fields) < 0 && says("/f has changed while it was used"),
       "a file that was written again");
    ok(!qn_labels_of(records, 0, 9) && says("/f has changed while it was used"),
       "labels of such a file");
    record_release(&record);
    qn_records_close(records);
}

static void test_formats(void)
{
    ok(qn_record_format_named("lines") == QN_LINES && qn_record_format_named("tsv") == QN_TSV &&
           qn_record_format_named("jsonl") == QN_JSONL &&
           qn_record_format_named("columns") == QN_COLUMNS && qn_record_format_named("csv") == -1 &&
           qn_record_format_named(NULL) == -1,
       "names of formats");
    ok(qn_record_format_of("a.tsv") == QN_TSV && qn_record_format_of("a.jsonl") == QN_JSONL &&
           qn_record_format_of("a.ndjson") == QN_JSONL &&
           qn_record_format_of("x/a.conll") == QN_COLUMNS &&
           qn_record_format_of("a.conllu") == QN_COLUMNS &&
           qn_record_format_of("a.bio") == QN_COLUMNS && qn_record_format_of("a.en") == QN_LINES &&
           qn_record_format_of("tsv") == QN_LINES,
       "formats by the names of files");
}

/* ---- Labels ---- */

static void test_labels(void)
{
    const char *path = write_text("f", "b x\tO B-PER\na\tO\nb x\tB-LOC O\n\xC3\xA4\tI-PER\n"),
               *const columns[] = {"1", "2"};
    qn_records *records = open_records(
        (struct qn_record_options){
            .format = QN_TSV, .paths = &path, .n_paths = 1, .fields = columns, .n_fields = 2},
        false);
    qn_labels *labels = qn_labels_of(records, 0, 3), *tags = qn_labels_of_words(records, 1, 100);
    ok(qn_labels_count(labels) == 3 && same(qn_labels_name(labels, 0), "a") &&
           same(qn_labels_name(labels, 1), "b x") && same(qn_labels_name(labels, 2), "\xC3\xA4") &&
           !qn_labels_name(labels, 3),
       "labels in the order of their bytes");
    ok(qn_labels_find(labels, "b x") == 1 && qn_labels_find(labels, "b") == -1 &&
           qn_labels_find(labels, NULL) == -1,
       "labels by name");
    ok(qn_labels_count(tags) == 4 && same(qn_labels_name(tags, 0), "B-LOC") &&
           qn_labels_find(tags, "O") == 3,
       "labels of words");
    qn_labels_free(tags);
    qn_labels_free(labels);
    ok(!qn_labels_of(records, 0, 2) && says("more than 2 different labels, the last of them "
                                            "\"\xC3\xA4\": is it the right field?"),
       "too many labels");
    ok(!qn_labels_of(records, 2, 2) && says("labels of field 2 of 2"), "labels of no field");
    qn_records_close(records);
    labels = qn_labels_new(qn, (const char *const[]){"z", "a"}, 2);
    ok(qn_labels_find(labels, "a") == 1 && qn_labels_find(labels, "z") == 0,
       "labels in an order of their own");
    qn_labels_free(labels);
    ok(!qn_labels_new(qn, (const char *const[]){"z", "z"}, 2) &&
           says("label 1, \"z\", is there twice") &&
           !qn_labels_new(qn, (const char *const[]){""}, 1) && says("label 0, \"\", is empty") &&
           !qn_labels_new(qn, NULL, 0) && says("there are no labels"),
       "refused: labels twice, empty, none");
    qn_labels_free(NULL);
}

/* ---- Data sets that people use ---- */

static const struct {
    const char *path, *fields[2];
    size_t records, labels; /* of the second field, or of its words */
} sets[] = {
    {"data/classification/rt-polarity/train.tsv", {"2", "1"}, 8530, 2},
    {"data/classification/clinc150/train.tsv", {"2", "1"}, 14995, 150},
    {"data/summarization/scitldr/dev.jsonl", {"source", "target"}, 618, 0},
    {"data/qa/qed/train.jsonl", {"context", "question"}, 1100, 0},
    {"data/srl/propbank-ewt/dev.conll", {"2", "3"}, 1966, 49},
};

static void test_sets(void)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const char *path = shared_path(sets[i].path);
        if (!path) {
            skip("the data set is not there");
            continue;
        }
        qn_records *records =
            open_records((struct qn_record_options){.format = qn_record_format_of(path),
                                                    .paths = &path,
                                                    .n_paths = 1,
                                                    .fields = sets[i].fields,
                                                    .n_fields = 2},
                         true);
        qn_labels *labels = sets[i].labels == 0 ? NULL : qn_labels_of_words(records, 1, 1000);
        ok(qn_records_count(records) == sets[i].records &&
               qn_labels_count(labels) == sets[i].labels,
           "%s: %zu records, %zu labels %s", sets[i].path, qn_records_count(records),
           qn_labels_count(labels), qn_error(qn));
        qn_clear_error(qn);
        qn_labels_free(labels);
        qn_records_close(records);
    }
}

int main(void)
{
    make_test_folder();
    atexit(remove_test_folder);
    open_host();
    for (size_t i = 0; i < FILE_CASES; i++)
        test_file(&file_cases[i]);
    test_parallel();
    test_several();
    test_held_out();
    test_huge();
    test_deep();
    test_refused();
    test_changed();
    test_formats();
    test_labels();
    test_sets();
    qn_close(qn);
    return done_testing();
}
