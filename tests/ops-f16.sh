#!/bin/sh
# Every operation in f16, every variant that fits, on the device as it is and as it pretends to be others.
exec "$BUILDDIR/quern" check --dtype f16
