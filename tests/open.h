/* The device of a test program.  Include after tap.h. */
#ifndef TEST_OPEN_H
#define TEST_OPEN_H

#include <stdlib.h>

#include <quern/quern.h>

static qn_context *open_device_or_bail_out(void)
{
    qn_context *context = qn_open(NULL);
    if (!context)
        bail_out("no device: %s", qn_error(NULL));
    note("%s", qn_device_name(context));
    return context;
}

/* For tests of what the host does: what a compiler makes of kernels, others look at, and those that PoCL does not optimise compile three times
 * as fast. */
TAP_UNUSED static qn_context *open_with_quick_compiler(void)
{
    setenv("POCL_EXTRA_BUILD_FLAGS", "-cl-opt-disable", 0);
    return open_device_or_bail_out();
}

#endif
