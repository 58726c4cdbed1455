// The best of a panel's items by their codes: who to take first for a limit.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace recengine {

// post: step[r] = 1 / inverse[r].
inline void invert_steps(const float* inverse, float* step) {
  for (int64_t r = 0; r < kPanelRows; ++r) step[r] = 1.0F / inverse[r];
}

// A number of lanes that is known lets the compiler take whole vectors.
template <int64_t kLanes>
inline void keep_larger(const float* a, const float* b, float* larger) {
  for (int64_t j = 0; j < kLanes; ++j) larger[j] = a[j] < b[j] ? b[j] : a[j];
}

// Returns the largest (raw_r - offset + beta bias_r) step_r, and keeps all of them in `scores`.
// numerics: an order to try items in; nothing is proved of it.
inline float panel_best(const int32_t* raw, const float* step, const float* bias, float offset,
                        float beta, float* scores) {
  for (int64_t r = 0; r < kPanelRows; ++r) {
    scores[r] = (static_cast<float>(raw[r]) - offset + beta * bias[r]) * step[r];
  }
  float best[kPanelRows / 2];
  keep_larger<16>(scores, scores + 16, best);
  keep_larger<8>(best, best + 8, best);
  keep_larger<4>(best, best + 4, best);
  keep_larger<2>(best, best + 2, best);
  keep_larger<1>(best, best + 1, best);
  return best[0];
}

}  // namespace recengine
