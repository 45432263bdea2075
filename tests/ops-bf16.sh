#!/bin/sh
# Every operation in bf16 with the variants that are chosen, by the device as it is and as it pretends to be others.
exec "$BUILDDIR/quern" check --dtype bf16 --chosen
