#include "core/group_test.h"

#include <cmath>
#include <cstring>

namespace recengine {

namespace {

constexpr float kRounding = 0x1p-18F;
constexpr float kSmallestSquare = 0x1p-100F;  // squares beyond these skip nothing
constexpr float kLargestSquare = 0x1p120F;
constexpr float kMore = 1.0F + kRounding;
constexpr float kLess = 1.0F - kRounding;

// Lanes of the baseline; the compiler does not make them out of comparisons by itself.
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));

Floats load(const float* p) {
  Floats lanes;
  std::memcpy(&lanes, p, sizeof lanes);
  return lanes;
}

Floats larger(Floats a, Floats b) { return a > b ? a : b; }

Floats magnitude(Floats a) { return larger(a, -a); }

}  // namespace

int64_t reaching(const GroupQueries& queries, const GroupFacts& facts, int64_t n_queries,
                 int64_t* out) {
  const float extent = std::fmax(std::fabs(facts.low), std::fabs(facts.high));
  const float squares = std::fmax(facts.across * facts.across * kMore, kSmallestSquare);
  const float bias = facts.bias * kMore;
  int64_t count = 0;
  for (int64_t q = 0; q < n_queries; q += kGroupLanes) {
    const Floats t = load(queries.t + q);
    const Floats error = load(queries.error + q);
    const Floats tau = load(queries.tau + q);
    const Floats length = magnitude(t);
    const Floats size = larger(length - error, Floats{});
    const Floats rest = (load(queries.square + q) - size * size) * squares;
    const Floats rounding = kRounding * (length * extent + magnitude(tau));
    const Floats along = larger(t * facts.low, t * facts.high) + error * extent;
    const Floats need = larger(tau - along - bias - rounding, Floats{});
    const Floats needed = need * need * kLess;
    const Ints skips = (rest <= needed) & (needed >= kSmallestSquare) & (needed <= kLargestSquare);
    uint64_t pairs[2];
    std::memcpy(pairs, &skips, sizeof pairs);
    if ((pairs[0] & pairs[1]) == ~uint64_t{0}) continue;
    for (int64_t i = 0; i < kGroupLanes && q + i < n_queries; ++i) {
      out[count] = q + i;
      count += skips[i] == 0 ? 1 : 0;
    }
  }
  return count;
}

}  // namespace recengine
