// Rows as an index stores them, at the door: a checked array, not copied.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "core/half.h"

namespace recengine {

// The rows of a C-contiguous float32, float16 or uint16 (the bits of bfloat16) matrix, and how many
// they are. throws: TypeError, ValueError naming the argument.
inline std::pair<Rows, int64_t> rows_of(const pybind11::array& array, const char* name) {
  const char kind = array.dtype().byteorder() == '=' ? array.dtype().char_() : '?';
  Storage storage = Storage::kFloat32;
  if (kind == 'e') {
    storage = Storage::kFloat16;
  } else if (kind == 'H') {
    storage = Storage::kBfloat16;
  } else if (kind != 'f') {
    throw pybind11::type_error(std::string(name) + " must be float32, float16 or uint16");
  }
  require((array.flags() & pybind11::array::c_style) != 0,
          std::string(name) + " must be C-contiguous");
  require(array.ndim() == 2,
          std::string(name) + " must be 2-D, got " + std::to_string(array.ndim()) + "-D");
  return {{array.data(), array.shape(1), storage}, array.shape(0)};
}

}  // namespace recengine
