#include "core/code_walk.h"

#include "core/quantize.h"
#include "core/types.h"

namespace recengine {

namespace {

constexpr int64_t kAhead = 8192;

void prefetch_facts(const uint8_t* facts) {
  for (int64_t line = 0; line < int64_t{sizeof(PanelFacts)}; line += 64) {
    __builtin_prefetch(facts + kAhead + line);
  }
}

}  // namespace

int64_t next_hit(const Kernels& kernels, const CodeWalk& walk, int64_t first, int64_t end) {
  const auto dot_codes = kernels.dot_codes;
  const auto code_hits = kernels.code_hits;
  const int64_t bytes = walk.pairs * kPanelBytes;
  const int64_t stride = high_stride(walk.pairs);
  const int grid = walk.low == nullptr ? 1 : 0;
  for (int64_t panel = first; panel < end; ++panel) {
    const uint8_t* high = walk.high + panel * stride;
    const uint8_t* low = walk.low == nullptr ? nullptr : walk.low + panel * bytes;
    prefetch_facts(high + bytes);
    dot_codes(high, low, walk.words, walk.pairs, walk.n_queries, walk.raw);
    const auto* facts = reinterpret_cast<const PanelFacts*>(high + bytes);
    const float* boost =
        walk.boost == nullptr ? nullptr : walk.boost + (panel - walk.boost_first) * kPanelRows;
    const CodePanel items{facts->inverse_step, facts->bias, facts->bounds[grid], boost};
    if (code_hits(walk.raw, items, *walk.queries, walk.n_queries, walk.masks)) return panel;
  }
  return end;
}

}  // namespace recengine
