// What the native side agrees on: metrics and their numbers.
#pragma once

#include <cstdint>

namespace recengine {

enum class Metric : int { kCosine = 0, kDot = 1, kL2 = 2 };

// Items are nominated in panels of this many rows; a hit mask is one 32-bit word.
inline constexpr int64_t kPanelRows = 32;

// Bytes that four dims of a panel take in codes.
inline constexpr int64_t kPanelBytes = kPanelRows * 4;

// Queries that one tile call can carry (24 accumulators of 16 floats fill the AVX-512 registers).
inline constexpr int64_t kTileQueries = 12;

}  // namespace recengine
