// Scatter, led by the dirty bits of the source: a clean stretch of the window costs no look at the
// mappings under it. Included by body.h.

enum {
  // Targets of one-page mappings are collected and set together: their cache misses overlap.
  BATCH = 256,
  // How many mappings ahead the target of a longer mapping is asked for.
  AHEAD = 12,
  // How many mappings ahead a walk asks for the next, past the page the CPU's own prefetch ends at.
  WALK_AHEAD = 160,
  // Mappings of a line each that are looked at together.
  GROUP = 64,
  // Strewn mappings walked between two looks at whether the walk pays.
  STRETCH = 1024,
  // A dirty bit for so few mappings is cheaper found from the mappings than the other way round.
  NEAR = 192,
  // An average to begin with: some near ones in a row are a reason to walk, one is not.
  FAR = 8 * NEAR,
};

typedef struct batch {
  uint64_t count;
  uint64_t hit;
  uint64_t newly;
  uint64_t targets[BATCH];
} batch;

// Lines of the source, and the page of the target that the first bit of each goes to.
typedef struct group {
  uint64_t count;
  // Whether lines that are clean in the target are not read, and written past the caches.
  int streams;
  const uint64_t *sources[GROUP];
  uint64_t targets[GROUP];
} group;

// Mappings below `index` and pages below `page` are done with.
typedef struct cursor {
  uint64_t index;
  uint64_t page;
} cursor;

static void flush(const smudge_bitmap *target, batch *b) {
  uint64_t newly = 0, count = b->count;
  for (uint64_t i = 0; i < count; i++) {
    __builtin_prefetch(target->words + (b->targets[i] >> 6), 1);
  }
  for (uint64_t i = 0; i < count; i++) {
    uint64_t page = b->targets[i];
    uint64_t bit = 1ull << (page & 63), old = target->words[page >> 6];
    newly += (old & bit) == 0;
    target->words[page >> 6] = old | bit;
    mark_line(target, page >> 9);
  }
  b->newly += newly;
  b->hit += count;
  b->count = 0;
}

// The first dirty page of the window at or after `page`, window_page_count or more when there is
// none: bits past the window in its last word are no pages.
INLINE uint64_t next_dirty(const smudge_scatter *s, uint64_t page) {
  if (page >= s->window_page_count) return page;
  size_t word = page >> 6, count = (s->window_page_count + 63) >> 6;
  uint64_t bits = s->source[word] >> (page & 63);
  if (bits != 0) return page + (uint64_t)__builtin_ctzll(bits);
  word = nonzero_from(s->source, word + 1, count);
  if (word >= count) return s->window_page_count;
  return (word << 6) + (uint64_t)__builtin_ctzll(s->source[word]);
}

// The first mapping from `index` on that ends at or after `iova`: a few steps, then doubling ones,
// then halving.
static uint64_t seek(const smudge_mapping *m, uint64_t index, uint64_t count, uint64_t iova) {
  uint64_t near = index + 8 < count ? index + 8 : count;
  while (index < near) {
    if (m[index].iova_last >= iova) return index;
    index++;
  }
  uint64_t step = 8, low = index;
  while (low < count && low + step < count && m[low + step].iova_last < iova) {
    low += step + 1;
    step *= 2;
  }
  uint64_t high = low + step < count ? low + step : count;
  while (low < high) {
    uint64_t middle = low + (high - low) / 2;
    if (m[middle].iova_last < iova) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

INLINE void push(const smudge_scatter *s, batch *b, uint64_t page) {
  __builtin_prefetch(s->target.words + (page >> 6), 1);
  b->targets[b->count++] = page;
  if (b->count == BATCH) flush(&s->target, b);
}

// Mappings of exactly one page, as long as the index of each can be guessed from its distance:
// true of IOVAs that were handed out side by side. Leaves `at` at the first dirty page for which
// the guess fails, or whose mapping needs another path.
INLINE void one_page_mappings(const smudge_scatter *s, cursor *at, batch *b) {
  const smudge_mapping *mappings = s->mappings;
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
      const smudge_mapping *m = mappings + index;
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

// The mapping at the cursor, which overlaps the cursor's page. Returns SMUDGE_SCATTER_*.
INLINE int one_mapping(const smudge_scatter *s, cursor *at, batch *b, counts *c) {
  const smudge_mapping *m = s->mappings + at->index;
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1;
  uint64_t window_last = s->window_first + ((s->window_page_count - 1) << shift) + mask;
  uint64_t first = m->iova_first > s->window_first ? m->iova_first : s->window_first;
  uint64_t last = m->iova_last < window_last ? m->iova_last : window_last;
  uint64_t offset = m->gpa_first - s->target_gpa_first;
  uint64_t part = offset + (first - m->iova_first), length = last - first;
  uint64_t page_last = (last - s->window_first) >> shift;
  if ((m->permissions & s->write_permission) == 0) {
    at->index++;
    // The next mapping may begin in the page this one ends in.
    at->page = (last & mask) == mask ? page_last + 1 : page_last;
    return SMUDGE_SCATTER_DONE;
  }
  if (m->gpa_first < s->target_gpa_first || part + length < part ||
      (part + length) >> shift >= s->target.page_count)
    return SMUDGE_SCATTER_OUTSIDE;
  if ((((first - s->window_first) | (length + 1) | part) & mask) != 0)
    return SMUDGE_SCATTER_UNALIGNED;
  // Begin with the first dirty page: those before it are clean.
  uint64_t page = at->page, skipped = page - ((first - s->window_first) >> shift);
  uint64_t count = page_last - page + 1;
  if (count == 1) {
    push(s, b, (part >> shift) + skipped);
  } else {
    if (at->index + AHEAD < s->mapping_count) {
      uint64_t ahead = (m[AHEAD].gpa_first - s->target_gpa_first) >> shift;
      __builtin_prefetch(s->target.words + ((ahead & ~511ull) >> 6), 1);
      __builtin_prefetch(s->target.words + (((ahead + 511) & ~511ull) >> 6), 1);
    }
    or_range(&s->target, (part >> shift) + skipped, s->source, page, count, s->streams, c);
  }
  at->index++;
  at->page = page_last + 1;
  return SMUDGE_SCATTER_DONE;
}

// Mappings of one page each, wherever they are, one after the other with a look at the bit of each:
// where there are more dirty bits than a search for each would be worth. Leaves `at` at the first
// mapping of another kind, or that needs the caller, or where so few bits are dirty that searching
// is cheaper.
INLINE void strewn_mappings(const smudge_scatter *s, cursor *at, batch *b) {
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1;
  uint64_t index = at->index, page = at->page, found = STRETCH / NEAR;
  while (found >= STRETCH / NEAR && index < s->mapping_count) {
    uint64_t stretch_end = index + STRETCH < s->mapping_count ? index + STRETCH : s->mapping_count;
    found = 0;
    while (index < stretch_end) {
      if (b->count > BATCH - 64) flush(&s->target, b);
      uint64_t count = b->count, end = index + 64 < stretch_end ? index + 64 : stretch_end;
      uint64_t odd = 0;
      for (; index < end; index++) {
        const smudge_mapping *m = s->mappings + index;
        __builtin_prefetch(m + WALK_AHEAD);
        uint64_t distance = m->iova_first - s->window_first;
        uint64_t offset = m->gpa_first - s->target_gpa_first, bit = distance >> shift;
        odd = ((m->iova_last - m->iova_first) ^ mask) | (distance & mask);
        if (odd != 0 || bit >= s->window_page_count) {
          odd = 1;
          break;
        }
        uint64_t dirty = s->source[bit >> 6] >> (bit & 63) & 1;
        dirty &= (m->permissions & s->write_permission) != 0;
        if (dirty & (((offset & mask) != 0) | (offset >> shift >= s->target.page_count))) {
          odd = 1;
          break;
        }
        // Written whether it is dirty or not, and kept when it is: no branch that is guessed wrong.
        b->targets[count] = offset >> shift;
        count += dirty;
        page = bit + 1;
      }
      found += count - b->count;
      b->count = count;
      if (odd != 0) goto leave;
    }
  }
leave:
  at->index = index;
  if (page > at->page) at->page = page;
}

// Lines on their way into the target. What reaches past the end of one waits for the mapping that
// goes on there, if that is the next. The summary of a block is written when the next is begun.
typedef struct writer {
  const smudge_bitmap *target;
  counts *counts;
  uint64_t block;
  uint64_t known;
  uint64_t waiting_index;
  line waiting;
  // Of the last group: mappings with a part in two lines, and lines that one shared with the next.
  uint64_t split;
  uint64_t shared;
} writer;

enum { NO_LINE = -1 };

INLINE void put_summary(const writer *w) {
  w->target->lines[w->block] = w->known;
  if (w->known != 0) w->target->blocks[w->block >> 6] |= 1ull << (w->block & 63);
}

INLINE void enter_block(writer *w, uint64_t block) {
  if (block == w->block) return;
  put_summary(w);
  w->block = block;
  w->known = w->target->lines[block];
}

// `bits` has some set. With `streams` a line that the summary says is clean is not read.
INLINE void put_line(writer *w, uint64_t index, line bits, int streams) {
  enter_block(w, index >> 6);
  uint64_t bit = 1ull << (index & 63);
  add_line(w->target->words + index * 8, bits, streams && (w->known & bit) == 0, w->counts);
  w->known |= bit;
}

INLINE void put_waiting(writer *w, int streams) {
  if (w->waiting_index != (uint64_t)NO_LINE) put_line(w, w->waiting_index, w->waiting, streams);
  w->waiting_index = (uint64_t)NO_LINE;
}

INLINE void or_group(writer *w, const group *g) {
  w->split = w->shared = 0;
  for (uint64_t i = 0; i < g->count; i++) {
    uint64_t index = g->targets[i] >> 9, shift = g->targets[i] & 511;
    line low = line_load(g->sources[i]);
    if (line_is_zero(low)) continue;
    if (shift == 0) {
      put_line(w, index, low, g->streams);
      continue;
    }
    w->split++;
    line high;
    line_split(low, shift, &low, &high);
    if (w->waiting_index == index && line_is_zero(line_and(w->waiting, low))) {
      low = line_or(w->waiting, low);
      w->shared++;
    } else {
      put_waiting(w, g->streams);
    }
    if (!line_is_zero(low)) put_line(w, index, low, g->streams);
    w->waiting_index = line_is_zero(high) ? (uint64_t)NO_LINE : index + 1;
    w->waiting = high;
  }
}

// One bit for each of `count` lines that is not zero. Asks for the lines after them, and for the
// mappings of those found: what the next steps read.
INLINE uint64_t dirty_lines(const uint64_t *source, const smudge_mapping *mappings,
                            uint64_t count) {
  uint64_t dirty = 0;
  for (uint64_t i = 0; i < count; i++) {
    // The CPU's own prefetch ends where a page does, which is here.
    __builtin_prefetch(source + (i + GROUP) * 8);
    dirty |= (uint64_t)!line_is_zero(line_load(source + i * 8)) << i;
  }
  for (uint64_t rest = dirty; rest != 0; rest &= rest - 1) {
    const smudge_mapping *m = mappings + __builtin_ctzll(rest);
    __builtin_prefetch(m);
    __builtin_prefetch(&m->generation);
  }
  return dirty;
}

// A line that the summary says is clean is not read.
INLINE void ask_for_lines(const smudge_scatter *s, int streams, uint64_t target) {
  uint64_t first = target >> 9, last = (target + 511) >> 9;
  if (!streams || (s->target.lines[first >> 6] >> (first & 63) & 1) != 0)
    __builtin_prefetch(s->target.words + first * 8, 1);
  if (!streams && last != first) __builtin_prefetch(s->target.words + last * 8, 1);
}

// The writable ones among the dirty lines of a group that begins at `from`, and the lines of the
// target asked for. Returns how many lines of the group are done with: all, or those before a dirty
// one whose mapping is of another kind or needs the caller. `*verified` is moved past the last
// mapping that was looked at and is a line: those under clean lines may be of any kind, so that
// their number says nothing.
INLINE uint64_t collect(const smudge_scatter *s, const cursor *from, uint64_t dirty, uint64_t count,
                        group *g, uint64_t *verified) {
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1, bytes = 512ull << shift;
  const uint64_t *source = s->source + (from->page >> 6);
  const smudge_mapping *mappings = s->mappings + from->index;
  uint64_t iova_first = s->window_first + (from->page << shift);
  g->count = 0;
  for (; dirty != 0; dirty &= dirty - 1) {
    uint64_t i = (uint64_t)__builtin_ctzll(dirty);
    const smudge_mapping *m = mappings + i;
    uint64_t iova = iova_first + ((i << 9) << shift);
    uint64_t offset = m->gpa_first - s->target_gpa_first, target = offset >> shift;
    if (m->iova_first != iova || m->iova_last != iova + (bytes - 1) || (offset & mask) != 0 ||
        s->target.page_count < 512 || target > s->target.page_count - 512)
      return i;
    ask_for_lines(s, g->streams, target);
    g->sources[g->count] = source + i * 8;
    g->targets[g->count] = target;
    g->count += (m->permissions & s->write_permission) != 0;
    *verified = from->index + i + 1;
  }
  return count;
}

// Mappings of a line of the source each, 2 MiB of 4 KiB pages, side by side in IOVA, wherever their
// GPA is. Only those with dirty bits are looked at. None of the pages from the cursor on has been
// looked at. Leaves `at` at the first dirty line whose mapping is of another kind or needs the
// caller.
//
// Three steps, each a group of lines behind the other, so that what one reads was asked for in the
// one before: which lines are dirty, where they go, going there.
INLINE void line_mappings(const smudge_scatter *s, cursor *at, counts *c) {
  uint64_t left = at->index < s->mapping_count ? s->mapping_count - at->index : 0;
  uint64_t lines = (s->window_page_count - at->page) >> 9;
  if (left > lines) left = lines;
  if (left == 0) return;
  writer w = {&s->target, c, 0, s->target.lines[0], (uint64_t)NO_LINE, line_zero(), 0, 0};
  group groups[2];
  groups[1].count = 0;
  uint64_t turn = 0, count = left < GROUP ? left : GROUP;
  cursor from = *at;
  uint64_t dirty = dirty_lines(s->source + (from.page >> 6), s->mappings + from.index, count);
  for (;;) {
    // No more lines in flight than the CPU waits for at once.
    uint64_t step = (uint64_t)__builtin_popcountll(dirty) * 4 > count * 3 ? GROUP / 2 : GROUP;
    uint64_t next_count = left - count < step ? left - count : step, next_dirty = 0;
    if (next_count != 0)
      next_dirty = dirty_lines(s->source + (from.page >> 6) + count * 8,
                               s->mappings + from.index + count, next_count);
    // Mappings that go on where the one before ended leave one line to write, which was clean as a
    // rule. Elsewhere the second that comes to a line finds it dirty, as often as not: a guess that
    // costs more than it saves.
    groups[turn].streams = s->streams && w.shared * 8 >= w.split;
    uint64_t done = collect(s, &from, dirty, count, &groups[turn], &at->index);
    turn ^= 1;
    or_group(&w, &groups[turn]);
    from.index += done;
    from.page += done << 9;
    if (done < count || next_count == 0) break;
    left -= count;
    count = next_count;
    dirty = next_dirty;
  }
  or_group(&w, &groups[turn ^ 1]);
  put_waiting(&w, groups[turn ^ 1].streams);
  put_summary(&w);
  at->page = from.page;
}

// Of a line each as those of line_mappings, but anywhere in IOVA, and looked at one after the other
// without a look at the bits between them. Leaves `at` at the first of another kind, or that needs
// the caller.
INLINE void listed_lines(const smudge_scatter *s, cursor *at, counts *c) {
  uint64_t shift = s->page_shift, mask = (1ull << shift) - 1, bytes = 512ull << shift;
  if (s->window_page_count < 512 || s->target.page_count < 512) return;
  writer w = {&s->target, c, 0, s->target.lines[0], (uint64_t)NO_LINE, line_zero(), 0, 0};
  group groups[2];
  groups[1].count = 0;
  uint64_t turn = 0, index = at->index, page = at->page, is_odd = 0;
  while (index < s->mapping_count && !is_odd) {
    uint64_t end = index + GROUP / 2 < s->mapping_count ? index + GROUP / 2 : s->mapping_count;
    group *g = &groups[turn];
    g->count = 0;
    g->streams = s->streams && w.shared * 8 >= w.split;
    for (; index < end; index++) {
      const smudge_mapping *m = s->mappings + index;
      uint64_t distance = m->iova_first - s->window_first, bit = distance >> shift;
      uint64_t offset = m->gpa_first - s->target_gpa_first, target = offset >> shift;
      is_odd = m->iova_last - m->iova_first != bytes - 1 || (distance & mask) != 0 ||
               (bit & 63) != 0 || bit < page || bit > s->window_page_count - 512 ||
               (offset & mask) != 0 || target > s->target.page_count - 512;
      if (is_odd) break;
      ask_for_lines(s, g->streams, target);
      g->sources[g->count] = s->source + (bit >> 6);
      g->targets[g->count] = target;
      g->count += (m->permissions & s->write_permission) != 0;
      page = bit + 512;
    }
    turn ^= 1;
    or_group(&w, &groups[turn]);
    groups[turn].count = 0;
  }
  or_group(&w, &groups[turn ^ 1]);
  put_waiting(&w, groups[turn ^ 1].streams);
  put_summary(&w);
  at->index = index;
  at->page = page;
}

static int scatter(smudge_scatter *scatter) {
  smudge_scatter s = *scatter;
  cursor at = {s.mapping_next, s.page_next};
  counts c = {tally_zero(), 0, 0};
  batch b;
  b.count = b.hit = b.newly = 0;
  uint64_t mask = (1ull << s.page_shift) - 1;
  int result = SMUDGE_SCATTER_DONE;
  // Mappings between dirty bits, of late.
  uint64_t average = s.mappings_lead ? 0 : FAR;
  while (result == SMUDGE_SCATTER_DONE) {
    if (s.mappings_lead) listed_lines(&s, &at, &c);
    at.page = next_dirty(&s, at.page);
    if (at.page >= s.window_page_count) break;
    uint64_t iova = s.window_first + (at.page << s.page_shift);
    uint64_t before = at.index, page = at.page;
    at.index = seek(s.mappings, at.index, s.mapping_count, iova);
    if (at.index >= s.mapping_count) break;
    average = (average * 7 + (at.index - before)) / 8;
    const smudge_mapping *m = s.mappings + at.index;
    if (average < NEAR && m->iova_last - m->iova_first == mask) {
      if (!s.mappings_lead) average = FAR;
      before = at.index;
      strewn_mappings(&s, &at, &b);
      if (at.index != before) continue;
    }
    if (m->iova_first > iova + mask) {
      // A hole: the next page that can matter is the one this mapping begins in.
      at.page = (m->iova_first - s.window_first) >> s.page_shift;
    } else if (m->iova_first == iova && m->iova_last == iova + mask) {
      before = at.index;
      one_page_mappings(&s, &at, &b);
      if (at.index == before && at.page == page) result = one_mapping(&s, &at, &b, &c);
      // Side by side: the guess is better than a walk.
      if (at.index > before + 1) average = FAR;
    } else if (m->iova_first == iova && m->iova_last - iova == (512ull << s.page_shift) - 1 &&
               (page & 63) == 0) {
      line_mappings(&s, &at, &c);
      if (at.page == page) result = one_mapping(&s, &at, &b, &c);
    } else {
      result = one_mapping(&s, &at, &b, &c);
      if (result == SMUDGE_SCATTER_DONE && (at.page & 63) == 0 &&
          m->iova_last - m->iova_first == (512ull << s.page_shift) - 1 &&
          at.page < s.window_page_count)
        line_mappings(&s, &at, &c);
    }
  }
  flush(&s.target, &b);
  if (s.streams) stream_end();
  scatter->mapping_next = at.index;
  scatter->page_next = at.page;
  scatter->hit_count += b.hit + c.hit + tally_hit(&c.lines);
  scatter->newly_count += b.newly + c.newly + tally_newly(&c.lines);
  return result;
}
