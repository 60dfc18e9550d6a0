// Chooses a level once, by what the CPU says it has.
#include <pthread.h>
#include <stdatomic.h>

#include "crc32c.h"

static _Atomic(smudge_crc_function *) chosen;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

int smudge_crc32c_best_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) return SMUDGE_CRC32C_SSE42;
#endif
  return SMUDGE_CRC32C_TABLE;
}

static smudge_crc_function *of_level(int level) {
#if defined(__x86_64__)
  if (level == SMUDGE_CRC32C_SSE42) return smudge_crc_sse42;
#endif
  return level == SMUDGE_CRC32C_TABLE ? smudge_crc_table : 0;
}

static void prepare(void) {
  smudge_crc_table_prepare();
#if defined(__x86_64__)
  if (smudge_crc32c_best_level() == SMUDGE_CRC32C_SSE42) smudge_crc_sse42_prepare();
#endif
  atomic_store_explicit(&chosen, of_level(smudge_crc32c_best_level()), memory_order_release);
}

static smudge_crc_function *function(void) {
  smudge_crc_function *found = atomic_load_explicit(&chosen, memory_order_acquire);
  if (found) return found;
  pthread_once(&prepared, prepare);
  return atomic_load_explicit(&chosen, memory_order_acquire);
}

int smudge_crc32c_force_level(int level) {
  if (level < SMUDGE_CRC32C_TABLE || level > smudge_crc32c_best_level()) return -1;
  pthread_once(&prepared, prepare);
  atomic_store_explicit(&chosen, of_level(level), memory_order_release);
  return 0;
}

uint32_t smudge_crc32c(uint32_t crc, const void *bytes, size_t count) {
  return count ? ~function()(~crc, 0, bytes, count) : crc;
}

uint32_t smudge_copy_crc32c(uint32_t crc, void *to, const void *from, size_t count) {
  return count ? ~function()(~crc, to, from, count) : crc;
}
