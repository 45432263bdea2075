/* Copies between layouts, bit by bit: ELEMENT is an unsigned number as long as one of the values. */

/* out[row * out_width + out_offset + i] = x[row * width + i].  A work-item has a chunk of a row. */
kernel void copy_rows(global ELEMENT *restrict out, global const ELEMENT *restrict x, ulong rows,
                      ulong width, ulong out_width, ulong out_offset)
{
    ulong chunks = (width + FLAT_CHUNK - 1) / FLAT_CHUNK;
    for (ulong item = get_global_id(0); item < rows * chunks; item += get_global_size(0)) {
        ulong row = item / chunks, begin = item % chunks * FLAT_CHUNK,
              end = min(begin + FLAT_CHUNK, width);
        for (ulong i = begin; i < end; i++)
            out[row * out_width + out_offset + i] = x[row * width + i];
    }
}

/* out[offset + i] = 0 for i < count. */
kernel void zero(global ELEMENT *out, ulong offset, ulong count)
{
    for (ulong begin = get_global_id(0) * FLAT_CHUNK; begin < count;
         begin += get_global_size(0) * FLAT_CHUNK)
        for (ulong i = begin; i < min(begin + FLAT_CHUNK, count); i++)
            out[offset + i] = 0;
}

/* State[..., at + i, ...] = x[..., i, ...]: `outer` blocks of `length` runs of `inner` elements into blocks of `size` runs.
 * `at` is clamped so that the slice fits.  A work-item has a chunk of a block. */
kernel void write_slice(global ELEMENT *restrict state, global const ELEMENT *restrict x,
                        global const int *at, ulong outer, ulong length, ulong inner, ulong size)
{
    ulong begin = (ulong)clamp((long)at[0], 0L, (long)(size - length));
    ulong width = length * inner, chunks = (width + FLAT_CHUNK - 1) / FLAT_CHUNK;
    for (ulong item = get_global_id(0); item < outer * chunks; item += get_global_size(0)) {
        ulong block = item / chunks, first = item % chunks * FLAT_CHUNK;
        global ELEMENT *to = state + (block * size + begin) * inner;
        for (ulong i = first; i < min(first + FLAT_CHUNK, width); i++)
            to[i] = x[block * width + i];
    }
}
