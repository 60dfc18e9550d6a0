#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "bench_peers.h"

size_t bench_heap_byte_count(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void bench_copy(void *target, const void *source, size_t byte_count) {
  memcpy(target, source, byte_count);
}

uint64_t bench_scatter_per_page(uint64_t *target, uint64_t target_gpa_first, const uint64_t *source,
                                uint64_t window_first, const bench_mapping *mappings,
                                size_t count) {
  uint64_t newly = 0;
  for (size_t i = 0; i < count; i++) {
    const bench_mapping *m = &mappings[i];
    if ((m->permissions & 2) == 0) continue;
    uint64_t bit = (m->iova_first - window_first) >> 12;
    uint64_t page = (m->gpa_first - target_gpa_first) >> 12;
    uint64_t pages = ((m->iova_last - m->iova_first) >> 12) + 1;
    for (uint64_t p = 0; p < pages; p++, bit++, page++) {
      if ((source[bit >> 6] >> (bit & 63) & 1) == 0) continue;
      uint64_t mask = 1ull << (page & 63);
      newly += (target[page >> 6] & mask) == 0;
      target[page >> 6] |= mask;
    }
  }
  return newly;
}

// A line is eight words, 512 pages of 4 KiB.
typedef uint64_t line __attribute__((vector_size(64)));

void bench_move_lines(uint64_t *target, const uint64_t *source, const bench_mapping *mappings,
                      size_t count) {
  for (size_t i = 0; i < count; i++) {
    const line *from = (const line *)source + (mappings[i].iova_first >> 21);
    line *into = (line *)target + (mappings[i].gpa_first >> 21);
    line bits = *from;
    uint64_t any = bits[0] | bits[1] | bits[2] | bits[3] | bits[4] | bits[5] | bits[6] | bits[7];
    if (any != 0) __builtin_nontemporal_store(bits, into);
  }
}

int bench_write_all(int fd, const void *bytes, size_t byte_count, size_t chunk) {
  const char *next = bytes;
  while (byte_count > 0) {
    ssize_t done = write(fd, next, byte_count < chunk ? byte_count : chunk);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    next += done;
    byte_count -= (size_t)done;
  }
  return 0;
}

int bench_read_all(int fd, void *bytes, size_t byte_count, size_t chunk) {
  char *next = bytes;
  while (byte_count > 0) {
    ssize_t done = read(fd, next, byte_count < chunk ? byte_count : chunk);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    if (done == 0) return EPIPE;
    next += done;
    byte_count -= (size_t)done;
  }
  return 0;
}
