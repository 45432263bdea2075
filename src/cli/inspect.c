/* quern inspect: what a file, a model or a run holds. */
#include <stdlib.h>

#include <quern/io.h>

#include "cli/cli.h"

int command_inspect(const struct options *options)
{
    qn_context *context = qn_open("none");
    if (!context)
        return failure(options, "%s", qn_error(NULL));
    int result = EXIT_SUCCESS;
    if (qn_inspect(context, options_operand(options), stdout) != QN_OK) {
        fflush(stdout); /* what was good comes before the message */
        result = failure(options, "%s", qn_error(context));
    }
    qn_close(context);
    return result;
}
