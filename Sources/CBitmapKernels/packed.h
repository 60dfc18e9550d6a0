// Mappings as the leaves of a table pack them, those left out under which nothing is dirty.
// Included by body.h.

// Mappings that are looked at together.
enum { STEP = 8 };

// Asks for as much of the leaf ahead as STEP mappings from `i` on are of this one. It lies anywhere
// in memory.
INLINE void ask_ahead(const smudge_packed *packed, uint64_t i) {
  const uint64_t *ahead = packed->ahead + i * 3;
  for (uint64_t word = 0; word < STEP * 3; word += 8) ask_for(ahead + word);
}

// The same where only values are going to be read.
INLINE void ask_values_ahead(const smudge_packed *packed, uint64_t i) {
  ask_for(packed->ahead + SMUDGE_LEAF_CAPACITY + i);
}

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
  uint64_t key = packed->keys[i];
  uint64_t first = key & ~0xfffull, last = packed_last(key, packed_extents(packed)[i]);
  if ((key & a->write_permission) == 0 || last < a->window_first || first > a->window_last)
    return 0;
  uint64_t from = first > a->window_first ? first - a->window_first : 0;
  uint64_t through = (last < a->window_last ? last : a->window_last) - a->window_first;
  return may_be_dirty(a->words, from >> a->page_shift, through >> a->page_shift);
}

// Whether STEP mappings from `i` on, which may be written, lie side by side on a line of the answer
// each: `*first_word` is then the first word of the first.
INLINE int are_lines(const smudge_packed *packed, const smudge_answer *a, uint64_t i,
                     uint64_t *first_word) {
  const uint64_t *keys = packed->keys + i, *extents = packed_extents(packed) + i;
  uint64_t bytes = 512ull << a->page_shift, first = keys[0] & ~0xfffull;
  uint64_t distance = first - a->window_first;
  if ((keys[0] & a->write_permission) == 0 || first < a->window_first ||
      first > a->window_last || a->window_last - first < STEP * bytes - 1)
    return 0;
  uint64_t odd = (keys[0] & 0x3fc) | (distance & ((64ull << a->page_shift) - 1));
  for (uint64_t k = 0; k < STEP; k++) {
    odd |= keys[k] ^ (keys[0] + k * bytes);
    odd |= (extents[k] & 0xffffffff) ^ ((bytes >> 12) - 1);
  }
  *first_word = distance >> a->page_shift >> 6;
  return odd == 0;
}

static uint64_t even_page_count(const smudge_packed *packed) {
  const uint64_t *keys = packed->keys, *extents = packed_extents(packed);
  // All of one size: what is above the low 32 bits of it is in the keys.
  uint64_t pages = (extents[0] & 0xffffffff) + 1, odd = keys[0] & 0x3fc;
  for (uint64_t i = 0; i < packed->count && odd == 0; i += STEP) {
    uint64_t end = packed->count - i < STEP ? packed->count : i + STEP;
    for (uint64_t k = i; k < end; k++) {
      odd |= keys[k] ^ (keys[0] + ((k * pages) << 12));
      odd |= (extents[k] ^ extents[0]) & 0xffffffff;
    }
  }
  return odd == 0 ? pages : 0;
}

static size_t packed_dirty(const smudge_packed *packed, const smudge_answer *answer,
                           smudge_bitmap_mapping *into) {
  smudge_answer a = *answer;
  size_t found = 0;
  for (uint64_t base = 0; base < packed->count; base += 64) {
    // First which, then what: most need not be unpacked, and no guess is made of which they are.
    uint64_t end = packed->count - base < 64 ? packed->count - base : 64, dirty = 0;
    for (uint64_t i = 0; i < end; i += STEP) {
      ask_ahead(packed, base + i);
      uint64_t count = end - i < STEP ? end - i : STEP, word;
      if (count == STEP && are_lines(packed, &a, base + i, &word)) {
        dirty |= nonzero_lines(a.words + word, 0, STEP, STREAM_AHEAD) << i;
        continue;
      }
      for (uint64_t k = i; k < i + count; k++)
        dirty |= slot_may_be_dirty(packed, &a, base + k) << k;
    }
    for (; dirty != 0; dirty &= dirty - 1) {
      uint64_t i = base + (uint64_t)__builtin_ctzll(dirty);
      into[found++] = packed_mapping(packed, i);
    }
  }
  return found;
}
