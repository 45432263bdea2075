#!/bin/sh
# Fetches Intel's OpenCL runtime for CPUs from PyPI, to test with.  Its licence is Intel's: nothing of it may be shipped.
#
#   tools/intel-opencl.sh FOLDER     needs no root; Debian: python3-venv
#   . FOLDER/env                     then it stands beside the drivers that are installed: QUERN_DEVICE=Intel
#
# What is in FOLDER already is used again.
set -eu

# The newest of these years were tried; each needs the others.
packages='intel-opencl-rt==2026.* intel-cmplr-lib-rt==2026.* intel-cmplr-lib-ur==2026.* intel-cmplr-lic-rt==2026.* tbb==2023.*'

die()
{
    printf 'tools/intel-opencl.sh: %s\n' "$*" >&2
    exit 1
}

[ $# = 1 ] || die "usage: tools/intel-opencl.sh FOLDER"
[ "$(uname -m)" = x86_64 ] || die "the runtime is for x86-64 only, and this machine is $(uname -m)"
mkdir -p "$1/vendors"
folder=$(cd "$1" && pwd)
library=$folder/python/lib/libintelocl.so

if [ ! -e "$library" ]; then
    python3 -m venv "$folder/python" >"$folder/log" 2>&1 || {
        tail -n 5 "$folder/log" >&2
        die "python3 -m venv fails (Debian: apt install python3-venv)"
    }
    # shellcheck disable=SC2086
    "$folder/python/bin/pip" install --no-deps $packages >"$folder/log" 2>&1 || {
        tail -n 5 "$folder/log" >&2
        die "pip cannot fetch the runtime: is PyPI within reach?  (all of it: $folder/log)"
    }
fi
[ -e "$library" ] || die "the packages hold no $library"
missing=$(LD_LIBRARY_PATH=$folder/python/lib ldd "$library" | grep 'not found') &&
    die "$library does not find its libraries: $missing"

# The loader reads either these files or the installed ones.
cp /etc/OpenCL/vendors/*.icd "$folder/vendors/" 2>/dev/null || true
echo "$library" >"$folder/vendors/intel.icd"
cat >"$folder/env" <<END
export OCL_ICD_VENDORS='$folder/vendors' LD_LIBRARY_PATH='$folder/python/lib'
END
