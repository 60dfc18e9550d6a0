/* Every function misused on purpose: the named code, a sentence of that call, nothing changed. */
#include "check.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 1024 };

/* Everything a call may be made on. */
struct handles {
  smudge_tracker *tracker;
  smudge_container *container;
  smudge_reader *reader;
  smudge_shared_log *log;
};

static const uint32_t WRITABLE = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE;

/* ---- what must not change -------------------------------------------------------------------- */

struct state {
  smudge_container_info info;
  uint64_t dirty_page_count;
  int blocker_count, mapping, region;
  smudge_mapping at;
};

static struct state look(const struct handles *h) {
  struct state state;
  memset(&state, 0, sizeof state);
  state.info.size = sizeof state.info;
  state.at.size = sizeof state.at;
  MUST(smudge_container_get_info(h->container, &state.info));
  MUST(smudge_reader_dirty_page_count(h->reader, &state.dirty_page_count));
  state.blocker_count = smudge_blockers(h->tracker, NULL, 0);
  state.mapping = smudge_lookup(h->container, 0x10000, &state.at);
  return state;
}

/* The sentence of the call that just failed begins with the name of its function. */
static int says(const char *call) {
  size_t length = strcspn(call, "(");
  const char *sentence = smudge_last_error();
  return strncmp(sentence, call, length) == 0 && strncmp(sentence + length, ": ", 2) == 0 &&
         strlen(sentence) > length + 12;
}

/* So that a sentence that is there already is another function's. */
static void spoil(const char *call) {
  if (strncmp(call, "smudge_begin", 12) == 0) smudge_commit(NULL);
  else smudge_begin(NULL);
}

static struct handles live;

static void refused_at(int line, const char *call, int wanted, int result, struct state before) {
  check(result == wanted, "line %d: %s is %d, not %d: %s", line, call, result, wanted,
        smudge_last_error());
  check(says(call), "line %d: %s says: %s", line, call, smudge_last_error());
  struct state after = look(&live);
  check(memcmp(&before, &after, sizeof before) == 0, "line %d: %s changed something", line, call);
}

#define REFUSED(wanted, call) \
  do { \
    struct state before = look(&live); \
    spoil(#call); \
    int result = (call); \
    refused_at(__LINE__, #call, (wanted), result, before); \
  } while (0)

/* ---- every function, called as it should be on a handle that may be none --------------------- */

static int ignore_run(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa, (void)byte_count, (void)opaque;
  return 0;
}

static uint64_t words[PAGES / 64];
static smudge_range ranges[4];

static int do_destroy(struct handles *h) { return smudge_tracker_destroy(h->tracker); }
static int do_blockers(struct handles *h) { return smudge_blockers(h->tracker, NULL, 0); }
static int do_begin(struct handles *h) { return smudge_begin(h->tracker); }
static int do_commit(struct handles *h) { return smudge_commit(h->tracker); }
static int do_region_add(struct handles *h) {
  smudge_ram ram = check_ram("more", UINT64_C(1) << 40, PAGE);
  return smudge_region_add(h->tracker, &ram);
}
static int do_region_remove(struct handles *h) {
  return smudge_region_remove(h->tracker, 0, PAGES * PAGE);
}
static int do_discard(struct handles *h) { return smudge_ram_discard(h->tracker, 0, PAGE); }
static int do_populate(struct handles *h) { return smudge_ram_populate(h->tracker, 0, PAGE); }
static int do_container_add(struct handles *h) {
  smudge_container_params params = {.size = sizeof params, .name = "more"};
  smudge_container *out;
  return smudge_container_add(h->tracker, &params, &out);
}
static int do_type1(struct handles *h) {
  smudge_kernel_params params = {.size = sizeof params, .name = "more", .fd = -1};
  smudge_container *out;
  return smudge_container_add_type1(h->tracker, &params, &out);
}
static int do_iommufd(struct handles *h) {
  smudge_kernel_params params = {.size = sizeof params, .name = "more", .fd = -1};
  smudge_container *out;
  return smudge_container_add_iommufd(h->tracker, &params, &out);
}
static int do_log_start(struct handles *h) { return smudge_log_start(h->tracker, NULL); }
static int do_log_sync(struct handles *h) { return smudge_log_sync(h->tracker, 0, NULL); }
static int do_log_stop(struct handles *h) { return smudge_log_stop(h->tracker, NULL); }
static int do_reader_add(struct handles *h) {
  smudge_reader *out;
  return smudge_reader_add(h->tracker, "more", 0, &out);
}
static int do_vcpu_wrote(struct handles *h) { return smudge_vcpu_wrote(h->tracker, 0, PAGE); }
static int do_vcpu_bitmap(struct handles *h) {
  return smudge_vcpu_bitmap(h->tracker, 0, words, PAGES);
}
static int do_shared_add(struct handles *h) {
  smudge_shared_log *out;
  int fd;
  uint64_t byte_count;
  int result = smudge_shared_log_add(h->tracker, "more", 0, &out, &fd, &byte_count);
  if (result == 0) {
    close(fd);
    smudge_shared_log_remove(out);
  }
  return result;
}
static int do_trace(struct handles *h) {
  int fd = open("/dev/null", O_WRONLY);
  int result = smudge_trace_write(h->tracker, fd);
  close(fd);
  return result;
}
static int do_remove(struct handles *h) { return smudge_container_remove(h->container); }
static int do_devices(struct handles *h) { return smudge_container_devices_changed(h->container); }
static int do_space(struct handles *h) {
  return smudge_container_set_address_space(h->container, 0);
}
static int do_map(struct handles *h) {
  return smudge_map(h->container, 0x900000, 0, PAGE, WRITABLE);
}
static int do_unmap(struct handles *h) { return smudge_unmap(h->container, 0, 0, NULL); }
static int do_lookup(struct handles *h) {
  smudge_mapping out = {.size = sizeof out};
  return smudge_lookup(h->container, 0x10000, &out);
}
static int do_info(struct handles *h) {
  smudge_container_info out = {.size = sizeof out};
  return smudge_container_get_info(h->container, &out);
}
static int do_device_wrote(struct handles *h) {
  return smudge_device_wrote(h->container, 0x10000, PAGE);
}
static int do_reader_remove(struct handles *h) { return smudge_reader_remove(h->reader); }
static int do_count(struct handles *h) {
  uint64_t count;
  return smudge_reader_dirty_page_count(h->reader, &count);
}
static int do_runs(struct handles *h) {
  return smudge_harvest_runs(h->reader, 1, ignore_run, NULL, NULL);
}
static int do_ranges(struct handles *h) {
  uint32_t count;
  return smudge_harvest_ranges(h->reader, 1, ranges, 4, &count, NULL);
}
static int do_bitmap(struct handles *h) {
  return smudge_harvest_bitmap(h->reader, 0, words, PAGES, NULL, NULL);
}
static int do_delivered(struct handles *h) { return smudge_delivered(h->reader, 1); }
static int do_put_back(struct handles *h) { return smudge_put_back(h->reader, 1); }
static int do_publish(struct handles *h) { return smudge_shared_log_publish(h->log, NULL); }
static int do_shared_remove(struct handles *h) { return smudge_shared_log_remove(h->log); }

/* The other side's answer is that the stream ends: this migration fails, and the guest runs on. */
static int write_nothing(const void *bytes, uint64_t byte_count, void *opaque) {
  (void)bytes, (void)byte_count, (void)opaque;
  return -32; /* EPIPE */
}
static int64_t read_nothing(void *bytes, uint64_t byte_count, void *opaque) {
  (void)bytes, (void)byte_count, (void)opaque;
  return 0;
}
static int switch_vcpus(void *opaque) {
  (void)opaque;
  return 0;
}
static const smudge_channel broken = {
    .size = sizeof broken, .write = write_nothing, .read = read_nothing};
static const smudge_machine machine = {
    .size = sizeof machine, .is_running = 1, .stop_vcpus = switch_vcpus,
    .resume_vcpus = switch_vcpus};
static int do_migrate(struct handles *h) {
  smudge_migration_params params = {
      .size = sizeof params, .channel = &broken, .machine = &machine};
  return smudge_migrate(h->tracker, &params, NULL);
}
static int do_receive(struct handles *h) {
  smudge_migration_params params = {
      .size = sizeof params, .channel = &broken, .machine = &machine};
  return smudge_receive(h->tracker, &params, NULL);
}
static int do_resolve(struct handles *h) { return smudge_migration_resolve(h->tracker, 1); }

/* In a callback of a query: refused, or done, or done with another result than 0. */
enum callback { WAITS, MARKS, ANSWERS, ENDS, BUSY };

static const struct function {
  const char *name;
  int (*call)(struct handles *h);
  enum callback from_query;
} functions[] = {
    {"smudge_tracker_destroy", do_destroy, BUSY},
    {"smudge_blockers", do_blockers, ANSWERS},
    {"smudge_begin", do_begin, WAITS},
    {"smudge_commit", do_commit, WAITS},
    {"smudge_region_add", do_region_add, WAITS},
    {"smudge_region_remove", do_region_remove, WAITS},
    {"smudge_ram_discard", do_discard, WAITS},
    {"smudge_ram_populate", do_populate, WAITS},
    {"smudge_container_add", do_container_add, WAITS},
    {"smudge_container_add_type1", do_type1, WAITS},
    {"smudge_container_add_iommufd", do_iommufd, WAITS},
    {"smudge_log_start", do_log_start, WAITS},
    {"smudge_log_sync", do_log_sync, WAITS},
    {"smudge_log_stop", do_log_stop, WAITS},
    {"smudge_reader_add", do_reader_add, ANSWERS},
    {"smudge_vcpu_wrote", do_vcpu_wrote, MARKS},
    {"smudge_vcpu_bitmap", do_vcpu_bitmap, MARKS},
    {"smudge_shared_log_add", do_shared_add, ANSWERS},
    {"smudge_trace_write", do_trace, ANSWERS},
    {"smudge_migrate", do_migrate, WAITS},
    {"smudge_receive", do_receive, WAITS},
    {"smudge_migration_resolve", do_resolve, WAITS},
    {"smudge_container_remove", do_remove, WAITS},
    {"smudge_container_devices_changed", do_devices, WAITS},
    {"smudge_container_set_address_space", do_space, WAITS},
    {"smudge_map", do_map, WAITS},
    {"smudge_unmap", do_unmap, WAITS},
    {"smudge_lookup", do_lookup, ANSWERS},
    {"smudge_container_get_info", do_info, ANSWERS},
    {"smudge_device_wrote", do_device_wrote, MARKS},
    {"smudge_reader_dirty_page_count", do_count, ANSWERS},
    {"smudge_harvest_runs", do_runs, ANSWERS},
    {"smudge_harvest_ranges", do_ranges, ANSWERS},
    {"smudge_harvest_bitmap", do_bitmap, ANSWERS},
    {"smudge_delivered", do_delivered, ENDS},
    {"smudge_put_back", do_put_back, ENDS},
    {"smudge_shared_log_publish", do_publish, ANSWERS},
    {"smudge_shared_log_remove", do_shared_remove, ENDS},
    {"smudge_reader_remove", do_reader_remove, ENDS},
};
/* The first of them take a tracker. */
enum { FUNCTIONS = sizeof functions / sizeof *functions, OF_TRACKERS = 22 };

static int nothing_dirty(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *bits,
                         void *opaque) {
  (void)iova, (void)byte_count, (void)page_size, (void)bits, (void)opaque;
  return 0;
}

/* A tracker with RAM, one container with one mapping, a reader, a shared log, and a record. */
static struct handles make(smudge_query query, void *opaque) {
  struct handles h;
  memset(&h, 0, sizeof h);
  smudge_tracker_params with_record = {.size = sizeof with_record, .record_byte_count = 1 << 20};
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  smudge_container_params params = {
      .size = sizeof params, .name = "one", .query = query, .opaque = opaque};
  int fd;
  uint64_t byte_count;
  MUST(smudge_tracker_create(&with_record, &h.tracker));
  MUST(smudge_region_add(h.tracker, &ram));
  MUST(smudge_container_add(h.tracker, &params, &h.container));
  MUST(smudge_reader_add(h.tracker, "reader", 0, &h.reader));
  MUST(smudge_shared_log_add(h.tracker, "log", 0, &h.log, &fd, &byte_count));
  close(fd);
  MUST(smudge_map(h.container, 0x10000, 0x20000, 0x4000, WRITABLE));
  return h;
}

/* ---- handles --------------------------------------------------------------------------------- */

static void null_handles(void) {
  struct handles none;
  memset(&none, 0, sizeof none);
  for (int i = 0; i < FUNCTIONS; i++) {
    struct state before = look(&live);
    spoil(functions[i].name);
    refused_at(i, functions[i].name, SMUDGE_EINVAL, functions[i].call(&none), before);
  }
  check(smudge_has_feature(NULL) == 0, "NULL is no feature");
}

static void ended_handles(void) {
  struct handles gone = make(nothing_dirty, NULL);
  MUST(smudge_container_remove(gone.container));
  MUST(smudge_reader_remove(gone.reader));
  MUST(smudge_shared_log_remove(gone.log));
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < FUNCTIONS; i++) {
      int (*call)(struct handles *) = functions[i].call;
      int is_trackers = i < OF_TRACKERS;
      /* First what was removed from a tracker that lives, then a tracker that was destroyed. */
      if (pass == 0 && is_trackers) continue;
      struct state before = look(&live);
      spoil(functions[i].name);
      refused_at(i, functions[i].name, SMUDGE_EBADF, call(&gone), before);
    }
    if (pass == 0) {
      gone = (struct handles){.tracker = gone.tracker};
      struct handles other = make(nothing_dirty, NULL);
      MUST(smudge_tracker_destroy(gone.tracker));
      MUST(smudge_tracker_destroy(other.tracker));
      gone = other;
    }
  }
}

/* ---- structs --------------------------------------------------------------------------------- */

static void sizes_of_params(void) {
  smudge_tracker_params params = {.size = 0};
  smudge_tracker *tracker = NULL;
  REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  params.size = 7;
  REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  params.size = 4097;
  REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  REFUSED(SMUDGE_EINVAL, smudge_tracker_create(NULL, NULL));
  struct {
    smudge_tracker_params params;
    uint64_t newer;
  } larger;
  memset(&larger, 0, sizeof larger);
  larger.params.size = sizeof larger;
  larger.newer = UINT64_C(1) << 56;
  REFUSED(SMUDGE_E2BIG, smudge_tracker_create(&larger.params, &tracker));
  check(tracker == NULL, "out is left alone");
  larger.newer = 0;
  check(smudge_tracker_create(&larger.params, &tracker) == 0, "a larger one with a zero tail");
  MUST(smudge_tracker_destroy(tracker));
  /* A smaller one: what it lacks has defaults, so that this page size is not seen. */
  params.size = 16, params.page_size = 5000;
  check(smudge_tracker_create(&params, &tracker) == 0, "a smaller one gets defaults");
  MUST(smudge_tracker_destroy(tracker));
}

static void sizes_of_ram(void) {
  smudge_ram ram = check_ram("more", UINT64_C(1) << 40, PAGE);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(live.tracker, NULL));
  ram.size = 0;
  REFUSED(SMUDGE_EINVAL, smudge_region_add(live.tracker, &ram));
  struct {
    smudge_ram ram;
    uint8_t newer[8];
  } larger = {.ram = check_ram("more", UINT64_C(1) << 40, PAGE), .newer = {0, 0, 0, 1}};
  larger.ram.size = sizeof larger;
  REFUSED(SMUDGE_E2BIG, smudge_region_add(live.tracker, &larger.ram));
  larger.newer[3] = 0;
  check(smudge_region_add(live.tracker, &larger.ram) == 0, "larger RAM with a zero tail");
  MUST(smudge_region_remove(live.tracker, UINT64_C(1) << 40, PAGE));
  /* Too small to have a name. */
  ram.size = 32;
  REFUSED(SMUDGE_EINVAL, smudge_region_add(live.tracker, &ram));
}

static void sizes_of_results(void) {
  struct {
    smudge_mapping one;
    uint64_t newer;
  } mapping;
  memset(&mapping, 0, sizeof mapping);
  REFUSED(SMUDGE_EINVAL, smudge_lookup(live.container, 0x10000, &mapping.one));
  REFUSED(SMUDGE_EINVAL, smudge_lookup(live.container, 0x10000, NULL));
  mapping.one.size = sizeof mapping, mapping.newer = 7;
  REFUSED(SMUDGE_E2BIG, smudge_lookup(live.container, 0x10000, &mapping.one));
  check(mapping.one.byte_count == 0, "a result that is refused is not written");
  mapping.newer = 0;
  check(smudge_lookup(live.container, 0x12345, &mapping.one) == 0 && mapping.one.iova == 0x10000 &&
            mapping.one.gpa == 0x20000 && mapping.one.byte_count == 0x4000 &&
            mapping.one.flags == WRITABLE && mapping.one.size == sizeof mapping,
        "a larger result with a zero tail");
  memset(&mapping, 0xff, sizeof mapping);
  mapping.one.size = 16;
  check(smudge_lookup(live.container, 0x12345, &mapping.one) == 0 && mapping.one.iova == 0x10000 &&
            mapping.one.gpa == UINT64_MAX,
        "a smaller result is filled as far as it goes");
  mapping.one.size = sizeof mapping.one;
  REFUSED(SMUDGE_ENOENT, smudge_lookup(live.container, 0x14000, &mapping.one));

  struct {
    smudge_container_info one;
    uint64_t newer;
  } info;
  memset(&info, 0, sizeof info);
  REFUSED(SMUDGE_EINVAL, smudge_container_get_info(live.container, &info.one));
  REFUSED(SMUDGE_EINVAL, smudge_container_get_info(live.container, NULL));
  info.one.size = sizeof info, info.newer = 1;
  REFUSED(SMUDGE_E2BIG, smudge_container_get_info(live.container, &info.one));
  info.newer = 0;
  check(smudge_container_get_info(live.container, &info.one) == 0 && info.one.mapping_count == 1 &&
            info.one.mapped_page_count == 4 && info.one.writable_page_count == 4,
        "a larger info with a zero tail");
}

static void sizes_of_reports(void) {
  struct {
    smudge_report one;
    uint64_t newer;
  } report;
  memset(&report, 0, sizeof report);
  REFUSED(SMUDGE_EINVAL, smudge_log_start(live.tracker, &report.one));
  REFUSED(SMUDGE_EINVAL, smudge_log_sync(live.tracker, 0, &report.one));
  REFUSED(SMUDGE_EINVAL, smudge_log_stop(live.tracker, &report.one));
  report.one.size = sizeof report, report.newer = 1;
  REFUSED(SMUDGE_E2BIG, smudge_log_start(live.tracker, &report.one));
  REFUSED(SMUDGE_E2BIG, smudge_log_sync(live.tracker, 0, &report.one));
  REFUSED(SMUDGE_E2BIG, smudge_log_stop(live.tracker, &report.one));
  REFUSED(SMUDGE_EINVAL, smudge_log_sync(live.tracker, 2, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_log_sync(live.tracker, 0x80000001, NULL));
  report.newer = 0;
  char notes[8] = "xxxxxxx";
  report.one.notes = notes, report.one.notes_size = 0;
  check(smudge_log_sync(live.tracker, 0, &report.one) == 0 && notes[0] == 'x',
        "notes of size 0 are not written");
}

static void unknown_params(void) {
  smudge_tracker *tracker;
  smudge_tracker_params params = {.size = sizeof params, .pinned_pages = 2};
  REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  params.pinned_pages = 0, params.two_step_unmap = 2;
  REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  params.two_step_unmap = 0;
  const uint64_t sizes[] = {1, 2048, 4095, 5000, 12288, UINT64_C(1) << 63, UINT64_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    params.page_size = sizes[i];
    REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  }
  params.page_size = 0;
  const uint64_t records[] = {1, 4095, (UINT64_C(64) << 30) + 1, UINT64_MAX};
  for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
    params.record_byte_count = records[i];
    REFUSED(SMUDGE_EINVAL, smudge_tracker_create(&params, &tracker));
  }
}

/* ---- RAM ------------------------------------------------------------------------------------- */

static void ram(void) {
  smudge_tracker *t = live.tracker;
  const uint64_t above = UINT64_C(1) << 40;
  smudge_ram ram = check_ram("more", above, PAGE);
  ram.flags = 2;
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram(NULL, above, PAGE);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram("", above, PAGE);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram("ram", above, PAGE);
  REFUSED(SMUDGE_EEXIST, smudge_region_add(t, &ram));
  ram = check_ram("more", (PAGES - 1) * PAGE, 2 * PAGE);
  REFUSED(SMUDGE_EEXIST, smudge_region_add(t, &ram));
  ram = check_ram("more", above, 0);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram("more", above + 1, PAGE);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram("more", above, PAGE - 1);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram("more", UINT64_MAX - PAGE + 1, 2 * PAGE);
  REFUSED(SMUDGE_EOVERFLOW, smudge_region_add(t, &ram));
  ram = check_ram("more", above, UINT64_C(1) << 60);
  REFUSED(SMUDGE_E2BIG, smudge_region_add(t, &ram));
  ram = check_ram("more", above, PAGE);
  ram.node_plus_one = UINT32_MAX;
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));
  ram = check_ram("more", above, 2 * PAGE);
  ram.host = (void *)(UINTPTR_MAX - PAGE + 1);
  REFUSED(SMUDGE_EINVAL, smudge_region_add(t, &ram));

  REFUSED(SMUDGE_ENOENT, smudge_region_remove(t, above, PAGE));
  REFUSED(SMUDGE_EINVAL, smudge_region_remove(t, 0, PAGE));
  REFUSED(SMUDGE_EINVAL, smudge_region_remove(t, 0, (PAGES + 1) * PAGE));
  REFUSED(SMUDGE_EINVAL, smudge_region_remove(t, 0, 0));
  REFUSED(SMUDGE_EINVAL, smudge_region_remove(t, 1, PAGES * PAGE));
  REFUSED(SMUDGE_EOVERFLOW, smudge_region_remove(t, 2 * PAGE, UINT64_MAX - PAGE + 1));
  REFUSED(SMUDGE_EINVAL, smudge_ram_discard(t, 0, 0));
  REFUSED(SMUDGE_EINVAL, smudge_ram_discard(t, 7, PAGE));
  REFUSED(SMUDGE_EOVERFLOW, smudge_ram_discard(t, UINT64_MAX - PAGE + 1, 2 * PAGE));
  REFUSED(SMUDGE_EINVAL, smudge_ram_populate(t, 0, 0));
  REFUSED(SMUDGE_EINVAL, smudge_ram_populate(t, 0, 7));
  REFUSED(SMUDGE_EOVERFLOW, smudge_ram_populate(t, UINT64_MAX - PAGE + 1, 2 * PAGE));

  REFUSED(SMUDGE_EINVAL, smudge_commit(t));
  MUST(smudge_begin(t));
  REFUSED(SMUDGE_EBUSY, smudge_begin(t));
  /* In a transaction the log's refusals come with the commit, and the rest is done. */
  ram = check_ram("ram", above, PAGE);
  MUST(smudge_region_add(t, &ram));
  ram = check_ram("more", above, PAGE);
  MUST(smudge_region_add(t, &ram));
  spoil("smudge_commit");
  check(smudge_commit(t) == SMUDGE_EEXIST && says("smudge_commit"), "the first failure is told");
  check(smudge_region_remove(t, above, PAGE) == 0, "the rest of the transaction was done");
  REFUSED(SMUDGE_EINVAL, smudge_commit(t));
}

static void full_of_ram(void) {
  smudge_tracker *tracker;
  MUST(smudge_tracker_create(NULL, &tracker));
  int result = 0, count = 0;
  char name[16];
  for (; count < 5000 && result == 0; count++) {
    snprintf(name, sizeof name, "r%d", count);
    smudge_ram ram = check_ram(name, (uint64_t)count * 2 * PAGE, PAGE);
    spoil("smudge_region_add");
    result = smudge_region_add(tracker, &ram);
  }
  check(result == SMUDGE_ENOSPC && count == 4097 && says("smudge_region_add"),
        "RAM region %d is %d", count, result);
  MUST(smudge_tracker_destroy(tracker));
}

/* ---- containers ------------------------------------------------------------------------------ */

static void containers(void) {
  smudge_tracker *t = live.tracker;
  smudge_container *out = NULL;
  smudge_container_params params = {.size = sizeof params, .name = "more"};
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, NULL, &out));
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, NULL));
  params.size = 4;
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  params.size = sizeof params, params.name = NULL;
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  params.name = "";
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  params.name = "one";
  REFUSED(SMUDGE_EEXIST, smudge_container_add(t, &params, &out));
  static char long_name[5000];
  memset(long_name, 'a', sizeof long_name - 1);
  params.name = long_name;
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  params.name = "more", params.flags = 2;
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  params.flags = 0, params.query = nothing_dirty, params.query_flags = 8;
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  params.query_flags = 0, params.query_byte_count_max = 7;
  REFUSED(SMUDGE_EINVAL, smudge_container_add(t, &params, &out));
  check(out == NULL, "out is left alone");
  params.query_byte_count_max = UINT64_MAX, params.mapping_count_max = UINT64_MAX;
  check(smudge_container_add(t, &params, &out) == 0, "limits past any need: %s",
        smudge_last_error());
  if (out) {
    MUST(smudge_map(out, 0, 0, PAGE, WRITABLE));
    REFUSED(SMUDGE_EINVAL, smudge_container_set_address_space(out, 2));
    MUST(smudge_container_set_address_space(out, SMUDGE_CONTAINER_IDENTITY));
    REFUSED(SMUDGE_EPERM, smudge_map(out, 0, 0, PAGE, WRITABLE));
    MUST(smudge_container_remove(out));
  }
  smudge_kernel_params kernel = {.size = sizeof kernel, .name = "more", .fd = -1};
  smudge_device device = {.size = 4, .fd = -1, .name = "device"};
  REFUSED(SMUDGE_EINVAL, smudge_container_add_type1(t, NULL, &out));
  REFUSED(SMUDGE_EBADF, smudge_container_add_type1(t, &kernel, &out));
  REFUSED(SMUDGE_EINVAL, smudge_container_add_iommufd(t, NULL, &out));
  REFUSED(SMUDGE_EBADF, smudge_container_add_iommufd(t, &kernel, &out));
  kernel.fd = open("/dev/null", O_RDWR);
  REFUSED(-25 /* ENOTTY */, smudge_container_add_type1(t, &kernel, &out));
  REFUSED(-25 /* ENOTTY */, smudge_container_add_iommufd(t, &kernel, &out));
  kernel.flags = 2;
  REFUSED(SMUDGE_EINVAL, smudge_container_add_type1(t, &kernel, &out));
  REFUSED(SMUDGE_EINVAL, smudge_container_add_iommufd(t, &kernel, &out));
  kernel.flags = 0;
  REFUSED(SMUDGE_EINVAL, smudge_container_add_type1(t, &kernel, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_container_add_iommufd(t, &kernel, NULL));
  kernel.device_count = 1;
  REFUSED(SMUDGE_EINVAL, smudge_container_add_type1(t, &kernel, &out));
  kernel.devices = &device;
  REFUSED(SMUDGE_EINVAL, smudge_container_add_iommufd(t, &kernel, &out));
  kernel.device_count = 257;
  REFUSED(SMUDGE_EINVAL, smudge_container_add_type1(t, &kernel, &out));
  close(kernel.fd);
}

static void full_of_containers(void) {
  smudge_tracker *tracker;
  MUST(smudge_tracker_create(NULL, &tracker));
  int result = 0, count = 0;
  char name[16];
  for (; count < 300 && result == 0; count++) {
    snprintf(name, sizeof name, "c%d", count);
    smudge_container_params params = {.size = sizeof params, .name = name};
    smudge_container *out;
    spoil("smudge_container_add");
    result = smudge_container_add(tracker, &params, &out);
  }
  check(result == SMUDGE_ENOSPC && count == 257 && says("smudge_container_add"),
        "container %d is %d", count, result);
  MUST(smudge_tracker_destroy(tracker));
}

/* ---- mappings -------------------------------------------------------------------------------- */

static void mappings(void) {
  smudge_container *c = live.container;
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50000, 0, PAGE, 0));
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50000, 0, PAGE, SMUDGE_MAP_AHEAD));
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50000, 0, PAGE, 8 | SMUDGE_MAP_READ));
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50000, 0, 0, WRITABLE));
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50001, 0, PAGE, WRITABLE));
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50000, 0, PAGE + 1, WRITABLE));
  REFUSED(SMUDGE_EINVAL, smudge_map(c, 0x50000, 1, PAGE, WRITABLE));
  REFUSED(SMUDGE_EOVERFLOW, smudge_map(c, UINT64_MAX - PAGE + 1, 0, 2 * PAGE, WRITABLE));
  REFUSED(SMUDGE_EOVERFLOW, smudge_map(c, 0x50000, UINT64_MAX - PAGE + 1, 2 * PAGE, WRITABLE));
  REFUSED(SMUDGE_E2BIG, smudge_map(c, 0, 0, (UINT64_C(1) << 52) + PAGE, WRITABLE));

  uint64_t bitmap[2] = {1, 0};
  REFUSED(SMUDGE_EINVAL, smudge_unmap(c, 0x10000, 0, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_unmap(c, 0x10001, PAGE, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_unmap(c, 0x10000, 1, NULL));
  REFUSED(SMUDGE_EOVERFLOW, smudge_unmap(c, 0x10000, UINT64_MAX - PAGE + 1, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_unmap(c, 0x10000, 0, bitmap));
  REFUSED(SMUDGE_EINVAL, smudge_unmap(c, 0x10001, PAGE, bitmap));
  REFUSED(SMUDGE_EINVAL, smudge_unmap(c, 0x10000, 1, bitmap));
  REFUSED(SMUDGE_EOVERFLOW, smudge_unmap(c, 0x10000, UINT64_MAX - PAGE + 1, bitmap));

  REFUSED(SMUDGE_EINVAL, smudge_device_wrote(c, 0x10000, 0));
  REFUSED(SMUDGE_EOVERFLOW, smudge_device_wrote(c, 0x10000, UINT64_MAX));
  REFUSED(SMUDGE_EINVAL, smudge_vcpu_wrote(live.tracker, 0, 0));
  REFUSED(SMUDGE_EOVERFLOW, smudge_vcpu_wrote(live.tracker, 2, UINT64_MAX));
  REFUSED(SMUDGE_EINVAL, smudge_vcpu_bitmap(live.tracker, 0, NULL, 64));
  REFUSED(SMUDGE_EINVAL, smudge_vcpu_bitmap(live.tracker, 0, words, 0));
  REFUSED(SMUDGE_EINVAL, smudge_vcpu_bitmap(live.tracker, 1, words, 64));
  REFUSED(SMUDGE_EINVAL, smudge_vcpu_bitmap(live.tracker, 0, words, UINT64_MAX));
  REFUSED(SMUDGE_EOVERFLOW, smudge_vcpu_bitmap(live.tracker, UINT64_MAX - PAGE + 1, words, 2));
}

/* The one that changes something, by the header: nobody knows what those devices write. */
static void full_of_mappings(void) {
  struct handles h = {.tracker = NULL};
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  smudge_container_params params = {.size = sizeof params, .name = "one", .mapping_count_max = 3};
  uint64_t dirty;
  MUST(smudge_tracker_create(NULL, &h.tracker));
  MUST(smudge_region_add(h.tracker, &ram));
  MUST(smudge_container_add(h.tracker, &params, &h.container));
  MUST(smudge_reader_add(h.tracker, "reader", 0, &h.reader));
  for (int i = 0; i < 3; i++) {
    MUST(smudge_map(h.container, i * 0x10000, i * 0x20000, PAGE, WRITABLE));
  }
  spoil("smudge_map");
  check(smudge_map(h.container, 0x90000, 0, PAGE, WRITABLE) == SMUDGE_ENOSPC && says("smudge_map"),
        "a fourth mapping of three");
  smudge_container_info info = {.size = sizeof info};
  MUST(smudge_container_get_info(h.container, &info));
  check(info.mapping_count == 3, "it is not in the table");
  check(smudge_blockers(h.tracker, NULL, 0) >= 0, "questions are answered");
  MUST(smudge_reader_dirty_page_count(h.reader, &dirty));
  check(dirty == PAGES, "every page is dirty, not %" PRIu64, dirty);
  MUST(smudge_tracker_destroy(h.tracker));
}

/* So does a hole in a mapping, which leaves two of it. */
static void full_for_the_parts(int has_bitmap) {
  struct handles h = {.tracker = NULL};
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  smudge_container_params params = {.size = sizeof params, .name = "one", .mapping_count_max = 1};
  uint64_t dirty, bitmap = 1;
  MUST(smudge_tracker_create(NULL, &h.tracker));
  MUST(smudge_region_add(h.tracker, &ram));
  MUST(smudge_container_add(h.tracker, &params, &h.container));
  MUST(smudge_reader_add(h.tracker, "reader", 0, &h.reader));
  MUST(smudge_log_start(h.tracker, NULL));
  MUST(smudge_map(h.container, 0, 0, 4 * PAGE, WRITABLE | SMUDGE_MAP_AHEAD));
  spoil("smudge_unmap");
  int result = smudge_unmap(h.container, PAGE, PAGE, has_bitmap ? &bitmap : NULL);
  check(result == SMUDGE_ENOSPC && says("smudge_unmap"), "a hole in the only mapping: %d", result);
  smudge_mapping all = {.size = sizeof all};
  check(smudge_lookup(h.container, PAGE, &all) == 0 && all.byte_count == 4 * PAGE,
        "it is in the table still");
  MUST(smudge_reader_dirty_page_count(h.reader, &dirty));
  check(dirty == PAGES, "every page is dirty, not %" PRIu64, dirty);
  check(smudge_unmap(h.container, 0, 0, NULL) == 0, "the whole of it goes");
  MUST(smudge_tracker_destroy(h.tracker));
}

/* No more than 1 GiB beside what the process has. */
static void out_of_memory(void) {
  struct rlimit all, few;
  unsigned long pages = 0;
  FILE *self = fopen("/proc/self/statm", "r");
  if (!self || fscanf(self, "%lu", &pages) != 1) exit(1);
  fclose(self);
  getrlimit(RLIMIT_AS, &all);
  few = all;
  few.rlim_cur = pages * PAGE + (UINT64_C(1) << 30);
  setrlimit(RLIMIT_AS, &few);
  smudge_tracker *tracker;
  smudge_tracker_params params = {.size = sizeof params, .record_byte_count = UINT64_C(32) << 30};
  REFUSED(SMUDGE_ENOMEM, smudge_tracker_create(&params, &tracker));
  smudge_ram ram = check_ram("more", UINT64_C(1) << 50, UINT64_C(1) << 48);
  REFUSED(SMUDGE_ENOMEM, smudge_region_add(live.tracker, &ram));
  ram = check_ram("more", UINT64_C(1) << 50, PAGE);
  check(smudge_region_add(live.tracker, &ram) == 0, "a small one is added");
  smudge_shared_log *log;
  int fd;
  uint64_t byte_count;
  /* A bit for each page up to the region at 2^50. */
  REFUSED(SMUDGE_ENOMEM, smudge_shared_log_add(live.tracker, "more", 0, &log, &fd, &byte_count));
  MUST(smudge_region_remove(live.tracker, UINT64_C(1) << 50, PAGE));
  const uint64_t window = UINT64_C(1) << 50;
  REFUSED(SMUDGE_ENOMEM, smudge_unmap(live.container, 0, window, words));
  setrlimit(RLIMIT_AS, &all);
}

/* ---- readers --------------------------------------------------------------------------------- */

static int refuse_run(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa, (void)byte_count;
  return *(int *)opaque;
}

static void readers(void) {
  smudge_reader *out = NULL;
  smudge_reader *r = live.reader;
  uint32_t count;
  uint64_t harvest = 99, pages;
  int answer = -71;
  REFUSED(SMUDGE_EINVAL, smudge_reader_add(live.tracker, NULL, 0, &out));
  REFUSED(SMUDGE_EINVAL, smudge_reader_add(live.tracker, "", 0, &out));
  REFUSED(SMUDGE_EINVAL, smudge_reader_add(live.tracker, "more", 2, &out));
  REFUSED(SMUDGE_EINVAL, smudge_reader_add(live.tracker, "more", 0, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_reader_dirty_page_count(r, NULL));
  MUST(smudge_vcpu_wrote(live.tracker, 0x40000, 2 * PAGE));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_runs(r, UINT64_MAX, NULL, NULL, &harvest));
  REFUSED(-71, smudge_harvest_runs(r, UINT64_MAX, refuse_run, &answer, &harvest));
  answer = 3;
  REFUSED(SMUDGE_EIO, smudge_harvest_runs(r, UINT64_MAX, refuse_run, &answer, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_ranges(r, UINT64_MAX, NULL, 4, &count, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_ranges(r, UINT64_MAX, ranges, 4, NULL, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_ranges(r, UINT64_MAX, ranges, 0, &count, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_bitmap(r, 0, NULL, PAGES, &pages, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_bitmap(r, 0, words, PAGES - 1, &pages, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_bitmap(r, 0, words, PAGES + 1, &pages, &harvest));
  REFUSED(SMUDGE_EINVAL, smudge_harvest_bitmap(r, 0, words, 0, &pages, &harvest));
  REFUSED(SMUDGE_ENOENT, smudge_harvest_bitmap(r, PAGE, words, PAGES, &pages, &harvest));
  REFUSED(SMUDGE_ENOENT, smudge_harvest_bitmap(r, PAGES * PAGE, words, PAGES, &pages, &harvest));
  check(harvest == 99, "the number of a harvest that failed is not written");
  check(smudge_harvest_runs(r, 0, ignore_run, NULL, &harvest) == 1 && harvest == 0,
        "a harvest of no page leaves all of them");
  REFUSED(SMUDGE_ENOENT, smudge_delivered(r, 12345));
  REFUSED(SMUDGE_ENOENT, smudge_delivered(r, 0));
  MUST(smudge_harvest_runs(r, UINT64_MAX, ignore_run, NULL, &harvest));
  MUST(smudge_delivered(r, harvest));
  REFUSED(SMUDGE_ENOENT, smudge_delivered(r, harvest));

  smudge_reader *more[32];
  int result = 0, made = 0;
  for (; made < 32 && result == 0; made++) {
    spoil("smudge_reader_add");
    result = smudge_reader_add(live.tracker, "more", 0, &more[made]);
  }
  /* 16, of which the tracker's own reader and its shared log are two. */
  check(result == SMUDGE_ENOSPC && made == 15 && says("smudge_reader_add"), "reader %d is %d",
        made, result);
  while (--made > 0) MUST(smudge_reader_remove(more[made - 1]));
}

/* 4096 harvests in flight: the oldest is put back, and nobody can answer for it any more. */
static void many_harvests(void) {
  struct handles h = make(nothing_dirty, NULL);
  uint64_t first = 0, harvest, dirty;
  for (int i = 0; i < 4097; i++) {
    MUST(smudge_vcpu_wrote(h.tracker, (uint64_t)(i % PAGES) * PAGE, PAGE));
    /* The last one counts as delivered at once, and is in flight for the moment all the same. */
    MUST(smudge_harvest_runs(h.reader, UINT64_MAX, ignore_run, NULL, i < 4096 ? &harvest : NULL));
    if (i == 0) first = harvest;
  }
  MUST(smudge_reader_dirty_page_count(h.reader, &dirty));
  check(dirty == 1, "the oldest harvest was put back: %" PRIu64, dirty);
  spoil("smudge_delivered");
  check(smudge_delivered(h.reader, first) == SMUDGE_ENOENT && says("smudge_delivered"),
        "it is not in flight");
  MUST(smudge_reader_dirty_page_count(h.reader, &dirty));
  check(dirty == 1, "it is dirty still: %" PRIu64, dirty);
  check(smudge_delivered(h.reader, harvest) == 0, "the newest is in flight");
  MUST(smudge_tracker_destroy(h.tracker));
}

/* By the header everything is dirty from there on. */
static void unknown_put_back(void) {
  struct handles h = make(nothing_dirty, NULL);
  uint64_t dirty;
  spoil("smudge_put_back");
  check(smudge_put_back(h.reader, 12345) == SMUDGE_ENOENT && says("smudge_put_back"),
        "put back of what is not in flight");
  MUST(smudge_reader_dirty_page_count(h.reader, &dirty));
  check(dirty == PAGES, "every page is dirty, not %" PRIu64, dirty);
  smudge_reader *later;
  MUST(smudge_reader_add(h.tracker, "later", 0, &later));
  MUST(smudge_reader_dirty_page_count(later, &dirty));
  check(dirty == PAGES, "for a later reader too, not %" PRIu64, dirty);
  MUST(smudge_tracker_destroy(h.tracker));
}

/* ---- the shared log and the record ----------------------------------------------------------- */

static void shared_and_record(void) {
  smudge_shared_log *log = NULL;
  int fd = -2;
  uint64_t byte_count = 3;
  smudge_tracker *t = live.tracker;
  REFUSED(SMUDGE_EINVAL, smudge_shared_log_add(t, NULL, 0, &log, &fd, &byte_count));
  REFUSED(SMUDGE_EINVAL, smudge_shared_log_add(t, "more", 0, NULL, &fd, &byte_count));
  REFUSED(SMUDGE_EINVAL, smudge_shared_log_add(t, "more", 0, &log, NULL, &byte_count));
  REFUSED(SMUDGE_EINVAL, smudge_shared_log_add(t, "more", 0, &log, &fd, NULL));
  REFUSED(SMUDGE_EINVAL, smudge_shared_log_add(t, "more", 2, &log, &fd, &byte_count));
  check(log == NULL && fd == -2 && byte_count == 3, "what failed has written nothing");

  struct handles h = {.tracker = NULL};
  smudge_tracker_params large = {.size = sizeof large, .page_size = 65536};
  MUST(smudge_tracker_create(&large, &h.tracker));
  spoil("smudge_shared_log_add");
  check(smudge_shared_log_add(h.tracker, "log", 0, &log, &fd, &byte_count) == SMUDGE_ENOTSUP &&
            says("smudge_shared_log_add"),
        "a shared log of pages of 64 KiB");
  smudge_ram ram = check_ram("ram", 0, PAGE);
  spoil("smudge_region_add");
  check(smudge_region_add(h.tracker, &ram) == SMUDGE_EINVAL && says("smudge_region_add"),
        "RAM of a part of a page");
  spoil("smudge_trace_write");
  check(smudge_trace_write(h.tracker, 1) == SMUDGE_ENOTSUP && says("smudge_trace_write"),
        "a trace of a tracker without a record");
  MUST(smudge_tracker_destroy(h.tracker));
  REFUSED(SMUDGE_EBADF, smudge_trace_write(live.tracker, -1));

  /* RAM that comes past the log's end. */
  h = make(nothing_dirty, NULL);
  ram = check_ram("past", UINT64_C(1) << 40, PAGE);
  MUST(smudge_region_add(h.tracker, &ram));
  spoil("smudge_shared_log_publish");
  check(smudge_shared_log_publish(h.log, NULL) == SMUDGE_E2BIG && says("smudge_shared_log_publish"),
        "publish past the end");
  char notes[512] = "";
  smudge_report report = {.size = sizeof report, .notes = notes, .notes_size = sizeof notes};
  check(smudge_log_sync(h.tracker, 0, &report) == 0 && report.note_count > 0 &&
            strstr(notes, "shared log"),
        "a sync notes it: %s", notes);
  MUST(smudge_tracker_destroy(h.tracker));
}

/* ---- the migration front-end ----------------------------------------------------------------- */

static void migrations(void) {
  static uint8_t host[16 * PAGE];
  smudge_tracker *t;
  smudge_ram ram = check_ram("ram", 0, sizeof host);
  smudge_migration_params params = {
      .size = sizeof params, .channel = &broken, .machine = &machine};
  smudge_migration_report report = {.size = 0};
  smudge_device device = {.size = sizeof device, .fd = -1, .name = "device"};
  smudge_channel deaf = {.size = sizeof deaf};
  smudge_machine lame = {.size = sizeof lame};
  int (*const both[])(smudge_tracker *, const smudge_migration_params *,
                      smudge_migration_report *) = {smudge_migrate, smudge_receive};
  const char *const names[] = {"smudge_migrate", "smudge_receive"};
  REFUSED(SMUDGE_ENOENT, smudge_migration_resolve(live.tracker, 0));
  for (int i = 0; i < 2; i++) {
#define REFUSED_BOTH(wanted, tracker, with, told) \
  do { \
    struct state before = look(&live); \
    spoil(names[i]); \
    int result = both[i]((tracker), (with), (told)); \
    refused_at(__LINE__, names[i], (wanted), result, before); \
  } while (0)
    REFUSED_BOTH(SMUDGE_EINVAL, live.tracker, NULL, NULL);
    REFUSED_BOTH(SMUDGE_EINVAL, live.tracker, &params, &report);
    /* Its RAM has no host address. */
    REFUSED_BOTH(SMUDGE_EFAULT, live.tracker, &params, NULL);
    smudge_migration_params wrong = params;
    wrong.channel = NULL;
    REFUSED_BOTH(SMUDGE_EINVAL, live.tracker, &wrong, NULL);
    wrong.channel = &deaf;
    MUST(smudge_tracker_create(NULL, &t));
    ram.host = host;
    MUST(smudge_region_add(t, &ram));
    REFUSED_BOTH(SMUDGE_EINVAL, t, &wrong, NULL);
    wrong = params, wrong.machine = NULL;
    REFUSED_BOTH(SMUDGE_EINVAL, t, &wrong, NULL);
    wrong.machine = &lame;
    REFUSED_BOTH(SMUDGE_EINVAL, t, &wrong, NULL);
    wrong = params, wrong.device_count = 1;
    REFUSED_BOTH(SMUDGE_EINVAL, t, &wrong, NULL);
    wrong.devices = &device;
    REFUSED_BOTH(SMUDGE_EINVAL, t, &wrong, NULL);
    wrong = params, wrong.on_limit = 3;
    if (i == 0) REFUSED_BOTH(SMUDGE_EINVAL, t, &wrong, NULL);
    spoil(names[i]);
    int result = both[i](t, &params, NULL);
    check(result < 0 && says(names[i]), "%s over a broken channel: %d: %s", names[i], result,
          smudge_last_error());
    check(smudge_migration_resolve(t, 0) == SMUDGE_ENOENT, "it is resolved");
    MUST(smudge_tracker_destroy(t));
  }
}

/* ---- from callbacks, and while calls are under way ------------------------------------------- */

struct inside {
  struct handles h;
  int asked;
};

static int call_back(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *bits,
                     void *opaque) {
  (void)iova, (void)byte_count, (void)page_size, (void)bits;
  struct inside *in = opaque;
  if (in->asked++) return 0;
  struct state before = look(&live);
  for (int i = 0; i < FUNCTIONS; i++) {
    const struct function *f = &functions[i];
    spoil(f->name);
    int result = f->call(&in->h);
    switch (f->from_query) {
      case WAITS: refused_at(i, f->name, SMUDGE_EDEADLK, result, before); break;
      case BUSY: refused_at(i, f->name, SMUDGE_EBUSY, result, before); break;
      case MARKS: check(result == 0, "%s from a query: %d", f->name, result); break;
      case ANSWERS: check(result >= 0, "%s from a query: %d", f->name, result); break;
      case ENDS: check(result != SMUDGE_EDEADLK, "%s from a query: %d", f->name, result); break;
    }
  }
  return 0;
}

static void from_a_query(int by_unmap) {
  struct inside in = {.asked = 0};
  in.h = make(call_back, &in);
  MUST(smudge_log_start(in.h.tracker, NULL));
  MUST(by_unmap ? smudge_unmap(in.h.container, 0x10000, 0x4000, NULL)
                : smudge_log_sync(in.h.tracker, 0, NULL));
  check(in.asked > 0, "the query was asked");
  smudge_container_info info = {.size = sizeof info};
  MUST(smudge_container_get_info(in.h.container, &info));
  check(info.mapping_count == !by_unmap, "nothing else was mapped or unmapped");
  MUST(smudge_tracker_destroy(in.h.tracker));
}

/* The callbacks that switch logging hold the container too. */
struct switched {
  struct handles h;
  int started, stopped, result;
};

static void inside_switch(struct switched *in) {
  struct state before = look(&live);
  spoil("smudge_map");
  refused_at(__LINE__, "smudge_map", SMUDGE_EDEADLK, do_map(&in->h), before);
  spoil("smudge_unmap");
  refused_at(__LINE__, "smudge_unmap", SMUDGE_EDEADLK, do_unmap(&in->h), before);
  spoil("smudge_log_sync");
  refused_at(__LINE__, "smudge_log_sync", SMUDGE_EDEADLK, do_log_sync(&in->h), before);
  check(do_device_wrote(&in->h) == 0 && do_vcpu_wrote(&in->h) == 0, "marks may be made");
}

static int start_log(void *opaque) {
  struct switched *in = opaque;
  in->started++;
  inside_switch(in);
  return in->result;
}

static int stop_log(void *opaque) {
  struct switched *in = opaque;
  in->stopped++;
  inside_switch(in);
  return in->result;
}

static int refuse_query(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *bits,
                        void *opaque) {
  (void)iova, (void)byte_count, (void)page_size, (void)bits;
  return ((struct switched *)opaque)->result;
}

/* A callback that fails is no error of the call: what it was asked for is dirty, and noted. */
static void callbacks_that_fail(int result) {
  struct switched in = {.result = 0};
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  smudge_container_params params = {
      .size = sizeof params, .name = "one", .query = refuse_query, .log_start = start_log,
      .log_stop = stop_log, .opaque = &in};
  char notes[512] = "";
  smudge_report report = {.size = sizeof report, .notes = notes, .notes_size = sizeof notes};
  uint64_t dirty;
  MUST(smudge_tracker_create(NULL, &in.h.tracker));
  MUST(smudge_region_add(in.h.tracker, &ram));
  MUST(smudge_container_add(in.h.tracker, &params, &in.h.container));
  MUST(smudge_map(in.h.container, 0x10000, 0x20000, 0x4000, WRITABLE));
  MUST(smudge_log_start(in.h.tracker, &report));
  MUST(smudge_reader_add(in.h.tracker, "reader", 0, &in.h.reader));
  check(in.started == 1 && report.note_count == 0, "logging starts: %s", notes);
  MUST(smudge_log_sync(in.h.tracker, 0, &report));
  MUST(smudge_reader_dirty_page_count(in.h.reader, &dirty));
  check(report.note_count == 0 && dirty == 0, "nothing is dirty");
  in.result = result;
  check(smudge_log_sync(in.h.tracker, 0, &report) == 0 && report.note_count > 0 && notes[0],
        "a query that fails is noted");
  MUST(smudge_reader_dirty_page_count(in.h.reader, &dirty));
  check(dirty == 4, "all that is mapped writable is dirty, not %" PRIu64, dirty);
  in.result = 0;
  check(smudge_log_stop(in.h.tracker, &report) == 0 && in.stopped == 1, "logging stops");
  while (smudge_harvest_runs(in.h.reader, UINT64_MAX, ignore_run, NULL, NULL) > 0) {
  }
  in.result = result;
  check(smudge_log_start(in.h.tracker, &report) == 0 && in.started == 2 && report.note_count > 0,
        "a start that fails is noted");
  check(smudge_log_sync(in.h.tracker, SMUDGE_SYNC_FINAL, &report) == 0, "a sync after that");
  MUST(smudge_reader_dirty_page_count(in.h.reader, &dirty));
  check(dirty >= 4, "all that is mapped writable is dirty, not %" PRIu64, dirty);
  in.result = 0;
  MUST(smudge_tracker_destroy(in.h.tracker));
}

struct held {
  struct handles h;
  sem_t is_inside, may_go;
  int failed;
};

static int wait_inside(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *bits,
                       void *opaque) {
  (void)iova, (void)byte_count, (void)page_size, (void)bits;
  struct held *held = opaque;
  sem_post(&held->is_inside);
  while (sem_wait(&held->may_go) != 0) {
  }
  return 0;
}

static void *unmap_one(void *opaque) {
  struct held *held = opaque;
  held->failed = smudge_unmap(held->h.container, 0x10000, 0x4000, NULL);
  return NULL;
}

static void destroy_while_busy(void) {
  struct held held = {.failed = 1};
  pthread_t thread;
  sem_init(&held.is_inside, 0, 0);
  sem_init(&held.may_go, 0, 0);
  held.h = make(wait_inside, &held);
  MUST(smudge_log_start(held.h.tracker, NULL));
  pthread_create(&thread, NULL, unmap_one, &held);
  while (sem_wait(&held.is_inside) != 0) {
  }
  REFUSED(SMUDGE_EBUSY, smudge_tracker_destroy(held.h.tracker));
  /* Who marks and who looks does not wait for the query. */
  check(smudge_vcpu_wrote(held.h.tracker, 0, PAGE) == 0, "marks go on");
  check(do_info(&held.h) == 0 && do_lookup(&held.h) == 0, "questions are answered");
  sem_post(&held.may_go);
  pthread_join(thread, NULL);
  check(held.failed == 0, "the unmap was done");
  check(smudge_tracker_destroy(held.h.tracker) == 0, "then it goes");
}

static int remove_reader(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa, (void)byte_count;
  struct handles *h = opaque;
  uint64_t dirty;
  check(smudge_map(h->container, 0x800000, 0, PAGE, WRITABLE) == 0, "a map from a run");
  check(smudge_log_sync(h->tracker, 0, NULL) == 0, "a sync from a run");
  check(smudge_reader_dirty_page_count(h->reader, &dirty) == 0, "a question from a run");
  check(smudge_tracker_destroy(h->tracker) == SMUDGE_EBUSY, "destroy from a run");
  check(smudge_reader_remove(h->reader) == 0, "the reader goes from its own run");
  return -5;
}

static void from_a_run(void) {
  struct handles h = make(nothing_dirty, NULL);
  MUST(smudge_vcpu_wrote(h.tracker, 0, PAGE));
  check(smudge_harvest_runs(h.reader, 1, remove_reader, &h, NULL) == -5, "its result is returned");
  check(do_count(&h) == SMUDGE_EBADF, "the reader is gone");
  MUST(smudge_tracker_destroy(h.tracker));
}

static void sentences_of_threads(void) {
  check(smudge_begin(NULL) == SMUDGE_EINVAL, "a null tracker");
  char sentence[256];
  snprintf(sentence, sizeof sentence, "%s", smudge_last_error());
  check(do_info(&live) == 0 && strcmp(sentence, smudge_last_error()) == 0,
        "success leaves the sentence");
  check(smudge_has_feature("query") == 1 && smudge_has_feature("no-such") == 0 &&
            smudge_has_feature("") == 0,
        "features");
  check(smudge_version() >> 16 == 1, "version");
}

static void *first_sentence(void *opaque) {
  *(int *)opaque = smudge_last_error() != NULL && smudge_last_error()[0] == 0;
  return NULL;
}

/* misuse [unlimited]: without the part in which memory is short, which sanitizers and valgrind need
 * for themselves. */
int main(int argc, char **argv) {
  pthread_t thread;
  int is_limited = argc < 2 || strcmp(argv[1], "unlimited") != 0;
  int is_empty = 0;
  pthread_create(&thread, NULL, first_sentence, &is_empty);
  pthread_join(thread, NULL);
  check(is_empty, "a thread in which nothing failed has no sentence");
  live = make(nothing_dirty, NULL);
  null_handles();
  ended_handles();
  sizes_of_params();
  sizes_of_ram();
  sizes_of_results();
  sizes_of_reports();
  unknown_params();
  ram();
  full_of_ram();
  containers();
  full_of_containers();
  mappings();
  full_of_mappings();
  full_for_the_parts(0);
  full_for_the_parts(1);
  if (is_limited) out_of_memory();
  readers();
  many_harvests();
  unknown_put_back();
  shared_and_record();
  migrations();
  from_a_query(0);
  from_a_query(1);
  callbacks_that_fail(-5);
  callbacks_that_fail(7);
  callbacks_that_fail(INT_MIN);
  destroy_while_busy();
  from_a_run();
  sentences_of_threads();
  MUST(smudge_tracker_destroy(live.tracker));
  return check_end();
}
