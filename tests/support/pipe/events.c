/*
 * What inotify(7) says of a directory: `events DIRECTORY`. A line on stdin asks, a line on stdout answers with all
 * events since the last one, each as its mask in hex and the name.
 */
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 2) return 2;
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch < 0 || inotify_add_watch(watch, argv[1], IN_ALL_EVENTS | IN_ONLYDIR) < 0) return perror(argv[1]), 1;
	char line[64];
	static char bytes[65536] __attribute__((aligned(__alignof__(struct inotify_event))));
	for (puts("watches"), fflush(stdout); fgets(line, sizeof line, stdin); puts(""), fflush(stdout)) {
		ssize_t length = read(watch, bytes, sizeof bytes);
		for (char *from = bytes; from < bytes + length;) {
			struct inotify_event *event = (struct inotify_event *)from;
			printf("%x %.*s;", event->mask, (int)event->len, event->name);
			from += sizeof *event + event->len;
		}
	}
	return 0;
}
