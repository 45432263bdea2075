/* Operands of rows: random numbers, the types they are kept in, and how they lie in memory. */
#include "check/operands.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/context.h"
#include "device/philox.h"

/* ---- Random operands ---- */

uint32_t random_word32(uint64_t key, size_t index)
{
    uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 31 >> 1), 0, 0};
    uint32_t words[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    return philox(counter, words).word[0];
}

/* In (0, 1). */
static double uniform(uint64_t key, size_t index)
{
    return (random_word32(key, index) + 0.5) * 0x1p-32;
}

double random_normal(uint64_t key, size_t index)
{
    double radius = sqrt(-2 * log(uniform(key, 2 * index)));
    return radius * cos(6.283185307179586 * uniform(key, 2 * index + 1));
}

/* ---- Types ---- */

const struct precision precisions[] = {[QN_F32] = {FLT_EPSILON / 2, FLT_MAX, FLT_MIN},
                                       [QN_F16] = {0x1p-11, 65504, 0x1p-14},
                                       [QN_BF16] = {0x1p-8, 0x1.FEp127, FLT_MIN}};

double rounded_to(enum qn_type type, double number)
{
    float memory;
    type_put(type, &memory, 0, number);
    return type_get(type, &memory, 0);
}

/* ---- Numbers by letters ---- */

static double special(size_t index)
{
    static const double values[] = {0,      -0.0, 1,     -1, 0.5, -0.5, 1e-30,
                                    -1e-30, 1e-4, -1e-4, 10, -10, 100,  -100,
                                    1000,   87,   -87,   3,  -3,  20,   NAN};
    return values[index % (sizeof values / sizeof *values)];
}

double draw(char letter, uint64_t key, size_t index, size_t count, size_t number,
            const struct array *first)
{
    size_t step = 0x9E3779B1u % (count | 1);
    switch (letter) {
    case 'n': /* normal */
        return random_normal(key, index);
    case 'h': /* high: softmax overflows if it does not subtract the greatest */
        return 40 * random_normal(key, index);
    case 'x': /* masked: two of three are */
        return random_word32(key, index) % 3 ? -INFINITY : random_normal(key, index);
    case 'f': /* far from zero: a variance as a difference of squares would fail */
        return 100 + random_normal(key, index);
    case 'o': /* an outlier in front */
        return index == 0 ? 1000 : random_normal(key, index);
    case 'p': /* positive, away from zero */
        return 0.1 + 3 * uniform(key, index);
    case 'k': /* on a grid, another one for each operand: never at a kink, nor near one */
        return round(64 * random_normal(key, index)) / 64 + (double)(number + 1) / 512;
    case 'v': /* i32: a class of operand 0 */
        return (double)(random_word32(key, index) % first->shape.size[first->shape.rank - 1]);
    case 'd': /* different from all others */
        return ((double)(index * (step ? step : 1) % count) - (double)count / 2) / 64;
    case 'e': /* often equal */
        return (double)(random_word32(key, index) % 4);
    case 's':
        return special(index);
    case '1':
        return 1;
    case '0':
        return 0;
    case '5':
        return 5;
    case '3': /* i32 */
        return 3;
    case '8': /* i32: from 2^24 + 1 on */
        return 16777217 + 7919.0 * (double)index;
    case '9': /* i32 */
        return 2990;
    case 'l': /* i32: a length, of no row or of more than all now and then */
        return (double)(random_word32(key, index) % 70);
    case 'a': /* i32: a place among 64, or beyond now and then */
        return (double)(random_word32(key, index) % 66) - 1;
    case 't': /* i32: a length, of no row now and then */
        return (double)(random_word32(key, index) % 8);
    case 'u': /* from 0 to 1/8 */
        return uniform(key, index) / 8;
    case 'm': /* 0 or 1 */
        return random_word32(key, index) & 1;
    case 'w': /* i32 */
        return (double)(random_word32(key, index) % 19) - 9;
    case 'i': /* i32: a row of operand 0, now and then one that there is not */
        return (double)(random_word32(key, index) % (first->shape.size[0] + 2)) - 1;
    case 'c': /* i32: a class of operand 0, now and then -100; never at first */
        if (index > 0 && random_word32(key, index) % 5 == 0)
            return -100;
        return (double)(random_word32(key, index + 1000) %
                        first->shape.size[first->shape.rank - 1]);
    default: /* 'z': a key, i32 */
        return (double)(random_word32(key, index) >> 1);
    }
}

/* ---- Cases ---- */

size_t parse_case(const char *text, struct shape_of_operand *operands)
{
    size_t count = 0;
    for (; *text; text += *text == ' ') {
        struct shape_of_operand *operand = &operands[count++];
        *operand = (struct shape_of_operand){.view = ' '};
        if (*text == '-')
            text++;
        while (*text >= '0' && *text <= '9') {
            char *end;
            operand->shape.size[operand->shape.rank++] = strtoul(text, &end, 10);
            text = end + (*end == 'x');
        }
        if (*text && *text != ' ')
            operand->view = *text++;
        qn_shape *base = &operand->base;
        *base = operand->shape;
        int last = base->rank - 1;
        if (operand->view == 't') {
            base->size[last] = operand->shape.size[last - 1];
            base->size[last - 1] = operand->shape.size[last];
        }
        if (operand->view == 's')
            base->size[last] += 7;
        if (operand->view == 'r')
            base->size[0] += 2;
        if (operand->view == 'b')
            base->size[0] = 1;
    }
    return count;
}

size_t base_position(const struct shape_of_operand *operand, size_t index)
{
    size_t at[QN_MAX_RANK];
    int last = operand->shape.rank - 1;
    array_coordinates(&operand->shape, index, at);
    if (operand->view == 't') {
        size_t swap = at[last];
        at[last] = at[last - 1];
        at[last - 1] = swap;
    }
    if (operand->view == 's')
        at[last] += 3;
    if (operand->view == 'r')
        at[0] += 1;
    if (operand->view == 'b')
        at[0] = 0;
    return array_position(&operand->base, at);
}

qn_node *view_node(const struct shape_of_operand *operand, qn_node *whole)
{
    size_t last = operand->shape.rank ? operand->shape.size[operand->shape.rank - 1] : 1;
    switch (operand->view) {
    case 't':
        return qn_transpose(whole, -1, -2);
    case 's':
        return qn_slice(whole, -1, 3, 3 + last);
    case 'r':
        return qn_slice(whole, 0, 1, 1 + operand->shape.size[0]);
    case 'b':
        return qn_broadcast(whole, operand->shape);
    default:
        return whole;
    }
}
