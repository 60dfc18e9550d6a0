// Scatter through mappings of one line of the source each, 2 MiB of 4 KiB pages. Included by
// scatter.h.

// Lines of the source, and the page of the target that the first bit of each goes to.
typedef struct group {
  uint64_t count;
  // Whether lines that are clean in the target are not read, and written past the caches.
  int streams;
  const uint64_t *sources[GROUP];
  uint64_t targets[GROUP];
} group;

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

// As nonzero_lines. Asks for the mappings of those found too, which the next step reads.
INLINE uint64_t dirty_lines(const uint64_t *source, const smudge_bitmap_mapping *mappings,
                            uint64_t count) {
  uint64_t dirty = nonzero_lines(source, 0, count, GROUP * 8);
  for (uint64_t rest = dirty; rest != 0; rest &= rest - 1) {
    const smudge_bitmap_mapping *m = mappings + __builtin_ctzll(rest);
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
  const smudge_bitmap_mapping *mappings = s->mappings + from->index;
  uint64_t iova_first = s->window_first + (from->page << shift);
  g->count = 0;
  for (; dirty != 0; dirty &= dirty - 1) {
    uint64_t i = (uint64_t)__builtin_ctzll(dirty);
    const smudge_bitmap_mapping *m = mappings + i;
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

// Mappings of a line of the source each, from the cursor on, that go to one line of the target
// each, wherever. Nearly all of them are dirty, and what they go to is clean: nothing is looked at
// ahead, and nothing waits. Returns a cursor at the first mapping of another kind, or where too
// many were not so.
//
// Not inlined, with as few steps for each as will do: the more there are, the fewer lines are on
// their way through memory at once.
static __attribute__((noinline)) cursor clean_lines(const smudge_scatter *scatter, cursor at,
                                                    smudge_counts *sum) {
  smudge_scatter s = *scatter;
  uint64_t shift = s.page_shift, bytes = 512ull << shift, in_word = (64ull << shift) - 1;
  uint64_t index = at.index, from_next = at.page << shift, others_left = GROUP;
  if (!s.streams || s.target.page_count < 512 || s.window_page_count < 512 ||
      index >= s.mapping_count || s.mappings[index].iova_first - s.window_first < from_next)
    return at;
  uint64_t from_max = (s.window_page_count - 512) << shift;
  uint64_t to_max = (s.target.page_count - 512) << shift;
  counts found = {tally_zero(), 0, 0};
  for (; index < s.mapping_count; index++) {
    const smudge_bitmap_mapping *m = s.mappings + index;
    uint64_t from = m->iova_first - s.window_first, to = m->gpa_first - s.target_gpa_first;
    uint64_t odd = (m->iova_last - m->iova_first) ^ (bytes - 1);
    odd |= (from & in_word) | (to & (bytes - 1));
    if (odd != 0 || from > from_max || to > to_max) break;
    const uint64_t *source = s.source + (from >> shift >> 6);
    uint64_t target = to >> shift >> 9;
    __builtin_prefetch(source + GROUP * 8);
    __builtin_prefetch(m + GROUP);
    line bits = line_load(source);
    int is_zero = line_is_zero(bits);
    int is_clean = (s.target.lines[target >> 6] >> (target & 63) & 1) == 0;
    if ((is_zero || !is_clean) && others_left-- == 0) break;
    from_next = from + bytes;
    if (is_zero || (m->permissions & s.write_permission) == 0) continue;
    add_line(s.target.words + target * 8, bits, is_clean, &found);
    mark_line(&s.target, target);
  }
  sum->hit += tally_hit(&found.lines);
  sum->newly += tally_newly(&found.lines);
  return (cursor){index, from_next >> shift};
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
    if (w.split != 0) step = SPLIT_GROUP;
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
    uint64_t step = w.split != 0 ? SPLIT_GROUP : GROUP / 2;
    uint64_t end = index + step < s->mapping_count ? index + step : s->mapping_count;
    group *g = &groups[turn];
    g->count = 0;
    g->streams = s->streams && w.shared * 8 >= w.split;
    for (; index < end; index++) {
      const smudge_bitmap_mapping *m = s->mappings + index;
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
