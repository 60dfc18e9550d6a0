#include "include/kernel_headers.h"

#include <sys/ioctl.h>

#include "vfio.h"

#if __has_include(<linux/vfio.h>)
#include <linux/vfio.h>
#define HAS_HEADER 1
#endif

#define NUMBER(name) {#name, SMUDGE_##name, name},
#define SAME(ours, theirs) {#theirs, ours, theirs},
#define SIZE(ours, theirs) {"sizeof " #theirs, sizeof(smudge_vfio_##ours), sizeof(struct theirs)},
#define FIELD(ours, our_field, theirs, field)                            \
  {#theirs "." #field, offsetof(smudge_vfio_##ours, our_field), \
   offsetof(struct theirs, field)},

static const smudge_comparison comparisons[] = {
#ifdef HAS_HEADER
    NUMBER(VFIO_GET_API_VERSION)
    NUMBER(VFIO_CHECK_EXTENSION)
    NUMBER(VFIO_SET_IOMMU)
    NUMBER(VFIO_GROUP_GET_STATUS)
    NUMBER(VFIO_GROUP_SET_CONTAINER)
    NUMBER(VFIO_GROUP_UNSET_CONTAINER)
    NUMBER(VFIO_GROUP_GET_DEVICE_FD)
    NUMBER(VFIO_DEVICE_GET_INFO)
    NUMBER(VFIO_DEVICE_GET_REGION_INFO)
    NUMBER(VFIO_DEVICE_RESET)
    NUMBER(VFIO_IOMMU_GET_INFO)
    NUMBER(VFIO_IOMMU_MAP_DMA)
    NUMBER(VFIO_IOMMU_UNMAP_DMA)
    NUMBER(VFIO_API_VERSION)
    NUMBER(VFIO_TYPE1_IOMMU)
    SAME(SMUDGE_VFIO_TYPE1V2_IOMMU, VFIO_TYPE1v2_IOMMU)
    NUMBER(VFIO_GROUP_FLAGS_VIABLE)
    SIZE(group_status, vfio_group_status)
    FIELD(group_status, flags, vfio_group_status, flags)
    SIZE(info_cap_header, vfio_info_cap_header)
    FIELD(info_cap_header, id, vfio_info_cap_header, id)
    FIELD(info_cap_header, version, vfio_info_cap_header, version)
    FIELD(info_cap_header, next, vfio_info_cap_header, next)
    SAME(SMUDGE_VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_INFO_PGSIZES)
    FIELD(type1_info, flags, vfio_iommu_type1_info, flags)
    FIELD(type1_info, iova_pgsizes, vfio_iommu_type1_info, iova_pgsizes)
    SIZE(dma_map, vfio_iommu_type1_dma_map)
    FIELD(dma_map, vaddr, vfio_iommu_type1_dma_map, vaddr)
    FIELD(dma_map, iova, vfio_iommu_type1_dma_map, iova)
    FIELD(dma_map, size, vfio_iommu_type1_dma_map, size)
    SIZE(dma_unmap, vfio_iommu_type1_dma_unmap)
    FIELD(dma_unmap, iova, vfio_iommu_type1_dma_unmap, iova)
    FIELD(dma_unmap, size, vfio_iommu_type1_dma_unmap, size)
    SAME(SMUDGE_VFIO_DMA_MAP_READ, VFIO_DMA_MAP_FLAG_READ)
    SAME(SMUDGE_VFIO_DMA_MAP_WRITE, VFIO_DMA_MAP_FLAG_WRITE)
    FIELD(device_info, num_regions, vfio_device_info, num_regions)
    FIELD(device_info, num_irqs, vfio_device_info, num_irqs)
    SIZE(region_info, vfio_region_info)
    FIELD(region_info, index, vfio_region_info, index)
    FIELD(region_info, cap_offset, vfio_region_info, cap_offset)
    FIELD(region_info, size, vfio_region_info, size)
    FIELD(region_info, offset, vfio_region_info, offset)
    SAME(SMUDGE_VFIO_REGION_READ, VFIO_REGION_INFO_FLAG_READ)
    SAME(SMUDGE_VFIO_REGION_WRITE, VFIO_REGION_INFO_FLAG_WRITE)
    SAME(SMUDGE_VFIO_REGION_MMAP, VFIO_REGION_INFO_FLAG_MMAP)
    SAME(SMUDGE_VFIO_REGION_CAPS, VFIO_REGION_INFO_FLAG_CAPS)
    SAME(SMUDGE_VFIO_REGION_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_SPARSE_MMAP)
    SAME(SMUDGE_VFIO_REGION_CAP_TYPE, VFIO_REGION_INFO_CAP_TYPE)
    SAME(SMUDGE_VFIO_PCI_CONFIG_REGION, VFIO_PCI_CONFIG_REGION_INDEX)
    SIZE(region_cap_type, vfio_region_info_cap_type)
    FIELD(region_cap_type, type, vfio_region_info_cap_type, type)
    FIELD(region_cap_type, subtype, vfio_region_info_cap_type, subtype)
    SIZE(region_cap_sparse_mmap, vfio_region_info_cap_sparse_mmap)
    FIELD(region_cap_sparse_mmap, nr_areas, vfio_region_info_cap_sparse_mmap, nr_areas)
    SIZE(region_area, vfio_region_sparse_mmap_area)
    FIELD(region_area, offset, vfio_region_sparse_mmap_area, offset)
    FIELD(region_area, size, vfio_region_sparse_mmap_area, size)
#ifdef VFIO_IOMMU_INFO_CAPS
    SAME(SMUDGE_VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_CAPS)
    FIELD(type1_info, cap_offset, vfio_iommu_type1_info, cap_offset)
    SAME(SMUDGE_VFIO_TYPE1_CAP_IOVA_RANGE, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
    SIZE(iova_range, vfio_iova_range)
    FIELD(iova_range, start, vfio_iova_range, start)
    FIELD(iova_range, end, vfio_iova_range, end)
    SIZE(type1_cap_iova_range, vfio_iommu_type1_info_cap_iova_range)
    FIELD(type1_cap_iova_range, nr_iovas, vfio_iommu_type1_info_cap_iova_range, nr_iovas)
#endif
#ifdef VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION
    SAME(SMUDGE_VFIO_TYPE1_CAP_MIGRATION, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION)
    SIZE(type1_cap_migration, vfio_iommu_type1_info_cap_migration)
    FIELD(type1_cap_migration, flags, vfio_iommu_type1_info_cap_migration, flags)
    FIELD(type1_cap_migration, pgsize_bitmap, vfio_iommu_type1_info_cap_migration, pgsize_bitmap)
    FIELD(type1_cap_migration, max_dirty_bitmap_size, vfio_iommu_type1_info_cap_migration,
          max_dirty_bitmap_size)
#endif
#ifdef VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL
    SAME(SMUDGE_VFIO_TYPE1_CAP_DMA_AVAIL, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
    SIZE(type1_cap_dma_avail, vfio_iommu_type1_info_dma_avail)
    FIELD(type1_cap_dma_avail, avail, vfio_iommu_type1_info_dma_avail, avail)
#endif
#ifdef VFIO_IOMMU_DIRTY_PAGES
    NUMBER(VFIO_IOMMU_DIRTY_PAGES)
    SAME(SMUDGE_VFIO_DMA_UNMAP_GET_DIRTY_BITMAP, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
    SAME(SMUDGE_VFIO_DIRTY_PAGES_START, VFIO_IOMMU_DIRTY_PAGES_FLAG_START)
    SAME(SMUDGE_VFIO_DIRTY_PAGES_STOP, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP)
    SAME(SMUDGE_VFIO_DIRTY_PAGES_GET_BITMAP, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP)
    FIELD(dma_unmap_dirty, bitmap, vfio_iommu_type1_dma_unmap, data)
    SIZE(bitmap, vfio_bitmap)
    FIELD(bitmap, pgsize, vfio_bitmap, pgsize)
    FIELD(bitmap, size, vfio_bitmap, size)
    FIELD(bitmap, data, vfio_bitmap, data)
    SIZE(dirty_pages, vfio_iommu_type1_dirty_bitmap)
    FIELD(dirty_pages_get, iova, vfio_iommu_type1_dirty_bitmap, data)
    {"sizeof vfio_iommu_type1_dirty_bitmap and _get", sizeof(smudge_vfio_dirty_pages_get),
     sizeof(struct vfio_iommu_type1_dirty_bitmap) +
         sizeof(struct vfio_iommu_type1_dirty_bitmap_get)},
#endif
#ifdef VFIO_DMA_UNMAP_FLAG_ALL
    SAME(SMUDGE_VFIO_DMA_UNMAP_ALL, VFIO_DMA_UNMAP_FLAG_ALL)
    NUMBER(VFIO_UNMAP_ALL)
    NUMBER(VFIO_UPDATE_VADDR)
    SAME(SMUDGE_VFIO_DMA_UNMAP_VADDR, VFIO_DMA_UNMAP_FLAG_VADDR)
    SAME(SMUDGE_VFIO_DMA_MAP_VADDR, VFIO_DMA_MAP_FLAG_VADDR)
#endif
#ifdef VFIO_REGION_TYPE_MIGRATION_DEPRECATED
    SAME(SMUDGE_VFIO_REGION_TYPE_MIGRATION, VFIO_REGION_TYPE_MIGRATION_DEPRECATED)
    SAME(SMUDGE_VFIO_REGION_SUBTYPE_MIGRATION, VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED)
    SIZE(migration_v1, vfio_device_migration_info)
    FIELD(migration_v1, pending_bytes, vfio_device_migration_info, pending_bytes)
    FIELD(migration_v1, data_offset, vfio_device_migration_info, data_offset)
    FIELD(migration_v1, data_size, vfio_device_migration_info, data_size)
#endif
#ifdef VFIO_DEVICE_FEATURE
    NUMBER(VFIO_DEVICE_FEATURE)
    SAME(SMUDGE_VFIO_FEATURE_MASK, VFIO_DEVICE_FEATURE_MASK)
    SAME(SMUDGE_VFIO_FEATURE_GET, VFIO_DEVICE_FEATURE_GET)
    SAME(SMUDGE_VFIO_FEATURE_SET, VFIO_DEVICE_FEATURE_SET)
    SAME(SMUDGE_VFIO_FEATURE_PROBE, VFIO_DEVICE_FEATURE_PROBE)
    FIELD(feature_migration, flags, vfio_device_feature, data)
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
    SAME(SMUDGE_VFIO_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_MIGRATION)
    SAME(SMUDGE_VFIO_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE)
    {"vfio_device_feature_migration", sizeof(smudge_vfio_feature_migration),
     8 + sizeof(struct vfio_device_feature_migration)},
    {"vfio_device_feature_mig_state.data_fd", offsetof(smudge_vfio_feature_state, data_fd),
     8 + offsetof(struct vfio_device_feature_mig_state, data_fd)},
#endif
#ifdef VFIO_DEVICE_FEATURE_DMA_LOGGING_START
    SAME(SMUDGE_VFIO_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_START)
    SAME(SMUDGE_VFIO_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP)
    SAME(SMUDGE_VFIO_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
    {"vfio_device_feature_dma_logging_control", sizeof(smudge_vfio_feature_logging_start),
     8 + sizeof(struct vfio_device_feature_dma_logging_control)},
    {"vfio_device_feature_dma_logging_control.num_ranges",
     offsetof(smudge_vfio_feature_logging_start, num_ranges),
     8 + offsetof(struct vfio_device_feature_dma_logging_control, num_ranges)},
    {"vfio_device_feature_dma_logging_control.ranges",
     offsetof(smudge_vfio_feature_logging_start, ranges),
     8 + offsetof(struct vfio_device_feature_dma_logging_control, ranges)},
    SIZE(logging_range, vfio_device_feature_dma_logging_range)
    {"vfio_device_feature_dma_logging_report", sizeof(smudge_vfio_feature_logging_report),
     8 + sizeof(struct vfio_device_feature_dma_logging_report)},
    {"vfio_device_feature_dma_logging_report.page_size",
     offsetof(smudge_vfio_feature_logging_report, page_size),
     8 + offsetof(struct vfio_device_feature_dma_logging_report, page_size)},
    {"vfio_device_feature_dma_logging_report.bitmap",
     offsetof(smudge_vfio_feature_logging_report, bitmap),
     8 + offsetof(struct vfio_device_feature_dma_logging_report, bitmap)},
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2
    SAME(SMUDGE_VFIO_FEATURE_MIG_PRECOPY_INFO_V2, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2)
#endif
#ifdef VFIO_PRECOPY_INFO_REINIT
    SAME(SMUDGE_VFIO_PRECOPY_INFO_REINIT, VFIO_PRECOPY_INFO_REINIT)
#endif
#ifdef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE
    SAME(SMUDGE_VFIO_FEATURE_MIG_DATA_SIZE, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
    {"vfio_device_feature_mig_data_size", sizeof(smudge_vfio_feature_data_size),
     8 + sizeof(struct vfio_device_feature_mig_data_size)},
#endif
#ifdef VFIO_MIG_GET_PRECOPY_INFO
    NUMBER(VFIO_MIG_GET_PRECOPY_INFO)
    SIZE(precopy_info, vfio_precopy_info)
    FIELD(precopy_info, initial_bytes, vfio_precopy_info, initial_bytes)
    FIELD(precopy_info, dirty_bytes, vfio_precopy_info, dirty_bytes)
#endif
#endif
    {"end", 0, 0},
};

size_t smudge_vfio_comparison_count(void) {
  return sizeof(comparisons) / sizeof(comparisons[0]) - 1;
}

smudge_comparison smudge_vfio_comparison(size_t index) { return comparisons[index]; }
