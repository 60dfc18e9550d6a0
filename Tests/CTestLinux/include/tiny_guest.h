// A guest of 20 bytes in real mode, for tests of KVM: it adds one to the first byte of each page it
// is told, and halts. x86-64 only; elsewhere making one is ENOSYS.
#ifndef SMUDGE_TINY_GUEST_H
#define SMUDGE_TINY_GUEST_H

#include <stddef.h>
#include <stdint.h>

enum {
  /// Its code, stack and list of pages lie below.
  SMUDGE_TINY_GUEST_PAGE_FIRST = 16,
  /// Real mode reaches 1 MiB.
  SMUDGE_TINY_GUEST_PAGE_END = 256,
  SMUDGE_TINY_GUEST_PAGES_MAX = 1024,
};

typedef struct smudge_tiny_guest {
  int kvm;
  int vm;
  int vcpu;
  uint64_t run;
  uint64_t run_bytes;
  uint64_t code;
} smudge_tiny_guest;

/// Each returns 0 or -errno.

/// Opens /dev/kvm and makes a VM whose slot 0 is the first 16 pages; no vCPU yet.
int smudge_tiny_guest_make(smudge_tiny_guest *_Nonnull guest);
int smudge_tiny_guest_add_vcpu(smudge_tiny_guest *_Nonnull guest);
/// KVM_SET_USER_MEMORY_REGION.
int smudge_tiny_guest_add_memory(const smudge_tiny_guest *_Nonnull guest, uint32_t slot,
                                 uint64_t page_first, uint64_t page_count, uint64_t hva);
/// Runs it until it halts: 0, or 31 (KVM_EXIT_DIRTY_RING_FULL) when its ring is full; then what is
/// left of its list is written by a call with a count of 0. EPROTO: it left for another reason.
int smudge_tiny_guest_write(const smudge_tiny_guest *_Nonnull guest,
                            const uint16_t *_Nonnull pages, size_t count);
void smudge_tiny_guest_close(smudge_tiny_guest *_Nonnull guest);

#endif
