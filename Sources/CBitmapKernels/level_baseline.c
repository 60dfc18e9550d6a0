// What every CPU of the architecture has: SSE2 on x86-64, NEON on aarch64, through the compiler's
// own vectoriser.
#include "kernels.h"

typedef struct line {
  uint64_t w[8];
} line;

typedef struct tally {
  uint64_t hit;
  uint64_t newly;
} tally;

INLINE line line_zero(void) { return (line){{0}}; }

INLINE line line_load(const uint64_t *p) {
  line l;
  for (int i = 0; i < 8; i++) l.w[i] = p[i];
  return l;
}

INLINE line line_load_shifted(const uint64_t *p, uint64_t shift) {
  line l;
  for (int i = 0; i < 8; i++) l.w[i] = p[i] >> shift | p[i + 1] << (64 - shift);
  return l;
}

INLINE void line_store(uint64_t *p, line l) {
  for (int i = 0; i < 8; i++) p[i] = l.w[i];
}

INLINE void line_stream(uint64_t *p, line l) { line_store(p, l); }
INLINE void stream_end(void) {}

INLINE line line_all(uint64_t word) {
  line l;
  for (int i = 0; i < 8; i++) l.w[i] = word;
  return l;
}

INLINE line line_subtract(line a, line b) {
  for (int i = 0; i < 8; i++) a.w[i] -= b.w[i];
  return a;
}

INLINE line line_and(line a, line b) {
  for (int i = 0; i < 8; i++) a.w[i] &= b.w[i];
  return a;
}

INLINE line line_or(line a, line b) {
  for (int i = 0; i < 8; i++) a.w[i] |= b.w[i];
  return a;
}

INLINE int line_is_zero(line l) {
  uint64_t any = 0;
  for (int i = 0; i < 8; i++) any |= l.w[i];
  return any == 0;
}

INLINE tally tally_zero(void) { return (tally){0, 0}; }

INLINE void tally_line(tally *t, line bits, line old) {
  uint64_t hit = 0, newly = 0;
  for (int i = 0; i < 8; i++) hit += (uint64_t)__builtin_popcountll(bits.w[i]);
  for (int i = 0; i < 8; i++) newly += (uint64_t)__builtin_popcountll(bits.w[i] & ~old.w[i]);
  t->hit += hit;
  t->newly += newly;
}

INLINE uint64_t tally_hit(const tally *t) { return t->hit; }
INLINE uint64_t tally_newly(const tally *t) { return t->newly; }

#include "body.h"

const smudge_kernels smudge_kernels_baseline = {merge, move, scatter, population, first_nonzero,
                                              packed_dirty, packed_runs, move_lines,
                                              even_page_count};
