/* The dirty log, by IOVA, and what of DEVICE_FEATURE is about it. Only writes within the ranges
 * that logging was started with are logged, as a real device does it. */
#include "device.h"

#include <linux/vfio.h>

enum { chunk_pages = 32768 };

struct chunk {
  uint64_t number;
  uint64_t words[chunk_pages / 64];
};

static struct chunk **chunks;
static size_t chunk_count;
bool is_logging;
unsigned long long report_count;
/* None: everything is logged. */
static struct vfio_device_feature_dma_logging_range *ranges;
static size_t range_count;

static bool is_in_ranges(uint64_t iova) {
  for (size_t index = 0; index < range_count; index++)
    if (iova >= ranges[index].iova && iova - ranges[index].iova < ranges[index].length) return true;
  return !range_count;
}

void log_write(uint64_t iova) {
  if (!is_logging || !is_in_ranges(iova)) return;
  uint64_t page = iova / page_size, number = page / chunk_pages, bit = page % chunk_pages;
  struct chunk *found = NULL;
  for (size_t index = 0; index < chunk_count && !found; index++)
    if (chunks[index]->number == number) found = chunks[index];
  if (!found) {
    chunks = allocate(chunks, chunk_count + 1, sizeof *chunks);
    found = calloc(1, sizeof *found);
    if (!found) fail("memory");
    found->number = number;
    chunks[chunk_count++] = found;
  }
  found->words[bit / 64] |= 1ull << bit % 64;
}

/* Takes the bits of the pages first ... last, and puts them into `words` when there is such. */
static void take_pages(uint64_t first, uint64_t last, uint64_t *words) {
  for (size_t index = 0; index < chunk_count; index++) {
    uint64_t base = chunks[index]->number * chunk_pages;
    for (uint64_t word = 0; word < chunk_pages / 64; word++) {
      uint64_t left = chunks[index]->words[word];
      for (; left; left &= left - 1) {
        uint64_t page = base + word * 64 + __builtin_ctzll(left);
        if (page < first || page > last) continue;
        if (words) words[(page - first) / 64] |= 1ull << (page - first) % 64;
        chunks[index]->words[word] &= ~(left & -left);
      }
    }
  }
}

void take_log(uint64_t iova, uint64_t size, uint64_t *words) {
  take_pages(iova / page_size, (iova + size - 1) / page_size, words);
}

void drop_log(uint64_t iova, uint64_t last) {
  take_pages(iova / page_size, last / page_size, NULL);
}

uint64_t log_byte_count(uint64_t size) { return (size / page_size + 63) / 64 * 8; }

static int start(const uint8_t *data, uint32_t size) {
  const struct vfio_device_feature_dma_logging_control *control = (const void *)data;
  uint32_t fixed = sizeof control->page_size + sizeof control->num_ranges +
                   sizeof control->__reserved;
  if (size < fixed || control->page_size != page_size ||
      control->num_ranges > (size - fixed) / sizeof *ranges) return EINVAL;
  range_count = control->num_ranges;
  ranges = allocate(ranges, range_count + 1, sizeof *ranges);
  memcpy(ranges, data + fixed, range_count * sizeof *ranges);
  drop_log(0, UINT64_MAX);
  is_logging = true;
  return 0;
}

int log_feature(uint8_t *body, uint32_t size, uint32_t *answer) {
  struct vfio_device_feature *feature = (void *)body;
  struct vfio_device_feature_dma_logging_report *report = (void *)feature->data;
  if (size < sizeof *feature) return EINVAL;
  uint32_t number = feature->flags & VFIO_DEVICE_FEATURE_MASK;
  uint32_t method = feature->flags & (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET);
  bool is_report = number == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;
  if (!is_report && number != VFIO_DEVICE_FEATURE_DMA_LOGGING_START &&
      number != VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP) return ENOTTY;
  if (method & (is_report ? VFIO_DEVICE_FEATURE_SET : VFIO_DEVICE_FEATURE_GET)) return ENOTTY;
  if (feature->flags & VFIO_DEVICE_FEATURE_PROBE) return 0;
  if (!method) return EINVAL;
  if (number == VFIO_DEVICE_FEATURE_DMA_LOGGING_START)
    return start(feature->data, size - sizeof *feature);
  if (number == VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP) {
    is_logging = false;
    return 0;
  }
  /* The kernel's struct without its pointer to a bitmap, which follows here. */
  uint32_t fixed =
      sizeof *feature + offsetof(struct vfio_device_feature_dma_logging_report, bitmap);
  if (!is_logging || size < fixed || report->page_size != page_size || !report->length)
    return EINVAL;
  uint64_t byte_count = log_byte_count(report->length);
  if (fixed + byte_count > message_size_max) return E2BIG;
  memset(body + fixed, 0, byte_count);
  report_count++;
  take_log(report->iova, report->length, (void *)(body + fixed));
  feature->argsz = *answer = fixed + byte_count;
  return 0;
}
