/*
 * Starts the engine, hands it the table of system calls and the words of this process, and runs the upcalls' bytecode.
 *
 * The program ends itself with its status (exit in the table). What ends here has failed: a line says why, and the
 * status is never 0.
 */
#include "host.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * More than any upcall takes, by far: what takes more is a mistake, and ends with a line instead of an exhausted
 * machine.
 */
static const int memory_limit = 64 << 20;
static const size_t stack_limit = 512 << 10;
/* An upcall is over before a search for cycles would pay. */
static const size_t collect_from = 16 << 20;

extern char **environ;

/* This process's, argv[0] too. */
static int word_count;
static char **all_words;

/* Whether the words ask for stderr: -f, alone or among -d, or --foreground. */
static bool in_foreground(void)
{
  for (char **word = all_words; *word; word++)
    if (strcmp(*word, "--foreground") == 0 ||
        (**word == '-' && strchr(*word, 'f') && (*word)[1 + strspn(*word + 1, "df")] == 0))
      return true;
  return false;
}

int failed(int status, const char *why)
{
  /* A record of the kernel's log holds about 1000 bytes. Facility "daemon", priority "error". */
  char line[900];
  int length = snprintf(line, sizeof line - 1, "<%d>nfsd-userland-helper: %s", 3 << 3 | 3, why);
  if (length > (int)sizeof line - 2)
    length = sizeof line - 2;
  for (int at = 0; at < length; at++)
    if (line[at] < ' ' || line[at] > '~')
      line[at] = '?';
  line[length++] = '\n';
  int log = image_state == image_wanted || in_foreground() ? -1 : openat(AT_FDCWD, "/dev/kmsg", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  const char *text = strchr(line, '>') + 1;
  if (log < 0 || write(log, line, (size_t)length) < 0)
    /* Where nobody is listening, the status says it. */
    if (write(STDERR_FILENO, text, (size_t)(line + length - text)) < 0)
      return status;
  return status;
}

/* Ends with the exception that left the program. */
static int failed_by_exception(JSContext *engine)
{
  JSValue thrown = JS_GetException(engine);
  JSValue stack = JS_GetPropertyStr(engine, thrown, "stack");
  const char *message = JS_ToCString(engine, thrown);
  const char *where = JS_IsString(stack) ? JS_ToCString(engine, stack) : NULL;
  char why[800];
  snprintf(why, sizeof why, "a bug: %s %s", message ? message : "an exception that is no text", where ? where : "");
  return failed(storage_failed, why);
}

/*
 * The engine's memory. Where there is no more, the program ends at once, as if killed, which is safe anywhere. The
 * engine itself would go on: some of its functions are made when they are first called, and where there was no memory
 * for one, it is undefined from then on.
 */
static size_t in_use;

static void *counted(void *memory)
{
  in_use += malloc_usable_size(memory);
  if (!memory || in_use > (size_t)memory_limit)
    _exit(failed(no_memory, "out of memory"));
  return memory;
}

static void *engine_calloc(void *opaque UNUSED, size_t count, size_t size)
{
  return counted(calloc(count, size));
}

static void *engine_malloc(void *opaque UNUSED, size_t size)
{
  return counted(malloc(size));
}

static void engine_free(void *opaque UNUSED, void *memory)
{
  in_use -= malloc_usable_size(memory);
  free(memory);
}

static void *engine_realloc(void *opaque UNUSED, void *memory, size_t size)
{
  in_use -= malloc_usable_size(memory);
  return counted(realloc(memory, size));
}

static size_t engine_usable_size(const void *memory)
{
  return malloc_usable_size((void *)memory);
}

static const JSMallocFunctions memory_functions = { engine_calloc, engine_malloc, engine_free, engine_realloc, engine_usable_size };

/*
 * What was relocated when the program was started can't be written from now on. glibc's start sees to that for a static
 * program, musl's does not.
 */
static bool protect_relocated(void)
{
#ifndef __GLIBC__
  uintptr_t base = (uintptr_t)__ehdr_start, page = getauxval(AT_PAGESZ);
  const ElfW(Phdr) *part = (const void *)(base + ((const ElfW(Ehdr) *)base)->e_phoff);
  for (; part->p_type != PT_GNU_RELRO; part++)
    ;
  uintptr_t begin = (base + part->p_vaddr) & -page, end = (base + part->p_vaddr + part->p_memsz) & -page;
  return mprotect((void *)begin, end - begin, PROT_READ) == 0;
#else
  return true;
#endif
}

int root_directory;

/*
 * The kernel starts a helper without descriptors 0, 1 and 2. Whatever is opened first would become one of them, and a
 * line for stderr would go into a file. So they are taken by what nobody can read or write. Returns whether none of
 * them can be opened from now on. What is opened last stays open: confine.c asks for the root.
 *
 * Where the limit leaves no descriptor at all, none can be opened later either. The program goes on: a start must leave
 * its mark, which needs none.
 */
static bool occupy_standard_descriptors(void)
{
  do
    root_directory = openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC);
  while (root_directory >= 0 && root_directory <= STDERR_FILENO);
  return root_directory >= 0 || errno == EMFILE;
}

/*
 * What the upcalls' code uses of the language. No Date, no Promise, no Proxy, no eval of text: starting them would take
 * time.
 */
static bool add_intrinsics(JSContext *engine)
{
  return JS_AddIntrinsicBaseObjects(engine) == 0 && JS_AddIntrinsicRegExp(engine) == 0 && JS_AddIntrinsicMapSet(engine) == 0 &&
         JS_AddIntrinsicTypedArrays(engine) == 0;
}

static JSValue words_of(JSContext *engine, char **words)
{
  JSValue list = JS_NewArray(engine);
  for (uint32_t at = 0; words[at] && !JS_IsException(list); at++) {
    JSValue word = text_from(engine, words[at], strlen(words[at]));
    if (JS_IsException(word) || JS_DefinePropertyValueUint32(engine, list, at, word, JS_PROP_C_W_E) < 0)
      return JS_EXCEPTION;
  }
  return list;
}

/* By name. An object without a prototype: a variable may have any name. */
static JSValue environment_of(JSContext *engine)
{
  JSValue variables = JS_NewObjectProto(engine, JS_NULL);
  for (char **variable = environ; *variable && !JS_IsException(variables); variable++) {
    size_t length = strcspn(*variable, "=");
    if ((*variable)[length] == 0)
      continue;
    JSValue name = text_from(engine, *variable, length);
    JSValue value = text_from(engine, *variable + length + 1, strlen(*variable + length + 1));
    if (JS_IsException(name) || JS_IsException(value))
      return JS_EXCEPTION;
    JSAtom key = JS_ValueToAtom(engine, name);
    JS_FreeValue(engine, name);
    if (key == JS_ATOM_NULL || JS_DefinePropertyValue(engine, variables, key, value, JS_PROP_C_W_E) < 0)
      return JS_EXCEPTION;
    JS_FreeAtom(engine, key);
  }
  return variables;
}

/* handOn of lib/syscalls/host.ts. */
static JSValue hand_on(JSContext *engine, JSValueConst this UNUSED, int count UNUSED, JSValueConst *given)
{
  struct word program, script, name;
  if (!word_from(engine, given[0], &program) || !word_from(engine, given[1], &script) || !word_from(engine, given[2], &name))
    return JS_EXCEPTION;
  char **words = js_mallocz(engine, ((size_t)word_count + 2) * sizeof *words);
  if (!words)
    return JS_EXCEPTION;
  words[0] = name.bytes;
  words[1] = script.bytes;
  for (int at = 1; at < word_count; at++)
    words[at + 1] = all_words[at];
  execve(program.bytes, words, environ);
  int why = -errno;
  js_free(engine, words);
  return JS_NewInt32(engine, why);
}

/* Runs a piece. Returns the value of its last statement. */
static JSValue run_piece(JSContext *engine, const struct piece *piece)
{
  JSValue code = JS_ReadObject(engine, piece->bytecode, piece->size, JS_READ_OBJ_BYTECODE);
  return JS_IsException(code) ? code : JS_EvalFunction(engine, code);
}

/* read of lib/syscalls/host.ts. */
static JSValue read_later(JSContext *engine, JSValueConst this UNUSED, int count UNUSED, JSValueConst *given)
{
  int wanted = number(engine, given[0]);
  if (wanted < 0 || wanted >= program_piece_count)
    return JS_ThrowRangeError(engine, "no piece %d of this program", wanted);
  return run_piece(engine, &program_pieces[wanted]);
}

/* What an image keeps: the engine, `host`, and the program, a function that is the value of the first piece. */
struct started {
  JSRuntime *runtime;
  JSContext *engine;
  JSValue host;
  JSValue program;
  size_t in_use;
};

/*
 * The same in every process: nothing of it may depend on words, variables, time, or place. NULL where there is no
 * memory.
 */
static struct started *start(void)
{
  struct started *started = calloc(1, sizeof *started);
  JSRuntime *runtime = started ? JS_NewRuntime2(&memory_functions, NULL) : NULL;
  JSContext *engine = runtime ? JS_NewContextRaw(runtime) : NULL;
  if (!engine)
    return NULL;
  JS_SetMaxStackSize(runtime, stack_limit);
  JS_SetGCThreshold(runtime, collect_from);
  JSValue host = add_intrinsics(engine) ? JS_NewObject(engine) : JS_EXCEPTION;
  JSValue global = JS_GetGlobalObject(engine);
  bool done = !JS_IsException(host) &&
              set(engine, host, "calls", system_calls(engine)) &&
              set(engine, host, "engine", JS_NewString(engine, JS_GetVersion())) &&
              set(engine, host, "read", JS_NewCFunction(engine, read_later, "read", 1)) &&
              set(engine, host, "handOn", JS_NewCFunction(engine, hand_on, "handOn", 3)) &&
              set(engine, global, "host", JS_DupValue(engine, host));
  JS_FreeValue(engine, global);
  if (done && image_state == image_wanted)
    done = !JS_IsException(run_piece(engine, &program_beforehand));
  *started = (struct started){ runtime, engine, host, done ? run_piece(engine, program_pieces) : JS_EXCEPTION, in_use };
  return started;
}

/* Runs the program, which finds as `host` what lib/syscalls/host.ts says. */
static JSValue run(struct started *started)
{
  JSContext *engine = started->engine;
  if (JS_IsException(started->program) ||
      !set(engine, started->host, "words", words_of(engine, all_words + 1)) ||
      !set(engine, started->host, "environment", environment_of(engine)))
    return JS_EXCEPTION;
  return JS_Call(engine, started->program, JS_UNDEFINED, 0, NULL);
}

int main(int count, char **words)
{
  /* Before Linux 5.18, a program may be started without a name of its own. */
  static char *no_words[] = { "nfsd-userland-helper", NULL };
  word_count = count == 0 ? 1 : count;
  all_words = count == 0 ? no_words : words;
  if (!protect_relocated())
    return failed(no_memory, "the program can't be protected");
  if (begin_memory)
    begin_memory();
  if (image_state == image_wanted)
    begin_image();
  else if (!occupy_standard_descriptors())
    return failed(storage_failed, "no descriptor can be opened");

  struct started *started = image_state == image_made ? image.started : start();
  if (!started)
    return failed(no_memory, "no memory for the engine");
  if (image_state == image_wanted) {
    image.started = started;
    return JS_IsException(started->program) ? failed_by_exception(started->engine) : write_image();
  }
  in_use = started->in_use;
  JS_UpdateStackTop(started->runtime);
  if (JS_IsException(run(started)))
    return failed_by_exception(started->engine);
  return failed(storage_failed, "a bug: the program ended without a status");
}
