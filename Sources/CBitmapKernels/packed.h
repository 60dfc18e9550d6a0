// Mappings as the leaves of a table pack them, those left out under which nothing is dirty.
// Included by body.h.

// A mapping of more pages is not looked through: it is taken for dirty.
enum { LOOKED_THROUGH_PAGES = 4096 };

// Whether a page of `first` to `last` may be dirty: with pages of other mappings that share their
// first or last word.
INLINE uint64_t may_be_dirty(const uint64_t *words, uint64_t first, uint64_t last) {
  uint64_t word = first >> 6;
  __builtin_prefetch(words + word + STREAM_AHEAD);
  if (last - first == 511 && (first & 63) == 0) return !line_is_zero(line_load(words + word));
  if (last - first >= LOOKED_THROUGH_PAGES) return 1;
  if (last >> 6 == word) {
    return (words[word] >> (first & 63) & (~0ull >> (63 - (last - first)))) != 0;
  }
  uint64_t any = 0;
  for (; word <= last >> 6; word++) any |= words[word];
  return any != 0;
}

// Whether the mapping in a slot may be written and a page under it may be dirty.
INLINE uint64_t slot_may_be_dirty(const smudge_packed *packed, const smudge_answer *a, uint64_t i) {
  uint64_t key = packed->keys[i], extent = packed->rest[i * 2 + 1];
  uint64_t first = key & ~0xfffull, last = packed_last(key, extent);
  if ((key & a->write_permission) == 0 || last < a->window_first || first > a->window_last)
    return 0;
  uint64_t from = first > a->window_first ? first - a->window_first : 0;
  uint64_t through = (last < a->window_last ? last : a->window_last) - a->window_first;
  return may_be_dirty(a->words, from >> a->page_shift, through >> a->page_shift);
}

static size_t packed_dirty(const smudge_packed *packed, const smudge_answer *answer,
                           smudge_mapping *into) {
  smudge_answer a = *answer;
  size_t found = 0;
  for (uint64_t base = 0; base < packed->count; base += 64) {
    // First which, then what: most need not be unpacked, and no guess is made of which they are.
    uint64_t end = packed->count - base < 64 ? packed->count - base : 64, dirty = 0;
    for (uint64_t i = 0; i < end; i++) {
      // It lies anywhere in memory.
      __builtin_prefetch(packed->ahead_keys + (base + i) * 3);
      dirty |= slot_may_be_dirty(packed, &a, base + i) << i;
    }
    for (; dirty != 0; dirty &= dirty - 1) {
      uint64_t i = base + (uint64_t)__builtin_ctzll(dirty);
      into[found++] = packed_mapping(packed->keys[i], packed->rest[i * 2], packed->rest[i * 2 + 1]);
    }
  }
  return found;
}
