// Whether guest memory is zero: a read that Swift can not say, because a guest may write meanwhile.
#ifndef SMUDGE_ZERO_H
#define SMUDGE_ZERO_H

#include <stddef.h>

/// 1 when all `count` bytes are zero at the moment each is read. `bytes` may be null when `count`
/// is 0.
int smudge_is_zero(const void *_Nullable bytes, size_t count);

#endif
