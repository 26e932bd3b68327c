/*
 * Of the table of system calls: the links of a directory, and what their texts say. While the caller writes one batch
 * to the kernel, a second thread reads the next one and looks at its texts, so that both processors have something to
 * do.
 *
 * There is one thread for each batch. Whoever takes the batch first reads it: the thread when it begins, or the caller
 * when it wants the batch, for on a busy machine a thread may begin late. One atomic exchange decides that, so every
 * entry is read once, and in its order. What the thread has taken, the directory's position and the batch, is its own
 * until it is joined, so nobody sees a batch before it is complete. Where no thread can be made, the caller reads all.
 *
 * The thread neither allocates nor calls the engine: both know of one thread only.
 */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  entries_size = 8192,
  /* The longest text that is looked at, with a NUL. */
  text_size = 256,
  /* An entry has at least 24 bytes, and takes here no more than twice its size and a text. */
  found_size = 2 * entries_size + entries_size / 24 * text_size,
  guard_size = 1 << 16,
  /* As much as any C library asks for; what is not touched costs nothing. */
  stack_size = 1 << 18,
};

/* How texts are spelled that are looked for. */
struct spelling {
  char patterns[2048], mark[64];
};

/* What stands before the bytes of an entry: of its name, of the decoded name, of the hex digits. */
struct lengths {
  uint16_t name, decoded, digits;
  bool is_spelled;
};

struct batch {
  /* Less than 0, if it could not be read; 0 at the end of the directory. */
  ssize_t size;
  int why;
  /* There was no room for more entries. */
  bool is_full;
  size_t length;
  char found[found_size];
};

/*
 * Where the beginning of a text ends that is spelled as a pattern, which ends with a line break or a NUL; NULL where it
 * is not. What stands for the hex digits of the pattern are the last characters of it.
 */
static const char *end_of_spelled(const char *text, const char *pattern, size_t *hex_digits)
{
  *hex_digits = 0;
  while (*pattern && *pattern != '\n')
    if (*pattern == '#') {
      const char *first = text;
      for (; *pattern == '#'; pattern++)
        if (*text >= '0' && *text <= '9')
          text++;
      if (text == first || (*first == '0' && text - first > 1))
        return NULL;
    } else if (*pattern == '*') {
      if (!((*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f')))
        return NULL;
      pattern++;
      text++;
      ++*hex_digits;
    } else if (*pattern++ != *text++)
      return NULL;
  return text;
}

/* A text, which a NUL follows. */
struct text {
  const char *bytes;
  size_t length;
};

/* Where a text ends that is spelled as one of the patterns, before the mark and the checksum; NULL for another one. */
static const char *end_of_facts(struct text text, const char *patterns, struct text mark, size_t *hex_digits)
{
  for (const char *pattern = patterns; pattern; pattern = strchr(pattern, '\n'), pattern += pattern != NULL) {
    const char *end = end_of_spelled(text.bytes, pattern, hex_digits);
    if (end && (size_t)(end - text.bytes) + mark.length + checksum_length == text.length && memcmp(end, mark.bytes, mark.length) == 0)
      return end;
  }
  return NULL;
}


/* Adds an entry to a batch: its name only where that does not follow from the decoded one. */
static void add(struct batch *batch, const struct spelling *wanted, struct text name, struct text text)
{
  char bytes[NAME_MAX + text_size], digits[checksum_length];
  size_t hex_digits = 0;
  struct text mark = { wanted->mark, strlen(wanted->mark) };
  bool is_name = name.bytes[0] != '.' && name.length <= NAME_MAX;
  ssize_t length = !is_name ? -1 : decoded(name.bytes, name.length, bytes);
  const char *end = length < 0 ? NULL : end_of_facts(text, wanted->patterns, mark, &hex_digits);
  if (end) {
    size_t facts = (size_t)(end - text.bytes);
    memcpy(bytes + length, text.bytes, facts);
    checksum_of((const uint8_t *)bytes, (size_t)length + facts, digits);
    if (memcmp(end + mark.length, digits, checksum_length) != 0)
      end = NULL;
  }
  struct lengths lengths = { .is_spelled = end != NULL };
  if (!end || hex_digits > 0)
    lengths.name = (uint16_t)name.length;
  if (end) {
    lengths.decoded = (uint16_t)length;
    lengths.digits = (uint16_t)hex_digits;
  }
  char *into = batch->found + batch->length;
  memcpy(into, &lengths, sizeof lengths);
  into += sizeof lengths;
  memcpy(into, name.bytes, lengths.name);
  into += lengths.name;
  memcpy(into, bytes, lengths.decoded);
  into += lengths.decoded;
  if (hex_digits > 0 && end)
    memcpy(into, end - hex_digits, lengths.digits);
  batch->length = (size_t)(into + lengths.digits - batch->found);
}

static void read_batch(int descriptor, const struct spelling *wanted, struct batch *batch)
{
  _Alignas(struct dirent) char entries[entries_size];
  char text[text_size];
  batch->length = 0;
  do {
    batch->size = syscall(SYS_getdents64, descriptor, entries, sizeof entries);
    batch->why = errno;
    for (ssize_t at = 0; at < batch->size;) {
      const struct dirent *entry = (const void *)(entries + at);
      at += entry->d_reclen;
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        continue;
      ssize_t size = readlinkat(descriptor, entry->d_name, text, sizeof text);
      size_t length = size < 0 || size == sizeof text ? 0 : (size_t)size;
      text[length] = 0;
      add(batch, wanted, (struct text){ entry->d_name, strlen(entry->d_name) }, (struct text){ text, length });
    }
  } while (batch->size > 0 && batch->length == 0);
  batch->is_full = batch->size > (ssize_t)(entries_size - sizeof(struct dirent));
}

/* What a thread uses: mapped for as long as a directory is read, with memory before it that can't be touched. */
struct ahead {
  _Alignas(16) char stack[stack_size];
  /* Is to be joined. */
  bool has_thread;
  pthread_t thread;
  /* Of which the thread reads a batch, or is about to; -1 for none. */
  int descriptor;
  atomic_bool is_taken;
  struct spelling wanted;
  struct batch batch;
};
static struct ahead *ahead;

static void *read_ahead(void *unused UNUSED)
{
  if (!atomic_exchange(&ahead->is_taken, true))
    read_batch(ahead->descriptor, &ahead->wanted, &ahead->batch);
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

static void begin_reading_ahead(int descriptor, const struct spelling *wanted)
{
  pthread_attr_t attributes;
  /* The last one may still be about to begin, in vain. */
  if (ahead && ahead->has_thread && pthread_tryjoin_np(ahead->thread, NULL) != 0)
    return;
  if ((!ahead && !map_ahead()) || pthread_attr_init(&attributes) != 0)
    return;
  ahead->descriptor = descriptor;
  ahead->wanted = *wanted;
  atomic_store(&ahead->is_taken, false);
  ahead->has_thread = pthread_attr_setstack(&attributes, ahead->stack, sizeof ahead->stack) == 0 &&
                      pthread_create(&ahead->thread, &attributes, read_ahead, NULL) == 0;
  if (!ahead->has_thread)
    ahead->descriptor = -1;
  pthread_attr_destroy(&attributes);
}

/* Returns whether the thread has read the next batch of a directory. If it has not begun, it never will. */
static bool is_read_ahead(int descriptor)
{
  if (!ahead || ahead->descriptor < 0 || ahead->descriptor != descriptor)
    return false;
  bool has_begun = atomic_exchange(&ahead->is_taken, true);
  if (has_begun) {
    pthread_join(ahead->thread, NULL);
    ahead->has_thread = false;
  }
  ahead->descriptor = -1;
  return has_begun;
}

static void forget_ahead(void)
{
  if (!ahead)
    return;
  if (ahead->has_thread)
    pthread_join(ahead->thread, NULL);
  munmap((char *)ahead - guard_size, guard_size + sizeof *ahead);
  ahead = NULL;
}

void end_reading_ahead(int descriptor)
{
  if (!ahead || ahead->descriptor < 0 || ahead->descriptor != descriptor)
    return;
  is_read_ahead(descriptor);
  forget_ahead();
}

/* The batch as the engine has it: two lists, of which the first has those that are spelled so, and no hex digits. */
static JSValue lists_of(JSContext *engine, const struct batch *batch)
{
  JSValue plain = JS_NewArray(engine), others = JS_NewArray(engine);
  uint32_t plain_count = 0, other_count = 0;
  struct lengths lengths;
  for (const char *at = batch->found; at < batch->found + batch->length; at += lengths.name + lengths.decoded + lengths.digits) {
    memcpy(&lengths, at, sizeof lengths);
    at += sizeof lengths;
    if (lengths.name == 0) {
      JS_SetPropertyUint32(engine, plain, plain_count++, text_from(engine, at, lengths.decoded));
      continue;
    }
    JSValue other = JS_NewObject(engine);
    set(engine, other, "name", text_from(engine, at, lengths.name));
    if (lengths.is_spelled) {
      set(engine, other, "decoded", text_from(engine, at + lengths.name, lengths.decoded));
      set(engine, other, "digits", text_from(engine, at + lengths.name + lengths.decoded, lengths.digits));
    }
    JS_SetPropertyUint32(engine, others, other_count++, other);
  }
  JSValue found = JS_NewObject(engine);
  set(engine, found, "plain", plain);
  set(engine, found, "others", others);
  return found;
}

/* Copies a text, and a NUL. Returns false and throws where it does not fit. */
static bool copied(JSContext *engine, JSValueConst text, char *into, size_t room)
{
  size_t length;
  const char *bytes = JS_ToCStringLen(engine, &length, text);
  if (!bytes)
    return false;
  bool fits = length < room;
  if (fits)
    memcpy(into, bytes, length + 1);
  else
    JS_ThrowRangeError(engine, "a pattern or a mark that does not fit");
  JS_FreeCString(engine, bytes);
  return fits;
}

CALL(call_links)
{
  int descriptor = number(engine, given[0]);
  struct spelling wanted;
  if (!copied(engine, given[1], wanted.patterns, sizeof wanted.patterns) || !copied(engine, given[2], wanted.mark, sizeof wanted.mark))
    return JS_EXCEPTION;
  struct batch own, *batch = &own;
  if (is_read_ahead(descriptor))
    batch = &ahead->batch;
  else
    read_batch(descriptor, &wanted, batch);
  JSValue found = batch->size < 0    ? JS_NewInt32(engine, -batch->why)
                  : batch->size == 0 ? JS_UNDEFINED
                                     : lists_of(engine, batch);
  /* One directory at a time: of a second one nothing is read ahead. */
  bool is_used = ahead && ahead->descriptor >= 0;
  if (!is_used && batch->is_full)
    begin_reading_ahead(descriptor, &wanted);
  else if (!is_used)
    forget_ahead();
  return found;
}
