/*
 * Compiles a script to the engine's bytecode, when the program is built: compile NAME [keep] < SCRIPT > BYTECODE
 * With `keep`, the names of functions and the lines stay in it, for a person who looks for a mistake.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <quickjs.h>

static char *read_all(FILE *file, size_t *size)
{
  char *text = NULL;
  size_t room = 0;
  *size = 0;
  do {
    room += 1 << 20;
    text = realloc(text, room + 1);
    if (!text)
      return NULL;
    *size += fread(text + *size, 1, room - *size, file);
  } while (*size == room);
  text[*size] = 0;
  return ferror(file) ? NULL : text;
}

int main(int count, char **words)
{
  if (count < 2)
    return 2;
  size_t size;
  char *script = read_all(stdin, &size);
  JSContext *engine = JS_NewContext(JS_NewRuntime());
  if (!script || !engine)
    return 1;
  JSValue code = JS_Eval(engine, script, size, words[1], JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_STRICT | JS_EVAL_FLAG_COMPILE_ONLY);
  if (JS_IsException(code)) {
    JSValue thrown = JS_GetException(engine);
    JSValue stack = JS_GetPropertyStr(engine, thrown, "stack");
    fprintf(stderr, "%s\n%s\n", JS_ToCString(engine, thrown), JS_ToCString(engine, stack));
    return 1;
  }
  int strip = count > 2 && strcmp(words[2], "keep") == 0 ? 0 : JS_WRITE_OBJ_STRIP_SOURCE | JS_WRITE_OBJ_STRIP_DEBUG;
  uint8_t *bytecode = JS_WriteObject(engine, &size, code, JS_WRITE_OBJ_BYTECODE | strip);
  return bytecode && fwrite(bytecode, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : 1;
}
