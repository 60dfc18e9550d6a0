// AVX2, with the population of a vector counted by a table of nibbles.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), \
                             apply_to = function)

typedef struct line {
  __m256i a;
  __m256i b;
} line;

typedef struct tally {
  __m256i hit;
  __m256i newly;
} tally;

INLINE line line_zero(void) {
  return (line){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

INLINE line line_load(const uint64_t *p) {
  tell_read(p, 8);
  return (line){_mm256_loadu_si256((const __m256i *)p),
                _mm256_loadu_si256((const __m256i *)(p + 4))};
}

INLINE line line_load_shifted(const uint64_t *p, uint64_t shift) {
  __m128i right = _mm_cvtsi64_si128((long long)shift);
  __m128i left = _mm_cvtsi64_si128((long long)(64 - shift));
  line low = line_load(p), high = line_load(p + 1);
  return (line){_mm256_or_si256(_mm256_srl_epi64(low.a, right), _mm256_sll_epi64(high.a, left)),
                _mm256_or_si256(_mm256_srl_epi64(low.b, right), _mm256_sll_epi64(high.b, left))};
}

INLINE void line_store(uint64_t *p, line l) {
  tell_written(p, 8);
  _mm256_storeu_si256((__m256i *)p, l.a);
  _mm256_storeu_si256((__m256i *)(p + 4), l.b);
}

// `p` is aligned to a line.
INLINE void line_stream(uint64_t *p, line l) {
  tell_written(p, 8);
  _mm256_stream_si256((__m256i *)p, l.a);
  _mm256_stream_si256((__m256i *)(p + 4), l.b);
}
INLINE void stream_end(void) { _mm_sfence(); }

INLINE line line_all(uint64_t word) {
  return (line){_mm256_set1_epi64x((long long)word), _mm256_set1_epi64x((long long)word)};
}

INLINE line line_subtract(line x, line y) {
  return (line){_mm256_sub_epi64(x.a, y.a), _mm256_sub_epi64(x.b, y.b)};
}

INLINE line line_and(line x, line y) {
  return (line){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}

INLINE line line_or(line x, line y) {
  return (line){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}

INLINE int line_is_zero(line l) {
  __m256i any = _mm256_or_si256(l.a, l.b);
  return _mm256_testz_si256(any, any);
}

INLINE tally tally_zero(void) {
  return (tally){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

// Population per byte, at most 8 each.
INLINE __m256i byte_population(__m256i v) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i low = _mm256_and_si256(v, nibble);
  __m256i high = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
}

INLINE __m256i line_population(__m256i a, __m256i b) {
  __m256i bytes = _mm256_add_epi8(byte_population(a), byte_population(b));
  return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
}

INLINE void tally_line(tally *t, line bits, line old) {
  t->hit = _mm256_add_epi64(t->hit, line_population(bits.a, bits.b));
  t->newly = _mm256_add_epi64(t->newly, line_population(_mm256_andnot_si256(old.a, bits.a),
                                                        _mm256_andnot_si256(old.b, bits.b)));
}

INLINE uint64_t lanes_sum(__m256i v) {
  __m128i two = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  return (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
}

INLINE uint64_t tally_hit(const tally *t) { return lanes_sum(t->hit); }
INLINE uint64_t tally_newly(const tally *t) { return lanes_sum(t->newly); }

#include "body.h"

#pragma clang attribute pop

const smudge_kernels smudge_kernels_avx2 = {merge, move, scatter, population, first_nonzero,
                                              packed_dirty, packed_runs, move_lines,
                                              even_page_count};

#else
typedef int smudge_level_avx2_is_for_x86_64;
#endif
