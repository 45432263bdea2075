/* What every program begins with.  Quern defines FLOAT_WIDTH (1, 4, 8 or 16: the device's native vector of floats),
 * DEVICE_CPU (1: one work-item a group and wide vectors; 0: groups that share local memory), SUBGROUP_SIZE (the least
 * that a kernel may ask for; 0: none) and HAS_FMA (fma() is not made of integers) before it.
 *
 * floatv, intv and uintv are vectors of FLOAT_WIDTH; the macros on them mean the same at every width. */

#if FLOAT_WIDTH == 1
typedef float floatv;
typedef int intv;
typedef uint uintv;
typedef ushort ushortv;
#define convert_floatv(v) ((float)(v))
#define convert_intv(v) ((int)(v))
#define convert_uintv(v) ((uint)(v))
#define convert_ushortv(v) ((ushort)(v))
#define as_floatv(v) as_float(v)
#define as_intv(v) as_int(v)
#define as_uintv(v) as_uint(v)
#define SELECT(condition, a, b) ((condition) ? (a) : (b))
#define LANES 0
#elif FLOAT_WIDTH == 4
typedef float4 floatv;
typedef int4 intv;
typedef uint4 uintv;
typedef ushort4 ushortv;
#define convert_floatv(v) convert_float4(v)
#define convert_intv(v) convert_int4(v)
#define convert_uintv(v) convert_uint4(v)
#define convert_ushortv(v) convert_ushort4(v)
#define as_floatv(v) as_float4(v)
#define as_intv(v) as_int4(v)
#define as_uintv(v) as_uint4(v)
#define LANES (int4)(0, 1, 2, 3)
#elif FLOAT_WIDTH == 8
typedef float8 floatv;
typedef int8 intv;
typedef uint8 uintv;
typedef ushort8 ushortv;
#define convert_floatv(v) convert_float8(v)
#define convert_intv(v) convert_int8(v)
#define convert_uintv(v) convert_uint8(v)
#define convert_ushortv(v) convert_ushort8(v)
#define as_floatv(v) as_float8(v)
#define as_intv(v) as_int8(v)
#define as_uintv(v) as_uint8(v)
#define LANES (int8)(0, 1, 2, 3, 4, 5, 6, 7)
#else
typedef float16 floatv;
typedef int16 intv;
typedef uint16 uintv;
typedef ushort16 ushortv;
#define convert_floatv(v) convert_float16(v)
#define convert_intv(v) convert_int16(v)
#define convert_uintv(v) convert_uint16(v)
#define convert_ushortv(v) convert_ushort16(v)
#define as_floatv(v) as_float16(v)
#define as_intv(v) as_int16(v)
#define as_uintv(v) as_uint16(v)
#define LANES (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#endif

/* a b + c, rounded once where that costs nothing.  Where it must be, kernels use fma(). */
#if HAS_FMA
#define multiply_add(a, b, c) fma(a, b, c)
#else
#define multiply_add(a, b, c) mad(a, b, c)
#endif

/* Where a kernel may choose the size of its sub-groups, their work-items share a thread's registers: the fewer they are
 * the more each has, and compilers that choose larger ones put into memory what does not fit.  A kernel that fills registers
 * asks for 8, one that may for 16, or for the least there is. */
#if SUBGROUP_SIZE
#define SUBGROUPS_OF(n) __attribute__((intel_reqd_sub_group_size(n < SUBGROUP_SIZE ? SUBGROUP_SIZE : n)))
#define SUBGROUPS_OF_8 SUBGROUPS_OF(8)
#define SUBGROUPS_OF_16 SUBGROUPS_OF(16)
#else
#define SUBGROUPS_OF_8
#define SUBGROUPS_OF_16
#endif

/* vload8() and the like for any width, from anywhere.  PoCL's own store 8 lanes as twice 4, which a load of 8 then waits for.
 * (Rusticl takes every function whose name begins with vload or vstore for OpenCL's, and dies.) */
#if FLOAT_WIDTH == 1
#define UNALIGNED(type, bytes) typedef type unaligned_##type##v;
#else
#define UNALIGNED(type, bytes) typedef type##v unaligned_##type##v __attribute__((aligned(bytes)));
#endif
/* Where all accesses must be aligned, those that are not known to be are made number by number: they are asked.  What is not aligned is read
 * so here, too: of two loads of a vector that differ in nothing else compilers make the one from anywhere. */
#if (defined(__NV_CL_C_VERSION) || defined(__NVPTX__)) && FLOAT_WIDTH == 4
#define NEEDS_ALIGNMENT 1
#define IS_ALIGNED(p, vector) (((size_t)(p) & (sizeof(vector) - 1)) == 0)
#define FROM_ANYWHERE(space, type, p) ((type##4)((p)[0], (p)[1], (p)[2], (p)[3]))
#else
#define NEEDS_ALIGNMENT 0
#define IS_ALIGNED(p, vector) false
#define FROM_ANYWHERE AS_VECTOR
#endif
#define ACCESS_IN(space, type, vector, is_aligned, from_anywhere)                                  \
    inline vector __attribute__((overloadable)) loadv(size_t i, space const type *p)               \
    {                                                                                              \
        p += i * FLOAT_WIDTH;                                                                      \
        return is_aligned(p, vector) ? *(space const vector *)p : from_anywhere(space, type, p);   \
    }                                                                                              \
    inline void __attribute__((overloadable)) storev(vector v, size_t i, space type *p)            \
    {                                                                                              \
        p += i * FLOAT_WIDTH;                                                                      \
        if (is_aligned(p, vector))                                                                 \
            *(space vector *)p = v;                                                                \
        else                                                                                       \
            *(space unaligned_##type##v *)p = v;                                                   \
    }
/* Private arrays are registers, if nothing asks for their address. */
#define IS_NOT_ASKED(p, vector) false
#define AS_VECTOR(space, type, p) (*(space const unaligned_##type##v *)(p))
#define VECTOR_ACCESS(type, vector, bytes)                                                         \
    UNALIGNED(type, bytes)                                                                         \
    ACCESS_IN(global, type, vector, IS_ALIGNED, FROM_ANYWHERE)                                     \
    ACCESS_IN(local, type, vector, IS_ALIGNED, FROM_ANYWHERE)                                      \
    ACCESS_IN(private, type, vector, IS_NOT_ASKED, AS_VECTOR)
VECTOR_ACCESS(float, floatv, 4)
VECTOR_ACCESS(int, intv, 4)
VECTOR_ACCESS(uint, uintv, 4)
VECTOR_ACCESS(ushort, ushortv, 2)

#ifdef POCL_DEVICE_ADDRESS_BITS /* its prefetch() does nothing */
#define PREFETCH(p) __builtin_prefetch((const void *)(size_t)(p))
#else
#define PREFETCH(p) prefetch((global const float *)(p), 1) /* 16 bits have no overload everywhere */
#endif

/* Comparisons give a condition for SELECT: at a width above 1 an intv of 0 and -1. */
#define LT(a, b) ((a) < (b))
#define LE(a, b) ((a) <= (b))
#define GT(a, b) ((a) > (b))
#define GE(a, b) ((a) >= (b))
#define EQ(a, b) ((a) == (b))
#define NE(a, b) ((a) != (b))
#ifndef SELECT
#define SELECT(condition, a, b) select(b, a, condition)
#endif

#define LOG2_E 1.4426950408889634f
#define LOG2_E_REST 1.925963033500e-8f /* log2(e) = LOG2_E + LOG2_E_REST */
#define LN_2 0.6931471805599453f

/* The greater and the lesser one; NaN if one is.  (fmax and fmin give the other.) */
#define GREATER(a, b) SELECT(LT(a, b), b, SELECT(NE(b, b), b, a))
#define LESSER(a, b) SELECT(GT(a, b), b, SELECT(NE(b, b), b, a))

/* The greater one in one instruction; b, if one is NaN. */
inline floatv greater(floatv a, floatv b)
{
    return SELECT(GT(a, b), a, b);
}

/* The sum of all lanes, in an order that does not depend on anything but the width; the greatest. */
inline float sum_lanes(floatv v)
{
#if FLOAT_WIDTH == 1
    return v;
#else
#if FLOAT_WIDTH == 16
    float8 v8 = v.lo + v.hi;
    float4 v4 = v8.lo + v8.hi;
#elif FLOAT_WIDTH == 8
    float4 v4 = v.lo + v.hi;
#else
    float4 v4 = v;
#endif
    float2 v2 = v4.lo + v4.hi;
    return v2.x + v2.y;
#endif
}

inline float max_lanes(floatv v)
{
#if FLOAT_WIDTH == 1
    return v;
#else
#if FLOAT_WIDTH == 16
    float8 v8 = GREATER(v.lo, v.hi);
    float4 v4 = GREATER(v8.lo, v8.hi);
#elif FLOAT_WIDTH == 8
    float4 v4 = GREATER(v.lo, v.hi);
#else
    float4 v4 = v;
#endif
    float2 v2 = GREATER(v4.lo, v4.hi);
    return GREATER(v2.x, v2.y);
#endif
}

/* ---- Numbers of 16 bits ----
 *
 * They are so in memory only: what is loaded is a float, what is stored is rounded to the nearest, ties to even, and an operation
 * in the midst of others is rounded as if it had been stored. */

typedef struct {
    ushort bits;
} f16;
typedef struct {
    ushort bits;
} bf16; /* the upper half of a float */

inline floatv floats_of_bf16(ushortv bits)
{
    return as_floatv(convert_uintv(bits) << 16);
}

/* The bits of v rounded, in the upper half; the lower one is rubbish.  NaN stays NaN. */
inline uintv bf16_above(floatv v)
{
    uintv bits = as_uintv(v);
    return as_uintv(
        SELECT(NE(v, v), as_intv(bits | 0x10000u), as_intv(bits + 0x7FFFu + ((bits >> 16) & 1u))));
}

inline floatv rounded_to_bf16(floatv v)
{
    return as_floatv(bf16_above(v) & 0xFFFF0000u);
}

inline floatv __attribute__((overloadable)) loadv(size_t i, global const bf16 *p)
{
    return floats_of_bf16(loadv(i, (global const ushort *)p));
}

inline void __attribute__((overloadable)) storev(floatv v, size_t i, global bf16 *p)
{
    storev(convert_ushortv(bf16_above(v) >> 16), i, (global ushort *)p);
}

/* f16 by arithmetic: PoCL's vload_half8() and the like want aligned addresses.  All but the sign is a positive int, in the order of
 * sizes.  Below 2^-14 f16 is a whole number of 2^-24, as are the floats between 1/2 and 1. */
#define F16_ARITHMETIC(n)                                                                          \
    inline int##n __attribute__((overloadable)) bits_rounded_to_f16(int##n bits)                   \
    {                                                                                              \
        int##n rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF;                            \
        int##n small = as_int##n((as_float##n(bits) + 0.5f) - 0.5f);                               \
        rounded = select(rounded, small, bits < 0x38800000);                                       \
        rounded = select(rounded, (int##n)(0x7F800000), bits >= 0x477FF000); /* 65520 */           \
        return select(rounded, bits | 0x2000, bits > 0x7F800000);                                  \
    }                                                                                              \
    inline float##n __attribute__((overloadable)) rounded_to_f16(float##n v)                       \
    {                                                                                              \
        int##n bits = as_int##n(v) & 0x7FFFFFFF, sign = as_int##n(v) ^ bits;                       \
        return as_float##n(bits_rounded_to_f16(bits) | sign);                                      \
    }                                                                                              \
    inline ushort##n __attribute__((overloadable)) f16_of(float##n v)                              \
    {                                                                                              \
        int##n bits = as_int##n(v) & 0x7FFFFFFF, sign = (as_int##n(v) ^ bits) >> 16;               \
        int##n rounded = bits_rounded_to_f16(bits), small = as_int##n(as_float##n(bits) + 0.5f);   \
        int##n half_bits = min(rounded >> 13, 0x23C00) - (112 << 10);                              \
        half_bits = select(half_bits, small & 0x7FFFFF, bits < 0x38800000);                        \
        half_bits = select(half_bits, (int##n)(0x7E00), bits > 0x7F800000);                        \
        return convert_ushort##n((half_bits | sign) & 0xFFFF);                                     \
    }                                                                                              \
    inline float##n __attribute__((overloadable)) floats_of_f16(ushort##n bits)                    \
    {                                                                                              \
        int##n all = convert_int##n(bits), size = (all & 0x7FFF) << 13;                            \
        float##n v = as_float##n(size) * 0x1p112f;                                                 \
        v = select(v, as_float##n(size | 0x7F800000), size >= 0x0F800000);                         \
        return as_float##n(as_int##n(v) | (all & 0x8000) << 16);                                   \
    }
F16_ARITHMETIC(4)
#if defined(__F16C__) && defined(__clang__) && FLOAT_WIDTH >= 8 /* x86 has an instruction */
inline float8 __attribute__((overloadable)) floats_of_f16(ushort8 bits)
{
    return __builtin_ia32_vcvtph2ps256(as_short8(bits));
}

inline ushort8 __attribute__((overloadable)) f16_of(float8 v)
{
    return as_ushort8(__builtin_ia32_vcvtps2ph256(v, 0)); /* to the nearest */
}

inline float8 __attribute__((overloadable)) rounded_to_f16(float8 v)
{
    return floats_of_f16(f16_of(v));
}
#if FLOAT_WIDTH == 16
inline float16 __attribute__((overloadable)) floats_of_f16(ushort16 bits)
{
    return (float16)(floats_of_f16(bits.lo), floats_of_f16(bits.hi));
}

inline ushort16 __attribute__((overloadable)) f16_of(float16 v)
{
    return (ushort16)(f16_of(v.lo), f16_of(v.hi));
}

inline float16 __attribute__((overloadable)) rounded_to_f16(float16 v)
{
    return (float16)(rounded_to_f16(v.lo), rounded_to_f16(v.hi));
}
#endif
#elif FLOAT_WIDTH == 8
F16_ARITHMETIC(8)
#elif FLOAT_WIDTH == 16
F16_ARITHMETIC(16)
#endif

inline floatv __attribute__((overloadable)) loadv(size_t i, global const f16 *p)
{
#if FLOAT_WIDTH == 1
    return vload_half(i, (global const half *)p);
#else
    return floats_of_f16(loadv(i, (global const ushort *)p));
#endif
}

inline void __attribute__((overloadable)) storev(floatv v, size_t i, global f16 *p)
{
#if FLOAT_WIDTH == 1
    vstore_half_rte(v, i, (global half *)p);
#else
    storev(f16_of(v), i, (global ushort *)p);
#endif
}

#if FLOAT_WIDTH == 1
inline float __attribute__((overloadable)) rounded_to_f16(float v)
{
    return rounded_to_f16((float4)(v)).x;
}
#endif

/* One number. */
inline float __attribute__((overloadable)) load(global const float *p)
{
    return *p;
}

inline float __attribute__((overloadable)) load(global const bf16 *p)
{
    return as_float((uint)p->bits << 16);
}

inline float __attribute__((overloadable)) load(global const f16 *p)
{
    return vload_half(0, (global const half *)p);
}

inline int __attribute__((overloadable)) load(global const int *p)
{
    return *p;
}

inline void __attribute__((overloadable)) store(float v, global float *p)
{
    *p = v;
}

inline void __attribute__((overloadable)) store(float v, global bf16 *p)
{
    uint bits = as_uint(v);
    p->bits = (ushort)((isnan(v) ? bits | 0x10000u : bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

inline void __attribute__((overloadable)) store(float v, global f16 *p)
{
    vstore_half_rte(v, 0, (global half *)p);
}

inline void __attribute__((overloadable)) store(int v, global int *p)
{
    *p = v;
}

/* Four numbers, from any address; or, by load4_aligned(), from a multiple of their size where that is needed.  Elsewhere Intel's compiler for CPUs
 * makes one load of vload4() alone, so that gemm_subgroup takes less than half of the time, and its compiler for GPUs needs more registers for
 * that: gemm_tiled would have more than there are. */
#if NEEDS_ALIGNMENT
#define LOAD_FOUR(type, p)                                                                         \
    (IS_ALIGNED(p, type##4) ? *(global const type##4 *)(p)                                         \
                            : FROM_ANYWHERE(global, type, (global const type *)(p)))
#define LOAD_ALIGNED_FOUR(type, p) (*(global const type##4 *)(p))
#else
#define LOAD_FOUR(type, p) vload4(0, (global const type *)(p))
#if FLOAT_WIDTH == 4
#define LOAD_ALIGNED_FOUR(type, p) AS_VECTOR(global, type, (global const type *)(p))
#else
#define LOAD_ALIGNED_FOUR LOAD_FOUR
#endif
#endif
#define STORE_FOUR(v, type, p)                                                                     \
    if (IS_ALIGNED(p, type##4))                                                                    \
        *(global type##4 *)(p) = (v);                                                              \
    else                                                                                           \
        vstore4(v, 0, (global type *)(p))
#define LOADS_OF_FOUR(name, LOAD)                                                                  \
    inline float4 __attribute__((overloadable)) name(global const float *p)                        \
    {                                                                                              \
        return LOAD(float, p);                                                                     \
    }                                                                                              \
    inline float4 __attribute__((overloadable)) name(global const bf16 *p)                         \
    {                                                                                              \
        return as_float4(convert_uint4(LOAD(ushort, p)) << 16);                                    \
    }                                                                                              \
    inline float4 __attribute__((overloadable)) name(global const f16 *p)                          \
    {                                                                                              \
        return floats_of_f16(LOAD(ushort, p));                                                     \
    }
LOADS_OF_FOUR(load4, LOAD_FOUR)
LOADS_OF_FOUR(load4_aligned, LOAD_ALIGNED_FOUR)

/* `count` of them are read, or none if it is negative, the others are `fill`. */
#define PART_OF_FOUR(type)                                                                         \
    inline float4 __attribute__((overloadable))                                                    \
    load4_part(global const type *p, int count, float fill)                                        \
    {                                                                                              \
        return (float4)(count > 0 ? load(p) : fill, count > 1 ? load(p + 1) : fill,                \
                        count > 2 ? load(p + 2) : fill, count > 3 ? load(p + 3) : fill);           \
    }
PART_OF_FOUR(float)
PART_OF_FOUR(bf16)
PART_OF_FOUR(f16)

inline void __attribute__((overloadable)) store4(float4 v, global float *p)
{
    STORE_FOUR(v, float, p);
}

inline void __attribute__((overloadable)) store4(float4 v, global bf16 *p)
{
    uint4 bits = as_uint4(v);
    bits = select(bits + 0x7FFFu + (bits >> 16 & 1u), bits | 0x10000u, isnan(v));
    STORE_FOUR(convert_ushort4(bits >> 16), ushort, p);
}

inline void __attribute__((overloadable)) store4(float4 v, global f16 *p)
{
    STORE_FOUR(f16_of(v), ushort, p);
}

/* ---- Parts of vectors, and rows ----
 *
 * A work-group has a row; its work-items take vectors in turn.  On a CPU the group is one work-item, and the reductions are
 * over its lanes alone. */

/* Of a vector at the end of a row `count` lanes are read, the others are `fill`; `count` lanes are written.  Lanes that lie `stride`
 * numbers apart are i, i + 1, ..., but none behind `last`. */
#if FLOAT_WIDTH == 4 /* no array, which compilers for GPUs would put into memory */
#define PART_OF(type)                                                                              \
    inline floatv __attribute__((overloadable))                                                    \
    load_part(global const type *p, uint count, float fill)                                        \
    {                                                                                              \
        return load4_part(p, count, fill);                                                         \
    }
#define LANES_OF(type, vector, number)                                                             \
    inline vector __attribute__((overloadable))                                                    \
    load_strided(global const type *p, ulong i, ulong last, long stride)                           \
    {                                                                                              \
        return (vector)(load(p + min(i, last) * stride), load(p + min(i + 1, last) * stride),      \
                        load(p + min(i + 2, last) * stride), load(p + min(i + 3, last) * stride)); \
    }                                                                                              \
    inline void __attribute__((overloadable)) store_part(vector v, global type *p, uint count)     \
    {                                                                                              \
        if (count > 0)                                                                             \
            store(v.s0, p);                                                                        \
        if (count > 1)                                                                             \
            store(v.s1, p + 1);                                                                    \
        if (count > 2)                                                                             \
            store(v.s2, p + 2);                                                                    \
        if (count > 3)                                                                             \
            store(v.s3, p + 3);                                                                    \
    }
#else
#define PART_OF(type)                                                                              \
    inline floatv __attribute__((overloadable))                                                    \
    load_part(global const type *p, uint count, float fill)                                        \
    {                                                                                              \
        float lane[FLOAT_WIDTH];                                                                   \
        for (uint i = 0; i < FLOAT_WIDTH; i++)                                                     \
            lane[i] = i < count ? load(p + i) : fill;                                              \
        return loadv(0, lane);                                                                     \
    }
#define LANES_OF(type, vector, number)                                                             \
    inline vector __attribute__((overloadable))                                                    \
    load_strided(global const type *p, ulong i, ulong last, long stride)                           \
    {                                                                                              \
        number lane[FLOAT_WIDTH];                                                                  \
        for (uint j = 0; j < FLOAT_WIDTH; j++)                                                     \
            lane[j] = load(p + min(i + j, last) * stride);                                         \
        return loadv(0, lane);                                                                     \
    }                                                                                              \
    inline void __attribute__((overloadable)) store_part(vector v, global type *p, uint count)     \
    {                                                                                              \
        number lane[FLOAT_WIDTH];                                                                  \
        storev(v, 0, lane);                                                                        \
        for (uint i = 0; i < count; i++)                                                           \
            store(lane[i], p + i);                                                                 \
    }
#endif

#define PARTS_OF(type)                                                                             \
    PART_OF(type)                                                                                  \
    LANES_OF(type, floatv, float)                                                                  \
    inline floatv __attribute__((overloadable))                                                    \
    load_row(global const type *row, ulong i, ulong width, float fill)                             \
    {                                                                                              \
        return i + FLOAT_WIDTH <= width ? loadv(0, row + i)                                        \
                                        : load_part(row + i, (uint)(width - i), fill);             \
    }                                                                                              \
    inline void __attribute__((overloadable))                                                      \
    store_row(floatv v, global type *row, ulong i, ulong width)                                    \
    {                                                                                              \
        if (i + FLOAT_WIDTH <= width)                                                              \
            storev(v, 0, row + i);                                                                 \
        else                                                                                       \
            store_part(v, row + i, (uint)(width - i));                                             \
    }
PARTS_OF(float)
PARTS_OF(f16)
PARTS_OF(bf16)
LANES_OF(int, intv, int)

/* The vectors of a row that are this work-item's. */
#define ROW_FIRST ((ulong)get_local_id(0) * FLOAT_WIDTH)
#define ROW_STEP ((ulong)get_local_size(0) * FLOAT_WIDTH)

/* What is done with vectors i to i + FLOAT_WIDTH - 1 of a row: twice, as load_row() and store_row() then need not ask in each
 * turn whether the vector is whole. */
#define EACH_VECTOR(width, DO)                                                                     \
    {                                                                                              \
        ulong i = ROW_FIRST;                                                                       \
        for (; i + FLOAT_WIDTH <= (width); i += ROW_STEP) {                                        \
            DO                                                                                     \
        }                                                                                          \
        if (i < (width)) {                                                                         \
            DO                                                                                     \
        }                                                                                          \
    }

/* The greatest number of a row, for each lane; -infinity if there is none.  NaN is passed over. */
#define ROW_MAX_OF(type)                                                                           \
    inline floatv __attribute__((overloadable)) row_max(global const type *row, ulong width)       \
    {                                                                                              \
        floatv most = -INFINITY;                                                                   \
        EACH_VECTOR(width, most = greater(load_row(row, i, width, -INFINITY), most);)              \
        return most;                                                                               \
    }
ROW_MAX_OF(float)
ROW_MAX_OF(f16)
ROW_MAX_OF(bf16)

/* Buffers without rows: a work-item has FLAT_CHUNK elements side by side, so that a CPU reads on in memory. */
#if DEVICE_CPU
#define FLAT_CHUNK 4096
#else
#define FLAT_CHUNK FLOAT_WIDTH
#endif

enum { GROUP_MOST = 256 };

#if DEVICE_CPU
#define GROUP_SCRATCH(name) local float *name = 0
#define GROUP_SCRATCHV(name) local floatv *name = 0
#define group_sum(value, scratch) (value)
#define group_max(value, scratch) (value)
#define group_sumv(value, scratch) (value)
#else
#define GROUP_SCRATCH(name) local float name[GROUP_MOST]

#define GROUP_SCRATCHV(name) local floatv name[GROUP_MOST]

/* The sum, or the greatest, over the work-group, a power of two of work-items, for all of them. */
#define GROUP_REDUCTION(name, type, combined)                                                      \
    inline type name(type value, local type *scratch)                                              \
    {                                                                                              \
        uint me = get_local_id(0);                                                                 \
        scratch[me] = value;                                                                       \
        for (uint half_size = get_local_size(0) / 2; half_size > 0; half_size /= 2) {              \
            barrier(CLK_LOCAL_MEM_FENCE);                                                          \
            if (me < half_size)                                                                    \
                scratch[me] = combined(scratch[me], scratch[me + half_size]);                      \
        }                                                                                          \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        value = scratch[0];                                                                        \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        return value;                                                                              \
    }
#define SUM_OF(a, b) ((a) + (b))
GROUP_REDUCTION(group_sum, float, SUM_OF)
GROUP_REDUCTION(group_sumv, floatv, SUM_OF)
GROUP_REDUCTION(group_max, float, GREATER)
#endif

/* Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011). */
inline uint4 philox(uint4 counter, uint2 key)
{
    for (int round = 0; round < 10; round++) {
        uint high0 = mul_hi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
        uint high1 = mul_hi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
        counter = (uint4)(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}

/* Random word number `index` of a stream: word index % 4 of block index / 4. */
inline uint random_word(ulong index, uint stream, uint seed, uint step)
{
    uint4 words =
        philox((uint4)((uint)(index >> 2), (uint)(index >> 34), stream, 0), (uint2)(seed, step));
    uint low = index & 1 ? words.y : words.x, high = index & 1 ? words.w : words.z;
    return index & 2 ? high : low;
}

/* Uniform in [0, 1) with 24 bits: never 1. */
inline float uniform(uint word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

#if FLOAT_WIDTH > 1
/* 2^(x + rest), rest far below 1, for x between -127 and 128: 0 below -126.5, infinity above 127.5, NaN for NaN.  The
 * polynomial is that of Cephes' exp2f on [-1/2, 1/2]; the error is below 2e-7. */
inline floatv power_of_2_in_range(floatv x, floatv rest)
{
    floatv shifted = x + 12583039.0f; /* 1.5 * 2^23 + 127: the last bits are the exponent's */
    floatv f = x - (shifted - 12583039.0f) + rest;
    floatv y = multiply_add(f, 1.535336188319500e-4f, (floatv)(1.339887440266574e-3f));
    y = multiply_add(y, f, (floatv)(9.618437357674640e-3f));
    y = multiply_add(y, f, (floatv)(5.550332471162809e-2f));
    y = multiply_add(y, f, (floatv)(2.402264791363012e-1f));
    y = multiply_add(y, f, (floatv)(6.931472028550421e-1f));
    y = multiply_add(y, f, (floatv)(1.0f));
    return y * as_floatv(as_intv(shifted) << 23);
}

/* 2^x for x up to 128. */
inline floatv power_of_2(floatv x)
{
    return power_of_2_in_range(greater(-127.0f, x), 0.0f);
}

/* e^x, with the same error; unlike exp() 0 below 2^-126.5 and infinity above 2^127.5. */
inline floatv exp_of(floatv x)
{
    x = greater(-88.03f, x);
    x = SELECT(LT((floatv)(89.0f), x), (floatv)(89.0f), x);
    floatv in_twos = x * LOG2_E, rounded_off = fma(x, (floatv)(LOG2_E), -in_twos);
    return power_of_2_in_range(in_twos, fma(x, (floatv)(LOG2_E_REST), rounded_off));
}
#else
#define power_of_2(x) exp2(x)
#define exp_of(x) exp(x)
#endif

/* x/2 (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3); and its derivative. */
inline floatv gelu_gate(floatv x)
{
    return 1.0f / (1.0f + exp_of(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
}

inline floatv gelu(floatv x)
{
    return x * gelu_gate(x);
}

inline floatv gelu_slope(floatv x)
{
    floatv gate = gelu_gate(x);
    return gate + x * gate * (1.0f - gate) * (1.5957691216057308f + 0.21406445f * x * x);
}

inline floatv silu_slope(floatv x)
{
    floatv gate = 1.0f / (1.0f + exp_of(-x));
    return gate + x * gate * (1.0f - gate);
}

/* x/2 (1 + erf(x / sqrt(2))); and its derivative. */
inline floatv gelu_erf(floatv x)
{
    return 0.5f * x * erfc(-0.7071067811865476f * x);
}

inline floatv gelu_erf_slope(floatv x)
{
    return 0.5f * erfc(-0.7071067811865476f * x) + x * 0.3989422804014327f * exp_of(-0.5f * x * x);
}

#if FLOAT_WIDTH > 1
/* Philox of the blocks `begin` to begin + 3, one to a lane of 64 bits: a CPU multiplies 32 bits by 32 to 64 in such lanes.
 * Only the lower half of a lane counts. */
struct blocks {
    ulong4 x, y, z, w;
};

inline __attribute__((always_inline)) struct blocks philox_blocks(uint begin, uint stream,
                                                                  uint seed, uint step)
{
    struct blocks b = {begin + (ulong4)(0, 1, 2, 3), 0, stream, 0};
#pragma unroll
    for (int round = 0; round < 10; round++) {
        ulong4 product0 = (b.x & 0xFFFFFFFF) * 0xD2511F53,
               product1 = (b.z & 0xFFFFFFFF) * 0xCD9E8D57;
        b.x = product1 >> 32 ^ b.y ^ (seed + round * 0x9E3779B9u);
        b.y = product1;
        b.z = product0 >> 32 ^ b.w ^ (step + round * 0xBB67AE85u);
        b.w = product0;
    }
    return b;
}
#endif

/* Elements 16 b to 16 b + 15 take the four words of the blocks 4 b to 4 b + 3: lane l is word l / 4 of block 4 b + l % 4.
 * So a vector of 16 takes four blocks, each lane of them once, and no shuffle; a narrower one a part of them. */
#define LANE_WORD(at)                                                                              \
    random_word((((at) >> 4 << 2) + ((at)&3)) << 2 | ((at) >> 2 & 3), stream, seed, step)
inline __attribute__((always_inline)) uintv random_words(uintv index, uint stream, uint seed,
                                                         uint step)
{
#if FLOAT_WIDTH > 1
    if ((index.s0 & (FLOAT_WIDTH - 1)) == 0) {
        struct blocks b = philox_blocks(index.s0 >> 4 << 2, stream, seed, step);
        uint4 x = convert_uint4(b.x), y = convert_uint4(b.y), z = convert_uint4(b.z),
              w = convert_uint4(b.w);
#if FLOAT_WIDTH == 16
        return (uint16)(x, y, z, w);
#elif FLOAT_WIDTH == 8
        return index.s0 & 8 ? (uint8)(z, w) : (uint8)(x, y);
#else
        return index.s0 & 8 ? (index.s0 & 4 ? w : z) : (index.s0 & 4 ? y : x);
#endif
    }
#endif
#if FLOAT_WIDTH == 4 /* no array, as above */
    return (uint4)(LANE_WORD(index.s0), LANE_WORD(index.s1), LANE_WORD(index.s2),
                   LANE_WORD(index.s3));
#else
    uint lane[FLOAT_WIDTH];
    storev(index, 0, lane);
    for (int i = 0; i < FLOAT_WIDTH; i++)
        lane[i] = LANE_WORD(lane[i]);
    return loadv(0, lane);
#endif
}

/* Users' streams have numbers below 2^24; these are added, so that no two uses share words. */
#define UNIFORM (1u << 24)
#define RADIUS (2u << 24)
#define ANGLE (3u << 24)

#if FLOAT_WIDTH == 1
#define FIRST_LANE(v) (v)
#else
#define FIRST_LANE(v) ((v).s0)
#endif

#define words_of(index, stream, seed, step)                                                        \
    random_words(index, stream, (uint)FIRST_LANE(seed), (uint)FIRST_LANE(step))

/* Uniform in [0, 1). */
#define uniform_numbers(index, stream, seed, step)                                                 \
    (convert_floatv(words_of(index, (uint)(stream) + UNIFORM, seed, step) >> 8) * 0x1p-24f)

/* Box and Muller: "A note on the generation of random normal deviates", 1958. */
inline floatv box_muller(uintv radius, uintv angle)
{
    return sqrt(-2.0f * log((convert_floatv(radius) + 0.5f) * 0x1p-32f)) *
           cospi(convert_floatv(angle >> 8) * 0x1p-23f);
}

#define normal_numbers(index, stream, seed, step)                                                  \
    box_muller(words_of(index, (uint)(stream) + RADIUS, seed, step),                               \
               words_of(index, (uint)(stream) + ANGLE, seed, step))

/* 0 with probability p, else 1 / (1 - p). */
#define dropout_factor(index, p, stream, seed, step)                                               \
    SELECT(LT(convert_floatv(words_of(index, (uint)(stream), seed, step) >> 8) * 0x1p-24f,         \
              (floatv)(p)),                                                                        \
           (floatv)(0.0f), (floatv)(1.0f / (1.0f - (p))))

/* Arguments of all kernels of attention: keys of each row of the batch, slopes of heads, how many keys a query sees at most.
 * Of buffers that are not used any may be given. */
#define MASK_PARAMETERS                                                                            \
    global const int *lengths, global const float *slopes, uint has_lengths, uint has_slopes,      \
        int window,
#define KEYS_OF_ROW(b) (has_lengths ? clamp(lengths[b], 0, (int)tk) : (int)tk)
#define SLOPE_OF_HEAD(h) (has_slopes ? slopes[h] * LOG2_E : 0.0f)

/* Where gradients of attention go: rows of dq, and of dk and dv, may be parts of one row. */
#define GRADIENT_PARAMETERS                                                                        \
    ulong dq_offset, ulong dk_offset, ulong dv_offset, ulong dq_row, ulong dkv_row

/* Row and column of tile t of a matrix of them, in bands of `band` rows: tiles that are made at the same time share lines of the
 * operands in a cache. */
inline uint2 tile_in_bands(uint t, uint rows, uint columns, uint band)
{
    uint first = t / (band * columns) * band, height = min(band, rows - first),
         within = t - first * columns;
    return (uint2)(first + within % height, within / height);
}

/* The lanes from `first` on, up to 3, before all else. */
inline float4 lanes_from(float4 v, uint first)
{
    return first == 0 ? v : first == 1 ? v.s1233 : first == 2 ? v.s2333 : v.s3333;
}
