/* Rows of a table of type T, and the gradient of the table, in floats. */

/* out[i] = table[ids[i]]; zeros for an id outside the table.  A work-group an id. */
kernel void embedding(global T *restrict out, global const T *restrict table,
                      global const int *restrict ids, ulong count, ulong rows, ulong width)
{
    for (ulong item = get_group_id(0); item < count; item += get_num_groups(0)) {
        int id = ids[item];
        bool is_row = id >= 0 && (ulong)id < rows;
        global const T *row = table + (is_row ? id : 0) * width;
        for (ulong i = ROW_FIRST; i < width; i += ROW_STEP)
            store_row(is_row ? load_row(row, i, width, 0.0f) : (floatv)(0.0f), out + item * width,
                      i, width);
    }
}

/* d_table[row] = the sum of dy[i] over all i with ids[i] = row, in the order of i.  A work-group has a block of rows of the
 * table, and walks all ids; a work-item has its columns of them, so that nothing is added twice or out of order. */
kernel void embedding_backward(global float *restrict d_table, global const int *restrict ids,
                               global const T *restrict dy, ulong count, ulong rows,
                               ulong width, ulong block)
{
    ulong blocks = (rows + block - 1) / block;
    for (ulong item = get_group_id(0); item < blocks; item += get_num_groups(0)) {
        ulong begin = item * block, end = min(begin + block, rows);
        for (ulong row = begin; row < end; row++)
            for (ulong i = ROW_FIRST; i < width; i += ROW_STEP)
                store_row((floatv)(0.0f), d_table + row * width, i, width);
        for (ulong at = 0; at < count; at++) {
            int id = ids[at];
            if (id < 0 || (ulong)id < begin || (ulong)id >= end)
                continue;
            global float *row = d_table + (ulong)id * width;
            for (ulong i = ROW_FIRST; i < width; i += ROW_STEP)
                store_row(load_row(row, i, width, 0.0f) + load_row(dy + at * width, i, width, 0.0f),
                          row, i, width);
        }
    }
}
