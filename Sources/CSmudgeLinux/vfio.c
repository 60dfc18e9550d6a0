#define _GNU_SOURCE
#include "include/vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NUMBER(name, n) _Static_assert(SMUDGE_VFIO_##name == _IO(';', 100 + n), #name)
NUMBER(GET_API_VERSION, 0);
NUMBER(CHECK_EXTENSION, 1);
NUMBER(SET_IOMMU, 2);
NUMBER(GROUP_GET_STATUS, 3);
NUMBER(GROUP_SET_CONTAINER, 4);
NUMBER(GROUP_UNSET_CONTAINER, 5);
NUMBER(GROUP_GET_DEVICE_FD, 6);
NUMBER(DEVICE_GET_INFO, 7);
NUMBER(DEVICE_GET_REGION_INFO, 8);
NUMBER(DEVICE_RESET, 11);
NUMBER(IOMMU_GET_INFO, 12);
NUMBER(IOMMU_MAP_DMA, 13);
NUMBER(IOMMU_UNMAP_DMA, 14);
NUMBER(IOMMU_DIRTY_PAGES, 17);
NUMBER(DEVICE_FEATURE, 17);
NUMBER(MIG_GET_PRECOPY_INFO, 21);

#define SIZE(name, bytes) _Static_assert(sizeof(smudge_vfio_##name) == bytes, "size of " #name)
#define FIELD(name, field, bytes) \
  _Static_assert(offsetof(smudge_vfio_##name, field) == bytes, #name "." #field)

SIZE(group_status, 8);
SIZE(type1_info, 24);
FIELD(type1_info, flags, 4);
FIELD(type1_info, iova_pgsizes, 8);
FIELD(type1_info, cap_offset, 16);
SIZE(info_cap_header, 8);
FIELD(info_cap_header, version, 2);
FIELD(info_cap_header, next, 4);
SIZE(iova_range, 16);
FIELD(iova_range, end, 8);
SIZE(type1_cap_iova_range, 16);
FIELD(type1_cap_iova_range, nr_iovas, 8);
SIZE(type1_cap_migration, 32);
FIELD(type1_cap_migration, flags, 8);
FIELD(type1_cap_migration, pgsize_bitmap, 16);
FIELD(type1_cap_migration, max_dirty_bitmap_size, 24);
SIZE(type1_cap_dma_avail, 12);
FIELD(type1_cap_dma_avail, avail, 8);
SIZE(dma_map, 32);
FIELD(dma_map, flags, 4);
FIELD(dma_map, vaddr, 8);
FIELD(dma_map, iova, 16);
FIELD(dma_map, size, 24);
SIZE(dma_unmap, 24);
FIELD(dma_unmap, iova, 8);
FIELD(dma_unmap, size, 16);
SIZE(bitmap, 24);
FIELD(bitmap, size, 8);
FIELD(bitmap, data, 16);
SIZE(dma_unmap_dirty, 48);
FIELD(dma_unmap_dirty, bitmap, 24);
SIZE(dirty_pages, 8);
FIELD(dirty_pages, flags, 4);
SIZE(dirty_pages_get, 48);
FIELD(dirty_pages_get, iova, 8);
FIELD(dirty_pages_get, size, 16);
FIELD(dirty_pages_get, bitmap, 24);
SIZE(device_info, 16);
FIELD(device_info, num_regions, 8);
SIZE(region_info, 32);
FIELD(region_info, index, 8);
FIELD(region_info, cap_offset, 12);
FIELD(region_info, size, 16);
FIELD(region_info, offset, 24);
SIZE(region_cap_type, 16);
FIELD(region_cap_type, type, 8);
FIELD(region_cap_type, subtype, 12);
SIZE(region_cap_sparse_mmap, 16);
FIELD(region_cap_sparse_mmap, nr_areas, 8);
SIZE(region_area, 16);
FIELD(region_area, size, 8);
SIZE(migration_v1, 32);
FIELD(migration_v1, pending_bytes, 8);
FIELD(migration_v1, data_offset, 16);
FIELD(migration_v1, data_size, 24);
SIZE(feature, 8);
FIELD(feature, flags, 4);
SIZE(feature_migration, 16);
FIELD(feature_migration, flags, 8);
SIZE(feature_state, 16);
FIELD(feature_state, device_state, 8);
FIELD(feature_state, data_fd, 12);
SIZE(feature_logging_start, 32);
FIELD(feature_logging_start, page_size, 8);
FIELD(feature_logging_start, num_ranges, 16);
FIELD(feature_logging_start, ranges, 24);
SIZE(logging_range, 16);
FIELD(logging_range, length, 8);
SIZE(feature_logging_report, 40);
FIELD(feature_logging_report, iova, 8);
FIELD(feature_logging_report, length, 16);
FIELD(feature_logging_report, page_size, 24);
FIELD(feature_logging_report, bitmap, 32);
SIZE(feature_data_size, 16);
SIZE(precopy_info, 24);
FIELD(precopy_info, initial_bytes, 8);
FIELD(precopy_info, dirty_bytes, 16);

int smudge_vfio_open(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

void smudge_vfio_close(int fd) { close(fd); }

int smudge_vfio_ioctl(int fd, uint32_t request, void *argument) {
  int result = ioctl(fd, request, argument);
  return result < 0 ? -errno : result;
}

int smudge_vfio_ioctl_value(int fd, uint32_t request, long value) {
  int result = ioctl(fd, request, value);
  return result < 0 ? -errno : result;
}

#define REPEATED(call)                      \
  for (;;) {                                \
    ssize_t count = call;                   \
    if (count >= 0) return count;           \
    if (errno != EINTR) return -(long)errno; \
  }

long smudge_vfio_read(int fd, void *to, size_t byte_count) { REPEATED(read(fd, to, byte_count)) }

long smudge_vfio_write(int fd, const void *from, size_t byte_count) {
  REPEATED(write(fd, from, byte_count))
}

long smudge_vfio_read_at(int fd, void *to, size_t byte_count, uint64_t offset) {
  REPEATED(pread(fd, to, byte_count, (off_t)offset))
}

long smudge_vfio_write_at(int fd, const void *from, size_t byte_count, uint64_t offset) {
  REPEATED(pwrite(fd, from, byte_count, (off_t)offset))
}

long smudge_vfio_map(int fd, uint64_t offset, uint64_t byte_count) {
  void *address = mmap(NULL, byte_count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
  return address == MAP_FAILED ? -(long)errno : (long)address;
}

void smudge_vfio_unmap(uint64_t address, uint64_t byte_count) {
  munmap((void *)(uintptr_t)address, byte_count);
}
