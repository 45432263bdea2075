/* Values of named nodes, as files of NumPy's. */
#ifndef QUERN_DUMP_H
#define QUERN_DUMP_H

#include "cli/model.h"

/* Does what the options --dump say with the first window of a data set: lists the names, or writes what a model computes of it.  An exit
 * status. */
int dump_values(const struct model *model, const qn_dataset *dataset,
                const struct options *options);

/* Whether --dump asks for the list. */
bool dump_lists(const struct options *options);

#endif
