// Mappings as the leaves of a table pack them, joined to runs. Included by body.h, after packed.h.

// Whether the GPA of STEP mappings from `i` on, which are known to lie side by side and to be of so
// many bytes, goes on after the one before them.
INLINE int go_on_in_gpa(const smudge_packed *packed, uint64_t i, uint64_t bytes) {
  const uint64_t *values = packed_values(packed) + i;
  uint64_t odd = 0;
  for (int64_t k = 0; k < STEP; k++)
    odd |= ((values[k] & ~0xfffull) - (values[k - 1] & ~0xfffull)) ^ bytes;
  // GPA that wraps does not go on.
  return odd == 0 && values[STEP - 1] > values[-1];
}

// Whether STEP mappings from `i` on are as large as the one before them, and each goes on where the
// one before it ends, in IOVA and GPA with the same permissions.
INLINE int go_on_evenly(const smudge_packed *packed, uint64_t i) {
  const uint64_t *keys = packed->keys + i, *extents = packed_extents(packed) + i;
  uint64_t extent = extents[-1], last = packed_last(keys[-1], extent);
  uint64_t bytes = last + 1 - (keys[-1] & ~0xfffull), odd = 0;
  for (int64_t k = 0; k < STEP; k++) {
    odd |= keys[k] ^ (keys[k - 1] + bytes);
    odd |= (uint32_t)extents[k] ^ (uint32_t)extent;
  }
  return odd == 0 && go_on_in_gpa(packed, i, bytes);
}

// How many mappings from `i` on, known to lie side by side and to be of so many bytes, go on in GPA
// after the one before them.
INLINE uint64_t going_on(const smudge_packed *packed, uint64_t i, uint64_t bytes) {
  const uint64_t *values = packed_values(packed);
  uint64_t end = i;
  for (; packed->count - end >= STEP && go_on_in_gpa(packed, end, bytes); end += STEP)
    ask_values_ahead(packed, end);
  while (end < packed->count && values[end] > values[end - 1] &&
         (values[end] & ~0xfffull) - (values[end - 1] & ~0xfffull) == bytes)
    end++;
  return end - i;
}

static size_t packed_runs(const smudge_packed *packed, size_t open_count,
                          smudge_bitmap_mapping *into) {
  size_t done = open_count;
  uint64_t even_bytes = packed->even_page_count << 12;
  if (packed->count == 0) return done;
  // The open run, kept apart from the memory it goes to.
  smudge_bitmap_mapping run = {0};
  int is_open = open_count != 0, goes_on = 0;
  if (is_open) run = into[--done];
  for (uint64_t i = 0; i < packed->count; i++) {
    // One that goes on is seldom alone.
    if (goes_on && even_bytes != 0) {
      uint64_t count = going_on(packed, i, even_bytes);
      i += count;
      run.iova_last += count * even_bytes;
    }
    while (goes_on && packed->count - i >= STEP && go_on_evenly(packed, i)) {
      ask_ahead(packed, i);
      i += STEP;
      run.iova_last = packed_last(packed->keys[i - 1], packed_extents(packed)[i - 1]);
    }
    if (i == packed->count) break;
    ask_for(packed->ahead + i * 3);
    smudge_bitmap_mapping m = packed_mapping(packed, i);
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
