#define _GNU_SOURCE
#include "include/pagemap_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

struct scan {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};

enum { WP_MATCHING = 1, CHECK_WPASYNC = 2, WRITTEN = 2 };

#define DO_SCAN _IOWR('f', 16, struct scan)

_Static_assert(sizeof(struct scan) == 96, "struct pm_scan_arg");
_Static_assert(offsetof(struct scan, walk_end) == 32, "struct pm_scan_arg");
_Static_assert(offsetof(struct scan, vec) == 40, "struct pm_scan_arg");
_Static_assert(offsetof(struct scan, category_mask) == 72, "struct pm_scan_arg");
_Static_assert(offsetof(struct scan, return_mask) == 88, "struct pm_scan_arg");
_Static_assert(sizeof(smudge_page_region) == 24, "struct page_region");
_Static_assert(DO_SCAN == 0xC0606610, "PAGEMAP_SCAN");

int smudge_pagemap_open(void) {
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

long smudge_pagemap_take_written(int fd, uint64_t start, uint64_t end, smudge_page_region *regions,
                                 size_t region_count, uint64_t *walk_end) {
  struct scan scan = {
      .size = sizeof(struct scan),
      .flags = WP_MATCHING | CHECK_WPASYNC,
      .start = start,
      .end = end,
      .vec = (uint64_t)(uintptr_t)regions,
      .vec_len = region_count,
      .category_mask = WRITTEN,
      .return_mask = WRITTEN,
  };
  int count = ioctl(fd, DO_SCAN, &scan);
  if (count < 0) return -errno;
  *walk_end = scan.walk_end;
  return count;
}
