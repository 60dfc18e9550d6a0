#define _GNU_SOURCE
#include "include/kvm.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { KVMIO = 0xAE, RING_PAGE_OFFSET = 64, GFN_DIRTY = 1, GFN_RESET = 2 };

struct enable_cap {
  uint32_t cap;
  uint32_t flags;
  uint64_t args[4];
  uint8_t pad[64];
};
struct memory_region {
  uint32_t slot;
  uint32_t flags;
  uint64_t guest_phys_addr;
  uint64_t memory_size;
  uint64_t userspace_addr;
};
struct dirty_log {
  uint32_t slot;
  uint32_t padding;
  uint64_t bitmap;
};
struct clear_dirty_log {
  uint32_t slot;
  uint32_t num_pages;
  uint64_t first_page;
  uint64_t bitmap;
};

#define DO_CHECK_EXTENSION _IO(KVMIO, 0x03)
#define DO_ENABLE_CAP _IOW(KVMIO, 0xa3, struct enable_cap)
#define DO_SET_MEMORY _IOW(KVMIO, 0x46, struct memory_region)
#define DO_GET_LOG _IOW(KVMIO, 0x42, struct dirty_log)
#define DO_CLEAR_LOG _IOWR(KVMIO, 0xc0, struct clear_dirty_log)
#define DO_RESET_RINGS _IO(KVMIO, 0xc7)

_Static_assert(sizeof(struct enable_cap) == 104, "struct kvm_enable_cap");
_Static_assert(offsetof(struct enable_cap, args) == 8, "struct kvm_enable_cap");
_Static_assert(sizeof(struct memory_region) == 32, "struct kvm_userspace_memory_region");
_Static_assert(offsetof(struct memory_region, guest_phys_addr) == 8, "kvm_userspace_memory_region");
_Static_assert(offsetof(struct memory_region, userspace_addr) == 24, "kvm_userspace_memory_region");
_Static_assert(sizeof(struct dirty_log) == 16, "struct kvm_dirty_log");
_Static_assert(offsetof(struct dirty_log, bitmap) == 8, "struct kvm_dirty_log");
_Static_assert(sizeof(struct clear_dirty_log) == 24, "struct kvm_clear_dirty_log");
_Static_assert(offsetof(struct clear_dirty_log, first_page) == 8, "struct kvm_clear_dirty_log");
_Static_assert(offsetof(struct clear_dirty_log, bitmap) == 16, "struct kvm_clear_dirty_log");
_Static_assert(sizeof(smudge_kvm_dirty_gfn) == 16, "struct kvm_dirty_gfn");
_Static_assert(offsetof(smudge_kvm_dirty_gfn, slot) == 4, "struct kvm_dirty_gfn");
_Static_assert(offsetof(smudge_kvm_dirty_gfn, offset) == 8, "struct kvm_dirty_gfn");
_Static_assert(DO_CHECK_EXTENSION == 0xAE03, "KVM_CHECK_EXTENSION");
_Static_assert(DO_ENABLE_CAP == 0x4068AEA3, "KVM_ENABLE_CAP");
_Static_assert(DO_SET_MEMORY == 0x4020AE46, "KVM_SET_USER_MEMORY_REGION");
_Static_assert(DO_GET_LOG == 0x4010AE42, "KVM_GET_DIRTY_LOG");
_Static_assert(DO_CLEAR_LOG == 0xC018AEC0, "KVM_CLEAR_DIRTY_LOG");
_Static_assert(DO_RESET_RINGS == 0xAEC7, "KVM_RESET_DIRTY_RINGS");

// And what this machine's headers say, where they are new enough.
#if __has_include(<linux/kvm.h>)
#include <linux/kvm.h>
#define SAME(ours, theirs) _Static_assert(ours == theirs, #theirs)
SAME(DO_CHECK_EXTENSION, KVM_CHECK_EXTENSION);
SAME(DO_ENABLE_CAP, KVM_ENABLE_CAP);
SAME(DO_SET_MEMORY, KVM_SET_USER_MEMORY_REGION);
SAME(DO_GET_LOG, KVM_GET_DIRTY_LOG);
SAME(SMUDGE_KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
#ifdef KVM_CLEAR_DIRTY_LOG
SAME(DO_CLEAR_LOG, KVM_CLEAR_DIRTY_LOG);
SAME(SMUDGE_KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
#endif
#ifdef KVM_RESET_DIRTY_RINGS
SAME(DO_RESET_RINGS, KVM_RESET_DIRTY_RINGS);
SAME(RING_PAGE_OFFSET, KVM_DIRTY_LOG_PAGE_OFFSET);
SAME(SMUDGE_KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING);
SAME(sizeof(smudge_kvm_dirty_gfn), sizeof(struct kvm_dirty_gfn));
#endif
#endif

static int answer(int result) { return result < 0 ? -errno : result; }

int smudge_kvm_check_extension(int vm, uint32_t capability) {
  return answer(ioctl(vm, DO_CHECK_EXTENSION, (unsigned long)capability));
}

int smudge_kvm_enable_capability(int vm, uint32_t capability, uint64_t argument) {
  struct enable_cap call = {.cap = capability, .args = {argument}};
  return answer(ioctl(vm, DO_ENABLE_CAP, &call));
}

int smudge_kvm_set_memory_region(int vm, uint32_t slot, uint32_t flags, uint64_t gpa,
                                 uint64_t byte_count, uint64_t hva) {
  struct memory_region call = {
      .slot = slot,
      .flags = flags,
      .guest_phys_addr = gpa,
      .memory_size = byte_count,
      .userspace_addr = hva,
  };
  return answer(ioctl(vm, DO_SET_MEMORY, &call));
}

int smudge_kvm_get_dirty_log(int vm, uint32_t slot, uint64_t *words) {
  struct dirty_log call = {.slot = slot, .bitmap = (uint64_t)(uintptr_t)words};
  return answer(ioctl(vm, DO_GET_LOG, &call));
}

int smudge_kvm_clear_dirty_log(int vm, uint32_t slot, uint64_t first_page, uint32_t page_count,
                               const uint64_t *words) {
  struct clear_dirty_log call = {
      .slot = slot,
      .num_pages = page_count,
      .first_page = first_page,
      .bitmap = (uint64_t)(uintptr_t)words,
  };
  return answer(ioctl(vm, DO_CLEAR_LOG, &call));
}

int smudge_kvm_reset_dirty_rings(int vm) { return answer(ioctl(vm, DO_RESET_RINGS, 0UL)); }

int64_t smudge_kvm_map_ring(int vcpu, uint64_t byte_count) {
  void *address = mmap(NULL, byte_count, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu,
                       (off_t)RING_PAGE_OFFSET * 4096);
  return address == MAP_FAILED ? -errno : (int64_t)(intptr_t)address;
}

void smudge_kvm_unmap_ring(uint64_t address, uint64_t byte_count) {
  munmap((void *)(uintptr_t)address, byte_count);
}

size_t smudge_kvm_ring_take(uint64_t address, uint32_t entry_count, uint32_t *position,
                            smudge_kvm_dirty_gfn *taken, size_t count_max) {
  smudge_kvm_dirty_gfn *ring = (smudge_kvm_dirty_gfn *)(uintptr_t)address;
  size_t count = 0;
  while (count < count_max) {
    // A power of two, so that the position may wrap.
    smudge_kvm_dirty_gfn *entry = &ring[*position & (entry_count - 1)];
    if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & GFN_DIRTY)) break;
    taken[count].flags = GFN_DIRTY;
    taken[count].slot = __atomic_load_n(&entry->slot, __ATOMIC_RELAXED);
    taken[count].offset = __atomic_load_n(&entry->offset, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->flags, GFN_RESET, __ATOMIC_RELEASE);
    count++;
    (*position)++;
  }
  return count;
}
