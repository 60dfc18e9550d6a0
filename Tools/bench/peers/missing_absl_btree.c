// In place of absl_btree when its package is not installed.
#include <stdlib.h>

#include "bench_peers.h"

static void *make(void) { abort(); }
static uint64_t on_mappings(void *table, const bench_mapping *mappings, size_t count) {
  (void)table, (void)mappings, (void)count;
  abort();
}
static uint64_t on_addresses(void *table, const uint64_t *addresses, size_t count) {
  (void)table, (void)addresses, (void)count;
  abort();
}
static void destroy(void *table) {
  (void)table;
  abort();
}

const bench_table bench_absl_btree = {0, make, on_mappings, on_addresses, on_mappings, destroy};
