/*
 * What poll(2) and epoll(7) say of a pipe: `ready PIPE`. A line on stdin asks, a line on stdout answers with the events
 * in hex:
 *   poll        what poll(2) says now, of POLLIN, POLLERR and POLLHUP
 *   epoll MS    what an epoll that knows the pipe from the beginning says within so many ms
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>

int main(int argc, char **argv)
{
	if (argc != 2) return 2;
	int fd = open(argv[1], O_RDWR | O_NONBLOCK | O_CLOEXEC), events = epoll_create1(0), ms;
	struct epoll_event wanted = { .events = EPOLLIN }, seen = { 0 };
	if (fd < 0 || epoll_ctl(events, EPOLL_CTL_ADD, fd, &wanted) < 0) return perror(argv[1]), 1;
	char line[64];
	for (puts("open"), fflush(stdout); fgets(line, sizeof line, stdin); fflush(stdout)) {
		struct pollfd one = { fd, POLLIN, 0 };
		if (sscanf(line, "epoll %d", &ms) == 1) printf("%x\n", epoll_wait(events, &seen, 1, ms) > 0 ? seen.events : 0);
		else printf("%x\n", poll(&one, 1, 0) > 0 ? one.revents : 0);
	}
	return 0;
}
