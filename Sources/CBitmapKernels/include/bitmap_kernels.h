// Kernels over dirty bitmaps: merge with count, scatter through mappings, population, search.
//
// Words are 64 bits, bit 0 of word 0 is page 0, as the kernel's dirty bitmaps are on a
// little-endian machine. A *line* is 8 words (64 bytes, 512 pages), a *block* 64 lines (4 KiB of
// words, 32768 pages). Nothing here allocates or fails; the one exception is stated below.
//
// Each kernel exists at several levels of CPU feature; the best one the CPU has is chosen on first
// use. All levels give the same results, which the tests hold against a reference.
#ifndef SMUDGE_BITMAP_KERNELS_H
#define SMUDGE_BITMAP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// A dirty bitmap with its summaries. `words` covers whole lines; bits at and past `page_count`
/// are zero. A clear bit of `lines` says that line is all zero; a clear bit of `blocks` says that
/// word of `lines` is zero. A set bit promises nothing.
typedef struct smudge_bitmap {
  uint64_t *words;
  uint64_t *lines;
  uint64_t *blocks;
  uint64_t page_count;
} smudge_bitmap;

/// One IOVA range and the GPA behind it: the layout of `Addressing.Mapping`.
typedef struct smudge_bitmap_mapping {
  uint64_t iova_first;
  uint64_t iova_last;
  uint64_t gpa_first;
  uint8_t permissions;
  uint64_t generation;
} smudge_bitmap_mapping;

/// Mappings of a leaf of a table, in three columns, one after the other:
///
///     key    IOVA first, above; pages-1 bits 32...39 in bits 2...9; permissions in bits 0...1
///     value  GPA first, above; generation bits 32...43 in bits 0...11
///     extent pages-1, low 32 bits, below; generation, low 32 bits, above
///
/// Pages here are of 4 KiB. After the columns comes what the table keeps of the leaf.
enum { SMUDGE_LEAF_CAPACITY = 128 };

/// Mappings that follow each other in a leaf, in IOVA order: the layout of
/// `Addressing.PackedMappings`.
typedef struct smudge_packed {
  /// The key of the first. Its value lies SMUDGE_LEAF_CAPACITY words after it, its extent as many
  /// after that.
  const uint64_t *keys;
  uint64_t count;
  /// Pages of each, where all are known to lie side by side, of one size and with the same
  /// permissions; 0 where that is not known.
  uint64_t even_page_count;
  /// A leaf that is read soon: asked for while this one is read.
  const uint64_t *ahead;
} smudge_packed;

/// The answer of a query: a bit for each page of the window, in whole words.
typedef struct smudge_answer {
  const uint64_t *words;
  uint64_t window_first;
  uint64_t window_last;
  uint64_t page_shift;
  /// Mappings with none of these permission bits do not count.
  uint8_t write_permission;
} smudge_answer;

/// What a scatter reads and where it stands. Pages on both sides are of `1 << page_shift` bytes.
typedef struct smudge_scatter {
  smudge_bitmap target;
  /// GPA of bit 0 of the target.
  uint64_t target_gpa_first;
  const uint64_t *source;
  /// IOVA of bit 0 of the source, page aligned.
  uint64_t window_first;
  uint64_t window_page_count;
  uint64_t page_shift;
  /// Sorted by IOVA, none overlapping another.
  const smudge_bitmap_mapping *mappings;
  uint64_t mapping_count;
  /// Mappings with none of these permission bits contribute nothing.
  uint8_t write_permission;
  /// Whether lines of the target that its summary says are clean are written past the caches, for
  /// targets larger than those. `words` is then aligned to a line.
  uint8_t streams;
  /// Whether most mappings have a dirty page, as after smudge_packed_dirty: then they lead, and not
  /// the bits.
  uint8_t mappings_lead;
  /// In and out: mappings below this index and source pages below this one are done with.
  uint64_t mapping_next;
  uint64_t page_next;
  /// Added to: dirty source pages that reached the target; target bits that were clear before.
  uint64_t hit_count;
  uint64_t newly_count;
} smudge_scatter;

/// What a move of lines reads and writes. Pages on both sides are of `1 << page_shift` bytes.
typedef struct smudge_line_move {
  smudge_bitmap target;
  /// GPA of bit 0 of the target.
  uint64_t target_gpa_first;
  /// A bit for each page of the window, in whole words.
  uint64_t *answer;
  uint64_t window_first;
  uint64_t window_last;
  uint64_t page_shift;
  /// Mappings with none of these permission bits do not count.
  uint8_t write_permission;
  /// As of smudge_scatter.
  uint8_t streams;
  /// In and out: words of the answer below this one are zero.
  uint64_t clear_word_count;
  /// Added to: mappings under which something dirty may be left; dirty pages that reached the
  /// target; target bits that were clear before.
  uint64_t left_count;
  uint64_t hit_count;
  uint64_t newly_count;
} smudge_line_move;

enum {
  SMUDGE_SCATTER_DONE = 0,
  /// The mapping at `mapping_next` is writable, has a dirty page and does not consist of whole
  /// pages on both sides. The caller scatters it, then goes on after it.
  SMUDGE_SCATTER_UNALIGNED = 1,
  /// The mapping at `mapping_next` has GPA outside the target: nothing of it was scattered.
  SMUDGE_SCATTER_OUTSIDE = 2,
};

/// Set bits of a source, and those of them that were clear in the target.
typedef struct smudge_counts {
  uint64_t hit;
  uint64_t newly;
} smudge_counts;

/// ORs `bit_count` bits of `source` from `source_bit` on into the pages from `page` on and keeps
/// the summaries. The pages must lie in the bitmap.
smudge_counts smudge_bitmap_merge(const smudge_bitmap *target, uint64_t page,
                                  const uint64_t *source, uint64_t source_bit,
                                  uint64_t bit_count);

/// ORs the blocks from `block_first` up to and without `block_end` of `from` into `into`, a bitmap
/// of the same size, led by the summaries: a clean line is neither read nor written. With `clears`
/// they are zero in `from` after.
smudge_counts smudge_bitmap_move(const smudge_bitmap *from, const smudge_bitmap *into,
                                 uint64_t block_first, uint64_t block_end, int clears);

/// Scatters until done or until a mapping needs the caller; returns one of SMUDGE_SCATTER_*.
int smudge_bitmap_scatter(smudge_scatter *scatter);

/// Unpacks the writable mappings under which a page may be dirty: all that have one, and some that
/// have none. Returns how many; `into` has room for all.
size_t smudge_packed_dirty(const smudge_packed *packed, const smudge_answer *answer,
                           smudge_bitmap_mapping *into);

/// Unpacks mappings as runs: what goes on in IOVA and in GPA with the same permissions becomes one,
/// with the generation of the first. `into` holds `open_count` mappings, of which the last may go
/// on, and has room for as many more as are packed. Returns how many it holds then.
size_t smudge_packed_runs(const smudge_packed *packed, size_t open_count,
                          smudge_bitmap_mapping *into);

/// Moves lines of an answer into the target: what a writable mapping of one line of both, 2 MiB of
/// 4 KiB pages, has dirty. They are zero in the answer after. What other mappings have dirty is
/// neither moved nor cleared, only counted.
void smudge_packed_move_lines(const smudge_packed *leaves, size_t leaf_count,
                              smudge_line_move *move);

/// Pages of each mapping when all lie side by side, of one size and with the same permissions; 0
/// when they do not. Looks at the mappings, not at what is known of them.
uint64_t smudge_packed_even_page_count(const smudge_packed *packed);

/// Set bits in `count` words.
uint64_t smudge_bitmap_population(const uint64_t *words, size_t count);

/// The index of the first word from `from` on that is not zero, `count` when there is none.
size_t smudge_bitmap_first_nonzero(const uint64_t *words, size_t from, size_t count);

/// Tells the CPU that the line of `word` is about to be read.
static inline void smudge_bitmap_prefetch(const uint64_t *word) { __builtin_prefetch(word, 1); }

/// A word that several threads may note the same in.
static inline uint64_t smudge_note_load(const uint64_t *note) {
  return __atomic_load_n(note, __ATOMIC_RELAXED);
}
static inline void smudge_note_store(uint64_t *note, uint64_t word) {
  __atomic_store_n(note, word, __ATOMIC_RELAXED);
}

/// Levels, lowest first. Only the first exists outside x86-64.
enum { SMUDGE_LEVEL_BASELINE = 0, SMUDGE_LEVEL_AVX2 = 1, SMUDGE_LEVEL_AVX512 = 2 };

/// The best level this CPU has.
int smudge_kernels_best_level(void);
/// The level in use.
int smudge_kernels_level(void);
/// `baseline`, `avx2`, `avx512`; `unknown` for a number that is no level.
const char *smudge_kernels_level_name(int level);
/// For tests: use this level from now on, in the whole process. Returns 0, or -1 and changes
/// nothing when the CPU does not have it.
int smudge_kernels_force_level(int level);

/// `byte_count` bytes of page-aligned zeroes, that take no memory until they are touched; null when
/// the system has no more. Large ones ask for huge pages: scattered bits miss the TLB otherwise.
void *_Nullable smudge_pages_allocate(size_t byte_count);
void smudge_pages_free(void *pages, size_t byte_count);

#pragma clang assume_nonnull end

#endif
