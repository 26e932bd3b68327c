/*
 * Linked into an executable for tests with --wrap=getpid. It writes zeros past the end of an array on the stack: over
 * the compiler's canary, but not over the return address. This would not be noticed if the canary were not random.
 */
#include <string.h>
#include <sys/types.h>

pid_t __wrap_getpid(void)
{
  char room[16];
  /* Hides the overflow from the compiler. */
  volatile size_t size = sizeof room + 2 * sizeof(size_t);
  memset(room, 0, size);
  return room[0];
}
