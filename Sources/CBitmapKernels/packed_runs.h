// Mappings as the leaves of a table pack them, joined to runs. Included by body.h, after packed.h.

// Whether STEP mappings from `i` on are as large as the one before them, and each goes on where the
// one before it ends, in IOVA and GPA with the same permissions.
INLINE int go_on_evenly(const smudge_packed *packed, uint64_t i) {
  const uint64_t *keys = packed->keys + i, *rest = packed->rest + i * 2;
  uint64_t extent = rest[-1], last = packed_last(keys[-1], extent);
  uint64_t bytes = last + 1 - (keys[-1] & ~0xfffull), odd = 0;
  for (int64_t k = 0; k < STEP; k++) {
    odd |= keys[k] ^ (keys[k - 1] + bytes);
    odd |= ((rest[k * 2] & ~0xfffull) - (rest[k * 2 - 2] & ~0xfffull)) ^ bytes;
    odd |= (uint32_t)rest[k * 2 + 1] ^ (uint32_t)extent;
  }
  // GPA that wraps does not go on.
  return odd == 0 && rest[STEP * 2 - 2] > rest[-2];
}

static size_t packed_runs(const smudge_packed *packed, size_t open_count, smudge_mapping *into) {
  size_t done = open_count;
  if (packed->count == 0) return done;
  // The open run, kept apart from the memory it goes to.
  smudge_mapping run = {0};
  int is_open = open_count != 0, goes_on = 0;
  if (is_open) run = into[--done];
  for (uint64_t i = 0; i < packed->count; i++) {
    // One that goes on is seldom alone.
    while (goes_on && packed->count - i >= STEP && go_on_evenly(packed, i)) {
      ask_ahead(packed, i);
      i += STEP;
      run.iova_last = packed_last(packed->keys[i - 1], packed->rest[i * 2 - 1]);
    }
    if (i == packed->count) break;
    __builtin_prefetch(packed->ahead_keys + i * 3);
    smudge_mapping m =
        packed_mapping(packed->keys[i], packed->rest[i * 2], packed->rest[i * 2 + 1]);
    // Neither side wraps: after the last address there is no mapping, and after the last GPA none
    // that could go on.
    goes_on = is_open && m.iova_first == run.iova_last + 1 && m.permissions == run.permissions &&
              m.gpa_first - run.gpa_first == m.iova_first - run.iova_first &&
              m.gpa_first > run.gpa_first;
    if (goes_on) {
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
