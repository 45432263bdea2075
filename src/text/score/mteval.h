/* The words of machine translation: mteval-v13a.pl's rules, sacrebleu's "13a". */
#ifndef QUERN_MTEVAL_H
#define QUERN_MTEVAL_H

#include "text/score/pieces.h"

/* Splits the text of a buffer into words, one space between each two.  `scratch` lends its memory.
 * */
bool mteval_13a(qn_context *context, struct buffer *text, struct buffer *scratch);

#endif
