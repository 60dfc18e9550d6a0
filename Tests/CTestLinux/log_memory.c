#define _GNU_SOURCE
#include "log_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int smudge_test_memory(const char *name, uint64_t byte_count, int can_be_sealed) {
  int fd = memfd_create(name, MFD_CLOEXEC | (can_be_sealed ? MFD_ALLOW_SEALING : 0));
  if (fd < 0) return -errno;
  if (ftruncate(fd, (off_t)byte_count) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

uint64_t smudge_test_take(uint64_t *word) { return __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST); }
