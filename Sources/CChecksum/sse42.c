// The crc32 instruction has a latency of three cycles and can start every cycle, so three stretches
// run at once. Their CRCs are joined by the linear map "followed by N zero bytes", kept as a table.
#include "crc32c.h"

#if defined(__x86_64__)
#include <nmmintrin.h>

#define TARGET __attribute__((target("sse4.2")))

// Bytes of one of three stretches: a page is two rounds of the short one and a tail.
enum { LONG_BYTES = 8192, SHORT_BYTES = 512 };

typedef uint32_t zeroes_table[4][256];
static zeroes_table long_zeroes, short_zeroes;

TARGET static void prepare(zeroes_table table, size_t byte_count) {
  uint32_t image[32];
  for (int bit = 0; bit < 32; bit++) {
    uint64_t crc = 1u << bit;
    for (size_t done = 0; done < byte_count; done += 8) crc = _mm_crc32_u64(crc, 0);
    image[bit] = (uint32_t)crc;
  }
  for (int part = 0; part < 4; part++)
    for (int byte = 0; byte < 256; byte++) {
      uint32_t sum = 0;
      for (int bit = 0; bit < 8; bit++)
        if (byte >> bit & 1) sum ^= image[part * 8 + bit];
      table[part][byte] = sum;
    }
}

void smudge_crc_sse42_prepare(void) {
  prepare(long_zeroes, LONG_BYTES);
  prepare(short_zeroes, SHORT_BYTES);
}

static inline uint32_t followed(const zeroes_table table, uint32_t crc) {
  return table[0][crc & 0xff] ^ table[1][crc >> 8 & 0xff] ^ table[2][crc >> 16 & 0xff] ^
         table[3][crc >> 24];
}

// Reads the word once, so that what is stored is what is summed.
SMUDGE_RACES_ALLOWED static inline uint64_t take(const unsigned char *from, unsigned char *to) {
  uint64_t word;
  __builtin_memcpy(&word, from, 8);
  __asm__("" : "+r"(word));
  if (to) __builtin_memcpy(to, &word, 8);
  return word;
}

#define THREE(bytes, table)                                                             \
  while (count >= 3 * (bytes)) {                                                        \
    uint64_t second = 0, third = 0;                                                     \
    for (size_t at = 0; at < (bytes); at += 8) {                                        \
      crc = _mm_crc32_u64(crc, take(from + at, to ? to + at : 0));                      \
      second = _mm_crc32_u64(second, take(from + (bytes) + at, to ? to + (bytes) + at : 0)); \
      third = _mm_crc32_u64(third, take(from + 2 * (bytes) + at,                        \
                                        to ? to + 2 * (bytes) + at : 0));               \
    }                                                                                   \
    crc = followed(table, (uint32_t)crc) ^ second;                                      \
    crc = followed(table, (uint32_t)crc) ^ third;                                       \
    from += 3 * (bytes);                                                                \
    if (to) to += 3 * (bytes);                                                          \
    count -= 3 * (bytes);                                                               \
  }

TARGET SMUDGE_RACES_ALLOWED static inline __attribute__((always_inline)) uint32_t body(
    uint64_t crc, unsigned char *to, const unsigned char *from, size_t count) {
  THREE((size_t)LONG_BYTES, long_zeroes)
  THREE((size_t)SHORT_BYTES, short_zeroes)
  while (count >= 8) {
    crc = _mm_crc32_u64(crc, take(from, to));
    from += 8;
    if (to) to += 8;
    count -= 8;
  }
  while (count--) {
    unsigned char byte = *from++;
    __asm__("" : "+r"(byte));
    if (to) *to++ = byte;
    crc = _mm_crc32_u8((uint32_t)crc, byte);
  }
  return (uint32_t)crc;
}

TARGET SMUDGE_RACES_ALLOWED uint32_t smudge_crc_sse42(uint32_t crc, unsigned char *to,
                                                      const unsigned char *from, size_t count) {
  return to ? body(crc, to, from, count) : body(crc, 0, from, count);
}
#endif
