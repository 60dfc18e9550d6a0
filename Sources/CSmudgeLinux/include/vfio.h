// The VFIO user interface of Linux, declared here because the headers of the systems this is built
// on are older than the kernels it runs on: linux/vfio.h, Linux 5.8 (dirty pages of type1), 5.18
// (migration v2), 6.1 (device DMA logging), 6.2 (pre-copy). Sizes, offsets and numbers are asserted
// in vfio.c, and compared with the machine's headers, as far as they go, by a test.
//
// Addresses of memory are 64-bit numbers, never pointers.
#ifndef SMUDGE_VFIO_H
#define SMUDGE_VFIO_H

#include <stddef.h>
#include <stdint.h>

/// ioctl numbers: _IO(';', 100 + n), no size encoded.
enum {
  SMUDGE_VFIO_GET_API_VERSION = 0x3B64,
  SMUDGE_VFIO_CHECK_EXTENSION = 0x3B65,
  SMUDGE_VFIO_SET_IOMMU = 0x3B66,
  SMUDGE_VFIO_GROUP_GET_STATUS = 0x3B67,
  SMUDGE_VFIO_GROUP_SET_CONTAINER = 0x3B68,
  SMUDGE_VFIO_GROUP_UNSET_CONTAINER = 0x3B69,
  SMUDGE_VFIO_GROUP_GET_DEVICE_FD = 0x3B6A,
  SMUDGE_VFIO_DEVICE_GET_INFO = 0x3B6B,
  SMUDGE_VFIO_DEVICE_GET_REGION_INFO = 0x3B6C,
  SMUDGE_VFIO_DEVICE_RESET = 0x3B6F,
  SMUDGE_VFIO_IOMMU_GET_INFO = 0x3B70,
  SMUDGE_VFIO_IOMMU_MAP_DMA = 0x3B71,
  SMUDGE_VFIO_IOMMU_UNMAP_DMA = 0x3B72,
  /// On a container.
  SMUDGE_VFIO_IOMMU_DIRTY_PAGES = 0x3B75,
  /// On a device: the same number.
  SMUDGE_VFIO_DEVICE_FEATURE = 0x3B75,
  /// On the data descriptor of a migration.
  SMUDGE_VFIO_MIG_GET_PRECOPY_INFO = 0x3B79,
};

enum {
  SMUDGE_VFIO_API_VERSION = 0,
  SMUDGE_VFIO_TYPE1_IOMMU = 1,
  SMUDGE_VFIO_TYPE1V2_IOMMU = 3,
  SMUDGE_VFIO_UNMAP_ALL = 9,
  SMUDGE_VFIO_UPDATE_VADDR = 10,
  SMUDGE_VFIO_GROUP_FLAGS_VIABLE = 1,
};

typedef struct smudge_vfio_group_status {
  uint32_t argsz;
  uint32_t flags;
} smudge_vfio_group_status;

enum {
  SMUDGE_VFIO_IOMMU_INFO_PGSIZES = 1,
  SMUDGE_VFIO_IOMMU_INFO_CAPS = 2,
  SMUDGE_VFIO_TYPE1_CAP_IOVA_RANGE = 1,
  SMUDGE_VFIO_TYPE1_CAP_MIGRATION = 2,
  SMUDGE_VFIO_TYPE1_CAP_DMA_AVAIL = 3,
};

typedef struct smudge_vfio_type1_info {
  uint32_t argsz;
  uint32_t flags;
  uint64_t iova_pgsizes;
  uint32_t cap_offset;
  uint32_t pad;
} smudge_vfio_type1_info;

typedef struct smudge_vfio_info_cap_header {
  uint16_t id;
  uint16_t version;
  uint32_t next;
} smudge_vfio_info_cap_header;

/// Both inclusive.
typedef struct smudge_vfio_iova_range {
  uint64_t start;
  uint64_t end;
} smudge_vfio_iova_range;

/// The fixed part; ranges follow.
typedef struct smudge_vfio_type1_cap_iova_range {
  smudge_vfio_info_cap_header header;
  uint32_t nr_iovas;
  uint32_t reserved;
} smudge_vfio_type1_cap_iova_range;

typedef struct smudge_vfio_type1_cap_migration {
  smudge_vfio_info_cap_header header;
  uint32_t flags;
  uint64_t pgsize_bitmap;
  uint64_t max_dirty_bitmap_size;
} smudge_vfio_type1_cap_migration;

typedef struct smudge_vfio_type1_cap_dma_avail {
  smudge_vfio_info_cap_header header;
  uint32_t avail;
} smudge_vfio_type1_cap_dma_avail;

enum {
  SMUDGE_VFIO_DMA_MAP_READ = 1,
  SMUDGE_VFIO_DMA_MAP_WRITE = 2,
  SMUDGE_VFIO_DMA_MAP_VADDR = 4,
  SMUDGE_VFIO_DMA_UNMAP_GET_DIRTY_BITMAP = 1,
  SMUDGE_VFIO_DMA_UNMAP_ALL = 2,
  SMUDGE_VFIO_DMA_UNMAP_VADDR = 4,
  SMUDGE_VFIO_DIRTY_PAGES_START = 1,
  SMUDGE_VFIO_DIRTY_PAGES_STOP = 2,
  SMUDGE_VFIO_DIRTY_PAGES_GET_BITMAP = 4,
};

typedef struct smudge_vfio_dma_map {
  uint32_t argsz;
  uint32_t flags;
  uint64_t vaddr;
  uint64_t iova;
  uint64_t size;
} smudge_vfio_dma_map;

typedef struct smudge_vfio_dma_unmap {
  uint32_t argsz;
  uint32_t flags;
  uint64_t iova;
  uint64_t size;
} smudge_vfio_dma_unmap;

typedef struct smudge_vfio_bitmap {
  uint64_t pgsize;
  /// Bytes.
  uint64_t size;
  uint64_t data;
} smudge_vfio_bitmap;

/// An unmap with what follows it when its dirty bitmap is asked for.
typedef struct smudge_vfio_dma_unmap_dirty {
  smudge_vfio_dma_unmap unmap;
  smudge_vfio_bitmap bitmap;
} smudge_vfio_dma_unmap_dirty;

typedef struct smudge_vfio_dirty_pages {
  uint32_t argsz;
  uint32_t flags;
} smudge_vfio_dirty_pages;

/// GET_BITMAP with what follows it.
typedef struct smudge_vfio_dirty_pages_get {
  smudge_vfio_dirty_pages header;
  uint64_t iova;
  uint64_t size;
  smudge_vfio_bitmap bitmap;
} smudge_vfio_dirty_pages_get;

typedef struct smudge_vfio_device_info {
  uint32_t argsz;
  uint32_t flags;
  uint32_t num_regions;
  uint32_t num_irqs;
} smudge_vfio_device_info;

enum {
  SMUDGE_VFIO_REGION_READ = 1,
  SMUDGE_VFIO_REGION_WRITE = 2,
  SMUDGE_VFIO_REGION_MMAP = 4,
  SMUDGE_VFIO_REGION_CAPS = 8,
  SMUDGE_VFIO_REGION_CAP_SPARSE_MMAP = 1,
  SMUDGE_VFIO_REGION_CAP_TYPE = 2,
  /// The v1 migration region.
  SMUDGE_VFIO_REGION_TYPE_MIGRATION = 3,
  SMUDGE_VFIO_REGION_SUBTYPE_MIGRATION = 1,
  SMUDGE_VFIO_PCI_CONFIG_REGION = 7,
};

typedef struct smudge_vfio_region_info {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t cap_offset;
  uint64_t size;
  /// In the device's descriptor.
  uint64_t offset;
} smudge_vfio_region_info;

typedef struct smudge_vfio_region_cap_type {
  smudge_vfio_info_cap_header header;
  uint32_t type;
  uint32_t subtype;
} smudge_vfio_region_cap_type;

/// The fixed part; areas follow.
typedef struct smudge_vfio_region_cap_sparse_mmap {
  smudge_vfio_info_cap_header header;
  uint32_t nr_areas;
  uint32_t reserved;
} smudge_vfio_region_cap_sparse_mmap;

typedef struct smudge_vfio_region_area {
  uint64_t offset;
  uint64_t size;
} smudge_vfio_region_area;

/// Registers at the start of the v1 migration region.
typedef struct smudge_vfio_migration_v1 {
  uint32_t device_state;
  uint32_t reserved;
  uint64_t pending_bytes;
  uint64_t data_offset;
  uint64_t data_size;
} smudge_vfio_migration_v1;

enum {
  SMUDGE_VFIO_FEATURE_MASK = 0xffff,
  SMUDGE_VFIO_FEATURE_GET = 1 << 16,
  SMUDGE_VFIO_FEATURE_SET = 1 << 17,
  SMUDGE_VFIO_FEATURE_PROBE = 1 << 18,
  SMUDGE_VFIO_FEATURE_MIGRATION = 1,
  SMUDGE_VFIO_FEATURE_MIG_DEVICE_STATE = 2,
  SMUDGE_VFIO_FEATURE_DMA_LOGGING_START = 6,
  SMUDGE_VFIO_FEATURE_DMA_LOGGING_STOP = 7,
  SMUDGE_VFIO_FEATURE_DMA_LOGGING_REPORT = 8,
  SMUDGE_VFIO_FEATURE_MIG_DATA_SIZE = 9,
  /// Linux 2026-07, without a payload: SMUDGE_VFIO_PRECOPY_INFO_REINIT is told from then on.
  SMUDGE_VFIO_FEATURE_MIG_PRECOPY_INFO_V2 = 12,
};

/// The envelope of VFIO_DEVICE_FEATURE; the payload follows. The structures below carry it.
typedef struct smudge_vfio_feature {
  uint32_t argsz;
  uint32_t flags;
} smudge_vfio_feature;

typedef struct smudge_vfio_feature_migration {
  smudge_vfio_feature feature;
  uint64_t flags;
} smudge_vfio_feature_migration;

typedef struct smudge_vfio_feature_state {
  smudge_vfio_feature feature;
  uint32_t device_state;
  int32_t data_fd;
} smudge_vfio_feature_state;

typedef struct smudge_vfio_feature_logging_start {
  smudge_vfio_feature feature;
  uint64_t page_size;
  uint32_t num_ranges;
  uint32_t reserved;
  uint64_t ranges;
} smudge_vfio_feature_logging_start;

typedef struct smudge_vfio_logging_range {
  uint64_t iova;
  uint64_t length;
} smudge_vfio_logging_range;

typedef struct smudge_vfio_feature_logging_report {
  smudge_vfio_feature feature;
  uint64_t iova;
  uint64_t length;
  uint64_t page_size;
  uint64_t bitmap;
} smudge_vfio_feature_logging_report;

typedef struct smudge_vfio_feature_data_size {
  smudge_vfio_feature feature;
  uint64_t stop_copy_length;
} smudge_vfio_feature_data_size;

enum {
  /// An answer: new initial data is on the stream.
  SMUDGE_VFIO_PRECOPY_INFO_REINIT = 1 << 0,
};

typedef struct smudge_vfio_precopy_info {
  uint32_t argsz;
  uint32_t flags;
  uint64_t initial_bytes;
  uint64_t dirty_bytes;
} smudge_vfio_precopy_info;

/// Each returns what the kernel does, 0 and more, or -errno.

/// For reading and writing, close-on-exec.
int smudge_vfio_open(const char *_Nonnull path);
void smudge_vfio_close(int fd);

/// Not repeated when interrupted: a dirty query that was has cleared what it did not report.
int smudge_vfio_ioctl(int fd, uint32_t request, void *_Nonnull argument);
int smudge_vfio_ioctl_value(int fd, uint32_t request, long value);

/// Repeated when a signal comes before the first byte.
long smudge_vfio_read(int fd, void *_Nullable to, size_t byte_count);
long smudge_vfio_write(int fd, const void *_Nullable from, size_t byte_count);
long smudge_vfio_read_at(int fd, void *_Nullable to, size_t byte_count, uint64_t offset);
long smudge_vfio_write_at(int fd, const void *_Nullable from, size_t byte_count, uint64_t offset);

/// Maps a piece of a device, shared, readable and writable. Returns its address.
long smudge_vfio_map(int fd, uint64_t offset, uint64_t byte_count);
void smudge_vfio_unmap(uint64_t address, uint64_t byte_count);

#endif
