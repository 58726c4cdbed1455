#include "core/group_test.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace recengine {

namespace {

constexpr float kMore = 1.0F + 0x1p-18F;
constexpr float kSmallestSquare = 0x1p-100F;
constexpr float kLargestSquare = 0x1p120F;  // longer queries skip nothing
constexpr float kLargest = 0x1p60F;

// Lanes of the baseline; the compiler does not make them out of comparisons by itself.
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));

Floats load(const float* p) {
  Floats lanes;
  std::memcpy(&lanes, p, sizeof lanes);
  return lanes;
}

template <class Lanes, class T>
void store(T* p, Lanes lanes) {
  std::memcpy(p, &lanes, sizeof lanes);
}

bool all(Ints lanes) {
  uint64_t pairs[2];
  std::memcpy(pairs, &lanes, sizeof pairs);
  return (pairs[0] & pairs[1]) == ~uint64_t{0};
}

Floats larger(Floats a, Floats b) { return a > b ? a : b; }

Floats all_lanes(float x) { return Floats{} + x; }

// At least the root of x > 0, within 2^-17. Steps of Newton's method end above the root wherever
// they start (the mean of a and x / a is no less), here within 4 % of it.
Floats root_above(Floats x) {
  Ints bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits >> 1) + 0x1fbd1df5;
  Floats root;
  std::memcpy(&root, &bits, sizeof root);
  root = 0.5F * (root + x / root);
  root = 0.5F * (root + x / root);
  return root * kMore;
}

}  // namespace

void split_directions(const GroupQueries& queries) {
  for (int64_t q = 0; q < queries.stride; q += kGroupLanes) {
    const Floats error = load(queries.error + q);
    const Floats square = load(queries.square + q);
    const Floats none = all_lanes(std::numeric_limits<float>::infinity());
    Floats best = load(queries.t + q);
    Ints nearest{};
    for (int64_t axis = 0; axis < queries.n_axes; ++axis) {
      const Floats t = load(queries.t + axis * queries.stride + q);
      const Floats length = larger(t, -t);
      const Floats size = larger(length - error, Floats{});
      const Floats left = larger(square - size * size, all_lanes(kSmallestSquare));
      const Ints fits = (length <= kLargest) & (square <= kLargestSquare);
      store(queries.rest + axis * queries.stride + q, fits ? root_above(left) : none);
      nearest = t > best ? Ints{} + static_cast<int32_t>(axis) : nearest;
      best = larger(t, best);
    }
    store(queries.nearest + q, nearest);
  }
}

int64_t next_reached(const GroupQueries& queries, const Groups& groups, int64_t group, int64_t end,
                     int64_t* members, int64_t* n_members) {
  // What falls below float32 must not swallow what is added to it.
  const Floats lowest = all_lanes(std::numeric_limits<float>::lowest());
  for (; group < end; ++group) {
    const int64_t axis = groups.axis[group];
    const float* ts = queries.t + axis * queries.stride;
    const float* rests = queries.rest + axis * queries.stride;
    const float low = groups.low[group];
    const float high = groups.high[group];
    const float across = groups.across[group];
    const float extent = std::fabs(low) > std::fabs(high) ? std::fabs(low) : std::fabs(high);
    int64_t count = 0;
    for (int64_t q = 0; q < queries.stride; q += kGroupLanes) {
      const Floats t = load(ts + q);
      const Floats along = larger(larger(t * low, t * high), lowest);
      const Floats bound = along + load(rests + q) * across + load(queries.margin + q) * extent;
      const Ints skips = bound <= load(queries.limit + q);  // false if either is NaN
      if (all(skips)) continue;
      for (int64_t i = q; i < q + kGroupLanes && i < queries.n_queries; ++i) {
        members[count] = i;
        count += skips[i - q] == 0 && queries.nearest[i] != axis ? 1 : 0;
      }
    }
    if (count != 0) {
      *n_members = count;
      return group;
    }
  }
  return end;
}

}  // namespace recengine
