#ifndef SMUDGE_UNIX_SOCKET_H
#define SMUDGE_UNIX_SOCKET_H

#include <stddef.h>
#include <stdint.h>

/// Unix stream sockets that carry descriptors. Results are 0 or more, or -errno; every descriptor
/// made here is closed on exec, and no call raises SIGPIPE.

/// Descriptors the kernel carries with one message (SCM_MAX_FD).
#define SMUDGE_SOCKET_DESCRIPTOR_MAX 253

int smudge_socket_pair(int *_Nonnull first, int *_Nonnull second);
/// -ENAMETOOLONG for a path that does not fit an address.
int smudge_socket_listen(const char *_Nonnull path, int backlog);
int smudge_socket_connect(const char *_Nonnull path);
/// Returns the new descriptor.
int smudge_socket_accept(int fd);
/// Ends both directions: whoever waits on either side wakes.
void smudge_socket_shut_down(int fd);

/// Sends what fits of two pieces, one after the other, without waiting; the descriptors go with the
/// first byte. Returns how many bytes went, -EAGAIN when none did.
int64_t smudge_socket_send(
    int fd, const void *_Nullable head, size_t head_count, const void *_Nullable body,
    size_t body_count, const int *_Nullable descriptors, size_t descriptor_count);

/// Receives what is there of `count` bytes without waiting; 0 is the end. Descriptors that came are
/// stored, the first `descriptor_max` of them; the others are closed and counted as surplus, and so
/// is one at least where the kernel could not hand over all.
int64_t smudge_socket_receive(
    int fd, void *_Nonnull bytes, size_t count, int *_Nonnull descriptors, size_t descriptor_max,
    size_t *_Nonnull descriptor_count, size_t *_Nonnull surplus_count);

/// poll(2) of at most 8 descriptors; negative ones are left out. A signal counts as nothing ready.
/// Returns how many are ready, with what in `ready`.
int smudge_socket_wait(
    const int *_Nonnull descriptors, const short *_Nonnull events, short *_Nonnull ready,
    size_t count, int milliseconds);

/// CLOCK_MONOTONIC.
int64_t smudge_monotonic_milliseconds(void);

/// An eventfd that does not block.
int smudge_event_create(void);
void smudge_event_signal(int fd);
void smudge_event_clear(int fd);

#endif
