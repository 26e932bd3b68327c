/*
 * Asks the host's malloc(3), under other names, for blocks of random sizes, and checks that each keeps its contents, is
 * aligned, and overlaps no other. Ends with 0, or prints what is wrong.
 */
#define malloc our_malloc
#define calloc our_calloc
#define realloc our_realloc
#define free our_free
#define malloc_usable_size our_usable_size
#include "../../lib/syscalls/host/memory.c"

/* There is no image here. */
struct image image;
char image_blocks[1], image_end[1];
const uint64_t image_addresses[1];
const uint8_t image_state = image_none;
void move_image(void) {}

#include <stdio.h>

enum { blocks = 300, rounds = 200000 };

static struct { unsigned char *memory; size_t size; unsigned char mark; } held[blocks];

static unsigned long random_number(void)
{
  static unsigned long state = 1;
  state = state * 6364136223846793005UL + 1442695040888963407UL;
  return state >> 33;
}

static int fails(const char *what)
{
  puts(what);
  return 1;
}

static int is_all(const unsigned char *memory, size_t size, unsigned char mark)
{
  for (size_t at = 0; at < size; at++)
    if (memory[at] != mark)
      return 0;
  return 1;
}

int main(void)
{
  for (int round = 0; round < rounds; round++) {
    int which = (int)(random_number() % blocks);
    size_t size = random_number() % (random_number() % 50 == 0 ? 100000 : 600);
    unsigned char *memory = held[which].memory;
    if (memory && !is_all(memory, held[which].size, held[which].mark))
      return fails("a block has lost what was written to it");
    size_t kept = 0;
    if (random_number() % 2 == 0) {
      kept = held[which].size < size ? held[which].size : size;
      memory = our_realloc(memory, size);
      if (memory && !is_all(memory, kept, held[which].mark))
        return fails("a block that grows has lost what was written to it");
    } else {
      our_free(memory);
      memory = random_number() % 2 == 0 ? our_malloc(size) : our_calloc(size, 1);
    }
    if (!memory || (uintptr_t)memory % 16 != 0 || our_usable_size(memory) < size)
      return fails("no block, or none as it was asked for");
    held[which].memory = memory;
    held[which].size = our_usable_size(memory);
    held[which].mark = (unsigned char)random_number();
    memset(memory, held[which].mark, held[which].size);
  }
  for (int round = 0; round < 1000; round++) {
    size_t size = random_number() % 5000;
    unsigned char *memory = our_calloc(1 + size % 7, size);
    if (!memory || !is_all(memory, (1 + size % 7) * size, 0))
      return fails("calloc gives what is not all zero");
    memset(memory, 1, our_usable_size(memory));
    our_free(memory);
  }
  our_free(NULL);
  if (our_usable_size(NULL) != 0)
    return fails("no block has no capacity");
  /* Hides the size from the compiler. */
  volatile size_t most = SIZE_MAX;
  if (our_malloc(most) || our_malloc(most / 2) || our_calloc(most / 2, 3) || our_calloc(most / 16, 17))
    return fails("more than there can be");
  if (!our_malloc(0) || our_malloc(0) == our_malloc(0))
    return fails("blocks of nothing are not told apart");
  return 0;
}
