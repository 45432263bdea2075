/* Positions as angles: rotary embedding (Su et al.: "RoFormer", 2021) and sines (Vaswani et al.: "Attention is all you need",
 * 2017).
 *
 * FREQUENCIES: turns from one position to the next, each as a float and what it lacks of the exact number.  Whole turns
 * are taken away before anything is rounded, so that far positions are as exact as near ones. */

constant float frequencies[] = {FREQUENCIES};

/* t frequency without its whole turns; t and frequency are exact, `rest` is what the latter lacks. */
inline floatv fraction(floatv t, floatv frequency, floatv rest)
{
    floatv turns = t * frequency, rounded_off = fma(t, frequency, -turns);
    return turns - rint(turns) + (rounded_off + t * rest);
}

/* The turns, but for whole ones, of `position` at frequencies i, i + 1, ...; the last of `count` again. */
inline floatv turns_of(int position, ulong i, ulong count)
{
    float whole[FLOAT_WIDTH], rest[FLOAT_WIDTH];
    for (uint lane = 0; lane < FLOAT_WIDTH; lane++) {
        whole[lane] = frequencies[2 * min(i + lane, count - 1)];
        rest[lane] = frequencies[2 * min(i + lane, count - 1) + 1];
    }
    floatv frequency = loadv(0, whole), lacking = loadv(0, rest);
    /* Halves of the position, each of which a float holds exactly. */
    floatv high = (float)(position >> 16), low = (float)(position & 0xFFFF);
    return fraction(high, frequency * 65536.0f, lacking * 65536.0f) +
           fraction(low, frequency, lacking);
}

/* Entry `second` (0 or 1) of the pairs i, i + 1, ... of a vector. */
inline floatv load_pairs(global const T *x, ulong i, ulong pairs, uint second)
{
#if IS_INTERLEAVED
    float lane[FLOAT_WIDTH];
    for (uint j = 0; j < FLOAT_WIDTH; j++)
        lane[j] = load(x + 2 * min(i + j, pairs - 1) + second);
    return loadv(0, lane);
#else
    return load_row(x + second * pairs, i, pairs, 0.0f);
#endif
}

inline void store_pairs(floatv v, global T *y, ulong i, ulong pairs, uint second)
{
#if IS_INTERLEAVED
    float lane[FLOAT_WIDTH];
    storev(v, 0, lane);
    for (uint j = 0; j < FLOAT_WIDTH && i + j < pairs; j++)
        store(lane[j], y + 2 * (i + j) + second);
#else
    store_row(v, y + second * pairs, i, pairs);
#endif
}

/* A work-item has a vector of pairs of one token, or of entries that do not turn, in all heads.  direction: 1, or -1 to turn
 * back. */
kernel void rotary(global T *y, global const T *x, global const int *positions, ulong batch,
                   ulong length, ulong heads, ulong width, ulong pairs, ulong x_offset,
                   ulong x_batch, ulong x_token, ulong x_head, ulong n_positions, float direction)
{
    ulong turning = (pairs + FLOAT_WIDTH - 1) / FLOAT_WIDTH,
          vectors = turning + (width - 2 * pairs + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (ulong item = get_global_id(0); item < batch * length * vectors;
         item += get_global_size(0)) {
        ulong vector = item % vectors, token = item / vectors;
        global const T *in = x + x_offset + token / length * x_batch + token % length * x_token;
        global T *out = y + token * heads * width;
        if (vector >= turning) {
            ulong i = 2 * pairs + (vector - turning) * FLOAT_WIDTH;
            for (ulong head = 0; head < heads; head++)
                store_row(load_row(in + head * x_head, i, width, 0.0f), out + head * width, i,
                          width);
            continue;
        }
        ulong i = vector * FLOAT_WIDTH;
        floatv turns = turns_of(positions[token % n_positions], i, pairs);
        floatv c = cospi(2.0f * turns), s = sinpi(2.0f * turns) * direction;
        for (ulong head = 0; head < heads; head++, in += x_head, out += width) {
            floatv a = load_pairs(in, i, pairs, 0), b = load_pairs(in, i, pairs, 1);
            store_pairs(a * c - b * s, out, i, pairs, 0);
            store_pairs(b * c + a * s, out, i, pairs, 1);
        }
    }
}

/* y[token] = the sines and cosines of its position: in turns, or sines first.  A work-item has a vector of frequencies. */
kernel void sinusoidal(global float *y, global const int *positions, ulong tokens, ulong width,
                       uint halves)
{
    ulong sines = (width + 1) / 2, cosines = width / 2,
          vectors = (sines + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (ulong item = get_global_id(0); item < tokens * vectors; item += get_global_size(0)) {
        ulong token = item / vectors, begin = item % vectors * FLOAT_WIDTH;
        floatv turns = turns_of(positions[token], begin, sines);
        float s[FLOAT_WIDTH], c[FLOAT_WIDTH];
        storev(sinpi(2.0f * turns), 0, s);
        storev(cospi(2.0f * turns), 0, c);
        global float *out = y + token * width;
        for (uint lane = 0; lane < FLOAT_WIDTH; lane++) {
            ulong i = begin + lane;
            if (i < sines)
                out[halves ? i : 2 * i] = s[lane];
            if (i < cosines)
                out[halves ? sines + i : 2 * i + 1] = c[lane];
        }
    }
}
