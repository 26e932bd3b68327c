/*
 * Runs commands as the kernel runs its helper, and measures the time. Only vfork, execve and wait4 are in between.
 *
 *   launch ROUNDS COUNT PARALLEL FIRST PSS_MS STATUS COMMAND... [// COMMAND...]...
 *
 * Each round runs each command in turn (A B A B ...): COUNT processes of it, PARALLEL at a time. The words before a
 * command that contain a '=' are its whole environment. An '@' in a word stands for a number of seven digits, which
 * counts up from FIRST. It is written in the hex digits of its ASCII characters, as the kernel writes client owners. A
 * '%' stands for only its last digit. The processes have no open descriptors, and / is their directory.
 *
 * There is a line for each round and command: the index of the command, the nanoseconds of real time, the largest
 * resident set in kB, the sum of the proportional sets in kB that the processes had PSS_MS milliseconds after their
 * start, when they are killed (0: not asked), how many ended with another status than STATUS, and the nanoseconds of
 * the processor.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WORDS = 64, MOST_COMMANDS = 64, MOST_PARALLEL = 1024, LONGEST_WORD = 4096 };

struct command { char **words; int count; };

static long long now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void numbered(char *to, const char *word, long number)
{
	char digits[32], *end = to + LONGEST_WORD - 64;
	for (; *word && to < end; word++) {
		if (*word != '@' && *word != '%') { *to++ = *word; continue; }
		snprintf(digits, sizeof digits, "%07ld", *word == '@' ? number : number % 10);
		for (const char *d = digits; *d; d++) { *to++ = '3'; *to++ = *d; }
	}
	*to = 0;
}

/* The words are made before the time is taken. */
static pid_t start(const struct command *c, long number)
{
	static char words[MOST_WORDS][LONGEST_WORD];
	char *argv[MOST_WORDS + 1], *envp[MOST_WORDS + 1];
	int argc = 0, envc = 0;
	for (int i = 0; i < c->count; i++) {
		numbered(words[i], c->words[i], number);
		if (argc == 0 && strchr(words[i], '=')) envp[envc++] = words[i];
		else argv[argc++] = words[i];
	}
	argv[argc] = envp[envc] = NULL;
	pid_t child = vfork();
	if (child == 0) {
		close(0); close(1); close(2);
		execve(argv[0], argv, envp);
		_exit(127);
	}
	return child;
}

static long pss_kb(pid_t pid)
{
	char path[64], line[256];
	long kb = 0;
	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
	FILE *file = fopen(path, "re");
	if (!file) return 0;
	while (fgets(line, sizeof line, file))
		if (sscanf(line, "Pss: %ld kB", &kb) == 1) break;
	fclose(file);
	return kb;
}

static void nap(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
}

int main(int argc, char **argv)
{
	if (argc < 8) return 2;
	long rounds = atol(argv[1]), count = atol(argv[2]), parallel = atol(argv[3]), number = atol(argv[4]);
	long pss_ms = atol(argv[5]);
	int wanted = atoi(argv[6]), commands = 1;
	struct command command[MOST_COMMANDS] = { { argv + 7, 0 } };
	for (int i = 7; i < argc; i++) {
		if (strcmp(argv[i], "//")) { command[commands - 1].count++; continue; }
		if (commands == MOST_COMMANDS) return 2;
		command[commands++] = (struct command){ argv + i + 1, 0 };
	}
	for (int i = 0; i < commands; i++) if (command[i].count >= MOST_WORDS) return 2;
	if (parallel > MOST_PARALLEL || chdir("/") != 0) return 2;
	/* Closes every descriptor on execve: what the kernel starts has none at all. */
	for (int fd = 0; fd < 1024; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);

	for (long round = 0; round < rounds; round++, number += count)
		for (int i = 0; i < commands; i++) {
			long started = 0, ended = 0, peak = 0, pss = 0, bad = 0;
			long long busy = 0;
			pid_t running[MOST_PARALLEL];
			long long began = now_ns();
			while (ended < count) {
				for (; started < count && started - ended < parallel; started++) {
					pid_t child = start(&command[i], number + started);
					if (child < 0) return 3;
					if (pss_ms) running[started % MOST_PARALLEL] = child;
				}
				if (pss_ms && ended == 0) {
					nap(pss_ms);
					for (long p = 0; p < started; p++) pss += pss_kb(running[p]);
					for (long p = 0; p < started; p++) kill(running[p], SIGKILL);
				}
				int status;
				struct rusage used;
				if (wait4(-1, &status, 0, &used) < 0) return 3;
				ended++;
				if (used.ru_maxrss > peak) peak = used.ru_maxrss;
				busy += (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000LL
					+ (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000LL;
				if (!WIFEXITED(status) || WEXITSTATUS(status) != wanted) bad++;
			}
			printf("%d %lld %ld %ld %ld %lld\n", i, now_ns() - began, peak, pss, bad, busy);
			fflush(stdout);
		}
	return 0;
}
