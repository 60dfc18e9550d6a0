// Chooses a level once, by what the CPU says it has.
#include <stdatomic.h>

#include "kernels.h"

static _Atomic(const smudge_kernels *) chosen;

int smudge_kernels_best_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt")))
    return SMUDGE_LEVEL_BASELINE;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vpopcntdq"))
    return SMUDGE_LEVEL_AVX512;
  return SMUDGE_LEVEL_AVX2;
#else
  return SMUDGE_LEVEL_BASELINE;
#endif
}

static const smudge_kernels *of_level(int level) {
#if defined(__x86_64__)
  if (level == SMUDGE_LEVEL_AVX512) return &smudge_kernels_avx512;
  if (level == SMUDGE_LEVEL_AVX2) return &smudge_kernels_avx2;
#endif
  return level == SMUDGE_LEVEL_BASELINE ? &smudge_kernels_baseline : NULL;
}

static const smudge_kernels *kernels(void) {
  const smudge_kernels *k = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (k == NULL) {
    k = of_level(smudge_kernels_best_level());
    atomic_store_explicit(&chosen, k, memory_order_relaxed);
  }
  return k;
}

int smudge_kernels_level(void) {
  const smudge_kernels *k = kernels();
  int level = SMUDGE_LEVEL_BASELINE;
  while (of_level(level) != k) level++;
  return level;
}

const char *smudge_kernels_level_name(int level) {
  switch (level) {
    case SMUDGE_LEVEL_BASELINE: return "baseline";
    case SMUDGE_LEVEL_AVX2: return "avx2";
    case SMUDGE_LEVEL_AVX512: return "avx512";
    default: return "unknown";
  }
}

int smudge_kernels_force_level(int level) {
  if (level < SMUDGE_LEVEL_BASELINE || level > smudge_kernels_best_level()) return -1;
  atomic_store_explicit(&chosen, of_level(level), memory_order_relaxed);
  return 0;
}

smudge_counts smudge_bitmap_merge(const smudge_bitmap *target, uint64_t page,
                                  const uint64_t *source, uint64_t source_bit,
                                  uint64_t bit_count) {
  return kernels()->merge(target, page, source, source_bit, bit_count);
}

smudge_counts smudge_bitmap_move(const smudge_bitmap *from, const smudge_bitmap *into,
                                 uint64_t block_first, uint64_t block_end, int clears) {
  return kernels()->move(from, into, block_first, block_end, clears);
}

int smudge_bitmap_scatter(smudge_scatter *scatter) { return kernels()->scatter(scatter); }

uint64_t smudge_bitmap_population(const uint64_t *words, size_t count) {
  return kernels()->population(words, count);
}

size_t smudge_bitmap_first_nonzero(const uint64_t *words, size_t from, size_t count) {
  return kernels()->first_nonzero(words, from, count);
}

size_t smudge_packed_dirty(const smudge_packed *packed, const smudge_answer *answer,
                           smudge_bitmap_mapping *into) {
  return kernels()->packed_dirty(packed, answer, into);
}

size_t smudge_packed_runs(const smudge_packed *packed, size_t open_count,
                          smudge_bitmap_mapping *into) {
  return kernels()->packed_runs(packed, open_count, into);
}

void smudge_packed_move_lines(const smudge_packed *leaves, size_t leaf_count,
                              smudge_line_move *move) {
  kernels()->move_lines(leaves, leaf_count, move);
}

uint64_t smudge_packed_even_page_count(const smudge_packed *packed) {
  return kernels()->even_page_count(packed);
}
