#!/bin/sh
# Operations in f16, with the variants that are chosen by the device as it is: one row of each kind of kernel, for what is fused by the graph, and
# kernels that take longest to compile, are tried in f16 on Intel's runtime as kernels for GPUs (tools/check-drivers.sh), and in bf16 here.
# Kernels are those of f32 but for how numbers are read and written, and PoCL need not optimise them.
export POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable
exec "$BUILDDIR/quern" check --dtype f16 --chosen --as-is --op two shape reduce rows positions matmul_tb lstm
