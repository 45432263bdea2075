#!/bin/sh
# Every operation in bf16 with the variants that are chosen by the device as it is.  As it pretends to be others: tools/check-drivers.sh.
exec "$BUILDDIR/quern" check --dtype bf16 --chosen --as-is
