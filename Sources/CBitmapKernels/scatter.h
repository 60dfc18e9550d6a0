// Scatter, led by the dirty bits of the source: a clean stretch of the window costs no look at the
// mappings under it. Included by body.h.

enum {
  // Targets of one-page mappings are collected and set together: their cache misses overlap.
  BATCH = 256,
  // How many mappings ahead the target of a longer mapping is asked for.
  AHEAD = 12,
  // Lines, or dirty pages, that are looked at together.
  GROUP = 64,
  // Of mappings with a part in two lines each: with more of them some CPUs lose lines that were
  // asked for before they get to them (with 32, a Zen 4 takes twice as long).
  SPLIT_GROUP = 8,
};

typedef struct batch {
  uint64_t count;
  uint64_t hit;
  uint64_t newly;
  uint64_t targets[BATCH];
} batch;

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
static uint64_t seek(const smudge_bitmap_mapping *m, uint64_t index, uint64_t count,
                     uint64_t iova) {
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

// The mapping at the cursor, which overlaps the cursor's page. Returns SMUDGE_SCATTER_*.
INLINE int one_mapping(const smudge_scatter *s, cursor *at, batch *b, counts *c) {
  const smudge_bitmap_mapping *m = s->mappings + at->index;
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

#include "scatter_lines.h"
#include "scatter_pages.h"

static int scatter(smudge_scatter *scatter) {
  smudge_scatter s = *scatter;
  cursor at = {s.mapping_next, s.page_next};
  counts c = {tally_zero(), 0, 0};
  batch b;
  b.count = b.hit = b.newly = 0;
  // Apart from the counts, which stay in registers as long as nobody has their address.
  smudge_counts sum = {0, 0};
  uint64_t mask = (1ull << s.page_shift) - 1;
  int result = SMUDGE_SCATTER_DONE;
  while (result == SMUDGE_SCATTER_DONE) {
    if (s.mappings_lead) {
      at = clean_lines(scatter, at, &sum);
      listed_lines(&s, &at, &c);
    }
    at.page = next_dirty(&s, at.page);
    if (at.page >= s.window_page_count) break;
    uint64_t iova = s.window_first + (at.page << s.page_shift);
    uint64_t page = at.page;
    at.index = seek(s.mappings, at.index, s.mapping_count, iova);
    if (at.index >= s.mapping_count) break;
    const smudge_bitmap_mapping *m = s.mappings + at.index;
    if (m->iova_first > iova + mask) {
      // A hole: the next page that can matter is the one this mapping begins in.
      at.page = (m->iova_first - s.window_first) >> s.page_shift;
    } else if (m->iova_first == iova && m->iova_last == iova + mask) {
      uint64_t before = at.index;
      if (!s.mappings_lead) one_page_mappings(&s, &at, &b);
      // Not side by side.
      if (at.index <= before + 1 && at.page < s.window_page_count) strewn_mappings(&s, &at, &b);
      if (at.index == before && at.page == page) result = one_mapping(&s, &at, &b, &c);
    } else if (m->iova_first == iova && m->iova_last - iova == (512ull << s.page_shift) - 1 &&
               (page & 63) == 0) {
      at = clean_lines(scatter, at, &sum);
      if (at.page < s.window_page_count) line_mappings(&s, &at, &c);
      if (at.page == page) result = one_mapping(&s, &at, &b, &c);
    } else {
      result = one_mapping(&s, &at, &b, &c);
    }
  }
  flush(&s.target, &b);
  if (s.streams) stream_end();
  scatter->mapping_next = at.index;
  scatter->page_next = at.page;
  scatter->hit_count += sum.hit + b.hit + c.hit + tally_hit(&c.lines);
  scatter->newly_count += sum.newly + b.newly + c.newly + tally_newly(&c.lines);
  return result;
}
