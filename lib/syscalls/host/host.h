/*
 * The program that the kernel starts: QuickJS-ng, one table of system calls, and the upcalls' bytecode.
 *
 * Words are bytes. In the engine each character of a word stands for one byte (0 to 255), so what is no UTF-8 comes
 * back as it went: argv, environment, names in directories, texts of links.
 */
#ifndef HOST_H
#define HOST_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <quickjs.h>

#define UNUSED __attribute__((unused))

/* Exit statuses, as lib/failure.ts forms them. */
enum { storage_failed = 256 - EREMOTEIO, no_memory = 256 - ENOMEM };

/* The program's last words, for the log or stderr. Needs nothing of the engine. Returns the status. */
int failed(int status, const char *why);

/*
 * A word as the kernel is told it. One that is longer is cut at PATH_MAX bytes, which the kernel refuses
 * (ENAMETOOLONG).
 */
struct word {
  char bytes[PATH_MAX + 1];
};

/*
 * Fills in a word from the engine. Returns false and throws EINVAL for what can't be said: a NUL, a character past 255.
 */
bool word_from(JSContext *engine, JSValueConst text, struct word *word);

/* Whether no byte is past 127: then bytes and the engine's spelling are the same. */
bool is_ascii(const char *bytes, size_t length);

/* A text's bytes. Returns false and throws where it does not fit, and for a character past 255. */
bool bytes_from(JSContext *engine, JSValueConst text, uint8_t *into, size_t capacity, size_t *length);

/*
 * The same wherever there is room for it: where the text is ASCII, its own. Returns NULL and throws for a character past
 * 255; else JS_FreeCString frees it.
 */
const char *bytes_of(JSContext *engine, JSValueConst text, size_t *length);

/* The engine's text for so many bytes. */
JSValue text_from(JSContext *engine, const char *bytes, size_t length);

/*
 * Gives an object a property, and takes the value over. Returns false where memory is short: an exception has been
 * thrown.
 */
bool set(JSContext *engine, JSValueConst object, const char *name, JSValue value);

/* What a call gave, as the engine's number: not negative, or the negated errno. */
JSValue answer(JSContext *engine, ssize_t result);

/*
 * The engine's number. What is no whole number of 32 bits is -1: no descriptor, and flags that the calls refuse. Only
 * openat(2) takes them, as O_PATH, O_DIRECTORY and O_NOFOLLOW: what it opens can be neither read nor written.
 */
int number(JSContext *engine, JSValueConst value);

/* A message with a place for a text: a number of two bytes for its length, and so much room for its own. */
struct form {
  uint8_t *message;
  size_t size, at, room;
};

/* Returns false and throws where a message has no such place. */
bool form_from(JSContext *engine, JSValueConst message, JSValueConst at, JSValueConst room, struct form *form);

/* So many bytes have been put into such a place. Zeros follow them where the last text was longer. */
void end_field(uint8_t *field, size_t length, size_t room);

/* The time of a clock. */
double milliseconds_of(clockid_t clock);

/* Is open from the beginning (O_PATH). */
extern int root_directory;

/* What geteuid(2) would answer. */
uid_t effective_user(void);

enum { checksum_length = 8 };

/* Fills in a checksum's digits. */
void checksum_of(const uint8_t *bytes, size_t length, char *digits);

/* Returns how many bytes a text, which a NUL follows, stands for; -1 for what percentEncode would not have written. */
ssize_t decoded(const char *spelled, size_t size, char *into);

/*
 * Before a directory is closed, or read by another call than `links` and `writeLinks`: no thread reads it from then on, and what one
 * has read is forgotten.
 */
void end_reading_ahead(int descriptor);

/* The table of lib/syscalls/calls.ts. */
JSValue system_calls(JSContext *engine);

/* A function of that table. */
#define CALL(name) \
  JSValue name(JSContext *engine UNUSED, JSValueConst this UNUSED, int count UNUSED, JSValueConst *given UNUSED)

/* Those that are in files of their own. */
CALL(call_confine);
CALL(call_links);
CALL(call_writeLinks);
CALL(call_readBeforehand);
CALL(call_endReadingBeforehand);
CALL(call_checksum);
CALL(call_sha256);
CALL(call_bytesInto);
CALL(call_textOf);
CALL(call_percentEncoded);
CALL(call_percentDecoded);
CALL(call_poll);
CALL(call_watch);
CALL(call_watchNames);
CALL(call_namesChanged);
CALL(call_endSignals);
CALL(call_connect);
CALL(call_flock);
CALL(call_hold);
CALL(call_isHeld);
CALL(call_isWrittenInPlace);

/* A script of the program, as bytecode. */
struct piece {
  const uint8_t *bytecode;
  size_t size;
};

/* Written by the build. The first piece is what every upcall runs; before it, an image has run what is beforehand. */
extern const struct piece program_beforehand;
extern const struct piece program_pieces[];
extern const int program_piece_count;

#endif
