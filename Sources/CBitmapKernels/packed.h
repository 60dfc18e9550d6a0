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

static size_t packed_dirty(const smudge_packed *packed, const smudge_answer *answer,
                           smudge_mapping *into) {
  smudge_answer a = *answer;
  size_t found = 0;
  for (uint64_t i = 0; i < packed->count; i++) {
    // The next leaf lies anywhere in memory.
    __builtin_prefetch(packed->next_keys + i * 3);
    uint64_t key = packed->keys[i], extent = packed->rest[i * 2 + 1];
    uint64_t first = key & ~0xfffull;
    uint64_t pages_less_1 = (extent & 0xffffffff) | (key & 0x3fc) << 30;
    uint64_t last = first + (pages_less_1 << 12 | 0xfff);
    if (last < a.window_first || first > a.window_last) continue;
    uint64_t from = first > a.window_first ? first - a.window_first : 0;
    uint64_t through = (last < a.window_last ? last : a.window_last) - a.window_first;
    // Written whether it is wanted or not, and kept when it is: no branch that is guessed wrong.
    smudge_mapping *m = into + found;
    uint64_t value = packed->rest[i * 2];
    m->iova_first = first;
    m->iova_last = last;
    m->gpa_first = value & ~0xfffull;
    m->permissions = (uint8_t)(key & 3);
    m->generation = extent >> 32 | (value & 0xfff) << 32;
    uint64_t is_writable = (key & a.write_permission) != 0;
    found += is_writable & may_be_dirty(a.words, from >> a.page_shift, through >> a.page_shift);
  }
  return found;
}
