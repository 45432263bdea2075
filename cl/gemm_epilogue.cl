/* y = activation(y + bias), in place; z what the activation is applied to.  A work-item makes every
 * GLOBAL_SIZE-th number. */

#if FLOAT_WIDTH == 1
#define GELU(x) gelu(x)
#else
#define GELU(x) gelu((floatv)(x)).s0
#endif

kernel void gemm_epilogue(global const float *restrict bias, global float *restrict y,
                          global float *restrict z, ulong count, uint n, ulong bias_offset,
                          ulong y_offset, uint has_bias, uint keep_z, uint activation)
{
    for (ulong i = get_global_id(0); i < count; i += get_global_size(0)) {
        float v = y[y_offset + i] + (has_bias ? bias[bias_offset + i % n] : 0.0f);
        if (keep_z)
            z[y_offset + i] = v;
        y[y_offset + i] = activation == 1 ? v < 0.0f ? 0.0f : v : activation == 2 ? GELU(v) : v;
    }
}
