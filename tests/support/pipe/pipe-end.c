/*
 * The kernel's end of the pipe nfsd/cld, as a file system in user space: rpc_pipe.c and the cld part of nfs4recover.c,
 * acted by hand, for daemons that do not know the difference.
 *
 *   pipe-end MOUNT_POINT UNREAD_MS ORPHANS REFUSED
 *
 * MOUNT_POINT/nfsd/cld is the pipe. Only the parent process may make it, by link(2) of MOUNT_POINT/make, and unlink it,
 * and thereby starts a new pipe (a new inode, xids from 0, messages of version 1's size) or ends it. As in the kernel,
 * no process has a new pipe open, and the directory reports that it was created and nothing else. UNREAD_MS is
 * RPC_UPCALL_TIMEOUT. ORPHANS says what becomes of a message that was read and not answered when the last open file
 * goes: `wait` for ever, as released kernels do, or `release`, as the maintainers' tree does (cld_release_pipe). Of a
 * list, names that begin with REFUSED are refused, unless it is empty.
 *
 * Commands on stdin, a line each; the program ends, and unmounts, at the end of stdin:
 *   queue ID HEX [ID HEX]...   nfsd threads that send these messages at one moment; the xid is put in here
 *   negotiated SIZE            a daemon that is gone by now has answered GetVersion and GraceStart (xids 0 and 1)
 *   state
 * Events on stdout, a line each:
 *   mounted
 *   queued ID XID
 *   answer ID NS HEX           NS nanoseconds after the message was first queued; trailing zeros are left out
 *   entry ID HEX               an entry of GraceStart's list
 *   failed ID EPIPE|ETIMEDOUT
 *   early ID                   answered before its last byte was read: released kernels then go wrong
 *   open N READERS WRITERS     an open file of the n-th pipe has come or gone
 *   state READERS WRITERS queued XID... held XID... unanswered XID...
 *
 * One thread does everything, so nothing needs a lock: requests come in the order in which the kernel has them.
 *
 * What differs from the kernel's pipe, because of FUSE: the pipe is a regular file (FUSE does not see what is done to a
 * FIFO); FIONREAD is answered by the VFS, with nonsense; writev(2) of two pieces arrives as one write, so one write of
 * two messages is taken too.
 */
#define FUSE_USE_VERSION 34
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SIZE_V1 = 1034, SIZE_V2 = 1067, LARGEST = 4096 };
enum { COMMAND = 1, STATUS = 2, XID = 4, BODY = 8, HASH_LENGTH = SIZE_V1 };
enum { GRACE_START = 4, GET_VERSION = 5 };
enum { DIRECTORY = 2, MAKE = 3, FIRST_PIPE = 4 };

struct message {
	TAILQ_ENTRY(message) in_queue;  /* while QUEUED */
	TAILQ_ENTRY(message) in_flight; /* until its waiter goes on */
	enum { QUEUED, HELD, READ } state;
	char id[32];
	uint32_t xid;
	size_t size, copied;
	long long since;
	unsigned char bytes[LARGEST];
};
TAILQ_HEAD(messages, message);

/* Kept until the end: an open file may outlive the name. */
struct pipe {
	LIST_ENTRY(pipe) all;
	fuse_ino_t number;
	bool dead;
	int readers, writers;
	struct messages queue, flying;
	LIST_HEAD(, file) files;
	uint32_t next_xid;
	size_t size;
	long long timeout_at; /* 0: not armed */
};

struct file {
	LIST_ENTRY(file) of_pipe;
	struct pipe *pipe;
	struct message *held;
	struct fuse_pollhandle *waiter;
	bool reads, writes;
};

static LIST_HEAD(, pipe) pipes;
static struct pipe *present;
static fuse_ino_t next_number = FIRST_PIPE;
static long long unread_ns;
static bool release_orphans;
static const char *refused;

static long long now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* ---- Events: kept until the reader takes them, so that a slow reader delays no daemon. ---- */

static char *said;
static size_t said_from, said_to, said_room;
/*
 * The last event is a name of a list. The names are delivered with the next other event: whoever reads them takes a
 * processor from the daemon, which nobody does beside a kernel.
 */
static bool is_listing;

static char *room_for(size_t size)
{
	if (said_from == said_to) said_from = said_to = 0;
	if (said_to + size > said_room) {
		said_room = (said_to + size) * 2;
		said = realloc(said, said_room);
		if (!said) exit(3);
	}
	return said + said_to;
}

static void say(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	said_to += vsnprintf(room_for(256), 256, format, values);
	va_end(values);
	is_listing = false;
}

static void say_hex(const unsigned char *bytes, size_t size)
{
	while (size > 0 && bytes[size - 1] == 0) size--;
	char *to = room_for(size * 2 + 1);
	for (size_t i = 0; i < size; i++) {
		*to++ = "0123456789abcdef"[bytes[i] >> 4];
		*to++ = "0123456789abcdef"[bytes[i] & 15];
	}
	*to = '\n';
	said_to += size * 2 + 1;
}

static void deliver(void)
{
	while (said_from < said_to && !is_listing) {
		ssize_t length = write(STDOUT_FILENO, said + said_from, said_to - said_from);
		if (length < 0) return;
		said_from += length;
	}
}

/* ---- The pipe (net/sunrpc/rpc_pipe.c) and its messages' waiters (fs/nfsd/nfs4recover.c). ---- */

static void wake(struct pipe *pipe)
{
	struct file *file;
	LIST_FOREACH(file, &pipe->files, of_pipe)
		if (file->waiter) fuse_lowlevel_notify_poll(file->waiter);
}

/* The waiter goes on. The message was on its stack. */
static void finish(struct pipe *pipe, struct message *message)
{
	TAILQ_REMOVE(&pipe->flying, message, in_flight);
	free(message);
}

static void fail(struct pipe *pipe, struct message *message, const char *error)
{
	say("failed %s %s\n", message->id, error);
	finish(pipe, message);
}

/* rpc_queue_upcall: the timer starts with the first message that nobody could read, and is not restarted. */
static void enqueue(struct pipe *pipe, struct message *message)
{
	if (pipe->readers == 0 && TAILQ_EMPTY(&pipe->queue) && pipe->timeout_at == 0) pipe->timeout_at = now_ns() + unread_ns;
	message->state = QUEUED;
	message->copied = 0;
	TAILQ_INSERT_TAIL(&pipe->queue, message, in_queue);
	wake(pipe);
}

/* rpc_timeout_upcall_queue. */
static void time_out(struct pipe *pipe)
{
	pipe->timeout_at = 0;
	if (pipe->readers > 0) return;
	bool any = false;
	for (struct message *message; (message = TAILQ_FIRST(&pipe->queue)); any = true) {
		TAILQ_REMOVE(&pipe->queue, message, in_queue);
		fail(pipe, message, "ETIMEDOUT");
	}
	if (any) wake(pipe);
}

/*
 * All queued messages are given back (EAGAIN), and each waiter queues its message again when it happens to run. On 6.1,
 * 16 messages in the order 3..18 came back as 17, 15, 14 .. 4, 3, 16, 5, 18: nearly reversed. Here all but the last are
 * reversed.
 */
static void turn_round(struct pipe *pipe)
{
	struct messages again = TAILQ_HEAD_INITIALIZER(again);
	struct message *last = TAILQ_LAST(&pipe->queue, messages);
	for (struct message *message; (message = TAILQ_FIRST(&pipe->queue));) {
		TAILQ_REMOVE(&pipe->queue, message, in_queue);
		if (message == last) TAILQ_INSERT_TAIL(&again, message, in_queue);
		else TAILQ_INSERT_HEAD(&again, message, in_queue);
	}
	for (struct message *message; (message = TAILQ_FIRST(&again));) {
		TAILQ_REMOVE(&again, message, in_queue);
		enqueue(pipe, message);
	}
}

/* rpc_close_pipes. */
static void end_pipe(struct pipe *pipe)
{
	bool any = false, was_open = pipe->readers > 0 || pipe->writers > 0;
	struct message *message, *next;
	struct file *file;
	for (message = TAILQ_FIRST(&pipe->flying); message; message = next) {
		next = TAILQ_NEXT(message, in_flight);
		if (message->state == READ && !(release_orphans && was_open)) continue;
		if (message->state == QUEUED) TAILQ_REMOVE(&pipe->queue, message, in_queue);
		if (message->state != READ) any = true;
		fail(pipe, message, "EPIPE");
	}
	LIST_FOREACH(file, &pipe->files, of_pipe) file->held = NULL;
	pipe->readers = pipe->writers = 0;
	pipe->timeout_at = 0;
	pipe->dead = true;
	if (any) wake(pipe);
}

static size_t read_message(struct file *file, size_t room, const unsigned char **from)
{
	struct pipe *pipe = file->pipe;
	struct message *message = file->held;
	if (!message) {
		message = TAILQ_FIRST(&pipe->queue);
		if (!message) return 0;
		TAILQ_REMOVE(&pipe->queue, message, in_queue);
		message->state = HELD;
		file->held = message;
	}
	size_t size = message->size - message->copied;
	if (size > room) size = room;
	*from = message->bytes + message->copied;
	message->copied += size;
	if (message->copied == message->size) {
		message->state = READ;
		file->held = NULL;
	}
	return size;
}

static uint16_t get16(const unsigned char *from) { uint16_t value; memcpy(&value, from, sizeof value); return value; }
static uint32_t get32(const unsigned char *from) { uint32_t value; memcpy(&value, from, sizeof value); return value; }

static struct message *in_flight(struct pipe *pipe, uint32_t xid)
{
	struct message *message;
	TAILQ_FOREACH(message, &pipe->flying, in_flight)
		if (message->xid == xid) return message;
	return NULL;
}

/* cld_pipe_downcall. @returns 0, or an error. */
static int take_answer(struct pipe *pipe, const unsigned char *from, size_t size)
{
	if (size != pipe->size) return EINVAL;
	struct message *message = in_flight(pipe, get32(from + XID));
	int16_t status = get16(from + STATUS);
	if (!message || (release_orphans && message->state != READ)) return EINVAL;
	if (status == -EINPROGRESS) {
		if (from[COMMAND] != GRACE_START) return EFAULT;
		/* Newer kernels refuse a message that is too long; older ones read beyond it. */
		uint16_t length = get16(from + BODY);
		if (*refused && !strncmp((const char *)from + BODY + 2, refused, strlen(refused))) return EINVAL;
		if (length == 0 || length > 1024 || (size == SIZE_V2 && from[HASH_LENGTH] > 32)) return EINVAL;
		say("entry %s ", message->id);
		say_hex(from, size);
		is_listing = true;
		return 0;
	}
	if (message->state != READ) {
		say("early %s\n", message->id);
		struct file *file;
		LIST_FOREACH(file, &pipe->files, of_pipe)
			if (file->held == message) file->held = NULL;
		if (message->state == QUEUED) TAILQ_REMOVE(&pipe->queue, message, in_queue);
	}
	if (message->bytes[COMMAND] == GET_VERSION && status == 0) pipe->size = from[BODY] < 2 ? SIZE_V1 : SIZE_V2;
	say("answer %s %lld ", message->id, now_ns() - message->since);
	say_hex(from, size);
	finish(pipe, message);
	return 0;
}

/* ---- Files, as FUSE asks for them. ---- */

static void status_of(fuse_ino_t number, struct stat *status)
{
	memset(status, 0, sizeof *status);
	status->st_ino = number;
	status->st_nlink = 1;
	status->st_mode = number == FUSE_ROOT_ID ? S_IFDIR | 0755 : number == DIRECTORY ? S_IFDIR | 0555 : S_IFREG | 0600;
}

static struct fuse_entry_param entry_of(fuse_ino_t number)
{
	struct fuse_entry_param entry = { .ino = number };
	status_of(number, &entry.attr);
	return entry;
}

static struct pipe *pipe_numbered(fuse_ino_t number)
{
	struct pipe *pipe;
	LIST_FOREACH(pipe, &pipes, all)
		if (pipe->number == number) return pipe;
	return NULL;
}

static bool is_pipes_name(fuse_ino_t parent, const char *name) { return parent == DIRECTORY && !strcmp(name, "cld"); }
static bool is_parents(fuse_req_t request) { return fuse_req_ctx(request)->pid == getppid(); }

static void on_init(void *unused, struct fuse_conn_info *connection)
{
	(void)unused;
	/* FUSE reports a close in the background. If there were more at once, some would be reported after the next open. */
	connection->max_background = 4096;
}

static void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	if (parent == FUSE_ROOT_ID && !strcmp(name, "nfsd")) entry = entry_of(DIRECTORY);
	else if (parent == FUSE_ROOT_ID && !strcmp(name, "make")) entry = entry_of(MAKE);
	else if (is_pipes_name(parent, name) && present) entry = entry_of(present->number);
	else { fuse_reply_err(request, ENOENT); return; }
	fuse_reply_entry(request, &entry);
}

static void on_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *unused)
{
	(void)unused;
	struct stat status;
	status_of(number, &status);
	fuse_reply_attr(request, &status, 0);
}

static void on_setattr(fuse_req_t request, fuse_ino_t number, struct stat *wanted, int which, struct fuse_file_info *unused)
{
	(void)wanted;
	(void)which;
	on_getattr(request, number, unused);
}

static void on_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t from, struct fuse_file_info *unused)
{
	(void)unused;
	char text[256];
	struct stat status;
	size_t length = 0;
	const char *name = number == FUSE_ROOT_ID ? "nfsd" : "cld";
	status_of(number == FUSE_ROOT_ID ? DIRECTORY : present ? present->number : 0, &status);
	if (from == 0 && (number == FUSE_ROOT_ID || present))
		length = fuse_add_direntry(request, text, sizeof text, name, &status, 1);
	fuse_reply_buf(request, text, length < size ? length : size);
}

static void open_file(struct pipe *pipe, struct fuse_file_info *info)
{
	struct file *file = calloc(1, sizeof *file);
	if (!file) exit(3);
	int access = info->flags & O_ACCMODE;
	file->pipe = pipe;
	file->reads = access != O_WRONLY;
	file->writes = access != O_RDONLY;
	pipe->readers += file->reads;
	pipe->writers += file->writes;
	LIST_INSERT_HEAD(&pipe->files, file, of_pipe);
	info->fh = (uintptr_t)file;
	info->direct_io = true;
	say("open %d %d %d\n", (int)(pipe->number - FIRST_PIPE + 1), pipe->readers, pipe->writers);
}

static struct file *file_of(struct fuse_file_info *info) { return (struct file *)(uintptr_t)info->fh; }

/* The server starts. The new name's inode is a new one: FUSE wants a file of the same type, not the same file. */
static void on_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t parent, const char *name)
{
	if (number != MAKE || !is_pipes_name(parent, name) || !is_parents(request)) { fuse_reply_err(request, EPERM); return; }
	struct pipe *pipe = calloc(1, sizeof *pipe);
	if (!pipe) exit(3);
	pipe->number = next_number++;
	pipe->size = SIZE_V1;
	TAILQ_INIT(&pipe->queue);
	TAILQ_INIT(&pipe->flying);
	LIST_INSERT_HEAD(&pipes, pipe, all);
	present = pipe;
	struct fuse_entry_param entry = entry_of(pipe->number);
	fuse_reply_entry(request, &entry);
}

static void on_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	if (!is_pipes_name(parent, name) || !present) { fuse_reply_err(request, ENOENT); return; }
	if (!is_parents(request)) { fuse_reply_err(request, EPERM); return; }
	end_pipe(present);
	present = NULL;
	fuse_reply_err(request, 0);
}

static void on_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
	struct pipe *pipe = pipe_numbered(number);
	if (!pipe || pipe->dead) { fuse_reply_err(request, ENXIO); return; }
	open_file(pipe, info);
	fuse_reply_open(request, info);
}

static void on_release(fuse_req_t request, fuse_ino_t unused, struct fuse_file_info *info)
{
	(void)unused;
	struct file *file = file_of(info);
	struct pipe *pipe = file->pipe;
	if (!pipe->dead) {
		if (file->held) enqueue(pipe, file->held);
		pipe->writers -= file->writes;
		pipe->readers -= file->reads;
		if (file->reads && pipe->readers == 0) turn_round(pipe);
		if (release_orphans && pipe->readers == 0 && pipe->writers == 0)
			for (struct message *message = TAILQ_FIRST(&pipe->flying), *next; message; message = next) {
				next = TAILQ_NEXT(message, in_flight);
				if (message->state == READ) fail(pipe, message, "EPIPE");
			}
		say("open %d %d %d\n", (int)(pipe->number - FIRST_PIPE + 1), pipe->readers, pipe->writers);
	}
	LIST_REMOVE(file, of_pipe);
	if (file->waiter) fuse_pollhandle_destroy(file->waiter);
	free(file);
	fuse_reply_err(request, 0);
}

static void on_read(fuse_req_t request, fuse_ino_t unused, size_t size, off_t from, struct fuse_file_info *info)
{
	(void)unused;
	(void)from;
	struct file *file = file_of(info);
	if (file->pipe->dead) { fuse_reply_err(request, EPIPE); return; }
	const unsigned char *bytes = NULL;
	size_t length = read_message(file, size, &bytes);
	fuse_reply_buf(request, (const char *)bytes, length);
}

static void on_write(fuse_req_t request, fuse_ino_t unused, const char *bytes, size_t size, off_t at, struct fuse_file_info *info)
{
	(void)unused;
	(void)at;
	struct file *file = file_of(info);
	/* The kernel takes what writev(2) brings piece by piece, until it refuses one (do_loop_readv_writev). */
	size_t each = size % file->pipe->size == 0 ? file->pipe->size : size, taken = 0;
	int error = 0;
	do {
		error = file->pipe->dead ? EPIPE : take_answer(file->pipe, (const unsigned char *)bytes + taken, each);
		if (!error) taken += each;
	} while (!error && taken < size);
	if (taken == 0) fuse_reply_err(request, error);
	else fuse_reply_write(request, taken);
}

static void on_poll(fuse_req_t request, fuse_ino_t unused, struct fuse_file_info *info, struct fuse_pollhandle *waiter)
{
	(void)unused;
	struct file *file = file_of(info);
	if (waiter) {
		if (file->waiter) fuse_pollhandle_destroy(file->waiter);
		file->waiter = waiter;
	}
	unsigned ready = POLLOUT | POLLWRNORM;
	if (file->pipe->dead) ready |= POLLERR | POLLHUP;
	else if (file->held || !TAILQ_EMPTY(&file->pipe->queue)) ready |= POLLIN | POLLRDNORM;
	fuse_reply_poll(request, ready);
}

static const struct fuse_lowlevel_ops operations = {
	.init = on_init, .lookup = on_lookup, .getattr = on_getattr, .setattr = on_setattr, .readdir = on_readdir,
	.link = on_link, .unlink = on_unlink, .open = on_open, .release = on_release,
	.read = on_read, .write = on_write, .poll = on_poll,
};

/* ---- Commands. ---- */

static unsigned digit(char hex) { return hex <= '9' ? hex - '0' : hex - 'a' + 10; }

/*
 * nfsd threads call cld_pipe_upcall. A daemon that looks sees all messages, or none. A message's time begins when it is
 * queued: to understand the command is no part of it.
 */
static void queue_all(char *words)
{
	struct pipe *pipe = present;
	for (char *id, *hex; (id = strsep(&words, " ")) && (hex = strsep(&words, " "));) {
		struct message *message = calloc(1, sizeof *message);
		if (!message) exit(3);
		snprintf(message->id, sizeof message->id, "%s", id);
		for (; message->size < LARGEST && hex[0] && hex[1]; hex += 2) message->bytes[message->size++] = digit(hex[0]) << 4 | digit(hex[1]);
		if (!pipe) {
			say("failed %s EPIPE\n", id);
			free(message);
			continue;
		}
		while (in_flight(pipe, pipe->next_xid)) pipe->next_xid++;
		message->xid = pipe->next_xid++;
		memcpy(message->bytes + XID, &message->xid, sizeof message->xid);
		message->since = now_ns();
		TAILQ_INSERT_TAIL(&pipe->flying, message, in_flight);
		say("queued %s %u\n", id, message->xid);
		enqueue(pipe, message);
	}
}

static void tell_state(void)
{
	static const char *const names[] = { "queued", "held", "unanswered" };
	say("state %d %d", present ? present->readers : 0, present ? present->writers : 0);
	struct message *message;
	for (int state = QUEUED; state <= READ; state++) {
		say(" %s", names[state]);
		if (!present) continue;
		/* The queued messages, in the order in which they would be read. */
		if (state == QUEUED) TAILQ_FOREACH(message, &present->queue, in_queue) say(" %u", message->xid);
		else TAILQ_FOREACH(message, &present->flying, in_flight) if ((int)message->state == state) say(" %u", message->xid);
	}
	say("\n");
}

/* @returns whether there may be more. */
static bool obey(void)
{
	static char *line;
	static size_t length, room;
	if (length + 65536 > room) {
		room = (length + 65536) * 2;
		line = realloc(line, room);
		if (!line) exit(3);
	}
	ssize_t more = read(STDIN_FILENO, line + length, 65536);
	if (more <= 0) return more < 0 && errno == EINTR;
	length += more;
	char *from = line, *end;
	while ((end = memchr(from, '\n', line + length - from))) {
		*end = 0;
		if (!strncmp(from, "queue ", 6)) queue_all(from + 6);
		else if (!strcmp(from, "state")) tell_state();
		else if (!strncmp(from, "negotiated ", 11) && present) {
			present->size = atol(from + 11);
			present->next_xid = 2;
		}
		else say("unknown command\n");
		from = end + 1;
	}
	length -= from - line;
	memmove(line, from, length);
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 5) return 2;
	refused = argv[4];
	unread_ns = atoll(argv[2]) * 1000000;
	release_orphans = !strcmp(argv[3], "release");
	char *words[] = { argv[0], "-o", "fsname=pipe-end", NULL };
	struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
	struct fuse_session *session = fuse_session_new(&arguments, &operations, sizeof operations, NULL);
	if (!session || fuse_session_mount(session, argv[1]) != 0) return 1;
	fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
	say("mounted\n");
	struct fuse_buf buffer = { 0 };
	for (bool more = true; more && !fuse_session_exited(session);) {
		deliver();
		struct pollfd wait[] = { { fuse_session_fd(session), POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 }, { STDOUT_FILENO, said_from < said_to && !is_listing ? POLLOUT : 0, 0 } };
		long long at = present ? present->timeout_at : 0, left = at - now_ns();
		int ready = poll(wait, 3, at == 0 ? -1 : left <= 0 ? 0 : left / 1000000 + 1);
		if (at != 0 && now_ns() >= at) time_out(present);
		if (ready <= 0) continue;
		if (wait[0].revents) {
			int length = fuse_session_receive_buf(session, &buffer);
			if (length > 0) fuse_session_process_buf(session, &buffer);
			else if (length != -EINTR && length != -EAGAIN) break;
		}
		if (wait[1].revents) more = obey();
		if (wait[2].revents & POLLERR) break;
	}
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}
