#define _GNU_SOURCE
#include "guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int smudge_memory_create(const char *name, uint64_t byte_count) {
  if (byte_count > INT64_MAX) return -EFBIG;
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -errno;
  if (ftruncate(fd, (off_t)byte_count) != 0
      || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

void *smudge_memory_map(int fd, uint64_t byte_count, int *error) {
  void *address =
      mmap(NULL, byte_count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (address != MAP_FAILED) return address;
  *error = errno;
  return NULL;
}

void smudge_memory_unmap(void *address, uint64_t byte_count) { munmap(address, byte_count); }

int smudge_memory_prefer_node(void *address, uint64_t byte_count, unsigned node) {
  enum { word_bits = 8 * sizeof(unsigned long), words = 1024 / word_bits };
  unsigned long mask[words] = {0};
  if (node >= 1024) return -EINVAL;
  mask[node / word_bits] = 1UL << (node % word_bits);
  if (syscall(SYS_mbind, address, byte_count, MPOL_PREFERRED, mask, 1024UL + 1, 0) != 0)
    return -errno;
  return 0;
}

void smudge_memory_store(void *to, const void *from, size_t byte_count) {
  unsigned char *target = to;
  const unsigned char *source = from;
  while (byte_count > 0 && (uintptr_t)target % 8 != 0) {
    __atomic_store_n(target++, *source++, __ATOMIC_RELAXED);
    byte_count--;
  }
  for (; byte_count >= 8; byte_count -= 8, target += 8, source += 8) {
    uint64_t word;
    memcpy(&word, source, 8);
    __atomic_store_n((uint64_t *)target, word, __ATOMIC_RELAXED);
  }
  while (byte_count-- > 0) __atomic_store_n(target++, *source++, __ATOMIC_RELAXED);
}

void smudge_memory_load(void *to, const void *from, size_t byte_count) {
  unsigned char *target = to;
  const unsigned char *source = from;
  while (byte_count > 0 && (uintptr_t)source % 8 != 0) {
    *target++ = __atomic_load_n(source++, __ATOMIC_RELAXED);
    byte_count--;
  }
  for (; byte_count >= 8; byte_count -= 8, target += 8, source += 8) {
    uint64_t word = __atomic_load_n((const uint64_t *)source, __ATOMIC_RELAXED);
    memcpy(target, &word, 8);
  }
  while (byte_count-- > 0) *target++ = __atomic_load_n(source++, __ATOMIC_RELAXED);
}

/// Four independent lanes, so that the multiplications overlap; each step is a bijection of the
/// lane for a given word, so one changed word always changes its lane.
static uint64_t digest(const uint64_t *page) {
  const uint64_t odd = 0x9e3779b97f4a7c15u;
  uint64_t lane[4] = {1, 2, 3, 4};
  uint64_t any = 0;
  for (int index = 0; index < 512; index += 4) {
    for (int part = 0; part < 4; part++) {
      uint64_t word = __atomic_load_n(page + index + part, __ATOMIC_RELAXED);
      any |= word;
      uint64_t mixed = (lane[part] ^ word) * odd;
      lane[part] = mixed ^ (mixed >> 29);
    }
  }
  if (any == 0) return 0;
  uint64_t sum = 0;
  for (int part = 0; part < 4; part++) {
    sum = (sum ^ lane[part]) * odd;
    sum ^= sum >> 32;
  }
  return sum == 0 ? 1 : sum;
}

void smudge_memory_digest(const void *first, size_t page_count, uint64_t *digests) {
  const uint64_t *page = first;
  for (size_t index = 0; index < page_count; index++) digests[index] = digest(page + 512 * index);
}

void smudge_thread_set_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
