/*
 * Linked into an executable for tests with --wrap=getpid, writes zeros past the end of what is on its stack: over the
 * mark that the compiler puts there, and not over where the function returns to. They would not be noticed if nobody
 * had chosen that mark at random.
 */
#include <string.h>
#include <sys/types.h>

pid_t __wrap_getpid(void)
{
  char room[16];
  /* The compiler would see what can't be. */
  volatile size_t size = sizeof room + 2 * sizeof(size_t);
  memset(room, 0, size);
  return room[0];
}
