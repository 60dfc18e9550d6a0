/* Resident memory of a process that has the library and a tracker with nothing to do: a container,
 * 1 GiB of RAM, a reader, logging. As the kernel says it, so with the C library's own. */
#include "check.h"

enum { KIB_MAX = 12 << 10 };

/* KiB, 0 when the kernel does not say. */
static long resident(void) {
  char line[256];
  long found = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (!status) return 0;
  while (fgets(line, sizeof line, status)) {
    if (sscanf(line, "VmRSS: %ld kB", &found) == 1) break;
  }
  fclose(status);
  return found;
}

int main(void) {
  smudge_tracker *tracker;
  smudge_container *container;
  smudge_reader *reader;
  smudge_ram ram = check_ram("ram", 0, UINT64_C(1) << 30);
  smudge_container_params params = {.size = sizeof params, .name = "container"};
  MUST(smudge_tracker_create(NULL, &tracker));
  MUST(smudge_region_add(tracker, &ram));
  MUST(smudge_container_add(tracker, &params, &container));
  MUST(smudge_reader_add(tracker, "reader", 0, &reader));
  MUST(smudge_log_start(tracker, NULL));
  long kib = resident();
  check(kib > 0 && kib <= KIB_MAX, "%ld KiB are resident, of %d", kib, KIB_MAX);
  MUST(smudge_log_stop(tracker, NULL));
  MUST(smudge_tracker_destroy(tracker));
  printf("%ld KiB resident, of at most %d\n", kib, KIB_MAX);
  return check_failed != 0;
}
