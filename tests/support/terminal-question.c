/* A C library that asks in another way whether a descriptor is a terminal. Linked with --wrap=isatty -DQUESTION=... */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <sys/ioctl.h>

int __wrap_isatty(int descriptor)
{
  /* Larger than what any of the questions writes. */
  char answer[256];
  return ioctl(descriptor, QUESTION, answer) == 0;
}
