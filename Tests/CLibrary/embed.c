/* The first forty lines: a VMM maps, unmaps with dirt, syncs and harvests. C99 and C++17. */
#include <smudge.h>

#include <stdio.h>
#include <string.h>

#define DO(call) do { if ((call) < 0) { fprintf(stderr, "%s\n", smudge_last_error()); return 1; } \
  } while (0)

/* The IOVA that the device wrote since it was last asked. */
static uint64_t written = 0x100000;

/* The backend: which pages of the range did devices write? */
static int query(uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *words, void *opaque) {
  (void)opaque;
  if (written < iova || written - iova >= size) return 0;
  words[(written - iova) / page_size / 64] |= (uint64_t)1 << (written - iova) / page_size % 64;
  written = UINT64_MAX;
  return 0;
}

static int send(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)opaque;
  return printf("dirty %#llx %#llx\n", (unsigned long long)gpa, (unsigned long long)byte_count) < 0;
}

int main(void) {
  smudge_tracker *tracker;
  smudge_container *container;
  smudge_reader *reader;
  smudge_ram ram;
  smudge_container_params params;
  uint64_t page_2 = 4;
  const uint32_t flags = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE | SMUDGE_MAP_AHEAD;

  memset(&ram, 0, sizeof ram), memset(&params, 0, sizeof params);
  ram.size = sizeof ram, ram.byte_count = 16 << 20, ram.name = "pc.ram";
  params.size = sizeof params, params.name = "nic", params.query = query;
  DO(smudge_tracker_create(NULL, &tracker));
  DO(smudge_region_add(tracker, &ram));
  DO(smudge_container_add(tracker, &params, &container));
  DO(smudge_reader_add(tracker, "migration", 0, &reader));
  DO(smudge_log_start(tracker, NULL));

  DO(smudge_map(container, 0x100000, 0x200000, 0x4000, flags));
  DO(smudge_unmap(container, 0x100000, 0x4000, NULL)); /* asks the query: its first page */
  DO(smudge_map(container, 0x100000, 0x400000, 0x4000, flags));
  DO(smudge_unmap(container, 0x100000, 0x4000, &page_2)); /* the VMM has a bitmap already */
  DO(smudge_map(container, 0x100000, 0x600000, 0x4000, flags));
  written = 0x103000;
  DO(smudge_log_sync(tracker, SMUDGE_SYNC_FINAL, NULL)); /* asks the query again: its last page */

  DO(smudge_harvest_runs(reader, UINT64_MAX, send, NULL, NULL));
  DO(smudge_log_stop(tracker, NULL));
  DO(smudge_container_remove(container));
  DO(smudge_tracker_destroy(tracker));
  return 0;
}
