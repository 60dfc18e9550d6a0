#ifndef SMUDGE_FILE_ACCESS_H
#define SMUDGE_FILE_ACCESS_H

#include <stddef.h>
#include <stdint.h>

/// Guest memory by the descriptor of its file. A file that shrinks is an error here and not a
/// signal, but for one that knows neither pread nor pwrite (hugetlbfs): that is mapped for the one
/// access.

/// All of `count` bytes at `offset`. Returns 0, or -errno: -ENXIO past the end of the file; some of
/// the bytes may have been read or written then.
int smudge_file_read(int fd, uint64_t offset, void *_Nonnull bytes, size_t count);
int smudge_file_write(int fd, uint64_t offset, const void *_Nonnull bytes, size_t count);

#endif
