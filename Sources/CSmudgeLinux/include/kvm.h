// What KVM says about the pages its vCPUs wrote: linux/kvm.h. Declared here because the headers of
// the systems this is built on may be older than the kernels it runs on. Sizes, offsets and numbers
// are asserted in kvm.c.
//
// Addresses of memory are 64-bit numbers, never pointers.
#ifndef SMUDGE_KVM_H
#define SMUDGE_KVM_H

#include <stddef.h>
#include <stdint.h>

enum {
  SMUDGE_KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168,
  SMUDGE_KVM_CAP_DIRTY_LOG_RING = 192,
  SMUDGE_KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223,
  SMUDGE_KVM_MEM_LOG_DIRTY_PAGES = 1,
  SMUDGE_KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1,
  SMUDGE_KVM_DIRTY_LOG_INITIALLY_SET = 2,
};

/// One entry of a vCPU's ring.
typedef struct smudge_kvm_dirty_gfn {
  uint32_t flags;
  /// The address space in the upper 16 bits.
  uint32_t slot;
  /// In pages, from the slot's first.
  uint64_t offset;
} smudge_kvm_dirty_gfn;

/// Each returns what the kernel does, or -errno.

/// KVM_CHECK_EXTENSION of a VM.
int smudge_kvm_check_extension(int vm, uint32_t capability);
/// KVM_ENABLE_CAP with one argument.
int smudge_kvm_enable_capability(int vm, uint32_t capability, uint64_t argument);
/// KVM_SET_USER_MEMORY_REGION.
int smudge_kvm_set_memory_region(int vm, uint32_t slot, uint32_t flags, uint64_t gpa,
                                 uint64_t byte_count, uint64_t hva);
/// KVM_GET_DIRTY_LOG into ALIGN(pages, 64) / 8 bytes, all of which are written.
int smudge_kvm_get_dirty_log(int vm, uint32_t slot, uint64_t *_Nonnull words);
/// KVM_CLEAR_DIRTY_LOG: bit 0 of word 0 is `first_page`.
int smudge_kvm_clear_dirty_log(int vm, uint32_t slot, uint64_t first_page, uint32_t page_count,
                               const uint64_t *_Nonnull words);
/// KVM_RESET_DIRTY_RINGS. Returns how many entries were reset.
int smudge_kvm_reset_dirty_rings(int vm);

/// Maps the ring of a vCPU. Returns its address, or -errno.
int64_t smudge_kvm_map_ring(int vcpu, uint64_t byte_count);
void smudge_kvm_unmap_ring(uint64_t address, uint64_t byte_count);

/// Takes entries in order from `*position` on, as long as they are dirty, at most `count_max`, and
/// gives each back to the kernel, which may reuse it after the next reset. The position only grows.
size_t smudge_kvm_ring_take(uint64_t address, uint32_t entry_count, uint32_t *_Nonnull position,
                            smudge_kvm_dirty_gfn *_Nonnull taken, size_t count_max);

#endif
