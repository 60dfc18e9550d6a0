// Memory for bitmaps: the bitmap module may not call the system itself.
#define _GNU_SOURCE
#include <sys/mman.h>

#include "bitmap_kernels.h"

enum { HUGE_PAGE_BYTE_COUNT = 2 << 20 };

void *smudge_pages_allocate(size_t byte_count) {
  void *p = mmap(NULL, byte_count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  // A wish; a kernel without huge pages gives small ones.
  if (byte_count >= HUGE_PAGE_BYTE_COUNT) (void)madvise(p, byte_count, MADV_HUGEPAGE);
  return p;
}

void smudge_pages_free(void *pages, size_t byte_count) { (void)munmap(pages, byte_count); }
