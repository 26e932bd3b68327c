/* Of the table of system calls: to wait for what comes, and to say that we are ready. */
#include "host.h"
#include "image.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/auxv.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

/* More than any of ours waits for. */
enum { most_descriptors = 16 };

/* Returns a list's number at a place, -1 for what is none. */
static int number_at(JSContext *engine, JSValueConst list, uint32_t at)
{
  JSValue value = JS_GetPropertyUint32(engine, list, at);
  int found = number(engine, value);
  JS_FreeValue(engine, value);
  return found;
}

/* Closes what was opened for a call that then failed, and answers by the errno of that. */
static JSValue undone(JSContext *engine, int descriptor)
{
  int why = -errno;
  close(descriptor);
  return JS_NewInt32(engine, why);
}

/*
 * Whoever waits has begun, and needs few of the pages that its start has touched: those that were never written are
 * read again from the program's file when they are. The kernel maps sixteen for each that is touched, so this is a
 * fifth of what `serve` has at rest.
 */
static void forget_start(void)
{
  const char *base = __ehdr_start;
  const ElfW(Ehdr) *header = (const void *)base;
  const ElfW(Phdr) *part = (const void *)(base + header->e_phoff);
  uintptr_t page = getauxval(AT_PAGESZ);
  for (int at = 0; at < header->e_phnum; at++)
    if (part[at].p_type == PT_LOAD && !(part[at].p_flags & PF_W)) {
      /* Whole pages: what follows may be written. */
      uintptr_t begin = ((uintptr_t)base + part[at].p_vaddr + page - 1) & -page;
      uintptr_t end = ((uintptr_t)base + part[at].p_vaddr + part[at].p_memsz) & -page;
      if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
}

CALL(call_poll)
{
  static unsigned waits;
  struct pollfd waited[most_descriptors];
  int64_t length, events;
  if (JS_GetLength(engine, given[0], &length) < 0 || JS_GetLength(engine, given[1], &events) < 0)
    return JS_EXCEPTION;
  if (length != events || length > most_descriptors)
    return JS_NewInt32(engine, -EINVAL);
  for (uint32_t at = 0; at < length; at++)
    waited[at] = (struct pollfd){ .fd = number_at(engine, given[0], at), .events = (short)number_at(engine, given[1], at) };
  int most = number(engine, given[2]);
  /* Its first messages are a part of its start: at the first wait, the second, the fourth, and ever more seldom. */
  if (most != 0 && (waits & (waits + 1)) == 0)
    forget_start();
  waits += most != 0;
  int ready = poll(waited, (nfds_t)length, most);
  if (ready < 0)
    return answer(engine, ready);
  JSValue found = JS_NewArray(engine);
  for (uint32_t at = 0; at < length && !JS_IsException(found); at++)
    if (JS_DefinePropertyValueUint32(engine, found, at, JS_NewInt32(engine, waited[at].revents), JS_PROP_C_W_E) < 0) {
      JS_FreeValue(engine, found);
      return JS_EXCEPTION;
    }
  return found;
}

/* Watches the names in a directory. Returns a descriptor, or less than 0. */
static int watch_of(const char *path)
{
  int descriptor = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (descriptor >= 0 &&
      inotify_add_watch(descriptor, path, IN_CREATE | IN_DELETE | IN_MOVE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0) {
    int why = errno;
    close(descriptor);
    errno = why;
    return -1;
  }
  return descriptor;
}

CALL(call_watch)
{
  struct word path;
  if (!word_from(engine, given[0], &path))
    return JS_EXCEPTION;
  return answer(engine, watch_of(path.bytes));
}

/* The kind of a file system; 0 where the kernel does not tell. */
static uint32_t kind_of_disk(int descriptor)
{
  struct statfs status;
  return fstatfs(descriptor, &status) < 0 ? 0 : (uint32_t)status.f_type;
}

/* Whether no name changes but by this kernel's calls: not so on a network's file system, nor on layers of others. */
static bool is_of_this_kernel(int directory)
{
  switch (kind_of_disk(directory)) {
  case EXT4_SUPER_MAGIC:
  case XFS_SUPER_MAGIC:
  case BTRFS_SUPER_MAGIC:
  case TMPFS_MAGIC:
    return true;
  default:
    return false;
  }
}

CALL(call_watchNames)
{
  char path[32];
  int directory = number(engine, given[0]);
  if (!is_of_this_kernel(directory))
    return JS_NewInt32(engine, -EOPNOTSUPP);
  snprintf(path, sizeof path, "/proc/self/fd/%d", directory);
  return answer(engine, watch_of(path));
}

CALL(call_namesChanged)
{
  enum { counted = IN_CREATE | IN_DELETE | IN_MOVE };
  _Alignas(struct inotify_event) char events[4096];
  int watch = number(engine, given[0]);
  int32_t changes = 0;
  for (ssize_t size; (size = read(watch, events, sizeof events)) > 0;)
    for (ssize_t at = 0; at < size; changes++) {
      const struct inotify_event *event = (const void *)(events + at);
      at += (ssize_t)(sizeof *event + event->len);
      if (!(event->mask & counted))
        return JS_NewInt32(engine, -ESTALE);
    }
  return errno == EAGAIN ? JS_NewInt32(engine, changes) : answer(engine, -1);
}

CALL(call_endSignals)
{
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  sigaddset(&ending, SIGHUP);
  sigset_t blocked = ending;
  /* Nor does a log whose reader is gone end it: the write fails instead. */
  sigaddset(&blocked, SIGPIPE);
  if (sigprocmask(SIG_BLOCK, &blocked, NULL) < 0)
    return answer(engine, -1);
  return answer(engine, signalfd(-1, &ending, SFD_NONBLOCK | SFD_CLOEXEC));
}

CALL(call_connect)
{
  struct word path;
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (!word_from(engine, given[0], &path))
    return JS_EXCEPTION;
  size_t length = strlen(path.bytes);
  /* sd_notify(3): '@' stands for the NUL with which the name of a socket without a file begins. */
  if (length == 0 || length >= sizeof address.sun_path)
    return JS_NewInt32(engine, length == 0 ? -EINVAL : -ENAMETOOLONG);
  memcpy(address.sun_path, path.bytes, length);
  if (path.bytes[0] == '@')
    address.sun_path[0] = 0;
  /* A receiver that does not read must not stop this process. */
  int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0)
    return answer(engine, descriptor);
  /* A name without a file has no end but its length. */
  if (connect(descriptor, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
    return undone(engine, descriptor);
  return JS_NewInt32(engine, descriptor);
}

CALL(call_flock)
{
  return answer(engine, flock(number(engine, given[0]), LOCK_EX | LOCK_NB));
}

/* The whole file. */
static struct flock whole(void)
{
  return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
}

CALL(call_hold)
{
  struct flock lock = whole();
  return answer(engine, fcntl(number(engine, given[0]), F_OFD_SETLK, &lock));
}

CALL(call_isHeld)
{
  struct flock lock = whole();
  int result = fcntl(number(engine, given[0]), F_OFD_GETLK, &lock);
  return result < 0 ? answer(engine, result) : JS_NewBool(engine, lock.l_type != F_UNLCK);
}

CALL(call_isWrittenInPlace)
{
  uint32_t kind = kind_of_disk(number(engine, given[0]));
  return JS_NewBool(engine, kind == EXT4_SUPER_MAGIC || kind == XFS_SUPER_MAGIC);
}
