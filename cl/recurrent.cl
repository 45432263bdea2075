/* Recurrences over whole sequences, forward and backward: see src/op/recurrent.c.
 *
 * A step makes, for rows b of the batch and units u of the state,
 *
 *     p[g] = x[t][b][g H + u] + sum over k of h[b][k] U[g H + u][k]     for each gate g
 *
 * and from that the new state; backward, the gradient of the state before it is a sum over the gates of all units.  Sums over k are
 * one chain, so that numbers do not depend on who computes what.
 *
 * Steps are counted in the order of the recurrence; a row has the steps first_step() to last_step().  Where work-items have whole rows of
 * the batch, one command computes all steps, else one: what a step reads of others' was then written by the command before.
 *
 * Of type T are x, states and their gradients; cells (LSTM) and products (GRU: U_n h + c_n) are floats, as weights are on a CPU.
 *
 * CELL, GATES, BACKWARD: what is meant.  The order of gates is PyTorch's. */

#define RNN_TANH 0
#define RNN_RELU 1
#define LSTM 2
#define GRU 3

#if DEVICE_CPU
#define V floatv
#if FLOAT_WIDTH == 1
#define SIGMOID(x) (1.0f / (1.0f + exp(-(x))))
#define TANH(x) tanh(x)
#else
#define SIGMOID(x) sigmoid_of(x)
#define TANH(x) tanh_of(x)

/* Gates make up a third of the time.  The error of this is below 1e-7. */
inline floatv sigmoid_of(floatv x)
{
    floatv in_twos = x * -LOG2_E;
    in_twos = SELECT(LT((floatv)(127.0f), in_twos), (floatv)(127.0f), in_twos);
    return 1.0f / (1.0f + power_of_2(in_twos));
}

/* A quotient of polynomials fitted to tanh(x) / x on [-9, 9], which is 1 beyond; the relative error is below 4e-7. */
inline floatv tanh_of(floatv x)
{
    x = greater(-9.0f, x);
    x = SELECT(LT((floatv)(9.0f), x), (floatv)(9.0f), x);
    floatv z = x * x;
    floatv above = multiply_add(z, 1.3354634731399528e-8f, (floatv)(2.0609064449672587e-5f));
    above = multiply_add(above, z, (floatv)(3.495587268844247e-3f));
    above = multiply_add(above, z, (floatv)(0.13381025195121765f));
    above = multiply_add(above, z, (floatv)(1.0f));
    floatv below = multiply_add(z, 7.776547477078566e-7f, (floatv)(3.2856332836672664e-4f));
    below = multiply_add(below, z, (floatv)(2.5876978412270546e-2f));
    below = multiply_add(below, z, (floatv)(0.4671434164047241f));
    below = multiply_add(below, z, (floatv)(1.0f));
    floatv y = x * above / below;
    y = greater(-1.0f, y);
    return SELECT(LT((floatv)(1.0f), y), (floatv)(1.0f), y);
}
#endif
#define CHOOSE(condition, a, b) SELECT(condition, a, b)
#else
#define V float
#define SIGMOID(x) (1.0f / (1.0f + exp(-(x))))
#define TANH(x) tanh(x)
#define CHOOSE(condition, a, b) ((condition) ? (a) : (b))
#endif

/* ---- Cells ---- */

/* Of gates before their functions (of a GRU's last one without `product`), and of the state before: the new state, and what is saved:
 * gates, and the cell. */
inline V next_state(V *gates, V before, V *cell, V product)
{
#if CELL == LSTM
    gates[0] = SIGMOID(gates[0]);
    gates[1] = SIGMOID(gates[1]);
    gates[2] = TANH(gates[2]);
    gates[3] = SIGMOID(gates[3]);
    *cell = gates[1] * *cell + gates[0] * gates[2];
    return gates[3] * TANH(*cell);
#elif CELL == GRU
    gates[0] = SIGMOID(gates[0]);
    gates[1] = SIGMOID(gates[1]);
    gates[2] = TANH(gates[2] + gates[0] * product);
    return gates[2] + gates[1] * (before - gates[2]);
#elif CELL == RNN_RELU
    return CHOOSE(LT(gates[0], 0.0f), (V)(0.0f), gates[0]);
#else
    return TANH(gates[0]);
#endif
}

/* Gates as they were saved (of an RNN its state) become the gradients of what they were before their functions.  `d` is the gradient
 * of the state, `carry` that of the cell (LSTM), and becomes that of the cell before; or of the state before without the sum (GRU).
 * `cell` and `before` are the cell and the one before (LSTM), or product and the state before (GRU). */
inline void last_gradients(V *gates, V d, V *carry, V cell, V before, V *d_product)
{
#if CELL == LSTM
    V i = gates[0], f = gates[1], g = gates[2], o = gates[3];
    V y = TANH(cell), d_cell = *carry + d * o * (1.0f - y * y);
    gates[0] = d_cell * g * i * (1.0f - i);
    gates[1] = d_cell * before * f * (1.0f - f);
    gates[2] = d_cell * i * (1.0f - g * g);
    gates[3] = d * y * o * (1.0f - o);
    *carry = d_cell * f;
#elif CELL == GRU
    V r = gates[0], z = gates[1], n = gates[2];
    V d_n = d * (1.0f - z) * (1.0f - n * n);
    gates[0] = d_n * cell * r * (1.0f - r);
    gates[1] = d * (before - n) * z * (1.0f - z);
    gates[2] = d_n;
    *d_product = d_n * r;
    *carry = d * z;
#elif CELL == RNN_RELU
    gates[0] = CHOOSE(GT(gates[0], 0.0f), d, (V)(0.0f));
#else
    gates[0] = d * (1.0f - gates[0] * gates[0]);
#endif
}

/* ---- Steps ---- */

/* What all parts of a kernel know. */
struct sequences {
    int steps, reverse, has_lengths;
    uint batch, units;
    global const int *lengths; /* (B) */
    global const T *h_0, *c_0; /* (B, H) */
    global float *saved;       /* (T, B, H): cells or products */
#if BACKWARD
    global const T *gates;               /* (T, B, G H): as they were saved */
    global T *x;                         /* the gradient of x; may be the same memory */
    global const T *out, *d_out;         /* (T, B, H); d_out, d_h_n, d_c_n may be missing */
    global const T *d_h_n, *d_c_n;       /* (B, H) */
    global T *d_h_0, *d_c_0, *d_product; /* (B, H), the last one (T, B, H) */
    global float *carry;                 /* (B, H) */
    int has_d_out, has_d_h_n, has_d_c_n;
#else
    global const T *x, *bias;          /* (T, B, G H); GRU: (H), may be missing */
    global T *out, *h_n, *gates, *c_n; /* (T, B, H), (B, H), (T, B, G H), (B, H) */
    int has_bias;
#endif
};

inline int length_of(const struct sequences *s, uint b)
{
    return s->has_lengths ? clamp(s->lengths[b], 0, s->steps) : s->steps;
}

inline int first_step(const struct sequences *s, uint b)
{
    return s->reverse ? s->steps - length_of(s, b) : 0;
}

inline int last_step(const struct sequences *s, uint b)
{
    return s->reverse ? s->steps - 1 : length_of(s, b) - 1;
}

/* Which of the rows of a tensor (T, B, ...) a step reads and writes. */
inline ulong row_of(const struct sequences *s, int step, uint b)
{
    int time = s->reverse ? s->steps - 1 - step : step;
    return (ulong)time * s->batch + b;
}

/* What a work-item reads and writes of a row: V from `unit` on. */
#if DEVICE_CPU
#define GET(row) load_row(row, unit, s->units, 0.0f)
#define PUT(v, row) store_row(v, row, unit, s->units)
#else
#define GET(row) load((row) + unit)
#define PUT(v, row) store(v, (row) + unit)
#endif

#if BACKWARD

/* Of the row that the sum for a step is of. */
inline ulong row_after(const struct sequences *s, int step, uint b)
{
    return row_of(s, min(max(step + 1, first_step(s, b)), s->steps - 1), b);
}

/* `sum`: what comes from the step after this.  Step -1 is what is before the first one. */
inline void finish_step(const struct sequences *s, int step, uint b, uint unit, V sum)
{
    uint units = s->units;
    int last = last_step(s, b), first = first_step(s, b);
    ulong at = row_of(s, max(step, 0), b), at_b = (ulong)b * units;
    bool is_empty = length_of(s, b) == 0;
    V zero = 0.0f, d = sum, carry = zero;
    if (step >= 0 && (step < first || step > last)) {
        for (uint g = 0; g < GATES; g++)
            PUT(zero, s->x + (at * GATES + g) * units);
#if CELL == GRU
        PUT(zero, s->d_product + at * units);
#endif
        return;
    }
    if (step == last || is_empty) {
        d = s->has_d_h_n ? GET(s->d_h_n + at_b) : zero;
#if CELL == LSTM
        carry = s->has_d_c_n ? GET(s->d_c_n + at_b) : zero;
#endif
    } else {
#if CELL == LSTM
        carry = GET(s->carry + at_b);
#elif CELL == GRU
        d += GET(s->carry + at_b);
#endif
    }
    if (step < 0) {
        PUT(d, s->d_h_0 + at_b);
#if CELL == LSTM
        PUT(carry, s->d_c_0 + at_b);
#endif
        return;
    }
    if (s->has_d_out)
        d += GET(s->d_out + at * units);
    V gates[GATES], cell = zero, before = zero, d_product = zero;
    for (uint g = 0; g < GATES; g++)
        gates[g] = GET(s->gates + (at * GATES + g) * units);
    ulong at_before = row_of(s, max(step - 1, 0), b) * units;
#if CELL == LSTM
    cell = GET(s->saved + at * units);
    before = step == first ? GET(s->c_0 + at_b) : GET(s->saved + at_before);
#elif CELL == GRU
    cell = GET(s->saved + at * units);
    before = step == first ? GET(s->h_0 + at_b) : GET(s->out + at_before);
#endif
    last_gradients(gates, d, &carry, cell, before, &d_product);
    for (uint g = 0; g < GATES; g++)
        PUT(gates[g], s->x + (at * GATES + g) * units);
#if CELL == GRU
    PUT(d_product, s->d_product + at * units);
#endif
#if CELL == LSTM || CELL == GRU
    PUT(carry, s->carry + at_b);
#endif
}

#define PARAMETERS                                                                                 \
    global const T *gates, global T *x, global const WEIGHT *weight, global const T *h_0,          \
        global float *saved, global const T *out, global const T *d_out, global const T *d_h_n,    \
        global const T *d_c_n, global const int *lengths, global T *d_h_0, global T *d_c_0,        \
        global T *d_product, global float *carry, uint steps, uint batch, uint units,              \
        uint reverse, uint has_lengths, uint has_d_out, uint has_d_h_n, uint has_d_c_n
#define SEQUENCES                                                                                  \
    {                                                                                              \
        .steps = (int)steps, .reverse = reverse, .has_lengths = has_lengths, .batch = batch,       \
        .units = units, .lengths = lengths, .h_0 = h_0, .c_0 = h_0, .saved = saved,                \
        .gates = gates, .x = x, .out = out, .d_out = d_out, .d_h_n = d_h_n, .d_c_n = d_c_n,        \
        .d_h_0 = d_h_0, .d_c_0 = d_c_0, .d_product = d_product, .carry = carry,                    \
        .has_d_out = has_d_out, .has_d_h_n = has_d_h_n, .has_d_c_n = has_d_c_n                     \
    }

#else

/* The row of states that a step begins with; of a row that has no such step any. */
inline global const T *state_before(const struct sequences *s, int step, uint b)
{
    return step > first_step(s, b) && step <= last_step(s, b)
               ? s->out + row_of(s, step - 1, b) * s->units
               : s->h_0 + (ulong)b * s->units;
}

/* sums[g]: of each gate. */
inline void finish_step(const struct sequences *s, int step, uint b, uint unit, const V *sums)
{
    uint units = s->units;
    ulong at = row_of(s, step, b), at_b = (ulong)b * units;
    int first = first_step(s, b), last = last_step(s, b);
    if (step < first || step > last) {
        PUT((V)(0.0f), s->out + at * units);
        if (step == 0 && length_of(s, b) == 0) {
            PUT(GET(s->h_0 + at_b), s->h_n + at_b);
#if CELL == LSTM
            PUT(GET(s->c_0 + at_b), s->c_n + at_b);
#endif
        }
        return;
    }
    V gates[GATES], cell = 0.0f, product = 0.0f, before = 0.0f;
    for (uint g = 0; g < GATES; g++) {
        gates[g] = GET(s->x + (at * GATES + g) * units);
        if (CELL == GRU && g == 2)
            product = sums[g];
        else
            gates[g] += sums[g];
    }
#if CELL == GRU
    if (s->has_bias)
        product += GET(s->bias);
    before = GET(state_before(s, step, b));
    PUT(product, s->saved + at * units);
#elif CELL == LSTM
    cell = step == first ? GET(s->c_0 + at_b) : GET(s->saved + row_of(s, step - 1, b) * units);
#endif
    V state = next_state(gates, before, &cell, product);
    PUT(state, s->out + at * units);
#if CELL == LSTM || CELL == GRU
    for (uint g = 0; g < GATES; g++)
        PUT(gates[g], s->gates + (at * GATES + g) * units);
#endif
#if CELL == LSTM
    PUT(cell, s->saved + at * units);
#endif
    if (step == last) {
        PUT(state, s->h_n + at_b);
#if CELL == LSTM
        PUT(cell, s->c_n + at_b);
#endif
    }
}

#define PARAMETERS                                                                                 \
    global const T *h_0, global const T *x, global const WEIGHT *weight, global const T *c_0,      \
        global const T *bias, global const int *lengths, global T *out, global T *h_n,             \
        global T *gates, global float *saved, global T *c_n, uint steps, uint batch, uint units,   \
        uint reverse, uint has_lengths, uint has_bias
#define SEQUENCES                                                                                  \
    {                                                                                              \
        .steps = (int)steps, .reverse = reverse, .has_lengths = has_lengths, .batch = batch,       \
        .units = units, .lengths = lengths, .h_0 = h_0, .c_0 = c_0, .saved = saved, .x = x,        \
        .bias = bias, .out = out, .h_n = h_n, .gates = gates, .c_n = c_n, .has_bias = has_bias     \
    }

#endif

#define UNROLLED(i, count) _Pragma("unroll") for (uint i = 0; i < count; i++)

#if DEVICE_CPU

/* ---- A CPU: a work-item has some rows and some panels of units ----
 *
 * A panel is what a block of sums in registers needs of U, in the order of its use: VECTORS vectors for each k. */

#define WEIGHT float
#if BACKWARD || CELL == RNN_TANH || CELL == RNN_RELU
#define VECTORS 4 /* of units */
#define PANEL_UNITS (4 * FLOAT_WIDTH)
#else
#define VECTORS GATES /* of one vector of units */
#define PANEL_UNITS FLOAT_WIDTH
#endif
#define UNIT_VECTORS (PANEL_UNITS / FLOAT_WIDTH)

/* 12 sums in 16 registers, 24 in 32. */
#define BLOCK ((FLOAT_WIDTH == 16 ? 24 : 12) / VECTORS)
#define HALF ((BLOCK + 1) / 2)

/* From panel to panel: see B_PANEL in gemm_cpu.cl. */
#define PANEL(depth) ((ulong)(depth)*VECTORS * FLOAT_WIDTH + 16)

/* A work-item makes a panel of U (G H, H).  Units that there are not are 0. */
kernel void recurrent_pack(global float *packed, global const T *weight, uint units)
{
    uint panels = (units + PANEL_UNITS - 1) / PANEL_UNITS;
    uint depth = BACKWARD ? GATES * units : units;
    for (uint panel = get_global_id(0); panel < panels; panel += get_global_size(0)) {
        global float *to = packed + panel * PANEL(depth);
        for (uint k = 0; k < depth; k++)
            for (uint v = 0; v < VECTORS; v++)
                for (uint lane = 0; lane < FLOAT_WIDTH; lane++) {
                    uint gate = UNIT_VECTORS > 1 ? 0 : v, vector = UNIT_VECTORS > 1 ? v : 0;
                    uint unit = panel * PANEL_UNITS + vector * FLOAT_WIDTH + lane;
                    ulong at = BACKWARD ? (ulong)k * units + unit
                                        : (ulong)(gate * units + unit) * units + k;
                    *to++ = unit < units ? load(weight + at) : 0.0f;
                }
    }
}

/* sums[r][v] += sum over k of rows[r][k] panel[k][v], for ROWS of the rows, which are a constant. */
/* The operand with fewer vectors stays in registers, the other one comes vector by vector. */
#if BLOCK > VECTORS
#define MULTIPLY_ONE(ROWS)                                                                         \
    floatv u[VECTORS];                                                                             \
    UNROLLED(v, VECTORS) u[v] = loadv(v, panel);                                                   \
    UNROLLED(r, ROWS)                                                                              \
    {                                                                                              \
        float x = load(rows[r] + k);                                                               \
        UNROLLED(v, VECTORS) y[r][v] += x * u[v];                                                  \
    }
#else
#define MULTIPLY_ONE(ROWS)                                                                         \
    float x[ROWS];                                                                                 \
    UNROLLED(r, ROWS) x[r] = load(rows[r] + k);                                                    \
    UNROLLED(v, VECTORS)                                                                           \
    {                                                                                              \
        floatv u = loadv(v, panel);                                                                \
        UNROLLED(r, ROWS) y[r][v] += x[r] * u;                                                     \
    }
#endif
#define MULTIPLY_ROWS(ROWS)                                                                        \
    {                                                                                              \
        floatv y[ROWS][VECTORS];                                                                   \
        UNROLLED(r, ROWS) UNROLLED(v, VECTORS) y[r][v] = sums[r][v];                               \
        for (uint k = 0; k < depth; k++, panel += VECTORS * FLOAT_WIDTH) {                         \
            MULTIPLY_ONE(ROWS)                                                                     \
        }                                                                                          \
        UNROLLED(r, ROWS) UNROLLED(v, VECTORS) sums[r][v] = y[r][v];                               \
    }

inline void multiply(floatv sums[BLOCK][VECTORS], global const T *const *rows, uint count,
                     global const float *panel, uint depth)
{
    if (count > HALF)
        MULTIPLY_ROWS(BLOCK)
    else if (count > 1)
        MULTIPLY_ROWS(HALF)
    else
        MULTIPLY_ROWS(1)
}

/* How many of the rows that are left come next: blocks are whole, but the last two are of one size. */
inline uint rows_of_block(uint left)
{
    return left <= BLOCK ? left : left < 2 * BLOCK ? (left + 1) / 2 : BLOCK;
}

/* A step of `count` rows and a panel of units. */
inline void block_step(const struct sequences *s, global const float *packed, int step, uint row,
                       uint count, uint panel)
{
    uint depth = BACKWARD ? GATES * s->units : s->units;
    global const float *u = packed + panel * PANEL(depth);
    global const T *rows[BLOCK];
    bool any = false; /* has a sum */
    floatv sums[BLOCK][VECTORS];
    for (uint r = 0; r < BLOCK; r++) {
        uint b = row + min(r, count - 1);
        int first = first_step(s, b), last = last_step(s, b);
#if BACKWARD
        any = any || (step < last && (step >= first || step < 0));
        rows[r] = s->x + row_after(s, step, b) * GATES * s->units;
#else
        any = any || (step >= first && step <= last);
        rows[r] = state_before(s, step, b);
#endif
        for (uint v = 0; v < VECTORS; v++)
            sums[r][v] = 0.0f;
    }
#if BACKWARD && CELL == GRU
    if (any) {
        multiply(sums, rows, count, u, 2 * s->units);
        for (uint r = 0; r < BLOCK; r++)
            rows[r] = s->d_product + row_after(s, step, row + min(r, count - 1)) * s->units;
        multiply(sums, rows, count, u + 2 * s->units * VECTORS * FLOAT_WIDTH, s->units);
    }
#else
    if (any)
        multiply(sums, rows, count, u, depth);
#endif
    for (uint r = 0; r < count; r++)
        for (uint e = 0; e < UNIT_VECTORS; e++) {
            uint unit = panel * PANEL_UNITS + e * FLOAT_WIDTH;
            if (unit >= s->units)
                break;
#if BACKWARD
            finish_step(s, step, row + r, unit, sums[r][e]);
#else
            finish_step(s, step, row + r, unit, sums[r] + e);
#endif
        }
}

kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
recurrent_cpu(PARAMETERS, uint slice_rows, uint slice_panels, int begin, int end)
{
    struct sequences s = SEQUENCES;
    uint panels = (units + PANEL_UNITS - 1) / PANEL_UNITS;
    uint row_slices = (batch + slice_rows - 1) / slice_rows;
    uint panel_slices = (panels + slice_panels - 1) / slice_panels;
    for (uint item = get_group_id(0); item < row_slices * panel_slices; item += get_num_groups(0)) {
        uint row_begin = item / panel_slices * slice_rows;
        uint row_end = min(batch, row_begin + slice_rows);
        uint panel_begin = item % panel_slices * slice_panels;
        uint panel_end = min(panels, panel_begin + slice_panels);
        for (int step = begin; step != end; step += BACKWARD ? -1 : 1)
            for (uint panel = panel_begin; panel < panel_end; panel++)
                for (uint row = row_begin, count; row < row_end; row += count) {
                    count = rows_of_block(row_end - row);
                    block_step(&s, weight, step, row, count, panel);
                }
    }
}

#else

/* ---- A GPU: a work-group of SIDE x SIDE makes a tile of rows and units, each work-item EACH x EACH of it ----
 *
 * Work-item (x, y) owns rows y, y + SIDE, ... and units x, x + SIDE, ... */

#define WEIGHT T
#define SIDE 8
#define EACH 2
#define TILE (SIDE * EACH)
#define DEPTH 16
#define PITCH (DEPTH + 1)
#define SUMS (BACKWARD ? 1 : GATES)

kernel SUBGROUPS_OF_8 __attribute__((reqd_work_group_size(SIDE * SIDE, 1, 1))) void
recurrent_gpu(PARAMETERS, int step)
{
    struct sequences sequences = SEQUENCES, *s = &sequences;
    local float rows[TILE * PITCH], u[SUMS * TILE * PITCH];
    uint me = get_local_id(0), x_of_me = me % SIDE, y_of_me = me / SIDE;
    uint unit_tiles = (units + TILE - 1) / TILE, row_tiles = (batch + TILE - 1) / TILE;
    uint depth = BACKWARD ? GATES * units : units;

    for (uint tile = get_group_id(0); tile < row_tiles * unit_tiles; tile += get_num_groups(0)) {
        uint row = tile / unit_tiles * TILE, first_unit = tile % unit_tiles * TILE;
        float sums[EACH][EACH][SUMS];
        UNROLLED(i, EACH) UNROLLED(j, EACH) UNROLLED(g, SUMS) sums[i][j][g] = 0.0f;
        for (uint k_begin = 0; k_begin < depth; k_begin += DEPTH) {
            for (uint e = me; e < TILE * DEPTH; e += SIDE * SIDE) {
                uint b = min(row + e / DEPTH, batch - 1), k = k_begin + e % DEPTH;
                float number = 0.0f;
                if (k < depth) {
#if BACKWARD
                    ulong after = row_after(s, step, b);
#if CELL == GRU
                    number = k < 2 * units ? load(s->x + after * GATES * units + k)
                                           : load(s->d_product + after * units + k - 2 * units);
#else
                    number = load(s->x + after * GATES * units + k);
#endif
#else
                    number = load(state_before(s, step, b) + k);
#endif
                }
                rows[e / DEPTH * PITCH + e % DEPTH] = number;
            }
            for (uint e = me; e < SUMS * TILE * DEPTH; e += SIDE * SIDE) {
#if BACKWARD /* neighbours read along units */
                uint unit = e % TILE, k = e / TILE, gate = 0;
                ulong at = (ulong)(k_begin + k) * units + first_unit + unit;
#else        /* along k */
                uint k = e % DEPTH, unit = e / DEPTH % TILE, gate = e / DEPTH / TILE;
                ulong at = (ulong)(gate * units + first_unit + unit) * units + k_begin + k;
#endif
                u[(gate * TILE + unit) * PITCH + k] =
                    first_unit + unit < units && k_begin + k < depth ? load(weight + at) : 0.0f;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint k = 0; k < DEPTH; k++)
                UNROLLED(i, EACH)
                {
                    float number = rows[(y_of_me + i * SIDE) * PITCH + k];
                    UNROLLED(j, EACH)
                    UNROLLED(g, SUMS) sums[i][j][g] =
                        multiply_add(number, u[(g * TILE + x_of_me + j * SIDE) * PITCH + k],
                                     sums[i][j][g]);
                }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        UNROLLED(i, EACH)
        UNROLLED(j, EACH)
        {
            uint b = row + y_of_me + i * SIDE, unit = first_unit + x_of_me + j * SIDE;
            if (b >= batch || unit >= units)
                continue;
#if BACKWARD
            finish_step(s, step, b, unit, sums[i][j][0]);
#else
            finish_step(s, step, b, unit, sums[i][j]);
#endif
        }
    }
}

#endif
