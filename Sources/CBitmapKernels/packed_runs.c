// Packed mappings joined to runs: no vectors, so of no level.
#include <stddef.h>

#include "kernels.h"

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
    smudge_mapping m =
        packed_mapping(packed->keys[i], packed->rest[i * 2], packed->rest[i * 2 + 1]);
    // Neither side wraps: after the last address there is no mapping, and after the last GPA none
    // that could go on.
    if (is_open && m.iova_first == run.iova_last + 1 && m.permissions == run.permissions &&
        m.gpa_first - run.gpa_first == m.iova_first - run.iova_first &&
        m.gpa_first > run.gpa_first) {
      run.iova_last = m.iova_last;
      continue;
    }
    if (is_open) into[done++] = run;
    is_open = 1;
    run = m;
  }
  into[done++] = run;
  return done;
}
