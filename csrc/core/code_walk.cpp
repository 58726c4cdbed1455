#include "core/code_walk.h"

#include "core/types.h"

namespace recengine {

int64_t next_hit(const Kernels& kernels, const CodeWalk& walk, int64_t first, int64_t end) {
  const auto dot_codes = kernels.dot_codes;
  const auto code_hits = kernels.code_hits;
  const int64_t bytes = walk.groups * kPanelRows * 4;
  const int64_t digits = walk.wide ? 2 : 1;
  const int32_t* low = walk.wide ? walk.raw + walk.n_queries * kPanelRows : nullptr;
  for (int64_t panel = first; panel < end; ++panel) {
    const int64_t slot = panel * kPanelRows;
    const float* boost =
        walk.boost == nullptr ? nullptr : walk.boost + slot - walk.boost_first * kPanelRows;
    const CodePanel items{walk.inverse_step + slot, walk.bias + slot, walk.bounds + panel * 4,
                          boost};
    dot_codes(walk.panels + panel * bytes, walk.words, walk.groups, walk.n_queries * digits,
              walk.raw);
    if (code_hits(walk.raw, low, items, *walk.queries, walk.n_queries, walk.masks)) return panel;
  }
  return end;
}

}  // namespace recengine
