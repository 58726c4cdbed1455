// Which queries of a chunk may find something in a group of like items.
#pragma once

#include <cstdint>

namespace recengine {

// Arrays of queries are padded to whole lanes.
inline constexpr int64_t kGroupLanes = 4;

// Per query: what its product with the group's axis is, by how much that may be off, |q|^2 rounded
// up, and what a score must exceed.
struct GroupQueries {
  const float* t;
  const float* error;
  const float* square;
  const float* tau;
};

// Rows y of the group: low <= y.u <= high, and no more than `across` is left of y across u.
struct GroupFacts {
  float low;
  float high;
  float across;
  float bias;  // >= 0, added to scores
};

// Writes the queries for which the group may hold a row whose score exceeds tau; returns how many.
// The bound is proved in retrieval/_group_scan.pyx. cost: some 20 operations a query, in lanes.
int64_t reaching(const GroupQueries& queries, const GroupFacts& facts, int64_t n_queries,
                 int64_t* out);

}  // namespace recengine
