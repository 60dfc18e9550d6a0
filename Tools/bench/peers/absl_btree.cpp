#include <absl/container/btree_map.h>

#include "bench_peers.h"

namespace {

struct Value {
  uint64_t last;
  uint64_t gpa_first;
  uint32_t permissions;
};

using Table = absl::btree_map<uint64_t, Value>;

void *make() { return new Table; }

uint64_t insert(void *table, const bench_mapping *mappings, size_t count) {
  Table &tree = *static_cast<Table *>(table);
  uint64_t inserted = 0;
  for (size_t i = 0; i < count; i++) {
    const bench_mapping &m = mappings[i];
    inserted += tree.emplace(m.iova_first, Value{m.iova_last, m.gpa_first, m.permissions}).second;
  }
  return inserted;
}

uint64_t lookup(void *table, const uint64_t *addresses, size_t count) {
  const Table &tree = *static_cast<Table *>(table);
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    auto found = tree.upper_bound(addresses[i]);
    if (found == tree.begin()) continue;
    --found;
    if (found->second.last >= addresses[i])
      sum += found->second.gpa_first + (addresses[i] - found->first);
  }
  return sum;
}

uint64_t remove(void *table, const bench_mapping *mappings, size_t count) {
  Table &tree = *static_cast<Table *>(table);
  uint64_t removed = 0;
  for (size_t i = 0; i < count; i++) removed += tree.erase(mappings[i].iova_first);
  return removed;
}

void destroy(void *table) { delete static_cast<Table *>(table); }

}  // namespace

extern "C" const bench_table bench_absl_btree = {1, make, insert, lookup, remove, destroy};
