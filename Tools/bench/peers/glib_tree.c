#include <glib.h>

#include "bench_peers.h"

static gint overlap_compare(gconstpointer left, gconstpointer right, gpointer unused) {
  const bench_mapping *a = left, *b = right;
  (void)unused;
  if (a->iova_first > b->iova_last) return 1;
  if (a->iova_last < b->iova_first) return -1;
  return 0;
}

static void *make(void) { return g_tree_new_full(overlap_compare, NULL, g_free, NULL); }

static uint64_t insert(void *table, const bench_mapping *mappings, size_t count) {
  uint64_t inserted = 0;
  for (size_t i = 0; i < count; i++) {
    if (g_tree_lookup(table, &mappings[i]) != NULL) continue;
    bench_mapping *own = g_new0(bench_mapping, 1);
    *own = mappings[i];
    g_tree_insert(table, own, own);
    inserted++;
  }
  return inserted;
}

static uint64_t lookup(void *table, const uint64_t *addresses, size_t count) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    bench_mapping wanted = {addresses[i], addresses[i], 0, 0};
    const bench_mapping *found = g_tree_lookup(table, &wanted);
    if (found != NULL) sum += found->gpa_first + (addresses[i] - found->iova_first);
  }
  return sum;
}

static uint64_t remove_all(void *table, const bench_mapping *mappings, size_t count) {
  uint64_t removed = 0;
  for (size_t i = 0; i < count; i++) {
    bench_mapping *found;
    while ((found = g_tree_lookup(table, &mappings[i])) != NULL) {
      g_tree_remove(table, found);
      removed++;
    }
  }
  return removed;
}

static void destroy(void *table) { g_tree_destroy(table); }

const bench_table bench_glib_tree = {1, make, insert, lookup, remove_all, destroy};
