// What smudge-bench measures against: the containers and loops a C or C++ program would use.
//
// Whole loops are on this side, so that no peer pays for a call from Swift.
#ifndef SMUDGE_BENCH_PEERS_H
#define SMUDGE_BENCH_PEERS_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

#ifdef __cplusplus
extern "C" {
#endif

// Keeps the calling thread on one processor, so that two threads of a measurement do not take turns
// on the same: a scheduler may wake a thread where the one that woke it still runs.
void bench_keep_on_processor(int index);
void bench_leave_processor(void);

typedef struct bench_mapping {
  uint64_t iova_first;
  uint64_t iova_last;
  uint64_t gpa_first;
  uint32_t permissions;
} bench_mapping;

/// A table from IOVA to GPA. The numbers tell whether all went well: mappings inserted, GPAs found
/// summed, mappings removed.
typedef struct bench_table {
  /// 0 when the package it needs was not there at build time; then nothing else may be called.
  int available;
  void *_Nonnull (*_Nonnull make)(void);
  uint64_t (*_Nonnull insert)(void *table, const bench_mapping *mappings, size_t count);
  uint64_t (*_Nonnull lookup)(void *table, const uint64_t *addresses, size_t count);
  uint64_t (*_Nonnull remove)(void *table, const bench_mapping *mappings, size_t count);
  void (*_Nonnull destroy)(void *table);
} bench_table;

/// absl::btree_map from the first IOVA, without a check for overlap at insert.
extern const bench_table bench_absl_btree;
/// GTree used as QEMU's iova-tree uses it: the value is the key, overlapping ranges compare equal,
/// a lookup before each insert, removal until nothing overlaps.
extern const bench_table bench_glib_tree;

/// Bytes the C heap has handed out, its own headers and padding included.
size_t bench_heap_byte_count(void);

void bench_copy(void *target, const void *source, size_t byte_count);

/// The plain scatter: looks at the bit of every page of every mapping. Returns bits newly set.
uint64_t bench_scatter_per_page(uint64_t *target, uint64_t target_gpa_first, const uint64_t *source,
                                uint64_t window_first, const bench_mapping *mappings, size_t count);

/// Reads each mapping, of 2 MiB, and its line of the source, and stores it where it goes unless it
/// is zero: nothing but the bytes of a scatter. Without counts, summaries and checks, and what was
/// in the target is lost. Both are aligned to lines; the first bit of both is address 0.
void bench_move_lines(uint64_t *target, const uint64_t *source, const bench_mapping *mappings,
                      size_t count);

/// One dirty query, as libsmudge's callback: a quarter of the pages, at the cost of the stores.
int bench_quarter_query(uint64_t iova, uint64_t byte_count, uint64_t page_size,
                        uint64_t *_Nullable words, void *_Nullable opaque);
/// A sync as a VMM makes it that replays its vIOMMU: for each mapping of 2 MiB a bitmap from the
/// heap, a query, and each bit of the answer set by itself. Returns bits set.
uint64_t bench_sync_by_leaf(uint64_t *target, const bench_mapping *mappings, size_t count);
/// Sets the bit of the page of each mapping by itself.
void bench_set_pages(uint64_t *target, const bench_mapping *mappings, size_t count);
/// A run of a harvest, as libsmudge's callback: adds its bytes to the 64 bits at `sum`.
int bench_count_run(uint64_t gpa, uint64_t byte_count, void *_Nullable sum);

/// Writes `byte_count` bytes, `chunk` at a time. 0, or an errno.
int bench_write_all(int fd, const void *bytes, size_t byte_count, size_t chunk);
/// Reads until `byte_count` bytes are there, `chunk` at a time, each to its place. 0, or an errno.
int bench_read_all(int fd, void *bytes, size_t byte_count, size_t chunk);

#ifdef __cplusplus
}
#endif

#pragma clang assume_nonnull end

#endif
