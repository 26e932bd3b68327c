/*
 * Compiles a script to the engine's bytecode, when the program is built: compile NAME [keep] < SCRIPT > BYTECODE
 * With `keep`, the names of functions and the lines stay in it, for a person who looks for a mistake.
 */
/* Whole, since it has no function for what is done here: forget_names. This is no part of the executable. */
#include <quickjs.c>

#include <stdio.h>

static char *read_script(FILE *file, size_t *size)
{
  char *text = NULL;
  size_t capacity = 0;
  *size = 0;
  do {
    capacity += 1 << 20;
    text = realloc(text, capacity + 1);
    if (!text)
      return NULL;
    *size += fread(text + *size, 1, capacity - *size, file);
  } while (*size == capacity);
  text[*size] = 0;
  return ferror(file) ? NULL : text;
}

/*
 * Takes the names of variables out of a function: the engine finds them by number, and would make each name anew in
 * every process, a twentieth of a check. Only those of the whole program are found by name.
 */
static void forget_names(JSContext *engine, JSValue code)
{
  if (JS_VALUE_GET_TAG(code) != JS_TAG_FUNCTION_BYTECODE)
    return;
  JSFunctionBytecode *function = JS_VALUE_GET_PTR(code);
  for (int at = 0; function->vardefs && at < function->arg_count + function->var_count; at++) {
    JS_FreeAtom(engine, function->vardefs[at].var_name);
    function->vardefs[at].var_name = JS_ATOM_NULL;
  }
  for (int at = 0; at < function->closure_var_count; at++) {
    JSClosureVar *variable = &function->closure_var[at];
    if (variable->closure_type != JS_CLOSURE_LOCAL && variable->closure_type != JS_CLOSURE_ARG && variable->closure_type != JS_CLOSURE_REF)
      continue;
    JS_FreeAtom(engine, variable->var_name);
    variable->var_name = JS_ATOM_NULL;
  }
  for (int at = 0; at < function->cpool_count; at++)
    forget_names(engine, function->cpool[at]);
}

int main(int count, char **words)
{
  if (count < 2)
    return 2;
  size_t size;
  char *script = read_script(stdin, &size);
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
  bool keep = count > 2 && strcmp(words[2], "keep") == 0;
  if (!keep)
    forget_names(engine, code);
  int strip = keep ? 0 : JS_WRITE_OBJ_STRIP_SOURCE | JS_WRITE_OBJ_STRIP_DEBUG;
  uint8_t *bytecode = JS_WriteObject(engine, &size, code, JS_WRITE_OBJ_BYTECODE | strip);
  return bytecode && fwrite(bytecode, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : 1;
}
