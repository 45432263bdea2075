/* Types of numbers: their names and bytes, and those of 16 bits as floats and back. */
#include "device/context.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name, *in_kernels; /* see cl/common.cl */
    size_t block_elements, block_bytes;
} types[QN_TYPES] = {
    [QN_F32] = {"f32", "float", 1, 4},  [QN_F16] = {"f16", "f16", 1, 2},
    [QN_BF16] = {"bf16", "bf16", 1, 2}, [QN_I32] = {"i32", "int", 1, 4},
    [QN_U8] = {"u8", "uchar", 1, 1},
};

const char *qn_type_name(enum qn_type type)
{
    return types[type].name;
}

const char *type_in_kernels(enum qn_type type)
{
    return types[type].in_kernels;
}

bool type_is_real(enum qn_type type)
{
    return type == QN_F32 || type == QN_F16 || type == QN_BF16;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float float_of_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3FF;
    if (exponent == 31)
        return from_bits(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) /* subnormal: an integer times 2^-24 */
        return (sign ? -1.0f : 1.0f) * ldexpf((float)fraction, -24);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

float float_of_bf16(uint16_t bits)
{
    return from_bits((uint32_t)bits << 16);
}

size_t qn_type_bytes(enum qn_type type, size_t count)
{
    return divide_up(count, types[type].block_elements) * types[type].block_bytes;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Rounded to the nearest, ties to even, as kernels do. */
static uint16_t bf16_of(float value)
{
    uint32_t bits = bits_of(value);
    return (uint16_t)((isnan(value) ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static uint16_t f16_of(float value)
{
    float size = fminf(fabsf(value), 0x1p17f); /* infinity has no exponent */
    int exponent = size >= 0x1p-14f ? ilogbf(size) : -14;
    double units = rint(ldexp((double)size, 10 - exponent)); /* below 1024: less than all digits */
    double bits = isnan(value) ? 0x7E00 : fmin(1024.0 * (exponent + 14) + units, 0x7C00);
    return (uint16_t)((signbit(value) ? 0x8000 : 0) | (uint16_t)bits);
}

double type_get(enum qn_type type, const void *memory, size_t index)
{
    switch (type) {
    case QN_F32:
        return ((const float *)memory)[index];
    case QN_F16:
        return float_of_f16(((const uint16_t *)memory)[index]);
    case QN_BF16:
        return float_of_bf16(((const uint16_t *)memory)[index]);
    case QN_I32:
        return ((const int32_t *)memory)[index];
    default:
        return ((const uint8_t *)memory)[index];
    }
}

void type_put(enum qn_type type, void *memory, size_t index, double number)
{
    switch (type) {
    case QN_F32:
        ((float *)memory)[index] = (float)number;
        break;
    case QN_F16:
        ((uint16_t *)memory)[index] = f16_of((float)number);
        break;
    case QN_BF16:
        ((uint16_t *)memory)[index] = bf16_of((float)number);
        break;
    case QN_I32:
        ((int32_t *)memory)[index] = (int32_t)number;
        break;
    default:
        ((uint8_t *)memory)[index] = (uint8_t)number;
    }
}
