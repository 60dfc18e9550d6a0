// Scatter through mappings of one page each. Included by scatter.h.

enum {
  // How many mappings ahead a walk asks for the next, past the page the CPU's own prefetch ends at.
  WALK_AHEAD = 160,
  // Strewn mappings walked between two looks at whether the walk pays.
  STRETCH = 1024,
  // A dirty page for so many mappings is better searched.
  SEARCHED = 48,
  // How often guesses are narrowed down.
  ROUNDS = 2,
  // Steps from a guess before it counts as wrong.
  NEAR = 64,
};

// Mappings of exactly one page, as long as the index of each can be guessed from its distance:
// true of IOVAs that were handed out side by side. Leaves `at` at the first dirty page for which
// the guess fails, or whose mapping needs another path.
INLINE void one_page_mappings(const smudge_scatter *s, cursor *at, batch *b) {
  const smudge_bitmap_mapping *mappings = s->mappings;
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1;
  uint64_t skew = at->index - at->page, page = at->page;
  size_t word = page >> 6, word_count = (s->window_page_count + 63) >> 6;
  uint64_t bits = s->source[word] & (~0ull << (page & 63));
  for (;;) {
    while (bits != 0) {
      page = (word << 6) + (uint64_t)__builtin_ctzll(bits);
      uint64_t index = page + skew, iova = s->window_first + (page << shift);
      at->page = page;
      if (index >= s->mapping_count || page >= s->window_page_count) return;
      const smudge_bitmap_mapping *m = mappings + index;
      if (m->iova_first != iova || m->iova_last != iova + mask) return;
      at->index = index;
      uint64_t offset = m->gpa_first - s->target_gpa_first;
      bits &= bits - 1;
      if ((m->permissions & s->write_permission) == 0) continue;
      if ((offset & mask) != 0 || offset >> shift >= s->target.page_count) return;
      push(s, b, offset >> shift);
    }
    at->page = (word + 1) << 6;
    word = nonzero_from(s->source, word + 1, word_count);
    if (word >= word_count) {
      at->page = s->window_page_count;
      return;
    }
    bits = s->source[word];
  }
}

// Dirty pages, and where in the mappings each may be: both rise.
typedef struct search {
  uint64_t count;
  uint64_t pages[GROUP];
  uint64_t indices[GROUP];
} search;

// A mapping, and the page it begins in.
typedef struct place {
  uint64_t index;
  uint64_t page;
} place;

INLINE place place_of(const smudge_scatter *s, uint64_t index) {
  return (place){index, (s->mappings[index].iova_first - s->window_first) >> s->page_shift};
}

// The index of the mapping of a page between two places, if they lay evenly.
INLINE uint64_t between(place low, place high, uint64_t page) {
  if (page <= low.page) return low.index;
  if (page >= high.page) return high.index;
  double part = (double)(page - low.page) / (double)(high.page - low.page);
  return low.index + (uint64_t)(part * (double)(high.index - low.index) + 0.5);
}

// Better guesses: each between the two nearest of the places guessed before.
INLINE void narrow(const smudge_scatter *s, place low, place last, search *f) {
  place places[GROUP];
  for (uint64_t i = 0; i < f->count; i++) places[i] = place_of(s, f->indices[i]);
  uint64_t next = 0;
  for (uint64_t i = 0; i < f->count; i++) {
    while (next < f->count && places[next].page <= f->pages[i]) low = places[next++];
    uint64_t index = between(low, next < f->count ? places[next] : last, f->pages[i]);
    f->indices[i] = index;
    // A mapping may lie in two lines, and the guess may be one too far.
    const smudge_bitmap_mapping *m = s->mappings + index;
    __builtin_prefetch(m);
    __builtin_prefetch(&m->generation);
    __builtin_prefetch(m - (index != 0));
  }
}

// The dirty pages from `page` on of a line, after `count` others: no more than GROUP together.
INLINE uint64_t pages_of_line(const smudge_scatter *s, uint64_t line, uint64_t page,
                              uint64_t count, uint64_t *pages) {
  const uint64_t *words = s->source + line * 8;
  uint64_t dirty = 0;
  for (uint64_t i = 0; i < 8; i++) dirty |= (uint64_t)(words[i] != 0) << i;
  for (; dirty != 0; dirty &= dirty - 1) {
    uint64_t i = (uint64_t)__builtin_ctzll(dirty), first = (line << 9) + (i << 6);
    for (uint64_t bits = words[i]; bits != 0 && count < GROUP; bits &= bits - 1) {
      pages[count] = first + (uint64_t)__builtin_ctzll(bits);
      count += pages[count] >= page;
    }
  }
  return count;
}

// Up to GROUP dirty pages from `page` on. Which lines are dirty is found for some together: asked
// line by line, a guess would be wrong too often.
INLINE uint64_t dirty_pages(const smudge_scatter *s, uint64_t page, uint64_t *pages) {
  uint64_t line = page >> 9, line_count = s->window_page_count >> 9, count = 0;
  while (count < GROUP && line < line_count) {
    uint64_t step = line_count - line < GROUP ? line_count - line : GROUP;
    uint64_t dirty = nonzero_lines(s->source + line * 8, 0, step, GROUP * 8);
    for (; dirty != 0 && count < GROUP; dirty &= dirty - 1)
      count = pages_of_line(s, line + (uint64_t)__builtin_ctzll(dirty), page, count, pages);
    line += step;
  }
  // What is left of the window is less than a line.
  if (page < line_count << 9) page = line_count << 9;
  while (count < GROUP && (page = next_dirty(s, page)) < s->window_page_count)
    pages[count++] = page++;
  return count;
}

// The next dirty pages, with a guess for each: by its distance from the cursor and `density`, the
// mappings to a page, then narrowed down. What a step reads was asked for in the one before, for
// all of them.
INLINE void search_mappings(const smudge_scatter *s, const cursor *at, double density, search *f) {
  place low = place_of(s, at->index), last = place_of(s, s->mapping_count - 1);
  f->count = dirty_pages(s, at->page, f->pages);
  for (uint64_t i = 0; i < f->count; i++) {
    uint64_t page = f->pages[i], index = last.index;
    double ahead = page > low.page ? (double)(page - low.page) * density : 0;
    if (ahead < (double)(last.index - low.index)) index = low.index + (uint64_t)ahead;
    f->indices[i] = index;
    __builtin_prefetch(s->mappings + index);
  }
  for (int round = 0; round < ROUNDS; round++) narrow(s, low, last, f);
}

// The first mapping from `low` on that ends at or after `iova`: near a guess as a rule.
INLINE uint64_t seek_near(const smudge_scatter *s, uint64_t low, uint64_t guessed, uint64_t iova) {
  const smudge_bitmap_mapping *m = s->mappings;
  uint64_t index = guessed > low ? guessed : low;
  for (int step = 0; step < NEAR && index < s->mapping_count; step++) {
    if (m[index].iova_last < iova) {
      index++;
    } else if (m[index].iova_first > iova && index > low && m[index - 1].iova_last >= iova) {
      index--;
    } else {
      return index;
    }
  }
  return seek(m, low, s->mapping_count, iova);
}

// Mappings of one page each under the next dirty pages, wherever they are. Leaves the cursor at the
// first dirty page whose mapping is of another kind or needs the caller, and returns whether there
// is none.
INLINE int searched_mappings(const smudge_scatter *s, cursor *at, double density, batch *b) {
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1;
  search f;
  search_mappings(s, at, density, &f);
  for (uint64_t i = 0; i < f.count; i++) {
    uint64_t iova = s->window_first + (f.pages[i] << shift);
    at->page = f.pages[i];
    at->index = seek_near(s, at->index, f.indices[i], iova);
    if (at->index >= s->mapping_count) return 0;
    const smudge_bitmap_mapping *m = s->mappings + at->index;
    // In a hole: of no mapping.
    if (m->iova_first > iova + mask) continue;
    if (m->iova_first != iova || m->iova_last != iova + mask) return 0;
    uint64_t offset = m->gpa_first - s->target_gpa_first;
    if ((m->permissions & s->write_permission) != 0) {
      if ((offset & mask) != 0 || offset >> shift >= s->target.page_count) return 0;
      push(s, b, offset >> shift);
    }
    at->index++;
  }
  at->page = f.count == GROUP ? at->page + 1 : s->window_page_count;
  return 1;
}

// Mappings of one page each from the cursor on and below `end`, one after the other with a look at
// the bit of each. Leaves the cursor at the first of another kind, or that needs the caller.
INLINE void walked_mappings(const smudge_scatter *s, cursor *at, uint64_t end, batch *b) {
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1;
  uint64_t index = at->index, page = at->page, odd = 0;
  while (index < end && !odd) {
    if (b->count > BATCH - 64) flush(&s->target, b);
    uint64_t count = b->count, part_end = index + 64 < end ? index + 64 : end;
    for (; index < part_end; index++) {
      const smudge_bitmap_mapping *m = s->mappings + index;
      __builtin_prefetch(m + WALK_AHEAD);
      uint64_t distance = m->iova_first - s->window_first;
      uint64_t offset = m->gpa_first - s->target_gpa_first, bit = distance >> shift;
      odd = ((m->iova_last - m->iova_first) ^ mask) | (distance & mask);
      odd |= bit >= s->window_page_count;
      if (odd) break;
      uint64_t dirty = s->source[bit >> 6] >> (bit & 63) & 1;
      dirty &= (m->permissions & s->write_permission) != 0;
      odd = dirty & (((offset & mask) != 0) | (offset >> shift >= s->target.page_count));
      if (odd) break;
      // Written whether it is dirty or not, and kept when it is: no branch that is guessed wrong.
      b->targets[count] = offset >> shift;
      count += dirty;
      page = bit + 1;
    }
    b->count = count;
  }
  at->index = index;
  if (page > at->page) at->page = page;
}

// Mappings of one page each, wherever they are. Where few are dirty those are searched, elsewhere
// all are walked. Leaves `at` at the first mapping of another kind, or that needs the caller, or
// where they lie side by side: that is guessed better elsewhere.
INLINE void strewn_mappings(const smudge_scatter *s, cursor *at, batch *b) {
  int walks = s->mappings_lead;
  const smudge_bitmap_mapping *first = s->mappings + at->index;
  const smudge_bitmap_mapping *last = s->mappings + s->mapping_count - 1;
  // Mappings to a page: of all that are left, then of the last few.
  double density = (double)(s->mapping_count - at->index) /
                   ((double)((last->iova_first - first->iova_first) >> s->page_shift) + 1);
  while (at->index < s->mapping_count && at->page < s->window_page_count) {
    cursor before = *at;
    if (walks) {
      uint64_t left = s->mapping_count - at->index, found = b->hit + b->count;
      uint64_t end = at->index + (left < STRETCH ? left : STRETCH);
      walked_mappings(s, at, end, b);
      if (at->index < end) return;
      walks = (b->hit + b->count - found) * SEARCHED >= STRETCH;
      continue;
    }
    if (!searched_mappings(s, at, density, b)) return;
    uint64_t passed = at->index - before.index;
    if (passed == at->page - before.page) return;
    density = (double)passed / (double)(at->page - before.page);
    walks = passed < GROUP * SEARCHED;
  }
}
