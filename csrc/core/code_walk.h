// Walking panels of codes until one of them holds an item that a query may need.
#pragma once

#include <cstdint>

#include "simd/kernels.h"

namespace recengine {

// A tile of queries and the table it passes over. Pointers to items are those of panel 0.
struct CodeWalk {
  const uint8_t* high;
  const uint8_t* low;  // null: the coarse grid
  const float* boost;  // of panel `boost_first`, or null
  int64_t boost_first;
  bool rows_inside;  // where the panels' bias would be, which is 0 then
  int64_t pairs;
  const int32_t* words;
  const CodeQueries* queries;
  int64_t n_queries;
  int32_t* raw;     // [12][32], 64-byte aligned
  uint32_t* masks;  // [12]
};

// Returns the first panel in [first, end) that has a hit, or end; raw and masks are that panel's.
int64_t next_hit(const Kernels& kernels, const CodeWalk& walk, int64_t first, int64_t end);

}  // namespace recengine
