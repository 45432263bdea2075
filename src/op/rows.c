/* Launches of kernels that work on rows. */
#include "op/rows.h"

#include "device/context.h"

enum {
    GPU_GROUP = 128,
    MOST_ITEMS = 65535, /* PoCL compiles a kernel once more for larger ranges */
    CPU_GROUPS = 1024,  /* enough to balance any number of cores */
};

size_t row_group(const struct qn_caps *caps)
{
    size_t group = 1;
    while (caps->device_class == QN_GPU && 2 * group <= size_min(GPU_GROUP, caps->max_work_group))
        group *= 2;
    return group;
}

void row_range(struct qn_launch *launch, size_t rows)
{
    size_t group = row_group(qn_launch_caps(launch));
    size_t most = group == 1 ? CPU_GROUPS : MOST_ITEMS / group;
    qn_launch_range(launch, (size_t[3]){size_min(rows, most)}, (size_t[3]){group});
}

void item_range(struct qn_launch *launch, size_t items)
{
    row_range(launch, divide_up(items, row_group(qn_launch_caps(launch))));
}

void flat_range(struct qn_launch *launch, size_t count)
{
    enum { CPU_CHUNK = 4096 };
    const struct qn_caps *caps = qn_launch_caps(launch);
    item_range(launch, divide_up(count, caps->device_class == QN_CPU ? CPU_CHUNK : caps->float_width));
}

void rows_of(const qn_shape *shape, size_t *rows, size_t *width)
{
    *rows = 1;
    *width = shape->rank ? shape->size[shape->rank - 1] : 1;
    for (int i = 0; i + 1 < shape->rank; i++)
        *rows *= shape->size[i];
}
