/*
 * A disk whose flush takes a chosen time: a file for a loop device, in a file system in user space.
 *
 *   slow-disk MOUNT_POINT IMAGE
 *
 * MOUNT_POINT/image is IMAGE. A file system on a loop device over it works as on any disk. When it flushes the disk,
 * the loop device syncs the image. That sleeps for as many microseconds as were last written to MOUNT_POINT/flush-us.
 * Nothing is ever made durable: a power cut would lose everything. MOUNT_POINT/flushes has the number of flushes. The
 * program ends with the process that started it.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int image;
static atomic_long flush_us, flushes;

enum file { IMAGE, FLUSH_US, FLUSHES, NONE };
static const char *const names[] = { "/image", "/flush-us", "/flushes" };

static enum file named(const char *path)
{
	int file = IMAGE;
	while (file < NONE && strcmp(path, names[file])) file++;
	return file;
}

static int get_status(const char *path, struct stat *status, struct fuse_file_info *unused)
{
	(void)unused;
	enum file file = named(path);
	memset(status, 0, sizeof *status);
	status->st_mode = strcmp(path, "/") ? S_IFREG | 0600 : S_IFDIR | 0700;
	status->st_nlink = 1;
	if (file == IMAGE) return fstat(image, status) < 0 ? -errno : 0;
	if (file == NONE && strcmp(path, "/")) return -ENOENT;
	return 0;
}

static int open_file(const char *path, struct fuse_file_info *info)
{
	/* The length of a number is not known before it is read. */
	info->direct_io = named(path) != IMAGE;
	return named(path) == NONE ? -ENOENT : 0;
}

static int read_from(const char *path, char *to, size_t size, off_t at, struct fuse_file_info *unused)
{
	(void)unused;
	if (named(path) == IMAGE) {
		ssize_t length = pread(image, to, size, at);
		return length < 0 ? -errno : length;
	}
	char text[32];
	off_t length = snprintf(text, sizeof text, "%ld\n", named(path) == FLUSHES ? flushes : flush_us);
	if (at >= length) return 0;
	if ((off_t)size > length - at) size = length - at;
	memcpy(to, text + at, size);
	return size;
}

static int write_to(const char *path, const char *from, size_t size, off_t at, struct fuse_file_info *unused)
{
	(void)unused;
	if (named(path) == IMAGE) {
		ssize_t length = pwrite(image, from, size, at);
		return length < 0 ? -errno : length;
	}
	char text[32] = "";
	if (named(path) != FLUSH_US || size >= sizeof text) return -EINVAL;
	memcpy(text, from, size);
	flush_us = atol(text);
	return size;
}

/* It is opened with O_TRUNC. */
static int cut(const char *path, off_t length, struct fuse_file_info *unused)
{
	(void)unused;
	return named(path) == FLUSH_US && length == 0 ? 0 : -EINVAL;
}

static int flush(const char *path, int only_data, struct fuse_file_info *unused)
{
	(void)only_data;
	(void)unused;
	if (named(path) != IMAGE) return 0;
	flushes++;
	struct timespec delay = { flush_us / 1000000, flush_us % 1000000 * 1000 };
	if (flush_us > 0) nanosleep(&delay, NULL);
	return 0;
}

static const struct fuse_operations operations = {
	.getattr = get_status, .open = open_file, .read = read_from, .write = write_to, .truncate = cut, .fsync = flush,
};

int main(int argc, char **argv)
{
	if (argc != 3) return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	image = open(argv[2], O_RDWR | O_CLOEXEC);
	if (image < 0) return perror(argv[2]), 1;
	char *words[] = { argv[0], argv[1], "-f", "-o", "fsname=slow-disk", NULL };
	return fuse_main(5, words, &operations, NULL);
}
