#include "smudge_bits.h"

/* The words are little-endian for whoever reads them. */
static uint64_t stored(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  return __builtin_bswap64(word);
#else
  return word;
#endif
}

/* What of the bits first to last lies in a word, as it is stored. */
static uint64_t part(uint64_t index, uint64_t first, uint64_t last) {
  uint64_t bits = ~UINT64_C(0);
  if (index == first / 64) bits &= ~UINT64_C(0) << (first & 63);
  if (index == last / 64) bits &= ~UINT64_C(0) >> (63 - (last & 63));
  return stored(bits);
}

void smudge_bits_set(uint64_t *words, uint64_t first, uint64_t last) {
  for (uint64_t index = first / 64; index <= last / 64; index++)
    words[index] |= part(index, first, last);
}

void smudge_bits_or_atomically(uint64_t *words, uint64_t first, uint64_t last) {
  for (uint64_t index = first / 64; index <= last / 64; index++)
    __atomic_fetch_or(&words[index], part(index, first, last), __ATOMIC_SEQ_CST);
}
