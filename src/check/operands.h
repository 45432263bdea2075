/* Operands of rows: random numbers, the types they are kept in, and how they lie in memory. */
#ifndef QUERN_OPERANDS_H
#define QUERN_OPERANDS_H

#include <quern/ops.h>

#include "check/reference.h"

/* ---- Random numbers: pure functions of a key and an index ---- */

uint32_t random_word32(uint64_t key, size_t index);
double random_normal(uint64_t key, size_t index);

/* Element `index` of `count` of operand `number`, of the kind that the letter says.  `first`: operand 0, which bounds ids and classes. */
double draw(char letter, uint64_t key, size_t index, size_t count, size_t number,
            const struct array *first);

/* ---- Types ---- */

/* Half a unit in the last place of 1, the greatest number and the least that has all digits; of real types. */
struct precision {
    double half_ulp, greatest, least;
};
extern const struct precision precisions[];

/* What a number becomes in memory of a type. */
double rounded_to(enum qn_type type, double number);

/* ---- Cases ---- */

/* An operand as a case says it: "3x5x8", "-" for a single number without axes; and in memory a
 * whole tensor, or
 *   t   with its last two axes swapped
 *   s   with gaps along the last axis
 *   r   some rows of a taller one, so that it does not begin at its beginning
 *   b   one number or row repeated along the first axis */
struct shape_of_operand {
    qn_shape shape, base;
    char view;
};

/* Reads a case; returns how many operands it has. */
size_t parse_case(const char *text, struct shape_of_operand *operands);

/* Where in the whole an element of the view is. */
size_t base_position(const struct shape_of_operand *operand, size_t index);

/* The view of a whole. */
qn_node *view_node(const struct shape_of_operand *operand, qn_node *whole);

#endif
