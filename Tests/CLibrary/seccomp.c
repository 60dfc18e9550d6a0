/* Everything but the kernel's containers, under a filter that allows the calls of seccomp.h. */
#include "check.h"

#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4096, COUNT = sizeof system_calls / sizeof *system_calls };

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "name the architecture for seccomp"
#endif

/* What this program itself needs besides: to start a thread, to say what it found, and to end. */
static const int own_calls[] = {SYS_exit_group, SYS_exit, SYS_clone, SYS_clone3,
                                SYS_set_robust_list, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask,
                                SYS_rt_sigreturn};
enum { OWN_COUNT = sizeof own_calls / sizeof *own_calls };

/* A call that is not allowed comes here instead, and ends the process. */
static void refused(int signal, siginfo_t *info, void *context) {
  char text[] = "  system call 0000 is not in the list\n";
  int number = info->si_syscall;
  (void)signal, (void)context;
  for (int at = 17; at >= 14; at--, number /= 10) text[at] = (char)('0' + number % 10);
  if (write(1, text, sizeof text - 1) < 0) _exit(2);
  _exit(1);
}

static int allow(struct sock_filter *filter, int length, int number) {
  filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
  filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  return length;
}

static void install(void) {
  struct sock_filter filter[2 * (COUNT + OWN_COUNT) + 8];
  int length = 0;
  struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
  sigaction(SIGSYS, &action, NULL);
  filter[length++] = (struct sock_filter)BPF_STMT(
      BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  filter[length++] =
      (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
  filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  filter[length++] = (struct sock_filter)BPF_STMT(
      BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < COUNT; i++) length = allow(filter, length, system_calls[i]);
  for (int i = 0; i < OWN_COUNT; i++) length = allow(filter, length, own_calls[i]);
  filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    printf("seccomp: %s\n", strerror(errno));
    exit(77);
  }
}

static int query(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *words,
                 void *opaque) {
  (void)iova, (void)byte_count, (void)page_size, (void)opaque;
  words[0] |= 1;
  return 0;
}

static int take(uint64_t gpa, uint64_t byte_count, void *opaque) {
  (void)gpa;
  *(uint64_t *)opaque += byte_count / PAGE;
  return 0;
}

static int switch_log(void *opaque) {
  (void)opaque;
  return 0;
}

struct all {
  smudge_tracker *tracker;
  smudge_container *container;
  smudge_reader *reader;
  smudge_shared_log *log;
};

static const uint32_t WRITABLE = SMUDGE_MAP_READ | SMUDGE_MAP_WRITE;

static void make(struct all *all) {
  smudge_tracker_params params = {.size = sizeof params, .record_byte_count = 1 << 20};
  smudge_ram ram = check_ram("ram", 0, PAGES * PAGE);
  smudge_ram above = check_ram("above", UINT64_C(1) << 32, PAGES * PAGE);
  smudge_container_params container = {
      .size = sizeof container, .name = "nic", .query = query, .log_start = switch_log,
      .log_stop = switch_log};
  /* By default its bits are placed by nobody; here they are. */
  above.node_plus_one = 1;
  MUST(smudge_tracker_create(&params, &all->tracker));
  MUST(smudge_begin(all->tracker));
  MUST(smudge_region_add(all->tracker, &ram));
  MUST(smudge_region_add(all->tracker, &above));
  MUST(smudge_commit(all->tracker));
  MUST(smudge_container_add(all->tracker, &container, &all->container));
  MUST(smudge_reader_add(all->tracker, "reader", SMUDGE_READER_STARTS_DIRTY, &all->reader));
}

static void use_mappings(struct all *all) {
  smudge_mapping mapping = {.size = sizeof mapping};
  smudge_container_info info = {.size = sizeof info};
  smudge_report report = {.size = sizeof report};
  char notes[256];
  uint64_t bitmap[2] = {1, 0};
  report.notes = notes, report.notes_size = sizeof notes;
  MUST(smudge_log_start(all->tracker, &report));
  for (uint64_t i = 0; i < PAGES; i++) {
    MUST(smudge_map(all->container, i * 2 * PAGE, i * PAGE, PAGE, WRITABLE | SMUDGE_MAP_AHEAD));
  }
  MUST(smudge_lookup(all->container, 0, &mapping));
  MUST(smudge_container_get_info(all->container, &info));
  check(info.mapping_count == PAGES, "%" PRIu64 " mappings", info.mapping_count);
  MUST(smudge_device_wrote(all->container, 0, 1));
  MUST(smudge_log_sync(all->tracker, 0, &report));
  MUST(smudge_unmap(all->container, 0, PAGE, NULL));
  MUST(smudge_unmap(all->container, 2 * PAGE, PAGE, bitmap));
  MUST(smudge_container_devices_changed(all->container));
  MUST(smudge_container_set_address_space(all->container, SMUDGE_CONTAINER_IDENTITY));
  MUST(smudge_ram_discard(all->tracker, 0, PAGE));
  MUST(smudge_ram_populate(all->tracker, 0, PAGE));
  MUST(smudge_container_set_address_space(all->container, 0));
  check(smudge_blockers(all->tracker, notes, sizeof notes) == 0, "no blockers");
}

/* Opened before the filter was there. */
static int trace_fd;

static void use_log(struct all *all) {
  uint64_t count = 0, harvest, words[PAGES / 64] = {1}, byte_count;
  uint32_t range_count;
  smudge_range ranges[4];
  int fd;
  MUST(smudge_vcpu_wrote(all->tracker, 0, 1));
  MUST(smudge_vcpu_bitmap(all->tracker, 0, words, PAGES));
  MUST(smudge_reader_dirty_page_count(all->reader, &count));
  MUST(smudge_harvest_ranges(all->reader, 10, ranges, 4, &range_count, &harvest));
  MUST(smudge_put_back(all->reader, harvest));
  MUST(smudge_harvest_bitmap(all->reader, 0, words, PAGES, NULL, &harvest));
  MUST(smudge_delivered(all->reader, harvest));
  MUST(smudge_harvest_runs(all->reader, UINT64_MAX, take, &count, NULL));
  check(count >= PAGES, "%" PRIu64 " pages", count);
  MUST(smudge_shared_log_add(all->tracker, "vhost", 1, &all->log, &fd, &byte_count));
  MUST(smudge_shared_log_publish(all->log, &count));
  MUST(smudge_log_sync(all->tracker, SMUDGE_SYNC_FINAL, NULL));
  MUST(smudge_trace_write(all->tracker, trace_fd));
  MUST(smudge_shared_log_remove(all->log));
  check(smudge_map(NULL, 0, 0, 0, 0) == SMUDGE_EINVAL && smudge_last_error()[0], "a failure");
}

/* A stream in memory: one tracker migrates into it, another takes it in. */
static struct {
  uint8_t bytes[1 << 20];
  uint64_t end, place;
} stream;

static int put_bytes(const void *bytes, uint64_t byte_count, void *opaque) {
  (void)opaque;
  if (stream.end + byte_count > sizeof stream.bytes) return -28;
  memcpy(stream.bytes + stream.end, bytes, byte_count);
  stream.end += byte_count;
  return 0;
}

static int64_t get_bytes(void *bytes, uint64_t byte_count, void *opaque) {
  uint64_t left = stream.end - stream.place;
  (void)opaque;
  if (byte_count > left) byte_count = left;
  memcpy(bytes, stream.bytes + stream.place, byte_count);
  stream.place += byte_count;
  return (int64_t)byte_count;
}

static void migrate_once(void) {
  static uint8_t memory[2][16 * PAGE];
  smudge_channel channels[2] = {{.size = sizeof channels[0], .write = put_bytes},
                                {.size = sizeof channels[0], .read = get_bytes}};
  memset(memory[0], 0x5a, sizeof memory[0]);
  for (int side = 0; side < 2; side++) {
    smudge_tracker *tracker;
    smudge_ram ram = check_ram("ram", 0, sizeof memory[0]);
    smudge_machine machine = {.size = sizeof machine, .is_running = side == 0,
                              .stop_vcpus = switch_log, .resume_vcpus = switch_log};
    smudge_migration_params params = {
        .size = sizeof params, .channel = &channels[side], .machine = &machine};
    ram.host = memory[side];
    MUST(smudge_tracker_create(NULL, &tracker));
    MUST(smudge_region_add(tracker, &ram));
    MUST(side ? smudge_receive(tracker, &params, NULL) : smudge_migrate(tracker, &params, NULL));
    MUST(smudge_tracker_destroy(tracker));
  }
  check(memcmp(memory[0], memory[1], sizeof memory[0]) == 0, "a guest has moved");
}

/* Maps and unmaps while the other thread syncs: locks are waited for. */
static void *drive(void *opaque) {
  struct all *all = opaque;
  for (uint64_t i = 0; i < 20000; i++) {
    uint64_t iova = (i % 512) * 2 * PAGE;
    MUST(smudge_map(all->container, iova, (i % PAGES) * PAGE, PAGE, WRITABLE));
    MUST(smudge_unmap(all->container, iova, PAGE, NULL));
  }
  return NULL;
}

static void use_threads(struct all *all) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    if (pthread_create(&threads[i], NULL, drive, all) != 0) exit(1);
  }
  for (int i = 0; i < 200; i++) MUST(smudge_log_sync(all->tracker, 0, NULL));
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

int main(void) {
  struct all all;
  memset(&all, 0, sizeof all);
  /* With a buffer of its own stdout asks for nothing when it is first written to. */
  static char output[4096];
  setvbuf(stdout, output, _IOFBF, sizeof output);
  trace_fd = memfd_create("trace", 0);
  install();
  check(smudge_has_feature("record") == 1 && smudge_version() > 0, "what the library is");
  make(&all);
  use_mappings(&all);
  use_log(&all);
  migrate_once();
  use_threads(&all);
  MUST(smudge_log_stop(all.tracker, NULL));
  MUST(smudge_region_remove(all.tracker, 0, PAGES * PAGE));
  MUST(smudge_container_remove(all.container));
  MUST(smudge_reader_remove(all.reader));
  MUST(smudge_tracker_destroy(all.tracker));
  return check_end();
}
