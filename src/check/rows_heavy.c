/* Rows of operations with kernels of their own. */
#include <math.h>
#include <string.h>

#include "check/rows.h"

/* ---- Matrices ---- */

static const struct qn_matmul plain = {0}, kept = {.keep_b = true},
                              kept_tb = {.transpose_b = true, .keep_b = true},
                              kept_ta = {.transpose_a = true, .keep_b = true},
                              transposed_a = {.transpose_a = true},
                              transposed_b = {.transpose_b = true},
                              transposed_both = {.transpose_a = true, .transpose_b = true};

static qn_node *build_matmul(const struct row *row, qn_node *const *x)
{
    return qn_matmul_with(x[0], x[1], *(const struct qn_matmul *)row->options);
}
static struct array reference_of_matmul(const struct row *row, const struct array *x)
{
    const struct qn_matmul *matmul = row->options;
    return reference_matmul(x[0], x[1], matmul->transpose_a, matmul->transpose_b);
}

/* What the kernel computes after the product: a bias, an operand a row, one by columns, and one element by element; of which
 * the product, a value in between and the last are stored. */
static qn_node *build_epilogue(const struct row *row, qn_node *const *x)
{
    qn_node *product = build_matmul(row, x);
    qn_node *z = qn_add(product, x[2]), *y = qn_gelu(z);
    y = qn_add(qn_mul(y, x[3]), qn_mul(qn_transpose(x[4], 0, 1), x[5]));
    return qn_concat((qn_node *[]){product, z, y}, 3, 0);
}
static struct array reference_epilogue(const struct row *row, const struct array *x)
{
    struct array product = reference_of_matmul(row, x);
    size_t rows = product.shape.size[0], columns = product.shape.size[1], count = product.count;
    struct array all = array_new((qn_shape){2, {3 * rows, columns}});
    for (size_t i = 0; i < count; i++) {
        size_t r = i / columns, c = i % columns;
        double z = product.at[i] + x[2].at[c];
        all.at[i] = product.at[i];
        all.at[count + i] = z;
        all.at[2 * count + i] = reference_gelu(z) * x[3].at[r] + x[4].at[c * rows + r] * x[5].at[i];
    }
    return all;
}
/* The same operands of a batch: bias and residual. */
static qn_node *build_linear(const struct row *row, qn_node *const *x)
{
    (void)row;
    qn_node *y = qn_linear(x[0], x[1], x[2]);
    return qn_relu(qn_add(x[3], qn_scale(y, 0.7)));
}
static struct array reference_linear(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = reference_matmul(x[0], x[1], false, false);
    for (size_t i = 0; i < y.count; i++) {
        y.at[i] = x[3].at[i] + 0.7f * (y.at[i] + x[2].at[i % x[2].count]);
        y.at[i] = y.at[i] < 0 ? 0 : y.at[i];
    }
    return y;
}
/* What a reduction computes while it loads: the greatest difference of rows, and sums of products down columns. */
static qn_node *build_greatest(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_max(qn_sub(x[0], x[1]), QN_AXIS(1));
}
static struct array reference_greatest(const struct row *row, const struct array *x)
{
    (void)row;
    size_t rows = x[0].shape.size[0], columns = x[0].shape.size[1];
    struct array y = array_new((qn_shape){1, {rows}});
    for (size_t i = 0; i < rows; i++) {
        y.at[i] = -INFINITY;
        for (size_t j = 0; j < columns; j++)
            y.at[i] = fmax(y.at[i], x[0].at[i * columns + j] - x[1].at[i * columns + j]);
    }
    return y;
}
static qn_node *build_sums(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_sum(qn_mul(qn_add(x[0], x[2]), x[1]), QN_AXIS(0));
}
static struct array reference_sums(const struct row *row, const struct array *x)
{
    (void)row;
    size_t columns = x[2].count;
    struct array y = array_new((qn_shape){1, {columns}});
    for (size_t i = 0; i < x[0].count; i++)
        y.at[i % columns] += (x[0].at[i] + x[2].at[i % columns]) * x[1].at[i];
    return y;
}
/* A product of a transposed view and a gelu apart: simplify and fusion must not change what it is.
 */
static qn_node *build_matmul_apart(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_gelu(qn_add(qn_matmul(qn_transpose(x[0], 0, 1), qn_transpose(x[1], 0, 1)), x[2]));
}
static struct array reference_matmul_apart(const struct row *row, const struct array *x)
{
    (void)row;
    struct array y = reference_matmul(x[0], x[1], true, true);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = reference_gelu(y.at[i] + x[2].at[i % x[2].count]);
    return y;
}

/* A sum of k products of random signs is as large as the root of k, its f32 rounding errors at most
 * as that of k: for k of about a thousand 30 half ulps of 6e-8, in practice far less. */
#define MATMUL(title, letters, with, slope, ...)                                                   \
    {                                                                                              \
        ROW("matmul", title, letters, slope, 2e-6, 4e-6, false, build_matmul,                      \
            reference_of_matmul),                                                                  \
            .cases = {__VA_ARGS__}, .options = &with                                               \
    }
/* clang-format off */
static const struct row rows_of_matmul[] = {
    MATMUL("matmul", "nn", plain, 3, "33x67 67x17", "1x1 1x1", "1x67 67x131", "65x1 1x33", "129x65 65x257", "5x4099 4099x7", "136x64 64x200",
           "33x67t 67x17s", "33x67s 67x17t", "33x67r 67x17r"),
    MATMUL("matmul_ta", "nn", transposed_a, 3, "67x33 67x17", "67x1 67x5", "131x65 131x67", "33x9t 33x7s", "2048x19 2048x10s", "64x136 64x200"),
    MATMUL("matmul_tb", "nn", transposed_b, 3, "33x67 17x67", "1x67 131x67", "65x131 67x131", "9x33s 7x33r", "4x96 259x96", "19x2050r 10x2050", "72x16 40x16", "136x64 200x64", "53x131s 67x131r", "53x2050 67x2050"),
    MATMUL("matmul_tab", "nn", transposed_both, 3, "67x33 17x67", "131x65 67x131", "1026x19 10x1026", "64x136 200x64", "131x53 67x131", "70x180 131x70"),
    MATMUL("matmul_batch", "nn", plain, 3, "3x9x13 3x13x7", "2x3x9x5 2x3x5x11", "2x3x9x5t 2x3x5x11", "4x1x67 4x67x33", "2x9x5s 2x5x11r"),
    MATMUL("matmul_batch_tb", "nn", transposed_b, 3, "3x9x13 3x7x13", "2x3x17x16 2x3x17x16", "2x3x53x70 2x3x21x70"),
    MATMUL("matmul_batch_ta", "nn", transposed_a, 3, "3x13x9 3x13x7"),
    MATMUL("matmul_shared", "nn", plain, 3, "3x9x13 13x7", "2x3x5x16 16x33", "3x9x13s 13x7", "3x9x13b 13x7", "2x5x1026 1026x9", "3x5x1026b 1026x9"),
    MATMUL("matmul_shared_ta", "nn", transposed_a, 3, "3x13x9 13x7"),
    MATMUL("matmul_kept", "nn", kept, 3, "33x67 67x17", "9x1 1x1", "65x1031 1031x70", "3x9x13s 13x7", "2x4x5x600b 600x33", "1x67 67x131", "33x67r 67x17s", "2x3x9x5 2x3x5x11"),
    MATMUL("matmul_kept_tb", "nn", kept_tb, 3, "33x67 17x67", "4x96 259x96", "9x1031 40x1031r"),
    MATMUL("matmul_kept_ta", "nn", kept_ta, 3, "67x33 67x17", "3x13x9 13x7"),
#define EPILOGUE(title, with, ...)                                                                  \
    {ROW("matmul", title, "nnnnnn", 63, 2e-6, 6e-6, false, build_epilogue, reference_epilogue), .cases = {__VA_ARGS__}, .options = &with}
    EPILOGUE("epilogue", plain, "33x67 67x17 17 33x1 17x33 33x17", "1x9 9x67 67 1x1 67x1 1x67", "8x301 301x33 33 8x1 33x8 8x33", "13x600 600x41 41 13x1 41x13 13x41", "5x7 7x1 1 5x1 1x5 5x1"),
    EPILOGUE("epilogue_kept", kept, "33x67 67x17 17 33x1 17x33 33x17", "13x600 600x41 41 13x1 41x13 13x41"),
    EPILOGUE("epilogue_ta", transposed_a, "67x33 67x17 17 33x1 17x33 33x17", "9x3 9x67 67 3x1 67x3 3x67"),
    EPILOGUE("epilogue_tb", transposed_b, "33x67 17x67 17 33x1 17x33 33x17", "4x96 67x96 67 4x1 67x4 4x67", "53x70 67x70 67 53x1 67x53 53x67"),
    EPILOGUE("epilogue_tab", transposed_both, "67x33 17x67 17 33x1 17x33 33x17"),
    {ROW("matmul", "linear", "nnnn", 0, 2e-6, 6e-6, false, build_linear, reference_linear), .cases = {"33x67 67x17 17 33x17", "2x9x67 67x17 17 2x9x17", "1x33 33x65 65 1x65", "11x1024 1024x9 9 11x9", "7x5 5x9 9s 7x9", "3x5x16 16x64 64 3x5x64r"}},
    {ROW("matmul", "prologue_max", "nn", 0, 1e-6, 0, false, build_greatest, reference_greatest), .cases = {"33x67 33x67", "5x3 5x3t", "1x70001 1x70001"}},
    {ROW("matmul", "prologue_sum", "nnn", 7, 2e-6, 6e-6, false, build_sums, reference_sums), .cases = {"33x67 33x67 67", "301x5 301x5r 5", "1x9 1x9 9"}},
    {ROW("matmul", "matmul_apart", "nnn", 7, 2e-6, 4e-6, false, build_matmul_apart, reference_matmul_apart), .cases = {"67x33 17x67 17"}},
};
/* clang-format on */

/* ---- Attention ---- */

static const struct qn_attention everything = {0}, causal = {.is_causal = true},
                                 causal_scaled = {.is_causal = true, .scale = 0.37f},
                                 near = {.is_causal = true, .window = 21};

static qn_node *build_attention(const struct row *row, qn_node *const *x)
{
    struct qn_attention attention = *(const struct qn_attention *)row->options;
    for (size_t i = 3; i < strlen(row->operands); i++)
        *(row->operands[i] == 'l'   ? &attention.lengths
          : row->operands[i] == 'a' ? &attention.table
          : row->operands[i] == 'u' ? &attention.slopes
                                    : &attention.position) = x[i];
    return qn_attention(x[0], x[1], x[2], attention);
}
/* Keys or values (1, S, G, D) by a table of places (B, Tk): (B, Tk, G, D). */
static struct array reference_places(struct array keys, struct array table)
{
    size_t width = keys.shape.size[2] * keys.shape.size[3], most = keys.shape.size[1] - 1;
    struct array y = array_new(
        QN_SHAPE(table.shape.size[0], table.shape.size[1], keys.shape.size[2], keys.shape.size[3]));
    for (size_t i = 0; i < y.count; i++) {
        double place = fmin(fmax(table.at[i / width], 0), (double)most);
        y.at[i] = keys.at[(size_t)place * width + i % width];
    }
    return y;
}
static struct array reference_of_attention(const struct row *row, const struct array *x)
{
    const struct qn_attention *attention = row->options;
    const char *places = strchr(row->operands, 'a');
    struct array keys = x[1], values = x[2];
    if (places) {
        keys = reference_places(x[1], x[places - row->operands]);
        values = reference_places(x[2], x[places - row->operands]);
    }
    double scale =
        attention->scale > 0 ? (double)attention->scale : 1 / sqrt((double)x[0].shape.size[3]);
    struct reference_mask mask = {.is_causal = attention->is_causal,
                                  .first =
                                      (ptrdiff_t)keys.shape.size[1] - (ptrdiff_t)x[0].shape.size[1],
                                  .window = (ptrdiff_t)attention->window};
    for (size_t i = 3; i < strlen(row->operands); i++) {
        if (row->operands[i] == 'l')
            mask.lengths = x[i];
        else if (row->operands[i] == 'u')
            mask.slopes = x[i];
        else if (row->operands[i] != 'a')
            mask.first = (ptrdiff_t)x[i].at[0];
    }
    return reference_attention(x[0], keys, values, scale, mask);
}
/* q, k and v as GPT-2 has them: parts of one (B, T, 3 C). */
static qn_node *build_attention_of_one(const struct row *row, qn_node *const *x)
{
    qn_node *parts[3];
    qn_shape shape = qn_node_shape(x[0]);
    qn_split(x[0], -1, 3, parts);
    for (int i = 0; i < 3; i++)
        parts[i] =
            qn_reshape(parts[i], QN_SHAPE(shape.size[0], shape.size[1], 4, shape.size[2] / 12));
    qn_node *y =
        qn_attention(parts[0], parts[1], parts[2], *(const struct qn_attention *)row->options);
    return qn_reshape(y, QN_SHAPE(shape.size[0], shape.size[1], shape.size[2] / 3));
}
static struct array reference_attention_of_one(const struct row *row, const struct array *x)
{
    struct array parts[3];
    const qn_shape *shape = &x[0].shape;
    size_t width = shape->size[2] / 3;
    for (size_t i = 0; i < 3; i++)
        parts[i] = reference_reshape(reference_slice(x[0], -1, i * width, (i + 1) * width),
                                     QN_SHAPE(shape->size[0], shape->size[1], 4, width / 4));
    return reference_reshape(reference_of_attention(row, parts),
                             QN_SHAPE(shape->size[0], shape->size[1], width));
}

/* Scores are sums of D products, and the exponential makes their absolute error a relative one. */
#define ATTENTION(title, letters, with, slope, ...)                                                \
    {                                                                                              \
        ROW("attention", title, letters, slope, 3e-6, 1e-5, false, build_attention,                \
            reference_of_attention),                                                               \
            .cases = {__VA_ARGS__}, .options = &with                                               \
    }
/* clang-format off */
static const struct row rows_of_attention[] = {
    ATTENTION("attention", "nnn", everything, 7, "2x33x3x16 2x33x3x16 2x33x3x16", "1x1x1x1 1x1x1x1 1x1x1x1", "2x5x2x64 2x33x2x64 2x33x2x64",
              "1x33x3x16 1x1x3x16 1x1x3x16", "1x17x2x80 1x17x2x80 1x17x2x80", "1x9x2x7 1x67x2x7 1x67x2x7", "1x9x2x20 1x11x2x20 1x11x2x20"),
    ATTENTION("attention_causal", "nnn", causal, 7, "1x67x3x16 1x67x3x16 1x67x3x16", "2x1x3x16 2x1x3x16 2x1x3x16", "1x131x2x32 1x131x2x32 1x131x2x32",
              "2x5x2x16 2x67x2x16 2x67x2x16", "1x33x1x128 1x33x1x128 1x33x1x128", "1x19x1x100 1x19x1x100 1x19x1x100", "1x9x1x255 1x9x1x255 1x9x1x255", "1x9x1x256 1x9x1x256 1x9x1x256", "2x9x3x16s 2x9x3x16r 2x9x3x16s"),
    ATTENTION("attention_scaled", "nnn", causal_scaled, 7, "1x33x2x16 1x33x2x16 1x33x2x16"),
    ATTENTION("attention_at", "nnn3", causal, 0, "2x1x3x16 2x67x3x16 2x67x3x16 1", "2x5x3x16 2x33x3x16 2x33x3x16 1", "1x1x18x64 1x1031x18x64 1x1031x18x64 1"),
    ATTENTION("attention_decode", "nnn9", causal, 0, "2x1x3x16 2x67x3x16 2x67x3x16 1", "2x3x2x16 2x1299x2x16 2x1299x2x16 1", "1x1x2x64 1x3001x2x64 1x3001x2x64 1", "2x2x8x64 2x201x2x64 2x201x2x64 1", "1x3x8x72 1x150x2x72 1x150x2x72 1"),
    ATTENTION("attention_grouped", "nnn", causal, 7, "2x33x6x16 2x33x2x16 2x33x2x16", "1x17x4x32 1x67x1x32 1x67x1x32"),
    ATTENTION("attention_lengths", "nnnl", everything, 7, "5x33x3x16 5x33x3x16 5x33x3x16 5", "3x5x4x7 3x67x2x7 3x67x2x7 3", "2x131x1x64 2x131x1x64 2x131x1x64 2"),
    ATTENTION("attention_causal_lengths", "nnnl", causal, 7, "5x67x3x16 5x67x3x16 5x67x3x16 5", "3x131x2x33 3x131x2x33 3x131x2x33 3"),
    ATTENTION("attention_window", "nnn", near, 7, "1x131x3x16 1x131x3x16 1x131x3x16", "2x33x2x64 2x67x1x64 2x67x1x64", "1x300x1x16 1x300x1x16 1x300x1x16"),
    ATTENTION("attention_window_lengths", "nnnl", near, 7, "5x131x2x16 5x131x2x16 5x131x2x16 5"),
    ATTENTION("attention_slopes", "nnnu", causal, 7, "1x67x3x16 1x67x3x16 1x67x3x16 3", "2x33x6x32 2x33x2x32 2x33x2x32 6"),
    ATTENTION("attention_all_masks", "nnnlu", near, 7, "3x67x4x16 3x67x2x16 3x67x2x16 3 4"),
    ATTENTION("decode_window", "nnn9lu", near, 0, "3x1x4x16 3x2995x2x16 3x2995x2x16 1 3 4"),
    ATTENTION("decode_near", "nnn9", near, 0, "2x3x3x16 2x3001x3x16 2x3001x3x16 1", "1x20x2x16 1x2980x2x16 1x2980x2x16 1", "1x3x2x16 1x2980x2x16 1x2980x2x16 1"),
    ATTENTION("attention_table", "nnnal", everything, 0, "5x1x3x16 1x64x3x16 1x64x3x16 5x33 5", "3x13x4x7 1x64x2x7 1x64x2x7 3x67 3", "2x5x2x64 1x64x2x64 1x64x2x64 2x1299 2"),
    ATTENTION("decode_table", "nnn3a", causal, 0, "5x1x3x16 1x64x3x16 1x64x3x16 1 5x33", "2x3x3x16 1x64x3x16r 1x64x3x16s 1 2x9"),
    ATTENTION("decode_long_table", "nnn9a", near, 0, "2x1x2x64 1x64x1x64 1x64x1x64 1 2x2999"),
    ATTENTION("decode_lengths", "nnn3lu", causal, 0, "5x1x3x16 5x67x3x16 5x67x3x16 1 5 3", "2x1x2x64 2x1299x2x64 2x1299x2x64 1 2 2"),
    {ROW("attention", "attention_of_one", "n", 1, 3e-6, 1e-5, false, build_attention_of_one, reference_attention_of_one), .cases = {"2x17x96", "1x67x192"}, .options = &causal},
};
/* clang-format on */

/* ---- Rows and tables ---- */

static qn_node *build_softmax(const struct row *row, qn_node *const *x)
{
    return qn_softmax(x[0], (int)row->a);
}
static struct array reference_of_softmax(const struct row *row, const struct array *x)
{
    return reference_softmax(x[0], (int)row->a);
}
static qn_node *build_layer_norm(const struct row *row, qn_node *const *x)
{
    return qn_layer_norm(x[0], x[1], x[2], row->a);
}
static struct array reference_of_layer_norm(const struct row *row, const struct array *x)
{
    return reference_layer_norm(x[0], x[1], x[2], row->a);
}
static qn_node *build_rms_norm(const struct row *row, qn_node *const *x)
{
    return qn_rms_norm(x[0], x[1], row->a);
}
static struct array reference_rms_norm(const struct row *row, const struct array *x)
{
    struct array y = array_new(x[0].shape);
    size_t width = x[1].count;
    for (size_t begin = 0; begin < y.count; begin += width) {
        double square = row->a;
        for (size_t i = 0; i < width; i++)
            square += pow(x[0].at[begin + i], 2) / (double)width;
        for (size_t i = 0; i < width; i++)
            y.at[begin + i] = x[0].at[begin + i] / sqrt(square) * x[1].at[i];
    }
    return y;
}
static qn_node *build_log_softmax(const struct row *row, qn_node *const *x)
{
    return qn_log_softmax(x[0], (int)row->a);
}
static struct array reference_log_softmax(const struct row *row, const struct array *x)
{
    struct array y = reference_softmax(x[0], (int)row->a);
    for (size_t i = 0; i < y.count; i++)
        y.at[i] = log(y.at[i]);
    return y;
}

static qn_node *build_rotary(const struct row *row, qn_node *const *x)
{
    return qn_rotary(x[0], x[1], *(const struct qn_rotary *)row->options);
}
static struct array reference_rotary(const struct row *row, const struct array *x)
{
    const struct qn_rotary *rotary = row->options;
    size_t length = x[0].shape.size[1], heads = x[0].shape.size[2], width = x[0].shape.size[3],
           size = rotary->size ? rotary->size : width;
    double theta = rotary->theta != 0 ? rotary->theta : 10000;
    struct array y = reference_reshape(x[0], x[0].shape);
    for (size_t row_of_head = 0; row_of_head < y.count / width; row_of_head++)
        for (size_t i = 0; i < size / 2; i++) {
            double position =
                x[1].at[row_of_head / heads % (x[1].count == length ? length : x[1].count)];
            double angle = position * pow(theta, -2.0 * (double)i / (double)size);
            size_t first = rotary->is_interleaved ? 2 * i : i,
                   second = rotary->is_interleaved ? 2 * i + 1 : i + size / 2;
            const double *in = x[0].at + row_of_head * width;
            double *out = y.at + row_of_head * width;
            out[first] = in[first] * cos(angle) - in[second] * sin(angle);
            out[second] = in[second] * cos(angle) + in[first] * sin(angle);
        }
    return y;
}
static qn_node *build_sinusoidal(const struct row *row, qn_node *const *x)
{
    return qn_sinusoidal(x[0], (size_t)row->a, row->b != 0);
}
static struct array reference_sinusoidal(const struct row *row, const struct array *x)
{
    qn_shape shape = x[0].shape;
    size_t size = (size_t)row->a, sines = (size + 1) / 2;
    shape.size[shape.rank++] = size;
    struct array y = array_new(shape);
    for (size_t i = 0; i < y.count; i++) {
        size_t column = i % size, pair = row->b != 0 ? column % sines : column / 2;
        double angle = x[0].at[i / size] * pow(10000, -2.0 * (double)pair / (double)size);
        bool is_cosine = row->b != 0 ? column >= sines : column % 2;
        y.at[i] = is_cosine ? cos(angle) : sin(angle);
    }
    return y;
}

static qn_node *build_cross_entropy(const struct row *row, qn_node *const *x)
{
    return qn_cross_entropy_with(x[0], x[1], *(const struct qn_cross_entropy *)row->options);
}
static struct array reference_of_cross_entropy(const struct row *row, const struct array *x)
{
    return reference_cross_entropy(x[0], x[1], *(const struct qn_cross_entropy *)row->options);
}
static qn_node *build_correct(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_correct(x[0], x[1]);
}
static struct array reference_of_correct(const struct row *row, const struct array *x)
{
    (void)row;
    return reference_correct(x[0], x[1]);
}
static qn_node *build_embedding(const struct row *row, qn_node *const *x)
{
    (void)row;
    return qn_embedding(x[0], x[1]);
}
static struct array reference_of_embedding(const struct row *row, const struct array *x)
{
    (void)row;
    return reference_embedding(x[0], x[1]);
}

static const struct qn_cross_entropy mean = {.ignore_index = -100},
                                     smooth = {.ignore_index = -100, .label_smoothing = 0.1f},
                                     smooth_ignore = {.ignore_index = 0, .label_smoothing = 0.25f},
                                     sum = {.ignore_index = -100, .sum = true};

static const struct qn_rotary halves = {0}, pairs = {.theta = 500000, .is_interleaved = true},
                              part = {.size = 10};

/* Softmax and losses: the exponential's argument, up to 100, is rounded by half a unit of its last
 * place, 4e-6; else a few roundings.  A mean of 100 leaves layer_norm 2 digits fewer. */
/* clang-format off */
static const struct row rows_of_rows[] = {
    {ROW("rows", "softmax", "n", 1, 1e-6, 2e-6, false, build_softmax, reference_of_softmax), .a = -1,
     .cases = {"3x5x37", "5x1", "1x1", "4x33", "2x1031", "3x65", "65x3t", "7x33s", "131x17r"}},
    {ROW("rows", "softmax_high", "h", 1, 8e-6, 2e-5, false, build_softmax, reference_of_softmax), .a = -1, .cases = {"4x67", "2x4099"}},
    {ROW("rows", "softmax_masked", "x", 0, 16 * ULP, 0, true, build_softmax, reference_of_softmax), .a = -1, .cases = {"3x37", "4x64", "2x1031"}},
    {ROW("rows", "softmax_special", "s", 0, 16 * ULP, 0, true, build_softmax, reference_of_softmax), .a = -1, .cases = {"20", "3x21"}},
    {ROW("rows", "softmax_first", "n", 1, 1e-6, 2e-6, false, build_softmax, reference_of_softmax), .a = 0, .cases = {"7x5", "33", "3x2x9"}},
    {ROW("rows", "softmax_middle", "n", 1, 1e-6, 2e-6, false, build_softmax, reference_of_softmax), .a = 1, .cases = {"2x7x5", "2x67x3"}},
    {ROW("rows", "layer_norm", "nnn", 7, 1e-6, 4e-6, false, build_layer_norm, reference_of_layer_norm), .a = 1e-5,
     .cases = {"3x5x37 37 37", "7x64 64 64", "1x33 33 33", "3x1031 1031 1031", "300x17 17 17", "9x33s 33 33s", "33x9t 9 9", "131x16r 16r 16"}},
    {ROW("rows", "layer_norm_outlier", "onn", 7, 4e-6, 4e-6, false, build_layer_norm, reference_of_layer_norm), .a = 1e-5, .cases = {"4x48 48 48", "2x769 769 769", "1x3077 3077 3077"}},
    {ROW("rows", "layer_norm_far", "fnn", 7, 4e-5, 2e-4, false, build_layer_norm, reference_of_layer_norm), .a = 1e-5, .cases = {"4x48 48 48", "2x769 769 769"}},
    {ROW("rows", "rms_norm", "nn", 3, 1e-6, 4e-6, false, build_rms_norm, reference_rms_norm), .a = 1e-6,
     .cases = {"3x5x37 37", "7x64 64", "1x33 33", "3x1031 1031", "300x17 17", "9x33s 33s", "33x9t 9", "131x16r 16r"}},
    {ROW("rows", "rms_norm_far", "fn", 3, 1e-6, 4e-6, false, build_rms_norm, reference_rms_norm), .a = 1e-6, .cases = {"4x48 48"}},
    {ROW("rows", "log_softmax", "n", 1, 1e-6, 4e-6, false, build_log_softmax, reference_log_softmax), .a = -1, .cases = {"3x5x37", "5x1", "2x1031", "65x3t"}},
    {ROW("rows", "log_softmax_middle", "h", 1, 1e-6, 2e-5, false, build_log_softmax, reference_log_softmax), .a = 1, .cases = {"2x7x5", "2x67x3"}},
    {ROW("positions", "rotary", "nw", 1, 1e-6, 1e-6, false, build_rotary, reference_rotary), .options = &halves,
     .cases = {"2x7x3x16 7", "2x7x3x16 2x7", "1x3x1x2 3", "2x5x3x48r 5"}},
    {ROW("positions", "rotary_pairs", "nw", 1, 1e-6, 1e-6, false, build_rotary, reference_rotary), .options = &pairs, .cases = {"2x7x3x16 7", "2x7x3x18 2x7"}},
    {ROW("positions", "rotary_part", "nw", 1, 1e-6, 1e-6, false, build_rotary, reference_rotary), .options = &part, .cases = {"2x7x3x16 7", "2x7x3x33 2x7"}},
    {ROW("positions", "rotary_far", "n9", 1, 1e-6, 1e-6, false, build_rotary, reference_rotary), .options = &halves, .cases = {"1x3x2x64 3"}},
    {ROW("positions", "sinusoidal", "w", 0, 1e-6, 0, false, build_sinusoidal, reference_sinusoidal), .a = 32, .cases = {"67", "2x3"}},
    {ROW("positions", "rotary_farthest", "n8", 1, 2e-6, 2e-6, false, build_rotary, reference_rotary), .options = &halves, .cases = {"1x3x2x64 3"}},
    {ROW("positions", "sinusoidal_farthest", "8", 0, 1e-6, 0, false, build_sinusoidal, reference_sinusoidal), .a = 7, .cases = {"3"}},
    {ROW("positions", "sinusoidal_far", "9", 0, 1e-6, 0, false, build_sinusoidal, reference_sinusoidal), .a = 7, .cases = {"3"}},
    {ROW("positions", "sinusoidal_halves", "w", 0, 1e-6, 0, false, build_sinusoidal, reference_sinusoidal), .a = 33, .b = 1, .cases = {"67", "-"}},
    {ROW("rows", "cross_entropy", "nc", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &mean,
     .cases = {"7x37 7", "1x1 1", "3x6x29 3x6", "3x5003 3", "131x65 131", "17x5t 17", "7x33s 7s"}},
    {ROW("rows", "cross_entropy_high", "hc", 1, 4e-6, 2e-5, false, build_cross_entropy, reference_of_cross_entropy), .options = &mean, .cases = {"5x19 5", "3x1031 3"}},
    {ROW("rows", "cross_entropy_smooth", "nc", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &smooth,
     .cases = {"8x41 8", "3x1031 3"}},
    {ROW("rows", "cross_entropy_ignore", "nv", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &smooth_ignore,
     .cases = {"8x5 8", "2x33x7 2x33"}},
    {ROW("rows", "cross_entropy_sum", "nc", 1, 1e-6, 2e-6, false, build_cross_entropy, reference_of_cross_entropy), .options = &sum,
     .cases = {"70001x3 70001", "4x17 4", "131x65 131"}},
    {ROW("rows", "correct", "dc", 0, 0, 0, true, build_correct, reference_of_correct), .cases = {"7x3 7", "131x2 131", "3x67x2 3x67", "2x1031 2"}},
    {ROW("rows", "embedding", "ni", 1, 0, 2e-6, true, build_embedding, reference_of_embedding),
     .cases = {"17x9 2x13", "1x1 1", "5x33 21", "257x16 300", "1031x8 64", "3x65 4x1x2", "9x7t 5", "9x33s 5x3t", "4x1 67"}},
};
/* clang-format on */

/* ---- AdamW ---- */

static const struct qn_adamw adamw = {
    .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.1};

static qn_node *build_adamw(const struct row *row, qn_node *const *x)
{
    return qn_output(qn_adamw(x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], adamw), (int)row->a);
}
static struct array reference_adamw(const struct row *row, const struct array *x)
{
    double rate = x[4].at[0], scale = x[5].at[0], t = x[6].at[0];
    int output = (int)row->a;
    struct array y = array_new(x[0].shape);
    for (size_t i = 0; i < y.count; i++) {
        double gradient = scale * x[3].at[i];
        double m = adamw.beta1 * x[1].at[i] + (1 - adamw.beta1) * gradient;
        double v = adamw.beta2 * x[2].at[i] + (1 - adamw.beta2) * gradient * gradient;
        double step =
            m / (1 - pow(adamw.beta1, t)) / (sqrt(v / (1 - pow(adamw.beta2, t))) + adamw.epsilon);
        double parameter = x[0].at[i] * (1 - rate * adamw.weight_decay) - rate * step;
        double found[] = {parameter, m, v};
        y.at[i] = x[7].at[0] == 0 ? x[output].at[i] : found[output];
    }
    return y;
}

/* Some ten roundings, one of a difference of nearly equal numbers: of 1 and a power of beta2. */
#define ADAMW(title, letters, number)                                                              \
    {                                                                                              \
        ROW("adamw", title, letters, 0, 2e-6, 0, false, build_adamw, reference_adamw),             \
            .a = number, .cases = {                                                                \
                "67 67 67 67 - - - -",                                                             \
                "1 1 1 1 1 1 1 1",                                                                 \
                "5x9 5x9 5x9 5x9 - - - -",                                                         \
                "4099 4099 4099 4099 - - - -"                                                      \
            }                                                                                      \
    }
/* clang-format off */
static const struct row rows_of_adamw[] = {
    ADAMW("adamw_parameters", "nnpnpp11", 0),
    ADAMW("adamw_parameters_later", "nnpnpp51", 0),
    ADAMW("adamw_m", "nnpnpp51", 1),
    ADAMW("adamw_v", "nnpnpp51", 2),
    ADAMW("adamw_gate", "nnpnpp50", 0),
    ADAMW("adamw_gate_m", "nnpnpp50", 1),
    ADAMW("adamw_gate_v", "nnpnpp50", 2),
};
/* clang-format on */

const struct table heavy_tables[] = {
    TABLE(rows_of_matmul, PRODUCTS),
    TABLE(rows_of_attention, VARIANTS),
    TABLE(rows_of_rows, VARIANTS),
    TABLE(rows_of_adamw, VARIANTS),
    {0},
};
