/* For SmudgeABI only; not installed. */
#ifndef SMUDGE_BITS_H
#define SMUDGE_BITS_H

#include <stdint.h>

/* Sets the bits first to last. */
void smudge_bits_set(uint64_t *words, uint64_t first, uint64_t last);

/* The same where others take bits out meanwhile. */
void smudge_bits_or_atomically(uint64_t *words, uint64_t first, uint64_t last);

#endif
