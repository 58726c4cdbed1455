// Which queries of a chunk may find something in a group of like items.
#pragma once

#include <cstdint>

namespace recengine {

// Arrays of queries are padded to whole lanes: `stride`.
inline constexpr int64_t kGroupLanes = 4;

struct GroupQueries {
  int64_t n_queries;
  int64_t stride;
  int64_t n_axes;
  float* t;          // [n_axes][stride] q.u
  float* rest;       // [n_axes][stride] at least sqrt(|q|^2 - (q.u)^2)
  float* error;      // [stride] of t
  float* square;     // [stride] |q|^2, rounded up
  float* margin;     // [stride] by how much t may be off, rounding included
  float* limit;      // [stride] what a bound must exceed, NaN: nothing
  int32_t* nearest;  // [stride] axis
};

// Rows y of each group: low <= y.u <= high, and no more than `across` is left of y across u.
struct Groups {
  const int64_t* axis;
  const float* low;
  const float* high;
  const float* across;
};

// Sets `rest` and `nearest` from t, error and square; lanes beyond n_queries too.
void split_directions(const GroupQueries& queries);

// Returns the first group of [group, end) that some query must visit, `end` if there is none, and
// writes those queries, whose bound exceeds their limit; not those whose nearest axis is its own.
// The bound is proved in retrieval/_group_scan.pyx. cost: some 8 operations a query, in lanes.
int64_t next_reached(const GroupQueries& queries, const Groups& groups, int64_t group, int64_t end,
                     int64_t* members, int64_t* n_members);

}  // namespace recengine
