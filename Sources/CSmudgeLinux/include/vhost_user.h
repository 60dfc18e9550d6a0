// What a vhost-user back-end asks of Linux: a UNIX socket whose messages carry descriptors, a wait
// that can be ended, the identity of a file, and the shared dirty log.
//
// Each function returns 0 or more, or -errno, and repeats a call that a signal ended, unless its
// comment says otherwise. Addresses of memory are 64-bit numbers.
#ifndef SMUDGE_VHOST_USER_H
#define SMUDGE_VHOST_USER_H

#include <stddef.h>
#include <stdint.h>

enum {
  /// Descriptors that are taken from one message; the kernel closes what exceeds them.
  SMUDGE_VHOST_DESCRIPTOR_MAX = 8,
  SMUDGE_VHOST_READY_WAKE = 1,
  SMUDGE_VHOST_READY_LISTENER = 2,
  SMUDGE_VHOST_READY_CONNECTION = 4,
};

/// Binds and listens at `path`, mode 0600 from the first moment on. The socket file of a process
/// that is gone is removed; a live one is -EADDRINUSE and stays, undisturbed. `device` and `inode`
/// are those of the new file. -EBUSY when somebody else holds the folder's lock for seconds.
int smudge_vhost_listen(const char *_Nonnull path, uint64_t *_Nonnull device,
                        uint64_t *_Nonnull inode);

/// Removes `path` if it still is the file of that device and inode.
void smudge_vhost_remove(const char *_Nonnull path, uint64_t device, uint64_t inode);

/// Close-on-exec, and calls on it do not wait.
int smudge_vhost_accept(int listener);

/// For a front-end: connects to `path`.
int smudge_vhost_connect(const char *_Nonnull path);

/// Receives at most `byte_count` bytes without waiting. Descriptors that came with them are stored
/// in `descriptors`, which has room for SMUDGE_VHOST_DESCRIPTOR_MAX, and are close-on-exec;
/// `*is_truncated` says that there were more. 0 at the end of the stream.
long smudge_vhost_receive(int fd, void *_Nonnull bytes, size_t byte_count,
                          int32_t *_Nonnull descriptors, size_t *_Nonnull descriptor_count,
                          int *_Nonnull is_truncated);

/// Sends without waiting, and without a signal when the other side is gone. The descriptors stay
/// open here. At most 16 of them.
long smudge_vhost_send(int fd, const void *_Nonnull bytes, size_t byte_count,
                       const int32_t *_Nullable descriptors, size_t descriptor_count);

/// An eventfd for smudge_vhost_wait, close-on-exec.
int smudge_vhost_wake_create(void);
void smudge_vhost_wake(int wake);
void smudge_vhost_wake_drain(int wake);

/// Waits until one of them is ready: SMUDGE_VHOST_READY_ flags, 0 after the timeout. A descriptor
/// of -1 is left out. Answers 0 when a signal ended the wait, too.
/// @param timeout milliseconds, -1 for ever.
int smudge_vhost_wait(int wake, int listener, int connection, int is_writing, int timeout);

/// What tells a file from all others, and its size.
int smudge_vhost_file(int fd, uint64_t *_Nonnull device, uint64_t *_Nonnull inode,
                      uint64_t *_Nonnull byte_count);

/// Whether the file can shrink no more: it is sealed, or could be sealed now. 1, 0 or -errno.
int smudge_vhost_cannot_shrink(int fd);

/// Maps `byte_count` bytes from `offset` on, shared and writable. Returns their address, or -errno.
int64_t smudge_vhost_log_map(int fd, uint64_t offset, uint64_t byte_count);
void smudge_vhost_log_unmap(int64_t address, uint64_t byte_count);

/// Sets the bits `first` to `last`, both inclusive, of a log of `byte_count` bytes, atomically.
/// What was stored before the call is visible to whoever finds the bit set.
/// The caller has seen to it that the bits lie in the log.
void smudge_vhost_log_set(int64_t address, uint64_t byte_count, uint64_t first, uint64_t last);

/// Sets bit `first` + n for each bit n of the first `bit_count` bits of `words` that is set.
void smudge_vhost_log_merge(int64_t address, uint64_t byte_count, uint64_t first,
                            const uint64_t *_Nonnull words, uint64_t bit_count);

#endif
