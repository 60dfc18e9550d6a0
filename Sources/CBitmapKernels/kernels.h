// What the levels share: the table of one level, and the scalar pieces.
#ifndef SMUDGE_KERNELS_H
#define SMUDGE_KERNELS_H

#include "bitmap_kernels.h"

#define INLINE static inline __attribute__((always_inline))

// ThreadSanitizer sees no access wider than 16 bytes: it is told of those through wider registers.
// No code in any other build.
#if __has_feature(thread_sanitizer)
void __tsan_read_range(void *first, unsigned long byte_count);
void __tsan_write_range(void *first, unsigned long byte_count);
INLINE void tell_read(const uint64_t *first, uint64_t count) {
  __tsan_read_range((void *)(uintptr_t)first, count * 8);
}
INLINE void tell_written(uint64_t *first, uint64_t count) {
  __tsan_write_range(first, count * 8);
}
#else
INLINE void tell_read(const uint64_t *first, uint64_t count) { (void)first, (void)count; }
INLINE void tell_written(uint64_t *first, uint64_t count) { (void)first, (void)count; }
#endif

typedef struct smudge_kernels {
  smudge_counts (*merge)(const smudge_bitmap *target, uint64_t page, const uint64_t *source,
                         uint64_t source_bit, uint64_t bit_count);
  smudge_counts (*move)(const smudge_bitmap *from, const smudge_bitmap *into,
                        uint64_t block_first, uint64_t block_end, int clears);
  int (*scatter)(smudge_scatter *scatter);
  uint64_t (*population)(const uint64_t *words, size_t count);
  size_t (*first_nonzero)(const uint64_t *words, size_t from, size_t count);
  size_t (*packed_dirty)(const smudge_packed *packed, const smudge_answer *answer,
                         smudge_bitmap_mapping *into);
  size_t (*packed_runs)(const smudge_packed *packed, size_t open_count,
                        smudge_bitmap_mapping *into);
  void (*move_lines)(const smudge_packed *leaves, size_t leaf_count, smudge_line_move *move);
  uint64_t (*even_page_count)(const smudge_packed *packed);
} smudge_kernels;

// Asks for memory that is read in a while, as far as the second level of caches: for loops that
// need what lies there at every step. Where many lines are on their way into the first level, that
// comes late (on a Zen 4 a move of lines then takes a fifth longer). Loops that only read on and on
// are better off with the first level.
INLINE void ask_for(const uint64_t *p) { __builtin_prefetch(p, 0, 2); }

// `count` bits, 1 to 64, from bit `bit` on. Reads a second word only when the bits reach into it.
INLINE uint64_t take(const uint64_t *words, uint64_t bit, uint64_t count) {
  uint64_t word = bit >> 6, offset = bit & 63;
  uint64_t bits = words[word] >> offset;
  if (offset + count > 64) bits |= words[word + 1] << (64 - offset);
  return bits & (~0ull >> (64 - count));
}

// The columns of packed mappings.
INLINE const uint64_t *packed_values(const smudge_packed *packed) {
  return packed->keys + SMUDGE_LEAF_CAPACITY;
}
INLINE const uint64_t *packed_extents(const smudge_packed *packed) {
  return packed->keys + 2 * SMUDGE_LEAF_CAPACITY;
}

// A mapping out of its packed form.
INLINE uint64_t packed_last(uint64_t key, uint64_t extent) {
  uint64_t pages_less_1 = (extent & 0xffffffff) | (key & 0x3fc) << 30;
  return (key & ~0xfffull) + (pages_less_1 << 12 | 0xfff);
}

INLINE smudge_bitmap_mapping packed_mapping(const smudge_packed *packed, uint64_t i) {
  uint64_t key = packed->keys[i], value = packed_values(packed)[i];
  uint64_t extent = packed_extents(packed)[i];
  return (smudge_bitmap_mapping){
      .iova_first = key & ~0xfffull,
      .iova_last = packed_last(key, extent),
      .gpa_first = value & ~0xfffull,
      .permissions = (uint8_t)(key & 3),
      .generation = extent >> 32 | (value & 0xfff) << 32,
  };
}

extern const smudge_kernels smudge_kernels_baseline;
#if defined(__x86_64__)
extern const smudge_kernels smudge_kernels_avx2;
extern const smudge_kernels smudge_kernels_avx512;
#endif

#endif
