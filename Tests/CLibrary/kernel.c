/* A container that the library commands, without a kernel that has one: this program's ioctl is
 * called instead of libc's, and answers as type1 does. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 256, FILE_NUMBER = 1000, MAPPINGS = 64 };

/* ---- type1 ----------------------------------------------------------------------------------- */

static struct vfio_iommu_type1_dma_map mappings[MAPPINGS];
static int mapping_count, is_logging, map_error, unmap_error;
/* Pages that devices have pinned and written, by IOVA page. */
static uint64_t written[PAGES / 64];

static int get_info(struct vfio_iommu_type1_info *info) {
  struct vfio_iommu_type1_info_cap_migration log = {
      .header = {.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, .version = 1},
      .pgsize_bitmap = PAGE,
      .max_dirty_bitmap_size = 256 << 20};
  size_t room = info->argsz;
  info->flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
  info->iova_pgsizes = PAGE;
  info->argsz = sizeof *info + sizeof log;
  info->cap_offset = 0;
  if (room < info->argsz) return 0;
  info->cap_offset = sizeof *info;
  memcpy((char *)info + sizeof *info, &log, sizeof log);
  return 0;
}

static int map_dma(const struct vfio_iommu_type1_dma_map *map) {
  if (map_error || mapping_count == MAPPINGS) return map_error ? map_error : ENOSPC;
  mappings[mapping_count++] = *map;
  return 0;
}

static void copy_bits(uint64_t iova, uint64_t size, const struct vfio_bitmap *bitmap) {
  uint64_t *words = (uint64_t *)bitmap->data;
  for (uint64_t i = 0; i < size / PAGE && iova / PAGE + i < PAGES; i++) {
    uint64_t page = iova / PAGE + i;
    if (written[page / 64] >> page % 64 & 1) words[i / 64] |= UINT64_C(1) << i % 64;
  }
}

static int unmap_dma(struct vfio_iommu_type1_dma_unmap *unmap) {
  uint64_t gone = 0;
  if (unmap_error) return unmap_error;
  if (unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
    copy_bits(unmap->iova, unmap->size, (const struct vfio_bitmap *)unmap->data);
  }
  for (int i = 0; i < mapping_count; i++) {
    int is_all = unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL;
    if (!is_all && mappings[i].iova - unmap->iova >= unmap->size) continue;
    gone += mappings[i].size;
    mappings[i--] = mappings[--mapping_count];
  }
  unmap->size = gone;
  return 0;
}

static int dirty_pages(struct vfio_iommu_type1_dirty_bitmap *call) {
  if (call->flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_START) is_logging = 1;
  if (call->flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) is_logging = 0;
  if (call->flags != VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) return 0;
  const struct vfio_iommu_type1_dirty_bitmap_get *get = (const void *)call->data;
  copy_bits(get->iova, get->size, &get->bitmap);
  return 0;
}

static int answer(unsigned long request, void *argument) {
  switch (request) {
    case VFIO_IOMMU_GET_INFO: return get_info(argument);
    case VFIO_IOMMU_MAP_DMA: return map_dma(argument);
    case VFIO_IOMMU_UNMAP_DMA: return unmap_dma(argument);
    case VFIO_IOMMU_DIRTY_PAGES: return dirty_pages(argument);
    default: return ENOTTY;
  }
}

int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (fd != FILE_NUMBER) {
    errno = EBADF;
    return -1;
  }
  if (request == VFIO_CHECK_EXTENSION) return 1;
  errno = answer(request, argument);
  return errno ? -1 : 0;
}

/* ---- the container --------------------------------------------------------------------------- */

static smudge_tracker *tracker;
static smudge_reader *reader;
static smudge_container *container;
static uint8_t host[PAGES * PAGE];
static const uint32_t WRITABLE = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE;

static uint64_t dirty(void) {
  uint64_t count;
  MUST(smudge_reader_dirty_page_count(reader, &count));
  return count;
}

static int ignore_run(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa, (void)byte_count, (void)opaque;
  return 0;
}

static void take_all(void) {
  while (smudge_harvest_runs(reader, UINT64_MAX, ignore_run, NULL, NULL) > 0) {
  }
}

static uint64_t mapped_count(void) {
  smudge_container_info info = {.size = sizeof info};
  MUST(smudge_container_get_info(container, &info));
  return info.mapping_count;
}

static void make(void) {
  smudge_ram ram = check_ram("ram", 1 << 20, PAGES * PAGE);
  smudge_ram bare = check_ram("bare", 1 << 30, PAGE);
  smudge_device device = {.size = sizeof device, .is_mediated = 1, .fd = -1, .name = "gpu"};
  smudge_kernel_params params = {.size = sizeof params, .name = "type1", .fd = FILE_NUMBER,
                                 .devices = &device, .device_count = 1};
  ram.host = host;
  MUST(smudge_tracker_create(NULL, &tracker));
  MUST(smudge_region_add(tracker, &ram));
  MUST(smudge_region_add(tracker, &bare));
  MUST(smudge_reader_add(tracker, "reader", 0, &reader));
  MUST(smudge_container_add_type1(tracker, &params, &container));
}

static void maps_and_unmaps(void) {
  uint64_t bitmap = 1;
  MUST(smudge_log_start(tracker, NULL));
  check(is_logging, "the kernel logs");
  MUST(smudge_map(container, 0, (1 << 20) + 2 * PAGE, 4 * PAGE, WRITABLE));
  check(mapping_count == 1 && mappings[0].vaddr == (uintptr_t)host + 2 * PAGE &&
            mappings[0].size == 4 * PAGE && mappings[0].iova == 0,
        "the kernel maps where the process sees it");
  check(smudge_unmap(container, 0, 4 * PAGE, &bitmap) == SMUDGE_EPERM, "a bitmap for it");
  check(mapping_count == 1 && mapped_count() == 1 && dirty() == 0, "it changed nothing");
  written[0] = 1 << 1;
  MUST(smudge_unmap(container, 0, 4 * PAGE, NULL));
  check(mapping_count == 0 && mapped_count() == 0, "unmapped");
  check(dirty() == 1, "with its dirt: %" PRIu64 " pages", dirty());
  take_all();
}

static void pinned_pages(void) {
  smudge_report report = {.size = sizeof report};
  MUST(smudge_map(container, 0, 1 << 20, 4 * PAGE, WRITABLE));
  MUST(smudge_log_sync(tracker, 0, &report));
  check(dirty() == 0 && report.held_back_page_count == 1, "a pinned page waits: %" PRIu64,
        report.held_back_page_count);
  MUST(smudge_log_sync(tracker, SMUDGE_SYNC_FINAL, &report));
  check(dirty() == 1 && report.held_back_page_count == 0, "the final sync reports it: %" PRIu64,
        dirty());
  take_all();
}

static void refusals(void) {
  map_error = ENOSPC;
  check(smudge_map(container, 0x40000, 1 << 20, PAGE, WRITABLE) == -ENOSPC, "the kernel's error");
  check(mapped_count() == 1 && dirty() == 0, "nothing was mapped");
  map_error = 0;
  int result = smudge_map(container, 0x40000, 1 << 30, PAGE, WRITABLE);
  check(result == SMUDGE_EFAULT, "RAM that this process does not see: %d: %s", result,
        smudge_last_error());
  result = smudge_map(container, 0x40000, (1 << 20) + (PAGES - 1) * PAGE, 2 * PAGE, WRITABLE);
  check(result == SMUDGE_EFAULT, "past the end of a region: %d: %s", result, smudge_last_error());
  check(mapped_count() == 1 && mapping_count == 1 && dirty() == 0, "nothing was mapped");
  unmap_error = EIO;
  check(smudge_unmap(container, 0, 4 * PAGE, NULL) == -EIO, "the kernel's error");
  check(mapped_count() == 1 && dirty() == 4, "it is in the table, and dirty: %" PRIu64, dirty());
  check(smudge_container_remove(container) == -EIO, "a removal that is refused");
  check(mapped_count() == 1, "the handle stays");
  unmap_error = 0;
  take_all();
}

static void address_spaces(void) {
  smudge_ram more = check_ram("more", 1 << 28, PAGE);
  more.host = host;
  MUST(smudge_region_remove(tracker, 1 << 30, PAGE));
  MUST(smudge_container_set_address_space(container, SMUDGE_CONTAINER_IDENTITY));
  check(mapping_count == 1 && mappings[0].iova == 1 << 20 && mappings[0].size == PAGES * PAGE,
        "all RAM is mapped: %d", mapping_count);
  check(smudge_map(container, 0, 1 << 20, PAGE, WRITABLE) == SMUDGE_EPERM, "not the guest's");
  map_error = ENOMEM;
  check(smudge_region_add(tracker, &more) == SMUDGE_EFAULT, "RAM that the kernel does not map");
  map_error = 0;
  MUST(smudge_vcpu_wrote(tracker, 1 << 28, PAGE));
  check(smudge_region_add(tracker, &more) == SMUDGE_EEXIST, "it is in the log");
  MUST(smudge_ram_populate(tracker, 1 << 28, PAGE));
  check(mapping_count == 2, "and is mapped when it is populated");
  MUST(smudge_ram_discard(tracker, 1 << 20, 16 * PAGE));
  check(mapping_count == 2 && mapped_count() == 2, "a part is given back");
  MUST(smudge_container_set_address_space(container, 0));
  check(mapping_count == 0 && mapped_count() == 0, "nothing is mapped");
}

int main(void) {
  make();
  maps_and_unmaps();
  pinned_pages();
  refusals();
  address_spaces();
  MUST(smudge_map(container, 0, 1 << 20, 4 * PAGE, WRITABLE));
  MUST(smudge_log_stop(tracker, NULL));
  check(!is_logging, "the kernel does not log any more");
  MUST(smudge_container_remove(container));
  check(mapping_count == 0, "everything is unmapped");
  MUST(smudge_tracker_destroy(tracker));
  return check_end();
}
