#define _GNU_SOURCE
#include "include/tiny_guest.h"

#include <errno.h>
#include <string.h>

#if defined(__x86_64__) && __has_include(<linux/kvm.h>)
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, LIST = 0x1000, DIRTY_RING_FULL = 31 };

static const uint8_t code[] = {
    0xBE, 0x00, 0x10,              // 00: mov si, 0x1000
    0xAD,                          // 03: lodsw
    0x85, 0xC0,                    // 04: test ax, ax
    0x74, 0x09,                    // 06: jz 0x11
    0x8E, 0xC0,                    // 08: mov es, ax
    0x26, 0xFE, 0x06, 0x00, 0x00,  // 0A: inc byte [es:0]
    0xEB, 0xF2,                    // 0F: jmp 0x03
    0xF4,                          // 11: hlt
    0xEB, 0xEC,                    // 12: jmp 0x00
};

int smudge_tiny_guest_make(smudge_tiny_guest *guest) {
  *guest = (smudge_tiny_guest){.kvm = -1, .vm = -1, .vcpu = -1};
  guest->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (guest->kvm < 0) return -errno;
  guest->vm = ioctl(guest->kvm, KVM_CREATE_VM, 0);
  if (guest->vm < 0) goto failed;
  size_t bytes = SMUDGE_TINY_GUEST_PAGE_FIRST * PAGE;
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) goto failed;
  guest->code = (uint64_t)(uintptr_t)memory;
  memcpy(memory, code, sizeof(code));
  int result = smudge_tiny_guest_add_memory(guest, 0, 0, SMUDGE_TINY_GUEST_PAGE_FIRST, guest->code);
  if (result < 0) smudge_tiny_guest_close(guest);
  return result;
failed:;
  int error = -errno;
  smudge_tiny_guest_close(guest);
  return error;
}

int smudge_tiny_guest_add_memory(const smudge_tiny_guest *guest, uint32_t slot,
                                 uint64_t page_first, uint64_t page_count, uint64_t hva) {
  struct kvm_userspace_memory_region region = {
      .slot = slot,
      .guest_phys_addr = page_first * PAGE,
      .memory_size = page_count * PAGE,
      .userspace_addr = hva,
  };
  return ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

int smudge_tiny_guest_add_vcpu(smudge_tiny_guest *guest) {
  int bytes = ioctl(guest->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (bytes < 0) return -errno;
  guest->vcpu = ioctl(guest->vm, KVM_CREATE_VCPU, 0);
  if (guest->vcpu < 0) return -errno;
  void *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu, 0);
  if (run == MAP_FAILED) return -errno;
  guest->run = (uint64_t)(uintptr_t)run;
  guest->run_bytes = bytes;
  struct kvm_sregs system;
  if (ioctl(guest->vcpu, KVM_GET_SREGS, &system) < 0) return -errno;
  system.cs.base = 0;
  system.cs.selector = 0;
  if (ioctl(guest->vcpu, KVM_SET_SREGS, &system) < 0) return -errno;
  struct kvm_regs registers = {.rip = 0, .rflags = 2};
  return ioctl(guest->vcpu, KVM_SET_REGS, &registers) < 0 ? -errno : 0;
}

int smudge_tiny_guest_write(const smudge_tiny_guest *guest, const uint16_t *pages, size_t count) {
  uint16_t *list = (uint16_t *)(uintptr_t)(guest->code + LIST);
  if (count > SMUDGE_TINY_GUEST_PAGES_MAX) return -EINVAL;
  for (size_t index = 0; index < count; index++) list[index] = pages[index] << 8;
  if (count > 0) list[count] = 0;
  const struct kvm_run *run = (const struct kvm_run *)(uintptr_t)guest->run;
  while (ioctl(guest->vcpu, KVM_RUN, 0) < 0)
    if (errno != EINTR && errno != EAGAIN) return -errno;
  if (run->exit_reason == KVM_EXIT_HLT) return 0;
  return run->exit_reason == DIRTY_RING_FULL ? DIRTY_RING_FULL : -EPROTO;
}

void smudge_tiny_guest_close(smudge_tiny_guest *guest) {
  if (guest->run != 0) munmap((void *)(uintptr_t)guest->run, guest->run_bytes);
  if (guest->vcpu >= 0) close(guest->vcpu);
  if (guest->vm >= 0) close(guest->vm);
  if (guest->kvm >= 0) close(guest->kvm);
  if (guest->code != 0)
    munmap((void *)(uintptr_t)guest->code, SMUDGE_TINY_GUEST_PAGE_FIRST * PAGE);
  *guest = (smudge_tiny_guest){.kvm = -1, .vm = -1, .vcpu = -1};
}
#else
int smudge_tiny_guest_make(smudge_tiny_guest *guest) {
  *guest = (smudge_tiny_guest){.kvm = -1, .vm = -1, .vcpu = -1};
  return -ENOSYS;
}
int smudge_tiny_guest_add_memory(const smudge_tiny_guest *guest, uint32_t slot,
                                 uint64_t page_first, uint64_t page_count, uint64_t hva) {
  return -ENOSYS;
}
int smudge_tiny_guest_add_vcpu(smudge_tiny_guest *guest) { return -ENOSYS; }
int smudge_tiny_guest_write(const smudge_tiny_guest *guest, const uint16_t *pages, size_t count) {
  return -ENOSYS;
}
void smudge_tiny_guest_close(smudge_tiny_guest *guest) {}
#endif
