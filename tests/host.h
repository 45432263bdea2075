/* Tests of what needs no device: a context that keeps errors.  Include after tap.h. */
#ifndef TEST_HOST_H
#define TEST_HOST_H

#include <string.h>

#include <quern/quern.h>

static qn_context *qn;

static void open_host(void)
{
    qn = qn_open("none");
    if (!qn)
        bail_out("%s", qn_error(NULL));
}

/* Whether the context's error has `part` in it; forgets the error. */
static bool says(const char *part)
{
    bool is_there = strstr(qn_error(qn), part) != NULL;
    if (!is_there)
        note("expected \"%s\" in: %s", part, qn_error(qn));
    qn_clear_error(qn);
    return is_there;
}

#endif
