// Packed mappings joined to runs: no vectors, so of no level.
#include <stddef.h>

#include "bitmap_kernels.h"

size_t smudge_packed_runs(const smudge_packed *packed, size_t open_count, smudge_mapping *into) {
  size_t done = open_count;
  if (packed->count == 0) return done;
  // The open run, kept apart from the memory it goes to.
  smudge_mapping run = {0};
  int is_open = open_count != 0;
  if (is_open) run = into[--done];
  for (uint64_t i = 0; i < packed->count; i++) {
    // The next leaf lies anywhere in memory.
    __builtin_prefetch(packed->next_keys + i * 3);
    uint64_t key = packed->keys[i], value = packed->rest[i * 2], extent = packed->rest[i * 2 + 1];
    uint64_t first = key & ~0xfffull, gpa = value & ~0xfffull;
    uint64_t pages_less_1 = (extent & 0xffffffff) | (key & 0x3fc) << 30;
    uint64_t last = first + (pages_less_1 << 12 | 0xfff);
    // Neither side wraps: after the last address there is no mapping, and after the last GPA none
    // that could go on.
    if (is_open && first == run.iova_last + 1 && gpa - run.gpa_first == first - run.iova_first &&
        gpa > run.gpa_first && (key & 3) == run.permissions) {
      run.iova_last = last;
      continue;
    }
    if (is_open) into[done++] = run;
    is_open = 1;
    run.iova_first = first;
    run.iova_last = last;
    run.gpa_first = gpa;
    run.permissions = (uint8_t)(key & 3);
    run.generation = extent >> 32 | (value & 0xfff) << 32;
  }
  into[done++] = run;
  return done;
}
