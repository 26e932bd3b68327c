/*
 * The least that a tracker at the pipe can do: pipe-floor PIPES STATE
 *
 * A Create makes one symbolic link and syncs. A Remove removes it and syncs. The list of GraceStart is in memory, with
 * as many names as STATE/names says. The last byte of a message is read only after the change is durable, as any
 * tracker must do it: if it dies before, the kernel asks again. The program reads no records, decides nothing, and ends
 * at any error.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { create, remove_, check, grace_done, grace_start, get_version };
enum { in_progress = -115, header = 8, owner_at = 10 };

static char pipe_path[4096];
static char (*names)[32];
static int name_count;

static int put(int file, uint8_t *message, size_t size, int16_t status)
{
  memcpy(message + 2, &status, sizeof status);
  return write(file, message, size) == (ssize_t)size;
}

static void read_names(const char *state)
{
  char path[4096];
  snprintf(path, sizeof path, "%s/names", state);
  FILE *file = fopen(path, "r");
  if (!file || fscanf(file, "%d", &name_count) != 1)
    name_count = 0;
  names = calloc((size_t)name_count + 1, sizeof *names);
  for (int at = 0; names && at < name_count; at++)
    snprintf(names[at], sizeof names[at], "Linux NFSv4.1 host%07d", at);
  if (file)
    fclose(file);
}

static int tell_names(int file, const uint8_t *message, size_t size)
{
  uint8_t entry[2048] = { 0 };
  memcpy(entry, message, header);
  for (int at = 0; at < name_count; at++) {
    uint16_t length = (uint16_t)strlen(names[at]);
    memcpy(entry + header, &length, sizeof length);
    memcpy(entry + owner_at, names[at], length);
    if (!put(file, entry, size, in_progress))
      return 0;
  }
  return 1;
}

/* Answers one message. Returns 0, if the pipe is gone. */
static int answer(int file, int records, uint8_t *message, size_t read_so_far)
{
  size_t size = message[0] == 1 ? 1034 : 1067;
  char name[1025] = "";
  uint16_t length;
  memcpy(&length, message + header, sizeof length);
  memcpy(name, message + owner_at, length > 1024 ? 1024 : length);
  switch (message[1]) {
  case create:
    if (symlinkat("v2,session=?,recorded=1795328616,check=00000000", records, name) < 0)
      return 0;
    fsync(records);
    break;
  case remove_:
    if (unlinkat(records, name, 0) < 0)
      return 0;
    fsync(records);
    break;
  case grace_start:
    if (!tell_names(file, message, size))
      return 0;
  }
  if (read_so_far < size && read(file, message + read_so_far, size - read_so_far) <= 0)
    return 0;
  if (message[1] == get_version)
    message[header] = 2;
  return put(file, message, size, 0);
}

static int is_current(int file)
{
  struct stat held, there;
  return fstat(file, &held) == 0 && stat(pipe_path, &there) == 0 && held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

static void serve(int file, int records)
{
  uint8_t message[4096];
  for (;;) {
    struct pollfd asked = { .fd = file, .events = POLLIN };
    int ready = poll(&asked, 1, 20);
    if (ready == 0 && !is_current(file))
      return;
    if (ready <= 0)
      continue;
    /* The first message has version 1, and all later ones have version 2. */
    ssize_t size = asked.revents & POLLIN ? read(file, message, 1066) : -1;
    if (size < 0 || (size > 0 && !answer(file, records, message, (size_t)size)))
      return;
  }
}

int main(int count, char **words)
{
  if (count != 3)
    return 2;
  char records[4096];
  snprintf(pipe_path, sizeof pipe_path, "%s/nfsd/cld", words[1]);
  snprintf(records, sizeof records, "%s/records", words[2]);
  mkdir(records, 0700);
  int directory = open(records, O_RDONLY | O_DIRECTORY);
  read_names(words[2]);
  for (;;) {
    int file = open(pipe_path, O_RDWR | O_NONBLOCK);
    if (file >= 0) {
      serve(file, directory);
      close(file);
    }
    usleep(5000);
  }
}
