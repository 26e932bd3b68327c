/*
 * A disk whose barrier takes BARRIER_US microseconds longer, for whatever is started with this in LD_PRELOAD.
 * Barriers of processes that wait at the same time pass at the same time, as they do when they share a journal commit.
 */
#define _GNU_SOURCE
#include <stdlib.h>
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
