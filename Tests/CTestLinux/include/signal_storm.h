// Signals without end for the calling thread, as a VMM's timers and kicks send them.

#pragma once

#include <pthread.h>
#include <stdint.h>

typedef struct {
  pthread_t sender;
  pthread_t target;
  int is_running;
} smudge_signal_storm;

/// Every signal is delivered: it ends what the thread does in the kernel. Returns -errno.
/// `storm` must stay where it is until it is stopped.
int smudge_signal_storm_start(smudge_signal_storm *storm);

void smudge_signal_storm_stop(smudge_signal_storm *storm);
