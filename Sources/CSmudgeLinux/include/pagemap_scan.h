// PAGEMAP_SCAN of /proc/self/pagemap: linux/fs.h, Linux 6.7.
#ifndef SMUDGE_PAGEMAP_SCAN_H
#define SMUDGE_PAGEMAP_SCAN_H

#include <stddef.h>
#include <stdint.h>

/// `struct page_region`: pages from `start` up to `end`, which is exclusive.
typedef struct smudge_page_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
} smudge_page_region;

/// /proc/self/pagemap for reading, or -errno.
int smudge_pagemap_open(void);

/// Finds the pages in `start` up to `end` written since they were last protected, and protects them
/// again, in one step for each page. Stops early, at `*walk_end`, when `regions` is full.
/// Returns the number of regions filled in, or -errno; EPERM when a page there is not watched.
long smudge_pagemap_take_written(int fd, uint64_t start, uint64_t end,
                                 smudge_page_region *_Nonnull regions, size_t region_count,
                                 uint64_t *_Nonnull walk_end);

#endif
