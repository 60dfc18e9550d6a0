// Our declarations beside those of the kernel headers of the machine this is built on.
#ifndef SMUDGE_KERNEL_HEADERS_H
#define SMUDGE_KERNEL_HEADERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct smudge_comparison {
  /// A number, a size or an offset, in the kernel's words.
  const char *_Nonnull name;
  uint64_t ours;
  uint64_t theirs;
} smudge_comparison;

/// What linux/vfio.h of this machine declares of what we declare; 0 when it has no such header.
size_t smudge_vfio_comparison_count(void);
smudge_comparison smudge_vfio_comparison(size_t index);

#endif
