/* Linked into an executable for tests. It sets the wall clock to WALL_CLOCK seconds since 1970. The clock runs on. */
#include <stdlib.h>
#include <time.h>

int __real_clock_gettime(clockid_t clock, struct timespec *time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
  static time_t ahead;
  const char *wanted = getenv("WALL_CLOCK");
  int result = __real_clock_gettime(clock, time);
  if (result < 0 || clock != CLOCK_REALTIME || !wanted)
    return result;
  if (ahead == 0)
    ahead = strtoll(wanted, NULL, 10) - time->tv_sec;
  time->tv_sec += ahead;
  return result;
}
