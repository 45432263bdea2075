/* Orders of examples and batches that need no memory: any place of any epoch's can be asked for. */
#include "device/philox.h"
#include "text/data/batches.h"

/* A Feistel network over an even number of bits, 8 rounds of Philox ("How to Construct Pseudorandom Permutations from Pseudorandom
 * Functions", Luby and Rackoff, 1988).  What falls behind the end goes round again, at most 4 times on average. */
uint64_t order_permute(struct order order, uint64_t index, uint64_t count)
{
    enum { ROUNDS = 8 };
    unsigned half = 1;
    while (half < 32 && count > (uint64_t)1 << 2 * half)
        half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    const uint32_t key[2] = {(uint32_t)order.seed, (uint32_t)(order.seed >> 32)};
    do {
        uint64_t left = index >> half, right = index & mask;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            const uint32_t counter[4] = {(uint32_t)right, order.stream * ROUNDS + round,
                                         (uint32_t)order.epoch, (uint32_t)(order.epoch >> 32)};
            uint64_t mixed = left ^ (philox(counter, key).word[0] & mask);
            left = right;
            right = mixed;
        }
        index = left << half | right;
    } while (index >= count);
    return index;
}
