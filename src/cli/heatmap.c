/* Heat maps of attention, as SVG. */
#include "cli/heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CELL = 16,  /* pixels of a weight */
    LABEL = 90, /* of labels, at the left and above */
    GAP = 24,   /* between maps */
    TITLE = 40, /* at the top */
    ACROSS = 4, /* maps beside each other at most */
    SHOWN = 12, /* characters of a label */
};

/* Bytes of text inside XML; those that are no character are lost. */
static void write_text(FILE *file, const char *text, size_t bytes)
{
    for (size_t i = 0, shown = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool begins = (byte & 0xC0) != 0x80;
        if (begins && shown++ == SHOWN)
            break;
        if (byte == '<')
            fputs("&lt;", file);
        else if (byte == '&')
            fputs("&amp;", file);
        else if (byte == '\n')
            fputs("\u21B5", file);
        else if (byte == ' ')
            fputs("\u00A0", file);
        else if (byte > ' ')
            fputc(byte, file);
    }
}

/* Whether bytes are whole characters: tokens of byte pairs may be parts of one. */
static bool is_utf8(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        unsigned char byte = (unsigned char)text[i++];
        size_t more = byte < 0x80       ? 0
                      : byte >> 5 == 6  ? 1
                      : byte >> 4 == 14 ? 2
                      : byte >> 3 == 30 ? 3
                                        : bytes;
        for (; more > 0; more--)
            if (i == bytes || ((unsigned char)text[i++] & 0xC0) != 0x80)
                return false;
    }
    return true;
}

static void write_label(FILE *file, const qn_tokenizer *tokenizer, int32_t id)
{
    size_t bytes = 0;
    const char *text = tokenizer ? qn_tokenizer_token(tokenizer, id, &bytes) : NULL;
    if (text && is_utf8(text, bytes))
        write_text(file, text, bytes);
    else
        fprintf(file, "%d", (int)id);
}

static void write_labels(FILE *file, const struct heatmap *map)
{
    for (size_t i = 0; i < map->rows; i++) {
        fprintf(file, "<text x=\"-4\" y=\"%zu\" text-anchor=\"end\">", i * CELL + 12);
        write_label(file, map->row_tokenizer, map->row_ids[i]);
        fputs("</text>\n", file);
    }
    for (size_t i = 0; i < map->columns; i++) {
        fprintf(file, "<text transform=\"translate(%zu -4) rotate(-60)\">", i * CELL + 11);
        write_label(file, map->column_tokenizer, map->column_ids[i]);
        fputs("</text>\n", file);
    }
}

/* What is hardly seen is left out. */
static void write_cells(FILE *file, const struct heatmap *map, const double *weights)
{
    fprintf(file, "<rect class=\"frame\" width=\"%zu\" height=\"%zu\"/>\n", map->columns * CELL,
            map->rows * CELL);
    for (size_t i = 0; i < map->rows; i++)
        for (size_t j = 0; j < map->columns; j++) {
            double weight = weights[i * map->columns + j];
            if (weight >= 0.005)
                fprintf(file,
                        "<rect class=\"cell\" x=\"%zu\" y=\"%zu\" width=\"%d\" height=\"%d\" "
                        "opacity=\"%.2f\">"
                        "<title>%.3f</title></rect>\n",
                        j * CELL, i * CELL, CELL, CELL, fmin(weight, 1), weight);
        }
}

static void write_map(FILE *file, const struct heatmap *map, size_t number, const double *weights)
{
    size_t width = LABEL + map->columns * CELL + GAP, height = LABEL + map->rows * CELL + GAP;
    fprintf(file, "<g transform=\"translate(%zu %zu)\">\n", number % ACROSS * width + LABEL,
            TITLE + number / ACROSS * height + LABEL);
    if (map->count > 1) {
        fprintf(file, "<text class=\"head\" x=\"0\" y=\"%d\">", 12 - LABEL);
        if (map->is_mean)
            fprintf(file, "mean of %zu heads</text>\n", map->count);
        else
            fprintf(file, "head %zu</text>\n", number + 1);
    }
    write_labels(file, map);
    write_cells(file, map, weights);
    fputs("</g>\n", file);
}

static void write_maps(FILE *file, const struct heatmap *map, double *weights)
{
    size_t cells = map->rows * map->columns;
    double share = map->is_mean ? 1 / (double)map->count : 1;
    memset(weights, 0, cells * sizeof *weights);
    for (size_t i = 0; i < map->count; i++) {
        for (size_t j = 0; j < cells; j++)
            weights[j] =
                (map->is_mean ? weights[j] : 0) + share * (double)map->weights[i * cells + j];
        if (!map->is_mean || i + 1 == map->count)
            write_map(file, map, map->is_mean ? 0 : i, weights);
    }
}

static void write_all(FILE *file, const struct heatmap *map, double *weights)
{
    size_t shown = map->is_mean ? 1 : map->count, across = shown < ACROSS ? shown : ACROSS;
    size_t width = across * (LABEL + map->columns * CELL + GAP) + GAP;
    size_t height = TITLE + (shown + ACROSS - 1) / ACROSS * (LABEL + map->rows * CELL + GAP);
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %zu\" width=\"%zu\" "
            "height=\"%zu\">\n<style>text{font:11px sans-serif;fill:#222}.head{font-weight:bold}"
            ".title{font-size:14px}.cell{fill:#08519c}"
            ".frame{fill:#fff;stroke:#999}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
            "<text class=\"title\" x=\"8\" y=\"20\">%s</text>\n",
            width, height, width, height, map->title);
    write_maps(file, map, weights);
    fputs("</svg>\n", file);
}

int heatmap_write(const struct heatmap *map, struct file_writer *writer)
{
    char *text = NULL;
    size_t bytes;
    double *weights = malloc(map->rows * map->columns * sizeof *weights);
    FILE *file = weights ? open_memstream(&text, &bytes) : NULL;
    if (file)
        write_all(file, map, weights);
    bool is_whole = file && !ferror(file);
    if (file && fclose(file) != 0)
        is_whole = false;
    int status = QN_OK;
    if (is_whole) {
        status = file_append(writer, text, bytes);
    } else {
        status = context_fail(writer->context, QN_ERROR_MEMORY, "out of memory for a heat map");
        file_discard(writer);
    }
    free(weights);
    free(text);
    return status == QN_OK ? file_commit(writer) : status;
}
