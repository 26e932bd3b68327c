/* A clock that only the kernel can read, as hpet and acpi_pm are: linked with --wrap=gettimeofday. */
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

int __wrap_gettimeofday(struct timeval *time, void *zone)
{
  return (int)syscall(SYS_gettimeofday, time, zone);
}
