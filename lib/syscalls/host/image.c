/* The engine's memory after its start, kept in the executable: image.h. */
#include "image.h"

#include <stdbool.h>
#include <sys/time.h>
#include <unistd.h>

_Static_assert(sizeof(struct image) <= 4096, "what is before the blocks fits in a page");

void begin_image(void)
{
  image = (struct image){ .fresh = image_blocks, .fresh_end = image_end };
}

void move_image(void)
{
  uintptr_t *words = (uintptr_t *)&image;
  size_t count = (size_t)(image_end - (char *)&image) / sizeof *words;
  for (size_t at = 0; at < count; at += 64)
    for (uint64_t bits = image_addresses[at / 64]; bits; bits &= bits - 1)
      words[at + (size_t)__builtin_ctzll(bits)] += (uintptr_t)__ehdr_start;
}

/* A process that was stopped in write(2), for example by a control group's freezer, has written only a part. */
static bool write_whole(const void *bytes, size_t size)
{
  for (ssize_t part; size > 0; bytes = (const char *)bytes + part, size -= (size_t)part)
    if ((part = write(STDOUT_FILENO, bytes, size)) <= 0)
      return false;
  return true;
}

int write_image(void)
{
  uintptr_t places[] = { (uintptr_t)__ehdr_start, (uintptr_t)(image.fresh - (char *)&image), (uintptr_t)places };
  size_t size = (size_t)(image_end - (char *)&image);
  return write_whole(places, sizeof places) && write_whole(&image, size) ? 0 : 1;
}

/*
 * In the place of the C library's. Only the engine asks, once at its start, to begin Math.random by, which the program
 * does not use: so that an image is the same whenever it is made.
 */
int gettimeofday(struct timeval *time, void *zone __attribute__((unused)))
{
  *time = (struct timeval){ 1, 0 };
  return 0;
}

/*
 * In the place of glibc's, which asks the kernel for the program's path, to look for libraries beside it: a hundredth of
 * a check. There are none. Weak, for a version that has more in the same file.
 */
__attribute__((weak)) const char *_dl_get_origin(void)
{
  return (const char *)-1;
}
