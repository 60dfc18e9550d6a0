#define _GNU_SOURCE
#include "include/iommufd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NUMBER(name, n) _Static_assert(SMUDGE_IOMMU_##name == _IO(';', 0x80 + n), #name)
NUMBER(DESTROY, 0);
NUMBER(IOAS_ALLOC, 1);
NUMBER(IOAS_IOVA_RANGES, 4);
NUMBER(IOAS_MAP, 5);
NUMBER(IOAS_UNMAP, 6);
NUMBER(OPTION, 7);
NUMBER(HWPT_ALLOC, 9);
NUMBER(GET_HW_INFO, 10);
NUMBER(HWPT_SET_DIRTY_TRACKING, 11);
NUMBER(HWPT_GET_DIRTY_BITMAP, 12);
NUMBER(IOAS_MAP_FILE, 15);
_Static_assert(SMUDGE_VFIO_DEVICE_BIND_IOMMUFD == _IO(';', 100 + 18), "BIND_IOMMUFD");
_Static_assert(SMUDGE_VFIO_DEVICE_ATTACH_IOMMUFD_PT == _IO(';', 100 + 19), "ATTACH_IOMMUFD_PT");
_Static_assert(SMUDGE_VFIO_DEVICE_DETACH_IOMMUFD_PT == _IO(';', 100 + 20), "DETACH_IOMMUFD_PT");

#define SIZE(name, bytes) _Static_assert(sizeof(smudge_##name) == bytes, "size of " #name)
#define FIELD(name, field, bytes) \
  _Static_assert(offsetof(smudge_##name, field) == bytes, #name "." #field)

SIZE(iommu_destroy, 8);
FIELD(iommu_destroy, id, 4);
SIZE(iommu_ioas_alloc, 12);
FIELD(iommu_ioas_alloc, out_ioas_id, 8);
SIZE(iommu_iova_range, 16);
FIELD(iommu_iova_range, last, 8);
SIZE(iommu_ioas_iova_ranges, 32);
FIELD(iommu_ioas_iova_ranges, num_iovas, 8);
FIELD(iommu_ioas_iova_ranges, allowed_iovas, 16);
FIELD(iommu_ioas_iova_ranges, out_iova_alignment, 24);
SIZE(iommu_ioas_map, 40);
FIELD(iommu_ioas_map, flags, 4);
FIELD(iommu_ioas_map, ioas_id, 8);
FIELD(iommu_ioas_map, user_va, 16);
FIELD(iommu_ioas_map, length, 24);
FIELD(iommu_ioas_map, iova, 32);
SIZE(iommu_ioas_map_file, 40);
FIELD(iommu_ioas_map_file, fd, 12);
FIELD(iommu_ioas_map_file, start, 16);
FIELD(iommu_ioas_map_file, length, 24);
FIELD(iommu_ioas_map_file, iova, 32);
SIZE(iommu_ioas_unmap, 24);
FIELD(iommu_ioas_unmap, ioas_id, 4);
FIELD(iommu_ioas_unmap, iova, 8);
FIELD(iommu_ioas_unmap, length, 16);
SIZE(iommu_option, 24);
FIELD(iommu_option, op, 8);
FIELD(iommu_option, object_id, 12);
FIELD(iommu_option, val64, 16);
SIZE(iommu_hwpt_alloc, 48);
FIELD(iommu_hwpt_alloc, flags, 4);
FIELD(iommu_hwpt_alloc, dev_id, 8);
FIELD(iommu_hwpt_alloc, pt_id, 12);
FIELD(iommu_hwpt_alloc, out_hwpt_id, 16);
FIELD(iommu_hwpt_alloc, data_type, 24);
FIELD(iommu_hwpt_alloc, data_len, 28);
FIELD(iommu_hwpt_alloc, data_uptr, 32);
FIELD(iommu_hwpt_alloc, fault_id, 40);
SIZE(iommu_hw_info, 40);
FIELD(iommu_hw_info, dev_id, 8);
FIELD(iommu_hw_info, data_len, 12);
FIELD(iommu_hw_info, data_uptr, 16);
FIELD(iommu_hw_info, out_data_type, 24);
FIELD(iommu_hw_info, out_capabilities, 32);
SIZE(iommu_hwpt_set_dirty_tracking, 16);
FIELD(iommu_hwpt_set_dirty_tracking, flags, 4);
FIELD(iommu_hwpt_set_dirty_tracking, hwpt_id, 8);
SIZE(iommu_hwpt_get_dirty_bitmap, 48);
FIELD(iommu_hwpt_get_dirty_bitmap, hwpt_id, 4);
FIELD(iommu_hwpt_get_dirty_bitmap, flags, 8);
FIELD(iommu_hwpt_get_dirty_bitmap, iova, 16);
FIELD(iommu_hwpt_get_dirty_bitmap, length, 24);
FIELD(iommu_hwpt_get_dirty_bitmap, page_size, 32);
FIELD(iommu_hwpt_get_dirty_bitmap, data, 40);
SIZE(vfio_device_bind_iommufd, 16);
FIELD(vfio_device_bind_iommufd, iommufd, 8);
FIELD(vfio_device_bind_iommufd, out_devid, 12);
SIZE(vfio_device_attach_iommufd_pt, 12);
FIELD(vfio_device_attach_iommufd_pt, pt_id, 8);
SIZE(vfio_device_detach_iommufd_pt, 8);

int smudge_iommufd_open(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

void smudge_iommufd_close(int fd) { close(fd); }

int smudge_iommufd_ioctl(int fd, uint32_t request, void *argument) {
  int result = ioctl(fd, (unsigned long)request, argument);
  return result < 0 ? -errno : result;
}
