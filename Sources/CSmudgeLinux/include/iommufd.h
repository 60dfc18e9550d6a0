// The iommufd user interface of Linux, declared here as the headers of the systems this is built on
// are older than the kernels it runs on, or lack it: linux/iommufd.h, Linux 6.2, dirty tracking
// since 6.7, maps by file since 6.13; and of linux/vfio.h what binds a device to an iommufd (6.6).
// Sizes, offsets and numbers are asserted in iommufd.c.
//
// Addresses of memory are 64-bit numbers, never pointers. `size` and `argsz` are the structure's.
#ifndef SMUDGE_IOMMUFD_H
#define SMUDGE_IOMMUFD_H

#include <stddef.h>
#include <stdint.h>

/// ioctl numbers: _IO(';', 0x80 + n) on an iommufd, _IO(';', 100 + n) on a device.
enum {
  SMUDGE_IOMMU_DESTROY = 0x3B80,
  SMUDGE_IOMMU_IOAS_ALLOC = 0x3B81,
  SMUDGE_IOMMU_IOAS_IOVA_RANGES = 0x3B84,
  SMUDGE_IOMMU_IOAS_MAP = 0x3B85,
  SMUDGE_IOMMU_IOAS_UNMAP = 0x3B86,
  SMUDGE_IOMMU_OPTION = 0x3B87,
  SMUDGE_IOMMU_HWPT_ALLOC = 0x3B89,
  SMUDGE_IOMMU_GET_HW_INFO = 0x3B8A,
  SMUDGE_IOMMU_HWPT_SET_DIRTY_TRACKING = 0x3B8B,
  SMUDGE_IOMMU_HWPT_GET_DIRTY_BITMAP = 0x3B8C,
  SMUDGE_IOMMU_IOAS_MAP_FILE = 0x3B8F,
  SMUDGE_VFIO_DEVICE_BIND_IOMMUFD = 0x3B76,
  SMUDGE_VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3B77,
  SMUDGE_VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3B78,
};

enum {
  SMUDGE_IOMMU_MAP_FIXED_IOVA = 1,
  SMUDGE_IOMMU_MAP_WRITEABLE = 2,
  SMUDGE_IOMMU_MAP_READABLE = 4,
  SMUDGE_IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 2,
  SMUDGE_IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1,
  SMUDGE_IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1,
  SMUDGE_IOMMU_HW_CAP_DIRTY_TRACKING = 1,
  SMUDGE_IOMMU_OPTION_HUGE_PAGES = 1,
  SMUDGE_IOMMU_OPTION_OP_SET = 0,
  SMUDGE_IOMMU_OPTION_OP_GET = 1,
};

typedef struct smudge_iommu_destroy {
  uint32_t size;
  uint32_t id;
} smudge_iommu_destroy;

typedef struct smudge_iommu_ioas_alloc {
  uint32_t size;
  uint32_t flags;
  uint32_t out_ioas_id;
} smudge_iommu_ioas_alloc;

/// Both inclusive.
typedef struct smudge_iommu_iova_range {
  uint64_t start;
  uint64_t last;
} smudge_iommu_iova_range;

typedef struct smudge_iommu_ioas_iova_ranges {
  uint32_t size;
  uint32_t ioas_id;
  /// In: room for so many. Out: how many there are; EMSGSIZE when there was too little room.
  uint32_t num_iovas;
  uint32_t reserved;
  uint64_t allowed_iovas;
  uint64_t out_iova_alignment;
} smudge_iommu_ioas_iova_ranges;

typedef struct smudge_iommu_ioas_map {
  uint32_t size;
  uint32_t flags;
  uint32_t ioas_id;
  uint32_t reserved;
  uint64_t user_va;
  uint64_t length;
  uint64_t iova;
} smudge_iommu_ioas_map;

typedef struct smudge_iommu_ioas_map_file {
  uint32_t size;
  uint32_t flags;
  uint32_t ioas_id;
  int32_t fd;
  uint64_t start;
  uint64_t length;
  uint64_t iova;
} smudge_iommu_ioas_map_file;

typedef struct smudge_iommu_ioas_unmap {
  uint32_t size;
  uint32_t ioas_id;
  uint64_t iova;
  /// Out: bytes unmapped.
  uint64_t length;
} smudge_iommu_ioas_unmap;

typedef struct smudge_iommu_option {
  uint32_t size;
  uint32_t option_id;
  uint16_t op;
  uint16_t reserved;
  uint32_t object_id;
  uint64_t val64;
} smudge_iommu_option;

typedef struct smudge_iommu_hwpt_alloc {
  uint32_t size;
  uint32_t flags;
  uint32_t dev_id;
  uint32_t pt_id;
  uint32_t out_hwpt_id;
  uint32_t reserved;
  uint32_t data_type;
  uint32_t data_len;
  uint64_t data_uptr;
  uint32_t fault_id;
  uint32_t reserved2;
} smudge_iommu_hwpt_alloc;

typedef struct smudge_iommu_hw_info {
  uint32_t size;
  uint32_t flags;
  uint32_t dev_id;
  uint32_t data_len;
  uint64_t data_uptr;
  uint32_t out_data_type;
  uint32_t reserved;
  uint64_t out_capabilities;
} smudge_iommu_hw_info;

typedef struct smudge_iommu_hwpt_set_dirty_tracking {
  uint32_t size;
  uint32_t flags;
  uint32_t hwpt_id;
  uint32_t reserved;
} smudge_iommu_hwpt_set_dirty_tracking;

typedef struct smudge_iommu_hwpt_get_dirty_bitmap {
  uint32_t size;
  uint32_t hwpt_id;
  uint32_t flags;
  uint32_t reserved;
  uint64_t iova;
  uint64_t length;
  uint64_t page_size;
  uint64_t data;
} smudge_iommu_hwpt_get_dirty_bitmap;

/// As of Linux 6.6; later ones append fields that a flag asks for.
typedef struct smudge_vfio_device_bind_iommufd {
  uint32_t argsz;
  uint32_t flags;
  int32_t iommufd;
  uint32_t out_devid;
} smudge_vfio_device_bind_iommufd;

typedef struct smudge_vfio_device_attach_iommufd_pt {
  uint32_t argsz;
  uint32_t flags;
  /// In: a HWPT or an IOAS. Out: the HWPT attached to.
  uint32_t pt_id;
} smudge_vfio_device_attach_iommufd_pt;

typedef struct smudge_vfio_device_detach_iommufd_pt {
  uint32_t argsz;
  uint32_t flags;
} smudge_vfio_device_detach_iommufd_pt;

/// open(2) for reading and writing, close-on-exec. Returns the descriptor or -errno.
int smudge_iommufd_open(const char *_Nonnull path);

void smudge_iommufd_close(int fd);

/// ioctl(2) with a structure. Returns what the kernel does, or -errno.
int smudge_iommufd_ioctl(int fd, uint32_t request, void *_Nonnull argument);

#endif
