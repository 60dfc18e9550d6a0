// CRC32C (Castagnoli, polynomial 0x1edc6f41, reflected), as iSCSI and ext4 use it: RFC 3720 B.4.
//
// The CPU's own instruction does the work where there is one; a table does elsewhere. Both give the
// same values, which the tests hold.
#ifndef SMUDGE_CHECKSUM_H
#define SMUDGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// The CRC of what gave `crc` followed by `count` bytes. Begin with 0; the value is final at every
/// step: `crc32c(crc32c(0, a), b)` is the CRC of `ab`. "123456789" gives 0xe3069283.
uint32_t smudge_crc32c(uint32_t crc, const void *_Nullable bytes, size_t count);

/// Copies `count` bytes and returns the CRC of the bytes that arrived at `to`, also while somebody
/// writes to `from`: each byte is read once. The two must not overlap.
uint32_t smudge_copy_crc32c(uint32_t crc, void *_Nullable to, const void *_Nullable from,
                            size_t count);

/// Levels, lowest first. Only the first exists outside x86-64.
enum { SMUDGE_CRC32C_TABLE = 0, SMUDGE_CRC32C_SSE42 = 1 };

/// The best level this CPU has.
int smudge_crc32c_best_level(void);
/// For tests: use this level from now on, in the whole process. Returns 0, or -1 and changes
/// nothing when the CPU does not have it.
int smudge_crc32c_force_level(int level);

#pragma clang assume_nonnull end

#endif
