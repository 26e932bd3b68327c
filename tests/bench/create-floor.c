/*
 * The least work of a create: create-floor DIRECTORY OWNER
 *
 * One symbolic link and one fsync. It reads no configuration, looks at nothing, decides nothing, and drops no rights.
 */
#include <fcntl.h>
#include <unistd.h>

int main(int count, char **words)
{
  int directory = count == 3 ? open(words[1], O_RDONLY | O_DIRECTORY) : -1;
  return directory < 0 || symlinkat("-", directory, words[2]) || fsync(directory);
}
