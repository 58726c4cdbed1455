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
constexpr float kLowest = std::numeric_limits<float>::lowest();

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

// Whether queries skip what these bounds are of.
class Test {
 public:
  Test(const GroupQueries& queries, int64_t axis, const GroupBounds& bounds, int64_t i)
      : queries_(queries),
        t_(queries.t + axis * queries.stride),
        rest_(queries.rest + axis * queries.stride),
        low_(bounds.low[i]),
        high_(bounds.high[i]),
        across_(bounds.across[i]),
        extent_(std::fabs(low_) > std::fabs(high_) ? std::fabs(low_) : std::fabs(high_)) {}

  Ints skips(int64_t q) const {
    const Floats t = load(t_ + q);
    // What falls below float32 must not swallow what is added to it.
    const Floats along = larger(larger(t * low_, t * high_), all_lanes(kLowest));
    const Floats bound = along + load(rest_ + q) * across_ + load(queries_.margin + q) * extent_;
    return bound <= load(queries_.limit + q);  // false if either is NaN
  }

 private:
  const GroupQueries& queries_;
  const float* t_;
  const float* rest_;
  float low_, high_, across_, extent_;
};

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

int64_t next_reached(const GroupQueries& queries, const Groups& groups, GroupCursor* cursor,
                     int64_t* members, int64_t* n_members) {
  while (cursor->group < cursor->end) {
    const int64_t axis = cursor->axis;
    const int64_t next = groups.axis_starts[axis + 1];
    const int64_t last = next < cursor->end ? next : cursor->end;
    if (cursor->n_blocks < 0) {
      const Test test(queries, axis, groups.around, axis);
      cursor->n_blocks = 0;
      for (int64_t q = 0; q < queries.stride; q += kGroupLanes) {
        cursor->blocks[cursor->n_blocks] = q;
        cursor->n_blocks += all(test.skips(q)) ? 0 : 1;
      }
    }
    if (cursor->n_blocks == 0) cursor->group = last;
    while (cursor->group < last) {
      const int64_t group = cursor->group++;
      const Test test(queries, axis, groups.within, group);
      int64_t count = 0;
      for (int64_t block = 0; block < cursor->n_blocks; ++block) {
        const int64_t q = cursor->blocks[block];
        const Ints skips = test.skips(q);
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
    if (last == next) {
      ++cursor->axis;
      cursor->n_blocks = -1;
    }
  }
  return cursor->end;
}

}  // namespace recengine
