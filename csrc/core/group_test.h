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

// Of the rows y of each group: low <= y.u <= high, and `across` is at least what is left across u.
struct GroupBounds {
  const float* low;
  const float* high;
  const float* across;
};

struct Groups {
  const int64_t* axis_starts;  // [n_axes + 1] first group about each axis
  GroupBounds around;          // [n_axes] of all rows about it
  GroupBounds within;          // [n_groups]
};

// Where a walk over groups [group, end) stands.
struct GroupCursor {
  int64_t group;
  int64_t end;
  int64_t axis;      // of `group`
  int64_t n_blocks;  // lanes of queries that may reach groups about it, -1: not tested yet
  int64_t* blocks;   // [stride / lanes]
};

// Sets `rest` and `nearest` from t, error and square; lanes beyond n_queries too.
void split_directions(const GroupQueries& queries);

// Returns the next group that some query must visit, `end` if there is none, and writes those
// queries, whose bound exceeds their limit; not those whose nearest axis is its own. The cursor
// moves behind it. Queries that reach nothing about an axis are not asked about its groups.
// The bound is proved in retrieval/_group_scan.pyx. cost: some 8 operations a query, in lanes.
int64_t next_reached(const GroupQueries& queries, const Groups& groups, GroupCursor* cursor,
                     int64_t* members, int64_t* n_members);

}  // namespace recengine
