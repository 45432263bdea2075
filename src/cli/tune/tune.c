/* quern tune: which kernels multiply which matrices fastest, written to a file that QUERN_TUNING names. */
#include "cli/tune/tune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/train/signals.h"
#include "io/file.h"

struct tune {
    const struct options *options;
    qn_context *qn;
    struct progress progress;
    struct products products;
    struct finding *findings; /* of the products that were reached */
    size_t n_findings, n_choices;
};

/* ---- Before ---- */

static int check_options(const struct options *options)
{
    const char *shapes = options_string(options, "shapes");
    char wrong[SIZES_TEXT];
    if (shapes && !shapes_are_good("gemm", shapes, wrong))
        return usage_error(options, "--shapes: \"%s\" is none: MxNxK, sizes up to 2147483647",
                           wrong);
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

/* What holds something else than choices is not replaced. */
static int check_file(struct tune *tune)
{
    static const char first[] = "quern tuning ";
    const char *path = options_string(tune->options, "out");
    char found[sizeof first] = "";
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(found, 1, sizeof first - 1, file) : 0;
    if (file)
        fclose(file);
    if (length > 0 && strcmp(found, first) != 0)
        return failure(tune->options, "%s is no tuning file, and is not replaced", path);
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
    struct measuring measuring = {.qn = tune->qn,
                                  .progress = &tune->progress,
                                  .until = seconds_now() + options_seconds(tune->options, "budget"),
                                  .count = tune->products.count};
    int status = EXIT_SUCCESS;
    for (size_t i = 0; i < tune->products.count && !is_over(&measuring); i++) {
        struct finding *finding = &tune->findings[tune->n_findings++];
        char of[TUNING_TEXT];
        signals_catch(is_hangup_ignored());
        measuring.index = i;
        product_measure(&measuring, &tune->products.at[i], finding);
        tune->n_choices += finding->best != NULL;
        if (!*finding->problem)
            continue;
        progress_end_line(&tune->progress);
        status = failure(tune->options, "%s: %s", tuning_class_text(of, &tune->products.at[i].of),
                         finding->problem);
    }
    progress_end_line(&tune->progress);
    return status;
}

/* ---- What was found ---- */

static void print_table(const struct tune *tune)
{
    char of[TUNING_TEXT], measured[SIZES_TEXT];
    printf("| product | measured with | default | ms | best | ms | times as fast |\n"
           "|---|---|---|--:|---|--:|--:|\n");
    for (size_t i = 0; i < tune->n_findings; i++) {
        const struct finding *finding = &tune->findings[i];
        if (!finding->standard)
            continue;
        printf("| %s | %s | %s | %.4g | %s | %.4g | %.2f |\n",
               tuning_class_text(of, &tune->products.at[i].of),
               sizes_text(measured, tune->products.at[i].sizes, 3), finding->standard,
               1e3 * finding->seconds, finding->best ? finding->best->name : "the default",
               1e3 * finding->seconds / finding->ratio, finding->ratio);
    }
}

static void print_rest(const struct tune *tune)
{
    size_t left = tune->products.count - tune->n_findings, cut = 0;
    for (size_t i = 0; i < tune->n_findings; i++)
        cut += tune->findings[i].is_cut;
    if (left + cut > 0)
        printf("\n%s: of %zu products, %zu were not reached, and %zu not tried in all "
               "ways.\n",
               signal_caught() ? "Ended by a signal" : "The time was up; --budget gives more",
               tune->products.count, left, cut);
}

/* A comment where the default stays: so the file tells what was tried. */
static bool print_file(const struct tune *tune, FILE *file)
{
    char of[TUNING_TEXT], measured[SIZES_TEXT], now[TIME_TEXT], *head = tuning_head(tune->qn);
    time_text(now);
    fprintf(
        file,
        "%s# by quern tune, %s: what was faster than the default; and in comments, what was not\n",
        head ? head : "", now);
    for (size_t i = 0; i < tune->n_findings; i++) {
        const struct finding *finding = &tune->findings[i];
        if (!finding->standard)
            continue;
        fprintf(file, "%s%s %s  %.4g ms", finding->best ? "" : "# ",
                tuning_class_text(of, &tune->products.at[i].of),
                finding->best ? finding->best->name : finding->standard,
                1e3 * finding->seconds / finding->ratio);
        sizes_text(measured, tune->products.at[i].sizes, 3);
        if (finding->best)
            fprintf(file, " with %s, %.2f times as fast as %s\n", measured, finding->ratio,
                    finding->standard);
        else
            fprintf(file, " with %s, as without this file\n", measured);
    }
    free(head);
    return head && !ferror(file);
}

static int write_file(struct tune *tune)
{
    const char *path = options_string(tune->options, "out");
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    bool is_good = file && print_file(tune, file);
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
    char *whole = realpath(path, NULL);
    printf("\nWrote %zu choices.  To train and generate by them: export QUERN_TUNING=%s\n",
           tune->n_choices, whole ? whole : path);
    free(whole);
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
    free(tune.findings);
    free(tune.products.at);
    qn_close(tune.qn);
    return status;
}
