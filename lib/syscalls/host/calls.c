/*
 * The table of system calls: lib/syscalls/calls.ts says what each promises.
 *
 * An answer is not negative, or the negated errno. It is taken at once: nothing stands between a call and its errno.
 */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The most that is read, of a file or a directory, at a time. */
enum { buffer_size = 8192 };

JSValue answer(JSContext *engine, ssize_t result)
{
  return JS_NewInt32(engine, result < 0 ? -errno : (int32_t)result);
}

int number(JSContext *engine, JSValueConst value)
{
  if (JS_VALUE_GET_TAG(value) == JS_TAG_INT)
    return JS_VALUE_GET_INT(value);
  int64_t result;
  double exact;
  if (!JS_IsNumber(value) || JS_ToInt64(engine, &result, value) < 0 || JS_ToFloat64(engine, &exact, value) < 0)
    return -1;
  return (double)result == exact && result >= INT32_MIN && result <= INT32_MAX ? (int)result : -1;
}

static CALL(call_openat)
{
  struct word name;
  if (!word_from(engine, given[1], &name))
    return JS_EXCEPTION;
  return answer(engine, openat(number(engine, given[0]), name.bytes, number(engine, given[2]) | O_CLOEXEC, number(engine, given[3])));
}

static CALL(call_read)
{
  size_t size;
  uint8_t *into = JS_GetUint8Array(engine, &size, given[1]);
  return into ? answer(engine, read(number(engine, given[0]), into, size)) : JS_EXCEPTION;
}

static CALL(call_readText)
{
  char buffer[buffer_size];
  int most = number(engine, given[1]);
  if (most < 0 || most > buffer_size)
    most = buffer_size;
  ssize_t length = read(number(engine, given[0]), buffer, (size_t)most);
  return length < 0 ? answer(engine, length) : text_from(engine, buffer, (size_t)length);
}

static CALL(call_write)
{
  size_t size;
  uint8_t *bytes = JS_GetUint8Array(engine, &size, given[1]);
  return bytes ? answer(engine, write(number(engine, given[0]), bytes, size)) : JS_EXCEPTION;
}

/*
 * pwrite(2) by its number: newer C libraries try another call first (pwritev2), which few kernels know, and then ask for
 * the file's flags. On 32 bits an offset has two registers, the lower half first, and on arm they are an even pair.
 */
static ssize_t write_at(int descriptor, const char *bytes, size_t size, long at)
{
#if __SIZEOF_LONG__ == 8
  return syscall(SYS_pwrite64, descriptor, bytes, size, at);
#elif defined __i386__
  return syscall(SYS_pwrite64, descriptor, bytes, size, at, 0);
#elif defined __arm__ && defined __ARMEL__
  return syscall(SYS_pwrite64, descriptor, bytes, size, 0, at, 0);
#else
  return pwrite(descriptor, bytes, size, at);
#endif
}

static CALL(call_writeAt)
{
  int at = number(engine, given[2]);
  size_t size;
  const char *bytes = bytes_of(engine, given[1], &size);
  if (!bytes)
    return JS_EXCEPTION;
  JSValue written = at < 0 ? JS_NewInt32(engine, -EINVAL) : answer(engine, write_at(number(engine, given[0]), bytes, size, at));
  JS_FreeCString(engine, bytes);
  return written;
}

static CALL(call_fsync)
{
  return answer(engine, fsync(number(engine, given[0])));
}

static CALL(call_fdatasync)
{
  return answer(engine, fdatasync(number(engine, given[0])));
}

static CALL(call_fchmod)
{
  return answer(engine, fchmod(number(engine, given[0]), (mode_t)number(engine, given[1])));
}

static CALL(call_close)
{
  int descriptor = number(engine, given[0]);
  end_reading_ahead(descriptor);
  return answer(engine, close(descriptor));
}

static CALL(call_mkdirat)
{
  struct word name;
  if (!word_from(engine, given[1], &name))
    return JS_EXCEPTION;
  return answer(engine, mkdirat(number(engine, given[0]), name.bytes, (mode_t)number(engine, given[2])));
}

static CALL(call_unlinkat)
{
  struct word name;
  if (!word_from(engine, given[1], &name))
    return JS_EXCEPTION;
  return answer(engine, unlinkat(number(engine, given[0]), name.bytes, number(engine, given[2])));
}

static CALL(call_renameat)
{
  struct word from, to;
  if (!word_from(engine, given[1], &from) || !word_from(engine, given[3], &to))
    return JS_EXCEPTION;
  return answer(engine, renameat(number(engine, given[0]), from.bytes, number(engine, given[2]), to.bytes));
}

static CALL(call_linkat)
{
  struct word existing, name;
  if (!word_from(engine, given[1], &existing) || !word_from(engine, given[3], &name))
    return JS_EXCEPTION;
  return answer(engine, linkat(number(engine, given[0]), existing.bytes, number(engine, given[2]), name.bytes, 0));
}

static CALL(call_symlinkat)
{
  struct word text, name;
  if (!word_from(engine, given[0], &text) || !word_from(engine, given[2], &name))
    return JS_EXCEPTION;
  return answer(engine, symlinkat(text.bytes, number(engine, given[1]), name.bytes));
}

static CALL(call_readlinkat)
{
  char buffer[PATH_MAX];
  struct word name;
  if (!word_from(engine, given[1], &name))
    return JS_EXCEPTION;
  ssize_t length = readlinkat(number(engine, given[0]), name.bytes, buffer, sizeof buffer);
  return length < 0 ? answer(engine, length) : text_from(engine, buffer, (size_t)length);
}

static JSValue status_from(JSContext *engine, int result, const struct stat *status)
{
  if (result < 0)
    return answer(engine, result);
  const char *kind = S_ISDIR(status->st_mode) ? "directory" : S_ISREG(status->st_mode) ? "file" : S_ISLNK(status->st_mode) ? "link" : "other";
  JSValue object = JS_NewObject(engine);
  if (JS_IsException(object))
    return object;
  if (set(engine, object, "kind", JS_NewString(engine, kind)) &&
      set(engine, object, "uid", JS_NewInt64(engine, status->st_uid)) &&
      set(engine, object, "mode", JS_NewInt32(engine, status->st_mode & 07777)) &&
      set(engine, object, "mtime", JS_NewInt64(engine, status->st_mtime)) &&
      set(engine, object, "device", JS_NewNumber(engine, (double)status->st_dev)) &&
      set(engine, object, "inode", JS_NewNumber(engine, (double)status->st_ino)))
    return object;
  JS_FreeValue(engine, object);
  return JS_EXCEPTION;
}

static CALL(call_fstatat)
{
  struct word name;
  struct stat status;
  if (!word_from(engine, given[1], &name))
    return JS_EXCEPTION;
  /* The kernel mounts nothing for this call anyhow; musl asks by three calls otherwise. */
  int flags = number(engine, given[2]) | AT_NO_AUTOMOUNT;
  return status_from(engine, fstatat(number(engine, given[0]), name.bytes, &status, flags), &status);
}

static CALL(call_fstat)
{
  struct stat status;
  return status_from(engine, fstat(number(engine, given[0]), &status), &status);
}

static CALL(call_identityAt)
{
  struct word name;
  struct stat status;
  if (!word_from(engine, given[1], &name))
    return JS_EXCEPTION;
  if (fstatat(number(engine, given[0]), name.bytes, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
    return answer(engine, -1);
  const uint64_t facts[] = { status.st_dev, status.st_ino, status.st_uid, status.st_mode };
  char text[17 * (sizeof facts / sizeof *facts)];
  size_t length = 0;
  for (size_t at = 0; at < sizeof facts / sizeof *facts; at++) {
    uint64_t rest = facts[at];
    do
      text[length++] = "0123456789abcdef"[rest & 15];
    while ((rest >>= 4) != 0);
    text[length++] = ' ';
  }
  return JS_NewStringLen(engine, text, length);
}

/*
 * Fills in so many bytes of entries as one text, but for one name, and returns its length; each takes two bytes of it
 * beside its name, and more in a directory.
 */
static size_t names_from(const char *entries, ssize_t size, const char *except, char *text)
{
  size_t length = 0;
  for (bool is_name = false;; is_name = true) {
    for (ssize_t at = 0; at < size;) {
      const struct dirent *entry = (const void *)(entries + at);
      const char *name = entry->d_name;
      at += entry->d_reclen;
      if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, except) == 0)
        continue;
      if (is_name) {
        size_t letters = strlen(name);
        text[length++] = '/';
        memcpy(text + length, name, letters);
        length += letters;
      } else
        text[length++] = entry->d_type == DT_LNK ? 'l' : entry->d_type == DT_DIR ? 'd' : entry->d_type == DT_UNKNOWN ? 'u' : 'o';
    }
    if (is_name)
      return length;
  }
}

static CALL(call_entries)
{
  _Alignas(struct dirent) char buffer[buffer_size];
  char text[buffer_size];
  int descriptor = number(engine, given[0]);
  end_reading_ahead(descriptor);
  for (;;) {
    /* Not readdir(3): it would read ahead, and it allocates. */
    ssize_t size = syscall(SYS_getdents64, descriptor, buffer, sizeof buffer);
    if (size < 0)
      return answer(engine, size);
    size_t length = names_from(buffer, size, "", text);
    if (size == 0 || length > 0)
      return text_from(engine, text, length);
  }
}

static CALL(call_names)
{
  _Alignas(struct dirent) char buffer[buffer_size], text[buffer_size];
  struct word except;
  if (!word_from(engine, given[2], &except))
    return JS_EXCEPTION;
  int descriptor = number(engine, given[0]);
  end_reading_ahead(descriptor);
  if (JS_ToBool(engine, given[1]) && lseek(descriptor, 0, SEEK_SET) < 0)
    return answer(engine, -1);
  ssize_t size = syscall(SYS_getdents64, descriptor, buffer, sizeof buffer);
  ssize_t rest = size > 0 ? syscall(SYS_getdents64, descriptor, text, sizeof text) : size;
  if (rest < 0)
    return answer(engine, rest);
  return rest > 0 ? JS_NewInt32(engine, -E2BIG) : text_from(engine, text, names_from(buffer, size, except.bytes, text));
}

bool form_from(JSContext *engine, JSValueConst message, JSValueConst at, JSValueConst room, struct form *form)
{
  int place = number(engine, at), most = number(engine, room);
  form->message = JS_GetUint8Array(engine, &form->size, message);
  if (!form->message)
    return false;
  form->at = (size_t)place;
  form->room = (size_t)most;
  bool fits = place >= 0 && most >= 0 && form->at + sizeof(uint16_t) + form->room <= form->size;
  if (!fits)
    JS_ThrowRangeError(engine, "no place for a text");
  return fits;
}

void end_field(uint8_t *field, size_t length, size_t room)
{
  uint16_t before, now = (uint16_t)length;
  memcpy(&before, field, sizeof before);
  if (before > now && before <= room)
    memset(field + sizeof now + now, 0, before - now);
  memcpy(field, &now, sizeof now);
}

static CALL(call_writeEach)
{
  struct form form;
  int descriptor = number(engine, given[0]), from = number(engine, given[5]), until = number(engine, given[6]);
  int64_t texts;
  if (!form_from(engine, given[1], given[2], given[3], &form) || JS_GetLength(engine, given[4], &texts) < 0)
    return JS_EXCEPTION;
  if (from < 0 || until > texts)
    return JS_ThrowRangeError(engine, "no such text");
  uint8_t *field = form.message + form.at;
  int next = from;
  for (; next < until; next++) {
    size_t length;
    JSValue text = JS_GetPropertyUint32(engine, given[4], (uint32_t)next);
    bool is_put = !JS_IsException(text) && bytes_from(engine, text, field + sizeof(uint16_t), form.room, &length);
    JS_FreeValue(engine, text);
    if (!is_put)
      return JS_EXCEPTION;
    end_field(field, length, form.room);
    if (write(descriptor, form.message, form.size) < 0)
      break;
  }
  return JS_NewInt32(engine, next - from);
}

static CALL(call_umask)
{
  umask((mode_t)number(engine, given[0]));
  return JS_UNDEFINED;
}

static CALL(call_alarm)
{
  alarm((unsigned)number(engine, given[0]));
  return JS_UNDEFINED;
}

static CALL(call_sleep)
{
  double milliseconds;
  if (JS_ToFloat64(engine, &milliseconds, given[0]) < 0)
    return JS_EXCEPTION;
  /* What is no time, or more than a day, sleeps for none. */
  if (!(milliseconds > 0 && milliseconds < 86400e3))
    return JS_UNDEFINED;
  int64_t nanoseconds = (int64_t)(milliseconds * 1e6);
  struct timespec time = { .tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000 };
  nanosleep(&time, NULL);
  return JS_UNDEFINED;
}

double milliseconds_of(clockid_t clock)
{
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static CALL(call_now)
{
  return JS_NewNumber(engine, floor(milliseconds_of(CLOCK_REALTIME)));
}

static CALL(call_monotonic)
{
  return JS_NewNumber(engine, milliseconds_of(CLOCK_MONOTONIC));
}

static CALL(call_processId)
{
  /* Asked for often, and always the same: nothing here forks. */
  static pid_t own;
  if (own == 0)
    own = getpid();
  return JS_NewInt32(engine, own);
}

uid_t effective_user(void)
{
  /* As the kernel told it when it started this program, which never changes it. */
  return (uid_t)getauxval(AT_EUID);
}

static CALL(call_userId)
{
  return JS_NewInt64(engine, effective_user());
}

static CALL(call_isTerminal)
{
  return JS_NewBool(engine, isatty(number(engine, given[0])) == 1);
}

/* What is no status must not become 0. */
static CALL(call_exit)
{
  int status = number(engine, given[0]);
  _exit(status >= 0 && status <= 255 ? status : 255);
}

#define FLAG(name) JS_PROP_INT32_DEF(#name, name, JS_PROP_ENUMERABLE)
static const JSCFunctionListEntry open_flags[] = {
  FLAG(O_RDONLY), FLAG(O_WRONLY), FLAG(O_RDWR), FLAG(O_CREAT), FLAG(O_EXCL), FLAG(O_NONBLOCK), FLAG(O_DIRECTORY), FLAG(O_NOFOLLOW),
};

/* So many words each takes: what is not given is undefined. */
#define ENTRY(name, words) JS_CFUNC_DEF(#name, words, call_##name)
static const JSCFunctionListEntry table[] = {
  ENTRY(openat, 4), ENTRY(read, 2), ENTRY(readText, 2), ENTRY(write, 2), ENTRY(writeEach, 7), ENTRY(writeAt, 3), ENTRY(fsync, 1), ENTRY(fdatasync, 1), ENTRY(fchmod, 2), ENTRY(isWrittenInPlace, 1), ENTRY(close, 1), ENTRY(mkdirat, 3),
  ENTRY(unlinkat, 3), ENTRY(renameat, 4), ENTRY(linkat, 4), ENTRY(symlinkat, 3), ENTRY(readlinkat, 2), ENTRY(fstatat, 3),
  ENTRY(fstat, 1), ENTRY(identityAt, 2), ENTRY(entries, 1), ENTRY(links, 4), ENTRY(writeLinks, 10), ENTRY(readBeforehand, 3), ENTRY(endReadingBeforehand, 0), ENTRY(names, 3), ENTRY(checksum, 1), ENTRY(sha256, 1), ENTRY(bytesInto, 3), ENTRY(textOf, 1), ENTRY(percentEncoded, 1), ENTRY(percentDecoded, 1), ENTRY(umask, 1), ENTRY(alarm, 1), ENTRY(confine, 4), ENTRY(sleep, 1), ENTRY(poll, 3),
  ENTRY(watch, 1), ENTRY(watchNames, 1), ENTRY(namesChanged, 1), ENTRY(endSignals, 0), ENTRY(connect, 1), ENTRY(flock, 1), ENTRY(hold, 1), ENTRY(isHeld, 1), ENTRY(now, 0), ENTRY(monotonic, 0), ENTRY(processId, 0), ENTRY(userId, 0), ENTRY(isTerminal, 1), ENTRY(exit, 1),
  JS_OBJECT_DEF("flags", open_flags, sizeof open_flags / sizeof *open_flags, JS_PROP_ENUMERABLE),
};

JSValue system_calls(JSContext *engine)
{
  JSValue calls = JS_NewObject(engine);
  if (!JS_IsException(calls) && JS_SetPropertyFunctionList(engine, calls, table, sizeof table / sizeof *table) < 0) {
    JS_FreeValue(engine, calls);
    return JS_EXCEPTION;
  }
  return calls;
}
