#include <stdlib.h>
#include <string.h>

#include "bench_peers.h"

int bench_quarter_query(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *words,
                        void *opaque) {
  (void)iova, (void)opaque;
  memset(words, 0x11, byte_count / page_size / 8);
  return 0;
}

static void set_bit(uint64_t *target, uint64_t page) {
  // As a VMM's dirty bitmap, which vCPU threads change at the same time.
  __atomic_fetch_or(&target[page / 64], UINT64_C(1) << (page % 64), __ATOMIC_RELAXED);
}

uint64_t bench_sync_by_leaf(uint64_t *target, const bench_mapping *mappings, size_t count) {
  uint64_t set = 0;
  for (size_t i = 0; i < count; i++) {
    const uint64_t byte_count = mappings[i].iova_last - mappings[i].iova_first + 1;
    const size_t pages = byte_count / 4096;
    uint64_t *words = calloc(pages / 64, 8);
    if (words == NULL) abort();
    bench_quarter_query(mappings[i].iova_first, byte_count, 4096, words, NULL);
    for (size_t page = 0; page < pages; page++) {
      if ((words[page / 64] >> (page % 64) & 1) == 0) continue;
      set_bit(target, mappings[i].gpa_first / 4096 + page);
      set++;
    }
    free(words);
  }
  return set;
}

void bench_set_pages(uint64_t *target, const bench_mapping *mappings, size_t count) {
  for (size_t i = 0; i < count; i++) set_bit(target, mappings[i].gpa_first / 4096);
}

int bench_count_run(uint64_t gpa, uint64_t byte_count, void *sum) {
  (void)gpa;
  *(uint64_t *)sum += byte_count;
  return 0;
}
