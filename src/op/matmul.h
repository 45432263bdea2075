/* What other operations ask of products. */
#ifndef QUERN_OP_MATMUL_H
#define QUERN_OP_MATMUL_H

#include <quern/ops.h>

/* qn_matmul_with() whose result has this type. */
qn_node *matmul_to(qn_node *a, qn_node *b, struct qn_matmul options, enum qn_type type);

#endif
