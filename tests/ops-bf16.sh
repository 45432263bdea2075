#!/bin/sh
# Every operation in bf16, every variant that fits, on the device as it is and as it pretends to be others.
exec "$BUILDDIR/quern" check --dtype bf16
