// One implementation of the checksum. `to` may be null: then nothing is copied.
#ifndef SMUDGE_CRC32C_INTERNAL_H
#define SMUDGE_CRC32C_INTERNAL_H

#include "include/checksum.h"

// Guest memory is read while the guest writes it; that a copied byte may be old or new is what the
// dirty log is for, so the thread sanitizer has nothing to say about it.
#define SMUDGE_RACES_ALLOWED __attribute__((no_sanitize("thread")))

typedef uint32_t smudge_crc_function(uint32_t crc, unsigned char *_Nullable to,
                                     const unsigned char *_Nonnull from, size_t count);

/// Both work on the inverted CRC, without the inversions at either end.
smudge_crc_function smudge_crc_table;
void smudge_crc_table_prepare(void);
#if defined(__x86_64__)
smudge_crc_function smudge_crc_sse42;
void smudge_crc_sse42_prepare(void);
#endif

#endif
