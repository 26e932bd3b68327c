/*
 * What an upcall gives up before it looks at the first byte from the network: should there be a mistake in what
 * follows, whoever finds it has little to gain.
 *
 *   - Rights to write: only below the directories that it is told (Landlock, where the kernel has it). The kernel runs
 *     us as root, who owns most files without any capability, so this is what protects the rest of the system.
 *   - Capabilities: all, as nfsdcltrack gives them up, but for one that is kept where the state directory belongs to
 *     somebody else: without CAP_DAC_OVERRIDE root could not write there.
 *   - Other programs: no execution could give a capability back (no_new_privs), and there is none.
 *   - System calls: only those of the table, and those that the C library makes for them and for memory (seccomp); a
 *     server may also have threads. Any other is answered as by a kernel that does not have it.
 *
 * What the kernel does not have is left out. The bounding set stays: only an execution could make use of it.
 */
#include "host.h"

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some headers: a file may come from, or go to, another directory. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif

/*
 * Of what is not named here nothing is forbidden: a pipe that stands in the place of a record may be kept as evidence,
 * and there is no call that makes one.
 */
enum {
  to_write = LANDLOCK_ACCESS_FS_WRITE_FILE,
  to_change = LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
              LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER,
  never = LANDLOCK_ACCESS_FS_EXECUTE,
};

/*
 * Returns a ruleset, or a negative answer where the kernel has none of this kind: the first one forbade all renaming
 * across directories.
 */
static int new_ruleset(void)
{
  struct landlock_ruleset_attr attributes = { .handled_access_fs = to_write | to_change | never };
  return (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
}

/* Opens what a path leads to; where that has yet to be made, what is there of the way to it. */
static int open_place(char *path, bool may_be_made)
{
  if (strcmp(path, "/") == 0)
    return root_directory;
  int place = openat(AT_FDCWD, path, O_PATH | O_CLOEXEC);
  for (char *last; place < 0 && errno == ENOENT && may_be_made && (last = strrchr(path, '/')) && last[1];) {
    /* The root stays. */
    last[last == path] = 0;
    place = openat(AT_FDCWD, path, O_PATH | O_CLOEXEC);
  }
  return place;
}

/* Reads a list's next path. Returns false at its end. */
static bool path_at(JSContext *engine, JSValueConst list, uint32_t at, struct word *path)
{
  JSValue text = JS_GetPropertyUint32(engine, list, at);
  bool more = JS_IsString(text) && word_from(engine, text, path);
  JS_FreeValue(engine, text);
  return more;
}

/*
 * Allows so much at each place of a list. Where that can't be, nothing can be written, which the calls will say. The
 * places stay open for a process that is soon over; one that waits for a server must not keep a disk from being
 * unmounted. Returns false if there are too few descriptors to open a place.
 */
static bool allow_places(JSContext *engine, int ruleset, JSValueConst list, uint64_t rights, bool is_waiting)
{
  struct word path;
  for (uint32_t at = 0; path_at(engine, list, at, &path); at++) {
    struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = open_place(path.bytes, rights & LANDLOCK_ACCESS_FS_MAKE_DIR) };
    if (rule.parent_fd < 0 && errno == EMFILE)
      return false;
    if (rule.parent_fd < 0)
      continue;
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    if (is_waiting)
      close(rule.parent_fd);
  }
  return true;
}

/* Whether root may change a directory without any capability. One that is yet to be made will be root's. */
static bool is_ours(JSContext *engine, JSValueConst list)
{
  struct word path;
  struct stat status;
  return !path_at(engine, list, 0, &path) || stat(path.bytes, &status) < 0 ||
         (status.st_uid == effective_user() && (status.st_mode & (S_IWUSR | S_IXUSR)) == (S_IWUSR | S_IXUSR));
}

static int drop_capabilities(bool keep_override)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };
  if (keep_override) {
    struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, now) < 0)
      return -errno;
    none[0].permitted = none[0].effective = now[0].permitted & 1U << CAP_DAC_OVERRIDE;
  }
  return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

/* The machine that this is built for, as the kernel names it to a filter. */
#if defined __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __i386__
#define MACHINE AUDIT_ARCH_I386
#elif defined __aarch64__ && defined __AARCH64EL__
#define MACHINE AUDIT_ARCH_AARCH64
#elif defined __arm__ && defined __ARMEL__
#define MACHINE AUDIT_ARCH_ARM
#elif defined __s390x__
#define MACHINE AUDIT_ARCH_S390X
#elif defined __powerpc64__ && defined __LITTLE_ENDIAN__
#define MACHINE AUDIT_ARCH_PPC64LE
#elif defined __riscv && __riscv_xlen == 64
#define MACHINE AUDIT_ARCH_RISCV64
#endif

#ifdef MACHINE
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, field)
#define RETURN(answer) BPF_STMT(BPF_RET | BPF_K, answer)
/* Where what is loaded equals a value, goes on; else goes so many steps further. */
#define UNLESS(value, steps) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, steps)
#define ALLOW(value) UNLESS(value, 1), RETURN(SECCOMP_RET_ALLOW)

/* The half of an argument that holds a number. */
#define ARGUMENT(index) (offsetof(struct seccomp_data, args[index]) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0))

#ifdef SYS_mmap2
#define MMAP SYS_mmap2
#else
#define MMAP SYS_mmap
#endif

/* musl's names of two calls, where it makes others that know of times after 2038. */
#ifdef SYS_clock_gettime32
#define SYS_clock_gettime SYS_clock_gettime32
#define SYS_clock_nanosleep SYS_clock_nanosleep_time32
#endif

/* What an upcall makes most of comes first. Not every machine has each call, nor by the same name. */
static const struct sock_filter filter[] = {
  /*
   * Does nothing but to keep the kernel from trying all numbers of calls when it takes the filter, to remember which
   * are always allowed: that takes 50 µs, for sixty calls that are then faster by less than one in all.
   */
  BPF_STMT(BPF_MISC | BPF_TAX, 0),
  LOAD(offsetof(struct seccomp_data, arch)),
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0),
  RETURN(SECCOMP_RET_KILL_PROCESS),
  LOAD(offsetof(struct seccomp_data, nr)),
  ALLOW(SYS_openat), ALLOW(SYS_close), ALLOW(SYS_read), ALLOW(SYS_readlinkat), ALLOW(SYS_getdents64), ALLOW(SYS_symlinkat),
  ALLOW(SYS_unlinkat), ALLOW(SYS_mkdirat), ALLOW(SYS_linkat), ALLOW(SYS_renameat2), ALLOW(SYS_write), ALLOW(SYS_fsync),
  ALLOW(SYS_pwrite64), ALLOW(SYS_fdatasync), ALLOW(SYS_flock),
#ifdef SYS_fcntl
  ALLOW(SYS_fcntl),
#endif
#ifdef SYS_fcntl64
  ALLOW(SYS_fcntl64),
#endif
  /* No file becomes anybody else's to read, write or run: Landlock has no rule for modes, and most files are root's. */
  UNLESS(SYS_fchmod, 4),
  LOAD(ARGUMENT(1)),
  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID | S_IRWXG | S_IRWXO, 1, 0),
  RETURN(SECCOMP_RET_ALLOW),
  RETURN(SECCOMP_RET_ERRNO | EPERM),
#ifdef SYS_lseek
  ALLOW(SYS_lseek),
#endif
#ifdef SYS__llseek
  ALLOW(SYS__llseek),
#endif
  ALLOW(SYS_umask), ALLOW(SYS_getpid), ALLOW(SYS_exit_group), ALLOW(SYS_clock_gettime), ALLOW(SYS_nanosleep),
  ALLOW(SYS_clock_nanosleep), ALLOW(SYS_restart_syscall), ALLOW(SYS_statx),
#ifdef SYS_renameat
  ALLOW(SYS_renameat),
#endif
#ifdef SYS_newfstatat
  ALLOW(SYS_newfstatat),
#endif
#ifdef SYS_fstatat64
  ALLOW(SYS_fstatat64),
#endif
#ifdef SYS_fstat
  ALLOW(SYS_fstat),
#endif
#ifdef SYS_fstat64
  ALLOW(SYS_fstat64),
#endif
#ifdef SYS_alarm
  ALLOW(SYS_alarm),
#endif
#ifdef SYS_setitimer
  ALLOW(SYS_setitimer),
#endif
#ifdef SYS_clock_gettime64
  ALLOW(SYS_clock_gettime64),
#endif
#ifdef SYS_clock_nanosleep_time64
  ALLOW(SYS_clock_nanosleep_time64),
#endif
  /* Memory, but none that could be run. */
  ALLOW(SYS_brk), ALLOW(SYS_munmap), ALLOW(SYS_madvise), ALLOW(SYS_mremap), ALLOW(SYS_getrandom),
#ifdef __s390x__
  /* Its arguments are in memory there, where a filter can't look. */
  ALLOW(SYS_mmap),
#else
  UNLESS(MMAP, 4),
  LOAD(ARGUMENT(2)),
  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0),
  RETURN(SECCOMP_RET_ALLOW),
  RETURN(SECCOMP_RET_ERRNO | EACCES),
#endif
  /*
   * A server waits, for a pipe that may go and come again. What it is told by signals, and whom it tells, it has opened
   * before.
   */
#ifdef SYS_poll
  ALLOW(SYS_poll),
#endif
#ifdef SYS_ppoll
  ALLOW(SYS_ppoll),
#endif
#ifdef SYS_ppoll_time64
  ALLOW(SYS_ppoll_time64),
#endif
  ALLOW(SYS_inotify_init1), ALLOW(SYS_inotify_add_watch),
  /* isatty(3), as the C libraries ask: musl by TIOCGWINSZ, glibc by TCGETS, and since 2.42 by TCGETS2. */
#ifdef TCGETS2
  UNLESS(SYS_ioctl, 8),
  LOAD(ARGUMENT(1)),
  ALLOW(TCGETS2),
#else
  UNLESS(SYS_ioctl, 6),
  LOAD(ARGUMENT(1)),
#endif
  ALLOW(TCGETS),
  ALLOW(TIOCGWINSZ),
  RETURN(SECCOMP_RET_ERRNO | ENOSYS),
  /* What follows may take the place of the last one. */
  RETURN(SECCOMP_RET_ERRNO | ENOSYS),
};

/*
 * A server has a thread, writes many messages by one call (links.c), and asks what file system it watches (waiting.c),
 * but starts no process. The number of the call is loaded.
 */
static const struct sock_filter threads[] = {
  ALLOW(SYS_writev),
#ifdef SYS_futex
  ALLOW(SYS_futex),
#endif
#ifdef SYS_futex_time64
  ALLOW(SYS_futex_time64),
#endif
#ifdef SYS_fstatfs64
  ALLOW(SYS_fstatfs64),
#endif
  ALLOW(SYS_rt_sigprocmask), ALLOW(SYS_exit), ALLOW(SYS_fstatfs),
  UNLESS(SYS_clone, 3),
#ifdef __s390x__
  LOAD(ARGUMENT(1)),
#else
  LOAD(ARGUMENT(0)),
#endif
  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
  RETURN(SECCOMP_RET_ALLOW),
  RETURN(SECCOMP_RET_ERRNO | ENOSYS),
};
#endif

static int allow_calls(bool is_waiting)
{
#ifdef MACHINE
  enum { common = sizeof filter / sizeof *filter, more = sizeof threads / sizeof *threads };
  struct sock_filter both[common - 1 + more];
  struct sock_fprog program = { .len = common, .filter = (struct sock_filter *)filter };
  if (is_waiting) {
    memcpy(both, filter, sizeof filter);
    memcpy(both + common - 1, threads, sizeof threads);
    program = (struct sock_fprog){ .len = common - 1 + more, .filter = both };
  }
  /* EINVAL: this kernel has no filters. */
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 && errno != ENOSYS && errno != EINVAL)
    return -errno;
#else
  (void)is_waiting;
#endif
  return 0;
}

CALL(call_confine)
{
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return JS_NewInt32(engine, -errno);
  int ruleset = new_ruleset();
  bool is_waiting = JS_ToBool(engine, given[3]) > 0;
  if (ruleset >= 0) {
    /* With rules for some places only, a start that fails for want of descriptors could not leave its mark. */
    bool all = allow_places(engine, ruleset, given[0], to_write | to_change, is_waiting) &&
               allow_places(engine, ruleset, given[1], to_write, is_waiting) &&
               allow_places(engine, ruleset, given[2], LANDLOCK_ACCESS_FS_REMOVE_DIR, is_waiting);
    if (all && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
      return JS_NewInt32(engine, -errno);
  }
  int answer = drop_capabilities(!is_ours(engine, given[0]));
  return JS_NewInt32(engine, answer < 0 ? answer : allow_calls(is_waiting));
}
