#define _GNU_SOURCE
#include "include/write_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Stated here because the headers of the systems this is built on are older than the kernels it
// runs on.
struct uffd_api {
  uint64_t api;
  uint64_t features;
  uint64_t ioctls;
};
struct uffd_range {
  uint64_t start;
  uint64_t len;
};
struct uffd_register {
  struct uffd_range range;
  uint64_t mode;
  uint64_t ioctls;
};

enum { API = 0xAA, USER_MODE_ONLY = 1, MODE_WP = 2 };
#define FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13)
#define FEATURE_WP_ASYNC (UINT64_C(1) << 15)

#define DO_API _IOWR(API, 0x3F, struct uffd_api)
#define DO_REGISTER _IOWR(API, 0x00, struct uffd_register)
#define DO_UNREGISTER _IOR(API, 0x01, struct uffd_range)

_Static_assert(sizeof(struct uffd_api) == 24, "struct uffdio_api");
_Static_assert(sizeof(struct uffd_register) == 32, "struct uffdio_register");
_Static_assert(offsetof(struct uffd_register, mode) == 16, "struct uffdio_register");
_Static_assert(sizeof(struct uffd_range) == 16, "struct uffdio_range");
_Static_assert(DO_API == 0xC018AA3F, "UFFDIO_API");
_Static_assert(DO_REGISTER == 0xC020AA00, "UFFDIO_REGISTER");
_Static_assert(DO_UNREGISTER == 0x8010AA01, "UFFDIO_UNREGISTER");

int smudge_write_watch_open(void) {
  long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
  return fd < 0 ? -errno : (int)fd;
}

int smudge_write_watch_enable(int fd) {
  struct uffd_api api = {.api = API, .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED};
  return ioctl(fd, DO_API, &api) == 0 ? 0 : -errno;
}

int smudge_write_watch_register(int fd, uint64_t first, uint64_t byte_count) {
  struct uffd_register call = {.range = {.start = first, .len = byte_count}, .mode = MODE_WP};
  return ioctl(fd, DO_REGISTER, &call) == 0 ? 0 : -errno;
}

int smudge_write_watch_unregister(int fd, uint64_t first, uint64_t byte_count) {
  struct uffd_range range = {.start = first, .len = byte_count};
  return ioctl(fd, DO_UNREGISTER, &range) == 0 ? 0 : -errno;
}
