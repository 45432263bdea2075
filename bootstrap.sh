#!/bin/sh
# Makes configure, configures in build/ and builds.
set -e
cd "$(dirname "$0")"
[ -x configure ] || autoreconf --install
mkdir -p build && cd build
[ -f Makefile ] || ../configure
make -j"$(nproc)"
