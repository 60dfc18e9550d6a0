/* Foreign threads and two trackers in one process: nothing that was written is lost.
 *
 * The model: each guest page has a version. A write makes it one larger, then leaves its bit where
 * the device or the VMM has it. A harvest copies the version, as a migration copies the page. When
 * all is over each copy must be the page's version.
 *
 * threads OPERATIONS: maps and unmaps of each of the six threads that drive a container. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { PAGE = 4096, TRACKERS = 2, CONTAINERS = 3, PAGES = 4096, SLOTS = 64, SLOT_PAGES = 16 };

struct world;

/* A container and its device, which logs by IOVA: one bit for each page of its I/O space. */
struct device {
  struct world *world;
  smudge_container *container;
  _Atomic uint64_t written[SLOTS * SLOT_PAGES / 64];
  uint64_t seed;
  pthread_t thread;
};

struct world {
  smudge_tracker *tracker;
  smudge_reader *reader;
  struct device devices[CONTAINERS];
  _Atomic uint64_t version[PAGES];
  uint64_t copied[PAGES];
  pthread_t vcpu, syncer, harvester;
  uint64_t harvest_count;
};

static struct world worlds[TRACKERS];
static unsigned operations;
/* Threads that write, of both worlds. */
static atomic_int writers;

static int query(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *words,
                 void *opaque) {
  struct device *device = opaque;
  if (page_size != PAGE) return -22;
  for (uint64_t i = 0; i < byte_count / PAGE; i++) {
    uint64_t page = iova / PAGE + i, bit = UINT64_C(1) << page % 64;
    if (page >= SLOTS * SLOT_PAGES) break;
    if (atomic_fetch_and(&device->written[page / 64], ~bit) & bit) {
      words[i / 64] |= UINT64_C(1) << i % 64;
    }
  }
  return 0;
}

/* The device writes some of the pages that slot maps. */
static void write_by_device(struct device *device, uint64_t slot, uint64_t gpa) {
  for (uint64_t i = 0; i < SLOT_PAGES; i += 1 + check_random(&device->seed) % 7) {
    uint64_t page = slot * SLOT_PAGES + i;
    atomic_fetch_add(&device->world->version[gpa / PAGE + i], 1);
    atomic_fetch_or(&device->written[page / 64], UINT64_C(1) << page % 64);
  }
}

static void unmap(struct device *device, uint64_t slot) {
  uint64_t iova = slot * SLOT_PAGES * PAGE, size = SLOT_PAGES * PAGE, bits = 0;
  if (check_random(&device->seed) % 2) {
    MUST(smudge_unmap(device->container, iova, size, NULL));
    return;
  }
  /* The VMM's own unmap returns the bitmap. */
  query(iova, size, PAGE, &bits, device);
  MUST(smudge_unmap(device->container, iova, size, &bits));
}

static void *drive(void *opaque) {
  struct device *device = opaque;
  const uint32_t writable = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE;
  for (unsigned i = 0; i < operations; i++) {
    uint64_t slot = check_random(&device->seed) % SLOTS;
    uint64_t gpa = check_random(&device->seed) % (PAGES - SLOT_PAGES) * PAGE;
    uint64_t iova = slot * SLOT_PAGES * PAGE, size = SLOT_PAGES * PAGE;
    unmap(device, slot);
    if (check_random(&device->seed) % 4 == 0) {
      /* Told late: the device writes before the library knows, and a sync may ask before. */
      write_by_device(device, slot, gpa);
      MUST(smudge_map(device->container, iova, gpa, size, writable));
    } else {
      MUST(smudge_map(device->container, iova, gpa, size, writable | SMUDGE_MAP_AHEAD));
      write_by_device(device, slot, gpa);
    }
    if (check_random(&device->seed) % 4 == 0) {
      uint64_t page = check_random(&device->seed) % SLOT_PAGES;
      atomic_fetch_add(&device->world->version[gpa / PAGE + page], 1);
      MUST(smudge_device_wrote(device->container, iova + page * PAGE + 100, 8));
    }
    if (i % 64 == 0) {
      smudge_mapping mapping = {.size = sizeof mapping};
      smudge_container_info info = {.size = sizeof info};
      check(smudge_lookup(device->container, iova, &mapping) == 0 && mapping.gpa == gpa,
            "slot %" PRIu64 " is mapped", slot);
      MUST(smudge_container_get_info(device->container, &info));
    }
  }
  atomic_fetch_sub(&writers, 1);
  return NULL;
}

static void *run_vcpu(void *opaque) {
  struct world *world = opaque;
  uint64_t seed = 77;
  for (unsigned i = 0; i < operations; i++) {
    uint64_t page = check_random(&seed) % (PAGES - 64), word = 0;
    if (i % 2) {
      atomic_fetch_add(&world->version[page], 1);
      MUST(smudge_vcpu_wrote(world->tracker, page * PAGE + 7, 1));
      continue;
    }
    for (int bit = 0; bit < 64; bit += 9) {
      atomic_fetch_add(&world->version[page + bit], 1);
      word |= UINT64_C(1) << bit;
    }
    MUST(smudge_vcpu_bitmap(world->tracker, page * PAGE, &word, 64));
  }
  atomic_fetch_sub(&writers, 1);
  return NULL;
}

static void *sync_all(void *opaque) {
  struct world *world = opaque;
  do {
    smudge_report report = {.size = sizeof report};
    MUST(smudge_log_sync(world->tracker, 0, &report));
  } while (atomic_load(&writers) > 0);
  return NULL;
}

/* The pages arrive. */
static int copy(uint64_t gpa, uint64_t byte_count, void *opaque) {
  struct world *world = opaque;
  for (uint64_t page = gpa / PAGE; page < (gpa + byte_count) / PAGE; page++) {
    world->copied[page] = atomic_load(&world->version[page]);
  }
  return 0;
}

/* They do not. */
static int lose(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa, (void)byte_count, (void)opaque;
  return -5;
}

static int harvest_ranges(struct world *world, uint64_t *harvest) {
  smudge_range ranges[8];
  uint32_t count = 0;
  int result = smudge_harvest_ranges(world->reader, 512, ranges, 8, &count, harvest);
  MUST(result);
  for (uint32_t i = 0; i < count; i++) copy(ranges[i].gpa, ranges[i].byte_count, world);
  return result;
}

static int harvest_bitmap(struct world *world, uint64_t *harvest) {
  uint64_t words[PAGES / 64] = {0}, dirty = 0, set = 0;
  int result = smudge_harvest_bitmap(world->reader, 0, words, PAGES, &dirty, harvest);
  MUST(result);
  for (uint64_t page = 0; page < PAGES; page++) {
    if (words[page / 64] >> page % 64 & 1) copy(page * PAGE, PAGE, world), set++;
  }
  check(set == dirty, "a bitmap of %" PRIu64 " pages has %" PRIu64, dirty, set);
  return result;
}

static int harvest_once(struct world *world, uint64_t way) {
  uint64_t harvest = 0;
  int result;
  world->harvest_count++;
  switch (way % 5) {
    case 0: return smudge_harvest_runs(world->reader, 256, copy, world, NULL);
    case 1:
      result = smudge_harvest_runs(world->reader, 256, lose, world, &harvest);
      check(result == -5 || result >= 0, "a run that fails: %d", result);
      return 1;
    case 2: result = harvest_ranges(world, &harvest); break;
    case 3: result = harvest_bitmap(world, &harvest); break;
    default:
      /* Taken, and put back: it goes again. */
      result = smudge_harvest_runs(world->reader, 128, copy, world, &harvest);
      if (harvest) MUST(smudge_put_back(world->reader, harvest));
      return harvest ? 1 : result;
  }
  if (harvest) MUST(smudge_delivered(world->reader, harvest));
  return result;
}

static void *harvest_all(void *opaque) {
  struct world *world = opaque;
  uint64_t seed = 99;
  while (atomic_load(&writers) > 0) harvest_once(world, check_random(&seed));
  return NULL;
}

static void make(struct world *world) {
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  MUST(smudge_tracker_create(NULL, &world->tracker));
  MUST(smudge_region_add(world->tracker, &ram));
  MUST(smudge_reader_add(world->tracker, "migration", 0, &world->reader));
  for (int i = 0; i < CONTAINERS; i++) {
    struct device *device = &world->devices[i];
    char name[8];
    snprintf(name, sizeof name, "c%d", i);
    /* One may be asked across holes and inside mappings, two must be asked for what is mapped. */
    smudge_container_params params = {
        .size = sizeof params, .name = name, .query = query, .opaque = device,
        .query_flags = i ? 0 : SMUDGE_QUERY_CROSSES_HOLES | SMUDGE_QUERY_CUTS_MAPPINGS};
    device->world = world;
    device->seed = (uint64_t)(world - worlds) * 1000 + i + 1;
    MUST(smudge_container_add(world->tracker, &params, &device->container));
  }
  MUST(smudge_log_start(world->tracker, NULL));
}

static void start(pthread_t *thread, void *(*body)(void *), void *opaque) {
  if (pthread_create(thread, NULL, body, opaque) != 0) exit(1);
}

static void run(void) {
  atomic_store(&writers, TRACKERS * (CONTAINERS + 1));
  for (struct world *world = worlds; world < worlds + TRACKERS; world++) {
    for (int i = 0; i < CONTAINERS; i++) {
      start(&world->devices[i].thread, drive, &world->devices[i]);
    }
    start(&world->vcpu, run_vcpu, world);
    start(&world->syncer, sync_all, world);
    start(&world->harvester, harvest_all, world);
  }
  for (struct world *world = worlds; world < worlds + TRACKERS; world++) {
    for (int i = 0; i < CONTAINERS; i++) pthread_join(world->devices[i].thread, NULL);
    pthread_join(world->vcpu, NULL);
    pthread_join(world->syncer, NULL);
    pthread_join(world->harvester, NULL);
  }
}

static void finish(struct world *world) {
  uint64_t lost = 0, left;
  smudge_report report = {.size = sizeof report};
  MUST(smudge_log_sync(world->tracker, SMUDGE_SYNC_FINAL, &report));
  while (harvest_once(world, 0) > 0) {
  }
  MUST(smudge_reader_dirty_page_count(world->reader, &left));
  check(left == 0, "%" PRIu64 " pages are left", left);
  for (int page = 0; page < PAGES; page++) lost += world->copied[page] != world->version[page];
  check(lost == 0, "%" PRIu64 " pages are lost", lost);
  /* It was no trivial life. */
  check(world->harvest_count > 10, "%" PRIu64 " harvests", world->harvest_count);
  MUST(smudge_log_stop(world->tracker, NULL));
  for (int i = 0; i < CONTAINERS; i++) MUST(smudge_container_remove(world->devices[i].container));
  MUST(smudge_reader_remove(world->reader));
  MUST(smudge_tracker_destroy(world->tracker));
}

int main(int argc, char **argv) {
  operations = argc > 1 ? (unsigned)atoi(argv[1]) : 20000;
  for (int i = 0; i < TRACKERS; i++) make(&worlds[i]);
  run();
  for (int i = 0; i < TRACKERS; i++) finish(&worlds[i]);
  return check_end();
}
