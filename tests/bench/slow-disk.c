/*
 * A disk whose barrier takes BARRIER_US microseconds longer, for whatever is started with this in LD_PRELOAD.
 * Barriers of processes that wait at the same time pass at the same time, as they do when they share a journal commit.
 * Whoever looks the barrier up by its name (dlsym) is given this one as well: our executable does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

static void wait_for_disk(void)
{
	const char *us = getenv("BARRIER_US");
	long n = us ? atol(us) : 0;
	struct timespec t = { n / 1000000, n % 1000000 * 1000 };
	if (n > 0) nanosleep(&t, 0);
}

int fsync(int fd) { wait_for_disk(); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { wait_for_disk(); return syscall(SYS_fdatasync, fd); }

void *dlsym(void *library, const char *name)
{
	static void *(*theirs)(void *, const char *);
	if (!strcmp(name, "fsync")) return fsync;
	if (!strcmp(name, "fdatasync")) return fdatasync;
	if (!theirs) theirs = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
	if (!theirs) theirs = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	return theirs(library, name);
}
