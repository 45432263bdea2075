/* Philox 4x32-10 on the host: random numbers as a pure function of (counter, key).  "Parallel
 * Random Numbers: As Easy as 1, 2, 3", Salmon, Moraes, Dror and Shaw, 2011.  The kernels have the
 * same in cl/common.cl. */
#ifndef QUERN_PHILOX_H
#define QUERN_PHILOX_H

#include <stdint.h>

struct philox {
    uint32_t word[4];
};

static inline struct philox philox(const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += 0x9E3779B9u; /* the golden ratio */
        k1 += 0xBB67AE85u; /* the square root of 3, less 1 */
    }
    return (struct philox){{c0, c1, c2, c3}};
}

/* A number below `bound`, from 64 random bits: high word of a 64 x 64-bit product.  Its bias is
 * bound / 2^64. */
static inline uint64_t philox_below(uint32_t high, uint32_t low, uint64_t bound)
{
    uint64_t upper = (uint64_t)high * (bound >> 32);
    uint64_t middle = (uint64_t)high * (uint32_t)bound;
    uint64_t other = (uint64_t)low * (bound >> 32);
    uint64_t lower = (uint64_t)low * (uint32_t)bound;
    uint64_t carry = ((lower >> 32) + (uint32_t)middle + (uint32_t)other) >> 32;
    return upper + (middle >> 32) + (other >> 32) + carry;
}

#endif
