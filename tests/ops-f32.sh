#!/bin/sh
# Every operation in f32 with the variants that are chosen by the device as it is.  As it pretends to be others, and the variants that
# are not chosen: tools/check-drivers.sh.
exec "$BUILDDIR/quern" check --dtype f32 --chosen --as-is
