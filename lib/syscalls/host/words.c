/*
 * Words across the border: bytes on the kernel's side, one character a byte on the engine's. The engine speaks UTF-8.
 */
#include "host.h"

#include <errno.h>
#include <string.h>

/* As lib/syscalls/errno.ts throws it, so that both ways of calling the kernel refuse alike. */
static void throw_unsayable(JSContext *engine, JSValueConst text)
{
  JSValue error = JS_NewError(engine);
  if (JS_IsException(error))
    return;
  if (set(engine, error, "message", JS_NewString(engine, "EINVAL: a word that can't be said")) &&
      set(engine, error, "code", JS_NewString(engine, "EINVAL")) &&
      set(engine, error, "errno", JS_NewInt32(engine, -EINVAL)) &&
      set(engine, error, "syscall", JS_NewString(engine, "a word")) &&
      set(engine, error, "path", JS_DupValue(engine, text)))
    JS_Throw(engine, error);
  else
    JS_FreeValue(engine, error);
}

bool is_ascii(const char *bytes, size_t length)
{
  uint64_t all = 0, some;
  size_t at = 0;
  for (; length - at >= sizeof some; at += sizeof some) {
    memcpy(&some, bytes + at, sizeof some);
    all |= some;
  }
  for (; at < length; at++)
    all |= (unsigned char)bytes[at];
  return (all & 0x8080808080808080) == 0;
}

bool word_from(JSContext *engine, JSValueConst text, struct word *word)
{
  size_t size;
  const char *spelled = JS_ToCStringLen(engine, &size, text);
  if (!spelled)
    return false;
  size_t length = 0;
  bool sayable = true;
  if (size <= PATH_MAX && is_ascii(spelled, size) && !memchr(spelled, 0, size)) {
    memcpy(word->bytes, spelled, size);
    length = size;
  }
  for (size_t at = length; at < size && sayable; at++) {
    unsigned char byte = (unsigned char)spelled[at];
    if (byte >= 0x80) {
      /* 128 to 255 are spelled C2 or C3 and one more byte; what begins otherwise is past 255. */
      if (byte == 0xc2 || byte == 0xc3)
        byte = (unsigned char)(byte << 6 | ((unsigned char)spelled[++at] & 0x3f));
      else
        sayable = false;
    }
    if (byte == 0)
      sayable = false;
    if (length < PATH_MAX)
      word->bytes[length++] = (char)byte;
  }
  word->bytes[length] = 0;
  JS_FreeCString(engine, spelled);
  if (!sayable)
    throw_unsayable(engine, text);
  return sayable;
}

/*
 * The bytes of what is spelled, which may be put in its place: they are no more. Returns false where they do not fit, and
 * for a character past 255.
 */
static bool put(const char *spelled, size_t size, uint8_t *into, size_t capacity, size_t *length)
{
  size_t filled = 0;
  bool fits = true;
  if (size <= capacity && is_ascii(spelled, size)) {
    memmove(into, spelled, size);
    filled = size;
  }
  for (size_t at = filled; at < size && fits; at++) {
    uint8_t byte = (uint8_t)spelled[at];
    /* 128 to 255 are spelled C2 or C3 and one more byte; what begins otherwise is past 255. */
    if (byte == 0xc2 || byte == 0xc3)
      byte = (uint8_t)(byte << 6 | ((uint8_t)spelled[++at] & 0x3f));
    else if (byte >= 0x80)
      fits = false;
    if (filled == capacity)
      fits = false;
    if (fits)
      into[filled++] = byte;
  }
  *length = filled;
  return fits;
}

static void throw_unfit(JSContext *engine)
{
  JS_ThrowRangeError(engine, "a character past 255, or a text that does not fit");
}

bool bytes_from(JSContext *engine, JSValueConst text, uint8_t *into, size_t capacity, size_t *length)
{
  size_t size;
  const char *spelled = JS_ToCStringLen(engine, &size, text);
  if (!spelled)
    return false;
  bool fits = put(spelled, size, into, capacity, length);
  JS_FreeCString(engine, spelled);
  if (!fits)
    throw_unfit(engine);
  return fits;
}

const char *bytes_of(JSContext *engine, JSValueConst text, size_t *length)
{
  const char *spelled = JS_ToCStringLen(engine, length, text);
  /* What is not ASCII has been spelled for us alone: the engine keeps no text in this way. */
  if (spelled && !is_ascii(spelled, *length) && !put(spelled, *length, (uint8_t *)spelled, *length, length)) {
    JS_FreeCString(engine, spelled);
    throw_unfit(engine);
    return NULL;
  }
  return spelled;
}

JSValue text_from(JSContext *engine, const char *bytes, size_t length)
{
  if (is_ascii(bytes, length))
    return JS_NewStringLen(engine, bytes, length);

  size_t past_ascii = 0;
  for (size_t at = 0; at < length; at++)
    past_ascii += (unsigned char)bytes[at] >> 7;
  char *spelled = js_malloc(engine, length + past_ascii);
  if (!spelled)
    return JS_EXCEPTION;
  size_t size = 0;
  for (size_t at = 0; at < length; at++) {
    unsigned char byte = (unsigned char)bytes[at];
    if (byte >= 0x80) {
      spelled[size++] = (char)(0xc0 | byte >> 6);
      byte = 0x80 | (byte & 0x3f);
    }
    spelled[size++] = (char)byte;
  }
  JSValue text = JS_NewStringLen(engine, spelled, size);
  js_free(engine, spelled);
  return text;
}

bool set(JSContext *engine, JSValueConst object, const char *name, JSValue value)
{
  return !JS_IsException(value) && JS_DefinePropertyValueStr(engine, object, name, value, JS_PROP_C_W_E) >= 0;
}
