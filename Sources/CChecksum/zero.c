// A page with content answers within its first words; one of zeroes is read as fast as memory is.
#include "zero.h"

#include <stdint.h>

// A guest may be writing: that is meant, and a page it writes is sent again.
__attribute__((no_sanitize("thread"))) int smudge_is_zero(const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  for (; count >= 64; p += 64, count -= 64) {
    uint64_t w[8];
    __builtin_memcpy(w, p, sizeof w);
    if ((w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) != 0) return 0;
  }
  for (; count > 0; p++, count--)
    if (*p != 0) return 0;
  return 1;
}
