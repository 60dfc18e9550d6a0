// The memory of a vhost-user dirty log, from the side that reads it.

#pragma once

#include <stdint.h>

/// A memfd of `byte_count` bytes without seals, to which seals may be added or not. Or -errno.
int smudge_test_memory(const char *_Nonnull name, uint64_t byte_count, int can_be_sealed);

/// Takes a word by exchange with 0, as QEMU's sync does.
uint64_t smudge_test_take(uint64_t *_Nonnull word);
