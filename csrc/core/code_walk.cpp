#include "core/code_walk.h"

#include "core/quantize.h"
#include "core/types.h"

namespace recengine {

namespace {

constexpr int64_t kAhead = 8192;
constexpr int64_t kLongestLevel = 4096;  // pairs whose sums, of 255 * 127 a dim, stay below 2^30

// Whether one integer a query tests all rows of the panel.
bool is_level(const CodeWalk& walk, const float* bounds) {
  return walk.boost == nullptr && walk.pairs <= kLongestLevel && bounds[kMaxBias] == 0 &&
         bounds[kMinInverse] == bounds[kMaxInverse];
}

void prefetch_facts(const uint8_t* facts) {
  for (int64_t line = 0; line < int64_t{sizeof(PanelFacts)}; line += 64) {
    __builtin_prefetch(facts + kAhead + line);
  }
}

}  // namespace

int64_t next_hit(const Kernels& kernels, const CodeWalk& walk, int64_t first, int64_t end) {
  const auto dot_codes = kernels.dot_codes;
  const auto code_hits = kernels.code_hits;
  const auto code_limits = kernels.code_limits;
  const auto raw_hits = kernels.raw_hits;
  const int64_t bytes = walk.pairs * kPanelBytes;
  const int64_t stride = high_stride(walk.pairs);
  const int grid = walk.low == nullptr ? 1 : 0;
  alignas(64) int32_t limits[16];
  for (int64_t panel = first; panel < end; ++panel) {
    const uint8_t* high = walk.high + panel * stride;
    const uint8_t* low = walk.low == nullptr ? nullptr : walk.low + panel * bytes;
    const auto* facts = reinterpret_cast<const PanelFacts*>(high + bytes);
    const float* boost =
        walk.boost == nullptr ? nullptr : walk.boost + (panel - walk.boost_first) * kPanelRows;
    const CodePanel items{facts->inverse_step, bias_of(*facts, walk.rows_inside),
                          facts->bounds[grid], boost};
    prefetch_facts(high + bytes);
    const bool level = is_level(walk, items.bounds);
    if (level) code_limits(items, *walk.queries, limits);
    dot_codes(high, low, walk.words, walk.pairs, walk.n_queries, walk.raw);
    const bool hit = level ? raw_hits(walk.raw, limits, walk.n_queries, walk.masks)
                           : code_hits(walk.raw, items, *walk.queries, walk.n_queries, walk.masks);
    if (hit) return panel;
  }
  return end;
}

}  // namespace recengine
