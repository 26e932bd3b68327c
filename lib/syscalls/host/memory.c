/*
 * malloc(3) for a process that lives for a millisecond, in the place of the C library's: that asks the kernel five
 * times before an upcall has begun, and takes a hundredth of a check's instructions.
 *
 * Sizes are of some kinds, four to each power of two. A block that is freed is kept for the next one of its kind, and
 * nothing is given back: who serves a pipe holds what it held at most. Only one thread asks for any: links.c has another.
 */
#include "image.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Newer than some headers. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* More than an upcall takes. Pages that are not touched cost nothing. */
static _Alignas(4096) char first[768 << 10];
/* What every upcall touches of it, after the image. */
static const size_t surely_touched = 32 << 10;
/* What is asked of the kernel later, at a time. */
static const size_t portion = 1 << 20;

static bool is_begun;

/*
 * Has the kernel give the first pages at once, where it can (Linux 5.14): one call in the place of a hundred faults,
 * which take a tenth of a check's processor time. Where it can't, they are given when they are touched.
 */
void begin_memory(void)
{
  if (is_begun)
    return;
  is_begun = true;
  madvise(&image, (size_t)(first + surely_touched - (char *)&image), MADV_POPULATE_WRITE);
  if (image_state == image_made)
    move_image();
  image.fresh = first;
  image.fresh_end = first + sizeof first;
}

/* The kind of blocks that a size fits in, and the capacity of such a block. */
static unsigned kind_of(size_t size, size_t *capacity)
{
  size_t units = size <= unit ? 1 : (size + unit - 1) / unit;
  if (units <= 4) {
    *capacity = units * unit;
    return (unsigned)units - 1;
  }
  unsigned shift = 8 * sizeof(long) - 3 - (unsigned)__builtin_clzl(units - 1);
  size_t quarters = ((units - 1) >> shift) + 1;
  *capacity = (quarters << shift) * unit;
  return 4 * shift + (unsigned)quarters - 1;
}

static struct header *carve(size_t capacity)
{
  size_t size = capacity + sizeof(struct header);
  if ((size_t)(image.fresh_end - image.fresh) < size) {
    size_t more = size > portion ? size : portion;
    char *memory = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      return NULL;
    image.fresh = memory;
    image.fresh_end = memory + more;
  }
  struct header *block = (struct header *)image.fresh;
  image.fresh += size;
  block->size = capacity;
  return block;
}

/* Returns a block, and whether it is all zero, as the kernel gives memory. */
static struct header *take(size_t size, int *is_zero)
{
  size_t capacity;
  if (size > PTRDIFF_MAX / 2) {
    errno = ENOMEM;
    return NULL;
  }
  begin_memory();
  unsigned kind = kind_of(size, &capacity);
  struct header *block = image.free_blocks[kind];
  *is_zero = block == NULL;
  if (!block)
    return carve(capacity);
  image.free_blocks[kind] = block->next;
  return block;
}

void *malloc(size_t size)
{
  int is_zero;
  struct header *block = take(size, &is_zero);
  return block ? block + 1 : NULL;
}

void *calloc(size_t count, size_t size)
{
  int is_zero;
  size_t all;
  if (__builtin_mul_overflow(count, size, &all))
    all = SIZE_MAX;
  struct header *block = take(all, &is_zero);
  if (!block)
    return NULL;
  return is_zero ? block + 1 : memset(block + 1, 0, all);
}

void free(void *memory)
{
  if (!memory)
    return;
  size_t capacity;
  struct header *block = (struct header *)memory - 1;
  /* In an image is nothing that was there by chance. */
  if (image_state == image_wanted)
    explicit_bzero(memory, block->size);
  unsigned kind = kind_of(block->size, &capacity);
  block->next = image.free_blocks[kind];
  image.free_blocks[kind] = block;
}

void *realloc(void *memory, size_t size)
{
  if (!memory)
    return malloc(size);
  size_t capacity = ((struct header *)memory - 1)->size;
  if (size <= capacity)
    return memory;
  void *larger = malloc(size);
  if (!larger)
    return NULL;
  memcpy(larger, memory, capacity);
  free(memory);
  return larger;
}

size_t malloc_usable_size(void *memory)
{
  return memory ? ((struct header *)memory - 1)->size : 0;
}
