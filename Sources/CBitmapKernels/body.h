// The kernels, written over the vector of one line that the including file defines:
//
//   line                      8 words
//   line_load(p)              8 words from p, any alignment
//   line_load_shifted(p, b)   the 512 bits from bit b of p on, 0 < b < 64; reads 9 words
//   line_store, line_is_zero, line_and, line_or
//   line_all(w), line_subtract  8 times w; word by word, modulo 2^64
//   line_stream, stream_end   a store past the caches; all of them are done after stream_end
//   tally, tally_zero(), tally_line(&t, source, old), tally_hit(&t), tally_newly(&t)
//   LINE_SPLIT                defined where the level has a line_split of its own
//   MASKED_EDGE               defined where lanes can be masked (AVX-512 intrinsics)
//
// Included once per level, inside the `target` attribute of that level.

#if !defined(LINE_SPLIT)
// The 512 bits moved up by `shift`, 0 < shift < 512: what stays in the line, and what reaches into
// the next one.
INLINE void line_split(line bits, uint64_t shift, line *low, line *high) {
  uint64_t from[8], into[16] = {0}, word = shift >> 6, bit = shift & 63;
  line_store(from, bits);
  for (uint64_t i = 0; i < 8; i++) {
    into[i + word] |= from[i] << bit;
    into[i + word + 1] |= from[i] >> 1 >> (63 - bit);
  }
  *low = line_load(into);
  *high = line_load(into + 8);
}
#endif

// How many words ahead lines are asked for, past the page the CPU's own prefetch ends at.
enum { STREAM_AHEAD = 1024 };

typedef struct counts {
  tally lines;
  uint64_t hit;
  uint64_t newly;
} counts;

INLINE void mark_line(const smudge_bitmap *target, uint64_t line) {
  uint64_t block = line >> 6;
  target->lines[block] |= 1ull << (line & 63);
  target->blocks[block >> 6] |= 1ull << (block & 63);
}

// `is_clean`: the line of the target is known to be zero, so it is not read, and written past the
// caches.
INLINE void add_line(uint64_t *words, line bits, int is_clean, counts *c) {
  if (is_clean) {
    tally_line(&c->lines, bits, line_zero());
    line_stream(words, bits);
    return;
  }
  line old = line_load(words);
  tally_line(&c->lines, bits, old);
  line_store(words, line_or(bits, old));
}

INLINE void or_word(const smudge_bitmap *target, uint64_t word, uint64_t bits, counts *c) {
  uint64_t old = target->words[word];
  target->words[word] = old | bits;
  c->newly += (uint64_t)__builtin_popcountll(bits & ~old);
}

// Up to 64 bits: one or two words of the target.
INLINE void or_small(const smudge_bitmap *target, uint64_t page, uint64_t bits, uint64_t count,
                     counts *c) {
  if (bits == 0) return;
  uint64_t word = page >> 6, offset = page & 63;
  c->hit += (uint64_t)__builtin_popcountll(bits);
  or_word(target, word, bits << offset, c);
  mark_line(target, word >> 3);
  if (offset + count > 64) {
    or_word(target, word + 1, bits >> (64 - offset), c);
    mark_line(target, (word + 1) >> 3);
  }
}

#if defined(MASKED_EDGE)
// Bits `from` to `to` of one line. Lanes outside are neither read from the source nor changed in
// the target.
INLINE void edge_line(const smudge_bitmap *target, uint64_t index, const uint64_t *source,
                      uint64_t delta, uint64_t from, uint64_t to, counts *c) {
  // The bit of the source behind bit 0 of the line; below 0 when the source begins inside the line.
  int64_t base = (int64_t)((index << 9) + delta);
  int64_t word = base >> 6;
  uint64_t shift = (uint64_t)base & 63;
  // Of the 9 words from `word` on, those that hold a bit that is asked for: 0 to 8.
  uint64_t low = (uint64_t)(((base + (int64_t)from) >> 6) - word);
  uint64_t high = (uint64_t)(((base + (int64_t)to) >> 6) - word);
  uint32_t wanted = (2u << high) - (1u << low);
  // The address may lie before the source; the lanes that would read there are masked off.
  const uint64_t *p = (const uint64_t *)((uintptr_t)source + (uintptr_t)((uint64_t)word << 3));
  const uint64_t *q = (const uint64_t *)((uintptr_t)p + 8);
  tell_read((const uint64_t *)((uintptr_t)p + (low << 3)), high - low + 1);
  __m512i bits = _mm512_or_si512(
      _mm512_srl_epi64(_mm512_maskz_loadu_epi64((__mmask8)wanted, p),
                       _mm_cvtsi64_si128((long long)shift)),
      _mm512_sll_epi64(_mm512_maskz_loadu_epi64((__mmask8)(wanted >> 1), q),
                       _mm_cvtsi64_si128((long long)(64 - shift))));
  __mmask8 first = (__mmask8)(1u << (from >> 6)), last = (__mmask8)(1u << (to >> 6));
  __mmask8 lanes = (__mmask8)(2u * last - first);
  bits = _mm512_maskz_mov_epi64(lanes, bits);
  bits = _mm512_mask_and_epi64(bits, first, bits,
                               _mm512_set1_epi64((long long)(~0ull << (from & 63))));
  bits = _mm512_mask_and_epi64(bits, last, bits,
                               _mm512_set1_epi64((long long)(~0ull >> (63 - (to & 63)))));
  if (line_is_zero(bits)) return;
  uint64_t *words = target->words + index * 8;
  // The whole line is loaded, but the lanes outside count for nothing.
  tell_written(words + (from >> 6), (to >> 6) - (from >> 6) + 1);
  __m512i old = _mm512_loadu_si512(words);
  tally_line(&c->lines, bits, old);
  _mm512_mask_storeu_epi64(words, lanes, _mm512_or_si512(bits, old));
  mark_line(target, index);
}
#else
// Bits `from` to `to` of one line, word by word.
INLINE void edge_line(const smudge_bitmap *target, uint64_t index, const uint64_t *source,
                      uint64_t delta, uint64_t from, uint64_t to, counts *c) {
  uint64_t any = 0;
  for (uint64_t word = from >> 6; word <= to >> 6; word++) {
    uint64_t first = word << 6 > from ? word << 6 : from;
    uint64_t last = (word << 6) + 63 < to ? (word << 6) + 63 : to;
    uint64_t bits = take(source, (index << 9) + first + delta, last - first + 1);
    any |= bits;
    c->hit += (uint64_t)__builtin_popcountll(bits);
    or_word(target, (index << 3) + word, bits << (first & 63), c);
  }
  if (any != 0) mark_line(target, index);
}
#endif

// One bit for each of `count` lines, up to 64, that is not zero, from bit `shift` of `words` on, 0
// to 63. Asks for the lines so many words after them, unless that is 0: the CPU's own prefetch ends
// where a page does.
INLINE uint64_t nonzero_lines(const uint64_t *words, uint64_t shift, uint64_t count,
                              uint64_t ahead) {
  uint64_t found = 0;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t *p = words + i * 8;
    if (ahead != 0) __builtin_prefetch(p + ahead);
    line bits = shift == 0 ? line_load(p) : line_load_shifted(p, shift);
    found |= (uint64_t)!line_is_zero(bits) << i;
  }
  return found;
}

// A block of lines into one that was clean, past the caches: lines that are zero too, which costs
// less than to tell them from the others when they are few. Returns a bit for each that is not.
INLINE uint64_t stream_lines(uint64_t *words, uint64_t count, const uint64_t *source,
                             uint64_t shift, counts *c) {
  uint64_t dirty = 0;
  for (uint64_t i = 0; i < count; i++) {
    const uint64_t *p = source + i * 8;
    __builtin_prefetch(p + STREAM_AHEAD);
    line bits = shift == 0 ? line_load(p) : line_load_shifted(p, shift);
    add_line(words + i * 8, bits, 1, c);
    dirty |= (uint64_t)!line_is_zero(bits) << i;
  }
  return dirty;
}

// Whole lines, from one block at a time so that the summaries are written once per block. With
// `streams` what was clean is not read, and written past the caches.
INLINE void or_lines(const smudge_bitmap *target, uint64_t first, uint64_t end,
                     const uint64_t *source, uint64_t shift, int streams, counts *c) {
  uint64_t index = first;
  // Whether nearly every line was dirty, of late: then looking first only costs.
  int is_dense = 0;
  while (index < end) {
    uint64_t block = index >> 6, known = streams ? target->lines[block] : ~0ull;
    uint64_t block_end = (block + 1) << 6;
    if (block_end > end) block_end = end;
    // A clean line of the source costs no read and no write of the target. Which those are is found
    // out for all of them first: asked line by line, a guess would be wrong as often as right.
    uint64_t count = block_end - index, dirty = 0;
    int is_streamed = is_dense && known == 0;
    if (is_streamed) {
      dirty = stream_lines(target->words + index * 8, count, source, shift, c);
    } else if (is_dense) {
      dirty = ~0ull >> (64 - count);
    } else {
      dirty = nonzero_lines(source, shift, count, 64 * 8);
    }
    for (uint64_t rest = is_streamed ? 0 : dirty; rest != 0; rest &= rest - 1) {
      uint64_t i = (uint64_t)__builtin_ctzll(rest);
      const uint64_t *p = source + i * 8;
      line bits = shift == 0 ? line_load(p) : line_load_shifted(p, shift);
      if (is_dense) {
        __builtin_prefetch(p + 64 * 8);
        if (line_is_zero(bits)) {
          dirty &= ~(1ull << i);
          continue;
        }
      }
      int is_clean = (known >> ((index + i) & 63) & 1) == 0;
      add_line(target->words + (index + i) * 8, bits, is_clean, c);
    }
    if (dirty != 0) {
      target->lines[block] |= dirty << (index & 63);
      target->blocks[block >> 6] |= 1ull << (block & 63);
    }
    is_dense = (uint64_t)__builtin_popcountll(dirty) * 8 >= count * 7;
    source += count * 8;
    index = block_end;
  }
}

// bit_count is at least 1.
INLINE void or_range(const smudge_bitmap *target, uint64_t page, const uint64_t *source,
                     uint64_t source_bit, uint64_t bit_count, int streams, counts *c) {
  if (bit_count <= 64) {
    or_small(target, page, take(source, source_bit, bit_count), bit_count, c);
    return;
  }
  uint64_t last = page + bit_count - 1;
  uint64_t index = page >> 9, last_line = last >> 9;
  // The bit of the source behind page q is q + delta, modulo 2^64.
  uint64_t delta = source_bit - page;
  uint64_t last_bit = last & 511;
  if (index == last_line && ((page & 511) != 0 || last_bit != 511)) {
    edge_line(target, index, source, delta, page & 511, last_bit, c);
    return;
  }
  if ((page & 511) != 0) edge_line(target, index++, source, delta, page & 511, 511, c);
  uint64_t end = last_bit == 511 ? last_line + 1 : last_line;
  if (index < end) {
    uint64_t bit = (index << 9) + delta;
    if ((bit & 63) == 0) {
      or_lines(target, index, end, source + (bit >> 6), 0, streams, c);
    } else {
      or_lines(target, index, end, source + (bit >> 6), bit & 63, streams, c);
    }
  }
  if (end == last_line) edge_line(target, last_line, source, delta, 0, last_bit, c);
}

static smudge_counts merge(const smudge_bitmap *target, uint64_t page, const uint64_t *source,
                           uint64_t source_bit, uint64_t bit_count) {
  counts c = {tally_zero(), 0, 0};
  if (bit_count != 0) or_range(target, page, source, source_bit, bit_count, 0, &c);
  return (smudge_counts){c.hit + tally_hit(&c.lines), c.newly + tally_newly(&c.lines)};
}

// The lines that one word of the summary speaks of.
INLINE void move_block(const smudge_bitmap *from, const smudge_bitmap *into, uint64_t block,
                       int clears, counts *c) {
  uint64_t rest = from->lines[block], dirty = 0;
  while (rest != 0) {
    uint64_t index = (block << 6) + (uint64_t)__builtin_ctzll(rest);
    uint64_t *source = from->words + index * 8, *words = into->words + index * 8;
    line bits = line_load(source);
    // A set summary bit promises nothing, and a clean line is not written.
    if (!line_is_zero(bits)) {
      add_line(words, bits, 0, c);
      if (clears) line_store(source, line_zero());
      dirty |= rest & -rest;
    }
    rest &= rest - 1;
  }
  if (dirty != 0) {
    into->lines[block] |= dirty;
    into->blocks[block >> 6] |= 1ull << (block & 63);
  }
  if (clears) from->lines[block] = 0;
}

static smudge_counts move(const smudge_bitmap *from, const smudge_bitmap *into,
                          uint64_t block_first, uint64_t block_end, int clears) {
  counts c = {tally_zero(), 0, 0};
  uint64_t block = block_first;
  while (block < block_end) {
    uint64_t word = block >> 6;
    uint64_t rest = from->blocks[word] & (~0ull << (block & 63));
    while (rest != 0) {
      block = (word << 6) + (uint64_t)__builtin_ctzll(rest);
      if (block >= block_end) break;
      move_block(from, into, block, clears, &c);
      if (clears) from->blocks[word] &= ~(rest & -rest);
      rest &= rest - 1;
    }
    block = (word + 1) << 6;
  }
  return (smudge_counts){c.hit + tally_hit(&c.lines), c.newly + tally_newly(&c.lines)};
}

static uint64_t population(const uint64_t *words, size_t count) {
  tally t = tally_zero();
  size_t i = 0;
  line zero = line_zero();
  for (; i + 8 <= count; i += 8) tally_line(&t, line_load(words + i), zero);
  uint64_t total = tally_newly(&t);
  for (; i < count; i++) total += (uint64_t)__builtin_popcountll(words[i]);
  return total;
}

INLINE size_t nonzero_from(const uint64_t *words, size_t from, size_t count) {
  size_t i = from;
  while (i < count && i + 8 <= count && line_is_zero(line_load(words + i))) {
    // The CPU's own prefetch ends where a page does.
    __builtin_prefetch(words + i + 64 * 8);
    i += 8;
  }
  while (i < count && words[i] == 0) i++;
  return i;
}

static size_t first_nonzero(const uint64_t *words, size_t from, size_t count) {
  return nonzero_from(words, from, count);
}

#include "packed.h"
#include "packed_runs.h"
#include "scatter.h"
#include "packed_lines.h"
