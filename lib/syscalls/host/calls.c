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

static CALL(call_fsync)
{
  return answer(engine, fsync(number(engine, given[0])));
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
 * Fills in so many bytes of entries as one text, and returns its length; each takes two bytes of it beside its name,
 * and more in a directory.
 */
static size_t names_from(const char *entries, ssize_t size, char *text)
{
  size_t length = 0;
  for (bool is_name = false;; is_name = true) {
    for (ssize_t at = 0; at < size;) {
      const struct dirent *entry = (const void *)(entries + at);
      const char *name = entry->d_name;
      at += entry->d_reclen;
      if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
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
    size_t length = names_from(buffer, size, text);
    if (size == 0 || length > 0)
      return text_from(engine, text, length);
  }
}

static CALL(call_names)
{
  _Alignas(struct dirent) char buffer[buffer_size], more[buffer_size];
  char text[buffer_size];
  int descriptor = number(engine, given[0]);
  end_reading_ahead(descriptor);
  if (JS_ToBool(engine, given[1]) && lseek(descriptor, 0, SEEK_SET) < 0)
    return answer(engine, -1);
  ssize_t size = syscall(SYS_getdents64, descriptor, buffer, sizeof buffer);
  ssize_t rest = size > 0 ? syscall(SYS_getdents64, descriptor, more, sizeof more) : size;
  if (rest < 0)
    return answer(engine, rest);
  return rest > 0 ? JS_NewInt32(engine, -E2BIG) : text_from(engine, text, names_from(buffer, size, text));
}

/* A text's bytes. Returns false and throws where it does not fit, and for a character past 255. */
static bool bytes_from(JSContext *engine, JSValueConst text, uint8_t *into, size_t capacity, size_t *length)
{
  size_t size, filled = 0;
  const char *spelled = JS_ToCStringLen(engine, &size, text);
  if (!spelled)
    return false;
  bool fits = true;
  if (size <= capacity && is_ascii(spelled, size)) {
    memcpy(into, spelled, size);
    filled = size;
  }
  for (size_t at = filled; at < size && fits; at++) {
    uint8_t byte = (uint8_t)spelled[at];
    /* 128 to 255 are spelled C2 or C3 and one more byte; what begins otherwise is past 255. */
    if (byte == 0xc2 || byte == 0xc3)
      byte = (uint8_t)(byte << 6 | ((uint8_t)spelled[++at] & 0x3f));
    else if (byte >= 0x80)
      fits = false;
    if (filled == capacity)
      fits = false;
    if (fits)
      into[filled++] = byte;
  }
  JS_FreeCString(engine, spelled);
  *length = filled;
  if (!fits)
    JS_ThrowRangeError(engine, "a character past 255, or a text that does not fit");
  return fits;
}

/* Puts a text into its field. Returns false and throws as bytes_from does. */
static bool put_text(JSContext *engine, JSValueConst text, uint8_t *field, size_t room)
{
  uint16_t before, now;
  size_t length;
  if (!bytes_from(engine, text, field + sizeof now, room, &length))
    return false;
  now = (uint16_t)length;
  memcpy(&before, field, sizeof before);
  if (before > now && before <= room)
    memset(field + sizeof now + now, 0, before - now);
  memcpy(field, &now, sizeof now);
  return true;
}

static CALL(call_writeEach)
{
  size_t size;
  uint8_t *message = JS_GetUint8Array(engine, &size, given[1]);
  int descriptor = number(engine, given[0]), at = number(engine, given[2]), room = number(engine, given[3]);
  int from = number(engine, given[5]), until = number(engine, given[6]);
  int64_t texts;
  if (!message || JS_GetLength(engine, given[4], &texts) < 0)
    return JS_EXCEPTION;
  if (from < 0 || until > texts)
    return JS_ThrowRangeError(engine, "no such text");
  if (at < 0 || room < 0 || (size_t)at + sizeof(uint16_t) + (size_t)room > size)
    return JS_ThrowRangeError(engine, "no place for a text");
  int next = from;
  for (; next < until; next++) {
    JSValue text = JS_GetPropertyUint32(engine, given[4], (uint32_t)next);
    bool is_put = !JS_IsException(text) && put_text(engine, text, message + at, (size_t)room);
    JS_FreeValue(engine, text);
    if (!is_put)
      return JS_EXCEPTION;
    if (write(descriptor, message, size) < 0)
      break;
  }
  return JS_NewInt32(engine, next - from);
}

static CALL(call_bytesInto)
{
  size_t size, length;
  uint8_t *into = JS_GetUint8Array(engine, &size, given[1]);
  int at = number(engine, given[2]);
  if (!into)
    return JS_EXCEPTION;
  if (at < 0 || (size_t)at > size)
    return JS_ThrowRangeError(engine, "no place for a text");
  return bytes_from(engine, given[0], into + at, size - (size_t)at, &length) ? JS_NewInt32(engine, (int32_t)length) : JS_EXCEPTION;
}

static CALL(call_textOf)
{
  size_t size;
  const uint8_t *bytes = JS_GetUint8Array(engine, &size, given[0]);
  return bytes ? text_from(engine, (const char *)bytes, size) : JS_EXCEPTION;
}

/* CRC-32 (polynomial EDB88320), as eight hex digits. Four bytes at a time, of which each half has a row of remainders. */
void checksum_of(const uint8_t *bytes, size_t length, char *digits)
{
  static const uint32_t remainders[8][16] = {
    { 0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
      0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c },
    { 0x00000000, 0x77073096, 0xee0e612c, 0x990951ba, 0x076dc419, 0x706af48f, 0xe963a535, 0x9e6495a3,
      0x0edb8832, 0x79dcb8a4, 0xe0d5e91e, 0x97d2d988, 0x09b64c2b, 0x7eb17cbd, 0xe7b82d07, 0x90bf1d91 },
    { 0x00000000, 0x4ac21251, 0x958424a2, 0xdf4636f3, 0xf0794f05, 0xbabb5d54, 0x65fd6ba7, 0x2f3f79f6,
      0x3b83984b, 0x71418a1a, 0xae07bce9, 0xe4c5aeb8, 0xcbfad74e, 0x8138c51f, 0x5e7ef3ec, 0x14bce1bd },
    { 0x00000000, 0x191b3141, 0x32366282, 0x2b2d53c3, 0x646cc504, 0x7d77f445, 0x565aa786, 0x4f4196c7,
      0xc8d98a08, 0xd1c2bb49, 0xfaefe88a, 0xe3f4d9cb, 0xacb54f0c, 0xb5ae7e4d, 0x9e832d8e, 0x87981ccf },
    { 0x00000000, 0x1c26a370, 0x384d46e0, 0x246be590, 0x709a8dc0, 0x6cbc2eb0, 0x48d7cb20, 0x54f16850,
      0xe1351b80, 0xfd13b8f0, 0xd9785d60, 0xc55efe10, 0x91af9640, 0x8d893530, 0xa9e2d0a0, 0xb5c473d0 },
    { 0x00000000, 0x01c26a37, 0x0384d46e, 0x0246be59, 0x0709a8dc, 0x06cbc2eb, 0x048d7cb2, 0x054f1685,
      0x0e1351b8, 0x0fd13b8f, 0x0d9785d6, 0x0c55efe1, 0x091af964, 0x08d89353, 0x0a9e2d0a, 0x0b5c473d },
    { 0x00000000, 0x5019579f, 0xa032af3e, 0xf02bf8a1, 0x9b14583d, 0xcb0d0fa2, 0x3b26f703, 0x6b3fa09c,
      0xed59b63b, 0xbd40e1a4, 0x4d6b1905, 0x1d724e9a, 0x764dee06, 0x2654b999, 0xd67f4138, 0x866616a7 },
    { 0x00000000, 0xb8bc6765, 0xaa09c88b, 0x12b5afee, 0x8f629757, 0x37def032, 0x256b5fdc, 0x9dd738b9,
      0xc5b428ef, 0x7d084f8a, 0x6fbde064, 0xd7018701, 0x4ad6bfb8, 0xf26ad8dd, 0xe0df7733, 0x58631056 },
  };
  uint32_t crc = ~0u;
  size_t at = 0;
  for (; length - at >= 4; at += 4) {
    crc ^= bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 | (uint32_t)bytes[at + 3] << 24;
    crc = remainders[7][crc & 15] ^ remainders[6][crc >> 4 & 15] ^ remainders[5][crc >> 8 & 15] ^ remainders[4][crc >> 12 & 15] ^
          remainders[3][crc >> 16 & 15] ^ remainders[2][crc >> 20 & 15] ^ remainders[1][crc >> 24 & 15] ^ remainders[0][crc >> 28];
  }
  for (; at < length; at++) {
    crc ^= bytes[at];
    crc = crc >> 4 ^ remainders[0][crc & 15];
    crc = crc >> 4 ^ remainders[0][crc & 15];
  }
  for (int at = 0; at < checksum_length; at++)
    digits[at] = "0123456789abcdef"[~crc >> (28 - 4 * at) & 15];
}

static CALL(call_checksum)
{
  uint8_t bytes[buffer_size];
  char digits[checksum_length];
  size_t length;
  if (!bytes_from(engine, given[0], bytes, sizeof bytes, &length))
    return JS_EXCEPTION;
  checksum_of(bytes, length, digits);
  return JS_NewStringLen(engine, digits, sizeof digits);
}

/* A plain character stands for itself, each other byte as %XX (lib/bytes.ts, percentEncode). */
static bool is_plain(uint8_t byte)
{
  static const bool plain[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['-'] = true, ['.'] = true, [':'] = true,
    ['_'] = true, [','] = true, ['='] = true, ['@'] = true, ['+'] = true,
  };
  return plain[byte];
}

static CALL(call_percentEncoded)
{
  uint8_t bytes[buffer_size];
  char spelled[3 * buffer_size];
  size_t length, size = 0;
  if (!bytes_from(engine, given[0], bytes, sizeof bytes, &length))
    return JS_EXCEPTION;
  for (size_t at = 0; at < length; at++)
    if (is_plain(bytes[at]))
      spelled[size++] = (char)bytes[at];
    else {
      spelled[size++] = '%';
      spelled[size++] = "0123456789ABCDEF"[bytes[at] >> 4];
      spelled[size++] = "0123456789ABCDEF"[bytes[at] & 15];
    }
  return JS_NewStringLen(engine, spelled, size);
}

/* The value of an upper-case hex digit; 16 for what is none. */
static uint8_t digit(char spelled)
{
  return spelled >= '0' && spelled <= '9' ? (uint8_t)(spelled - '0') : spelled >= 'A' && spelled <= 'F' ? (uint8_t)(spelled - 'A' + 10) : 16;
}

ssize_t decoded(const char *spelled, size_t size, char *into)
{
  char *end = into;
  for (size_t at = 0; at < size; at++) {
    uint8_t byte = (uint8_t)spelled[at];
    if (!is_plain(byte)) {
      if (byte != '%' || size - at < 3)
        return -1;
      uint8_t high = digit(spelled[++at]), low = digit(spelled[++at]);
      byte = (uint8_t)(high << 4 | low);
      if (high == 16 || low == 16 || is_plain(byte))
        return -1;
    }
    *end++ = (char)byte;
  }
  return end - into;
}

static CALL(call_percentDecoded)
{
  char bytes[buffer_size];
  size_t size;
  const char *spelled = JS_ToCStringLen(engine, &size, given[0]);
  if (!spelled)
    return JS_EXCEPTION;
  ssize_t length = size > sizeof bytes ? -1 : decoded(spelled, size, bytes);
  JS_FreeCString(engine, spelled);
  if (length < 0)
    return JS_UNDEFINED;
  /* As long as it was spelled: it is the same. */
  return (size_t)length == size ? JS_DupValue(engine, given[0]) : text_from(engine, bytes, (size_t)length);
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

static double milliseconds_of(clockid_t clock)
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
  ENTRY(openat, 4), ENTRY(read, 2), ENTRY(readText, 2), ENTRY(write, 2), ENTRY(writeEach, 7), ENTRY(fsync, 1), ENTRY(close, 1), ENTRY(mkdirat, 3),
  ENTRY(unlinkat, 3), ENTRY(renameat, 4), ENTRY(linkat, 4), ENTRY(symlinkat, 3), ENTRY(readlinkat, 2), ENTRY(fstatat, 3),
  ENTRY(fstat, 1), ENTRY(identityAt, 2), ENTRY(entries, 1), ENTRY(links, 3), ENTRY(names, 2), ENTRY(checksum, 1), ENTRY(bytesInto, 3), ENTRY(textOf, 1), ENTRY(percentEncoded, 1), ENTRY(percentDecoded, 1), ENTRY(umask, 1), ENTRY(alarm, 1), ENTRY(confine, 4), ENTRY(sleep, 1), ENTRY(poll, 3),
  ENTRY(watch, 1), ENTRY(endSignals, 0), ENTRY(connect, 1), ENTRY(flock, 1), ENTRY(now, 0), ENTRY(monotonic, 0), ENTRY(processId, 0), ENTRY(userId, 0), ENTRY(isTerminal, 1), ENTRY(exit, 1),
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
