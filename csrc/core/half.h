// Rows of vectors as an index stores them: float32, or 2 bytes a number that widen to it exactly.
#pragma once

#include <cstdint>
#include <cstring>

namespace recengine {

enum class Storage : int { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

struct Rows {
  const void* data;  // [n][dim] float, or the bits of float16 or bfloat16
  int64_t dim;
  Storage storage;
};

inline float float_of_bits(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// post: out[i] = in[i], read as float16; exact, denormals included. pre: finite; the default
// floating-point mode (denormals kept), as in every task of the pool.
// cost: no branch, so that the baseline vectorises it.
inline void widen_float16(const uint16_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t half = in[i];
    // The exponent is 112 short of its bias in float32; the product makes that good, exactly.
    const float magnitude = float_of_bits((half & 0x7fffU) << 13) * 0x1p112F;
    uint32_t bits = 0;
    std::memcpy(&bits, &magnitude, sizeof bits);
    out[i] = float_of_bits(bits | (half & 0x8000U) << 16);
  }
}

// post: out[i] = in[i], read as bfloat16, which is the upper half of a float32.
inline void widen_bfloat16(const uint16_t* in, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = float_of_bits(static_cast<uint32_t>(in[i]) << 16);
}

// Row `row` as float32: where it lies, or widened into scratch[0..dim). pre: 0 <= row < n.
inline const float* row_at(const Rows& rows, int64_t row, float* scratch) {
  if (rows.storage == Storage::kFloat32) {
    return static_cast<const float*>(rows.data) + row * rows.dim;
  }
  const uint16_t* halves = static_cast<const uint16_t*>(rows.data) + row * rows.dim;
  if (rows.storage == Storage::kFloat16) {
    widen_float16(halves, rows.dim, scratch);
  } else {
    widen_bfloat16(halves, rows.dim, scratch);
  }
  return scratch;
}

// Asks for a row, up to 4 KiB of it, that will be read soon. pre: 0 <= row < n.
inline void prefetch_row(const Rows& rows, int64_t row) {
  const int64_t bytes = rows.dim * (rows.storage == Storage::kFloat32 ? 4 : 2);
  const char* first = static_cast<const char*>(rows.data) + row * bytes;
  for (int64_t line = 0; line < bytes && line < 4096; line += 64) __builtin_prefetch(first + line);
}

}  // namespace recengine
