/* Keeps a program that wants to set the clock from doing so, and lets it believe that it did:
 * for tests of clients that have no way to only observe. */
#include <string.h>
#include <sys/timex.h>
#include <time.h>

int clock_adjtime(clockid_t clock, struct timex *t) { (void)clock; t->status = 0; t->tick = 10000; t->tolerance = 32768000; return TIME_OK; }
int adjtimex(struct timex *t) { return clock_adjtime(CLOCK_REALTIME, t); }
int ntp_adjtime(struct timex *t) { return clock_adjtime(CLOCK_REALTIME, t); }
int clock_settime(clockid_t clock, const struct timespec *to) { (void)clock; (void)to; return 0; }
int settimeofday(const struct timeval *tv, const struct timezone *tz) { (void)tv; (void)tz; return 0; }
