/*
 * Of the table of system calls: the six that are none. What a text is in bytes, as a checksum, as a digest, and in a name.
 */
#include "host.h"

#include <string.h>

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

static uint32_t turned(uint32_t word, int by)
{
  return word >> by | word << (32 - by);
}

/* One block of SHA-256 (FIPS 180-4, 6.2.2). */
static void digest_block(uint32_t hash[8], const uint8_t *block)
{
  static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
  };
  uint32_t words[64], v[8];
  for (int at = 0; at < 16; at++)
    words[at] = (uint32_t)block[4 * at] << 24 | (uint32_t)block[4 * at + 1] << 16 | (uint32_t)block[4 * at + 2] << 8 | block[4 * at + 3];
  for (int at = 16; at < 64; at++) {
    uint32_t near = words[at - 2], far = words[at - 15];
    words[at] = words[at - 16] + (turned(far, 7) ^ turned(far, 18) ^ far >> 3) + words[at - 7] + (turned(near, 17) ^ turned(near, 19) ^ near >> 10);
  }
  memcpy(v, hash, sizeof v);
  for (int at = 0; at < 64; at++) {
    uint32_t first = v[7] + (turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants[at] + words[at];
    uint32_t second = (turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += first;
    v[0] = first + second;
  }
  for (int at = 0; at < 8; at++)
    hash[at] += v[at];
}

CALL(call_sha256)
{
  uint32_t hash[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
  int64_t room;
  size_t length, begin = 0;
  if (JS_GetLength(engine, given[0], &room) < 0)
    return JS_EXCEPTION;
  uint8_t *bytes = js_malloc(engine, (size_t)room + 1);
  if (!bytes || !bytes_from(engine, given[0], bytes, (size_t)room, &length)) {
    js_free(engine, bytes);
    return JS_EXCEPTION;
  }
  for (; length - begin >= 64; begin += 64)
    digest_block(hash, bytes + begin);
  /* What is left, a bit, zeros, and how many bits there were. */
  uint8_t end[128] = { 0 };
  size_t rest = length - begin, size = rest < 56 ? 64 : 128;
  memcpy(end, bytes + begin, rest);
  js_free(engine, bytes);
  end[rest] = 0x80;
  for (size_t at = 0; at < 8; at++)
    end[size - 1 - at] = (uint8_t)((uint64_t)length * 8 >> 8 * at);
  for (begin = 0; begin < size; begin += 64)
    digest_block(hash, end + begin);
  char digits[64];
  for (int at = 0; at < 64; at++)
    digits[at] = "0123456789abcdef"[hash[at / 8] >> (28 - 4 * (at % 8)) & 15];
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
