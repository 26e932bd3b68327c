/*
 * The image: the engine's memory after its start, kept in the executable.
 *
 * Starting the engine and making the program's functions is the same work in every process. So the build does it once
 * (lib/build/image.ts). It links the program twice: the first has space for an image, and writes it; the second has the
 * image. Nothing else differs, so each thing has the same place in both, counted from where the program is loaded.
 *
 * A program may have none: one that can't be run where it is built, or for a sanitizer. It starts the engine itself.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* Where the program is loaded: the linker's. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

/* As all types want to be aligned; and the kinds of blocks, four to each power of two. */
enum { unit = 16, kinds = 4 * 8 * sizeof(size_t) };

/* Before each block of memory. */
struct header {
  _Alignas(unit) size_t size;
  /* Of those that are free. */
  struct header *next;
};

struct started;

/*
 * The first page of it is what memory.c and host.c must find again. The blocks of malloc(3) follow.
 */
extern struct image {
  struct started *started;
  char *fresh, *fresh_end;
  struct header *free_blocks[kinds];
} image;
extern char image_blocks[], image_end[];

/* One bit for each word of the image: whether it is an address, counted from the program's beginning. */
extern const uint64_t image_addresses[];

enum { image_none, image_wanted, image_made };
extern const uint8_t image_state;

/*
 * Begins with malloc(3), and makes the image this process's. Before the image is used; whoever asks for memory before
 * main has begun it. A sanitizer has a malloc(3) of its own, and no image.
 */
void begin_memory(void) __attribute__((weak));

/* From now on, memory is taken from the image's blocks. What was taken before is no part of it. */
void begin_image(void);

/* Makes the image's addresses those of this process. */
void move_image(void);

/*
 * Writes the image to stdout, after three words: where the program begins, how many bytes are used, where the stack is.
 */
int write_image(void);

#endif
