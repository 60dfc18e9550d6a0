/* What is had is given back: memory of malloc, mapped memory and descriptors, before and after many
 * operations, and before and after many trackers.
 *
 * A handle is never freed, so that a call on one that ended gets a code: that is the only growth,
 * and it is bounded here. Leak checkers find handles in a list of the library, and what hangs on
 * them too; here it would show. */
#include "check.h"

#include <dirent.h>
#include <malloc.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4096, SLOTS = 256 };

/* The four handles of a life, with malloc's own share; measured: see what a run prints. */
enum { HANDLE_BYTES_MAX = 1024 };

struct usage {
  uint64_t allocated, mapped, descriptors;
};

/* Bytes that are mapped, but for malloc's heap: how handles that stay lie between what goes is its
 * affair, and its own count is exact. */
static uint64_t mapped(void) {
  char line[512];
  uint64_t total = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  if (!maps) exit(1);
  while (fgets(line, sizeof line, maps)) {
    uint64_t first, end;
    if (strstr(line, "[heap]")) continue;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64, &first, &end) == 2) total += end - first;
  }
  fclose(maps);
  return total;
}

static struct usage usage(void) {
  struct usage now = {.descriptors = 0};
  DIR *open_files = opendir("/proc/self/fd");
  while (readdir(open_files)) now.descriptors++;
  closedir(open_files);
  struct mallinfo2 heap = mallinfo2();
  now.allocated = heap.uordblks + heap.hblkhd;
  now.mapped = mapped();
  return now;
}

struct life {
  smudge_tracker *tracker;
  smudge_container *container;
  smudge_reader *reader;
  smudge_shared_log *log;
  int fd;
};

static int query(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *words,
                 void *opaque) {
  (void)byte_count, (void)page_size, (void)opaque;
  words[0] |= iova / PAGE % 3 == 0;
  return 0;
}

static int take(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa, (void)byte_count;
  return *(int *)opaque;
}

static struct life begin(void) {
  struct life life;
  uint64_t byte_count;
  smudge_tracker_params with_record = {.size = sizeof with_record, .record_byte_count = 1 << 20};
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  smudge_container_params params = {.size = sizeof params, .name = "nic", .query = query};
  MUST(smudge_tracker_create(&with_record, &life.tracker));
  MUST(smudge_region_add(life.tracker, &ram));
  MUST(smudge_container_add(life.tracker, &params, &life.container));
  MUST(smudge_reader_add(life.tracker, "reader", 0, &life.reader));
  MUST(smudge_shared_log_add(life.tracker, "log", 0, &life.log, &life.fd, &byte_count));
  MUST(smudge_log_start(life.tracker, NULL));
  return life;
}

static void work(struct life *life, unsigned count) {
  const uint32_t writable = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE;
  uint64_t bitmap = 1, harvest, words[PAGES / 64];
  smudge_range ranges[8];
  uint32_t range_count;
  char notes[256];
  smudge_report report = {.size = sizeof report, .notes = notes, .notes_size = sizeof notes};
  for (unsigned i = 0; i < count; i++) {
    uint64_t slot = i % SLOTS, iova = slot * 2 * PAGE;
    int ends = 0;
    MUST(smudge_map(life->container, iova, (i * 7 % PAGES) * PAGE, PAGE, writable));
    MUST(smudge_device_wrote(life->container, iova, 1));
    MUST(smudge_vcpu_wrote(life->tracker, (i * 5 % PAGES) * PAGE, PAGE));
    if (i % 16 == 0) MUST(smudge_log_sync(life->tracker, 0, &report));
    if (i % 3 == 0) smudge_map(life->container, iova + 1, 0, PAGE, writable);
    MUST(smudge_unmap(life->container, iova, PAGE, i % 2 ? &bitmap : NULL));
    if (i % 8 != 0) continue;
    MUST(smudge_harvest_ranges(life->reader, 4, ranges, 8, &range_count, &harvest));
    if (harvest) MUST(smudge_put_back(life->reader, harvest));
    MUST(smudge_harvest_bitmap(life->reader, 0, words, PAGES, NULL, &harvest));
    if (harvest) MUST(smudge_delivered(life->reader, harvest));
    MUST(smudge_harvest_runs(life->reader, UINT64_MAX, take, &ends, NULL));
  }
}

static void end(struct life *life, int in_parts) {
  if (in_parts) {
    MUST(smudge_container_remove(life->container));
    MUST(smudge_reader_remove(life->reader));
    MUST(smudge_shared_log_remove(life->log));
  }
  MUST(smudge_tracker_destroy(life->tracker));
  close(life->fd);
}

static void lives(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    struct life life = begin();
    work(&life, 64);
    end(&life, i % 2);
  }
}

/* Parts that come and go while their tracker lives. */
static void parts(smudge_tracker *tracker, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    smudge_container_params params = {.size = sizeof params, .name = "more", .query = query};
    struct life part;
    uint64_t byte_count, bitmap = 1;
    MUST(smudge_container_add(tracker, &params, &part.container));
    MUST(smudge_map(part.container, 0, 0, PAGE, SMUDGE_MAP_WRITE));
    MUST(smudge_unmap(part.container, 0, PAGE, &bitmap));
    MUST(smudge_reader_add(tracker, "more", 1, &part.reader));
    MUST(smudge_shared_log_add(tracker, "more", 1, &part.log, &part.fd, &byte_count));
    MUST(smudge_log_sync(tracker, 0, NULL));
    close(part.fd);
    MUST(smudge_container_remove(part.container));
    MUST(smudge_reader_remove(part.reader));
    MUST(smudge_shared_log_remove(part.log));
  }
}

static int write_nothing(const void *bytes, uint64_t byte_count, void *opaque) {
  (void)bytes, (void)byte_count, (void)opaque;
  return -32;
}

static int switch_vcpus(void *opaque) {
  (void)opaque;
  return 0;
}

/* Migrations that fail: nobody takes what is written. */
static void migrations(smudge_tracker *tracker, unsigned count) {
  smudge_channel channel = {.size = sizeof channel, .write = write_nothing};
  smudge_machine machine = {.size = sizeof machine, .is_running = 1, .stop_vcpus = switch_vcpus,
                            .resume_vcpus = switch_vcpus};
  smudge_migration_params params = {
      .size = sizeof params, .channel = &channel, .machine = &machine};
  for (unsigned i = 0; i < count; i++) {
    if (!check(smudge_migrate(tracker, &params, NULL) < 0, "nobody takes it")) return;
  }
}

static void compare(const char *what, struct usage before, unsigned count, uint64_t each_max) {
  struct usage after = usage();
  int64_t allocated = (int64_t)(after.allocated - before.allocated);
  int64_t grown = (int64_t)(after.mapped - before.mapped);
  printf("  %u %s: %" PRId64 " bytes each, %" PRId64 " KiB mapped\n", count, what,
         allocated / (int64_t)count, grown / 1024);
  check(allocated <= (int64_t)(each_max * count) + 16384, "%s keep %" PRId64 " bytes of malloc",
        what, allocated);
  check(grown <= (int64_t)(each_max * count) + (1 << 20), "%s keep %" PRId64 " bytes mapped", what,
        grown);
  check(after.descriptors == before.descriptors, "%s keep descriptors: %" PRIu64 ", %" PRIu64, what,
        before.descriptors, after.descriptors);
}

int main(int argc, char **argv) {
  unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
  /* Past 64 Ki unmaps the memory of what was mapped last is as large as it gets. */
  struct life life = begin();
  work(&life, argc > 2 ? (unsigned)atoi(argv[2]) : 150000);
  struct usage before = usage();
  work(&life, 10 * count * 100);
  compare("operations", before, 10 * count * 100, 0);

  parts(life.tracker, count);
  before = usage();
  parts(life.tracker, 10 * count);
  compare("parts of a tracker", before, 10 * count, HANDLE_BYTES_MAX);
  end(&life, 1);

  static uint8_t host[16 * PAGE];
  smudge_tracker *tracker;
  smudge_ram ram = check_ram("ram", 0, sizeof host);
  ram.host = host;
  MUST(smudge_tracker_create(NULL, &tracker));
  MUST(smudge_region_add(tracker, &ram));
  migrations(tracker, count);
  before = usage();
  migrations(tracker, 10 * count);
  compare("migrations that fail", before, 10 * count, 0);
  MUST(smudge_tracker_destroy(tracker));

  lives(count);
  before = usage();
  lives(10 * count);
  compare("trackers", before, 10 * count, HANDLE_BYTES_MAX);
  return check_end();
}
