// What a vhost-user back-end asks of Linux beside unix_socket.h: a socket file of its own, the
// identity of a file, and the shared dirty log.
//
// Each function returns 0 or more, or -errno, and repeats a call that a signal ended, unless its
// comment says otherwise. Addresses of memory are 64-bit numbers.
#ifndef SMUDGE_VHOST_USER_H
#define SMUDGE_VHOST_USER_H

#include <stddef.h>
#include <stdint.h>

/// Binds and listens at `path`, mode 0600 from the first moment on. The socket file of a process
/// that is gone is removed; a live one is -EADDRINUSE and stays, undisturbed. `device` and `inode`
/// are those of the new file. -EBUSY when somebody else holds the folder's lock for seconds.
int smudge_vhost_listen(const char *_Nonnull path, uint64_t *_Nonnull device,
                        uint64_t *_Nonnull inode);

/// Removes `path` if it still is the file of that device and inode.
void smudge_vhost_remove(const char *_Nonnull path, uint64_t device, uint64_t inode);

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
