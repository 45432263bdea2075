/* The losses of a run as SVG: the training loss as a band and its mean, the validation loss as a
 * line. */
#include "cli/train/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 800,
    HEIGHT = 480,
    LEFT = 70, /* margins, of the axes' labels */
    RIGHT = 24,
    TOP = 48,
    BOTTOM = 56,
    BINS = 350, /* of the training loss: half as many as there are pixels */
};

/* What is drawn, in the units of the data. */
struct frame {
    double last_step; /* the first is 0 */
    double low, high; /* losses */
    double tick_x, tick_y;
};

/* Steps of one bin. */
struct bin {
    double sum, low, high, step_sum;
    size_t count;
};

/* ---- Axes ---- */

/* 1, 2 or 5 times a power of ten, so that about `count` of them make `range`. */
static double nice_tick(double range, int count)
{
    double rough = range / count, power = pow(10, floor(log10(rough)));
    double digit = rough / power;
    return (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10) * power;
}

static struct frame make_frame(const struct log *log)
{
    struct frame frame = {1, INFINITY, -INFINITY, 1, 1};
    for (size_t i = 0; i < log->count; i++) {
        const float losses[] = {log->points[i].loss, log->points[i].valid_loss};
        for (int j = 0; j < 2; j++) {
            if (!isfinite(losses[j]))
                continue;
            frame.low = fmin(frame.low, losses[j]);
            frame.high = fmax(frame.high, losses[j]);
        }
    }
    if (log->count)
        frame.last_step = fmax((double)log->points[log->count - 1].step, 1);
    if (!(frame.low <= frame.high)) {
        frame.low = 0;
        frame.high = 1;
    }
    double range = fmax(frame.high - frame.low, 1e-3);
    frame.tick_x = fmax(nice_tick(frame.last_step, 8), 1);
    frame.tick_y = nice_tick(range, 6);
    frame.low = floor(frame.low / frame.tick_y) * frame.tick_y;
    frame.high = fmax(ceil(frame.high / frame.tick_y), frame.low / frame.tick_y + 1) * frame.tick_y;
    return frame;
}

static double x_of(const struct frame *frame, double step)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * step / frame->last_step;
}

static double y_of(const struct frame *frame, double loss)
{
    return HEIGHT - BOTTOM -
           (HEIGHT - TOP - BOTTOM) * (loss - frame->low) / (frame->high - frame->low);
}

/* "1200", "15k", "2.5M" */
static void print_steps(FILE *file, double steps)
{
    if (steps >= 1e6)
        fprintf(file, "%.4gM", steps / 1e6);
    else if (steps >= 1e4)
        fprintf(file, "%.4gk", steps / 1e3);
    else
        fprintf(file, "%.0f", steps);
}

static void draw_axes(FILE *file, const struct frame *frame)
{
    int decimals = frame->tick_y >= 1 ? 0 : (int)ceil(-log10(frame->tick_y) - 1e-9);
    fputs("<g class=\"axis\">\n", file);
    for (int i = 0; frame->low + i * frame->tick_y <= frame->high + frame->tick_y / 2; i++) {
        double loss = frame->low + i * frame->tick_y, y = y_of(frame, loss);
        fprintf(
            file,
            "<path d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n",
            LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4, decimals, loss);
    }
    for (int i = 0; i * frame->tick_x <= frame->last_step + frame->tick_x / 1e6; i++) {
        double x = x_of(frame, i * frame->tick_x);
        fprintf(file, "<path d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">",
                x, TOP, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18);
        print_steps(file, i * frame->tick_x);
        fputs("</text>\n", file);
    }
    fprintf(file,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n"
            "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">loss (nats a "
            "token)</text>\n</g>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, (TOP + HEIGHT - BOTTOM) / 2);
}

/* ---- Curves ---- */

/* Bins by step; those without a finite loss stay empty. */
static struct bin *make_bins(const struct log *log, const struct frame *frame)
{
    struct bin *bins = calloc(BINS, sizeof *bins);
    for (size_t i = 0; bins && i < log->count; i++) {
        const struct log_point *point = &log->points[i];
        if (!isfinite(point->loss))
            continue;
        double place = (double)point->step / frame->last_step * BINS;
        struct bin *bin = &bins[(size_t)fmin(place, BINS - 1)];
        bin->low = bin->count ? fmin(bin->low, point->loss) : point->loss;
        bin->high = bin->count ? fmax(bin->high, point->loss) : point->loss;
        bin->sum += point->loss;
        bin->step_sum += (double)point->step;
        bin->count++;
    }
    return bins;
}

static void draw_point(FILE *file, const struct frame *frame, const struct bin *bin, double loss,
                       char *command)
{
    fprintf(file, "%c%.1f %.1f", *command, x_of(frame, bin->step_sum / (double)bin->count),
            y_of(frame, loss));
    *command = 'L';
}

static void draw_training(FILE *file, const struct frame *frame, const struct bin *bins)
{
    char command = 'M';
    fputs("<path class=\"band\" d=\"", file);
    for (int i = 0; i < BINS; i++)
        if (bins[i].count)
            draw_point(file, frame, &bins[i], bins[i].high, &command);
    for (int i = BINS; i-- > 0;)
        if (bins[i].count)
            draw_point(file, frame, &bins[i], bins[i].low, &command);
    fputs(command == 'L' ? "Z\"/>\n<path class=\"train\" d=\"" : "\"/>\n<path class=\"train\" d=\"",
          file);
    command = 'M';
    for (int i = 0; i < BINS; i++)
        if (bins[i].count)
            draw_point(file, frame, &bins[i], bins[i].sum / (double)bins[i].count, &command);
    fputs("\"/>\n", file);
}

/* A line through the validations, and a dot at the best; whether there is one. */
static bool draw_validation(FILE *file, const struct frame *frame, const struct log *log)
{
    const struct log_point *best = NULL;
    char command = 'M';
    fputs("<path class=\"valid\" d=\"", file);
    for (size_t i = 0; i < log->count; i++) {
        const struct log_point *point = &log->points[i];
        if (!isfinite(point->valid_loss))
            continue;
        fprintf(file, "%c%.1f %.1f", command, x_of(frame, (double)point->step),
                y_of(frame, point->valid_loss));
        command = 'L';
        if (!best || point->valid_loss < best->valid_loss)
            best = point;
    }
    fputs("\"/>\n", file);
    if (best)
        fprintf(file,
                "<circle class=\"best\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>%.4f at step "
                "%" PRIu64 "</title></circle>\n",
                x_of(frame, (double)best->step), y_of(frame, best->valid_loss), best->valid_loss,
                best->step);
    return best != NULL;
}

static void draw_legend(FILE *file, bool has_validation)
{
    fprintf(file,
            "<g><path class=\"train\" d=\"M%d 26h28\"/><text x=\"%d\" y=\"30\">training loss, "
            "smallest to largest shaded</text>\n",
            LEFT, LEFT + 36);
    if (has_validation)
        fprintf(file,
                "<path class=\"valid\" d=\"M%d 26h28\"/><circle class=\"best\" cx=\"%d\" cy=\"26\" "
                "r=\"4\"/><text x=\"%d\" y=\"30\">validation loss, best marked</text>\n",
                LEFT + 330, LEFT + 344, LEFT + 366);
    fputs("</g>\n", file);
}

static void draw(FILE *file, const struct log *log, const struct bin *bins,
                 const struct frame *frame)
{
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\">\n"
            "<title>Loss by step</title>\n<style>\n"
            "svg { background: #ffffff } text { fill: #333333 }\n"
            ".axis path { stroke: #dddddd; fill: none }\n"
            ".band { fill: #4477aa; opacity: 0.2 }\n"
            ".train { stroke: #4477aa; stroke-width: 1.5; fill: none }\n"
            ".valid { stroke: #cc6611; stroke-width: 2; fill: none }\n"
            ".best { fill: #cc6611 }\n</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(file, frame);
    draw_training(file, frame, bins);
    draw_legend(file, draw_validation(file, frame, log));
    fputs("</svg>\n", file);
}

bool log_draw(const struct log *log, const char *path, char message[LOG_MESSAGE])
{
    struct frame frame = make_frame(log);
    struct bin *bins = make_bins(log, &frame);
    size_t bytes = strlen(path) + sizeof ".tmp";
    char *temporary = malloc(bytes);
    if (!bins || !temporary) {
        free(bins);
        free(temporary);
        snprintf(message, LOG_MESSAGE, "out of memory");
        return false;
    }
    snprintf(temporary, bytes, "%s.tmp", path);
    FILE *file = fopen(temporary, "w");
    bool is_drawn = file != NULL;
    if (file) {
        draw(file, log, bins, &frame);
        is_drawn = fflush(file) == 0 && !ferror(file);
        is_drawn = fclose(file) == 0 && is_drawn;
        is_drawn = is_drawn && rename(temporary, path) == 0;
    }
    if (!is_drawn) {
        snprintf(message, LOG_MESSAGE, "cannot write %s: %s", path, strerror(errno));
        if (file)
            remove(temporary);
    }
    free(temporary);
    free(bins);
    return is_drawn;
}
