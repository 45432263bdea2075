/* y = op(a) op(b), or what FUSED makes of it, by instructions that multiply small matrices: for a and b of 16 bits, or of f32 whose fractions
 * are rounded to ten bits (TF32).
 *
 * A work-group makes tiles of TILE x TILE numbers of y, one after the other, from slices of DEPTH columns of op(a) and rows of
 * op(b).  Local memory holds STAGES of them: while one is multiplied the next ones arrive.  A sub-group of LANE_COUNT work-items has
 * PART x PART numbers of y in registers, as fragments of 16 x 16.  Each number is one sum in the order of k: the choice of tile
 * changes nothing in the numbers.  a and b are of type T, y is of type Y.
 *
 * A line is a row of op(a) or a column of op(b).  A slice lies as its operand does: in runs of RUN numbers, 16 bytes, along k, or
 * along lines ("by k").
 *
 * The host defines TILE, PART, LANE_COUNT, STAGES, TRANSPOSE_A, TRANSPOSE_B, ALIGNED_A and ALIGNED_B (all runs of that operand begin at multiples of
 * 16 bytes), IS_F16 or IS_F32 (T is bf16 otherwise) and the instructions: MMA_SYNC, MMA_SYNC_F16, WMMA, MFMA, MATRIX_MAD_8, MATRIX_MAD_16
 * or EMULATED.  Sums are in arrays, whose loops must be unrolled for them to be in registers. */

#if IS_F32
#define PER_WORD 1 /* numbers */
#else
#define PER_WORD 2
#endif
#define RUN (4 * PER_WORD)
#define DEPTH (4 * RUN)
#define STEPS (2 * RUN)          /* of k that a fragment has */
#define RUNS (TILE * DEPTH / RUN) /* of a slice */
#define A_BY_K TRANSPOSE_A
#define B_BY_K (!TRANSPOSE_B)

#ifndef FUSED
#define FUSED(v, row, column, end)
#define FUSED_PARAMETERS
#define FUSED_ARGUMENTS
#endif

/* Where a slice has the run that begins at a line and a step of k.  What is read together, eight runs of successive lines or
 * steps, or of f32 by k numbers of eight lines and four steps, falls into different banks. */
static inline uint place_of(uint line, uint step, uint by_k)
{
    return by_k ? step * (TILE / RUN) + (line / RUN ^ (step * (8 / RUN) & 7))
                : line * (DEPTH / RUN) + (step / RUN ^ (line >> 1 & 3));
}

/* As members: of ushorts llvmpipe reads the first one again and again. */
#if IS_F32
#define BITS_OF(number) as_uint(number)
#else
#define BITS_OF(number) (uint)(number).bits
#endif

/* ---- Instructions ----
 *
 * Each set has types `left`, `right` and `sums`, what a lane has of a fragment of op(a), op(b) and y; and functions of
 * all lanes: load_left(), load_right() take one from a slice, multiply_fragments() multiplies, put_sums() writes 16 x 16 sums
 * to local memory, in rows PITCH apart.  Where ASYNC is 1, copy_run() brings a run to a slice by itself: those before the last but
 * STAGES - 2 calls of COPIES_END() are there after COPIES_WAIT(). */

#if MMA_SYNC || MMA_SYNC_F16 || EMULATED
/* NVIDIA's PTX, "Matrix instructions": mma.m16n8k16; of TF32, mma.m16n8k8, whose words lie as those of two numbers of 16 bits. */
#if MMA_SYNC_F16
#define ASYNC 0
#else
#define ASYNC 1
#endif
#define PITCH (PART + 8)

typedef uint4 left;  /* rows 0-7 and 8-15 of the first run of k, then of the second */
typedef uint4 right; /* the first and the second run of k of columns 0-7, then of columns 8-15 */
typedef float8 sums; /* two neighbours of rows 0-7 and two of 8-15, of columns 0-7, then of columns 8-15 */

#if EMULATED
/* The same instructions as plain OpenCL: lanes tell each other by local memory what they have. */
#define EXCHANGED 2 /* uint4 of each lane */
#define UNROLL /* PoCL's compiler dies of hundreds of barriers */

static inline float number_of(uint bits)
{
#if IS_F32
    return as_float(bits);
#elif IS_F16
    return floats_of_f16((ushort4)((ushort)bits)).x;
#else
    return as_float(bits << 16);
#endif
}

/* Of f32: to ten bits of the fraction, the nearest, and those between away from zero; infinities and NaNs stay. */
static inline uint4 rounded(uint4 bits)
{
    if (!IS_F32)
        return bits;
    return (bits & 0x7FFFFFFF) < 0x7F800000 ? (bits + 0x1000) & 0xFFFFE000 : bits;
}

/* ldmatrix: four blocks of 8 runs; lane 8 i + j knows where row j of block i is.  Lane 4 i + j gets word j of each row i,
 * or, transposed, numbers 2 j and 2 j + 1 of each column i. */
static inline uint4 load_blocks(local const uint4 *slice, uint place, uint transposed,
                                local uint4 *exchange)
{
    local uint *places = (local uint *)exchange;
    uint item = get_local_id(0), lane = item % LANE_COUNT, i = lane / 4, j = lane % 4;
    places[item] = place;
    barrier(CLK_LOCAL_MEM_FENCE);
    uint word[4];
    for (uint block = 0; block < 4; block++) {
        local const uint *rows = places + (item - lane) + 8 * block;
        if (transposed)
            word[block] = ((local const ushort *)(slice + rows[2 * j]))[i] |
                          (uint)((local const ushort *)(slice + rows[2 * j + 1]))[i] << 16;
        else
            word[block] = ((local const uint *)(slice + rows[i]))[j];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return (uint4)(word[0], word[1], word[2], word[3]);
}

static inline sums multiply_fragments(left a, right b, sums y, local uint4 *exchange)
{
    uint item = get_local_id(0), lane = item % LANE_COUNT;
    local uint *words = (local uint *)(exchange + 2 * (item - lane));
    exchange[2 * item] = a;
    exchange[2 * item + 1] = b;
    barrier(CLK_LOCAL_MEM_FENCE);
    float sum[8];
    vstore8(y, 0, sum);
    for (uint i = 0; i < 8; i++)
        for (uint k = 0; k < STEPS; k++) {
            uint row = lane / 4, column = lane % 4 * 2 + i % 2, shift = k % PER_WORD * 16;
            uint of_row = 8 * (4 * row + k % RUN / PER_WORD) + i / 2 % 2 + k / RUN * 2;
            uint of_column = 8 * (4 * column + k % RUN / PER_WORD) + 4 + i / 4 * 2 + k / RUN;
            sum[i] += number_of(words[of_row] >> shift) * number_of(words[of_column] >> shift);
        }
    barrier(CLK_LOCAL_MEM_FENCE);
    return vload8(0, sum);
}

static inline void copy_run(local uint4 *to, global const T *from, uint count)
{
    uint word[4] = {0, 0, 0, 0};
    for (uint i = 0; i < count; i++)
        word[i / PER_WORD] |= BITS_OF(from[i]) << i % PER_WORD * 16;
    *to = (uint4)(word[0], word[1], word[2], word[3]);
}

#define COPIES_END()
#define COPIES_WAIT()
#else
#if defined(__NV_CL_C_VERSION)
#define ASM asm
#elif defined(__NVPTX__)
#define ASM __asm__
#else
#error "only NVIDIA's compilers know mma.sync"
#endif
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* Addresses of local memory are those of PTX's shared memory. */
static inline uint4 load_blocks(local const uint4 *slice, uint place, uint transposed,
                                local uint4 *exchange)
{
    uint x, y, z, w;
    local const uint4 *at = slice + place;
    if (transposed)
        ASM volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                     : "l"(at)
                     : "memory");
    else
        ASM volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                     : "l"(at)
                     : "memory");
    return (uint4)(x, y, z, w);
}

static inline uint rounded_word(uint bits)
{
#if IS_F32
    ASM("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(as_float(bits)));
#endif
    return bits;
}

static inline uint4 rounded(uint4 bits)
{
    return (uint4)(rounded_word(bits.x), rounded_word(bits.y), rounded_word(bits.z),
                   rounded_word(bits.w));
}

/* y += 16 x STEPS numbers of a times STEPS x 8 of b. */
static inline float4 multiply_half(left a, uint b0, uint b1, float4 y)
{
    float y0 = y.x, y1 = y.y, y2 = y.z, y3 = y.w;
#if MMA_SYNC_F16
    ASM("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(y0), "+f"(y1), "+f"(y2), "+f"(y3)
        : "r"(a.x), "r"(a.y), "r"(b0));
    ASM("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(y0), "+f"(y1), "+f"(y2), "+f"(y3)
        : "r"(a.z), "r"(a.w), "r"(b1));
#else
#if IS_F32
#define SHAPE_AND_OPERANDS "m16n8k8.row.col.f32.tf32.tf32"
#elif IS_F16
#define SHAPE_AND_OPERANDS "m16n8k16.row.col.f32.f16.f16"
#else
#define SHAPE_AND_OPERANDS "m16n8k16.row.col.f32.bf16.bf16"
#endif
    ASM("mma.sync.aligned." SHAPE_AND_OPERANDS
        ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(y0), "+f"(y1), "+f"(y2), "+f"(y3)
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#endif
    return (float4)(y0, y1, y2, y3);
}

static inline sums multiply_fragments(left a, right b, sums y, local uint4 *exchange)
{
    return (sums)(multiply_half(a, b.x, b.y, y.lo), multiply_half(a, b.z, b.w, y.hi));
}

#if ASYNC
static inline void copy_run(local uint4 *to, global const T *from, uint count)
{
    uint bytes = count * sizeof(T);
    ASM volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "l"(to), "l"(from), "r"(bytes)
                 : "memory");
}

#define COPIES_END() ASM volatile("cp.async.commit_group;" : : : "memory")
#define WAIT_FOR(most) ASM volatile("cp.async.wait_group " TEXT(most) ";" : : : "memory")
#if STAGES == 2
#define COPIES_WAIT() WAIT_FOR(0)
#elif STAGES == 3
#define COPIES_WAIT() WAIT_FOR(1)
#else
#define COPIES_WAIT() WAIT_FOR(2)
#endif
#endif
#endif

/* Of a slice of f32 by k, which ldmatrix cannot turn: lane 4 i + j gets line i and step j of the fragment's halves, those of the first steps first. */
static inline uint4 load_words(local const uint4 *slice, uint line, uint step)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    line += lane / 4;
    step += lane % 4;
#define WORD_AT(line, step) ((local const uint *)(slice + place_of(line, step, 1)))[(line) % RUN]
    return (uint4)(WORD_AT(line, step), WORD_AT(line + 8, step), WORD_AT(line, step + RUN),
                   WORD_AT(line + 8, step + RUN));
}

/* Lane 8 i + j looks after row j of block i. */
static inline left load_left(local const uint4 *slice, uint line, uint step, local uint4 *exchange)
{
    if (IS_F32 && A_BY_K)
        return rounded(load_words(slice, line, step));
    uint lane = get_local_id(0) % LANE_COUNT;
    line += lane / 8 % 2 * 8;
    step += lane / 16 * RUN;
    return rounded(load_blocks(slice,
                               A_BY_K ? place_of(line, step + lane % 8, 1)
                                      : place_of(line + lane % 8, step, 0),
                               A_BY_K, exchange));
}

static inline right load_right(local const uint4 *slice, uint line, uint step,
                               local uint4 *exchange)
{
    if (IS_F32 && B_BY_K)
        return rounded(load_words(slice, line, step).xzyw);
    uint lane = get_local_id(0) % LANE_COUNT;
    line += lane / 16 * 8;
    step += lane / 8 % 2 * RUN;
    return rounded(load_blocks(slice,
                               B_BY_K ? place_of(line, step + lane % 8, 1)
                                      : place_of(line + lane % 8, step, 0),
                               B_BY_K, exchange));
}

static inline void put_sums(sums y, local float *to)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    to += lane / 4 * PITCH + lane % 4 * 2;
    to[0] = y.s0;
    to[1] = y.s1;
    to[8 * PITCH] = y.s2;
    to[8 * PITCH + 1] = y.s3;
    to[8] = y.s4;
    to[9] = y.s5;
    to[8 * PITCH + 8] = y.s6;
    to[8 * PITCH + 9] = y.s7;
}

#endif

#if WMMA || MFMA || MATRIX_MAD_8 || MATRIX_MAD_16
#define ASYNC 0

/* A number, two or eight, of successive steps. */
static inline ushort number_of(local const uint4 *slice, uint line, uint step, uint by_k)
{
    return ((local const ushort *)(slice + place_of(line, step, by_k)))[(by_k ? line : step) % 8];
}

static inline uint pair_of(local const uint4 *slice, uint line, uint step, uint by_k)
{
    return by_k ? number_of(slice, line, step, 1) | (uint)number_of(slice, line, step + 1, 1) << 16
                : ((local const uint *)(slice + place_of(line, step, 0)))[step / 2 % 4];
}

static inline uint4 run_of(local const uint4 *slice, uint line, uint step, uint by_k)
{
    if (!by_k)
        return slice[place_of(line, step, 0)];
    return (uint4)(pair_of(slice, line, step, 1), pair_of(slice, line, step + 2, 1),
                   pair_of(slice, line, step + 4, 1), pair_of(slice, line, step + 6, 1));
}
#endif

#if WMMA
/* AMD's RDNA 3 and 4 ISA, "Wave matrix multiply accumulate": of op(a) and op(b) a lane has a line; of y, a column of every other row (RDNA 3), or of
 * eight (RDNA 4).  Both halves of the lanes of RDNA 3 have the same lines, those of RDNA 4 a half of k each. */
#if !defined(__AMDGCN__)
#error "only AMD's compilers know wmma"
#endif
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define PITCH (PART + 8)

typedef float8 sums;
#if defined(__GFX12__)
typedef uint4 left;
typedef uint4 right;
#define FRAGMENT_OF(slice, line, step, by_k)                                                       \
    run_of(slice, (line) + lane % 16, (step) + lane / 16 * 8, by_k)
#define HALVES(x) as_half8(x)
#define SHORTS(x) as_short8(x)
#define MULTIPLY_F16 __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12
#define MULTIPLY_BF16 __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12
#define ROW_OF(i) (i + lane / 16 * 8)
#else
typedef uint8 left;
typedef uint8 right;
#define FRAGMENT_OF(slice, line, step, by_k)                                                       \
    (uint8)(run_of(slice, (line) + lane % 16, step, by_k),                                         \
            run_of(slice, (line) + lane % 16, (step) + 8, by_k))
#define HALVES(x) as_half16(x)
#define SHORTS(x) as_short16(x)
#define MULTIPLY_F16 __builtin_amdgcn_wmma_f32_16x16x16_f16_w32
#define MULTIPLY_BF16 __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32
#define ROW_OF(i) (2 * i + lane / 16)
#endif

static inline sums multiply_fragments(left a, right b, sums y, local uint4 *exchange)
{
#if IS_F16
    return MULTIPLY_F16(HALVES(a), HALVES(b), y);
#else
    return MULTIPLY_BF16(SHORTS(a), SHORTS(b), y);
#endif
}

static inline void put_sums(sums y, local float *to)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    to += lane % 16;
    to[ROW_OF(0) * PITCH] = y.s0;
    to[ROW_OF(1) * PITCH] = y.s1;
    to[ROW_OF(2) * PITCH] = y.s2;
    to[ROW_OF(3) * PITCH] = y.s3;
    to[ROW_OF(4) * PITCH] = y.s4;
    to[ROW_OF(5) * PITCH] = y.s5;
    to[ROW_OF(6) * PITCH] = y.s6;
    to[ROW_OF(7) * PITCH] = y.s7;
}
#endif

#if MFMA
/* AMD's CDNA ISA, "Matrix arithmetic instructions": of op(a) and op(b) a lane has four steps of a line; of y, four rows of a column. */
#if !defined(__AMDGCN__)
#error "only AMD's compilers know mfma"
#endif
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define PITCH (PART + 8)

typedef uint2 left;
typedef uint2 right;
typedef float4 sums;
#define FRAGMENT_OF(slice, line, step, by_k)                                                       \
    (uint2)(pair_of(slice, (line) + lane % 16, (step) + lane / 16 * 4, by_k),                      \
            pair_of(slice, (line) + lane % 16, (step) + lane / 16 * 4 + 2, by_k))

static inline sums multiply_fragments(left a, right b, sums y, local uint4 *exchange)
{
#if IS_F16
    return __builtin_amdgcn_mfma_f32_16x16x16f16(as_half4(a), as_half4(b), y, 0, 0, 0);
#else
    return __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(as_short4(a), as_short4(b), y, 0, 0, 0);
#endif
}

static inline void put_sums(sums y, local float *to)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    to += lane / 16 * 4 * PITCH + lane % 16;
    to[0] = y.x;
    to[PITCH] = y.y;
    to[2 * PITCH] = y.z;
    to[3 * PITCH] = y.w;
}
#endif

#if WMMA || MFMA
static inline left load_left(local const uint4 *slice, uint line, uint step, local uint4 *exchange)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    return FRAGMENT_OF(slice, line, step, A_BY_K);
}

static inline right load_right(local const uint4 *slice, uint line, uint step,
                               local uint4 *exchange)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    return FRAGMENT_OF(slice, line, step, B_BY_K);
}
#endif

#if MATRIX_MAD_8 || MATRIX_MAD_16
/* Intel's cl_intel_subgroup_matrix_multiply_accumulate: of eight rows of op(a) a lane has a step, or two; of op(b) and y, a column. */
#if !defined(cl_intel_subgroups)
#error "only compilers with sub-groups of Intel know matrix_mad"
#endif
#define PITCH PART /* with sub-groups of eight, sums of a large tile take 64 KiB */
#define WITH_SUB_GROUPS __attribute__((intel_reqd_sub_group_size(LANE_COUNT)))
#if IS_F16
#define MULTIPLY_EIGHT intel_sub_group_f16_f16_matrix_mad_k16
#else
#define MULTIPLY_EIGHT intel_sub_group_bf16_bf16_matrix_mad_k16
#endif
#define COLUMNS LANE_COUNT
#if MATRIX_MAD_8
typedef int8 eight_rows;
#define STEPS_OF(i) as_int(pair_of(slice, line + i, step + 2 * lane, A_BY_K))
#else
typedef short8 eight_rows;
#define STEPS_OF(i) (short)number_of(slice, line + i, step + lane, A_BY_K)
#endif

typedef struct {
    eight_rows low, high;
} left;
typedef int8 right;
typedef float16 sums;

/* Not every compiler that knows them declares them. */
float8 __attribute__((overloadable)) MULTIPLY_EIGHT(eight_rows a, int8 b, float8 y);

static inline eight_rows load_eight(local const uint4 *slice, uint line, uint step)
{
    uint lane = get_local_id(0) % LANE_COUNT;
    return (eight_rows)(STEPS_OF(0), STEPS_OF(1), STEPS_OF(2), STEPS_OF(3), STEPS_OF(4), STEPS_OF(5), STEPS_OF(6), STEPS_OF(7));
}

static inline left load_left(local const uint4 *slice, uint line, uint step, local uint4 *exchange)
{
    left a = {load_eight(slice, line, step), load_eight(slice, line + 8, step)};
    return a;
}

static inline right load_right(local const uint4 *slice, uint line, uint step,
                               local uint4 *exchange)
{
    line += get_local_id(0) % LANE_COUNT;
    return as_int8((uint8)(run_of(slice, line, step, B_BY_K), run_of(slice, line, step + 8, B_BY_K)));
}

static inline sums multiply_fragments(left a, right b, sums y, local uint4 *exchange)
{
    return (sums)(MULTIPLY_EIGHT(a.low, b, y.lo), MULTIPLY_EIGHT(a.high, b, y.hi));
}

static inline void put_eight(float8 y, local float *to)
{
    to[0] = y.s0;
    to[PITCH] = y.s1;
    to[2 * PITCH] = y.s2;
    to[3 * PITCH] = y.s3;
    to[4 * PITCH] = y.s4;
    to[5 * PITCH] = y.s5;
    to[6 * PITCH] = y.s6;
    to[7 * PITCH] = y.s7;
}

static inline void put_sums(sums y, local float *to)
{
    to += get_local_id(0) % LANE_COUNT;
    put_eight(y.lo, to);
    put_eight(y.hi, to + 8 * PITCH);
}
#endif

#if !ASYNC
#define COPIES_END()
#define COPIES_WAIT()
#endif
#ifndef COLUMNS
#define COLUMNS 16
#endif
#ifndef WITH_SUB_GROUPS
#define WITH_SUB_GROUPS
#endif
#ifndef EXCHANGED
#define EXCHANGED 0
#define UNROLL _Pragma("unroll")
#endif

/* ---- Slices ---- */

#define GROUP (TILE / PART * (TILE / PART) * LANE_COUNT)
#define SHARE (RUNS / GROUP) /* of the runs of a slice, a work-item's */

/* Lines of an operand that a tile needs. */
struct strip {
    global const T *first; /* number 0 of line 0 */
    ulong row;             /* from line to line, or, by k, from step to step */
    uint lines, steps;
};

/* Of the run that begins there the numbers before the end. */
static inline uint count_of(uint begin, uint end)
{
    return begin < end ? min(end - begin, (uint)RUN) : 0;
}

/* A run from anywhere. */
#if IS_F32
static inline uint4 unaligned_run(global const T *from)
{
    return as_uint4(vload4(0, from));
}
#else
/* Five reads at even addresses, three of them of two numbers. */
static inline uint4 unaligned_run(global const T *run)
{
    global const ushort *from = (global const ushort *)run;
    bool is_odd = (size_t)from & 2;
    global const uint *pair = (global const uint *)(from + is_odd);
    uint p0 = pair[0], p1 = pair[1], p2 = pair[2];
    uint single = from[is_odd ? 0 : 6], last = from[7];
    return is_odd ? (uint4)(single | p0 << 16, p0 >> 16 | p1 << 16, p1 >> 16 | p2 << 16,
                            p2 >> 16 | last << 16)
                  : (uint4)(p0, p1, p2, single | last << 16);
}
#endif

static inline uint4 fetch_run(global const T *from, uint count, uint is_aligned)
{
    if (count == RUN)
        return is_aligned ? *(global const uint4 *)from : unaligned_run(from);
#define NUMBER(i) (i < count ? BITS_OF(from[i]) : 0)
#if IS_F32
    return (uint4)(NUMBER(0), NUMBER(1), NUMBER(2), NUMBER(3));
#else
    return (uint4)(NUMBER(0) | NUMBER(1) << 16, NUMBER(2) | NUMBER(3) << 16,
                   NUMBER(4) | NUMBER(5) << 16, NUMBER(6) | NUMBER(7) << 16);
#endif
}

/* Of the share of a work-item the first run begins at number `along` of row `across` of what is in memory: of a line, or, by k, of a
 * step; the next ones so many rows further on. */
#define RUNS_ALONG(by_k) (by_k ? TILE / RUN : DEPTH / RUN)
#define ALONG(by_k) (get_local_id(0) % RUNS_ALONG(by_k) * RUN)
#define ACROSS(by_k, i) (get_local_id(0) / RUNS_ALONG(by_k) + i * (GROUP / RUNS_ALONG(by_k)))
#define PLACE(by_k, i)                                                                             \
    (by_k ? place_of(ALONG(1), ACROSS(1, i), 1) : place_of(ACROSS(0, i), ALONG(0), 0))

/* This work-item's share of the slice that begins at step `begin`: on its way to the slice, or in registers, from where put_share() takes it. */
static inline void fetch(struct strip strip, uint begin, uint by_k, uint is_aligned,
                         local uint4 *slice, uint4 run[SHARE])
{
    uint steps = strip.steps - begin, rows = by_k ? steps : strip.lines;
    uint count = count_of(ALONG(by_k), by_k ? strip.lines : steps);
    global const T *from =
        strip.first + (begin + (by_k ? ACROSS(1, 0) : 0)) * (by_k ? strip.row : 1) +
        (by_k ? 0 : ACROSS(0, 0) * strip.row) + ALONG(by_k);
#pragma unroll
    for (uint i = 0; i < SHARE; i++) {
        uint there = ACROSS(by_k, i) < rows ? count : 0;
#if ASYNC
        if (is_aligned)
            copy_run(slice + PLACE(by_k, i), from, there);
        else
#endif
            run[i] = fetch_run(from, there, is_aligned);
        from += GROUP / RUNS_ALONG(by_k) * strip.row;
    }
}

static inline void put_share(local uint4 *slice, uint by_k, uint is_aligned, const uint4 run[SHARE])
{
    if (ASYNC && is_aligned)
        return;
#pragma unroll
    for (uint i = 0; i < SHARE; i++)
        slice[PLACE(by_k, i)] = run[i];
}

/* ---- Products ---- */

#define SIDE (TILE / PART)
#define ROW_FRAGMENTS (PART / 16)
#define COLUMN_FRAGMENTS (PART / COLUMNS)
#define STAGED (16 * PITCH) /* sums of a sub-group in local memory, on their way to y */
#define SLICES (2 * STAGES * RUNS + GROUP * EXCHANGED)
#define ALL_STAGED (GROUP / LANE_COUNT * STAGED / 4) /* in the place of slices */
#define MEMORY (SLICES > ALL_STAGED ? SLICES : ALL_STAGED)
#define BAND 8 /* rows of tiles that are made column by column: groups that run together read the same lines */

struct problem {
    uint m, n, k;
    ulong a_row, b_row, a_offset, b_offset, y_offset;
    uint batch, batch_inner;
    ulong a_outer, a_inner, b_outer, b_inner;
};

static inline void multiply_slices(local const uint4 *a, local const uint4 *b, uint row, uint column,
                                   sums y[ROW_FRAGMENTS][COLUMN_FRAGMENTS], local uint4 *exchange)
{
UNROLL
    for (uint step = 0; step < DEPTH; step += STEPS) {
        left rows[ROW_FRAGMENTS];
        right columns[COLUMN_FRAGMENTS];
UNROLL
        for (uint i = 0; i < ROW_FRAGMENTS; i++)
            rows[i] = load_left(a, row + i * 16, step, exchange);
UNROLL
        for (uint j = 0; j < COLUMN_FRAGMENTS; j++)
            columns[j] = load_right(b, column + j * COLUMNS, step, exchange);
UNROLL
        for (uint i = 0; i < ROW_FRAGMENTS; i++)
UNROLL
            for (uint j = 0; j < COLUMN_FRAGMENTS; j++)
                y[i][j] = multiply_fragments(rows[i], columns[j], y[i][j], exchange);
    }
}

static inline void make_products(global const T *restrict a, global const T *restrict b,
                                 global Y *restrict y, FUSED_PARAMETERS struct problem p,
                                 local uint4 *memory)
{
    local uint4 *a_slices = memory, *b_slices = memory + STAGES * RUNS,
                *exchange = memory + 2 * STAGES * RUNS;
    uint lane = get_local_id(0) % LANE_COUNT, sub_group = get_local_id(0) / LANE_COUNT;
    uint part_row = sub_group / SIDE * PART, part_column = sub_group % SIDE * PART;
    local float *staged = (local float *)memory + sub_group * STAGED;
    uint row_tiles = (p.m + TILE - 1) / TILE, column_tiles = (p.n + TILE - 1) / TILE;
    ulong tiles = (ulong)row_tiles * column_tiles * p.batch;

    for (ulong t = get_group_id(0); t < tiles; t += get_num_groups(0)) {
        ulong index = t / column_tiles / row_tiles, outer = index / p.batch_inner,
              inner = index % p.batch_inner;
        ulong tile = t - index * column_tiles * row_tiles;
        uint band = tile / column_tiles / BAND * BAND, band_rows = min(row_tiles - band, (uint)BAND);
        uint in_band = tile - (ulong)band * column_tiles;
        uint row_begin = (band + in_band % band_rows) * TILE,
             column_begin = in_band / band_rows * TILE;
        uint rows = p.m - row_begin, columns = p.n - column_begin;
        struct strip of_a = {a + p.a_offset + outer * p.a_outer + inner * p.a_inner +
                                 (A_BY_K ? row_begin : row_begin * p.a_row),
                             p.a_row, rows, p.k};
        struct strip of_b = {b + p.b_offset + outer * p.b_outer + inner * p.b_inner +
                                 (B_BY_K ? column_begin : column_begin * p.b_row),
                             p.b_row, columns, p.k};
        uint4 a_run[SHARE], b_run[SHARE];
        sums part[ROW_FRAGMENTS][COLUMN_FRAGMENTS];
UNROLL
        for (uint i = 0; i < ROW_FRAGMENTS; i++)
UNROLL
            for (uint j = 0; j < COLUMN_FRAGMENTS; j++)
                part[i][j] = (sums)(0.0f);

        for (uint i = 0; i < STAGES - 1; i++) {
            bool has_steps = i * DEPTH < p.k;
            if (has_steps) {
                fetch(of_a, i * DEPTH, A_BY_K, ALIGNED_A, a_slices + i * RUNS, a_run);
                fetch(of_b, i * DEPTH, B_BY_K, ALIGNED_B, b_slices + i * RUNS, b_run);
            }
            COPIES_END(); /* of none, too: those that are waited for are counted from the last */
            if (has_steps) {
                put_share(a_slices + i * RUNS, A_BY_K, ALIGNED_A, a_run);
                put_share(b_slices + i * RUNS, B_BY_K, ALIGNED_B, b_run);
            }
        }
        uint now = 0, next = STAGES - 1;
        for (uint begin = 0; begin < p.k; begin += DEPTH) {
            uint ahead = begin + (STAGES - 1) * DEPTH;
            COPIES_WAIT();
            barrier(CLK_LOCAL_MEM_FENCE);
            if (ahead < p.k) {
                fetch(of_a, ahead, A_BY_K, ALIGNED_A, a_slices + next * RUNS, a_run);
                fetch(of_b, ahead, B_BY_K, ALIGNED_B, b_slices + next * RUNS, b_run);
            }
            COPIES_END();
            multiply_slices(a_slices + now * RUNS, b_slices + now * RUNS, part_row, part_column,
                            part, exchange);
            if (ahead < p.k) {
                put_share(a_slices + next * RUNS, A_BY_K, ALIGNED_A, a_run);
                put_share(b_slices + next * RUNS, B_BY_K, ALIGNED_B, b_run);
            }
            now = now + 1 == STAGES ? 0 : now + 1;
            next = next + 1 == STAGES ? 0 : next + 1;
        }

        ulong y_row = p.y_offset / p.n + index * p.m + row_begin;
        barrier(CLK_LOCAL_MEM_FENCE);
UNROLL
        for (uint i = 0; i < ROW_FRAGMENTS; i++) {
UNROLL
            for (uint j = 0; j < COLUMN_FRAGMENTS; j++)
                put_sums(part[i][j], staged + j * COLUMNS);
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint at = lane * FLOAT_WIDTH; at < 16 * PART; at += LANE_COUNT * FLOAT_WIDTH) {
                uint row = part_row + i * 16 + at / PART, column = part_column + at % PART;
                if (row < rows && column < columns) {
                    floatv v = loadv(0, staged + at / PART * PITCH + at % PART);
                    FUSED(v, y_row + row, column_begin + column, p.n);
                    store_row(v, y + (y_row + row) * p.n, column_begin + column, p.n);
                }
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }
}

kernel WITH_SUB_GROUPS __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
gemm_matrix(global const T *restrict a, global const T *restrict b, global Y *restrict y,
            FUSED_PARAMETERS uint m, uint n, uint k, uint transpose_a, uint transpose_b,
            ulong a_row, ulong b_row, ulong a_offset, ulong b_offset, ulong y_offset, uint batch,
            uint batch_inner, ulong a_outer, ulong a_inner, ulong b_outer, ulong b_inner)
{
    local uint4 memory[MEMORY];
    struct problem p = {m,        n,     k,           a_row,   b_row,   a_offset, b_offset,
                        y_offset, batch, batch_inner, a_outer, a_inner, b_outer,  b_inner};
    make_products(a, b, y, FUSED_ARGUMENTS p, memory);
}

#ifdef PROBE_M
/* x is a, b and y of one small product. */
kernel WITH_SUB_GROUPS __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
probe(global uint *x)
{
    local uint4 memory[MEMORY];
    struct problem p = {PROBE_M, PROBE_N, PROBE_K, PROBE_K, PROBE_N, 0, 0, 0, 1, 1, 0, 0, 0, 0};
    make_products((global const T *)x, (global const T *)x + PROBE_M * PROBE_K,
                  (global Y *)x + (PROBE_M + PROBE_N) * PROBE_K / PER_WORD, p, memory);
}
#endif

#ifdef PEAK_CHAINS
/* The most that the instructions give: each sub-group adds `steps` products of fragments, which stay in registers, to each of PEAK_CHAINS
 * fragments of sums, which wait for nothing but themselves; twice as many where a fragment is half as wide.  All factors are x[0], a one, so that each
 * sum grows by 16 a step.  The chains begin with different numbers, since of two that are alike compilers make one.
 *
 * means[i]: of a share of the 16 x 16 sums, work-item i's, that of all chains together, without what these began with:
 * PEAK_CHAINS x 16 x steps. */
kernel WITH_SUB_GROUPS __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
matrix_peak(global float *means, global const float *x, ulong groups, ulong steps)
{
    local uint4 memory[MEMORY];
    local uint4 *exchange = memory + 2 * STAGES * RUNS;
    uint item = get_local_id(0), lane = item % LANE_COUNT, ones = as_uint(x[0]);
    local float *staged = (local float *)memory + item / LANE_COUNT * STAGED;
    for (ulong group = get_group_id(0); group < groups; group += get_num_groups(0)) {
        for (uint i = item; i < RUNS; i += GROUP)
            memory[i] = (uint4)(ones | ones >> 16); /* two of bf16, each the upper half of a float */
        barrier(CLK_LOCAL_MEM_FENCE);
        left a = load_left(memory, 0, 0, exchange);
        right b = load_right(memory, 0, 0, exchange);
        sums y[PEAK_CHAINS];
UNROLL
        for (uint c = 0; c < PEAK_CHAINS; c++)
            y[c] = (sums)((float)c);
        for (ulong i = 0; i < steps * (16 / COLUMNS); i++) {
UNROLL
            for (uint c = 0; c < PEAK_CHAINS; c++)
                y[c] = multiply_fragments(a, b, y[c], exchange);
        }
        sums all = (sums)(0.0f);
UNROLL
        for (uint c = 0; c < PEAK_CHAINS; c++)
            all += y[c] - (sums)((float)c);
        barrier(CLK_LOCAL_MEM_FENCE); /* what is staged takes the place of the slice */
        put_sums(all, staged);
        barrier(CLK_LOCAL_MEM_FENCE);
        float sum = 0.0f;
        for (uint at = lane; at < 16 * COLUMNS; at += LANE_COUNT)
            sum += staged[at / COLUMNS * PITCH + at % COLUMNS];
        means[group * GROUP + item] = sum * (LANE_COUNT / 256.0f);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}
#endif
