/*
 * Of the table of system calls: the links of a directory, and what their texts say. While the caller writes one batch
 * to the kernel, a second thread reads the next one and looks at its texts, so that both processors have something to
 * do.
 *
 * The thread lives for as long as a large directory is read, and waits to be asked: one that is woken runs at once, one
 * that is new does not. Whoever takes a batch first reads it: the thread when it wakes, or the caller when it wants the
 * batch, for on a busy machine a thread may wake late. One atomic exchange decides that, so every entry is read once,
 * and in its order. What the thread has taken, the directory's position and the batch, is its own until it says that it
 * is done, so nobody sees a batch before it is complete. Where no thread can be made, the caller reads all.
 *
 * The thread neither allocates nor calls the engine: both know of one thread only.
 */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
  entries_size = 16384,
  /* The longest text that is looked at, with a NUL. */
  text_size = 256,
  /* An entry has at least 24 bytes, and takes here no more than twice its size and a text. */
  found_size = 2 * entries_size + entries_size / 24 * text_size,
  guard_size = 1 << 16,
  /* As much as any C library asks for; what is not touched costs nothing. */
  stack_size = 1 << 18,
  /* How many messages are written by one call. */
  together = 16,
  largest_message = 2048,
};

/* How texts are spelled that are looked for, and the watch that says whether links must be read for that. */
struct spelling {
  char patterns[2048], mark[64];
  int unchanged;
};

/*
 * What stands before the bytes of an entry: of its name, of the decoded name, of the hex digits. No NUL follows any of
 * them. A name that tells no text is read even if nothing has changed.
 */
struct lengths {
  uint16_t name, decoded, digits;
  bool is_spelled, tells_text;
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

/* A text, which a NUL follows; NULL for one that need not be read. */
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
  const char *end = length < 0 || !text.bytes ? NULL : end_of_facts(text, wanted->patterns, mark, &hex_digits);
  if (end) {
    size_t facts = (size_t)(end - text.bytes);
    memcpy(bytes + length, text.bytes, facts);
    checksum_of((const uint8_t *)bytes, (size_t)length + facts, digits);
    if (memcmp(end + mark.length, digits, checksum_length) != 0)
      end = NULL;
  }
  struct lengths lengths = { .is_spelled = end || (length >= 0 && !text.bytes), .tells_text = length >= 0 };
  if (!lengths.is_spelled || hex_digits > 0)
    lengths.name = (uint16_t)name.length;
  if (lengths.is_spelled) {
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

/* Whether nothing has been reported since the watch was last read. */
static bool is_silent(int watch)
{
  struct pollfd waited = { .fd = watch, .events = POLLIN };
  return watch >= 0 && poll(&waited, 1, 0) == 0;
}

static void read_batch(int descriptor, const struct spelling *wanted, struct batch *batch)
{
  _Alignas(struct dirent) char entries[entries_size];
  char text[text_size];
  batch->length = 0;
  do {
    batch->size = syscall(SYS_getdents64, descriptor, entries, sizeof entries);
    batch->why = errno;
    /* After the names were read: each change is reported before the directory can be read again. */
    bool is_unchanged = batch->size > 0 && is_silent(wanted->unchanged);
    for (ssize_t at = 0; at < batch->size;) {
      const struct dirent *entry = (const void *)(entries + at);
      at += entry->d_reclen;
      if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        continue;
      struct text name = { entry->d_name, strlen(entry->d_name) };
      if (is_unchanged && entry->d_type == DT_LNK) {
        add(batch, wanted, name, (struct text){ NULL, 0 });
        continue;
      }
      ssize_t size = readlinkat(descriptor, entry->d_name, text, sizeof text);
      size_t length = size < 0 || size == sizeof text ? 0 : (size_t)size;
      text[length] = 0;
      add(batch, wanted, name, (struct text){ text, length });
    }
  } while (batch->size > 0 && batch->length == 0);
  batch->is_full = batch->size > (ssize_t)(entries_size - sizeof(struct dirent));
}

/* What the thread uses: mapped for as long as a directory is read, with memory before it that can't be touched. */
static struct reader {
  _Alignas(16) char stack[stack_size];
  pthread_t thread;
  sem_t asked, done;
  /* Of the batch that is wanted: by the thread, or by the caller. */
  atomic_bool is_taken;
  atomic_bool is_over;
  int descriptor;
  /* Whether a batch is wanted of the thread that the caller does not have yet. */
  bool is_asked;
  /* The next batch is read into one, while the other is in use. */
  int next;
  struct spelling wanted;
  struct batch batches[2];
} *reader;

static void await(sem_t *semaphore)
{
  while (sem_wait(semaphore) != 0)
    ;
}

static void *read_when_asked(void *unused UNUSED)
{
  for (;;) {
    await(&reader->asked);
    if (atomic_load(&reader->is_over))
      return NULL;
    if (atomic_exchange(&reader->is_taken, true))
      continue;
    read_batch(reader->descriptor, &reader->wanted, &reader->batches[reader->next]);
    sem_post(&reader->done);
  }
}

/* Maps memory for a thread, with memory before it that can't be touched; NULL where there is none. */
static void *mapped(size_t size)
{
  char *all = mmap(NULL, guard_size + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED)
    return NULL;
  void *usable = mmap(all + guard_size, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (usable != MAP_FAILED)
    return usable;
  munmap(all, guard_size + size);
  return NULL;
}

static void unmap(void *memory, size_t size)
{
  munmap((char *)memory - guard_size, guard_size + size);
}

static bool begin_thread(pthread_t *thread, char *stack, void *(*work)(void *))
{
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0)
    return false;
  bool has_begun = pthread_attr_setstack(&attributes, stack, stack_size) == 0 && pthread_create(thread, &attributes, work, NULL) == 0;
  pthread_attr_destroy(&attributes);
  return has_begun;
}

static void forget_reader(void)
{
  unmap(reader, sizeof *reader);
  reader = NULL;
}

static bool begin_reader(int descriptor, const struct spelling *wanted)
{
  reader = mapped(sizeof *reader);
  if (!reader)
    return false;
  reader->descriptor = descriptor;
  reader->wanted = *wanted;
  atomic_store(&reader->is_taken, true);
  if (sem_init(&reader->asked, 0, 0) == 0 && sem_init(&reader->done, 0, 0) == 0 && begin_thread(&reader->thread, reader->stack, read_when_asked))
    return true;
  forget_reader();
  return false;
}

static bool is_read_ahead(int descriptor)
{
  return reader && reader->descriptor == descriptor;
}

/* Returns whether the thread has read the batch that it was asked for. If it has not begun, it never will. */
static bool has_read(void)
{
  bool has_begun = reader->is_asked && atomic_exchange(&reader->is_taken, true);
  if (has_begun)
    await(&reader->done);
  reader->is_asked = false;
  return has_begun;
}

/* Returns the next batch, read into the caller's own one if the thread has nothing to do with it. */
static const struct batch *next_batch(int descriptor, const struct spelling *wanted, struct batch *own)
{
  bool is_ours = is_read_ahead(descriptor);
  struct batch *batch = is_ours ? &reader->batches[reader->next] : own;
  if (!is_ours || !has_read())
    read_batch(descriptor, wanted, batch);
  /* One directory at a time: of a second one nothing is read ahead. */
  if (batch->is_full && (is_ours || (!reader && begin_reader(descriptor, wanted)))) {
    reader->next = batch == &reader->batches[0];
    reader->is_asked = true;
    atomic_store(&reader->is_taken, false);
    sem_post(&reader->asked);
  }
  return batch;
}

void end_reading_ahead(int descriptor)
{
  if (!is_read_ahead(descriptor))
    return;
  has_read();
  atomic_store(&reader->is_over, true);
  sem_post(&reader->asked);
  pthread_join(reader->thread, NULL);
  forget_reader();
}

/* An entry of a batch. */
struct entry {
  struct lengths lengths;
  const char *name, *decoded, *digits;
};

/* Reads an entry, and returns where the next one begins. */
static const char *entry_at(const char *at, struct entry *entry)
{
  memcpy(&entry->lengths, at, sizeof entry->lengths);
  entry->name = at + sizeof entry->lengths;
  entry->decoded = entry->name + entry->lengths.name;
  entry->digits = entry->decoded + entry->lengths.decoded;
  return entry->digits + entry->lengths.digits;
}

/* How plain entries are written, and those that are about to be. */
struct writing {
  int descriptor;
  struct form form;
  struct word excepted;
  double longest;
  /* How long it took, in milliseconds. */
  double took;
  uint32_t written;
  bool is_over;
  int count;
  struct entry entries[together];
  struct iovec parts[together];
  uint8_t messages[together][largest_message];
};

/* Entries that the engine gets: those that are spelled so, and have no hex digits, and all others. */
struct lists {
  JSContext *engine;
  JSValue plain, others;
  uint32_t plain_count, other_count;
};

static void add_plain(struct lists *lists, const struct entry *entry)
{
  JS_SetPropertyUint32(lists->engine, lists->plain, lists->plain_count++, text_from(lists->engine, entry->decoded, entry->lengths.decoded));
}

static void add_other(struct lists *lists, const struct entry *entry)
{
  JSContext *engine = lists->engine;
  JSValue other = JS_NewObject(engine);
  set(engine, other, "name", text_from(engine, entry->name, entry->lengths.name));
  if (entry->lengths.is_spelled) {
    set(engine, other, "decoded", text_from(engine, entry->decoded, entry->lengths.decoded));
    set(engine, other, "digits", text_from(engine, entry->digits, entry->lengths.digits));
  }
  JS_SetPropertyUint32(engine, lists->others, lists->other_count++, other);
}

/* Puts an entry into the next message. Returns false for one that is not to be written. */
static bool is_put(struct writing *writing, const struct entry *entry)
{
  size_t length = entry->lengths.decoded, prefix = strlen(writing->excepted.bytes);
  if (writing->is_over || length > writing->form.room || (length >= prefix && memcmp(entry->decoded, writing->excepted.bytes, prefix) == 0))
    return false;
  uint8_t *field = writing->messages[writing->count] + writing->form.at;
  memcpy(field + sizeof(uint16_t), entry->decoded, length);
  end_field(field, length, writing->form.room);
  writing->entries[writing->count++] = *entry;
  return true;
}

/*
 * Writes the messages by one call, which the kernel's pipe takes as one write for each, until one fails
 * (fs/read_write.c, do_loop_readv_writev). Those that were not written are left to the caller.
 */
static void write_together(struct writing *writing, struct lists *lists)
{
  if (writing->count == 0)
    return;
  double began = milliseconds_of(CLOCK_MONOTONIC);
  ssize_t length = writev(writing->descriptor, writing->parts, writing->count);
  writing->took += milliseconds_of(CLOCK_MONOTONIC) - began;
  int done = length < 0 ? 0 : (int)((size_t)length / writing->form.size);
  writing->written += (uint32_t)done;
  writing->is_over = done < writing->count || writing->took > writing->longest;
  for (; done < writing->count; done++)
    add_plain(lists, &writing->entries[done]);
  writing->count = 0;
}

/* The batch as the engine has it. What was written is only counted. */
static JSValue lists_of(JSContext *engine, const struct batch *batch, struct writing *writing)
{
  struct lists lists = { .engine = engine, .plain = JS_NewArray(engine), .others = JS_NewArray(engine) };
  struct entry entry;
  for (const char *at = batch->found; at < batch->found + batch->length;) {
    at = entry_at(at, &entry);
    if (entry.lengths.name > 0)
      add_other(&lists, &entry);
    else if (!writing || !is_put(writing, &entry))
      add_plain(&lists, &entry);
    else if (writing->count == together)
      write_together(writing, &lists);
  }
  if (writing)
    write_together(writing, &lists);
  JSValue found = JS_NewObject(engine);
  set(engine, found, "plain", lists.plain);
  set(engine, found, "others", lists.others);
  set(engine, found, "written", JS_NewUint32(engine, writing ? writing->written : 0));
  if (writing)
    set(engine, found, "took", JS_NewNumber(engine, writing->took));
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

/* What the words after the directory say. Returns false and throws where they do not fit. */
static bool spelling_from(JSContext *engine, JSValueConst *given, struct spelling *wanted)
{
  return copied(engine, given[0], wanted->patterns, sizeof wanted->patterns) && copied(engine, given[1], wanted->mark, sizeof wanted->mark);
}

/* Given the four words with which both calls begin. */
static JSValue links_of(JSContext *engine, JSValueConst *given, struct writing *writing)
{
  int descriptor = number(engine, given[0]);
  struct spelling wanted;
  struct batch own;
  if (!spelling_from(engine, given + 1, &wanted))
    return JS_EXCEPTION;
  wanted.unchanged = number(engine, given[3]);
  const struct batch *batch = next_batch(descriptor, &wanted, &own);
  if (batch->size > 0)
    return lists_of(engine, batch, writing);
  JSValue end = batch->size < 0 ? JS_NewInt32(engine, -batch->why) : JS_UNDEFINED;
  end_reading_ahead(descriptor);
  return end;
}

CALL(call_links)
{
  return links_of(engine, given, NULL);
}

CALL(call_writeLinks)
{
  struct writing writing;
  if (!form_from(engine, given[5], given[6], given[7], &writing.form) || !word_from(engine, given[8], &writing.excepted) ||
      JS_ToFloat64(engine, &writing.longest, given[9]) < 0)
    return JS_EXCEPTION;
  if (writing.form.size > largest_message)
    return JS_ThrowRangeError(engine, "a message that does not fit");
  writing.descriptor = number(engine, given[4]);
  writing.took = 0;
  writing.written = 0;
  writing.is_over = false;
  writing.count = 0;
  for (int at = 0; at < together; at++) {
    memcpy(writing.messages[at], writing.form.message, writing.form.size);
    writing.parts[at] = (struct iovec){ writing.messages[at], writing.form.size };
  }
  return links_of(engine, given, &writing);
}

/*
 * A directory that is read beforehand, by a thread that nobody waits for before he wants to know what it has found. So
 * the process answers meanwhile, on a disk that does not answer as well.
 */
static struct beforehand {
  _Alignas(16) char stack[stack_size];
  pthread_t thread;
  atomic_bool is_over;
  bool is_plain;
  int descriptor;
  struct spelling wanted;
  struct batch batch;
} *beforehand;

/* Whether all entries are spelled so, and have no hex digits, but for those that are read in any case. */
static bool are_plain(const struct batch *batch)
{
  struct entry entry;
  for (const char *at = batch->found; at < batch->found + batch->length;) {
    at = entry_at(at, &entry);
    if (entry.lengths.name > 0 && entry.lengths.tells_text)
      return false;
  }
  return true;
}

/* Reads on where an entry is not plain: it is in memory then when it is wanted. */
static void *read_beforehand(void *unused UNUSED)
{
  struct batch *batch = &beforehand->batch;
  bool is_plain = true;
  do {
    read_batch(beforehand->descriptor, &beforehand->wanted, batch);
    is_plain = is_plain && are_plain(batch);
  } while (batch->size > 0 && !atomic_load(&beforehand->is_over));
  beforehand->is_plain = is_plain && batch->size == 0;
  close(beforehand->descriptor);
  return NULL;
}

static void forget_beforehand(void)
{
  unmap(beforehand, sizeof *beforehand);
  beforehand = NULL;
}

CALL(call_readBeforehand)
{
  if (beforehand)
    return JS_NewInt32(engine, -EBUSY);
  beforehand = mapped(sizeof *beforehand);
  if (!beforehand)
    return answer(engine, -1);
  beforehand->descriptor = number(engine, given[0]);
  beforehand->wanted.unchanged = -1;
  bool is_understood = spelling_from(engine, given + 1, &beforehand->wanted);
  if (is_understood && begin_thread(&beforehand->thread, beforehand->stack, read_beforehand))
    return JS_NewInt32(engine, 0);
  forget_beforehand();
  return is_understood ? JS_NewInt32(engine, -EAGAIN) : JS_EXCEPTION;
}

CALL(call_endReadingBeforehand)
{
  if (!beforehand)
    return JS_FALSE;
  atomic_store(&beforehand->is_over, true);
  pthread_join(beforehand->thread, NULL);
  bool is_plain = beforehand->is_plain;
  forget_beforehand();
  return JS_NewBool(engine, is_plain);
}
