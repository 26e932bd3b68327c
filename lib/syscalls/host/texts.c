/*
 * Of the table of system calls: the five that are none. What a text is in bytes, as a checksum, and in a name.
 */
#include "host.h"

/* No record and no name is longer. */
enum { longest_text = 8192 };

CALL(call_bytesInto)
{
  size_t size, length;
  uint8_t *into = JS_GetUint8Array(engine, &size, given[1]);
  int at = number(engine, given[2]);
  if (!into)
    return JS_EXCEPTION;
  if (at < 0 || (size_t)at > size)
    return JS_ThrowRangeError(engine, "no place for a text");
  return bytes_from(engine, given[0], into + at, size - (size_t)at, &length) ? JS_NewInt32(engine, (int32_t)length) : JS_EXCEPTION;
}

CALL(call_textOf)
{
  size_t size;
  const uint8_t *bytes = JS_GetUint8Array(engine, &size, given[0]);
  return bytes ? text_from(engine, (const char *)bytes, size) : JS_EXCEPTION;
}

/* CRC-32 (polynomial EDB88320), as eight hex digits. Four bytes at a time, of which each half has a row of remainders. */
void checksum_of(const uint8_t *bytes, size_t length, char *digits)
{
  static const uint32_t remainders[8][16] = {
    { 0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
      0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c },
    { 0x00000000, 0x77073096, 0xee0e612c, 0x990951ba, 0x076dc419, 0x706af48f, 0xe963a535, 0x9e6495a3,
      0x0edb8832, 0x79dcb8a4, 0xe0d5e91e, 0x97d2d988, 0x09b64c2b, 0x7eb17cbd, 0xe7b82d07, 0x90bf1d91 },
    { 0x00000000, 0x4ac21251, 0x958424a2, 0xdf4636f3, 0xf0794f05, 0xbabb5d54, 0x65fd6ba7, 0x2f3f79f6,
      0x3b83984b, 0x71418a1a, 0xae07bce9, 0xe4c5aeb8, 0xcbfad74e, 0x8138c51f, 0x5e7ef3ec, 0x14bce1bd },
    { 0x00000000, 0x191b3141, 0x32366282, 0x2b2d53c3, 0x646cc504, 0x7d77f445, 0x565aa786, 0x4f4196c7,
      0xc8d98a08, 0xd1c2bb49, 0xfaefe88a, 0xe3f4d9cb, 0xacb54f0c, 0xb5ae7e4d, 0x9e832d8e, 0x87981ccf },
    { 0x00000000, 0x1c26a370, 0x384d46e0, 0x246be590, 0x709a8dc0, 0x6cbc2eb0, 0x48d7cb20, 0x54f16850,
      0xe1351b80, 0xfd13b8f0, 0xd9785d60, 0xc55efe10, 0x91af9640, 0x8d893530, 0xa9e2d0a0, 0xb5c473d0 },
    { 0x00000000, 0x01c26a37, 0x0384d46e, 0x0246be59, 0x0709a8dc, 0x06cbc2eb, 0x048d7cb2, 0x054f1685,
      0x0e1351b8, 0x0fd13b8f, 0x0d9785d6, 0x0c55efe1, 0x091af964, 0x08d89353, 0x0a9e2d0a, 0x0b5c473d },
    { 0x00000000, 0x5019579f, 0xa032af3e, 0xf02bf8a1, 0x9b14583d, 0xcb0d0fa2, 0x3b26f703, 0x6b3fa09c,
      0xed59b63b, 0xbd40e1a4, 0x4d6b1905, 0x1d724e9a, 0x764dee06, 0x2654b999, 0xd67f4138, 0x866616a7 },
    { 0x00000000, 0xb8bc6765, 0xaa09c88b, 0x12b5afee, 0x8f629757, 0x37def032, 0x256b5fdc, 0x9dd738b9,
      0xc5b428ef, 0x7d084f8a, 0x6fbde064, 0xd7018701, 0x4ad6bfb8, 0xf26ad8dd, 0xe0df7733, 0x58631056 },
  };
  uint32_t crc = ~0u;
  size_t at = 0;
  for (; length - at >= 4; at += 4) {
    crc ^= bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 | (uint32_t)bytes[at + 3] << 24;
    crc = remainders[7][crc & 15] ^ remainders[6][crc >> 4 & 15] ^ remainders[5][crc >> 8 & 15] ^ remainders[4][crc >> 12 & 15] ^
          remainders[3][crc >> 16 & 15] ^ remainders[2][crc >> 20 & 15] ^ remainders[1][crc >> 24 & 15] ^ remainders[0][crc >> 28];
  }
  for (; at < length; at++) {
    crc ^= bytes[at];
    crc = crc >> 4 ^ remainders[0][crc & 15];
    crc = crc >> 4 ^ remainders[0][crc & 15];
  }
  for (int at = 0; at < checksum_length; at++)
    digits[at] = "0123456789abcdef"[~crc >> (28 - 4 * at) & 15];
}

CALL(call_checksum)
{
  uint8_t bytes[longest_text];
  char digits[checksum_length];
  size_t length;
  if (!bytes_from(engine, given[0], bytes, sizeof bytes, &length))
    return JS_EXCEPTION;
  checksum_of(bytes, length, digits);
  return JS_NewStringLen(engine, digits, sizeof digits);
}

/* A plain character stands for itself, each other byte as %XX (lib/bytes.ts, percentEncode). */
static bool is_plain(uint8_t byte)
{
  static const bool plain[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['-'] = true, ['.'] = true, [':'] = true,
    ['_'] = true, [','] = true, ['='] = true, ['@'] = true, ['+'] = true,
  };
  return plain[byte];
}

CALL(call_percentEncoded)
{
  uint8_t bytes[longest_text];
  char spelled[3 * longest_text];
  size_t length, size = 0;
  if (!bytes_from(engine, given[0], bytes, sizeof bytes, &length))
    return JS_EXCEPTION;
  for (size_t at = 0; at < length; at++)
    if (is_plain(bytes[at]))
      spelled[size++] = (char)bytes[at];
    else {
      spelled[size++] = '%';
      spelled[size++] = "0123456789ABCDEF"[bytes[at] >> 4];
      spelled[size++] = "0123456789ABCDEF"[bytes[at] & 15];
    }
  return JS_NewStringLen(engine, spelled, size);
}

/* The value of an upper-case hex digit; 16 for what is none. */
static uint8_t digit(char spelled)
{
  return spelled >= '0' && spelled <= '9' ? (uint8_t)(spelled - '0') : spelled >= 'A' && spelled <= 'F' ? (uint8_t)(spelled - 'A' + 10) : 16;
}

ssize_t decoded(const char *spelled, size_t size, char *into)
{
  char *end = into;
  for (const char *stop = spelled + size;; spelled += 3) {
    /* A NUL follows, which is not plain. */
    while (is_plain((uint8_t)*spelled))
      *end++ = *spelled++;
    if (spelled == stop)
      return end - into;
    if (*spelled != '%' || stop - spelled < 3)
      return -1;
    uint8_t high = digit(spelled[1]), low = digit(spelled[2]), byte = (uint8_t)(high << 4 | low);
    if (high == 16 || low == 16 || is_plain(byte))
      return -1;
    *end++ = (char)byte;
  }
}

CALL(call_percentDecoded)
{
  char bytes[longest_text];
  size_t size;
  const char *spelled = JS_ToCStringLen(engine, &size, given[0]);
  if (!spelled)
    return JS_EXCEPTION;
  ssize_t length = size > sizeof bytes ? -1 : decoded(spelled, size, bytes);
  JS_FreeCString(engine, spelled);
  if (length < 0)
    return JS_UNDEFINED;
  /* As long as it was spelled: it is the same. */
  return (size_t)length == size ? JS_DupValue(engine, given[0]) : text_from(engine, bytes, (size_t)length);
}
