// The test interface of iommufd (drivers/iommu/iommufd/iommufd_test.h, CONFIG_IOMMUFD_TEST): mock
// devices behind a mock IOMMU with dirty bits that a test sets. Not a stable interface: the layout
// is that of Linux 6.12 to 7.3. For tests only. Sizes and offsets are asserted in iommufd_mock.c.
#ifndef SMUDGE_IOMMUFD_MOCK_H
#define SMUDGE_IOMMUFD_MOCK_H

#include <stddef.h>
#include <stdint.h>

enum {
  SMUDGE_IOMMU_TEST_CMD = 0x3BA0,
  SMUDGE_MOCK_OP_REPLACE = 10,
  SMUDGE_MOCK_OP_DOMAIN_FLAGS = 12,
  SMUDGE_MOCK_OP_DIRTY = 13,
  SMUDGE_MOCK_DEVICE_NO_DIRTY = 1,
  SMUDGE_MOCK_TABLE_HUGE = 1,
  SMUDGE_MOCK_HWPT_DATA = 0xdead,
  /// The bounds of what can be mapped, inclusive, and the bytes of one table entry.
  SMUDGE_MOCK_APERTURE_FIRST = 1 << 24,
  SMUDGE_MOCK_APERTURE_LAST = 0x7fffffff,
  SMUDGE_MOCK_PAGE_BYTES = 2048,
};

/// One structure of the kernel with a union; each use of it is a structure here.
typedef struct smudge_mock_domain {
  uint32_t size;
  uint32_t op;
  /// In: the IOAS or HWPT to attach to.
  uint32_t id;
  uint32_t reserved;
  /// The mock device; destroying it detaches.
  uint32_t out_stdev_id;
  uint32_t out_hwpt_id;
  /// What a bound device has.
  uint32_t out_idev_id;
  uint32_t dev_flags;
  uint64_t unused[4];
  uint32_t last;
  uint32_t pad;
} smudge_mock_domain;

typedef struct smudge_mock_replace {
  uint32_t size;
  uint32_t op;
  /// The mock device.
  uint32_t id;
  uint32_t reserved;
  uint32_t pt_id;
  uint32_t unused32;
  uint64_t unused[5];
  uint32_t last;
  uint32_t pad;
} smudge_mock_replace;

typedef struct smudge_mock_dirty {
  uint32_t size;
  uint32_t op;
  /// The HWPT.
  uint32_t id;
  uint32_t reserved;
  uint32_t flags;
  uint32_t unused32;
  uint64_t iova;
  uint64_t length;
  uint64_t page_size;
  uint64_t uptr;
  uint64_t out_nr_dirty;
  uint32_t last;
  uint32_t pad;
} smudge_mock_dirty;

/// The driver's part of IOMMU_HWPT_ALLOC.
typedef struct smudge_mock_hwpt {
  uint32_t iotlb;
  uint32_t pagetable_type;
} smudge_mock_hwpt;

#endif
