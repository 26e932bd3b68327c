/*
 * Receives datagrams, for the tests of connect(): `datagrams NAME` (with '@' first: a name without a file). It prints a
 * line when it listens, and then a line for each message.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int count, char **words)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (count != 2 || strlen(words[1]) >= sizeof address.sun_path)
    return 2;
  memcpy(address.sun_path, words[1], strlen(words[1]));
  if (words[1][0] == '@')
    address.sun_path[0] = 0;
  int listening = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (bind(listening, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(words[1]))) < 0)
    return 1;
  puts("listens");
  for (;;) {
    char message[100];
    fflush(stdout);
    ssize_t length = recv(listening, message, sizeof message, 0);
    if (length <= 0)
      return 1;
    printf("%.*s\n", (int)length, message);
  }
}
