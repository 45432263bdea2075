/* A producer of TAP, the Test Anything Protocol: one line a test on stdout, the plan at the end.
 *
 *     int main(void)
 *     {
 *         ok(1 + 1 == 2, "sums");
 *         is_int(strlen("abc"), 3, "length of %s", "abc");
 *         return done_testing();
 *     }
 *
 * Nothing but TAP may go to stdout.  Where several files of a program have tests, each defines TAP_SHARED before it includes this, and one
 * of them defines `tap`. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __GNUC__
#define TAP_UNUSED __attribute__((unused))
#define TAP_FORMAT(index, first) __attribute__((format(printf, index, first)))
#else
#define TAP_UNUSED
#define TAP_FORMAT(index, first)
#endif

struct tap {
    int run, failed;
};
#ifdef TAP_SHARED
extern struct tap *tap;
#else
static struct tap tap_here, *tap = &tap_here;
#endif

static void tap_result(bool passed, const char *format, va_list arguments)
{
    tap->run++;
    tap->failed += !passed;
    printf("%sok %d - ", passed ? "" : "not ", tap->run);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
}

/* A line of commentary: what a reader of a failure wants to know. */
TAP_UNUSED TAP_FORMAT(1, 2) static void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("# ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
}

/* One test; returns whether it passed. */
TAP_UNUSED TAP_FORMAT(2, 3) static bool ok(bool passed, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tap_result(passed, format, arguments);
    va_end(arguments);
    return passed;
}

TAP_UNUSED TAP_FORMAT(3, 4) static bool is_int(long long found, long long expected,
                                               const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tap_result(found == expected, format, arguments);
    va_end(arguments);
    if (found != expected)
        note("found %lld, expected %lld", found, expected);
    return found == expected;
}

/* One test that cannot run here, and why. */
TAP_UNUSED static void skip(const char *reason)
{
    tap->run++;
    printf("ok %d # SKIP %s\n", tap->run, reason);
    fflush(stdout);
}

/* Gives up: no further test makes sense, as when there is no device. */
TAP_UNUSED TAP_FORMAT(1, 2) static void bail_out(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("Bail out! ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
    exit(1);
}

/* Prints the plan; returns the exit status of main(). */
TAP_UNUSED static int done_testing(void)
{
    printf("1..%d\n", tap->run);
    if (tap->failed)
        printf("# %d of %d failed\n", tap->failed, tap->run);
    fflush(stdout);
    return tap->failed || tap->run == 0;
}

#endif
