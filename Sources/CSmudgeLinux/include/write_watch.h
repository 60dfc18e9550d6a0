// userfaultfd in write-protect mode where the kernel itself lifts the protection (WP_ASYNC): linux/
// userfaultfd.h, Linux 6.7. Nothing is ever read from the descriptor. See pagemap_scan.h for the
// other half.
#ifndef SMUDGE_WRITE_WATCH_H
#define SMUDGE_WRITE_WATCH_H

#include <stdint.h>

/// A userfaultfd that an unprivileged process may have, or -errno.
int smudge_write_watch_open(void);

/// UFFDIO_API asking for asynchronous write protection, also of pages not yet there. Returns 0 or
/// -errno: EINVAL when the kernel lacks either.
int smudge_write_watch_enable(int fd);

/// UFFDIO_REGISTER, UFFDIO_UNREGISTER of whole pages. Return 0 or -errno.
int smudge_write_watch_register(int fd, uint64_t first, uint64_t byte_count);
int smudge_write_watch_unregister(int fd, uint64_t first, uint64_t byte_count);

#endif
