/* The tuning file: which variant, with which tile, multiplies which matrices, as `quern tune` measured it on one device.
 *
 * Text: a line that names the format, a line that names the device, then a line for each class of products:
 *
 *     quern tuning 1
 *     device Portable Computing Language, cpu-znver3, driver 3.1
 *     # a comment
 *     matmul f32 NN 1024x1024x1024 tiled/128  12.9 ms, 1.31 times the default
 *     matmul f32 NN 1x1024x1024 default  0.12 ms: what would be taken without the file
 *
 * Of the latter two the first five words count.  Sizes are M, N and K, each rounded up to a power of two; T stands where an operand is
 * transposed. */
#ifndef QUERN_TUNING_H
#define QUERN_TUNING_H

#include "gemm/gemm.h"

struct tuning;

/* A variant of matmul and, if it has several, the side of its tile (else 0). */
struct tuning_choice {
    const char *name, *variant; /* "tiled/128", "tiled" */
    size_t tile;
};
enum { TUNING_CHOICES = 13 };
extern const struct tuning_choice tuning_choices[TUNING_CHOICES]; /* besides "default" */

/* Products for which the file has one line. */
struct tuning_class {
    enum qn_type type;
    bool transpose_a, transpose_b;
    size_t m, n, k; /* powers of two */
};
struct tuning_class tuning_class_of(enum qn_type type, const struct gemm_problem *problem);
bool tuning_class_equal(const struct tuning_class *a, const struct tuning_class *b);

/* "matmul f32 NN 1024x1024x1024", as in the file. */
enum { TUNING_TEXT = 128 };
const char *tuning_class_text(char text[TUNING_TEXT], const struct tuning_class *of);

/* The first lines of a file for the context's device; free() it.  NULL and an error without memory. */
char *tuning_head(qn_context *context);

/* Reads the file that qn_options.tuning or QUERN_TUNING names, if any, as the context's.  QN_ERROR_INVALID: it is for another device or
 * driver, or of another version of the format. */
int tuning_open(qn_context *context, const char *path);
void tuning_free(struct tuning *tuning);

/* The file that was read ceases to be the context's; tuning_free() it. */
struct tuning *tuning_take(qn_context *context);

/* A line of a class of products, as it stands in the file that was read: so many bytes, without an end. */
struct tuning_line {
    struct tuning_class of;
    const struct tuning_choice *choice; /* NULL: "default" */
    const char *text;
    int length;
};

/* The line of class number `index`; false: there is none. */
bool tuning_line(const struct tuning *tuning, size_t index, struct tuning_line *line);

/* Makes this the only choice of the context, or, if NULL, leaves it none: for `quern tune`. */
int tuning_try(qn_context *context, const struct tuning_class *of,
               const struct tuning_choice *choice);

/* The variant by which a plan multiplies matrices for the first time, or NULL; whether two do it by the same kernels, macros and all. */
const char *tuning_variant(const qn_plan *plan);
bool tuning_is_same(const qn_plan *a, const qn_plan *b);

/* What the file says of such a product; NULL: nothing, or "default". */
const struct tuning_choice *tuning_find(const struct tuning *tuning, const struct tuning_class *of);

#endif
