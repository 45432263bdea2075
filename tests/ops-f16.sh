#!/bin/sh
# Operations in f16, every variant that fits, on the device as it is and as it pretends to be others.  Of products, attention and recurrences, whose
# kernels take longest to compile, one row each: the others are tried in f16 on Intel's runtime (tools/check-drivers.sh), and in bf16 here.
exec "$BUILDDIR/quern" check --dtype f16 --op one special two numbers shape reduce choose rows positions matmul_tb attention_causal lstm
