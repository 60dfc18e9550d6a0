#define _GNU_SOURCE
#include "include/signal_storm.h"

#include <signal.h>
#include <string.h>

static void nothing(int signal) { (void)signal; }

static void *send(void *argument) {
  smudge_signal_storm *storm = argument;
  while (__atomic_load_n(&storm->is_running, __ATOMIC_ACQUIRE)) {
    pthread_kill(storm->target, SIGURG);
    for (volatile int pause = 0; pause < 200; pause++) {
    }
  }
  return NULL;
}

int smudge_signal_storm_start(smudge_signal_storm *storm) {
  // Nothing that is cut short by it fails for it, but what asks for a pending signal itself.
  struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGURG, &action, NULL) < 0) return -1;
  storm->target = pthread_self();
  storm->is_running = 1;
  return -pthread_create(&storm->sender, NULL, send, storm);
}

void smudge_signal_storm_stop(smudge_signal_storm *storm) {
  __atomic_store_n(&storm->is_running, 0, __ATOMIC_RELEASE);
  pthread_join(storm->sender, NULL);
}
