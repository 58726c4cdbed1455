// Rows of 2 bytes a number, widened in arrays of exactly the promised length: every finite number,
// every tail of dims, held against ldexp.
#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "arrays.h"
#include "check.h"
#include "core/half.h"

namespace {

using recengine::Rows;
using recengine::Storage;

// Bits of the fraction and the bias of the exponent.
struct Format {
  int fraction;
  int bias;
};

Format format_of(Storage storage) {
  return storage == Storage::kFloat16 ? Format{10, 15} : Format{7, 127};
}

bool is_finite(uint16_t bits, Storage storage) {
  const int fraction = format_of(storage).fraction;
  return ((bits & 0x7fff) >> fraction) != (0x7fff >> fraction);
}

double number(uint16_t bits, Storage storage) {
  const Format format = format_of(storage);
  const int one = 1 << format.fraction;
  const int exponent = (bits & 0x7fff) >> format.fraction;
  const int digits = (bits & (one - 1)) + (exponent > 0 ? one : 0);
  const int shift = (exponent > 0 ? exponent : 1) - format.bias - format.fraction;
  return std::copysign(std::ldexp(digits, shift), (bits & 0x8000) != 0 ? -1.0 : 1.0);
}

void check(Storage storage, int64_t dim, int64_t shift) {
  const int64_t n = (65536 + dim - 1) / dim;
  const Array<uint16_t> halves(n * dim, shift);
  const Array<float> scratch(dim, shift);
  for (int64_t i = 0; i < n * dim; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    halves[i] = is_finite(bits, storage) ? bits : uint16_t{0};
  }
  const Rows rows{halves.data(), dim, storage};
  for (int64_t row = 0; row < n; ++row) {
    recengine::prefetch_row(rows, row);
    const float* x = recengine::row_at(rows, row, scratch.data());
    for (int64_t j = 0; j < dim; ++j) {
      const uint16_t bits = halves[row * dim + j];
      const double want = number(bits, storage);
      CHECK(static_cast<double>(x[j]) == want && std::signbit(x[j]) == std::signbit(want),
            "bits %04x of storage %d: %a, not %a", static_cast<unsigned>(bits),
            static_cast<int>(storage), static_cast<double>(x[j]), want);
    }
  }
}

void check_float32() {
  const Array<float> values(6);
  const Rows rows{values.data(), 3, Storage::kFloat32};
  CHECK(recengine::row_at(rows, 1, nullptr) == values.data() + 3, "float32 lies where it is read");
}

}  // namespace

int main() {
  for (const Storage storage : {Storage::kFloat16, Storage::kBfloat16}) {
    for (const int64_t dim : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 67}) {
      check(storage, dim, dim % 3);
    }
  }
  check_float32();
  std::printf("rows all: ok\n");
  return 0;
}
