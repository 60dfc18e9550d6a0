#ifndef SMUDGE_GUEST_MEMORY_H
#define SMUDGE_GUEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/// Memory of a guest: a memfd that several mappings of one process see.

/// A memfd of `byte_count` bytes that can not shrink. Returns the descriptor, or -errno.
int smudge_memory_create(const char *_Nonnull name, uint64_t byte_count);

/// Maps the whole of it, shared and writable. Returns NULL and stores the errno when refused.
void *_Nullable smudge_memory_map(int fd, uint64_t byte_count, int *_Nonnull error);

void smudge_memory_unmap(void *_Nonnull address, uint64_t byte_count);

/// Asks for the pages of a shared mapping to be taken from one NUMA node (mbind, MPOL_PREFERRED).
/// Returns 0 or -errno.
int smudge_memory_prefer_node(void *_Nonnull address, uint64_t byte_count, unsigned node);

/// Copies into, or out of, memory that other threads read and write meanwhile. Aligned words of 8
/// bytes are never torn, and no order between words is promised.
void smudge_memory_store(void *_Nonnull to, const void *_Nonnull from, size_t byte_count);
void smudge_memory_load(void *_Nonnull to, const void *_Nonnull from, size_t byte_count);

/// One digest of 64 bits a page of 4 KiB; the digest of a page of zeroes is 0.
void smudge_memory_digest(
    const void *_Nonnull first, size_t page_count, uint64_t *_Nonnull digests);

/// The name of the calling thread, as tools show it; cut to 15 bytes.
void smudge_thread_set_name(const char *_Nonnull name);

#endif
