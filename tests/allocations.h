/* Allocations of our own code, counted, and one of them made to fail: the linker (--wrap) puts these
 * in place of the C library's.  A test program includes this once. */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

static struct {
    long made;  /* since it was set to 0 */
    long fails; /* the number of the one that fails, from 0 */
} allocations = {.fails = LONG_MAX};

static bool allocation_fails(void)
{
    return allocations.made++ == allocations.fails;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *memory, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(memory, size);
}

#endif
