/* quern tune: which kernels multiply which matrices fastest, written to a file that QUERN_TUNING names. */
#include "cli/tune/tune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/train/signals.h"
#include "io/file.h"

struct tune {
    const struct options *options;
    qn_context *qn;
    struct progress progress;
    struct products products;
    struct finding *findings; /* of the products that were reached */
    size_t n_findings, n_choices;
    struct tuning *earlier; /* what the file held before; NULL: nothing that may be kept */
    bool is_there;          /* the file */
};

/* ---- Before ---- */

static int check_options(const struct options *options)
{
    const char *shapes = options_string(options, "shapes");
    char wrong[SIZES_TEXT];
    if (shapes && !shapes_are_good("gemm", shapes, wrong))
        return usage_error(
            options, "--shapes: \"%s\" is no shape of gemm: MxNxK, sizes up to 2147483647", wrong);
    return EXIT_SUCCESS;
}

static bool is_wanted(const struct options *options, enum qn_type type)
{
    size_t count = options_count(options, "dtype");
    for (size_t i = 0; i < count; i++)
        if (strcmp(options_at(options, "dtype", i), qn_type_name(type)) == 0)
            return true;
    return count == 0 && type == QN_F32;
}

static bool list_products(struct tune *tune)
{
    static const enum qn_type types[] = {QN_F32, QN_BF16, QN_F16};
    const char *shapes = options_string(tune->options, "shapes");
    bool is_good = true;
    for (size_t i = 0; is_good && i < sizeof types / sizeof *types; i++)
        if (is_wanted(tune->options, types[i]))
            is_good = shapes ? products_add_shapes(&tune->products, types[i], shapes)
                             : products_add_usual(&tune->products, types[i]);
    tune->findings = calloc(tune->products.count + 1, sizeof *tune->findings);
    return is_good && tune->findings;
}

/* Lines for this device are kept, those for another are not; what holds something else, or has mistakes, is not replaced. */
static int read_earlier(struct tune *tune, const char *path)
{
    struct stat found;
    if (stat(path, &found) != 0 || found.st_size == 0)
        return EXIT_SUCCESS;
    tune->is_there = true;
    int status = tuning_open(tune->qn, path);
    struct tuning *earlier = tuning_take(tune->qn);
    if (status == QN_OK) {
        tune->earlier = earlier;
        return EXIT_SUCCESS;
    }
    tuning_free(earlier);
    if (status != QN_ERROR_INVALID)
        return failure(tune->options, "%s; it is not replaced", qn_error(tune->qn));
    qn_clear_error(tune->qn);
    failure(tune->options,
            "%s is for another device, driver, class or version: what is found out replaces it",
            path);
    return EXIT_SUCCESS;
}

static int check_file(struct tune *tune)
{
    const char *path = options_string(tune->options, "out");
    int status = read_earlier(tune, path);
    if (status != EXIT_SUCCESS)
        return status;
    struct file_writer writer;
    if (file_create(&writer, tune->qn, path) != QN_OK)
        return failure(tune->options, "%s", qn_error(tune->qn));
    file_discard(&writer);
    return EXIT_SUCCESS;
}

static int prepare(struct tune *tune)
{
    tune->qn = qn_open_with(
        &(struct qn_options){.device = options_string(tune->options, "device"), .tuning = ""});
    if (!tune->qn)
        return failure(tune->options, "%s", qn_error(NULL));
    if (strcmp(qn_device_name(tune->qn), "none") == 0)
        return failure(tune->options, "the device is \"none\": nothing can be timed");
    progress_start(&tune->progress, options_flag(tune->options, "quiet"));
    if (!list_products(tune))
        return failure(tune->options, "out of memory");
    return check_file(tune);
}

/* ---- All products ---- */

static int measure(struct tune *tune)
{
    struct measuring measuring = {.options = tune->options,
                                  .qn = tune->qn,
                                  .progress = &tune->progress,
                                  .until = seconds_now() + options_seconds(tune->options, "budget"),
                                  .count = tune->products.count};
    int status = EXIT_SUCCESS;
    for (size_t i = 0; i < tune->products.count && !is_over(&measuring); i++) {
        struct finding *finding = &tune->findings[tune->n_findings++];
        signals_catch("trial", is_hangup_ignored());
        measuring.index = i;
        product_measure(&measuring, &tune->products.at[i], finding);
        tune->n_choices += finding->best != NULL;
        if (finding->n_void)
            status = EXIT_FAILED;
    }
    progress_end_line(&tune->progress);
    return status;
}

/* ---- What was found ---- */

static const char *standard_of(const struct finding *finding)
{
    return finding->standard ? finding->standard : "the default";
}

/* "clblast 0.41x, tiled/64 void". */
static void print_tried(const struct finding *finding, FILE *file)
{
    for (size_t i = 0; i < finding->n_tried; i++) {
        const struct attempt *attempt = &finding->tried[i];
        fprintf(file, attempt->ratio > 0 ? "%s%s %.2fx" : "%s%s void", i ? ", " : "",
                attempt->choice->name, attempt->ratio);
    }
    if (finding->n_tried == 0)
        fputs("–", file);
}

/* Two cells: of the default, and of what is best. */
static void print_times(const struct finding *finding)
{
    if (finding->is_void)
        printf(" %s: void | – |", standard_of(finding));
    else
        printf(" %s | %.4g |", standard_of(finding), 1e3 * finding->seconds);
    if (finding->best)
        printf(" %s | %.4g |", finding->best->name, 1e3 * finding->best_seconds);
    else
        printf(" %s | – |", finding->is_void ? "–" : "the default");
    if (finding->best && !finding->is_void)
        printf(" %.2f |", finding->ratio);
    else
        printf(" – |");
}

static void print_table(const struct tune *tune)
{
    char of[TUNING_TEXT], measured[SIZES_TEXT];
    printf("| product | measured with | default | ms | best | ms | times as fast | tried |\n"
           "|---|---|---|--:|---|--:|--:|---|\n");
    for (size_t i = 0; i < tune->n_findings; i++) {
        printf("| %s | %s |", tuning_class_text(of, &tune->products.at[i].of),
               sizes_text(measured, tune->products.at[i].sizes, 3));
        print_times(&tune->findings[i]);
        printf(" ");
        print_tried(&tune->findings[i], stdout);
        printf(" |\n");
    }
}

static void print_rest(const struct tune *tune)
{
    size_t left = tune->products.count - tune->n_findings, cut = 0, broken = 0;
    for (size_t i = 0; i < tune->n_findings; i++) {
        cut += tune->findings[i].is_cut;
        broken += tune->findings[i].is_void && !tune->findings[i].best;
    }
    if (left + cut > 0)
        printf("\n%s: of %zu products, %zu were not reached, and %zu not tried in all "
               "ways.\n",
               signal_caught() ? "Ended by a signal" : "The time was up; --budget gives more",
               tune->products.count, left, cut);
    if (broken > 0)
        printf("\nOf %zu of %zu products no kernel gave a right result.\n", broken,
               tune->n_findings);
}

/* Whether the file's line of a product is due to this run: not if there was no time for all. */
static bool is_settled(const struct finding *finding)
{
    return finding->best || !finding->is_cut;
}

/* Whether what a line of an earlier run says was void now. */
static bool is_refuted(const struct finding *finding, const struct tuning_line *line)
{
    for (size_t i = 0; i < finding->n_tried; i++)
        if (finding->tried[i].choice == line->choice)
            return finding->tried[i].ratio <= 0;
    return !line->choice && finding->is_void;
}

/* A line for each product that is settled, so that the file tells what was tried. */
static void print_finding(const struct product *product, const struct finding *finding, FILE *file)
{
    char of[TUNING_TEXT], measured[SIZES_TEXT];
    double seconds = finding->best ? finding->best_seconds : finding->seconds;
    if (!is_settled(finding))
        return;
    fprintf(file, "%s %s  ", tuning_class_text(of, &product->of),
            finding->best ? finding->best->name : "default");
    if (finding->best || !finding->is_void)
        fprintf(file, "%.4g ms ", 1e3 * seconds);
    fprintf(file, "with %s, ", sizes_text(measured, product->sizes, 3));
    if (finding->is_void)
        fprintf(file, "%s is void", standard_of(finding));
    else if (finding->best)
        fprintf(file, "%.2f times as fast as %s", finding->ratio, finding->standard);
    else
        fprintf(file, "by %s", standard_of(finding));
    fprintf(file, "; tried: ");
    print_tried(finding, file);
    fprintf(file, "\n");
}

static bool is_to_keep(const struct tune *tune, const struct tuning_line *line)
{
    for (size_t i = 0; i < tune->n_findings; i++)
        if (tuning_class_equal(&tune->products.at[i].of, &line->of))
            return !is_settled(&tune->findings[i]) && !is_refuted(&tune->findings[i], line);
    return true;
}

/* What this run has not settled; returns the number of choices. */
static size_t print_earlier(const struct tune *tune, FILE *file)
{
    struct tuning_line line;
    size_t lines = 0, choices = 0;
    for (size_t i = 0; tuning_line(tune->earlier, i, &line); i++) {
        if (!is_to_keep(tune, &line))
            continue;
        if (lines++ == 0)
            fprintf(file, "# of earlier runs:\n");
        fprintf(file, "%.*s\n", line.length, line.text);
        choices += line.choice != NULL;
    }
    return choices;
}

/* Whether the file would say something that it does not say yet: runs go on by its very bytes. */
static bool has_news(const struct tune *tune)
{
    struct tuning_line line;
    for (size_t i = 0; i < tune->n_findings; i++)
        if (is_settled(&tune->findings[i]))
            return true;
    for (size_t i = 0; tuning_line(tune->earlier, i, &line); i++)
        if (!is_to_keep(tune, &line))
            return true;
    return false;
}

static bool print_file(const struct tune *tune, FILE *file, size_t *kept)
{
    char now[TIME_TEXT], *head = tuning_head(tune->qn);
    time_text(now);
    fprintf(file,
            "%s# by quern tune, %s: what is right and was faster than the default, or \"default\" "
            "where nothing was\n",
            head ? head : "", now);
    for (size_t i = 0; i < tune->n_findings; i++)
        print_finding(&tune->products.at[i], &tune->findings[i], file);
    *kept = print_earlier(tune, file);
    free(head);
    return head && !ferror(file);
}

/* Whether there was a choice that a default could have lost to. */
static bool has_compared(const struct tune *tune)
{
    for (size_t i = 0; i < tune->n_findings; i++)
        if (tune->findings[i].n_tried > 0 && tune->findings[i].tried[0].ratio > 0 &&
            !tune->findings[i].is_void)
            return true;
    return false;
}

static void say_written(const struct tune *tune, const char *path, size_t kept)
{
    char *whole = realpath(path, NULL);
    printf("\nWrote %zu choices", tune->n_choices);
    if (kept)
        printf(", and kept %zu of earlier runs", kept);
    if (tune->n_choices + kept)
        printf(".  To train and generate by them: export QUERN_TUNING=%s\n", whole ? whole : path);
    else
        printf(has_compared(tune) ? ": nothing that was tried is faster than the default.\n"
                                  : ": nothing could be compared with a default.\n");
    free(whole);
}

static int write_file(struct tune *tune)
{
    const char *path = options_string(tune->options, "out");
    char *text = NULL;
    size_t bytes = 0, kept = 0;
    if (tune->is_there && !has_news(tune)) {
        printf("\nNothing was found out: %s is as it was.\n", path);
        return EXIT_SUCCESS;
    }
    FILE *file = open_memstream(&text, &bytes);
    bool is_good = file && print_file(tune, file, &kept);
    if (file && fclose(file) != 0)
        is_good = false;
    struct file_writer writer;
    int status = is_good ? file_create(&writer, tune->qn, path) : QN_ERROR_MEMORY;
    if (status == QN_OK)
        status = file_append(&writer, text, bytes);
    if (status == QN_OK)
        status = file_commit(&writer);
    free(text);
    if (status != QN_OK)
        return failure(tune->options, "%s", is_good ? qn_error(tune->qn) : "out of memory");
    say_written(tune, path, kept);
    return EXIT_SUCCESS;
}

int command_tune(const struct options *options)
{
    struct tune tune = {.options = options};
    int status = check_options(options);
    if (status == EXIT_SUCCESS)
        status = prepare(&tune);
    if (status == EXIT_SUCCESS) {
        status = measure(&tune);
        print_table(&tune);
        print_rest(&tune);
        int written = write_file(&tune);
        status = written == EXIT_SUCCESS ? status : written;
        if (status == EXIT_SUCCESS && signal_caught())
            status = 128 + signal_caught();
    }
    tuning_free(tune.earlier);
    free(tune.findings);
    free(tune.products.at);
    qn_close(tune.qn);
    return status;
}
