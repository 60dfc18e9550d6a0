// Eight bytes at a time through eight tables ("slicing by 8").
#include <string.h>

#include "crc32c.h"

static uint32_t tables[8][256];

void smudge_crc_table_prepare(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & -(crc & 1));
    tables[0][byte] = crc;
  }
  for (int slice = 1; slice < 8; slice++)
    for (int byte = 0; byte < 256; byte++) {
      uint32_t below = tables[slice - 1][byte];
      tables[slice][byte] = (below >> 8) ^ tables[0][below & 0xff];
    }
}

static uint64_t load64(const unsigned char *from) {
  // Assembled by bytes so that it means the same on a big-endian machine.
  uint64_t word = 0;
  for (int index = 7; index >= 0; index--) word = word << 8 | from[index];
  return word;
}

SMUDGE_RACES_ALLOWED uint32_t smudge_crc_table(uint32_t crc, unsigned char *to,
                                               const unsigned char *from, size_t count) {
  while (count >= 8) {
    unsigned char held[8];
    __builtin_memcpy(held, from, 8);
    if (to) {
      __builtin_memcpy(to, held, 8);
      to += 8;
    }
    uint64_t word = load64(held) ^ crc;
    crc = 0;
    for (int slice = 0; slice < 8; slice++) crc ^= tables[7 - slice][word >> (8 * slice) & 0xff];
    from += 8;
    count -= 8;
  }
  while (count--) {
    unsigned char byte = *from++;
    if (to) *to++ = byte;
    crc = (crc >> 8) ^ tables[0][(crc ^ byte) & 0xff];
  }
  return crc;
}
