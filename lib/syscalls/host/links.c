/*
 * Of the table of system calls: the links of a directory with their texts. While the caller writes one batch to the
 * kernel, a second thread reads the next one, so that both processors have something to do.
 *
 * There is one thread for each batch. What it uses, the directory's position and `ahead`, belongs to it from
 * pthread_create to pthread_join, and to the caller at all other times. So there is nothing to lock; every entry is
 * read once, in its order; and nobody sees a batch before it is complete. Where no thread can be made, the caller reads
 * the batch when it wants it.
 *
 * The thread makes system calls, and nothing else: malloc(3) and the engine know of one thread only.
 */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  entries_size = 8192,
  /* An entry takes more than its name and two NULs, so all names have room. */
  pairs_size = 4 * entries_size,
  text_size = longest_link + 1,
  guard_size = 1 << 16,
  stack_size = 1 << 16,
};

struct batch {
  /* Less than 0, if it could not be read; 0 at the end of the directory. */
  ssize_t size;
  int why;
  /* There was no room for more entries. */
  bool is_full;
  size_t length;
  char pairs[pairs_size];
};

static void read_batch(int descriptor, struct batch *batch)
{
  _Alignas(struct dirent) char entries[entries_size];
  size_t length = 0;
  do {
    batch->size = syscall(SYS_getdents64, descriptor, entries, sizeof entries);
    batch->why = errno;
    for (ssize_t at = 0; at < batch->size;) {
      const struct dirent *entry = (const void *)(entries + at);
      size_t letters = strlen(entry->d_name);
      at += entry->d_reclen;
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        continue;
      memcpy(batch->pairs + length, entry->d_name, letters + 1);
      length += letters + 1;
      /* What is not read yet has room for its names. */
      size_t room = pairs_size - length - (size_t)(batch->size - at);
      if (room > text_size)
        room = text_size;
      ssize_t text = readlinkat(descriptor, entry->d_name, batch->pairs + length, room);
      length += text < 0 || (size_t)text == room ? 0 : (size_t)text;
      batch->pairs[length++] = 0;
    }
  } while (batch->size > 0 && length == 0);
  batch->length = length;
  batch->is_full = batch->size > (ssize_t)(entries_size - sizeof(struct dirent));
}

/* What a thread uses: mapped for as long as a directory is read, with memory before it that can't be touched. */
struct ahead {
  _Alignas(16) char stack[stack_size];
  pthread_t thread;
  /* That it reads; -1, if there is no thread. */
  int descriptor;
  struct batch batch;
};
static struct ahead *ahead;

static void *read_ahead(void *unused UNUSED)
{
  read_batch(ahead->descriptor, &ahead->batch);
  return NULL;
}

static bool map_ahead(void)
{
  char *all = mmap(NULL, guard_size + sizeof *ahead, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED)
    return false;
  void *usable = mmap(all + guard_size, sizeof *ahead, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (usable == MAP_FAILED) {
    munmap(all, guard_size + sizeof *ahead);
    return false;
  }
  ahead = usable;
  ahead->descriptor = -1;
  return true;
}

static void begin_reading_ahead(int descriptor)
{
  pthread_attr_t attributes;
  if ((!ahead && !map_ahead()) || pthread_attr_init(&attributes) != 0)
    return;
  ahead->descriptor = descriptor;
  if (pthread_attr_setstack(&attributes, ahead->stack, sizeof ahead->stack) != 0 ||
      pthread_create(&ahead->thread, &attributes, read_ahead, NULL) != 0)
    ahead->descriptor = -1;
  pthread_attr_destroy(&attributes);
}

/* Waits for the thread that reads a directory. Returns whether there was one. */
static bool is_read_ahead(int descriptor)
{
  if (!ahead || ahead->descriptor < 0 || ahead->descriptor != descriptor)
    return false;
  pthread_join(ahead->thread, NULL);
  ahead->descriptor = -1;
  return true;
}

static void forget_ahead(void)
{
  if (ahead)
    munmap((char *)ahead - guard_size, guard_size + sizeof *ahead);
  ahead = NULL;
}

void end_reading_ahead(int descriptor)
{
  if (is_read_ahead(descriptor))
    forget_ahead();
}

CALL(call_links)
{
  int descriptor = number(engine, given[0]);
  struct batch own, *batch = &own;
  if (is_read_ahead(descriptor))
    batch = &ahead->batch;
  else
    read_batch(descriptor, batch);
  JSValue pairs = batch->size < 0 ? JS_NewInt32(engine, -batch->why)
                                  : JS_NewUint8ArrayCopy(engine, (const uint8_t *)batch->pairs, batch->length);
  /* One directory at a time: of a second one nothing is read ahead. */
  bool is_used = ahead && ahead->descriptor >= 0;
  if (!is_used && batch->is_full)
    begin_reading_ahead(descriptor);
  else if (!is_used)
    forget_ahead();
  return pairs;
}
