/* y = the sum of parts of a product, in their order, or what FUSED makes of it: each part has m rows of n.  A work-item makes a
 * vector, and then the next one that nobody has. */

#ifndef FUSED
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

kernel SUBGROUPS_OF_16 void gemm_parts(global const float *restrict parts, global Y *restrict y,
                       FUSED_PARAMETERS uint n_parts, ulong m, ulong n)
{
    ulong row_vectors = (n + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (ulong i = get_global_id(0); i < m * row_vectors; i += get_global_size(0)) {
        ulong row = i / row_vectors;
        uint column = i % row_vectors * FLOAT_WIDTH, end = n;
        floatv sum = 0.0f;
        for (uint part = 0; part < n_parts; part++)
            sum += load_row(parts + (part * m + row) * n, column, n, 0.0f);
        FUSED(sum, row, column, end);
        store_row(sum, y + row * n, column, n);
    }
}
