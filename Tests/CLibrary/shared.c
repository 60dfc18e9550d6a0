/* The shared log, read by another process while syncs go on: no page is lost.
 *
 * The model is that of threads.c: a version for each guest page, here in memory that both share.
 * The reader takes bits by exchange and copies the versions of those pages. When the parent is done
 * and the reader has taken what was left, each copy is the page's version. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* RAM of 0 to 4 MiB and 16 to 20 MiB: the log has bits for the hole. */
enum { PAGE = 4096, PAGES = 1024, HIGH = 4096, END = HIGH + PAGES, ROUNDS = 3000 };

struct memory {
  _Atomic uint64_t version[END];
  atomic_int is_over;
};

static void *mapped(int fd, uint64_t byte_count) {
  void *memory = mmap(NULL, byte_count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return memory;
}

/* ---- the other process ----------------------------------------------------------------------- */

static uint64_t take(_Atomic uint64_t *log, uint64_t words, const struct memory *memory,
                     uint64_t *copied) {
  uint64_t taken = 0;
  for (uint64_t i = 0; i < words; i++) {
    if (atomic_load(&log[i]) == 0) continue;
    for (uint64_t bits = atomic_exchange(&log[i], 0); bits != 0; bits &= bits - 1) {
      uint64_t page = i * 64 + (uint64_t)__builtin_ctzll(bits);
      if (page >= END) return UINT64_MAX;
      copied[page] = atomic_load(&memory->version[page]);
      taken++;
    }
  }
  return taken;
}

static int read_log(int log_fd, uint64_t byte_count, int memory_fd) {
  static uint64_t copied[END];
  _Atomic uint64_t *log = mapped(log_fd, byte_count);
  struct memory *memory = mapped(memory_fd, sizeof *memory);
  uint64_t taken = 0, lost = 0;
  int is_over;
  do {
    /* Asked before the bits: what comes last is taken once more. */
    is_over = atomic_load(&memory->is_over);
    uint64_t now = take(log, byte_count / 8, memory, copied);
    if (now == UINT64_MAX) return 3;
    taken += now;
  } while (!is_over);
  for (int page = 0; page < END; page++) lost += copied[page] != memory->version[page];
  if (lost) printf("  %" PRIu64 " pages are lost, %" PRIu64 " were taken\n", lost, taken);
  return lost ? 4 : taken > PAGES ? 0 : 5;
}

/* ---- the VMM --------------------------------------------------------------------------------- */

static struct memory *memory;
static smudge_tracker *tracker;
static smudge_container *container;
static smudge_shared_log *shared_log;
/* What the device wrote, by IOVA page. */
static _Atomic uint64_t written[PAGES / 64];

static int query(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *words,
                 void *opaque) {
  (void)opaque, (void)page_size;
  for (uint64_t i = 0; i < byte_count / PAGE; i++) {
    uint64_t page = iova / PAGE + i, bit = UINT64_C(1) << page % 64;
    if (atomic_fetch_and(&written[page / 64], ~bit) & bit) words[i / 64] |= UINT64_C(1) << i % 64;
  }
  return 0;
}

static void *write_by_device(void *opaque) {
  uint64_t seed = 5;
  (void)opaque;
  for (int i = 0; i < ROUNDS * 4; i++) {
    uint64_t page = check_random(&seed) % PAGES;
    atomic_fetch_add(&memory->version[HIGH + page], 1);
    atomic_fetch_or(&written[page / 64], UINT64_C(1) << page % 64);
  }
  return NULL;
}

static void *write_by_vcpu(void *opaque) {
  uint64_t seed = 6;
  (void)opaque;
  for (int i = 0; i < ROUNDS; i++) {
    uint64_t page = check_random(&seed) % PAGES;
    atomic_fetch_add(&memory->version[page], 1);
    MUST(smudge_vcpu_wrote(tracker, page * PAGE, PAGE));
    /* Two threads move bits into the same words. */
    MUST(smudge_shared_log_publish(shared_log, NULL));
  }
  return NULL;
}

static void make(void) {
  smudge_ram low = check_ram("low", 0, PAGES * PAGE);
  smudge_ram high = check_ram("high", HIGH * PAGE, PAGES * PAGE);
  smudge_container_params params = {.size = sizeof params, .name = "nic", .query = query};
  MUST(smudge_tracker_create(NULL, &tracker));
  MUST(smudge_region_add(tracker, &low));
  MUST(smudge_region_add(tracker, &high));
  MUST(smudge_container_add(tracker, &params, &container));
  MUST(smudge_map(container, 0, HIGH * PAGE, PAGES * PAGE, SMUDGE_MAP_READ | SMUDGE_MAP_WRITE));
}

static void check_layout(smudge_shared_log *log, int fd, uint64_t byte_count) {
  uint8_t *bytes = mapped(fd, byte_count);
  const uint64_t pages[] = {0, 1, 7, 8, 63, 64, 65, 1023, HIGH, HIGH + 513, END - 1};
  uint64_t moved;
  check(byte_count >= END / 8 && byte_count % PAGE == 0, "%" PRIu64 " bytes", byte_count);
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
    uint64_t page = pages[i], others = 0;
    MUST(smudge_vcpu_wrote(tracker, page * PAGE + 4095, 1));
    MUST(smudge_shared_log_publish(log, &moved));
    check(moved == 1, "%" PRIu64 " pages were moved", moved);
    check(bytes[page / 8] == 1 << page % 8, "page %" PRIu64 " is bit %" PRIu64 " of byte %" PRIu64,
          page, page % 8, page / 8);
    bytes[page / 8] = 0;
    for (uint64_t at = 0; at < byte_count; at++) others += bytes[at] != 0;
    check(others == 0, "no other bit is set");
  }
  check(fcntl(fd, F_GETFD) & FD_CLOEXEC, "the descriptor does not survive exec unasked");
  check(ftruncate(fd, 0) < 0 && errno == EPERM, "it cannot shrink");
  check(ftruncate(fd, (off_t)byte_count * 2) < 0 && errno == EPERM, "it cannot grow");
  munmap(bytes, byte_count);
}

int main(int argc, char **argv) {
  if (argc == 4) return read_log(atoi(argv[1]), strtoull(argv[2], NULL, 10), atoi(argv[3]));
  int memory_fd = memfd_create("versions", 0);
  if (memory_fd < 0 || ftruncate(memory_fd, sizeof *memory) != 0) return 1;
  memory = mapped(memory_fd, sizeof *memory);
  make();
  int fd;
  uint64_t byte_count;
  MUST(smudge_shared_log_add(tracker, "vhost", 0, &shared_log, &fd, &byte_count));
  check_layout(shared_log, fd, byte_count);

  /* Not closed on exec: handed to the child by number. */
  char numbers[3][24];
  snprintf(numbers[0], sizeof numbers[0], "%d", dup(fd));
  snprintf(numbers[1], sizeof numbers[1], "%" PRIu64, byte_count);
  snprintf(numbers[2], sizeof numbers[2], "%d", memory_fd);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", argv[0], numbers[0], numbers[1], numbers[2], (char *)NULL);
    _exit(1);
  }
  pthread_t device, vcpu;
  MUST(smudge_log_start(tracker, NULL));
  if (pthread_create(&device, NULL, write_by_device, NULL) != 0) return 1;
  if (pthread_create(&vcpu, NULL, write_by_vcpu, NULL) != 0) return 1;
  for (int i = 0; i < ROUNDS; i++) MUST(smudge_log_sync(tracker, 0, NULL));
  pthread_join(device, NULL);
  pthread_join(vcpu, NULL);
  MUST(smudge_log_sync(tracker, SMUDGE_SYNC_FINAL, NULL));
  atomic_store(&memory->is_over, 1);
  int status = -1;
  while (waitpid(child, &status, 0) < 0) {
  }
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process has every page: %#x",
        (unsigned)status);

  /* The memory stays for those who have it. */
  MUST(smudge_vcpu_wrote(tracker, 0, PAGE));
  MUST(smudge_shared_log_publish(shared_log, NULL));
  MUST(smudge_shared_log_remove(shared_log));
  MUST(smudge_tracker_destroy(tracker));
  uint8_t *bytes = mapped(fd, byte_count);
  check(bytes[0] == 1, "the memory outlives log and tracker");
  return check_end();
}
