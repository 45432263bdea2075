/* Where something went wrong: the first number, of type T, that is infinite or NaN.  `first` holds UINT_MAX before. */

kernel void find_not_finite(global const T *x, ulong count, volatile global uint *first)
{
    ulong chunks = (count + FLAT_CHUNK - 1) / FLAT_CHUNK;
    for (ulong item = get_global_id(0); item < chunks; item += get_global_size(0)) {
        ulong end = min((item + 1) * FLAT_CHUNK, count);
        for (ulong i = item * FLAT_CHUNK; i < end; i++) {
            if (!(fabs(load(x + i)) < INFINITY)) {
                atomic_min(first, (uint)min(i, (ulong)UINT_MAX - 1));
                break;
            }
        }
    }
}
