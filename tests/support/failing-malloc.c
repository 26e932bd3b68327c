/* Linked into an executable for tests. From allocation number FAIL_ALLOCATION on, malloc fails. */
#include <stdbool.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);

static unsigned long first;

/* Allocations of the C library before this are not counted. */
__attribute__((constructor)) static void begin(void)
{
  const char *wanted = getenv("FAIL_ALLOCATION");
  first = wanted ? strtoul(wanted, NULL, 10) : 0;
}

static bool fails(void)
{
  static unsigned long allocations;
  return first != 0 && ++allocations >= first;
}

void *__wrap_malloc(size_t size)
{
  return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
  return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
  return fails() ? NULL : __real_realloc(old, size);
}
