/* A clock that only the kernel can read, as hpet and acpi_pm are. Linked with --wrap=clock_gettime. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
  return (int)syscall(SYS_clock_gettime, clock, time);
}
