#!/bin/sh
# Operations in f16, with the variants that are chosen: one row of each kind of kernel, for what is fused by the graph, and kernels that take
# longest to compile, are tried in f16 on Intel's runtime (tools/check-drivers.sh), and in bf16 here.
exec "$BUILDDIR/quern" check --dtype f16 --chosen --op two shape reduce rows positions matmul_tb lstm
