#!/bin/sh
# Every operation in f32 with the variants that are chosen, by the device as it is and as it pretends to be others.  `pocl-variants`
# of tools/check-drivers.sh tries the rest, too, where operations have a choice: of products and attention in one row each.
exec "$BUILDDIR/quern" check --dtype f32 --chosen
