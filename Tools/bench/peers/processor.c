#define _GNU_SOURCE
#include <sched.h>

#include "bench_peers.h"

// Where there is no such processor the thread stays as it is.
void bench_keep_on_processor(int index) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(index, &set);
  (void)sched_setaffinity(0, sizeof set, &set);
}

void bench_leave_processor(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int index = 0; index < CPU_SETSIZE; index++) CPU_SET(index, &set);
  (void)sched_setaffinity(0, sizeof set, &set);
}
