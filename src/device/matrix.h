/* Sets of instructions that multiply matrices. */
#ifndef QUERN_MATRIX_H
#define QUERN_MATRIX_H

#include "device/device.h"

struct matrix_set {
    const char *name;      /* as QUERN_CAPS calls it */
    unsigned types;        /* of operands; bit i: enum qn_type i */
    enum qn_matrix lesser; /* what is tried if it is not right */
    /* Of GPUs: */
    const char *macro; /* chooses it in cl/gemm_matrix.cl; NULL: it is one of CPUs */
    size_t lanes;      /* of a sub-group */
    size_t part;       /* the side of what a sub-group makes of a tile, at most */
    size_t pad;        /* numbers between the rows of its sums in local memory */
    bool is_async;     /* slices arrive by themselves: more of them are under way */
};

const struct matrix_set *matrix_set(enum qn_matrix matrix);

/* What QUERN_CAPS makes of *matrix.  Instructions of GPUs anyone may ask for, as a probe comes before their use; of those of CPUs, which would end
 * the process, no more than are there.  False: no set has that name. */
bool matrix_override(enum qn_matrix *matrix, const char *name);

/* For a tile of so many rows and columns: the side of a sub-group's part, and the work-items of a group. */
size_t matrix_part(const struct matrix_set *set, size_t tile);
size_t matrix_group(const struct matrix_set *set, size_t tile);

/* `most`, or the best lesser set that a tiny product is right with; tried where the cache does not know.  Without a context
 * nothing is tried, and what is not known is taken to work. */
enum qn_matrix device_matrix(const qn_context *context, const struct device_info *info,
                             enum qn_matrix most);

/* Why `most` is not used, as the cache knows; or "". */
void matrix_problem(const struct device_info *info, enum qn_matrix most, char *problem,
                    size_t size);

/* What the processor of this machine has, with Linux' leave to use it: for devices that are this processor. */
enum qn_matrix host_matrix(void);

#endif
