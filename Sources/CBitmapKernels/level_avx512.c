// AVX-512 with VPOPCNTDQ: a line is one register, its population one instruction, and the edges of
// a range are masked lanes.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                         \
    __attribute__((target(                                                            \
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi,bmi2,lzcnt,popcnt"))), \
    apply_to = function)

typedef __m512i line;

typedef struct tally {
  __m512i hit;
  __m512i newly;
} tally;

INLINE line line_zero(void) { return _mm512_setzero_si512(); }
INLINE line line_load(const uint64_t *p) {
  tell_read(p, 8);
  return _mm512_loadu_si512(p);
}

INLINE line line_load_shifted(const uint64_t *p, uint64_t shift) {
  __m128i right = _mm_cvtsi64_si128((long long)shift);
  __m128i left = _mm_cvtsi64_si128((long long)(64 - shift));
  tell_read(p, 9);
  return _mm512_or_si512(_mm512_srl_epi64(_mm512_loadu_si512(p), right),
                         _mm512_sll_epi64(_mm512_loadu_si512(p + 1), left));
}

INLINE void line_store(uint64_t *p, line l) {
  tell_written(p, 8);
  _mm512_storeu_si512(p, l);
}
// `p` is aligned to a line.
INLINE void line_stream(uint64_t *p, line l) {
  tell_written(p, 8);
  _mm512_stream_si512((void *)p, l);
}
INLINE void stream_end(void) { _mm_sfence(); }
INLINE line line_all(uint64_t word) { return _mm512_set1_epi64((long long)word); }
INLINE line line_subtract(line a, line b) { return _mm512_sub_epi64(a, b); }
INLINE line line_and(line a, line b) { return _mm512_and_si512(a, b); }
INLINE line line_or(line a, line b) { return _mm512_or_si512(a, b); }
INLINE int line_is_zero(line l) { return _mm512_test_epi64_mask(l, l) == 0; }

INLINE tally tally_zero(void) {
  return (tally){_mm512_setzero_si512(), _mm512_setzero_si512()};
}

INLINE void tally_line(tally *t, line bits, line old) {
  t->hit = _mm512_add_epi64(t->hit, _mm512_popcnt_epi64(bits));
  t->newly = _mm512_add_epi64(t->newly, _mm512_popcnt_epi64(_mm512_andnot_si512(old, bits)));
}

INLINE uint64_t tally_hit(const tally *t) {
  return (uint64_t)_mm512_reduce_add_epi64(t->hit);
}
INLINE uint64_t tally_newly(const tally *t) {
  return (uint64_t)_mm512_reduce_add_epi64(t->newly);
}

INLINE void line_split(line bits, uint64_t shift, line *low, line *high) {
  uint64_t word = shift >> 6;
  __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  __m512i turned = _mm512_sub_epi64(lane, _mm512_set1_epi64((long long)word));
  __m128i left = _mm_cvtsi64_si128((long long)(shift & 63));
  __m128i right = _mm_cvtsi64_si128((long long)(64 - (shift & 63)));
  // Both turned as a ring; the masks cut the ring between lane 7 and lane 0. Lane `word` is the
  // first of the source, and its carry the last of the source, which belongs to the next line.
  __m512i value = _mm512_permutexvar_epi64(turned, _mm512_sll_epi64(bits, left));
  __m512i carry = _mm512_permutexvar_epi64(_mm512_sub_epi64(turned, _mm512_set1_epi64(1)),
                                           _mm512_srl_epi64(bits, right));
  __mmask8 values = (__mmask8)(0xffu << word), carries = (__mmask8)(0xfeu << word);
  *low = _mm512_or_si512(_mm512_maskz_mov_epi64(values, value),
                         _mm512_maskz_mov_epi64(carries, carry));
  *high = _mm512_or_si512(_mm512_maskz_mov_epi64((__mmask8)~values, value),
                          _mm512_maskz_mov_epi64((__mmask8)~carries, carry));
}

#define LINE_SPLIT
#define MASKED_EDGE
#include "body.h"

#pragma clang attribute pop

const smudge_kernels smudge_kernels_avx512 = {merge, move, scatter, population, first_nonzero,
                                              packed_dirty, packed_runs, move_lines,
                                              even_page_count};

#else
typedef int smudge_level_avx512_is_for_x86_64;
#endif
